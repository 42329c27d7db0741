"""Alert occurrences as FHIR R4 Observations (fhir_mapping 1.8: R4 has no alert resource). Pure.

One Observation for each occurrence, updated in place: preliminary while it is present or latched, final once it has
ended. Priority, kind, limits, the value and the signals are components.
"""

from collections.abc import Iterator, Mapping

from mdib_models.alerts import AlertOccurrence
from mdib_models.coding import CodedValue
from mdib_models.descriptors import (
    AlertSignalDescriptor,
    ChannelDescriptor,
    MdsDescriptor,
    NumericMetricDescriptor,
    VmdDescriptor,
)
from mdib_models.identity import Handle
from mdib_models.mirror import Mdib
from mdib_models.states import AlertSignalState, NumericMetricState
from sdc_node.sinks.fhir.device import language, without_empty
from sdc_node.sinks.fhir.identity import Device, Identifier, patient_reference
from sdc_node.sinks.fhir.metric import range_quantities
from sdc_node.sinks.fhir.observation import ExportedDescriptor, instant, is_test, meta_source
from sdc_node.sinks.fhir.terms import Json, coded, concept, unit_fields
from sdc_node.sinks.fhir.validity import HTEST

_ALARM = CodedValue(code="196616", symbolic_code_name="MDC_EVT_ALARM")
"""For a condition without a type of its own."""
_VALID = frozenset({"Vld", "Vldated"})
"""What may stand without a mark of doubt, as in HL7 (SDPi R8017)."""
_PRESENCE: Mapping[str, str] = {"active": "present", "latched": "latched", "inactive": "ended"}


def alert_identifier(identities: Device, occurrence: AlertOccurrence) -> Identifier:
    """The one identifier of an occurrence through all its phases."""
    return identities.alert(occurrence.id)


def alert_observation(mdib: Mdib, identities: Device, occurrence: AlertOccurrence, built: int) -> Json:
    """The Observation of an occurrence; `built` (ms) is its `issued`. Raises Skipped for impossible times.

    Subject, limits and value are those of the occurrence; the rest is as it stands in `mdib`.
    """
    lang = language(mdib, identities.mds)
    snapshot = occurrence.snapshot
    codes = identities.names.codes
    sources = [*_sources(mdib, identities, occurrence)]
    metric = next((reference for reference in sources if reference["type"] == "DeviceMetric"), None)
    found: Json = {
        "resourceType": "Observation",
        "meta": without_empty(
            {
                "source": meta_source(mdib),
                "security": [HTEST] if is_test(mdib, identities.mds) else [],
                "tag": [{"system": codes("tag"), "code": "device-alert"}],
            }
        ),
        "identifier": [alert_identifier(identities, occurrence).json()],
        "status": "final" if occurrence.closes else "preliminary",
        "category": [coded(codes("obs-category"), "device-alert")],
        "code": concept(snapshot.code, lang) or concept(_ALARM, lang),
        "subject": patient_reference(occurrence.association.patient) or identities.identifier.reference("Device"),
        "focus": sources,
        "effectivePeriod": _period(occurrence),
        "issued": instant(built),
        "valueCodeableConcept": coded(codes("alert-presence"), _PRESENCE[snapshot.state]),
        "device": metric or identities.identifier.reference("Device"),
        "component": [*_components(mdib, identities, occurrence, lang)],
    }
    return without_empty(found)


def _period(occurrence: AlertOccurrence) -> Json:
    """From the onset to the moment that Presence went false; a latched alert has ended, its signal has not."""
    period = {"start": instant(occurrence.onset)}
    if not occurrence.snapshot.present:
        determined = occurrence.snapshot.determination_time
        known = determined is not None and determined > occurrence.onset
        end = determined if known and determined is not None else occurrence.time
        period["end"] = instant(max(end, occurrence.onset))
    return period


def _sources(mdib: Mdib, identities: Device, occurrence: AlertOccurrence) -> Iterator[Json]:
    """References to the metrics and components that the condition speaks of, those that are in its MDS."""
    for handle in occurrence.snapshot.source:
        descriptor = mdib.find(handle)
        if mdib.mds_of(handle) != identities.mds:  # another MDS's tree has names of its own
            continue
        if isinstance(descriptor, ExportedDescriptor) or hasattr(descriptor, "metric_category"):
            yield identities.metric(handle).reference("DeviceMetric")
        elif isinstance(descriptor, MdsDescriptor | VmdDescriptor | ChannelDescriptor):
            yield identities.component(handle).reference("Device")


def _components(mdib: Mdib, identities: Device, occurrence: AlertOccurrence, lang: str) -> Iterator[Json]:
    snapshot, codes = occurrence.snapshot, identities.names.codes

    def component(name: str, value: Json) -> Json:
        return {"code": coded(codes("alert-component"), name), **value}

    def word(name: str, system: str, code: str) -> Json:
        return component(name, {"valueCodeableConcept": coded(codes(system), code)})

    yield word("phase", "alert-phase", occurrence.phase)
    yield word("priority", "alert-priority", snapshot.priority)
    yield word("kind", "alert-kind", snapshot.kind)
    if snapshot.limits is not None:
        source = _numeric_source(mdib, occurrence)
        unit = unit_fields(source.unit, lang) if source is not None else {}
        for bound, quantity in range_quantities(snapshot.limits, unit).items():
            yield component(f"limit-{bound}", {"valueQuantity": quantity})
    if (value := _number(mdib, occurrence, lang)) is not None:
        yield component("value", {"valueQuantity": value})
    for inactivation in snapshot.inactivation:
        yield word("inactivation", "alert-inactivation", inactivation)
    for descriptor, state in _signals(mdib, occurrence.key.condition):
        values = (descriptor.manifestation, state.presence, state.activation_state)
        systems = ("signal-manifestation", "signal-presence", "signal-activation")
        codings = [{"system": codes(system), "code": code} for system, code in zip(systems, values, strict=True)]
        yield component("signal", {"valueCodeableConcept": {"coding": codings}})


def _numeric_source(mdib: Mdib, occurrence: AlertOccurrence) -> NumericMetricDescriptor | None:
    found = (mdib.find(handle) for handle in occurrence.snapshot.source)
    return next((source for source in found if isinstance(source, NumericMetricDescriptor)), None)


def _number(mdib: Mdib, occurrence: AlertOccurrence, lang: str) -> Json | None:
    """The value that the condition stood on, where it is a valid number: a component has no place to doubt it."""
    state = occurrence.captured
    value = state.metric_value if isinstance(state, NumericMetricState) else None
    if state is None or value is None or value.value is None or not value.value.is_finite():
        return None
    metric = mdib.find(state.descriptor_handle)
    if value.quality.validity not in _VALID or not isinstance(metric, NumericMetricDescriptor):
        return None
    return {"value": value.value, **unit_fields(metric.unit, lang)}


def _signals(mdib: Mdib, condition: Handle) -> Iterator[tuple[AlertSignalDescriptor, AlertSignalState]]:
    for descriptor in mdib.descriptors.values():
        if isinstance(descriptor, AlertSignalDescriptor) and descriptor.condition_signaled == condition:
            state = mdib.states.get(descriptor.handle)
            if isinstance(state, AlertSignalState):
                yield descriptor, state
