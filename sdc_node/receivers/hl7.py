"""An HL7 receiver for trying out: MLLP server, checks of PCD-01 and PCD-04, store, acknowledgement."""

import asyncio
import contextlib
import logging
import sqlite3
import ssl
import time
from collections import Counter
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import msgspec

from sdc_node.database import Database, DatabaseError
from sdc_node.hl7.ack import Finding, build_ack
from sdc_node.hl7.checks import check, kind_of, verdict
from sdc_node.hl7.message import Hl7ParseError, Message, parse
from sdc_node.hl7.mllp import Frames, FrameTooLongError, frame
from sdc_node.receivers.hl7_store import (
    FILE_NAME,
    MIGRATIONS,
    Arrival,
    StoredMessage,
    list_messages,
    message_body,
    show_message,
    store,
)

__all__ = [
    "Counters",
    "Hl7Receiver",
    "Limits",
    "StoredMessage",
    "list_messages",
    "message_body",
    "show_message",
]

_log = logging.getLogger(__name__)
_READ_BYTES: Final = 65536
_LARGE: Final = 65536  # larger bodies are checked beside the event loop
_CLOSE_SECONDS: Final = 2.0


class Limits(msgspec.Struct, frozen=True):
    """What one peer may take: connections, bytes of a message, seconds of silence, of one frame
    (or TLS handshake), of a reply.
    """

    connections: int = 64
    message_bytes: int = 4 * 1024 * 1024
    idle_seconds: float = 600.0
    frame_seconds: float = 30.0
    reply_seconds: float = 10.0


class Counters(msgspec.Struct):
    """What happened since the start, by kind of message (pcd01, pcd04, other); ``dropped`` by reason."""

    accepted: Counter[str] = msgspec.field(default_factory=Counter)
    refused: Counter[str] = msgspec.field(default_factory=Counter)
    repeated: Counter[str] = msgspec.field(default_factory=Counter)
    dropped: Counter[str] = msgspec.field(default_factory=Counter)


class Hl7Receiver:
    """Listens on one port and keeps what comes in ``directory``; event loop only, start once, stop once.

    CA is sent after the message is committed; CE for wrong content, CR for a type, event or version that is not
    supported. The same bytes under the same sender and control id are acknowledged again, counted, and stored
    once; other bytes under a control id that was accepted before are refused.
    """

    def __init__(
        self,
        directory: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl: ssl.SSLContext | None = None,
        *,
        limits: Limits | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.host = host
        self.counters = Counters()
        self._wanted_port = port
        self._ssl = ssl
        self._limits = limits or Limits()
        self._database: Database | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._ack_ids = count(1)
        self._ack_prefix = f"RCV{_now()}"

    @property
    def port(self) -> int:
        """The port that is listened on; RuntimeError before ``start``."""
        if self._server is None:
            raise RuntimeError("the receiver has not been started")
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def start(self) -> None:
        """Open the store, then listen. DatabaseError or OSError when one of them cannot be had."""
        await asyncio.to_thread(self.directory.mkdir, mode=0o700, parents=True, exist_ok=True)
        database = await asyncio.to_thread(Database.open, self.directory / FILE_NAME, MIGRATIONS)
        try:
            self._server = await asyncio.start_server(
                self._serve,
                self.host,
                self._wanted_port,
                ssl=self._ssl,
                ssl_handshake_timeout=self._limits.frame_seconds if self._ssl is not None else None,
                limit=_READ_BYTES,
            )
        except BaseException:
            await database.close()
            raise
        self._database = database

    async def stop(self) -> None:
        """Stop listening, end all connections, close the store."""
        server, database = self._server, self._database
        if server is None or database is None:
            return
        server.close()
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)
        await server.wait_closed()
        await database.close()
        self._server = self._database = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= self._limits.connections:
            self.counters.dropped["too many connections"] += 1
            writer.transport.abort()
            return
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
        except TimeoutError:
            self.counters.dropped["silent connection"] += 1
        except FrameTooLongError:
            self.counters.dropped["message too long"] += 1
        except OSError:
            self.counters.dropped["broken connection"] += 1
        except asyncio.CancelledError:
            _log.debug("a connection ends because the receiver stops")
        finally:
            self._connections.discard(task)
            await _end(writer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        frames = Frames(self._limits.message_bytes)
        deadline = loop.time() + self._limits.idle_seconds
        try:
            while True:
                async with asyncio.timeout_at(deadline):
                    data = await reader.read(_READ_BYTES)
                if not data:
                    return
                was_inside = frames.inside
                bodies = frames.feed(data)
                for body in bodies:
                    answer = frame(await self._receive(body))
                    async with asyncio.timeout(self._limits.reply_seconds):
                        writer.write(answer)
                        await writer.drain()
                if not frames.inside:
                    deadline = loop.time() + self._limits.idle_seconds
                elif bodies or not was_inside:
                    deadline = loop.time() + self._limits.frame_seconds
        finally:
            self.counters.dropped["junk bytes"] += frames.junk
            self.counters.dropped["broken frame"] += frames.broken + frames.inside

    async def _receive(self, body: bytes) -> bytes:
        """Check, store and acknowledge one message."""
        judge = partial(_judge, body)
        message, findings = await asyncio.to_thread(judge) if len(body) > _LARGE else judge()
        kind = kind_of(message) if message is not None else "other"
        code, findings = await self._keep(body, message, kind, findings)
        if code != "CA":
            self.counters.refused[kind] += 1
            _log.info("refused a message (%s): %s", code, "; ".join(map(str, findings[:3])))
        return build_ack(
            message,
            code,
            control_id=f"{self._ack_prefix}-{next(self._ack_ids)}",
            now=_now(),
            findings=findings,
        )

    async def _keep(
        self, body: bytes, message: Message | None, kind: str, findings: list[Finding]
    ) -> tuple[str, list[Finding]]:
        if self._database is None:
            raise RuntimeError("the receiver has not been started")
        arrival = Arrival(
            received=_now(),
            kind=kind,
            sender=message.header.field(3) if message is not None else "",
            control_id=message.control_id if message is not None else "",
            verdict="CR" if message is None else verdict(findings),
            reason="; ".join(map(str, findings)),
            body=body,
        )
        try:
            stored = await self._database.write(partial(store, arrival=arrival))
            if stored == "conflict":
                findings = [Finding("MSH", 1, 10, 205, "this control id was used for another message")]
                arrival = msgspec.structs.replace(arrival, verdict="CE", reason=str(findings[0]))
                await self._database.write(partial(store, arrival=arrival))
        except (DatabaseError, sqlite3.Error) as error:
            _log.error("a message could not be stored: %s", error)
            return "CE", [Finding("MSH", 1, 0, 207, "the message could not be stored")]
        if arrival.verdict == "CA":
            self.counters.accepted[kind] += stored == "new"
            self.counters.repeated[kind] += stored == "repeat"
        return arrival.verdict, findings


def _judge(body: bytes) -> tuple[Message | None, list[Finding]]:
    try:
        message = parse(body)
    except Hl7ParseError as error:
        return None, [Finding("MSH", 1, 0, 100, str(error))]
    return message, check(message)


async def _end(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):  # a peer that is gone need not say goodbye
        async with asyncio.timeout(_CLOSE_SECONDS):
            await writer.wait_closed()
            return
    writer.transport.abort()


def _now() -> int:
    return time.time_ns() // 1_000_000
