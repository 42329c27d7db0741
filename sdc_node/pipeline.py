"""Fan-out: adds whose data a batch is and which alert occurrences it belongs to, and hands it to each sink's lane.

Knows nothing of where batches come from, nor of what a sink does with them.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from mdib_models.alerts import AlertKey, OpenAlert, step
from mdib_models.identity import DeviceId
from mdib_models.updates import ReportBatch, WaveformChunk
from sdc_node.association import Associations
from sdc_node.lane import Entry, Lane, is_waveform_only
from sdc_node.sinks.base import Sink

_LOG = logging.getLogger(__name__)


class AlertMemory(Protocol):
    """What keeps open alerts over a restart (`state.py`)."""

    def open_alerts(self) -> Mapping[tuple[str, str, str], bytes]:
        """All open alerts, as they were saved: (device, MDS, condition) -> JSON of an OpenAlert."""

    async def save_alerts(
        self, upserts: Mapping[tuple[str, str, str], bytes], closed: Collection[tuple[str, str, str]]
    ) -> None:
        """Keep some, forget others; returns when it is on disk."""


class Pipeline:
    """From one stream of batches to every sink. Event loop only.

    An open alert is saved only when every sink has taken the batch that changed it: after a crash it is told again,
    under the same ids, rather than not at all.
    """

    def __init__(self, sinks: Sequence[Sink], memory: AlertMemory, *, lane_capacity: int) -> None:
        self._sinks = [(sink, Lane(lane_capacity)) for sink in sinks]
        self._memory = memory
        self._associations = Associations()
        self._alerts: dict[DeviceId, dict[AlertKey, OpenAlert]] = {}
        self._runners: list[asyncio.Task[None]] = []
        self._unsaved: dict[tuple[str, str, str], bytes | None] = {}
        self._unsaved_changed = asyncio.Event()
        self._closing = False
        self._saver: asyncio.Task[None] | None = None
        self.received: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.not_saved = 0

    async def start(self) -> None:
        """Load the open alerts, start each sink, then begin to feed them."""
        for saved in self._memory.open_alerts().values():
            alert = msgspec.json.decode(saved, type=OpenAlert)
            self._alerts.setdefault(alert.key.device, {})[alert.key] = alert
        for sink, _ in self._sinks:
            await sink.start()
        self._saver = asyncio.create_task(self._save_all(), name="pipeline-saver")
        self._runners = [
            asyncio.create_task(self._feed(sink, lane), name=f"sink-{sink.name}") for sink, lane in self._sinks
        ]

    async def offer(self, batch: ReportBatch) -> None:
        """Take one batch. Waits only where a lane that may not drop is full (decision 5)."""
        batch, save = self._complete(batch)
        self.received["batches"] += 1
        self.received["replayed" if batch.replayed else "live"] += 1
        for update in batch.updates:
            self.received[type(update).__name__] += 1
            if isinstance(update, WaveformChunk) and update.state.metric_value is not None:
                self.received["waveform_samples"] += update.state.metric_value.count
        waveforms_only = is_waveform_only(batch)
        takers = [lane for sink, lane in self._sinks if sink.wants_waveforms or not waveforms_only]
        if save is not None:
            save.waiting = len(takers)
            if not takers:
                self._mark_unsaved(save)
        for lane in takers:
            await lane.put(Entry(batch, self._finisher(save)))

    async def close(self, drain: float) -> None:
        """Let every sink take what is queued, commit what is open and deliver for up to `drain` seconds; stop them."""
        for _, lane in self._sinks:
            await lane.close()
        await asyncio.gather(*self._runners)
        await asyncio.gather(*(self._drain(sink, drain) for sink, _ in self._sinks))
        self._closing = True
        self._unsaved_changed.set()
        if self._saver is not None:
            await self._saver
        for sink, _ in self._sinks:
            await sink.stop()

    async def _drain(self, sink: Sink, seconds: float) -> None:
        try:
            await sink.drain(seconds)
        except Exception as error:  # noqa: BLE001
            self.failed[sink.name] += 1
            _LOG.error("sink %s could not commit what was open: %s", sink.name, _origin(error))

    def open_alerts(self) -> int:
        """How many alerts are open over all devices."""
        return sum(len(alerts) for alerts in self._alerts.values())

    def lanes(self) -> Mapping[str, Lane]:
        """Each sink's lane, for counters."""
        return {sink.name: lane for sink, lane in self._sinks}

    def _complete(self, batch: ReportBatch) -> "tuple[ReportBatch, _Save | None]":
        associations = self._associations.of(batch)
        before = self._alerts.get(batch.device, {})
        stepped = step(before, batch)
        for key in stepped.latched_at_connect:
            _LOG.info("alert %s of %s is latched without having been seen present: not told", key.condition, key.device)
        complete = msgspec.structs.replace(batch, associations=associations, occurrences=stepped.occurrences)
        if not stepped.occurrences:
            return complete, None
        self._alerts[batch.device] = dict(stepped.open)
        touched = {occurrence.key for occurrence in stepped.occurrences}
        upserts = {_row(key): msgspec.json.encode(stepped.open[key]) for key in touched if key in stepped.open}
        closed = [_row(key) for key in touched if key not in stepped.open]
        return complete, _Save(upserts, closed)

    async def _feed(self, sink: Sink, lane: Lane) -> None:
        while (entry := await lane.take()) is not None:
            try:
                await sink.accept(entry.batch)
                self.sent[sink.name] += 1
            except Exception as error:  # noqa: BLE001
                # one bad batch must not stop a sink; the text of the error may quote a patient, its type cannot
                self.failed[sink.name] += 1
                _LOG.error("sink %s failed on a batch of %s: %s", sink.name, entry.batch.device, _origin(error))
            if entry.done is not None:
                entry.done()

    def _finisher(self, save: "_Save | None") -> Callable[[], None] | None:
        if save is None:
            return None

        def done() -> None:
            save.waiting -= 1
            if save.waiting == 0:
                self._mark_unsaved(save)

        return done

    def _mark_unsaved(self, save: "_Save") -> None:
        self._unsaved |= save.upserts
        self._unsaved |= dict.fromkeys(save.closed)
        self._unsaved_changed.set()

    async def _save_all(self) -> None:
        """Write what is unsaved, as one transaction each time; at most one row waits for each alert condition."""
        while not (self._closing and not self._unsaved):
            await self._unsaved_changed.wait()
            self._unsaved_changed.clear()
            rows, self._unsaved = self._unsaved, {}
            if rows:
                await self._save(rows)

    async def _save(self, rows: Mapping[tuple[str, str, str], bytes | None]) -> None:
        upserts = {key: row for key, row in rows.items() if row is not None}
        closed = [key for key, row in rows.items() if row is None]
        try:
            await self._memory.save_alerts(upserts, closed)
        except Exception as error:  # noqa: BLE001
            self.not_saved += 1
            _LOG.error("open alerts could not be saved: %s", _origin(error))


class _Save(msgspec.Struct):
    upserts: dict[tuple[str, str, str], bytes]
    closed: list[tuple[str, str, str]]
    waiting: int = 0


def _row(key: AlertKey) -> tuple[str, str, str]:
    return (key.device, key.mds, key.condition)


def _origin(error: BaseException) -> str:
    """An exception's type and place: enough to find it, and nothing of what it was about."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace is not None else ""
    return f"{type(error).__name__}{place}"
