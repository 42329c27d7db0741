"""What the receiver asks of a resource beyond R4's element tables: invariants, PoCD profiles, vital signs. Pure.

The rules are those of the PoCD guide (1.0.0-ballot3) and of R4's vital-signs profiles that hold for everything a
device gateway sends; `check` is the whole judgement on one resource.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from sdc_node.receivers.fhir_checks import MAX_ISSUES, Issue, JsonObject, check_elements, target_type

UCUM = "http://unitsofmeasure.org"
LOINC = "http://loinc.org"
MDC = "urn:iso:std:iso:11073:10101"
BICEPS_MDC = "urn:oid:1.2.840.10004.1.1.1.0.0.1"
POCD = "http://hl7.org/fhir/uv/pocd/StructureDefinition/"
OBSERVATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"

VITAL_UNITS: Mapping[str, frozenset[str]] = {
    "8867-4": frozenset({"/min"}),
    "9279-1": frozenset({"/min"}),
    "2708-6": frozenset({"%"}),
    "8310-5": frozenset({"Cel", "[degF]"}),
    "8302-2": frozenset({"cm", "[in_i]"}),
    "29463-7": frozenset({"kg", "g", "[lb_av]"}),
    "9843-4": frozenset({"cm", "[in_i]"}),
    "39156-5": frozenset({"kg/m2"}),
}
"""Units that R4's vital-signs profiles allow, by the LOINC code that makes an Observation one of them."""
BLOOD_PRESSURE = "85354-9"
SYSTOLIC, DIASTOLIC = "8480-6", "8462-4"


def check(resource: JsonObject) -> tuple[Issue, ...]:
    """All that is wrong with a resource, at most MAX_ISSUES; rules run only on a resource whose form is right."""
    if issues := check_elements(resource):
        return issues
    kind = resource["resourceType"]
    found = [*_common(resource, kind), *_RULES[kind](resource)]
    return tuple(found[:MAX_ISSUES])


def _common(resource: JsonObject, kind: str) -> Iterator[Issue]:
    for name in ("implicitRules", "modifierExtension", "contained"):
        if name in resource:
            yield Issue("not-supported", f"{kind}.{name}", "changes the meaning in ways not understood here")
    for index, identifier in enumerate(resource.get("identifier", ())):
        if "system" not in identifier or "value" not in identifier:
            yield Issue("value", f"{kind}.identifier[{index}]", "needs a system and a value")
    for name in ("type", "code"):
        if isinstance(concept := resource.get(name), dict):
            yield from _concept(concept, f"{kind}.{name}")


def _concept(concept: JsonObject, path: str) -> Iterator[Issue]:
    codings = concept.get("coding", ())
    if not any("code" in coding and "system" in coding for coding in codings):
        yield Issue("required", f"{path}.coding", "needs a coding with a system and a code")
    for index, coding in enumerate(codings):
        where = f"{path}.coding[{index}]"
        if coding.get("system") == BICEPS_MDC:
            yield Issue("code-invalid", f"{where}.system", "MDC codes go out under urn:iso:std:iso:11073:10101")
        if coding.get("system") == MDC and not str(coding.get("code", "")).isdecimal():
            yield Issue("code-invalid", f"{where}.code", "an MDC code is the decimal code, not the RefId")


def _required(resource: JsonObject, kind: str, names: tuple[str, ...]) -> Iterator[Issue]:
    for name in names:
        if name not in resource:
            yield Issue("required", f"{kind}.{name}", "required by the PoCD profiles")


def _profiles(resource: JsonObject) -> frozenset[str]:
    profiles = resource.get("meta", {}).get("profile", ())
    return frozenset(profile.removeprefix(POCD) for profile in profiles if profile.startswith(POCD))


def _device(resource: JsonObject) -> Iterator[Issue]:
    yield from _required(resource, "Device", ("type",))
    if "identifier" not in resource and "udiCarrier" not in resource:
        yield Issue("invariant", "Device", "needs an identifier or a udiCarrier (pocd-dev-1)")
    if _profiles(resource) & {"VmdDevice", "ChannelDevice"}:
        yield from _required(resource, "Device", ("parent",))
        for name in ("patient", "location"):
            if name in resource:
                yield Issue("structure", f"Device.{name}", "only an MDS has one (PoCD)")


def _device_metric(resource: JsonObject) -> Iterator[Issue]:
    yield from _required(resource, "DeviceMetric", ("identifier", "source", "parent"))
    if "EnumerationDeviceMetric" in _profiles(resource) and "unit" in resource:
        yield Issue("structure", "DeviceMetric.unit", "an enumeration has no unit (PoCD)")


