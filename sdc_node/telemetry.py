"""What the node says of itself on loopback: /health, /ready, /metrics (Prometheus) and /status (JSON).

No label and no value names a patient; devices are named by EPR.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import uvicorn
from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

MAX_CONNECTIONS = 32

_LOG = logging.getLogger(__name__)


class DeviceStatus(msgspec.Struct, frozen=True):
    """One device as the fleet sees it. `model` is its model name, '' until known; `since` in ms since the epoch."""

    device: str
    model: str
    state: str
    reason: str
    since: int


class DestinationStatus(msgspec.Struct, frozen=True):
    """One destination's lane in the outbox. `oldest` in ms since the epoch."""

    destination: str
    lane: str
    waiting: int
    waiting_bytes: int
    oldest: int | None
    sent: int
    dead: int
    last_error: str | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be counted, at one moment. `dropped` and `received` are by reason and kind.

    `problems` tells by address why a device listed by hand has not yet said who it is; it is not among `devices`.
    """

    ready: bool
    not_ready: Sequence[str]
    clock: str
    devices: Sequence[DeviceStatus]
    received: Mapping[str, int]
    sinks: Mapping[str, Mapping[str, int]]
    dropped: Mapping[str, int]
    failed: Mapping[str, int]
    destinations: Sequence[DestinationStatus]
    open_alerts: int
    problems: Mapping[str, str]


class TelemetryError(Exception):
    """The port cannot be had."""


class Telemetry:
    """Serves what `status` returns, on 127.0.0.1 only. Event loop only."""

    def __init__(self, status: Callable[[], Status], port: int) -> None:
        self._status = status
        self._wanted = port
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen. Raises TelemetryError where the port is in use."""
        listener = socket.socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self._wanted))
            listener.listen(MAX_CONNECTIONS)
        except OSError as error:
            listener.close()
            raise TelemetryError(
                f"port {self._wanted} on 127.0.0.1 cannot be used ({error.strerror}); set another [node] port"
            ) from None
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._application(),
            log_config=None,
            log_level=logging.CRITICAL,  # else what anybody sends to the port is a traceback in the log
            access_log=False,
            lifespan="off",
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=2,
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name="telemetry")
        await self._server.listening.wait()

    async def stop(self) -> None:
        """Answer nobody any more."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task

    def _application(self) -> FastAPI:
        application = FastAPI(title="sdc-node", docs_url=None, redoc_url=None, openapi_url=None)
        registry = CollectorRegistry()
        registry.register(_Families(self._status))

        @application.exception_handler(Exception)
        async def failed(request: Request, error: Exception) -> Response:
            _LOG.error("%s could not be answered: %s", request.url.path, type(error).__name__)
            return Response("the node failed to tell; see its log\n", 500, media_type="text/plain")

        @application.get("/health")
        async def health() -> Response:
            return Response("ok\n", media_type="text/plain")

        @application.get("/ready")
        async def ready() -> Response:
            status = self._status()
            text = "ready\n" if status.ready else "".join(f"not ready: {why}\n" for why in status.not_ready)
            return Response(text, 200 if status.ready else 503, media_type="text/plain")

        @application.get("/metrics")
        async def metrics() -> Response:
            return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")

        @application.get("/status")
        async def status() -> Response:
            return Response(msgspec.json.encode(self._status()), media_type="application/json")

        return application


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers (the node has its own), and saying when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


class _Families(Collector):
    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        yield GaugeMetricFamily("sdc_node_ready", "1 where /ready answers 200", value=float(status.ready))
        yield GaugeMetricFamily("sdc_node_open_alerts", "alerts started and not ended", value=float(status.open_alerts))
        states = GaugeMetricFamily("sdc_node_devices", "devices by state of their session", labels=["state"])
        for state in ("discovered", "connecting", "subscribed", "live", "stale", "lost"):
            states.add_metric([state], float(sum(device.state == state for device in status.devices)))
        yield states
        yield _counter("sdc_node_received", "batches and updates taken in, by kind", ("kind",), status.received)
        yield _counter("sdc_node_dropped", "what was not handed on, by where and why", ("reason",), status.dropped)
        yield _counter("sdc_node_failed", "batches that a sink failed on", ("sink",), status.failed)
        counted = CounterMetricFamily("sdc_node_sink", "a sink's own counters", labels=["sink", "name"])
        for sink, counters in status.sinks.items():
            for name, value in counters.items():
                counted.add_metric([sink, name], float(value))
        yield counted
        yield from _outbox(status.destinations)


def _counter(name: str, text: str, labels: tuple[str], values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for label, value in values.items():
        family.add_metric([label], float(value))
    return family


def _outbox(destinations: Sequence[DestinationStatus]) -> Iterator[Metric]:
    labels = ["destination", "lane"]
    waiting = GaugeMetricFamily("sdc_node_outbox_waiting", "messages not yet acknowledged", labels=labels)
    waiting_bytes = GaugeMetricFamily("sdc_node_outbox_waiting_bytes", "their size", labels=labels)
    oldest = GaugeMetricFamily("sdc_node_outbox_oldest_seconds", "when the oldest was made, Unix time", labels=labels)
    dead = GaugeMetricFamily("sdc_node_outbox_dead", "messages that were refused for good", labels=labels)
    sent = CounterMetricFamily("sdc_node_outbox_sent", "messages acknowledged", labels=labels)
    for lane in destinations:
        key = [lane.destination, lane.lane]
        waiting.add_metric(key, float(lane.waiting))
        waiting_bytes.add_metric(key, float(lane.waiting_bytes))
        if lane.oldest is not None:
            oldest.add_metric(key, lane.oldest / 1000)
        dead.add_metric(key, float(lane.dead))
        sent.add_metric(key, float(lane.sent))
    yield from (waiting, waiting_bytes, oldest, dead, sent)
