"""PCD-04 (ORU^R40): one thing to tell of one alert, as device rows and seven facets (mapping section 7)."""

from collections.abc import Iterator
from typing import Final

import msgspec

from mdib_models.alerts import AlertOccurrence
from mdib_models.descriptors import Descriptor, LimitAlertConditionDescriptor, MetricDescriptor
from mdib_models.identity import Handle
from mdib_models.mirror import Mdib
from mdib_models.states import LimitAlertConditionState
from sdc_node.hl7.build import components, encode, leaf, repetitions, segment, subcomponents
from sdc_node.hl7.dtm import format_dtm
from sdc_node.hl7.tables import ALARM_EVENT, FACETS, PCD04_MESSAGE, PCD04_PROFILE
from sdc_node.sinks.hl7v2.coded import cwe, cwe_or_handle, reference_id
from sdc_node.sinks.hl7v2.containment import Path, device_chain, device_path, dotted, metric_path
from sdc_node.sinks.hl7v2.interval import Demographic, Numbers, Stamps
from sdc_node.sinks.hl7v2.rows import Fields, device_rows, metric_fields, moment, numbered, sex_row
from sdc_node.sinks.hl7v2.segments import (
    entity,
    equipment_identifier,
    gateway_identifier,
    message_header,
    patient,
    processing_id,
    visit,
)
from sdc_node.sinks.hl7v2.values import limits_by_metric, shown, value_type

_PROFILE: Final = ("IHE_PCD_004", PCD04_PROFILE)
_EVENT: Final = f"{ALARM_EVENT}^MDC_EVT_ALARM^MDC"
_SOURCE: Final = "68480^MDC_ATTR_ALERT_SOURCE^MDC"
_PRIORITIES: Final = {"Lo": "PL", "Me": "PM", "Hi": "PH", "None": "PN"}  # R8074


def render_pcd04(
    occurrence: AlertOccurrence,
    mdib: Mdib,
    stamps: Stamps,
    *,
    corrected: frozenset[Demographic] = frozenset(),
) -> bytes:
    """Write one message for one occurrence. Patient, value and limits are those of the occurrence.

    Where the condition is gone from the MDIB, hand in the last mirror that held it; without one the source may be the
    MDS. Where ``stamps.numbers`` lacks a handle of the source's path, the place is that of the MDS: LookupError only
    when it lacks that too.
    """
    key, association = occurrence.key, occurrence.association
    mode = processing_id(mdib, key.mds)
    source = _source(occurrence, mdib)
    chain, place = _place(source, mdib, key.mds, stamps.numbers)
    device, *others = (fields for _, fields in device_rows(mdib, chain, stamps.numbers))
    sex = [fields for _, fields in sex_row(association, device_path(chain[:1], stamps.numbers), corrected)]
    facets = _facets(occurrence, mdib, source, stamps.gateway.language, production=mode == "P")
    rows = [fields | {4: f"{dotted(place)}.{number}", 11: "R"} for number, fields in enumerate(facets, start=1)]
    return encode(
        [
            message_header(stamps, PCD04_MESSAGE, _PROFILE, mode),
            patient(association),
            visit(association, stamps.gateway.patient_class),
            _request(occurrence, mdib, stamps),
            *numbered([device, *sex, *others, *rows]),
        ]
    )


def _request(occurrence: AlertOccurrence, mdib: Mdib, stamps: Stamps) -> str:
    """OBR (R8050 to R8056): only the first message has the event id in OBR-3, later ones name it in OBR-29."""
    gateway = stamps.gateway
    first = occurrence.number == 0
    _, *assigner = equipment_identifier(mdib, occurrence.key.mds)
    own = (occurrence.id if first else stamps.message_id, *assigner)
    parent = subcomponents(leaf(occurrence.id), *(leaf(part) for part in assigner))
    return segment(
        "OBR",
        {
            1: "1",
            2: gateway_identifier(gateway, gateway.eui64),
            3: components(*(leaf(part) for part in own)),
            4: _EVENT,
            7: format_dtm(stamps.built),
            29: "" if first else f"^{parent}",
        },
    )


