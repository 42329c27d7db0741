"""Metrics as FHIR DeviceMetrics (PoCD Numeric-, Enumeration-, SampleArrayDeviceMetric; fhir_mapping 1.3, 1.4). Pure."""

from collections.abc import Iterator, Mapping
from decimal import Decimal

from mdib_models.coding import Range
from mdib_models.descriptors import (
    EnumStringMetricDescriptor,
    MetricDescriptor,
    NumericMetricDescriptor,
    StringMetricDescriptor,
)
from mdib_models.mirror import Mdib
from mdib_models.states import LimitAlertConditionState
from sdc_node.sinks.fhir.device import extension, instance, language, without_empty
from sdc_node.sinks.fhir.identity import Device
from sdc_node.sinks.fhir.terms import CORE, DATA_ABSENT, POCD, TERMINOLOGY, Json, coded, concept, unit_fields

OPERATIONAL_STATUS: Mapping[str, str] = {
    "On": "on",
    "StndBy": "standby",
    "NotRdy": "off",
    "Off": "off",
    "Shtdn": "off",
    "Fail": "off",
}
CATEGORY: Mapping[str, str] = {
    "Msrmt": "measurement",
    "Clc": "calculation",
    "Set": "setting",
    "Unspec": "unspecified",
    "Preset": "unspecified",
    "Rcmm": "unspecified",
}
_AVAILABILITY: Mapping[str, str] = {"Intr": "intr", "Cont": "cont"}
_RANGE_TYPES = "http://hl7.org/fhir/uv/pocd/CodeSystem/reference-range-type"


def device_metric(
    mdib: Mdib, descriptor: MetricDescriptor, identities: Device, source: Json, parent: Json, *, gone: bool = False
) -> Json:
    """The DeviceMetric of a metric; `source` refers to its MDS, `parent` to its channel.

    `gone` says that the device no longer has it: `mdib` is the last one that knew it.
    """
    lang = language(mdib, identities.mds)
    state = mdib.states.get(descriptor.handle)
    is_text = isinstance(descriptor, StringMetricDescriptor | EnumStringMetricDescriptor)
    is_number = isinstance(descriptor, NumericMetricDescriptor)
    kind = "Enumeration" if is_text else "Numeric" if is_number else "SampleArray"
    found: Json = {
        "resourceType": "DeviceMetric",
        "meta": {"profile": [f"{POCD}{kind}DeviceMetric"]},
        "extension": [*instance(state, lang), *_extensions(mdib, descriptor, lang)],
        "identifier": [identities.metric(descriptor.handle).json()],
        "type": concept(descriptor.type, lang) or coded(DATA_ABSENT, "unknown"),
        "unit": None if is_text else concept(descriptor.unit, lang),
        "source": source,
        "parent": parent,
        "operationalStatus": "off" if gone else OPERATIONAL_STATUS[getattr(state, "activation_state", "On")],
        "category": CATEGORY[descriptor.metric_category],
        "measurementPeriod": _period(descriptor),
    }
    if (original := descriptor.metric_category) in {"Preset", "Rcmm"}:
        url = f"{identities.names.base.rstrip('/')}/StructureDefinition/metric-category"
        found["extension"].append(extension(url, "code", original))
    return without_empty(found)


def _period(descriptor: MetricDescriptor) -> Json | None:
    """Timing.repeat: every duration and period needs its unit, the smallest is the second (R4 tim-1, tim-2)."""
    repeat: Json = {}
    if descriptor.determination_period is not None and descriptor.determination_period > 0:
        repeat |= {"duration": Decimal(str(descriptor.determination_period)), "durationUnit": "s"}
    sample_period: float | None = getattr(descriptor, "sample_period", None)
    if sample_period is not None and sample_period > 0:
        repeat |= {"period": Decimal(str(sample_period)), "periodUnit": "s"}
    return {"repeat": repeat} if repeat else None


def _extensions(mdib: Mdib, descriptor: MetricDescriptor, lang: str) -> Iterator[Json]:
    yield extension(
        POCD + "metric-availability",
        "codeableConcept",
        coded(TERMINOLOGY + "metric-availability", _AVAILABILITY[descriptor.metric_availability]),
    )
    if isinstance(descriptor, StringMetricDescriptor | EnumStringMetricDescriptor):
        return
    if descriptor.technical_range and (parts := _technical(descriptor.technical_range[0])):
        yield {"url": CORE + "technical-range", "extension": parts}
    if descriptor.resolution.is_finite():
        yield extension(CORE + "measurement-resolution", "decimal", descriptor.resolution)
    for physiological in getattr(mdib.states.get(descriptor.handle), "physiological_range", ()):
        yield from _reference_range("physiological-range", physiological, descriptor, lang)
    for state in mdib.states.values():
        if isinstance(state, LimitAlertConditionState):
            condition = mdib.find(state.descriptor_handle)
            if descriptor.handle in getattr(condition, "source", ()):
                yield from _reference_range("alarm-limits", state.limits, descriptor, lang)


def _technical(limits: Range) -> list[Json]:
    values = {
        "lowerLimit": limits.lower,
        "upperLimit": limits.upper,
        "stepWidth": limits.step_width,
        "relativeAccuracy": limits.relative_accuracy,
        "absoluteAccuracy": limits.absolute_accuracy,
    }
    return [
        extension(name, "decimal", value) for name, value in values.items() if value is not None and value.is_finite()
    ]


def _reference_range(kind: str, limits: Range, descriptor: MetricDescriptor, lang: str) -> Iterator[Json]:
    bounds = range_quantities(limits, unit_fields(descriptor.unit, lang))
    if bounds:
        parts = [extension(name, "quantity", quantity) for name, quantity in bounds.items()]
        yield {
            "url": CORE + "reference-range",
            "extension": [extension("type", "codeableConcept", coded(_RANGE_TYPES, kind)), *parts],
        }


def range_quantities(limits: Range, unit: Json) -> dict[str, Json]:
    """`low` and `high` as Quantities, those that are given."""
    bounds = {"low": limits.lower, "high": limits.upper}
    return {name: {"value": value, **unit} for name, value in bounds.items() if value is not None and value.is_finite()}
