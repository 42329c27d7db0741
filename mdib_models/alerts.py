"""The alert-occurrence machine: alert states in, occurrences with a stable id and a phase out.

SDPi TF-2 Appendix B, R8050 to R8079, in the reading of `hl7v2_mapping` 7.1 to 7.5. Pure: the caller keeps `OpenAlert`.
HL7, FHIR and the page tell of the same occurrences.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import msgspec

from mdib_models.coding import CodedValue, Range
from mdib_models.descriptors import (
    AlertConditionDescriptor,
    AlertKind,
    AlertPriority,
    AlertSignalDescriptor,
    MetricDescriptor,
)
from mdib_models.identity import DeviceId, Handle, MdsKey
from mdib_models.mirror import Mdib
from mdib_models.states import (
    AlertConditionState,
    AlertSignalState,
    EnumStringMetricState,
    LimitAlertConditionState,
    NumericMetricState,
    StringMetricState,
)
from mdib_models.updates import AlertUpdate, Association, DescriptionUpdate, GapUpdate, ReportBatch

Phase = Literal["start", "continue", "end", "update", "escalate", "deescalate", "reset"]
PresenceState = Literal["active", "latched", "inactive"]
AlertType = Literal["SP", "ST", "SA"]
CapturedState = NumericMetricState | StringMetricState | EnumStringMetricState
"""A metric state that has one value, and so can be shown beside an alert."""
_TOLD = ("priority", "type", "inactivation", "code", "limits", "monitored_limits", "source", "latched")
"""What of a snapshot is told by a message of its own when it changes (R8074 to R8078)."""

PRIORITY_ORDER: dict[AlertPriority, int] = {"None": 0, "Lo": 1, "Me": 2, "Hi": 3}


class AlertKey(msgspec.Struct, frozen=True, gc=False, order=True):
    """One alert condition of one MDS of one device."""

    device: DeviceId
    mds: Handle
    condition: Handle


class AlertSnapshot(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """All of a condition that a receiver is told, at one MDIB version; `source` is pm:Source."""

    present: bool
    latched: bool
    priority: AlertPriority
    kind: AlertKind
    type: AlertType
    inactivation: tuple[str, ...]
    code: CodedValue | None = None
    limits: Range | None = None
    monitored_limits: str | None = None
    source: tuple[Handle, ...] = ()
    determination_time: int | None = None

    @property
    def state(self) -> PresenceState:
        """R8071: active while present, latched while only a signal still says so, else inactive."""
        return "active" if self.present else "latched" if self.latched else "inactive"


class OpenAlert(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An occurrence that was started and not yet closed. `number` counts what was told of it, from 0.

    `association` says whose it is: an alert belongs to the patient of its start.
    """

    id: str
    key: AlertKey
    onset: int
    snapshot: AlertSnapshot
    association: Association
    number: int = 0


