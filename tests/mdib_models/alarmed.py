"""A device with two alert conditions and three signals, told what happens and asked what is told of it.

It has one metric too, which the first condition is about, and whoever it is told to belong to.
"""

from decimal import Decimal
from typing import Any

import msgspec

from mdib_models.alerts import AlertKey, AlertOccurrence, OpenAlert, Step, step
from mdib_models.coding import CodedValue, Range
from mdib_models.descriptors import (
    AlertConditionDescriptor,
    AlertSignalDescriptor,
    AlertSystemDescriptor,
    ChannelDescriptor,
    LimitAlertConditionDescriptor,
    MdsDescriptor,
    NumericMetricDescriptor,
    VmdDescriptor,
)
from mdib_models.identity import MdibVersionGroup, MdsKey
from mdib_models.mirror import Folded, Mdib, fold, snapshot
from mdib_models.states import (
    AlertConditionState,
    AlertSignalState,
    AlertSystemState,
    LimitAlertConditionState,
    MdsState,
    NumericMetricState,
    NumericMetricValue,
    PatientContextState,
    Quality,
)
from mdib_models.updates import Association, DescriptionPart, Report, ReportBatch
from tests.mdib_models.strategies import DEVICE, SEQUENCE

DESCRIPTORS = (
    MdsDescriptor(handle="mds0"),
    AlertSystemDescriptor(handle="as0", parent="mds0"),
    LimitAlertConditionDescriptor(
        handle="low",
        parent="as0",
        kind="Phy",
        priority="Me",
        type=CodedValue("196670"),
        source=("vmd0", "spo2"),
        max_limits=Range(),
    ),
    AlertConditionDescriptor(handle="leads", parent="as0", kind="Tec", priority="Lo", type=CodedValue("196882")),
    AlertSignalDescriptor(handle="aud", parent="as0", condition_signaled="low", manifestation="Aud", latching=True),
    AlertSignalDescriptor(handle="vis", parent="as0", condition_signaled="low", manifestation="Vis", latching=True),
    AlertSignalDescriptor(handle="tec", parent="as0", condition_signaled="leads", manifestation="Vis", latching=True),
    VmdDescriptor(handle="vmd0", parent="mds0"),
    ChannelDescriptor(handle="ch0", parent="vmd0"),
    NumericMetricDescriptor(
        handle="spo2",
        parent="ch0",
        unit=CodedValue("262688"),
        metric_category="Msrmt",
        metric_availability="Cont",
        resolution=Decimal(1),
    ),
)
VALUE = NumericMetricValue(quality=Quality("Vld"), determination_time=4900, value=Decimal(86))
STATES = (
    MdsState(descriptor_handle="mds0"),
    AlertSystemState(descriptor_handle="as0", activation_state="On"),
    LimitAlertConditionState(
        descriptor_handle="low", state_version=5, activation_state="On", limits=Range(lower=Decimal("90.0"))
    ),
    AlertConditionState(descriptor_handle="leads", state_version=2, activation_state="On"),
    AlertSignalState(descriptor_handle="aud", activation_state="On"),
    AlertSignalState(descriptor_handle="vis", activation_state="On"),
    AlertSignalState(descriptor_handle="tec", activation_state="On"),
    NumericMetricState(descriptor_handle="spo2", metric_value=VALUE),
)

QUIET = {"presence": "Off", "activation_state": "On"}
SOUNDING = {"presence": "On", "activation_state": "On"}
LATCHED = {"presence": "Latch", "activation_state": "On"}
ACKNOWLEDGED = {"presence": "Ack", "activation_state": "On"}

LOW = AlertKey(DEVICE, "mds0", "low")
LEADS = AlertKey(DEVICE, "mds0", "leads")


