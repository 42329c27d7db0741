"""One sink's bounded queue, with the overflow policy of decision 5 of the house."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable

import msgspec

from mdib_models.descriptors import MetricDescriptor
from mdib_models.identity import Handle
from mdib_models.mirror import Mdib
from mdib_models.updates import MetricUpdate, ReportBatch, WaveformChunk

WAVEFORM_DROPPED = "waveform-oldest-dropped"
METRICS_COALESCED = "continuous-metrics-coalesced"


class Entry(msgspec.Struct, gc=False):
    """A batch, what to call once the sink is done with it, and what to wait for before the sink may have it."""

    batch: ReportBatch
    done: Callable[[], None] | None = None
    ready: asyncio.Event | None = None
    waveform: bool = False
    continuous: bool = False


class Lane:
    """Bounded at `capacity` batches. Event loop only.

    When full: batches of nothing but waveforms drop the oldest such batch; neighbouring batches of one device that
    hold nothing but continuous metrics are merged (before of the first, after of the last, latest per handle); all
    else waits for room, which delays the device.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("a lane holds at least one batch")
        self._capacity = capacity
        self._entries: deque[Entry] = deque()
        self._changed = asyncio.Condition()
        self._closed = False
        self.dropped: Counter[str] = Counter()
        self.high_water = 0

    def __len__(self) -> int:
        return len(self._entries)

    async def put(self, entry: Entry) -> None:
        """Queue a batch, or make room by policy, or wait. After `close` the batch is dropped and counted."""
        entry.waveform = is_waveform_only(entry.batch)
        entry.continuous = not entry.waveform and is_continuous_only(entry.batch)
        async with self._changed:
            while not self._closed and len(self._entries) >= self._capacity:
                if self._make_room(entry):
                    return
                if len(self._entries) < self._capacity:
                    break
                await self._changed.wait()
            if self._closed:
                self.dropped["closed"] += 1  # and never done: what no sink has taken may be told again
                return
            self._entries.append(entry)
            self.high_water = max(self.high_water, len(self._entries))
            self._changed.notify_all()

    async def take(self) -> Entry | None:
        """The oldest batch; waits for one. None once the lane is closed and empty."""
        async with self._changed:
            while not self._entries:
                if self._closed:
                    return None
                await self._changed.wait()
            entry = self._entries.popleft()
            self._changed.notify_all()
            return entry

    async def close(self) -> None:
        """Take no more; what is queued can still be taken."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _make_room(self, entry: Entry) -> bool:
        """Apply the policy to a full lane; True where `entry` itself is dealt with."""
        for index, old in enumerate(self._entries):
            if old.waveform:
                del self._entries[index]
                self._drop(old, WAVEFORM_DROPPED)
                return False
        if entry.waveform:
            self._drop(entry, WAVEFORM_DROPPED)
            return True
        if entry.continuous:
            for index in range(len(self._entries) - 1, -1, -1):
                old = self._entries[index]
                if old.batch.device != entry.batch.device:
                    continue
                if old.continuous and old.batch.associations == entry.batch.associations:
                    self._entries[index] = _merged(old, entry)
                    self.dropped[METRICS_COALESCED] += 1
                    return True
                return False
        return False

    def _drop(self, entry: Entry, reason: str) -> None:
        self.dropped[reason] += 1
        if entry.done is not None:
            entry.done()


def is_waveform_only(batch: ReportBatch) -> bool:
    """Whether a batch holds waveforms and nothing else."""
    return bool(batch.updates) and all(isinstance(update, WaveformChunk) for update in batch.updates)


def is_continuous_only(batch: ReportBatch) -> bool:
    """Whether a batch holds continuous measurements and nothing else: what a later one makes obsolete."""
    return (
        bool(batch.updates)
        and not batch.replayed
        and not batch.occurrences
        and all(
            isinstance(update, MetricUpdate) and is_continuous(batch.after, update.state.descriptor_handle)
            for update in batch.updates
        )
    )


def is_continuous(mdib: Mdib, handle: Handle) -> bool:
    """Whether a metric is available all the time and not a setting (settings are never dropped)."""
    descriptor = mdib.find(handle)
    return (
        isinstance(descriptor, MetricDescriptor)
        and descriptor.metric_availability == "Cont"
        and descriptor.metric_category not in {"Set", "Preset"}
    )


def _merged(first: Entry, last: Entry) -> Entry:
    latest = {
        update.state.descriptor_handle: update for update in first.batch.updates if isinstance(update, MetricUpdate)
    }
    latest |= {
        update.state.descriptor_handle: update for update in last.batch.updates if isinstance(update, MetricUpdate)
    }
    batch = msgspec.structs.replace(last.batch, before=first.batch.before, updates=tuple(latest.values()), report=None)

    def done() -> None:
        for entry in (first, last):
            if entry.done is not None:
                entry.done()

    return Entry(batch, done, continuous=True)
