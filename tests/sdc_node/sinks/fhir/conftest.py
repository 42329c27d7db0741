"""A small monitor as a mirror, and a check of R4 resources that shares nothing with renderer or receiver."""

import re
from decimal import Decimal

import msgspec
import pytest

from mdib_models.coding import AllowedValue, CodedValue, InstanceIdentifier, LocalizedText, Range
from mdib_models.descriptors import (
    AlertSignalDescriptor,
    AlertSystemDescriptor,
    ChannelDescriptor,
    ClockDescriptor,
    EnumStringMetricDescriptor,
    LimitAlertConditionDescriptor,
    MdsDescriptor,
    MetaData,
    NumericMetricDescriptor,
    ProductionSpecification,
    RealTimeSampleArrayMetricDescriptor,
    StringMetricDescriptor,
    Udi,
    VmdDescriptor,
)
from mdib_models.identity import DeviceId, MdibVersionGroup
from mdib_models.mirror import Mdib
from mdib_models.states import (
    AlertSignalState,
    AlertSystemState,
    ChannelState,
    ClockState,
    EnumStringMetricState,
    LimitAlertConditionState,
    LocationContextState,
    MdsState,
    NumericMetricState,
    NumericMetricValue,
    PatientContextState,
    Quality,
    RealTimeSampleArrayMetricState,
    StringMetricState,
    StringMetricValue,
    VmdState,
)
from mdib_models.updates import Association
from sdc_node.sinks.fhir.observation import Sample

T0 = 1_763_805_600_125  # 2025-11-22T10:00:00.125Z
HL7_0203 = "urn:oid:2.16.840.1.113883.18.108"


def code(number, name=None, text=None, translation=()):
    described = (LocalizedText(text=text, lang="en"),) if text else ()
    return CodedValue(code=str(number), symbolic_code_name=name, concept_description=described, translation=translation)


def metric(kind, handle, parent, number, unit, **fields):
    fields = {"metric_category": "Msrmt", "metric_availability": "Cont"} | fields
    if kind is NumericMetricDescriptor:
        fields = {"resolution": Decimal("0.1")} | fields
    return kind(handle=handle, parent=parent, type=code(number), unit=code(unit), **fields)


DESCRIPTORS = (
    MdsDescriptor(
        handle="mds0",
        type=code(69965, "MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS", "Monitor"),
        equipment_identifier="urn:uuid:5b1a9a1e-0000-4000-8000-000000000001",
        meta_data=MetaData(
            udi=(Udi("00099999000015", "(01)00099999000015(21)SN-1", InstanceIdentifier(root="urn:oid:2.51.1.1")),),
            lot_number="L1",
            manufacturer=(LocalizedText(text="Makers", lang="en"),),
            manufacture_date="2024-05-06Z",
            model_name=(LocalizedText(text="Modell", lang="de"), LocalizedText(text="Model", lang="en")),
            model_number="1",
            serial_number=("SN-1",),
        ),
        production_specification=(
            ProductionSpecification(code(531975, "MDC_ID_PROD_SPEC_SW"), "0.1.0"),
            ProductionSpecification(code(531973), "PART-7"),
            ProductionSpecification(
                code(531974, "MDC_ID_PROD_SPEC_HW"), "A", InstanceIdentifier("1.3.6.1.4.1.99999.3", "mainboard")
            ),
        ),
    ),
    ClockDescriptor(handle="clock", parent="mds0", time_protocol=(code(532226, "MDC_TIME_SYNC_NTPV4"),)),
    AlertSystemDescriptor(handle="asy", parent="mds0"),
    LimitAlertConditionDescriptor(
        handle="ac.spo2.lo",
        parent="asy",
        type=code(196672, "MDC_EVT_LO_LT_LIM", "SpO2 low"),
        kind="Phy",
        priority="Me",
        source=("m.spo2", "vmd"),
        max_limits=Range(Decimal(0), Decimal(100)),
    ),
    AlertSignalDescriptor(
        handle="as.spo2.aud", parent="asy", condition_signaled="ac.spo2.lo", manifestation="Aud", latching=True
    ),
    VmdDescriptor(handle="vmd", parent="mds0", type=code(69686), safety_classification="MedA"),
    ChannelDescriptor(handle="ch", parent="vmd", type=code(69687)),
    metric(
        NumericMetricDescriptor,
        "m.hr",
        "ch",
        147842,
        264864,
        resolution=Decimal(1),
        determination_period=1.0,
        technical_range=(Range(Decimal(0), Decimal(300), step_width=Decimal(1)),),
    ),
    metric(NumericMetricDescriptor, "m.spo2", "ch", 150456, 262688),
    metric(NumericMetricDescriptor, "m.temp", "ch", 150344, 268192, body_site=(code(460492),)),
    metric(NumericMetricDescriptor, "m.sys", "ch", 150021, 266016, metric_availability="Intr"),
    metric(NumericMetricDescriptor, "m.rate.set", "ch", 16929196, 263762, metric_category="Set"),
    metric(StringMetricDescriptor, "m.note", "ch", 67996, 262656, metric_availability="Intr"),
    metric(
        EnumStringMetricDescriptor,
        "m.rhythm",
        "ch",
        184327,
        262656,
        allowed_value=(AllowedValue("sinus", code(147232, "MDC_ECG_SINUS_RHY", "Sinus rhythm")), AllowedValue("odd")),
    ),
    RealTimeSampleArrayMetricDescriptor(
        handle="m.ecg",
        parent="ch",
        type=code(131330, "MDC_ECG_ELEC_POTL_II"),
        unit=code(266418),
        metric_category="Msrmt",
        metric_availability="Cont",
        resolution=Decimal("0.01"),
        sample_period=0.004,
    ),
)


