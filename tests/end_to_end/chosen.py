"""What the PCD-01 of a recorded run must hold, chosen anew from its log by section 5 of the mapping.

Written from the rules and not from the node: it knows the log's words (`mdib_models`), and nothing of the sink.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mdib_models.descriptors import EnumStringMetricDescriptor, NumericMetricDescriptor, StringMetricDescriptor
from mdib_models.mirror import Mdib
from mdib_models.states import PatientContextState
from mdib_models.updates import LinkUpdate, MetricUpdate, ReportBatch
from tests.end_to_end.readback import NOBODY, Patient, Shown

TABLE_0203 = "urn:oid:2.16.840.1.113883.18.108"
STATUS = {"Vld": "R", "Vldated": "F"}


class Expected(NamedTuple):
    """One message that must have come: for [start, end) ms of one MDS, with these rows in any order."""

    device: str
    mds: str
    start: int
    end: int
    patient: Patient
    rows: list[Shown]


class _Told(NamedTuple):
    """One determination: when its value was determined and its report came, and the mirror that it left."""

    time: int
    arrived: int
    state: object
    mdib: Mdib


class _Period:
    """A time in which an MDS had one subject and a live link."""

    def __init__(self, device: str, mds: str, subject: tuple | None, patient: Patient, begin: int) -> None:
        self.device, self.mds, self.subject, self.patient, self.begin = device, mds, subject, patient, begin
        self.bound: int | None = subject[2] if subject is not None else None  # BindingStartTime
        self.end: int | None = None
        self.continuous: dict[str, list[_Told]] = {}
        self.intermittent: list[_Told] = []
        self.earlier: list[_Told] = []  # intermittent, and measured before the patient was bound


def chosen(batches: Iterable[ReportBatch], *, period: int, grace: int, stopped: int) -> Iterator[Expected]:
    """All messages of a run that was stopped at `stopped`, with intervals of `period` and a `grace` for arrivals (ms).

    Several MDSs with several devices; those of one MDS come in order.
    """
    for one in _periods(batches):
        yield from _messages(one, period, grace, one.end if one.end is not None else stopped)


def patient_of(mdib: Mdib, mds: str) -> Patient:
    """R8102: the one patient context of this MDS that is associated and has a validator that says who; else nobody."""
    subject = _associated(mdib, mds)
    if subject is None:
        return NOBODY
    identifiers = tuple(
        (one.extension or '""', one.root or "", one.type.code if one.type and one.type.system == TABLE_0203 else "U")
        for one in subject.identification
    )
    data = subject.core_data
    return Patient(identifiers, data.familyname or "", data.givenname or "", unknown=False)


def _associated(mdib: Mdib, mds: str) -> PatientContextState | None:
    associated = [
        state
        for state in mdib.contexts.values()
        if isinstance(state, PatientContextState)
        and state.context_association == "Assoc"
        and mdib.path(state.descriptor_handle)[0].handle == mds
    ]
    if len(associated) != 1:
        return None
    (state,) = associated
    vouched = any(one.root or one.extension for one in state.validator)
    return state if vouched else None


def _periods(batches: Iterable[ReportBatch]) -> list[_Period]:
    done: list[_Period] = []
    running: dict[tuple[str, str], _Period] = {}
    told: dict[tuple[str, str], tuple[int, object]] = {}

    def end(key: tuple[str, str], at: int) -> None:
        running[key].end = at
        done.append(running.pop(key))

    for batch in batches:
        if any(isinstance(update, LinkUpdate) and update.state in {"stale", "lost"} for update in batch.updates):
            for key in [key for key in running if key[0] == batch.device]:
                end(key, batch.arrived)
            continue
        for mds in (descriptor.handle for descriptor in batch.after.children(None)):
            key = (batch.device, mds)
            context = _associated(batch.after, mds)
            subject = context and (context.handle, context.identification, context.binding_start_time)
            if key in running and running[key].subject != subject:
                end(key, batch.arrived)
            if key not in running:
                running[key] = _Period(*key, subject, patient_of(batch.after, mds), batch.arrived)
        for update in batch.updates:
            value = update.state.metric_value if isinstance(update, MetricUpdate) else None
            if value is None:
                continue
            handle = update.state.descriptor_handle
            time = batch.arrived if value.determination_time is None else value.determination_time
            here = running[batch.device, update.mds]
            descriptor = batch.after.find(handle)
            foreign = (
                here.bound is not None
                and value.determination_time is not None
                and value.determination_time < here.bound
                and descriptor.metric_category != "Set"
            )
            one = _Told(time, batch.arrived, update.state, batch.after)
            if descriptor.metric_availability == "Cont" and foreign:
                continue
            if descriptor.metric_availability == "Cont":
                here.continuous.setdefault(handle, []).append(one)
                continue
            before = told.get((batch.device, handle))  # each new determination exactly once (5.2.6)
            if before is not None and (before[1] == value or (batch.replayed and time <= before[0])):
                continue
            told[batch.device, handle] = time, value
            (here.earlier if foreign else here.intermittent).append(one)
    return done + list(running.values())


def _messages(one: _Period, period: int, grace: int, stopped: int) -> Iterator[Expected]:
    start = one.begin
    while start < stopped:
        end = min((start // period + 1) * period, stopped)
        last = end == stopped  # whatever came while this subject was there; afterwards nothing more is waited for
        values = [
            max(candidates, key=lambda told: told.time)  # of two at the same time, the one that came later
            for metric in one.continuous.values()
            if (
                candidates := [
                    t for t in reversed(metric) if start <= t.time < end and (last or t.arrived < end + grace)
                ]
            )
        ]
        values += [told for told in one.intermittent if start <= told.arrived and (last or told.arrived < end)]
        earlier = [told for told in one.earlier if start <= told.arrived and (last or told.arrived < end)]
        for patient, told_of in ((one.patient, values), (NOBODY, earlier)):
            rows = [row for told in told_of if (row := _row(told)) is not None]
            if rows:
                yield Expected(one.device, one.mds, start, end, patient, rows)
        start = end


def _row(told: _Told) -> Shown | None:
    """5.4 and 5.6: what is shown of a determination, None where it is not exported."""
    state, descriptor = told.state, told.mdib.find(told.state.descriptor_handle)
    quality, value = state.metric_value.quality, getattr(state.metric_value, "value", None)
    status = STATUS.get(quality.validity)
    if status is None or descriptor.metric_category not in {"Msrmt", "Clc", "Set"} or value in {None, ""}:
        return None
    if quality.mode != "Real" and told.mdib.states[told.mdib.mds_of(descriptor.handle)].operating_mode == "Nml":
        return None
    time = told.time if descriptor.metric_availability == "Intr" else None
    if isinstance(descriptor, NumericMetricDescriptor):
        return Shown(descriptor.handle, "NM", value, status, time)
    if isinstance(descriptor, EnumStringMetricDescriptor):
        types = [allowed.type for allowed in descriptor.allowed_value if allowed.value == value]
        if types and types[0] is not None:
            return Shown(descriptor.handle, "CWE", types[0].code, status, time)
    return (
        Shown(descriptor.handle, "ST", value, status, time) if isinstance(descriptor, StringMetricDescriptor) else None
    )
