"""The HTTP(S) server that one device posts its notifications to, in place of the library's own.

The library's server does the TLS handshake in its accept loop, reads without limits and without timeouts, and prints
to stderr. This one bounds connections, handshakes, bodies and times. It has what `SdcConsumer.start_all` asks of a
`shared_http_server`: `dispatcher.register_instance` and `base_url`.
"""

import logging
import socket
import ssl
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import msgspec

logger = logging.getLogger(__name__)


class Limits(msgspec.Struct, frozen=True):
    """Bounds of the server. Times in seconds, sizes in bytes.

    `idle` is long because a device may have nothing to say, and many end a subscription when a kept connection is gone.
    """

    connections: int = 8
    body: int = 4 * 1024 * 1024
    handshake: float = 5.0
    request: float = 10.0
    idle: float = 3600.0


LENGTH_DIGITS = 12
"""Digits of a Content-Length that are read as a number at all."""


class Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """A request that is answered with an HTTP status and a closed connection."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class NotificationServer:
    """One listening socket at `interface`, port chosen by the system. Blocking; used from library threads.

    `on_invalid` is told when a body was addressed right and could not be read: it is answered like a good one, counted
    here, and calls for a resync (house decision 5). `counts` is by reason.
    """

    def __init__(
        self,
        interface: str,
        context: ssl.SSLContext | None,
        *,
        on_invalid: Callable[[], None],
        limits: Limits | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.counts: Counter[str] = Counter()
        self.dispatcher = self
        self._context = context
        self._on_invalid = on_invalid
        self._receivers: dict[str, Any] = {}
        self._server = _Server((interface, 0), self)
        host, port = self._server.server_address[:2]
        self.base_url = f"http{'s' if context else ''}://{host!s}:{port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="sdc-accept", daemon=True)
        self._thread.start()

    def register_instance(self, path_element: str, receiver: Any) -> None:
        """Take posts below `/path_element/` to the library's `MessageConverterMiddleware`."""
        self._receivers[path_element] = receiver

    def close(self) -> None:
        """Close the port and all connections; no thread is left."""
        self._receivers.clear()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.end_connections()

    def secure(self, connection: socket.socket) -> socket.socket:
        """Do the TLS handshake, in the connection's own thread and in bounded time."""
        connection.settimeout(self.limits.handshake)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is None:
            return connection
        return self._context.wrap_socket(connection, server_side=True)

    def answer(self, headers: Any, path: str, peer: Any, body: bytes) -> tuple[int, str, bytes]:
        """Let the library read one post."""
        receiver = self._receivers.get(path.lstrip("/").split("/", 1)[0])
        if receiver is None:
            raise Refused(404, "no such subscription")
        status, reason, reply = receiver.do_post(headers, path, peer, body)
        if status < 400:
            return status, reason, reply
        self.counts["invalid"] += 1
        self._on_invalid()
        return 202, "Accepted", b""


class _Server(HTTPServer):
    request_queue_size = 8

    def __init__(self, address: tuple[str, int], owner: NotificationServer) -> None:
        self.owner = owner
        self._open: dict[threading.Thread, socket.socket] = {}
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        socket.socket.setsockopt(self.socket, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            full = len(self._open) >= self.owner.limits.connections
            if not full:
                thread = threading.Thread(
                    target=self._serve, args=(request, client_address), name="sdc-connection", daemon=True
                )
                self._open[thread] = request
                thread.start()
        if full:
            self.owner.counts["refused_too_many_connections"] += 1
            self.shutdown_request(request)

    def end_connections(self) -> None:
        with self._lock:
            still_open = dict(self._open)
        for thread, connection in still_open.items():
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                logger.debug("a notification connection was closed already")
            thread.join(10.0)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        self.owner.counts["broken_connections"] += 1

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        connection = request
        try:
            connection = self.owner.secure(request)
            with self._lock:
                self._open[threading.current_thread()] = connection
            _Handler(connection, client_address, self)
        except ssl.SSLError:
            self.owner.counts["refused_tls"] += 1
        except OSError:
            self.owner.counts["broken_connections"] += 1
        finally:
            self.shutdown_request(connection)
            with self._lock:
                self._open.pop(threading.current_thread(), None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.owner.limits.idle)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing is printed: paths and bodies stay out of logs."""

    def parse_request(self) -> bool:
        self.connection.settimeout(self.server.owner.limits.request)
        return super().parse_request()

    def do_POST(self) -> None:
        owner = self.server.owner
        try:
            body = self._body(owner.limits.body)
            status, reason, reply = owner.answer(self.headers, self.path, self.client_address, body)
        except Refused as refused:
            owner.counts[f"refused_{refused.status}"] += 1
            self.close_connection = True
            status, reason, reply = refused.status, refused.reason, b""
        self.send_response(status, reason)
        self.send_header("Content-Type", "application/soap+xml; charset=utf-8")
        self.send_header("Content-Length", str(len(reply)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self._headers_buffer: list[bytes]
        self._headers_buffer.append(b"\r\n" + reply)  # one segment, so that no delayed acknowledgement is waited for
        self.flush_headers()
        self.connection.settimeout(owner.limits.idle)

    def _body(self, limit: int) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            body = self._chunks(limit)
        else:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal():
                raise Refused(411, "length required")
            if len(length) > LENGTH_DIGITS or int(length) > limit:
                raise Refused(413, "body too large")
            body = self.rfile.read(int(length))
            if len(body) != int(length):
                raise Refused(400, "body ended early")
        encoding = self.headers.get("Content-Encoding", "identity").lower()
        if encoding == "identity":
            return body
        if encoding not in {"gzip", "x-gzip"}:
            raise Refused(415, "content encoding not supported")
        return _inflate(body, limit)

    def _chunks(self, limit: int) -> bytes:
        parts: list[bytes] = []
        total = 0
        while True:
            head = self.rfile.readline(64).split(b";", 1)[0].strip()
            try:
                size = int(head, 16)
            except ValueError as error:
                raise Refused(400, "chunk without a size") from error
            total += size
            if size < 0 or total > limit:
                raise Refused(413, "body too large")
            part = self.rfile.read(size)
            end = self.rfile.readline(4)
            if len(part) != size or end not in {b"\r\n", b"\n"}:
                raise Refused(400, "chunk ended early")
            if size == 0:
                return b"".join(parts)
            parts.append(part)


def _inflate(body: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    try:
        plain = inflater.decompress(body, limit)
    except zlib.error as error:
        raise Refused(400, "gzip broken") from error
    if inflater.unconsumed_tail:
        raise Refused(413, "body too large")
    if not inflater.eof:
        raise Refused(400, "gzip ended early")
    return plain
