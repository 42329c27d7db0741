"""Metric values as FHIR Observations (PoCD Numeric-, EnumerationObservation; fhir_mapping 1.3 to 1.6). Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from mdib_models.coding import CodedValue
from mdib_models.descriptors import (
    AlertConditionDescriptor,
    ClockDescriptor,
    EnumStringMetricDescriptor,
    NumericMetricDescriptor,
    StringMetricDescriptor,
)
from mdib_models.identity import Handle
from mdib_models.mirror import Mdib
from mdib_models.states import (
    AlertConditionState,
    ClockState,
    EnumStringMetricState,
    MdsState,
    NumericMetricState,
    NumericMetricValue,
    StringMetricState,
    StringMetricValue,
)
from mdib_models.updates import Association
from sdc_node.sinks.fhir.device import language, without_empty
from sdc_node.sinks.fhir.identity import Device, Identifier, patient_reference
from sdc_node.sinks.fhir.metric import range_quantities
from sdc_node.sinks.fhir.terms import (
    MEASUREMENT_STATUS,
    OBSERVATION_CATEGORY,
    POCD,
    Json,
    VitalSign,
    coded,
    concept,
    text,
    unit_fields,
    units,
    vital_sign,
)
from sdc_node.sinks.fhir.validity import HTEST, judged

ExportedDescriptor = NumericMetricDescriptor | StringMetricDescriptor | EnumStringMetricDescriptor
ExportedState = NumericMetricState | StringMetricState | EnumStringMetricState

CLOCK_LIMIT = 10_000
"""How far (ms) a continuous value's time may be from its arrival before the device's clock is held to be wrong."""

_NOT_IN_FORCE = frozenset({"Preset", "Rcmm"})
"""Settings that were prepared or are recommended: the device does not act on them."""
_VENTILATORS = frozenset({"70001", "70002", "70003"})
"""MDC_DEV_SYS_PT_VENT_*: what these measure is what the machine does, not a spontaneous vital sign (mapping 1.10)."""


class Sample(msgspec.Struct, frozen=True):
    """One metric state to export, with when its value was determined and when it arrived (ms since the epoch).

    `time` is the device's time where that can be believed, else the arrival.
    """

    state: ExportedState
    time: int
    arrived: int


class Skipped(Exception):  # noqa: N818  # an outcome that is counted, not a fault
    """A sample that gives no Observation; `reason` is a word for a counter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Context(msgspec.Struct, frozen=True):
    """What the Observations of one MDS share."""

    mdib: Mdib
    identities: Device
    association: Association
    alarms: Mapping[Handle, str]
    """`in-alarm` or `alarm-inhibited` of each metric that is (fhir_mapping 1.4)."""
    clock_unsynced: bool
    """Whether the MDS says that its clock is not to be trusted (fhir_mapping 1.6)."""


def context(mdib: Mdib, identities: Device, association: Association) -> Context:
    """Look once at what every Observation of the MDS needs."""
    return Context(mdib, identities, association, _alarms(mdib), _clock_unsynced(mdib, identities.mds))


def instant(ms: int) -> str:
    """Milliseconds since the epoch as an R4 instant in UTC (mapping 1.6). Raises Skipped beyond year 9999."""
    try:
        return f"{datetime.fromtimestamp(ms // 1000, UTC).isoformat()[:19]}.{ms % 1000:03d}Z"
    except (OverflowError, ValueError, OSError):
        raise Skipped("time-out-of-range") from None


def meta_source(mdib: Mdib) -> str:
    """`<epr>#<MdibVersion>`: which device said so, and when in its history (mapping 1.9)."""
    device = "".join(mdib.device.split())
    return f"{device if ':' in device else 'urn:uuid:' + device}#{mdib.version.mdib_version}"


def is_test(mdib: Mdib, mds: Handle) -> bool:
    """Whether an MDS says that it is not caring for a patient: demo, service or maintenance (SDPi R8118)."""
    state = mdib.states.get(mds)
    return isinstance(state, MdsState) and state.operating_mode != "Nml"


def observation(shared: Context, sample: Sample) -> Json:
    """The Observation of one metric state. Raises Skipped."""
    mdib, identities, state = shared.mdib, shared.identities, sample.state
    descriptor = mdib.find(state.descriptor_handle)
    if not isinstance(descriptor, ExportedDescriptor):
        raise Skipped("not-a-metric")
    if descriptor.metric_category in _NOT_IN_FORCE:
        raise Skipped("not-in-force")
    value = state.metric_value
    if value is None:
        raise Skipped("no-value-yet")
    lang = language(mdib, identities.mds)
    sites = state.body_site or descriptor.body_site
    setting = descriptor.metric_category == "Set"
    patient = None if setting else patient_reference(shared.association.patient)
    vital = _vital_sign(shared, descriptor, sites) if patient is not None else None
    code = concept(descriptor.type, lang, loinc=vital.loinc if vital else ())
    if code is None:
        raise Skipped("no-code")
    found: Json = {
        "resourceType": "Observation",
        "identifier": [_identifier(shared, sample).json()],
        "category": _category(identities, setting=setting, vital=vital is not None),
        "code": code,
        "subject": patient or identities.identifier.reference("Device"),
        **_effective(descriptor, value, sample.time),
        "issued": instant(sample.arrived),
        "bodySite": concept(sites[0], lang) if sites else None,
        "device": identities.metric(descriptor.handle).reference("DeviceMetric"),
        "referenceRange": _reference_ranges(descriptor, state, lang),
        **judged(value.quality.validity, _value(descriptor, value, lang, vital)),
    }
    if "dataAbsentReason" not in found and (alarm := shared.alarms.get(descriptor.handle)):
        found.setdefault("interpretation", []).append(coded(MEASUREMENT_STATUS, alarm))
    if value.quality.mode != "Real" or is_test(mdib, identities.mds):
        found["meta"]["security"].append(HTEST)
    if shared.clock_unsynced or _time_is_off(descriptor, sample):
        found["meta"]["tag"] = [{"system": identities.names.codes("tag"), "code": "clock-unsynced"}]
    kind = "Numeric" if isinstance(descriptor, NumericMetricDescriptor) else "Enumeration"
    found["meta"] = without_empty(
        {"source": meta_source(mdib), "profile": [f"{POCD}{kind}Observation"], **found["meta"]}
    )
    return without_empty(found)


