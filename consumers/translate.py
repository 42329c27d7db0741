"""sdc11073's containers into our words: the only place that knows both.

Driven by the Structs themselves: a field `determination_time` is read from `DeterminationTime` and converted by its
annotation. What the library drops, changes or fills in on its own (samples, dates of birth, absent elements, what we
have no words for) is taken from the XML node that the container came from. No value gets into an error text.
"""

import types
import typing
from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec
from lxml import etree
from sdc11073.xml_types import msg_types

from consumers import lexical
from mdib_models import descriptors, states
from mdib_models.coding import Unknown
from mdib_models.identity import DeviceId, MdibVersionGroup
from mdib_models.mirror import Mdib
from mdib_models.updates import DescriptionPart, Invocation, Report, ReportKind

lexical.install()

PM = "{http://standards.ieee.org/downloads/11073/11073-10207-2017/participant}"
SDPI = "{urn:oid:1.3.6.1.4.1.19376.1.6.2.10.1.1.1}"
EQUIPMENT_IDENTIFIER = f"{SDPI}EquipmentIdentifier"
GENDER = f"{SDPI}Gender"

S = TypeVar("S", bound=msgspec.Struct)
Convert = Callable[[Any, Any], Any]
"""(value as the library has it, its XML element or None) -> our value."""

TIMES = {
    "determination_time",
    "start_time",
    "stop_time",
    "last_self_check",
    "date_and_time",
    "last_set",
    "binding_start_time",
    "binding_end_time",
}
"""Integers in our words that are seconds in the library's: ms since the epoch."""

NAMES = {"quality": "MetricQuality", "text": "text"}
"""Fields whose BICEPS name is not their own in capitals."""


class Untranslatable(Exception):  # noqa: N818 - reads as what it says of a message
    """A message that the library took and that still cannot be said in our words. Names types, holds no values."""


def report_of(kind: ReportKind, message: Any, arrived: int, number: int | None = None) -> Report:
    """One notification (the library's ReceivedMessage) as a Report. Raises Untranslatable."""
    try:
        parsed = _REPORTS[kind].from_node(message.p_msg.msg_node)
        return Report(
            kind=kind,
            version=_version_of(parsed),
            arrived=arrived,
            number=number,
            states=tuple(state_of(state) for state in _states_in(kind, parsed)),
            description=_description_in(parsed) if kind == "description" else (),
            invocations=_invocations_in(parsed) if kind == "invoked" else (),
        )
    except Untranslatable:
        raise
    except Exception as error:
        raise Untranslatable(f"{kind} report ({type(error).__name__})") from error


def mdib_of(device: DeviceId, answer: Any) -> Mdib:
    """A GetMdib answer (the library's GetRequestResult) as the mirror of `device`. Raises Untranslatable."""
    found_descriptors, found_states = answer.result
    group = answer.mdib_version_group
    described = {each.handle: each for each in map(descriptor_of, found_descriptors)}
    single: dict[str, Any] = {}
    contexts: dict[str, Any] = {}
    for state in map(state_of, found_states):
        (contexts if hasattr(state, "context_association") else single)[state.key] = state
    root = answer.p_msg.msg_node
    return Mdib(
        device=device,
        version=MdibVersionGroup(group.sequence_id, group.mdib_version, group.instance_id),
        descriptors=described,
        states=single,
        contexts=contexts,
        description_version=_counter(root, "MdDescription", "DescriptionVersion"),
        state_version=_counter(root, "MdState", "StateVersion"),
    )


def descriptor_of(container: Any) -> descriptors.Descriptor:
    """A descriptor container, without its children, with the parent that the library knows."""
    kind = _class_named(descriptors, container)
    return typing.cast("descriptors.Descriptor", _struct(kind, container, container.node))


def state_of(container: Any) -> states.State:
    """A state container."""
    kind = _class_named(states, container)
    return typing.cast("states.State", _struct(kind, container, container.node))


def unknown_of(element: Any) -> Unknown:
    """An XML element that we have no words for, kept as it came."""
    return Unknown(str(element.tag), etree.tostring(element, encoding="unicode", with_tail=False))


def _version_of(parsed: Any) -> MdibVersionGroup:
    return MdibVersionGroup(parsed.SequenceId, parsed.MdibVersion, parsed.InstanceId)


def _counter(root: Any, element: str, attribute: str) -> int:
    found = next(root.iter(f"{PM}{element}"), None)
    return int(found.get(attribute, "0")) if found is not None else 0


_REPORTS: dict[ReportKind, Any] = {
    "metric": msg_types.EpisodicMetricReport,
    "waveform": msg_types.WaveformStream,
    "alert": msg_types.EpisodicAlertReport,
    "context": msg_types.EpisodicContextReport,
    "component": msg_types.EpisodicComponentReport,
    "operational": msg_types.EpisodicOperationalStateReport,
    "description": msg_types.DescriptionModificationReport,
    "invoked": msg_types.OperationInvokedReport,
    "system-error": msg_types.SystemErrorReport,
}


def _states_in(kind: ReportKind, parsed: Any) -> Iterable[Any]:
    if kind == "waveform":
        return list(parsed.State)
    if kind in {"description", "invoked", "system-error"}:
        return ()
    return [state for part in parsed.ReportPart for state in part.values_list]


def _description_in(parsed: Any) -> tuple[DescriptionPart, ...]:
    return tuple(
        DescriptionPart(
            part.ModificationType.value,
            tuple(descriptor_of(each) for each in part.Descriptor),
            tuple(state_of(each) for each in part.State),
        )
        for part in parsed.ReportPart
    )


def _invocations_in(parsed: Any) -> tuple[Invocation, ...]:
    return tuple(_invocation_of(part) for part in parsed.ReportPart)


