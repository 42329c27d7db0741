"""Checks one FHIR R4 resource: JSON, elements, types, required bindings, references and invariants. Pure.

No text made here repeats a value of the resource, so that an OperationOutcome never carries patient data: it
says where (`expression`) and which rule. The rules of elements are in `fhir_elements`, those of the profiles
in `fhir_rules`.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from sdc_node.receivers.fhir_elements import NAMES, NUMBER_FORMS, RESOURCES, TEXT_FORMS, TYPES, Element

MAX_ISSUES = 20
MAX_DEPTH = 40
MAX_DECIMAL_DIGITS = 40
"""R4 asks for 18 digits; far beyond is a mistake, not a measurement."""

_LITERAL = re.compile(
    r"(https?://[^\s?#]+/)?([A-Z][A-Za-z]{1,63})/[A-Za-z0-9\-.]{1,64}(/_history/[A-Za-z0-9\-.]{1,64})?"
)
_URN = re.compile(r"urn:(uuid|oid):[0-9a-zA-Z\-.]{1,128}")

JsonObject = dict[str, Any]


class Issue(msgspec.Struct, frozen=True):
    """One issue of an OperationOutcome: `code` is of R4's issue-type, `expression` a FHIRPath."""

    code: str
    expression: str
    text: str


class Malformed(ValueError):  # noqa: N818  # the body is what is malformed
    """The bytes are no JSON object as FHIR wants it."""


