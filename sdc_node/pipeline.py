"""Fan-out: adds whose data a batch is and which alert occurrences it belongs to, and hands it to each sink's lane.

Knows nothing of where batches come from, nor of what a sink does with them.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from mdib_models.alerts import AlertKey, AlertOccurrence, OpenAlert, step
from mdib_models.identity import DeviceId
from mdib_models.updates import ReportBatch, WaveformChunk
from sdc_node.association import Associations
from sdc_node.lane import Entry, Lane, is_waveform_only
from sdc_node.sinks.base import Sink

_LOG = logging.getLogger(__name__)

MAX_NOT_TOLD = 1_000
"""Occurrences on which a sink failed that are kept for the next life; beyond, they are as good as told."""


class AlertMemory(Protocol):
    """What keeps alerts over a restart (`state.py`)."""

    def open_alerts(self) -> Mapping[tuple[str, str, str], bytes]:
        """All that was saved and not forgotten: (device, MDS, condition) -> JSON of a Remembered."""

    async def save_alerts(
        self, upserts: Mapping[tuple[str, str, str], bytes], closed: Collection[tuple[str, str, str]]
    ) -> None:
        """Keep some, forget others; returns when it is on disk."""


class Remembered(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One alert condition over a restart: its open alert, and what some sink may not have taken, oldest first."""

    open: OpenAlert | None = None
    untold: tuple[AlertOccurrence, ...] = ()