def numeric(handle, value, validity="Vld", *, time=T0, **fields):
    number = None if value is None else Decimal(value)
    got = NumericMetricValue(quality=Quality(validity), determination_time=time, value=number)
    return NumericMetricState(descriptor_handle=handle, state_version=7, metric_value=got, **fields)


def words(kind, handle, value, validity="Vld"):
    got = StringMetricValue(quality=Quality(validity), determination_time=T0, value=value)
    return kind(descriptor_handle=handle, state_version=7, metric_value=got)


STATES = (
    MdsState(descriptor_handle="mds0", operating_hours=12, operating_cycles=3),
    ClockState(descriptor_handle="clock", remote_sync=True, accuracy=Decimal("0.05")),
    AlertSystemState(descriptor_handle="asy", activation_state="On"),
    LimitAlertConditionState(
        descriptor_handle="ac.spo2.lo", activation_state="On", limits=Range(Decimal(90), Decimal("100.0"))
    ),
    AlertSignalState(descriptor_handle="as.spo2.aud", activation_state="On"),
    VmdState(descriptor_handle="vmd"),
    ChannelState(descriptor_handle="ch", activation_state="StndBy"),
    numeric("m.hr", "72.50", physiological_range=(Range(Decimal(50), Decimal(120)),)),
    numeric("m.spo2", "88"),
    numeric("m.temp", "36.90"),
    numeric("m.sys", "120"),
    numeric("m.rate.set", "450"),
    words(StringMetricState, "m.note", "all well"),
    words(EnumStringMetricState, "m.rhythm", "sinus"),
    RealTimeSampleArrayMetricState(descriptor_handle="m.ecg"),
)

PATIENT = PatientContextState(
    descriptor_handle="pc",
    handle="pc.1",
    context_association="Assoc",
    identification=(
        InstanceIdentifier("1.3.6.1.4.1.99999.1", "V-9", CodedValue(code="VN", coding_system=HL7_0203)),
        InstanceIdentifier("urn:oid:1.3.6.1.4.1.99999.2", "P-77", CodedValue(code="MR", coding_system=HL7_0203)),
    ),
)
LOCATION = LocationContextState(
    descriptor_handle="lc",
    handle="lc.1",
    context_association="Assoc",
    identification=(InstanceIdentifier("sdc.ctxt.loc.detail", "ward/bed1"),),
)


class Monitor:
    """The mirror, and ways to change it for one test."""

    t0 = T0
    code = staticmethod(code)
    numeric = staticmethod(numeric)
    words = staticmethod(words)
    metric = staticmethod(metric)
    nobody = Association(reason="no-context")
    somebody = Association(patient=PATIENT, location=LOCATION)

    def mdib(self, *states, descriptors=(), device="urn:uuid:e0000000-0000-4000-8000-000000000001", version=4):
        return Mdib(
            device=DeviceId(device),
            version=MdibVersionGroup("urn:uuid:50000000-0000-4000-8000-000000000001", version),
            descriptors={one.handle: one for one in (*DESCRIPTORS, *descriptors)},
            states={one.descriptor_handle: one for one in (*STATES, *states)},
        )

    def sample(self, mdib, handle, **fields):
        return Sample(**({"state": mdib.states[handle], "time": T0, "arrived": T0 + 40} | fields))

    def without(self, mdib, *handles):
        kept = {handle: one for handle, one in mdib.descriptors.items() if handle not in handles}
        return msgspec.structs.replace(mdib, descriptors=kept)


