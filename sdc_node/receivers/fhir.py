"""A small FHIR R4 endpoint for trying out: it checks what comes, stores it, answers after the commit.

JSON only, Device, DeviceMetric and Observation only. Requests and Bundles are read by `fhir_requests`, judged by
`fhir_rules`, kept by `fhir_store`; people look at them through `fhir_listing`.
"""

import asyncio
import hashlib
import logging
import socket
import sqlite3
import ssl as tls
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

from sdc_node.database import Database, DatabaseError
from sdc_node.receivers.fhir_answers import (
    capabilities,
    outcome_of,
    response_bundle,
    search_bundle,
    version_headers,
)
from sdc_node.receivers.fhir_checks import Issue, JsonObject, Malformed, parse
from sdc_node.receivers.fhir_listing import (
    StoredResource,
    StoreError,
    accepted_requests,
    list_resources,
    read_counts,
    show_resource,
)
from sdc_node.receivers.fhir_requests import (
    Batch,
    Refusal,
    action_of,
    batch_of,
    condition_of,
    known_type,
)
from sdc_node.receivers.fhir_store import (
    ENCODER,
    FILE,
    MIGRATIONS,
    Counts,
    Stored,
    apply,
    apply_one,
    body,
    count,
    counts,
    search,
)

__all__ = [
    "Counts",
    "FhirReceiver",
    "FhirReceiverError",
    "StoreError",
    "StoredResource",
    "accepted_requests",
    "list_resources",
    "read_counts",
    "show_resource",
]

MEDIA_TYPE = "application/fhir+json"
MAX_BODY = 4 * 1024 * 1024
"""Bytes of one request; a sender's bundles keep to 1 MB (mapping 1.11)."""
MAX_CONNECTIONS = 64
MAX_MATCHES = 100
READ_SECONDS = 15.0
"""How long a request may take to arrive, its header and its body each."""
RETRY_SECONDS = 5

_log = logging.getLogger(__name__)


class FhirReceiverError(Exception):
    """The endpoint cannot be opened; one line that says why."""


