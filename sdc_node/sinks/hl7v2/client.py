"""MLLP over TCP or TLS: one persistent connection, one outstanding message, acknowledgements matched by id.

What is sent again after an error is the caller's affair; it sends identical bytes (mapping section 8).
"""

import asyncio
import os
import socket
import ssl
from typing import Final

from sdc_node import faultpoints
from sdc_node.hl7.ack import Ack, parse_ack
from sdc_node.hl7.message import Hl7ParseError
from sdc_node.hl7.mllp import Frames, FrameTooLongError, frame

_READ_BYTES: Final = 65536
_CLOSE_SECONDS: Final = 2.0
# A firewall that forgets idle connections must be noticed before the next alert needs one.
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


class MllpError(Exception):
    """No acknowledgement of this message; the connection is closed and the message may be sent again."""


class MllpUnreachable(MllpError):  # noqa: N818 - reads as the outcome it is
    """The receiver cannot be connected to, or ended the connection before it acknowledged."""


class MllpTimeout(MllpError):  # noqa: N818 - reads as the outcome it is
    """The receiver did not acknowledge, or did not take the bytes, in time."""


class MllpProtocolError(MllpError):
    """What came back is no acknowledgement of the message that was sent."""


class MllpClient:
    """Sends messages to one receiver; event loop only.

    ``timeout`` bounds the time from the first byte sent to the acknowledgement, ``connect_timeout`` that of
    connecting and the TLS handshake, both in seconds; ``max_ack`` the bytes of an acknowledgement and of what
    comes around it. The connection is opened at the first ``send`` and kept; an error closes it.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        ssl: ssl.SSLContext | None = None,
        timeout: float = 30.0,
        connect_timeout: float = 10.0,
        max_ack: int = 65536,
    ) -> None:
        _require_modern(ssl)
        self.host = host
        self.port = port
        self.connects = 0
        self._ssl = ssl
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._max_ack = max_ack
        self._lock = asyncio.Lock()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._frames = Frames(max_ack)

    @property
    def connected(self) -> bool:
        """Whether there is a connection that the peer has not ended, as far as is known."""
        return (
            self._reader is not None
            and self._writer is not None
            and not self._reader.at_eof()
            and not self._writer.is_closing()
        )

    async def send(self, body: bytes, control_id: str) -> Ack:
        """Send one message and wait for the acknowledgement whose MSA-2 equals ``control_id``.

        Messages of several callers go one after the other. MllpError, as its three kinds, when none came;
        a negative acknowledgement (CE, CR, AE, AR) is an answer and is returned.
        """
        framed = frame(body)
        async with self._lock:
            whole = False
            try:
                reader, writer = await self._connection()
                ack = await self._exchange(reader, writer, framed, control_id)
                whole = True
            finally:
                if not whole:
                    self._abort()
            return ack

    async def close(self) -> None:
        """End the connection in good order, within two seconds. The client may be used again afterwards."""
        async with self._lock:
            writer = self._writer
            self._reader = self._writer = None
            if writer is None:
                return
            writer.close()
            try:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await writer.wait_closed()
            except (OSError, TimeoutError):
                writer.transport.abort()

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is not None and self._writer is not None and self.connected:
            return self._reader, self._writer
        self._abort()
        try:
            async with asyncio.timeout(self._connect_timeout):
                reader, writer = await asyncio.open_connection(self.host, self.port, ssl=self._ssl)
        except TimeoutError:
            raise MllpUnreachable(
                f"{self.host}:{self.port} did not answer within {self._connect_timeout:g} s"
            ) from None
        except OSError as error:
            raise MllpUnreachable(f"{self.host}:{self.port} cannot be reached: {_why(error)}") from error
        except ValueError:  # UnicodeError is one: a name that IDNA or TLS cannot take
            raise MllpUnreachable(f"{self.host}:{self.port} cannot be reached: its name is no host name") from None
        _keep_alive(writer)
        self.connects += 1
        self._frames = Frames(self._max_ack)
        self._reader, self._writer = reader, writer
        return reader, writer

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, framed: bytes, control_id: str
    ) -> Ack:
        try:
            async with asyncio.timeout(self._timeout):
                writer.write(framed)
                await writer.drain()
                faultpoints.reach("sent")
                answer = await self._answer(reader)
        except TimeoutError:
            raise MllpTimeout(f"{self.host}:{self.port} did not acknowledge within {self._timeout:g} s") from None
        except OSError as error:
            raise MllpUnreachable(f"{self.host}:{self.port} broke off: {_why(error)}") from error
        try:
            ack = parse_ack(answer)
        except Hl7ParseError as error:
            raise MllpProtocolError(f"{self.host}:{self.port}: {error}") from None
        if ack.control_id != control_id:
            raise MllpProtocolError(f"{self.host}:{self.port} acknowledged another message than was sent")
        return ack

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        while True:
            data = await reader.read(_READ_BYTES)
            if not data:
                raise MllpUnreachable(f"{self.host}:{self.port} closed the connection before it acknowledged")
            try:
                answers = self._frames.feed(data)
            except FrameTooLongError:
                raise MllpProtocolError(
                    f"{self.host}:{self.port} answered with more than {self._max_ack} bytes"
                ) from None
            if self._frames.junk > self._max_ack:
                raise MllpProtocolError(f"{self.host}:{self.port} answers with something that is not MLLP")
            if len(answers) > 1:
                raise MllpProtocolError(f"{self.host}:{self.port} sent {len(answers)} answers to one message")
            if answers:
                return answers[0]

    def _abort(self) -> None:
        writer = self._writer
        self._reader = self._writer = None
        if writer is not None:
            writer.transport.abort()


def _require_modern(context: ssl.SSLContext | None) -> None:
    if context is not None and context.minimum_version not in {ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3}:
        raise ValueError("the TLS context must ask for TLS 1.2 at least")


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        option = getattr(socket, name, None)  # not every system has all three
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or 'no reason given'})"
    if isinstance(error, socket.gaierror):
        return "its name cannot be resolved"
    return os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
