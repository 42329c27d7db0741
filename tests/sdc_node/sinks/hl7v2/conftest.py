"""The monitor of the mapping's worked examples: SpO2 continuous, NIBP intermittent, one private setting."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from mdib_models.coding import (
    HL7_0203,
    AllowedValue,
    CodedValue,
    InstanceIdentifier,
    LocalizedText,
    Measurement,
    Range,
    Translation,
)
from mdib_models.descriptors import (
    AlertConditionDescriptor,
    AlertSystemDescriptor,
    ChannelDescriptor,
    EnumStringMetricDescriptor,
    LimitAlertConditionDescriptor,
    LocationContextDescriptor,
    MdsDescriptor,
    NumericMetricDescriptor,
    PatientContextDescriptor,
    RealTimeSampleArrayMetricDescriptor,
    StringMetricDescriptor,
    SystemContextDescriptor,
    VmdDescriptor,
)
from mdib_models.identity import DeviceId, MdibVersionGroup, MdsKey
from mdib_models.mirror import Mdib
from mdib_models.states import (
    AlertConditionState,
    AlertSystemState,
    EnumStringMetricState,
    LimitAlertConditionState,
    LocationContextState,
    LocationDetail,
    MdsState,
    NumericMetricState,
    NumericMetricValue,
    PatientContextState,
    PatientDemographics,
    Quality,
    StringMetricState,
    StringMetricValue,
)
from mdib_models.updates import Association
from sdc_node.sinks.hl7v2.containment import numbered
from sdc_node.sinks.hl7v2.interval import Determination, Gateway, Interval, Stamps

DEVICE = DeviceId("urn:uuid:5e1f0000-0000-4000-8000-000000000001")
SEQUENCE = "urn:uuid:ae3170b5-4fd7-43b5-94c6-71b933342ffe"
ROOT = "urn:oid:1.3.6.1.4.1.99999.1"
VALIDATOR = (InstanceIdentifier(root=ROOT, extension="nurse-7"),)


def at(text):
    """Milliseconds since the epoch of an ISO time in UTC."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def mdc(code, text=None, name=None):
    return CodedValue(
        str(code), symbolic_code_name=name, concept_description=(LocalizedText(text, "en"),) if text else ()
    )


def private(code, name=None):
    translation = Translation(str(code), "urn:oid:1.3.6.1.4.1.12345.2.1.1")
    return CodedValue(str(code), symbolic_code_name=name, translation=(translation,))


def numeric(handle, value, *, time=None, validity="Vld", version=1):
    quality = Quality(validity)
    metric_value = NumericMetricValue(value=Decimal(value), quality=quality, determination_time=time)
    return NumericMetricState(descriptor_handle=handle, state_version=version, metric_value=metric_value)


def _metric(handle, parent, code, unit, **more):
    fields = {"metric_category": "Msrmt", "metric_availability": "Cont", "resolution": Decimal(1)} | more
    return NumericMetricDescriptor(handle=handle, parent=parent, type=mdc(code), unit=mdc(unit), **fields)


def _descriptors():
    nibp = {"metric_availability": "Intr", "body_site": (mdc(460533),)}
    on_off = (
        AllowedValue("ON", private(67108877, "ON")),
        AllowedValue("PLAIN"),
    )
    return [
        MdsDescriptor(
            handle="mds0",
            type=mdc(69965),
            equipment_identifier="urn:uuid:9c057bb4-8d83-4fc1-9ad1-832ad543e2b2",
        ),
        SystemContextDescriptor(handle="sc", parent="mds0"),
        PatientContextDescriptor(handle="pc", parent="sc"),
        LocationContextDescriptor(handle="lc", parent="sc"),
        AlertSystemDescriptor(handle="asy", parent="mds0"),
        AlertConditionDescriptor(
            handle="ac.ecg.leadoff",
            parent="asy",
            kind="Tec",
            priority="Lo",
            type=mdc(196882, "!! ECG Leads Off", "MDC_EVT_LEADS_OFF"),
        ),
        VmdDescriptor(
            handle="vmd.spo2",
            parent="mds0",
            type=CodedValue("69642", symbolic_code_name="MDC_DEV_ANALY_SAT_O2_VMD"),
            equipment_identifier="urn:uuid:84051cdb-5353-47af-a916-b1f007e08ed8",
        ),
        AlertSystemDescriptor(handle="asy.spo2", parent="vmd.spo2"),
        LimitAlertConditionDescriptor(
            handle="ac.spo2.lo",
            parent="asy.spo2",
            kind="Phy",
            priority="Me",
            source=("m.spo2",),
            type=mdc(196670, "** SpO2 86 < 90"),
            max_limits=Range(),
        ),
        LimitAlertConditionDescriptor(
            handle="ac.pr", parent="asy.spo2", kind="Phy", priority="Me", source=("m.pr",), max_limits=Range()
        ),
        ChannelDescriptor(
            handle="ch.spo2",
            parent="vmd.spo2",
            type=CodedValue("69643", symbolic_code_name="MDC_DEV_ANALY_SAT_O2_CHAN"),
        ),
        _metric("m.spo2", "ch.spo2", 150456, 262688),
        _metric("m.pr", "ch.spo2", 149530, 264864),
        RealTimeSampleArrayMetricDescriptor(
            handle="m.pleth",
            parent="ch.spo2",
            type=mdc(150452),
            unit=mdc(262656),
            metric_category="Msrmt",
            metric_availability="Cont",
            resolution=Decimal(1),
            sample_period=0.01,
        ),
        VmdDescriptor(handle="vmd.nibp", parent="mds0", type=mdc(70686)),
        ChannelDescriptor(handle="ch.nibp", parent="vmd.nibp", type=mdc(70687)),
        _metric("m.sys", "ch.nibp", 150021, 266016, **nibp),
        _metric("m.dia", "ch.nibp", 150022, 266016, **nibp),
        _metric("m.map", "ch.nibp", 150023, 266016, **nibp),
        EnumStringMetricDescriptor(
            handle="m.mode",
            parent="ch.nibp",
            type=private(67108875),
            unit=mdc(262656),
            metric_category="Set",
            metric_availability="Intr",
            allowed_value=on_off,
        ),
        StringMetricDescriptor(
            handle="m.note",
            parent="ch.nibp",
            type=mdc(68080),
            unit=mdc(262656),
            metric_category="Msrmt",
            metric_availability="Intr",
        ),
    ]