def parse(body: bytes) -> JsonObject:
    """Read a body as one JSON object; numbers with a point or an exponent become Decimals with their digits.

    Raises Malformed for anything that is not UTF-8, not JSON, too deep, has a property twice, or holds
    numbers or text that cannot be stored as they are.
    """
    try:
        value = json.loads(body.decode(), parse_float=_decimal, parse_constant=_constant, object_pairs_hook=_unique)
        msgspec.json.encode(value)  # refuses lone surrogates, which no file can hold
    except UnicodeError:
        raise Malformed("not UTF-8") from None
    except RecursionError:
        raise Malformed("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Malformed(f"not JSON (line {error.lineno}, column {error.colno})") from None
    except Malformed:
        raise
    except (ValueError, InvalidOperation):
        raise Malformed("a number has too many digits") from None
    if not isinstance(value, dict):
        raise Malformed("not a JSON object")
    return value


def _decimal(text: str) -> Decimal:
    value = Decimal(text)
    if abs(value.adjusted()) > MAX_DECIMAL_DIGITS or len(value.as_tuple().digits) > MAX_DECIMAL_DIGITS:
        raise Malformed("a number has too many digits")
    return value


def _constant(_: str) -> Decimal:
    raise Malformed("not JSON (NaN and Infinity are no JSON numbers)")


def _unique(pairs: list[tuple[str, Any]]) -> JsonObject:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Malformed("an object has the same property twice")
    return members


def check_elements(resource: JsonObject) -> tuple[Issue, ...]:
    """What R4's element tables have against a Device, DeviceMetric or Observation: at most MAX_ISSUES."""
    kind = resource.get("resourceType")
    if not isinstance(kind, str):
        return (Issue("required", "resourceType", "resourceType is missing"),)
    if kind not in RESOURCES:
        return (Issue("not-supported", "resourceType", f"only {', '.join(RESOURCES)} are accepted here"),)
    found: list[Issue] = []
    for issue in _object(resource, kind, kind, 0):
        found.append(issue)
        if len(found) == MAX_ISSUES:
            break
    return tuple(found)


def _object(value: JsonObject, kind: str, path: str, depth: int) -> Iterator[Issue]:
    if depth > MAX_DEPTH:
        yield Issue("structure", path, "nested too deeply")
        return
    if not value:
        yield Issue("structure", path, "an element must not be empty (ele-1)")
    elements = TYPES[kind]
    forms: dict[str, set[str]] = {}  # of each element, the properties that stand for it
    for name, content in value.items():
        bare = name.removeprefix("_")
        element = elements.get(bare)
        if element is None or (name != bare and element.type in TYPES):
            named = f"'{bare}'" if bare in NAMES else "an element"
            yield Issue("structure", path, f"{named} is not defined here by R4")
            continue
        forms.setdefault(element.choice, set()).add(bare)
        read = _element if name == bare else _primitive_extension
        yield from read(content, element, f"{path}.{bare}", depth)
    yield from _cardinality(elements, forms, path)
    if (rule := _TYPE_RULES.get(kind)) is not None:
        yield from rule(value, path)


def _cardinality(elements: Mapping[str, Element], forms: Mapping[str, Collection[str]], path: str) -> Iterator[Issue]:
    for element in elements.values():
        if element.required and element.choice not in forms:
            yield Issue("required", f"{path}.{element.choice}", "required by R4")
    for choice, names in forms.items():
        if len(names) > 1:
            yield Issue("structure", f"{path}.{choice}[x]", "only one form of this element is allowed")


def _primitive_extension(content: Any, element: Element, path: str, depth: int) -> Iterator[Issue]:
    items = content if element.many and isinstance(content, list) else [content]
    for item in items:
        if isinstance(item, dict):
            yield from _object(item, "Element", path, depth + 1)
        elif not (element.many and item is None):
            yield Issue("structure", path, "an extension of a primitive must be an object")


def _element(content: Any, element: Element, path: str, depth: int) -> Iterator[Issue]:
    if not element.many:
        yield from _item(content, element, path, depth)
    elif not isinstance(content, list) or not content:
        yield Issue("structure", path, "must be an array that is not empty")
    else:
        for index, item in enumerate(content):
            yield from _item(item, element, f"{path}[{index}]", depth)


def _item(content: Any, element: Element, path: str, depth: int) -> Iterator[Issue]:
    if element.type == "Resource":
        yield Issue("not-supported", path, "contained resources are not accepted here")
    elif element.type in TYPES:
        if not isinstance(content, dict):
            yield Issue("structure", path, f"must be an object ({element.type})")
            return
        yield from _object(content, element.type, path, depth + 1)
        if element.targets is not None:
            yield from _target(content, element.targets, path)
    elif not is_primitive(content, element.type):
        yield Issue("value", path, f"is no {element.type}")
    elif element.codes is not None and content not in element.codes:
        yield Issue("code-invalid", path, "is not in the value set that R4 requires")


def is_primitive(content: Any, kind: str) -> bool:
    """Whether a JSON value is of the R4 primitive type `kind`, in form and range."""
    if kind == "boolean":
        return isinstance(content, bool)
    if kind in NUMBER_FORMS:
        if isinstance(content, bool) or not isinstance(content, int | Decimal):
            return False
        if kind == "decimal":
            return True
        least = {"integer": -(2**31), "unsignedInt": 0, "positiveInt": 1}[kind]
        return isinstance(content, int) and least <= content < 2**31
    if not isinstance(content, str) or not content.strip():
        return False
    return TEXT_FORMS[kind].fullmatch(content) is not None


def _target(reference: JsonObject, targets: frozenset[str], path: str) -> Iterator[Issue]:
    kind = target_type(reference)
    if kind is not None and kind not in targets:
        yield Issue("value", path, f"must refer to {' or '.join(sorted(targets))}")


def target_type(reference: JsonObject) -> str | None:
    """The resource type that a Reference names by its literal or else its `type`; None when neither tells."""
    literal = reference.get("reference")
    if isinstance(literal, str) and (match := _LITERAL.fullmatch(literal)):
        return match[2]
    kind = reference.get("type")
    return kind if isinstance(kind, str) else None


def _reference(value: JsonObject, path: str) -> Iterator[Issue]:
    literal, kind = value.get("reference"), value.get("type")
    if literal is None and "identifier" not in value and "display" not in value:
        yield Issue("invariant", path, "a reference needs a reference, an identifier or a display")
    if isinstance(literal, str):
        match = _LITERAL.fullmatch(literal)
        if match is None and _URN.fullmatch(literal) is None:
            yield Issue("value", f"{path}.reference", "must be Type/id, an http address of one, or a urn:uuid")
        elif match is not None and isinstance(kind, str) and kind != match[2]:
            yield Issue("value", f"{path}.type", "contradicts the reference")
    identifier = value.get("identifier")
    if literal is None and isinstance(identifier, dict):
        if "value" not in identifier:
            yield Issue("value", f"{path}.identifier", "a logical reference needs an identifier with a value")
        if kind is None:
            yield Issue("value", f"{path}.type", "a logical reference needs the type it refers to")


def _extension(value: JsonObject, path: str) -> Iterator[Issue]:
    valued = any(name.lstrip("_").startswith("value") for name in value)
    if valued == ("extension" in value):
        yield Issue("invariant", path, "an extension has either a value or extensions (ext-1)")


def _quantity(value: JsonObject, path: str) -> Iterator[Issue]:
    if "code" in value and "system" not in value:
        yield Issue("invariant", path, "a unit code needs its system (qty-3)")


def _period(value: JsonObject, path: str) -> Iterator[Issue]:
    start, end = value.get("start"), value.get("end")
    if not (isinstance(start, str) and isinstance(end, str)):
        return
    # Only times of one form compare as text; those that we send are all UTC.
    if len(start) == len(end) and start[-1:] == end[-1:] == "Z" and start > end:
        yield Issue("invariant", path, "a period ends after its start (per-1)")


def _repeat(value: JsonObject, path: str) -> Iterator[Issue]:
    for rule, amount, unit in (("tim-1", "duration", "durationUnit"), ("tim-2", "period", "periodUnit")):
        if amount in value and unit not in value:
            yield Issue("invariant", path, f"{amount} needs {unit} ({rule})")
        number = value.get(amount)
        if isinstance(number, int | Decimal) and number < 0:
            yield Issue("invariant", path, f"{amount} must not be negative (tim-4, tim-5)")


def _reference_range(value: JsonObject, path: str) -> Iterator[Issue]:
    if not value.keys() & {"low", "high", "text"}:
        yield Issue("invariant", path, "needs low, high or text (obs-3)")


_TYPE_RULES: Mapping[str, Callable[[JsonObject, str], Iterator[Issue]]] = {
    "Reference": _reference,
    "Extension": _extension,
    "Quantity": _quantity,
    "Period": _period,
    "Timing.repeat": _repeat,
    "Observation.referenceRange": _reference_range,
}