class Pipeline:
    """From one stream of batches to every sink. Event loop only.

    What is to be told of an alert is saved before a sink gets it, and forgotten when every sink has taken it: after a
    crash, or where a sink failed on it (`not_told`), it is told again at the next start, word for word and so under
    the same ids, before anything that came of it since.
    """

    def __init__(self, sinks: Sequence[Sink], memory: AlertMemory, *, lane_capacity: int) -> None:
        self._sinks = [(sink, Lane(lane_capacity)) for sink in sinks]
        self._memory = memory
        self._associations = Associations()
        self._alerts: dict[DeviceId, dict[AlertKey, OpenAlert]] = {}
        self._untold: dict[AlertKey, list[AlertOccurrence]] = {}
        self._again: dict[DeviceId, list[AlertOccurrence]] = {}
        self._runners: list[asyncio.Task[None]] = []
        self._unsaved: set[AlertKey] = set()
        self._unsaved_changed = asyncio.Event()
        self._saving: list[asyncio.Event] = []
        self._closing = False
        self._saver: asyncio.Task[None] | None = None
        self.received: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.not_told: Counter[str] = Counter()
        self.not_saved = 0
        self.not_read = 0

    async def start(self) -> None:
        """Load the alerts, start each sink, then begin to feed them."""
        for row, saved in self._memory.open_alerts().items():
            key = AlertKey(DeviceId(row[0]), *row[1:])
            try:
                remembered = msgspec.json.decode(saved, type=Remembered)
            except msgspec.DecodeError:  # of another version; what is still present will be told as a start
                self.not_read += 1
                _LOG.error("alert %s of %s cannot be read from the state file: forgotten", row[2], row[0])
                continue
            if remembered.open is not None:
                self._alerts.setdefault(key.device, {})[key] = remembered.open
            if remembered.untold:
                self._untold[key] = [*remembered.untold]
                self._again.setdefault(key.device, []).extend(remembered.untold)
        for sink, _ in self._sinks:
            await sink.start()
        self._saver = asyncio.create_task(self._save_all(), name="pipeline-saver")
        self._runners = [
            asyncio.create_task(self._feed(sink, lane), name=f"sink-{sink.name}") for sink, lane in self._sinks
        ]

    async def offer(self, batch: ReportBatch) -> None:
        """Take one batch. Waits only where a lane that may not drop is full (decision 5)."""
        self.received["batches"] += 1
        self.received["replayed" if batch.replayed else "live"] += 1
        for update in batch.updates:
            self.received[type(update).__name__] += 1
            if isinstance(update, WaveformChunk) and update.state.metric_value is not None:
                self.received["waveform_samples"] += update.state.metric_value.count
        if batch.replayed:  # the first that can be rendered from, and that may change what an alert is
            for occurrence in self._again.pop(batch.device, ()):
                await self._put(*self._to_tell(self._retold(batch, occurrence)))
        await self._put(*self._to_tell(self._complete(batch)))

    async def _put(self, batch: ReportBatch, telling: "_Telling | None") -> None:
        waveforms_only = is_waveform_only(batch)
        takers = [lane for sink, lane in self._sinks if sink.wants_waveforms or not waveforms_only]
        if telling is None:
            for lane in takers:
                await lane.put(Entry(batch))
            return
        telling.waiting = len(takers)
        if not takers:
            self._told(telling)
        for lane in takers:
            await lane.put(Entry(batch, self._finisher(telling), ready=telling.saved))

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
            await self._stop(sink)

    async def _drain(self, sink: Sink, seconds: float) -> None:
        try:
            await sink.drain(seconds)
        except Exception as error:  # noqa: BLE001
            self.failed[sink.name] += 1
            _LOG.error("sink %s could not commit what was open: %s", sink.name, _origin(error))

    async def _stop(self, sink: Sink) -> None:
        try:
            await sink.stop()
        except Exception as error:  # noqa: BLE001 - the others must still be stopped
            self.failed[sink.name] += 1
            _LOG.error("sink %s could not be stopped: %s", sink.name, _origin(error))

    def open_alerts(self) -> int:
        """How many alerts are open over all devices."""
        return sum(len(alerts) for alerts in self._alerts.values())

    def lanes(self) -> Mapping[str, Lane]:
        """Each sink's lane, for counters."""
        return {sink.name: lane for sink, lane in self._sinks}

    def _complete(self, batch: ReportBatch) -> ReportBatch:
        batch = msgspec.structs.replace(batch, associations=self._associations.of(batch))
        stepped = step(self._alerts.get(batch.device, {}), batch)
        for key in stepped.latched_at_connect:
            _LOG.info("alert %s of %s is latched without having been seen present: not told", key.condition, key.device)
        if stepped.occurrences:
            self._alerts[batch.device] = dict(stepped.open)
        return msgspec.structs.replace(batch, occurrences=stepped.occurrences)

    def _retold(self, batch: ReportBatch, occurrence: AlertOccurrence) -> ReportBatch:
        """A batch of nothing but what the last life had still to tell, as of the mirror that there is now."""
        return ReportBatch(
            device=batch.device,
            before=batch.after,
            after=batch.after,
            updates=(),
            arrived=batch.arrived,
            associations=self._associations.of(batch),
            occurrences=(occurrence,),
        )

    def _to_tell(self, batch: ReportBatch) -> "tuple[ReportBatch, _Telling | None]":
        """The batch, and what has to be saved before a sink may have it."""
        if not batch.occurrences:
            return batch, None
        telling = _Telling(batch.occurrences)
        for occurrence in batch.occurrences:
            known = self._untold.setdefault(occurrence.key, [])
            if occurrence not in known:
                known.append(occurrence)
            self._unsaved.add(occurrence.key)
        self._saving.append(telling.saved)
        self._unsaved_changed.set()
        return batch, telling

    async def _feed(self, sink: Sink, lane: Lane) -> None:
        failing = False
        while (entry := await lane.take()) is not None:
            if entry.ready is not None:
                await entry.ready.wait()
            try:
                await sink.accept(entry.batch)
                self.sent[sink.name] += 1
                if failing:
                    failing = False
                    _LOG.warning("sink %s works again; it failed on %d so far", sink.name, self.failed[sink.name])
            except Exception as error:  # noqa: BLE001
                # one bad batch must not stop a sink; the text of the error may quote a patient, its type cannot
                self.failed[sink.name] += 1
                if not failing:  # on a full disk every batch fails: all are counted, the first is told
                    failing = True
                    _LOG.error("sink %s fails since a batch of %s: %s", sink.name, entry.batch.device, _origin(error))
                if entry.batch.occurrences and self.not_told.total() < MAX_NOT_TOLD:
                    # never done: they stay on disk, and are told again by the next life
                    self.not_told[sink.name] += len(entry.batch.occurrences)
                    continue
            if entry.done is not None:
                entry.done()

    def _finisher(self, telling: "_Telling") -> Callable[[], None]:
        def done() -> None:
            telling.waiting -= 1
            if telling.waiting == 0:
                self._told(telling)

        return done

    def _told(self, telling: "_Telling") -> None:
        for occurrence in telling.occurrences:
            left = [untold for untold in self._untold.get(occurrence.key, ()) if untold != occurrence]
            if left:
                self._untold[occurrence.key] = left
            else:
                self._untold.pop(occurrence.key, None)
            self._unsaved.add(occurrence.key)
        self._unsaved_changed.set()

    async def _save_all(self) -> None:
        """Write what is unsaved, as one transaction each time; at most one row waits for each alert condition.

        What could not be written is tried again with the next change, and once more at the end. The sinks do not wait
        for it: an alert is told rather than remembered.
        """
        last = False
        while not last:
            await self._unsaved_changed.wait()
            self._unsaved_changed.clear()
            last = self._closing
            keys, self._unsaved = self._unsaved, set()
            waiting, self._saving = self._saving, []
            if keys and not await self._save(keys):
                self._unsaved |= keys
            for saved in waiting:
                saved.set()

    async def _save(self, keys: Collection[AlertKey]) -> bool:
        upserts: dict[tuple[str, str, str], bytes] = {}
        closed: list[tuple[str, str, str]] = []
        for key in keys:
            remembered = Remembered(self._alerts.get(key.device, {}).get(key), tuple(self._untold.get(key, ())))
            if remembered == Remembered():
                closed.append(_row(key))
            else:
                upserts[_row(key)] = msgspec.json.encode(remembered)
        try:
            await self._memory.save_alerts(upserts, closed)
        except Exception as error:  # noqa: BLE001
            self.not_saved += 1
            _LOG.error("alerts could not be saved: %s", _origin(error))
            return False
        return True


class _Telling:
    """Occurrences on their way: `saved` when they are on disk, `waiting` how many sinks have still to take them."""

    def __init__(self, occurrences: Sequence[AlertOccurrence]) -> None:
        self.occurrences = occurrences
        self.saved = asyncio.Event()
        self.waiting = 0


def _row(key: AlertKey) -> tuple[str, str, str]:
    return (key.device, key.mds, key.condition)


def _origin(error: BaseException) -> str:
    """An exception's type and place: enough to find it, and nothing of what it was about."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace is not None else ""
    return f"{type(error).__name__}{place}"