class Alarmed:
    """The device, its mirror here, and the open alerts as the pipeline keeps them. `clock` is our time, ms."""

    def __init__(self) -> None:
        self.mdib = Mdib(
            device=DEVICE,
            version=MdibVersionGroup(SEQUENCE, 1),
            descriptors={each.handle: each for each in DESCRIPTORS},
            states={each.descriptor_handle: each for each in STATES},
        )
        self.open: dict[AlertKey, OpenAlert] = {}
        self.clock = 100_000
        self.last: Step | None = None
        self.whose = Association(reason="no-associated-patient")

    def change(self, **changes: dict[str, Any]) -> tuple[AlertOccurrence, ...]:
        """One report: handle -> what of its state changed."""
        return self.report(states=tuple(self._changed(handle, fields) for handle, fields in changes.items()))

    def describe(self, **changes: dict[str, Any]) -> tuple[AlertOccurrence, ...]:
        """One description report: handle -> what of its descriptor changed; its state follows its version."""
        return self.report(description=tuple(self._described(handle, fields) for handle, fields in changes.items()))

    def delete(self, *handles: str) -> tuple[AlertOccurrence, ...]:
        """One description report that takes descriptors out, the children of each first."""
        parts = []
        for handle in handles:
            below = [each for _, each in self.mdib.walk(handle)]
            parts += [DescriptionPart("Del", (each,)) for each in [*reversed(below), self.mdib.descriptors[handle]]]
        return self.report(description=tuple(parts))

    def hand_over(self, who: str, since: int = 0, **changes: dict[str, Any]) -> tuple[AlertOccurrence, ...]:
        """The MDS is another patient's from the next report on."""
        patient = PatientContextState(descriptor_handle="pc", handle=f"pc.{who}", binding_start_time=since)
        self.whose = Association(patient=patient, since=since)
        return self.change(**changes)

    def report(self, **fields: Any) -> tuple[AlertOccurrence, ...]:
        """Any report, folded without a violation and evaluated."""
        self.clock += 1000
        version = msgspec.structs.replace(self.mdib.version, mdib_version=self.mdib.version.mdib_version + 1)
        kind = "description" if "description" in fields else "alert"
        folded = fold(self.mdib, Report(kind=kind, version=version, arrived=self.clock, **fields))
        assert isinstance(folded, Folded)
        assert folded.violations == ()
        return self.evaluate(folded.batch)

    def reconnect(self, sequence: str = SEQUENCE, without: str = "", **changes: dict[str, Any]) -> tuple[Any, ...]:
        """A new snapshot, in which states have changed and a descriptor is gone."""
        self.clock += 1000
        changed = {handle: self._changed(handle, fields) for handle, fields in changes.items()}
        after = msgspec.structs.replace(
            self.mdib,
            version=MdibVersionGroup(sequence, self.mdib.version.mdib_version + 40),
            descriptors={key: each for key, each in self.mdib.descriptors.items() if key != without},
            states={key: each for key, each in {**self.mdib.states, **changed}.items() if key != without},
        )
        return self.evaluate(snapshot(self.mdib, after, self.clock))

    def evaluate(self, batch: ReportBatch) -> tuple[AlertOccurrence, ...]:
        """What a batch tells; the open alerts pass through JSON, as over a restart."""
        self.mdib = batch.after
        batch = msgspec.structs.replace(batch, associations={MdsKey(DEVICE, "mds0"): self.whose})
        self.last = step(self.open, batch)
        assert {key: alert.key for key, alert in self.last.open.items()} == {key: key for key in self.last.open}
        saved = msgspec.json.encode(list(self.last.open.values()))
        self.open = {alert.key: alert for alert in msgspec.json.decode(saved, type=list[OpenAlert])}
        assert self.open == self.last.open
        return self.last.occurrences

    def _changed(self, handle: str, fields: dict[str, Any]) -> Any:
        old = self.mdib.states[handle]
        described = self.mdib.descriptors[handle].descriptor_version
        version = {"state_version": old.state_version + 1, "descriptor_version": described}
        return msgspec.structs.replace(old, **{**version, **fields})

    def _described(self, handle: str, fields: dict[str, Any]) -> DescriptionPart:
        version = self.mdib.descriptors[handle].descriptor_version + 1
        descriptor = msgspec.structs.replace(self.mdib.descriptors[handle], descriptor_version=version, **fields)
        return DescriptionPart("Upt", (descriptor,), (self._changed(handle, {"descriptor_version": version}),))


def phases(occurrences: tuple[AlertOccurrence, ...]) -> list[tuple[str, str]]:
    """(phase, alert state) of each."""
    return [(each.phase, each.snapshot.state) for each in occurrences]