class AlertOccurrence(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One thing to tell of an alert.

    `id` is the event id, the same through all phases; `number` tells its messages apart (0 is the start).
    `time` (ms) is that of the change (R8062); `onset` that of the start. `association` says whose the alert is.
    `captured` is the state of the first source that is a metric, as it was at that moment (R8066), and only where that
    patient may have it: with it the occurrence is told again word for word.
    """

    id: str
    key: AlertKey
    phase: Phase
    number: int
    time: int
    onset: int
    snapshot: AlertSnapshot
    association: Association
    captured: CapturedState | None = None

    @property
    def closes(self) -> bool:
        """Whether this is the last that is told of the occurrence."""
        return self.phase in {"end", "reset"}


class Step(msgspec.Struct, frozen=True, gc=False):
    """What a batch did: the alerts that are open now (of this device), and what to tell."""

    open: Mapping[AlertKey, OpenAlert]
    occurrences: tuple[AlertOccurrence, ...]
    latched_at_connect: tuple[AlertKey, ...] = ()


def step(open_alerts: Mapping[AlertKey, OpenAlert], batch: ReportBatch) -> Step:
    """Evaluate a whole batch once, after it was applied (SDPi R1007, R1014 keep condition and signals together).

    `open_alerts` holds the open alerts of this device; the batch's associations are those after it. After a snapshot
    each condition is looked at, and alerts whose condition is gone are closed. An alert whose MDS is now somebody
    else's is closed for the one, and started for the other where the condition is still present.
    """
    now_open = dict(open_alerts)
    told: list[AlertOccurrence] = []
    latched: list[AlertKey] = []
    conditions = _touched(batch, now_open)
    for key in conditions:
        snapshot = take_snapshot(batch.after, key.condition)
        before = now_open.get(key)
        if before is None and snapshot is not None and snapshot.latched and not snapshot.present:
            latched.append(key)
        for occurrence in _tell(before, snapshot, key, batch):
            told.append(occurrence)
            if occurrence.closes:
                now_open.pop(key, None)
            else:
                now_open[key] = OpenAlert(
                    id=occurrence.id,
                    key=key,
                    onset=occurrence.onset,
                    snapshot=occurrence.snapshot,
                    association=occurrence.association,
                    number=occurrence.number,
                )
    return Step(now_open, tuple(told), tuple(latched) if batch.replayed else ())


def take_snapshot(mdib: Mdib, condition: Handle) -> AlertSnapshot | None:
    """The condition as receivers are told of it, or None where the MDIB does not hold it."""
    descriptor = mdib.find(condition)
    if not isinstance(descriptor, AlertConditionDescriptor):
        return None
    state = mdib.states.get(condition)
    if not isinstance(state, AlertConditionState):
        return None
    present = state.presence and state.activation_state == "On"
    signals = tuple(_local_signals(mdib, condition))
    limit = state if isinstance(state, LimitAlertConditionState) else None
    priority = state.actual_priority or descriptor.priority
    return AlertSnapshot(
        present=present,
        latched=not present
        and any(signal.activation_state == "On" and signal.presence == "Latch" for _, signal in signals),
        priority=priority,
        kind=descriptor.kind,
        type="SA" if priority == "None" or descriptor.kind == "Oth" else "SP" if descriptor.kind == "Phy" else "ST",
        inactivation=inactivation(signals, present=present),
        code=descriptor.type,
        limits=limit.limits if limit is not None else None,
        monitored_limits=limit.monitored_alert_limits if limit is not None else None,
        source=descriptor.source,
        determination_time=state.determination_time,
    )


def inactivation(
    signals: Iterable[tuple[AlertSignalDescriptor, AlertSignalState]], *, present: bool
) -> tuple[str, ...]:
    """R8073: how far the signals at the device are silenced; `enabled` where they are not."""
    all_signals = tuple(signals)
    audible = [signal for descriptor, signal in all_signals if descriptor.manifestation == "Aud"]
    rest = [signal for descriptor, signal in all_signals if descriptor.manifestation != "Aud"]
    found: list[str] = []
    if present and all_signals:
        if all(signal.activation_state == "Psd" for _, signal in all_signals):
            found.append("alarm-paused")
        elif all(_is_off(signal) for _, signal in all_signals):
            found.append("alarm-off")
        elif audible:
            if all(s.activation_state == "Psd" for s in audible) and not any(s.activation_state == "Psd" for s in rest):
                found.append("audio-paused")
            elif all(_is_off_or_acknowledged(s) for s in audible) and not any(map(_is_off_or_acknowledged, rest)):
                found.append("audio-off")
    if any(signal.presence == "Ack" for _, signal in all_signals):
        found.append("alert-acknowledged")
    return tuple(found) or ("enabled",)


def _is_off(signal: AlertSignalState) -> bool:
    return signal.activation_state == "Off" or (signal.activation_state == "On" and signal.presence == "Off")


def _is_off_or_acknowledged(signal: AlertSignalState) -> bool:
    return _is_off(signal) or (signal.activation_state == "On" and signal.presence == "Ack")


def _local_signals(mdib: Mdib, condition: Handle) -> Iterator[tuple[AlertSignalDescriptor, AlertSignalState]]:
    for descriptor in mdib.descriptors.values():
        if isinstance(descriptor, AlertSignalDescriptor) and descriptor.condition_signaled == condition:
            state = mdib.states.get(descriptor.handle)
            if isinstance(state, AlertSignalState) and state.location == "Loc":
                yield descriptor, state


def _touched(batch: ReportBatch, open_alerts: Mapping[AlertKey, OpenAlert]) -> list[AlertKey]:
    """The conditions that a batch may have changed, in the order of the MDIB, gone ones first."""
    if batch.replayed or any(isinstance(update, GapUpdate) for update in batch.updates):
        handles: set[Handle] = {
            handle
            for handle, descriptor in batch.after.descriptors.items()
            if isinstance(descriptor, AlertConditionDescriptor)
        } | {key.condition for key in open_alerts}
    else:
        handles = {alert.key.condition for alert in open_alerts.values() if _is_of_another(alert, batch)}
        for update in batch.updates:
            if isinstance(update, AlertUpdate):
                handle = update.state.descriptor_handle
            elif isinstance(update, DescriptionUpdate):
                handle = update.descriptor.handle
            else:
                continue
            for descriptor in (batch.before.find(handle), batch.after.find(handle)):
                if isinstance(descriptor, AlertConditionDescriptor):
                    handles.add(handle)
                elif isinstance(descriptor, AlertSignalDescriptor) and descriptor.condition_signaled is not None:
                    handles.add(descriptor.condition_signaled)
    if not handles:
        return []
    known = {key.condition: key for key in open_alerts}
    gone = [known[handle] for handle in sorted(handles) if handle in known and handle not in batch.after.descriptors]
    here = [
        known.get(handle, AlertKey(batch.device, batch.after.mds_of(handle), handle))
        for handle in batch.after.descriptors
        if handle in handles
    ]
    return gone + here


def _tell(
    before: OpenAlert | None, now: AlertSnapshot | None, key: AlertKey, batch: ReportBatch
) -> Iterator[AlertOccurrence]:
    """The table of phases (`hl7v2_mapping` 7.3), and its second table for what a snapshot shows."""
    if before is None:
        if now is not None and now.present:
            yield _start(key, now, batch)
        return
    was = before.snapshot
    if now is None or _is_of_another(before, batch) or _missed(before, now, batch):
        yield _next(before, "end" if was.present else "reset", _gone(was), batch.arrived, batch)
    elif not was.present and now.present:
        yield _next(before, "reset", msgspec.structs.replace(was, latched=False), batch.arrived, batch)
    else:
        phase = _phase(was, now, replayed=batch.replayed)
        if phase is not None:
            yield _next(before, phase, now, _time(was, now, batch), batch)
        return
    if now is not None and now.present:
        yield _start(key, now, batch, closed=before)


def _is_of_another(alert: OpenAlert, batch: ReportBatch) -> bool:
    """Whether the MDS of an open alert has changed hands; not where nothing is said of the MDS."""
    now = batch.associations.get(MdsKey(alert.key.device, alert.key.mds))
    return now is not None and not now.same_subject(alert.association)


def _missed(before: OpenAlert, now: AlertSnapshot, batch: ReportBatch) -> bool:
    """Whether presence went and came back unseen: by its meaning DeterminationTime moves only with presence.

    Where every version of the state was seen, one that moves alone is the device's whim and no new occurrence.
    """
    was, condition = before.snapshot, before.key.condition
    if not (was.present and now.present) or was.determination_time == now.determination_time:
        return False
    old = batch.before.states.get(condition)
    versions = 0 if old is None else batch.after.states[condition].state_version - old.state_version
    return batch.replayed or versions > 1


def _gone(was: AlertSnapshot) -> AlertSnapshot:
    """What ended unseen: nothing is known of its signals, and most words of R8073 need a present condition."""
    return msgspec.structs.replace(was, present=False, latched=False, inactivation=("enabled",))


def _phase(was: AlertSnapshot, now: AlertSnapshot, *, replayed: bool) -> Phase | None:
    if was.present and not now.present:
        return "update" if now.latched else "end"
    if not was.present and not now.present and not now.latched:
        return "reset"
    changed = {name for name in _TOLD if getattr(was, name) != getattr(now, name)}
    if changed == {"priority"} and "None" not in {was.priority, now.priority}:
        rose = PRIORITY_ORDER[now.priority] > PRIORITY_ORDER[was.priority]
        return "escalate" if rose else "deescalate"
    if changed:
        return "update"
    return "continue" if replayed else None


def _time(was: AlertSnapshot, now: AlertSnapshot, batch: ReportBatch) -> int:
    """R8062: the device's time where presence changed, ours (arrival) for all other changes.

    A condition that was switched off still has the time of its onset: only what is newer is that of the change.
    """
    determined, told = now.determination_time, was.determination_time
    if was.present and not now.present and determined is not None and (told is None or determined > told):
        return determined
    return batch.arrived


def _start(key: AlertKey, now: AlertSnapshot, batch: ReportBatch, closed: OpenAlert | None = None) -> AlertOccurrence:
    """A new occurrence; `closed` is the one that the same report closed.

    It begins when presence did (R8062), but [D] on arrival where another patient's alert was closed for it: what came
    before was not this patient's.
    """
    onset = now.determination_time
    if onset is None or (closed is not None and _is_of_another(closed, batch)):
        onset = batch.arrived
    association = batch.associations.get(MdsKey(key.device, key.mds), Association())
    return AlertOccurrence(
        id=_event_id(key, batch.after, "" if closed is None else closed.id),
        key=key,
        phase="start",
        number=0,
        time=onset,
        onset=onset,
        snapshot=now,
        association=association,
        captured=_capture(now, key, batch.after, association),
    )


def _event_id(key: AlertKey, mdib: Mdib, closed: str) -> str:
    """R8051: handle, SequenceId (without `urn:uuid:`) and StateVersion of what raised the alert.

    [D] Where that is the id of the occurrence just closed, since the patient changed and the state did not, the
    MdibVersion of the change is added: `<handle>.<SequenceId>.<StateVersion>.<MdibVersion>`.
    """
    sequence = mdib.version.sequence_id.removeprefix("urn:uuid:")
    event = f"{key.condition}.{sequence}.{mdib.states[key.condition].state_version}"
    # the patient may change again, and the id just closed is then a longer one of the same state
    return f"{event}.{mdib.version.mdib_version}" if f"{closed}.".startswith(f"{event}.") else event


def _next(before: OpenAlert, phase: Phase, now: AlertSnapshot, time: int, batch: ReportBatch) -> AlertOccurrence:
    association, captured = before.association, None
    if not _is_of_another(before, batch):  # else what is measured now is not of the patient of this alert
        association = batch.associations.get(MdsKey(before.key.device, before.key.mds), association)
        association = msgspec.structs.replace(association, since=before.association.since)
        captured = _capture(now, before.key, batch.after, association)
    return AlertOccurrence(
        id=before.id,
        key=before.key,
        phase=phase,
        number=before.number + 1,
        time=time,
        onset=before.onset,
        snapshot=now,
        association=association,
        captured=captured,
    )


def _capture(now: AlertSnapshot, key: AlertKey, mdib: Mdib, association: Association) -> CapturedState | None:
    """R8066: the state of the first source that is a metric of the same MDS, if that patient may have its value."""
    for handle in now.source:
        descriptor = mdib.find(handle)
        if not isinstance(descriptor, MetricDescriptor) or mdib.mds_of(handle) != key.mds:
            continue
        state = mdib.states.get(handle)
        if not isinstance(state, CapturedState):
            return None
        determined = state.metric_value.determination_time if state.metric_value is not None else None
        return state if association.may_carry(descriptor, determined) else None
    return None
