"""A small bedside monitor in our own words: it reports, its mirror is folded, and batches come out."""

from decimal import Decimal

import msgspec
import pytest

from mdib_models import mirror
from mdib_models.alerts import step
from mdib_models.coding import HL7_0203, CodedValue, InstanceIdentifier, Measurement, Range
from mdib_models.descriptors import (
    AlertSignalDescriptor,
    AlertSystemDescriptor,
    ChannelDescriptor,
    ClockDescriptor,
    LimitAlertConditionDescriptor,
    LocationContextDescriptor,
    MdsDescriptor,
    NumericMetricDescriptor,
    PatientContextDescriptor,
    RealTimeSampleArrayMetricDescriptor,
    SystemContextDescriptor,
    VmdDescriptor,
)
from mdib_models.identity import DeviceId, MdibVersionGroup
from mdib_models.mirror import Mdib
from mdib_models.states import (
    AlertSignalState,
    AlertSystemState,
    ClockState,
    LimitAlertConditionState,
    LocationContextState,
    LocationDetail,
    MdsState,
    NumericMetricState,
    NumericMetricValue,
    PatientContextState,
    PatientDemographics,
    Quality,
    RealTimeSampleArrayMetricState,
    SampleArrayValue,
)
from mdib_models.updates import DescriptionPart, LinkUpdate, Report
from sdc_node.association import Associations

T0 = 1_800_000_000_000
ROOT = "urn:oid:1.3.6.1.4.1.99999.1"
NURSE = (InstanceIdentifier(root=ROOT, extension="nurse-7"),)


def code(number):
    return CodedValue(str(number))


def metric(handle, number, unit, availability="Cont", category="Msrmt"):
    return NumericMetricDescriptor(
        handle=handle,
        parent="ch",
        type=code(number),
        unit=code(unit),
        metric_category=category,
        metric_availability=availability,
        resolution=Decimal("0.1"),
    )


DESCRIPTORS = (
    MdsDescriptor(handle="mds", type=code(69965)),
    ClockDescriptor(handle="clock", parent="mds"),
    SystemContextDescriptor(handle="sc", parent="mds"),
    PatientContextDescriptor(handle="pc", parent="sc"),
    LocationContextDescriptor(handle="lc", parent="sc"),
    AlertSystemDescriptor(handle="asy", parent="mds"),
    LimitAlertConditionDescriptor(
        handle="ac.spo2",
        parent="asy",
        type=code(196672),
        kind="Phy",
        priority="Me",
        source=("m.spo2",),
        max_limits=Range(),
    ),
    AlertSignalDescriptor(
        handle="as.spo2", parent="asy", condition_signaled="ac.spo2", manifestation="Aud", latching=False
    ),
    VmdDescriptor(handle="vmd", parent="mds", type=code(69686)),
    ChannelDescriptor(handle="ch", parent="vmd", type=code(69687)),
    metric("m.hr", 147842, 264864),
    metric("m.spo2", 150456, 262688),
    metric("m.sys", 150021, 266016, "Intr"),
    metric("m.dia", 150022, 266016, "Intr"),
    metric("m.limit", 16929196, 263762, category="Set"),
    RealTimeSampleArrayMetricDescriptor(
        handle="m.ecg",
        parent="ch",
        type=code(131330),
        unit=code(266418),
        metric_category="Msrmt",
        metric_availability="Cont",
        resolution=Decimal("0.01"),
        sample_period=0.004,
    ),
)
STATES = (
    MdsState(descriptor_handle="mds", operating_mode="Dmo"),
    ClockState(descriptor_handle="clock", remote_sync=True),
    AlertSystemState(descriptor_handle="asy", activation_state="On"),
    LimitAlertConditionState(
        descriptor_handle="ac.spo2", activation_state="On", limits=Range(Decimal(90), Decimal(100))
    ),
    AlertSignalState(descriptor_handle="as.spo2", activation_state="On"),
    *(NumericMetricState(descriptor_handle=name) for name in ("m.hr", "m.spo2", "m.sys", "m.dia", "m.limit")),
    RealTimeSampleArrayMetricState(descriptor_handle="m.ecg"),
)


