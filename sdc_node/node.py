"""The composition root: from the fleet through the pipeline to every sink, and nothing that decides."""

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from consumers.fleet import Fleet
from mdib_models import nomenclature
from mdib_models.updates import LinkUpdate
from sdc_node.assembly import destination_tls, device_tls, fleet_of, sinks_of
from sdc_node.config import Config, ConfigError, ConsumerSettings
from sdc_node.directory import NodeDirectory
from sdc_node.ledger import Ledger
from sdc_node.outbox import Outbox
from sdc_node.pipeline import Pipeline
from sdc_node.state import State
from sdc_node.status import StatusBoard
from sdc_node.telemetry import Telemetry
from sdc_node.timesync import TimeWatch

_LOG = logging.getLogger(__name__)

Started = Callable[[int, str], None]
WAITING = "waiting for a time service; no device is followed until then ([node] require_time_sync)"


async def run(config: Config, certs: Path | None, started: Started, stop: asyncio.Event) -> None:
    """One worker, from the devices to the receivers, until `stop` is set; then it drains.

    `started` is called once everything is open, with the telemetry port and what is waited for, '' if nothing. Raises
    what is in the way, in one line each: ConfigError, SecurityError, DirectoryError, DatabaseError, TelemetryError,
    MulticastBlocked, OSError.
    """
    settings = config.node
    check_interface(config.consumer)
    await asyncio.to_thread(nomenclature.load)  # here, so that nobody reads the table on the event loop
    tls = await asyncio.to_thread(device_tls, config, certs)
    contexts = await asyncio.to_thread(destination_tls, config, certs)
    async with AsyncExitStack() as opened:
        opened.enter_context(await asyncio.to_thread(NodeDirectory.open, settings.directory))
        state = await State.open(settings.directory / "state.sqlite")
        opened.push_async_callback(state.close)
        outbox = await Outbox.open(settings.directory / "outbox.sqlite", cap=settings.outbox_megabytes * 1_000_000)
        opened.push_async_callback(outbox.close)
        ledger = Ledger(settings.directory / "ledger.txt") if settings.ledger else None
        if ledger is not None:
            opened.callback(ledger.close)
        clock = TimeWatch(required=settings.require_time_sync, limit_ms=round(settings.max_clock_error * 1000))
        sinks = sinks_of(config, contexts, outbox, state, ledger)
        pipeline = Pipeline(sinks, state, lane_capacity=settings.lane_capacity)
        fleet = fleet_of(config, tls)
        board = StatusBoard(sinks, pipeline, fleet, outbox, clock)
        opened.push_async_callback(asyncio.to_thread, board.write, settings.directory / "status.json")
        telemetry = Telemetry(board.status, settings.port)
        await telemetry.start()
        opened.push_async_callback(telemetry.stop)
        opened.push_async_callback(pipeline.close, settings.drain)
        await pipeline.start()
        clock.check()
        waiting = "" if clock.ready else WAITING
        if waiting:
            _LOG.warning(waiting)
        started(telemetry.port, waiting)
        watch = asyncio.create_task(clock.run(), name="clock")
        opened.callback(watch.cancel)
        if not await _time_is_known(clock, stop):
            return
        await fleet.start()
        opened.push_async_callback(fleet.close)
        pump = asyncio.create_task(_pump(fleet, pipeline, board), name="pump")
        stopped = asyncio.create_task(stop.wait(), name="stop")
        opened.callback(stopped.cancel)
        board.following = True
        await asyncio.wait({pump, stopped}, return_when=asyncio.FIRST_COMPLETED)
        board.following = False
        await fleet.close()
        await pump


async def _time_is_known(clock: TimeWatch, stop: asyncio.Event) -> bool:
    """SDPi R1540: no system function until a time service was found."""
    while not clock.ready and not stop.is_set():
        try:
            await asyncio.wait_for(stop.wait(), 1.0)
        except TimeoutError:
            continue
    return clock.ready


def check_interface(settings: ConsumerSettings) -> None:
    """Raises ConfigError where devices are to be found on an address that this host does not have."""
    if not settings.discover:
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((settings.interface, 0))
        except OSError as error:
            raise ConfigError(
                f"consumer.interface: {settings.interface} is no address of this host ({error.strerror})"
            ) from None


async def _pump(fleet: Fleet, pipeline: Pipeline, board: StatusBoard) -> None:
    async for batch in fleet:
        for update in batch.updates:
            if isinstance(update, LinkUpdate):
                board.linked(batch.device, batch.arrived)
        await pipeline.offer(batch)