@pytest.fixture
def monitor():
    return Monitor()


# What R4 4.0.1 says, written down from the specification's pages for these three resources only.
ALLOWED = {
    "Device": {
        "resourceType meta extension identifier udiCarrier status statusReason manufacturer manufactureDate",
        "expirationDate lotNumber serialNumber deviceName modelNumber partNumber type version property patient",
        "location safety parent",
    },
    "DeviceMetric": {
        "resourceType meta extension identifier type unit source parent operationalStatus category measurementPeriod"
    },
    "Observation": {
        "resourceType meta identifier status category code subject focus effectiveDateTime effectivePeriod issued",
        "valueQuantity valueCodeableConcept valueString dataAbsentReason interpretation bodySite device",
        "referenceRange component",
    },
}
REPEATING = {
    "Device": {
        *("extension", "identifier", "udiCarrier", "statusReason", "deviceName", "version", "property", "safety"),
    },
    "DeviceMetric": {"extension", "identifier"},
    "Observation": {"identifier", "category", "focus", "interpretation", "referenceRange", "component"},
}
REPEATING_INSIDE = ("coding", "profile", "security", "tag")
MANDATORY = {
    "Device": ("identifier", "type", "meta"),
    "DeviceMetric": ("identifier", "type", "category", "source", "parent"),
    "Observation": ("identifier", "status", "code", "subject", "device", "issued"),
}
VALUES = {
    ("Device", "status"): {"active", "inactive", "entered-in-error", "unknown"},
    ("DeviceMetric", "operationalStatus"): {"on", "off", "standby", "entered-in-error"},
    ("DeviceMetric", "category"): {"measurement", "setting", "calculation", "unspecified"},
    ("Observation", "status"): {"preliminary", "final", "amended", "entered-in-error"},
}
ZONED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def walk(value, path=""):
    yield path, value
    if isinstance(value, dict):
        for name, member in value.items():
            yield from walk(member, f"{path}.{name}")
    elif isinstance(value, list):
        for member in value:
            yield from walk(member, path)


def assert_r4(resource):
    kind = resource["resourceType"]
    allowed = set(" ".join(ALLOWED[kind]).split())
    assert set(resource) <= allowed
    for name in MANDATORY[kind]:
        assert name in resource, name
    for name, value in resource.items():
        assert isinstance(value, list) == (name in REPEATING[kind]), name
    for (of, name), codes in VALUES.items():
        if of == kind and name in resource:
            assert resource[name] in codes
    for path, value in walk(resource):
        name = path.rpartition(".")[2]
        assert value not in ([], {}, "", None), path
        assert not isinstance(value, float), f"{path} is a float"
        if isinstance(value, dict):
            assert value.get("system") != "http://unitsofmeasure.org" or value["code"]
            assert all(isinstance(value[member], list) for member in REPEATING_INSIDE if member in value), path
        if name == "coding" and isinstance(value, list):
            for coding in value:
                assert coding["code"].strip() == coding["code"]
                assert ":" in coding["system"]
                assert coding["system"] != "urn:oid:1.2.840.10004.1.1.1.0.0.1"
                if coding["system"] == "urn:iso:std:iso:11073:10101":
                    assert coding["code"].isdecimal()
    if kind == "Observation":
        assert_observation(resource)
    if kind == "DeviceMetric" and "Enumeration" in resource["meta"]["profile"][0]:
        assert "unit" not in resource


def assert_observation(resource):
    for holder in (resource, *resource.get("component", [])):
        values = [name for name in holder if name.startswith("value")]
        assert len(values) + ("dataAbsentReason" in holder) == 1
        assert not ("interpretation" in holder and "dataAbsentReason" in holder)
        if "valueQuantity" in holder:
            assert holder["valueQuantity"].get("system", "http://unitsofmeasure.org") == "http://unitsofmeasure.org"
    assert ("effectiveDateTime" in resource) != ("effectivePeriod" in resource)
    times = [resource["issued"], resource.get("effectiveDateTime"), *resource.get("effectivePeriod", {}).values()]
    assert all(ZONED.fullmatch(time) for time in times if time)
    categories = [one["coding"][0]["code"] for one in resource.get("category", [])]
    if "vital-signs" in categories:
        assert resource["subject"]["type"] == "Patient"
        assert resource["code"]["coding"][0]["system"] == "http://loinc.org"


@pytest.fixture
def r4():
    return assert_r4