class FhirReceiver:
    """The endpoint at `http(s)://host:port/`, with its store in `directory`. Event loop only.

    Port 0 lets the system choose; `base_url` is known after `start`. With `ssl` (a server context) it speaks HTTPS.
    """

    def __init__(self, directory: Path, host: str, port: int, ssl: tls.SSLContext | None = None) -> None:
        self._directory = Path(directory)
        self._address = (host, port)
        self._ssl = ssl
        self._database: Database | None = None
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.base_url = ""

    async def start(self) -> None:
        """Open store and socket; returns when requests are answered. Raises FhirReceiverError."""
        host, port = self._address
        try:
            listener = await asyncio.to_thread(_listen, host, port)
        except OSError as error:
            raise FhirReceiverError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        try:
            self._database = await asyncio.to_thread(_open, self._directory)
        except OSError as error:
            listener.close()
            raise FhirReceiverError(
                f"{self._directory}: {error.strerror}; name a folder that this user may write to"
            ) from error
        except DatabaseError as error:
            listener.close()
            raise FhirReceiverError(str(error)) from error
        self._server = _Server(await asyncio.to_thread(self._config))
        self._serving = asyncio.create_task(self._server._serve([listener]), name="fhir-receiver")  # noqa: SLF001  # `serve` would take the process's signal handlers
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({ready, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._serving.done():
            await self.stop()
            raise FhirReceiverError(f"cannot serve on {host}:{port}")
        scheme = "https" if self._ssl else "http"
        name, bound = listener.getsockname()[:2]
        self.base_url = f"{scheme}://{f'[{name}]' if ':' in name else name}:{bound}"

    async def stop(self) -> None:
        """Finish the requests under way (a few seconds at most), close the socket and the store."""
        server, self._server = self._server, None
        serving, self._serving = self._serving, None
        if server is not None and serving is not None:
            server.should_exit = True
            await asyncio.gather(serving, return_exceptions=True)
        database, self._database = self._database, None
        if database is not None:
            await database.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def counts(self) -> Counts:
        """What came so far."""
        return await self._store.read(counts)

    @property
    def _store(self) -> Database:
        if self._database is None:
            raise FhirReceiverError("the receiver is not running")
        return self._database

    def _config(self) -> uvicorn.Config:
        context = self._ssl
        config = uvicorn.Config(
            self._application(),
            http=_Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,  # addresses of requests hold identifiers
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=5,
            server_header=False,
            ssl_context_factory=None if context is None else lambda _config, _default: context,
        )
        config.load()
        return config

    def _application(self) -> FastAPI:
        app = FastAPI(title="FHIR receiver", openapi_url=None, docs_url=None, redoc_url=None)
        for path, method, endpoint in (
            ("/", "POST", self._bundle),
            ("/metadata", "GET", self._metadata),
            ("/{kind}", "POST", self._create),
            ("/{kind}", "PUT", self._update),
            ("/{kind}", "GET", self._search),
            ("/{kind}/{id_}", "PUT", self._update),
            ("/{kind}/{id_}", "GET", self._read),
            ("/{kind}/{id_}/_history/{version}", "GET", self._read),
        ):
            app.add_api_route(path, _answering(endpoint), methods=[method], response_model=None)
        return app

    async def _bundle(self, request: Request) -> Response:
        content = await _body(request)
        key = hashlib.sha256(content).hexdigest()
        try:
            batch = batch_of(_parsed(content))
        except Refusal as refusal:
            await self._count(key, [refusal])
            raise
        key = batch.key or key
        if not batch.atomic:
            return _json(200, response_bundle("batch-response", await self._take(key, batch)))
        try:
            return _json(200, response_bundle("transaction-response", await self._take(key, batch)))
        except Refusal as refusal:
            await self._count(key, [refusal] * len(batch.entries))
            raise

    async def _take(self, key: str, batch: Batch) -> list[Stored | Refusal]:
        def take(connection: sqlite3.Connection) -> list[Stored | Refusal]:
            now_ms = _now_ms()
            outcomes = apply(connection, batch, now_ms)
            count(connection, key, outcomes, now_ms)
            return outcomes

        return await self._store.write(take)

    async def _count(self, key: str, outcomes: Sequence[Stored | Refusal]) -> None:
        await self._store.write(lambda connection: count(connection, key, outcomes, _now_ms()))

    async def _create(self, request: Request) -> Response:
        return await self._single(request, "POST", request.path_params["kind"])

    async def _update(self, request: Request) -> Response:
        path = "/".join(request.path_params[name] for name in ("kind", "id_") if name in request.path_params)
        query = request.url.query
        return await self._single(request, "PUT", f"{path}?{query}" if query else path)

    async def _single(self, request: Request, method: Literal["POST", "PUT"], target: str) -> Response:
        content = await _body(request)
        condition = request.headers.get("if-none-exist")
        key = hashlib.sha256(f"{method} {target} {condition}\n".encode() + content).hexdigest()

        def take(connection: sqlite3.Connection) -> tuple[Stored, bytes]:
            now_ms = _now_ms()
            stored = apply_one(connection, action, now_ms)
            count(connection, key, [stored], now_ms)
            return stored, body(connection, stored.kind, stored.id)

        try:
            action = action_of(method, target, _parsed(content), condition)
            stored, resource = await self._store.write(take)
        except Refusal as refusal:
            await self._count(key, [refusal])
            raise
        return Response(resource, stored.status, version_headers(str(request.base_url), stored), MEDIA_TYPE)

    async def _read(self, request: Request) -> Response:
        kind, id_ = known_type(request.path_params["kind"]), request.path_params["id_"]
        version = request.path_params.get("version")
        if version is not None and not (version.isdecimal() and len(version) < 10):
            raise Refusal(404, Issue("not-found", kind, "is not here"))
        number = int(version) if version is not None else None
        resource = await self._store.read(lambda connection: body(connection, kind, id_, number))
        return Response(resource, media_type=MEDIA_TYPE)

    async def _search(self, request: Request) -> Response:
        kind = known_type(request.path_params["kind"])
        condition = condition_of(request.url.query)
        found = await self._store.read(lambda connection: search(connection, kind, condition, MAX_MATCHES))
        return _json(200, search_bundle(found))

    async def _metadata(self, _request: Request) -> Response:
        return _json(200, capabilities())


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


class _Connection(H11Protocol):
    """uvicorn's connection, closed when its first request does not arrive: a silent peer would hold a place."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        super().connection_made(transport)
        self.loop.call_later(READ_SECONDS, self._close_when_silent)

    def _close_when_silent(self) -> None:
        cycle: object = self.cycle  # None until a request's header has come, whatever its annotation says
        if cycle is None:
            self.transport.close()


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(MAX_CONNECTIONS)  # here, so that a port in use is told at once
    except OSError:
        listener.close()
        raise
    return listener


def _open(directory: Path) -> Database:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Database.open(directory / FILE, MIGRATIONS)


def _answering(
    endpoint: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint with its refusals and faults turned into OperationOutcomes."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Refusal as refusal:
            return _json(refusal.status, outcome_of(refusal))
        except DatabaseError:
            _log.exception("the FHIR receiver could not store a request")
            fault = Refusal(503, Issue("transient", "request", "the store does not answer; send it again"))
            return _json(503, outcome_of(fault), {"Retry-After": str(RETRY_SECONDS)})
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it

    return answer


async def _body(request: Request) -> bytes:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in {MEDIA_TYPE, "application/json"}:
        raise Refusal(415, Issue("not-supported", "request", f"send {MEDIA_TYPE}"))
    too_long = Refusal(413, Issue("too-long", "request", f"more than {MAX_BODY} bytes"))
    if int(request.headers.get("content-length", "0")) > MAX_BODY:  # uvicorn has checked that it is a number
        raise too_long
    content = bytearray()
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > MAX_BODY:
                    raise too_long
    except TimeoutError:
        raise Refusal(408, Issue("timeout", "request", "the body did not arrive in time")) from None
    return bytes(content)


def _parsed(content: bytes) -> JsonObject:
    try:
        return parse(content)
    except Malformed as error:
        raise Refusal(400, Issue("structure", "request", str(error))) from None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _json(status: int, content: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(ENCODER.encode(content), status, headers, MEDIA_TYPE)