def _source(occurrence: AlertOccurrence, mdib: Mdib) -> Descriptor | None:
    """What the alert is about: a physiological one's first metric, else the first source that resolves.

    Only what is in the MDS of the alert resolves. Without any, the component that owns the alert system (R8065).
    """
    here = (handle for handle in occurrence.snapshot.source if mdib.mds_of(handle) == occurrence.key.mds)
    found = [descriptor for handle in here if (descriptor := mdib.find(handle)) is not None]
    if occurrence.snapshot.kind == "Phy":
        found.sort(key=lambda descriptor: not isinstance(descriptor, MetricDescriptor))
    if found:
        return found[0]
    condition = mdib.find(occurrence.key.condition)
    system = mdib.find(condition.parent) if condition is not None and condition.parent is not None else None
    owner = mdib.find(system.parent) if system is not None and system.parent is not None else None
    return owner or mdib.find(occurrence.key.mds)


def _place(source: Descriptor | None, mdib: Mdib, mds: Handle, numbers: Numbers) -> tuple[tuple[Handle, ...], Path]:
    """The chain of devices that hold the source, and OBX-4 without the facet; an alert is never lost to a number."""
    chain = device_chain(mdib, source.handle if source is not None else mds, mds)
    try:
        if isinstance(source, MetricDescriptor):
            return chain, metric_path(chain, source, numbers)
        return chain, device_path(chain, numbers)
    except LookupError:
        return (mds,), device_path((mds,), numbers)


def _facets(
    occurrence: AlertOccurrence, mdib: Mdib, source: Descriptor | None, language: str, *, production: bool
) -> Iterator[Fields]:
    """Facets 1 to 7 without OBX-1, -4 and -11."""
    snapshot = occurrence.snapshot
    yield _event(occurrence, mdib, language)
    if snapshot.kind == "Phy" and isinstance(source, MetricDescriptor):
        yield _metric(occurrence, mdib, source, production=production)
    else:
        handle = source.handle if source is not None else occurrence.key.mds
        yield {2: "CWE", 3: _SOURCE, 5: cwe_or_handle(source.type if source is not None else None, handle)}
    values = (
        occurrence.phase,
        snapshot.state,
        repetitions(snapshot.inactivation),
        _PRIORITIES[snapshot.priority],
        snapshot.type,
    )
    for (code, name), value in zip(FACETS, values, strict=True):
        yield {2: "ST", 3: components(code, name, "MDC"), 5: value}


def _event(occurrence: AlertOccurrence, mdib: Mdib, language: str) -> Fields:
    """Facet 1 (R8061 to R8064): what happened, when its status changed, and on which device."""
    code, condition = occurrence.snapshot.code, occurrence.key.condition
    text = (code.text(language) or "") if code is not None else ""
    common = {
        14: moment(occurrence.time),
        18: entity(equipment_identifier(mdib, occurrence.key.mds)),
    }
    if occurrence.snapshot.kind == "Phy":
        name = text or (reference_id(code) if code is not None else "") or condition
        return {2: "ST", 3: cwe_or_handle(code, condition), 5: leaf(name)} | common
    event = cwe(code, original_text=text) if code is not None else cwe_or_handle(None, condition)
    return {2: "CWE", 3: _EVENT, 5: event} | common


def _metric(occurrence: AlertOccurrence, mdib: Mdib, metric: MetricDescriptor, *, production: bool) -> Fields:
    """Facet 2 of a physiological alert (R8059, R8066): the metric, with its value only where that is valid."""
    captured = occurrence.captured
    state = captured if captured is not None and captured.descriptor_handle == metric.handle else None
    value = shown(metric, state, production=production)
    time = None
    if value is not None and state is not None and state.metric_value is not None:
        time = state.metric_value.determination_time
    fields = metric_fields(metric, state, value, limits_by_metric(_as_told(occurrence, mdib)), time)
    return fields | {2: value.type if value is not None else value_type(metric)}


def _as_told(occurrence: AlertOccurrence, mdib: Mdib) -> Mdib:
    """The mirror with the condition's own limits and source as they were; other conditions are as they are."""
    snapshot, condition = occurrence.snapshot, occurrence.key.condition
    descriptor, state = mdib.find(condition), mdib.states.get(condition)
    if snapshot.limits is None or not isinstance(state, LimitAlertConditionState):
        return mdib
    if not isinstance(descriptor, LimitAlertConditionDescriptor):
        return mdib
    described = msgspec.structs.replace(descriptor, source=snapshot.source)
    told = msgspec.structs.replace(
        state,
        activation_state="On" if snapshot.present else state.activation_state,
        limits=snapshot.limits,
        monitored_alert_limits=snapshot.monitored_limits,
    )
    return msgspec.structs.replace(
        mdib, descriptors={**mdib.descriptors, condition: described}, states={**mdib.states, condition: told}
    )