def _states():
    on = {"activation_state": "On"}
    return [
        MdsState(descriptor_handle="mds0"),
        AlertSystemState(descriptor_handle="asy", **on),
        AlertSystemState(descriptor_handle="asy.spo2", **on),
        AlertConditionState(descriptor_handle="ac.ecg.leadoff", **on),
        LimitAlertConditionState(
            descriptor_handle="ac.spo2.lo", limits=Range(lower=Decimal(90), upper=Decimal(100)), **on
        ),
        LimitAlertConditionState(descriptor_handle="ac.pr", limits=Range(lower=Decimal(50), upper=Decimal(120)), **on),
        numeric("m.spo2", "86"),
    ]


@pytest.fixture
def mdib():
    return Mdib(
        device=DEVICE,
        version=MdibVersionGroup(SEQUENCE, 45),
        descriptors={descriptor.handle: descriptor for descriptor in _descriptors()},
        states={state.descriptor_handle: state for state in _states()},
    )


def _identified(extension, kind):
    return InstanceIdentifier(root=ROOT, extension=extension, type=CodedValue(kind, HL7_0203))


@pytest.fixture
def association():
    patient = PatientContextState(
        descriptor_handle="pc",
        handle="pc.1",
        context_association="Assoc",
        binding_start_time=at("2026-03-02T08:00:00"),
        validator=VALIDATOR,
        identification=(_identified("0815", "MR"), _identified("V4711", "VN")),
        core_data=PatientDemographics(
            familyname="Doe",
            givenname="Jane",
            sex="F",
            date_of_birth="1970-01-31",
            height=Measurement(Decimal(168), mdc(263441)),
            weight=Measurement(Decimal("62.5"), mdc(263875)),
        ),
    )
    place = LocationDetail(po_c="ICU1", room="R3", bed="B2", facility="HOSP1", building="MAIN", floor="4")
    location = LocationContextState(
        descriptor_handle="lc",
        handle="lc.1",
        context_association="Assoc",
        validator=VALIDATOR,
        location_detail=place,
    )
    return Association(patient=patient, location=location)


@pytest.fixture
def gateway():
    return Gateway(
        application="SDC_GW",
        eui64="ACDE48234567ABCD",
        facility="HOSP1",
        receiving_application="HIS_DOC",
        receiving_facility="HOSP1",
        patient_class="I",
    )


@pytest.fixture
def stamps(mdib, gateway):
    numbers: dict[tuple[str, str], int] = {}
    siblings: dict[str, int] = {}
    for parent, handle in numbered(mdib, "mds0"):
        if handle == "m.pleth":  # no row of its own, hence no number
            continue
        numbers[parent, handle] = siblings[parent] = siblings.get(parent, 0) + 1
    return Stamps(
        control_id="SDCGW-20260302-000117",
        built=at("2026-03-02T10:16:00.120"),
        gateway=gateway,
        numbers=numbers,
        order_id="ACDE48234567ABCD-20260302101530-1",
    )


@pytest.fixture
def interval(mdib, association):
    measured = at("2026-03-02T10:15:41.250")
    switched = at("2026-03-02T10:15:32")
    mode = EnumStringMetricState(
        descriptor_handle="m.mode", metric_value=StringMetricValue(value="ON", quality=Quality("Vld"))
    )
    intermittent = [Determination(mode, switched)]
    for handle, value in (("m.sys", "124"), ("m.dia", "78"), ("m.map", "93")):
        intermittent.append(Determination(numeric(handle, value, time=measured, validity="Vldated"), measured))
    return Interval(
        key=MdsKey(DEVICE, "mds0"),
        start=at("2026-03-02T10:15:30"),
        end=at("2026-03-02T10:16:00"),
        mdib=mdib,
        association=association,
        continuous={
            "m.spo2": Determination(numeric("m.spo2", "97"), at("2026-03-02T10:15:59")),
            "m.pr": Determination(numeric("m.pr", "72"), at("2026-03-02T10:15:59")),
        },
        intermittent=tuple(intermittent),
    )


@pytest.fixture
def text_state():
    """A string metric's state with a value of one's own."""

    def make(value, *, validity="Vld", mode="Real"):
        quality = Quality(validity, mode)
        return StringMetricState(
            descriptor_handle="m.note", metric_value=StringMetricValue(value=value, quality=quality)
        )

    return make