class Bedside:
    """One device. Each verb reports something at `at` (ms) and gives the batch, as a sink gets it from the pipeline.

    With `raw=True` it is the batch as it leaves the consumer's wing.
    """

    t0 = T0
    metric = staticmethod(metric)

    def __init__(self, epr="urn:uuid:bed00000-0000-4000-8000-000000000001", *, raw=False):
        self.device = DeviceId(epr)
        self.raw = raw
        self.mdib = Mdib(
            device=self.device,
            version=MdibVersionGroup("urn:uuid:5e000000-0000-4000-8000-000000000001", 1),
            descriptors={one.handle: one for one in DESCRIPTORS},
            states={one.descriptor_handle: one for one in STATES},
        )
        self._associations = Associations()
        self._alerts = {}

    def complete(self, batch):
        if self.raw:
            return batch
        batch = msgspec.structs.replace(batch, associations=self._associations.of(batch))
        stepped = step(self._alerts, batch)
        self._alerts = dict(stepped.open)
        return msgspec.structs.replace(batch, occurrences=stepped.occurrences)

    def snapshot(self, at=T0):
        """The first GetMdib."""
        return self.complete(mirror.snapshot(mirror.empty(self.device), self.mdib, at))

    def again(self, before, at):
        """GetMdib after something was missed since `before`."""
        return self.complete(mirror.snapshot(before, self.mdib, at))

    def link(self, state, at, reason="test"):
        return self.complete(mirror.link(self.mdib, LinkUpdate(state, reason), at))

    def values(self, at, times=None, validity="Vld", **values):
        """`hr=72` is metric m.hr; `times` are determination times: {"hr": ms}, or one for all, or None for none."""
        states = []
        for name, value in values.items():
            time = times.get(name) if isinstance(times, dict) else times
            got = NumericMetricValue(quality=Quality(validity), determination_time=time, value=Decimal(str(value)))
            states.append(self._next(f"m.{name}", metric_value=got))
        return self.report("metric", at, *states)

    def waveform(self, at, samples="1 2 3 4"):
        got = SampleArrayValue(quality=Quality("Vld"), determination_time=at, samples=samples)
        return self.report("waveform", at, self._next("m.ecg", metric_value=got))

    def alarm(self, at, present, priority=None):
        condition = self._next("ac.spo2", presence=present, determination_time=at, actual_priority=priority)
        signal = self._next("as.spo2", presence="On" if present else "Off")
        return self.report("alert", at, condition, signal)

    def clock(self, at, shows):
        return self.report("component", at, self._next("clock", date_and_time=shows))

    def mode(self, at, mode):
        return self.report("component", at, self._next("mds", operating_mode=mode))

    def patient(self, at, who, *, association="Assoc", validator=NURSE, weight=None, handle=None, bound=0):
        """Associate `who`, and disassociate whoever else was."""
        core = PatientDemographics(
            familyname=f"Name-{who}", sex="F", weight=None if weight is None else Measurement(Decimal(weight), code(1))
        )
        handle = handle or f"pc.{who}"
        states = [
            msgspec.structs.replace(old, state_version=old.state_version + 1, context_association="Dis")
            for old in self.mdib.contexts.values()
            if isinstance(old, PatientContextState) and old.handle != handle and old.context_association == "Assoc"
        ]
        known = self.mdib.contexts.get(handle)
        version = 0 if known is None else known.state_version + 1
        identified = InstanceIdentifier(root=ROOT, extension=f"P-{who}", type=CodedValue("MR", HL7_0203))
        states.append(
            PatientContextState(
                descriptor_handle="pc",
                handle=handle,
                state_version=version,
                context_association=association,
                binding_start_time=bound,
                validator=validator,
                identification=(identified,),
                core_data=core,
            )
        )
        return self.report("context", at, *states)

    def handover(self, at):
        """An alert that is open while its patient leaves, and that the next patient has too."""
        return [
            self.snapshot(at),
            self.patient(at + 1, "a"),
            self.alarm(at + 2, present=True),
            self.patient(at + 3, "b"),
            self.alarm(at + 4, present=False),
        ]

    def location(self, at, bed, *, handle="lc.1", validator=NURSE, association="Assoc"):
        known = self.mdib.contexts.get(handle)
        state = LocationContextState(
            descriptor_handle="lc",
            handle=handle,
            state_version=0 if known is None else known.state_version + 1,
            context_association=association,
            validator=validator,
            location_detail=LocationDetail(bed=bed),
        )
        return self.report("context", at, state)

    def describe(self, at, descriptor, *states, modification="Crt"):
        return self.report("description", at, part=DescriptionPart(modification, (descriptor,), states))

    def report(self, kind, at, *states, part=None):
        version = msgspec.structs.replace(self.mdib.version, mdib_version=self.mdib.version.mdib_version + 1)
        report = Report(kind=kind, version=version, arrived=at, states=states, description=(part,) if part else ())
        folded = mirror.fold(self.mdib, report)
        assert isinstance(folded, mirror.Folded), folded
        assert not folded.violations
        self.mdib = folded.mdib
        return self.complete(folded.batch)

    def _next(self, handle, **changes):
        old = self.mdib.states[handle]
        return msgspec.structs.replace(old, state_version=old.state_version + 1, **changes)


@pytest.fixture(scope="session")
def bedside():
    """Makes bedside monitors."""
    return Bedside