def _identifier(shared: Context, sample: Sample) -> Identifier:
    """`<mds>|<metric handle>|<DeterminationTime ms>|<StateVersion>` of a device and sequence (mapping 1.11)."""
    version, state = shared.mdib.version, sample.state
    determined = state.metric_value.determination_time if state.metric_value is not None else None
    return shared.identities.observation(
        version.sequence_id,
        "" if version.instance_id is None else str(version.instance_id),
        shared.identities.mds,
        state.descriptor_handle,
        "" if determined is None else str(determined),
        str(state.state_version),
    )


def _category(identities: Device, *, setting: bool, vital: bool) -> list[Json]:
    if vital:
        return [coded(OBSERVATION_CATEGORY, "vital-signs")]
    return [coded(identities.names.codes("obs-category"), "device-setting")] if setting else []


def _vital_sign(shared: Context, descriptor: ExportedDescriptor, sites: tuple[CodedValue, ...]) -> VitalSign | None:
    """The vital sign of a metric, if it is measured on the patient and in a unit that the profile allows."""
    vital = vital_sign(descriptor.type, sites)
    if vital is None or descriptor.metric_category not in {"Msrmt", "Clc"}:
        return None
    if not vital.units.intersection(units(descriptor.unit)):
        return None
    for above in shared.mdib.path(descriptor.handle):
        if above.type is not None and above.type.is_mdc and above.type.code in _VENTILATORS:
            return None
    return vital


def _effective(descriptor: ExportedDescriptor, value: NumericMetricValue | StringMetricValue, time: int) -> Json:
    """A Period for averaged values and where there is no other time; otherwise when it was determined (1.6)."""
    start, stop = value.start_time, value.stop_time
    averaged = getattr(descriptor, "averaging_period", None) is not None
    if start is not None and stop is not None and start <= stop and (averaged or value.determination_time is None):
        return {"effectivePeriod": {"start": instant(start), "end": instant(stop)}}
    return {"effectiveDateTime": instant(time)}


def _value(
    descriptor: ExportedDescriptor,
    value: NumericMetricValue | StringMetricValue,
    lang: str,
    vital: VitalSign | None,
) -> Json | None:
    if isinstance(descriptor, NumericMetricDescriptor):
        number = value.value if isinstance(value, NumericMetricValue) else None
        if number is None or not number.is_finite():
            return None
        unit = unit_fields(descriptor.unit, lang, vital.units if vital else None)
        return {"valueQuantity": {"value": number, **unit}}
    word = text(value.value) if isinstance(value, StringMetricValue) else None
    if word is None:
        return None
    for allowed in descriptor.allowed_value if isinstance(descriptor, EnumStringMetricDescriptor) else ():
        if allowed.value == word and (meaning := concept(allowed.type, lang)):
            return {"valueCodeableConcept": meaning | {"text": word}}
    return {"valueString": word}


def _reference_ranges(descriptor: ExportedDescriptor, state: ExportedState, lang: str) -> list[Json]:
    if not isinstance(state, NumericMetricState):
        return []
    unit = unit_fields(descriptor.unit, lang)
    ranges = (range_quantities(limits, unit) for limits in state.physiological_range)
    return [bounds for bounds in ranges if bounds]


def _clock_unsynced(mdib: Mdib, mds: Handle) -> bool:
    """Whether a clock of the MDS is not synchronised, or stepped and still shows times from before (SDPi R1522)."""
    clocks = (mdib.states.get(child.handle) for child in mdib.children(mds) if isinstance(child, ClockDescriptor))
    return any(
        isinstance(clock, ClockState) and (not clock.remote_sync or clock.activation_state == "StndBy")
        for clock in clocks
    )


def _time_is_off(descriptor: ExportedDescriptor, sample: Sample) -> bool:
    """Whether a continuous value's time cannot be true: beyond CLOCK_LIMIT ahead, or older than a new one can be."""
    if descriptor.metric_availability != "Cont":
        return False
    age = sample.arrived - sample.time
    period = max(0.0, descriptor.determination_period or 0.0) * 1000
    return age < -CLOCK_LIMIT or age > CLOCK_LIMIT + period


def _alarms(mdib: Mdib) -> dict[Handle, str]:
    found: dict[Handle, str] = {}
    for descriptor in mdib.descriptors.values():
        state = mdib.states.get(descriptor.handle)
        if not isinstance(descriptor, AlertConditionDescriptor) or not isinstance(state, AlertConditionState):
            continue
        system = mdib.states.get(descriptor.parent or "")
        off = "Off" in {state.activation_state, getattr(system, "activation_state", "On")}
        for source in descriptor.source:
            if state.presence and state.activation_state == "On":
                found[source] = "in-alarm"
            elif off:
                found.setdefault(source, "alarm-inhibited")
    return found