def _invocation_of(part: Any) -> Invocation:
    info = part.InvocationInfo
    texts = [message.text for message in info.InvocationErrorMessage if message.text]
    return Invocation(
        operation_handle=part.OperationHandleRef,
        transaction_id=info.TransactionId,
        state=_plain(info.InvocationState),
        operation_target=part.OperationTarget,
        error=_plain(info.InvocationError),
        error_message=texts[0] if texts else None,
    )


def _class_named(module: types.ModuleType, container: Any) -> type[msgspec.Struct]:
    name = container.NODETYPE.localname
    kind = getattr(module, name, None)
    if not isinstance(kind, type) or not issubclass(kind, msgspec.Struct):
        raise Untranslatable(f"no words for {name}")
    return kind


def _struct(kind: type[S], source: Any, node: Any) -> S:
    """Make a Struct from an object of the library and the XML element it was read from."""
    values: dict[str, Any] = {}
    for name, read, required in _plan(kind):
        value = read(source, node)
        if value is not None:
            values[name] = value
        elif required:
            raise Untranslatable(f"{kind.__name__} without {name}")
    return kind(**values)


@cache
def _plan(kind: type[msgspec.Struct]) -> tuple[tuple[str, Convert, bool], ...]:
    """How each field of a Struct is read: (field, reader of (source, node), whether it has to be there)."""
    return tuple(
        (field.name, _SPECIAL.get(field.name) or _reader(field.name, field.type), field.required)
        for field in msgspec.structs.fields(kind)
    )


def _reader(name: str, annotation: Any) -> Convert:
    biceps = NAMES.get(name) or "".join(part.capitalize() for part in name.split("_"))
    inner = _without_none(annotation)
    if get_origin(inner) is tuple:
        return _many(biceps, get_args(inner)[0])
    if inner is Unknown:
        return lambda _source, node: next(map(unknown_of, _children(node, biceps)), None)
    if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
        return _one(biceps, inner)
    convert = _milliseconds if name in TIMES else _SCALARS.get(inner, _plain)
    return lambda source, _node: convert(getattr(source, biceps, None))


def _one(biceps: str, kind: type[msgspec.Struct]) -> Convert:
    def read(source: Any, node: Any) -> Any:
        value = getattr(source, biceps, None)
        element = next(_children(node, biceps), None)
        if value is None or (node is not None and element is None):
            return None  # the library fills in an empty LocationDetail or CoreData where there is none
        return _struct(kind, value, element)

    return read


def _many(biceps: str, item: Any) -> Convert:
    if item is Unknown:
        return lambda _source, node: tuple(map(unknown_of, _children(node, biceps)))
    if isinstance(item, type) and issubclass(item, msgspec.Struct):
        return lambda source, _node: tuple(_struct(item, value, None) for value in getattr(source, biceps, None) or ())
    # an empty element comes as None
    return lambda source, _node: tuple(
        _plain(value) for value in getattr(source, biceps, None) or () if value is not None
    )


def _children(node: Any, biceps: str) -> Any:
    return node.iterchildren(f"{PM}{biceps}") if node is not None else iter(())


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in {Union, types.UnionType}:
        kept = [each for each in get_args(annotation) if each is not type(None)]
        return kept[0] if len(kept) == 1 else annotation
    return annotation


def _plain(value: Any) -> Any:
    """An enumeration's value, anything else as it is."""
    return getattr(value, "value", value)


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)


def _decimal(value: Any) -> Decimal | None:
    return None if value is None else Decimal(value)


def _text(value: Any) -> str | None:
    value = _plain(value)
    return None if value is None else str(value)


_SCALARS: dict[Any, Callable[[Any], Any]] = {float: _seconds, Decimal: _decimal, str: _text}


def _extensions(source: Any, _node: Any) -> tuple[Unknown, ...]:
    spoken_of = {EQUIPMENT_IDENTIFIER, GENDER}
    return tuple(
        unknown_of(element)
        for element in _extension_elements(source)
        if isinstance(element.tag, str) and element.tag not in spoken_of
    )


def _extension_elements(source: Any) -> list[Any]:
    found = source.ExtExtension if hasattr(source, "ExtExtension") else getattr(source, "Extension", None)
    return list(found or ())


def _extension_text(tag: str) -> Convert:
    def read(source: Any, _node: Any) -> str | None:
        for element in _extension_elements(source):
            if element.tag == tag and element.text and element.text.strip():
                return str(element.text.strip())
        return None

    return read


def _gender(source: Any, node: Any) -> str | None:
    gender = _extension_text(GENDER)(source, node)
    return gender if gender in get_args(states.Gender) else None


def _child_text(name: str) -> Convert:
    return lambda _source, node: next((lexical.collapsed(child.text) for child in _children(node, name)), None)


def _attribute(name: str) -> Convert:
    return lambda _source, node: node.get(name) if node is not None else None


def _attribute_milliseconds(name: str) -> Convert:
    return lambda _source, node: int(node.get(name)) if node is not None and node.get(name) else None


_SPECIAL: dict[str, Convert] = {
    "parent": lambda source, _node: source.parent_handle,
    "extensions": _extensions,
    "equipment_identifier": _extension_text(EQUIPMENT_IDENTIFIER),
    "gender": _gender,
    "date_of_birth": _child_text("DateOfBirth"),
    "samples": _attribute("Samples"),
    "date_and_time": _attribute_milliseconds("DateAndTime"),
    "allowed_values": lambda source, _node: (
        tuple(source.AllowedValues.Value or ()) if source.AllowedValues is not None else ()
    ),
}
"""Fields that the library does not hold as they came, or holds elsewhere."""
