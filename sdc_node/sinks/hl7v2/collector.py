"""Collects metric determinations into export intervals, per MDS (R8037, R8038, R8101; `hl7v2_mapping` 5.2).

No I/O and no clock: whoever calls says what time it is. All times are ms since the epoch.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from mdib_models.descriptors import MetricDescriptor
from mdib_models.identity import Handle, MdsKey
from mdib_models.mirror import Mdib
from mdib_models.states import (
    ClockState,
    DistributionSampleArrayMetricState,
    MdsState,
    NonWaveformMetricState,
    PatientDemographics,
)
from mdib_models.updates import (
    Association,
    ComponentUpdate,
    DescriptionUpdate,
    LinkUpdate,
    MetricUpdate,
    ReportBatch,
)
from sdc_node.sinks.hl7v2.interval import Demographic, Determination, Interval

BEFORE_ASSOCIATION = "measured-before-association"
"""Why an interval beside that of a patient has none: its values were measured before the patient was associated."""

Told = tuple[MdsKey, Handle]

DROPS = frozenset({"late", "before-association"})
"""The counters that tell of values which will not be exported; the others tell of values told already, or adjusted."""

OFFSET_FLOOR = 500
"""A clock offset below this (ms) is taken for the time that a report travels, and not corrected."""

INTERMITTENT_CAP = 5_000
"""Determinations that one interval may hold; at the cap it is closed early, so that nothing is dropped."""


class Collector:
    """The open intervals of all MDSs. Event loop only."""

    def __init__(self, *, period: int, grace: int, max_clock_offset: int) -> None:
        self._period = period
        self._grace = grace
        self._max_clock_offset = max_clock_offset
        self._open: dict[MdsKey, _Open] = {}
        self._told: dict[Told, int] = {}
        self._offsets: dict[MdsKey, int] = {}
        self.counters: Counter[str] = Counter()

    def remember(self, told: Mapping[Told, int]) -> None:
        """Which intermittent determinations an earlier life told, by their time."""
        self._told.update(told)

    def accept(self, batch: ReportBatch) -> list[Interval]:
        """Take a batch in; returns the intervals that it closes.

        That is where the subject, the place or the operating mode of an MDS changes, where its description does (a
        value is told in the unit in which it came), and where the device is not live any more.
        """
        closed: list[Interval] = []
        if any(isinstance(update, LinkUpdate) and update.state in {"stale", "lost"} for update in batch.updates):
            for key in [key for key in self._open if key.device == batch.device]:
                closed += self._open.pop(key).close_all(batch.arrived)
            return closed
        for key in [key for key in self._open if key.device == batch.device and key not in batch.associations]:
            closed += self._open.pop(key).close_all(batch.arrived)
        described = {update.mds for update in batch.updates if isinstance(update, DescriptionUpdate)}
        for key, association in batch.associations.items():
            current = self._open.get(key)
            mode = _mode(batch.after, key)
            if current is not None and (key.mds in described or current.ends_with(association, mode)):
                closed += current.close_all(batch.arrived)
                if not current.association.same_subject(association):
                    current = None
            if current is None:
                current = self._open[key] = _Open(key, batch.arrived, self._period, association)
            current.see(batch.after, association, mode)
        for update in batch.updates:
            if isinstance(update, MetricUpdate):
                closed += self._take(update, batch)
            elif isinstance(update, ComponentUpdate) and not batch.replayed:
                self._read_clock(update, batch)
        return closed

    def due(self, now: int) -> list[Interval]:
        """Close what has ended, its grace included."""
        closed: list[Interval] = []
        for current in self._open.values():
            while current.end + self._grace <= now:
                closed += current.close(current.end)
        return closed

    def next_due(self) -> int | None:
        """When `due` next has something to look at, or None."""
        return min((current.end + self._grace for current in self._open.values()), default=None)

    def drain(self, now: int) -> list[Interval]:
        """Close everything, at `now`."""
        closed = [interval for current in self._open.values() for interval in current.close_all(now)]
        self._open.clear()
        return closed

    def corrected(self, key: MdsKey) -> frozenset[Demographic]:
        """The demographics of an MDS's patient that changed since the association (OBX-11 C)."""
        current = self._open.get(key)
        return current.corrected if current is not None else frozenset()

    def _take(self, update: MetricUpdate, batch: ReportBatch) -> Iterable[Interval]:
        state = update.state
        descriptor = batch.after.find(state.descriptor_handle)
        current = self._open.get(MdsKey(batch.device, update.mds))
        if current is None or not isinstance(descriptor, MetricDescriptor):
            return ()
        if isinstance(state, DistributionSampleArrayMetricState) or state.metric_value is None:
            return ()
        determined = state.metric_value.determination_time
        owned = current.association.may_carry(descriptor, determined)
        if descriptor.metric_availability == "Intr":
            return self._take_intermittent(current, state, batch, owned=owned)
        if not owned:
            self.counters["before-association"] += 1
            return ()
        time = batch.arrived if determined is None else determined + self._offsets.get(current.key, 0)
        behind = min(self._max_clock_offset, self._period // 2)  # beyond, a clock that is slow would make all late
        if time - batch.arrived > self._max_clock_offset or (
            batch.arrived - time > behind and not batch.replayed  # a snapshot may hold what is old
        ):
            self.counters["clock-beyond-limit"] += 1
            time = batch.arrived
        if not current.take(Determination(state, time)):
            self.counters["replayed-before-interval" if batch.replayed else "late"] += 1
        return ()

    def _take_intermittent(
        self, current: "_Open", state: NonWaveformMetricState, batch: ReportBatch, *, owned: bool
    ) -> Iterable[Interval]:
        """Each determination exactly once, in the interval in which it was received.

        One that is not the patient's (`owned`) goes into an interval beside it that has no patient.
        """
        assert state.metric_value is not None  # noqa: S101 - the caller looked
        determined = state.metric_value.determination_time
        time = batch.arrived if determined is None else determined
        told = (current.key, state.descriptor_handle)
        old = batch.before.states.get(state.descriptor_handle)
        same = isinstance(old, type(state)) and old.metric_value == state.metric_value
        repeats = same and determined is not None and told in self._told
        if repeats or (batch.replayed and self._told.get(told, -1) >= time):
            self.counters["replayed-already-told" if batch.replayed else "repeated"] += 1
            return ()
        self._told[told] = time
        held = current.receive(Determination(state, time), batch.arrived, owned=owned)
        if held < INTERMITTENT_CAP or batch.arrived <= current.start:  # one without a length would share its id
            return ()
        self.counters["closed-early"] += 1
        return (*current.close_ended(batch.arrived), *current.close(batch.arrived, everything=True))

    def _read_clock(self, update: ComponentUpdate, batch: ReportBatch) -> None:
        state = update.state
        if isinstance(state, ClockState) and state.date_and_time is not None:
            offset = batch.arrived - state.date_and_time
            self._offsets[MdsKey(batch.device, update.mds)] = offset if abs(offset) > OFFSET_FLOOR else 0


class _Open:
    """One MDS's running interval, and what already belongs to later ones."""

    def __init__(self, key: MdsKey, start: int, period: int, association: Association) -> None:
        self.key = key
        self.start = start
        self._period = period
        self.end = self._end_after(start)
        self.association = association
        self._received: list[_Received] = []
        self._continuous: dict[Handle, Determination] = {}
        self._ahead: dict[int, dict[Handle, Determination]] = {}  # by the end of the interval that it belongs to
        self._mdib: Mdib | None = None
        self._mode = ""
        self._first = _demographics(association)
        self.corrected: frozenset[Demographic] = frozenset()

    def ends_with(self, association: Association, mode: str) -> bool:
        """Whether what is held may not go into one message with what comes now."""
        if mode != self._mode or not self.association.same_subject(association):
            return True
        here, there = self.association.location, association.location
        return (here and here.location_detail) != (there and there.location_detail)

    def see(self, mdib: Mdib, association: Association, mode: str) -> None:
        """The mirror, the association (of the same subject) and the operating mode as they are now."""
        self._mdib = mdib
        self._mode = mode
        if association is not self.association:
            self.association = association
            now = _demographics(association)
            self.corrected |= {
                name for name, value in now.items() if name in self._first and self._first[name] != value
            }
            self._first = {**now, **self._first}

    def take(self, determination: Determination) -> bool:
        """File a continuous value; False where it is older than the interval and so no longer wanted."""
        if determination.time < self.start:
            return False
        shelf = self._continuous
        if determination.time >= self.end:
            shelf = self._ahead.setdefault(self._end_after(determination.time), {})
        known = shelf.get(determination.state.descriptor_handle)
        if known is None or known.time <= determination.time:
            shelf[determination.state.descriptor_handle] = determination
        return True

    def receive(self, determination: Determination, arrived: int, *, owned: bool) -> int:
        """File an intermittent value by its arrival; returns how many are held."""
        self._received.append(_Received(arrived, determination, owned))
        return len(self._received)

    def close(self, at: int, *, everything: bool = False) -> Iterator[Interval]:
        """The interval [start, at) where it holds anything; the next one begins at `at`.

        Intermittent values that arrived in its grace belong to the next, unless `everything` is to go.
        """
        at = max(at, self.start)  # the wall clock may have been set back
        taken = [one for one in self._received if everything or one.arrived < at]
        owned = tuple(one.determination for one in taken if one.owned)
        if self._continuous or owned:
            yield from self._interval(at, self.association, self._continuous, owned)
        if foreign := tuple(one.determination for one in taken if not one.owned):
            nobody = Association(location=self.association.location, reason=BEFORE_ASSOCIATION)
            yield from self._interval(at, nobody, {}, foreign)
        self.start, self.end = at, self._end_after(at)
        self._continuous = self._ahead.pop(self.end, {})
        self._received = [] if everything else [one for one in self._received if one.arrived >= at]

    def _interval(
        self,
        at: int,
        association: Association,
        continuous: Mapping[Handle, Determination],
        intermittent: tuple[Determination, ...],
    ) -> Iterator[Interval]:
        if self._mdib is not None:
            yield Interval(
                key=self.key,
                start=self.start,
                end=at,
                mdib=self._mdib,
                association=association,
                continuous=continuous,
                intermittent=intermittent,
                corrected=self.corrected,
            )

    def close_ended(self, at: int) -> Iterator[Interval]:
        """The intervals that have ended at `at`, without waiting for their grace."""
        while self.end <= at:
            yield from self.close(self.end)

    def close_all(self, at: int) -> Iterator[Interval]:
        """Everything up to `at`, of which no more will come under this association."""
        yield from self.close_ended(at)
        for end in sorted(self._ahead):  # determined by a clock that is ahead, and here already
            self._continuous |= self._ahead[end]
        self._ahead.clear()
        yield from self.close(at, everything=True)

    def _end_after(self, start: int) -> int:
        return (start // self._period + 1) * self._period


class _Received(NamedTuple):
    arrived: int
    determination: Determination
    owned: bool


def _mode(mdib: Mdib, key: MdsKey) -> str:
    state = mdib.states.get(key.mds)
    return state.operating_mode if isinstance(state, MdsState) else "Nml"


def _demographics(association: Association) -> dict[Demographic, object]:
    data = association.patient.core_data if association.patient is not None else None
    if not isinstance(data, PatientDemographics):
        return {}
    found: dict[Demographic, object] = {}
    if data.height is not None:
        found["height"] = data.height
    if data.weight is not None:
        found["weight"] = data.weight
    if data.sex is not None:
        found["sex"] = data.sex
    return found