def _observation(resource: JsonObject) -> Iterator[Issue]:
    yield from _required(resource, "Observation", ("identifier", "subject", "device"))
    yield from _effective(resource)
    yield from _value(resource, "Observation", "component" in resource)
    own = _codes(resource["code"])
    for index, component in enumerate(resource.get("component", ())):
        where = f"Observation.component[{index}]"
        yield from _value(component, where, False)
        if own & _codes(component["code"]) and _value_name(resource):
            yield Issue("invariant", where, "has the code of an Observation that has a value (obs-7)")
    if (OBSERVATION_CATEGORY, "vital-signs") in {
        code for category in resource.get("category", ()) for code in _codes(category)
    }:
        yield from _vital_sign(resource)


def _effective(resource: JsonObject) -> Iterator[Issue]:
    path = "Observation.effective[x]"
    if "effectiveDateTime" in resource:
        times = [resource["effectiveDateTime"]]
    elif "effectivePeriod" in resource:
        period = resource["effectivePeriod"]
        times = [period[name] for name in ("start", "end") if name in period]
        if "start" not in period:
            yield Issue("required", f"{path}.start", "a period needs its start")
    else:
        yield Issue("required", path, "needs a dateTime or a Period (PoCD)")
        return
    if not all("T" in time for time in times):  # R4 already asks for the zone where there is a time
        yield Issue("value", path, "needs a time with its zone")


def _value_name(holder: JsonObject) -> str | None:
    return next((name for name in holder if name.startswith("value")), None)


def _value(holder: JsonObject, path: str, has_components: bool) -> Iterator[Issue]:
    name = _value_name(holder)
    if name is not None and "dataAbsentReason" in holder:
        yield Issue("invariant", path, "a value and a dataAbsentReason exclude each other (obs-6)")
    if name is None and "dataAbsentReason" not in holder and not has_components:
        yield Issue("invariant", path, "needs a value or a dataAbsentReason (pocd-obs-1)")
    if name == "valueQuantity":
        yield from _quantity(holder[name], f"{path}.{name}")
    elif name == "valueRatio":
        for part, quantity in holder[name].items():
            if part in {"numerator", "denominator"}:
                yield from _quantity(quantity, f"{path}.{name}.{part}")
    elif name == "valueSampledData":
        yield from _unit(holder[name]["origin"], f"{path}.{name}.origin")
    for index, interval in enumerate(holder.get("referenceRange", ())):
        for bound in interval.keys() & {"low", "high"}:
            yield from _quantity(interval[bound], f"{path}.referenceRange[{index}].{bound}")


def _quantity(quantity: JsonObject, path: str) -> Iterator[Issue]:
    if "value" not in quantity:
        yield Issue("required", f"{path}.value", "required by the PoCD profiles")
    yield from _unit(quantity, path)


def _unit(quantity: JsonObject, path: str) -> Iterator[Issue]:
    if "system" in quantity and quantity["system"] != UCUM:
        yield Issue("value", f"{path}.system", "is fixed to http://unitsofmeasure.org (PoCD)")
    elif "system" in quantity and "code" not in quantity:
        yield Issue("required", f"{path}.code", "a unit system without a code says nothing")


def _codes(concept: JsonObject) -> frozenset[tuple[Any, Any]]:
    return frozenset((coding.get("system"), coding.get("code")) for coding in concept.get("coding", ()))


def _vital_sign(resource: JsonObject) -> Iterator[Issue]:
    if target_type(resource.get("subject", {})) != "Patient":
        yield Issue("invariant", "Observation.subject", "a vital sign is a patient's")
    loinc = {code for system, code in _codes(resource["code"]) if system == LOINC}
    if not loinc:
        yield Issue("required", "Observation.code", "a vital sign needs its LOINC code")
    for code in sorted(loinc & VITAL_UNITS.keys()):
        quantity = resource.get("valueQuantity")
        if quantity is not None and quantity.get("code") not in VITAL_UNITS[code]:
            yield Issue("code-invalid", "Observation.valueQuantity.code", "not the unit of that vital sign")
    if BLOOD_PRESSURE in loinc:
        yield from _blood_pressure(resource.get("component", ()))


def _blood_pressure(components: Any) -> Iterator[Issue]:
    path = "Observation.component"
    for wanted in (SYSTOLIC, DIASTOLIC):
        if sum((LOINC, wanted) in _codes(component["code"]) for component in components) != 1:
            yield Issue("required", path, "a blood pressure has one systolic and one diastolic component")
    for component in components:
        if component.get("valueQuantity", {}).get("code", "mm[Hg]") != "mm[Hg]":
            yield Issue("code-invalid", path, "blood pressure is in mm[Hg]")


_RULES = {"Device": _device, "DeviceMetric": _device_metric, "Observation": _observation}
