"""What a legal device may be and say: any value of any type of ours, small MDIBs, and the reports of a provider.

The provider keeps its own books in plain dicts and knows nothing of the fold: it is the model the fold is held to.
"""

import functools
import types
import typing
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import hypothesis.strategies as st
import msgspec

from mdib_models import descriptors, states
from mdib_models.descriptors import (
    AlertConditionDescriptor,
    AlertSignalDescriptor,
    AlertSystemDescriptor,
    BatteryDescriptor,
    ChannelDescriptor,
    ClockDescriptor,
    LimitAlertConditionDescriptor,
    MdsDescriptor,
    ScoDescriptor,
    SystemContextDescriptor,
    VmdDescriptor,
)
from mdib_models.identity import DeviceId, MdibVersionGroup
from mdib_models.mirror import Mdib
from mdib_models.updates import DescriptionPart, Invocation, Report

DEVICE = DeviceId("urn:uuid:00000000-0000-4000-8000-00000000000d")
SEQUENCE = "urn:uuid:00000000-0000-4000-8000-000000000001"

DESCRIPTORS = typing.get_args(descriptors.Descriptor)
STATES = typing.get_args(states.State)
CONTEXTS = typing.get_args(states.ContextState)
STATE_OF = {kind: getattr(states, kind.__name__.removesuffix("Descriptor") + "State") for kind in DESCRIPTORS}

HOLDS = {
    MdsDescriptor: (
        VmdDescriptor,
        ClockDescriptor,
        BatteryDescriptor,
        AlertSystemDescriptor,
        ScoDescriptor,
        SystemContextDescriptor,
    ),
    VmdDescriptor: (ChannelDescriptor, AlertSystemDescriptor, ScoDescriptor),
    ChannelDescriptor: typing.get_args(descriptors.MetricDescriptor),
    AlertSystemDescriptor: (AlertConditionDescriptor, LimitAlertConditionDescriptor, AlertSignalDescriptor),
    ScoDescriptor: typing.get_args(descriptors.OperationDescriptor),
    SystemContextDescriptor: typing.get_args(descriptors.ContextDescriptor),
}

REPORTED = {
    "metric": typing.get_args(states.NonWaveformMetricState),
    "waveform": (states.RealTimeSampleArrayMetricState,),
    "alert": typing.get_args(states.AlertState),
    "component": typing.get_args(states.ComponentState),
    "operational": typing.get_args(states.OperationState),
}

decimals = st.builds(
    lambda sign, digits, exponent: Decimal((sign, tuple(digits), exponent)),
    st.integers(0, 1),
    st.lists(st.integers(0, 9), min_size=1, max_size=20),
    st.integers(-25, 10),
).filter(lambda number: str(number) != "-0")  # in JSON it is 0

_PLAIN = {
    str: st.text(st.characters(codec="utf-8"), max_size=8),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    Decimal: decimals,
    type(None): st.none(),
}
_PLAINEST = {str: "x", int: 0, float: 0.0, bool: False, Decimal: Decimal(1), type(None): None}


@functools.cache
def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that a field of ours may have."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        return st.sampled_from(arguments)
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return st.one_of(*map(values, arguments))
    if typing.get_origin(kind) is tuple:
        return st.lists(values(arguments[0]), max_size=2).map(tuple)
    kind = getattr(kind, "__supertype__", kind)
    return _PLAIN[kind] if kind in _PLAIN else structs(kind)


def structs(kind: Any, **fixed: Any) -> st.SearchStrategy[Any]:
    """Any value of a Struct, with at most three of its optional fields besides those that are given."""
    fields = [field for field in msgspec.structs.fields(kind) if field.name not in fixed]
    required = {field.name: values(field.type) for field in fields if field.required}
    optional = {field.name: field.type for field in fields if not field.required}
    names = st.lists(st.sampled_from(sorted(optional)), max_size=3, unique=True) if optional else st.just([])

    def with_fields(chosen: list[str]) -> st.SearchStrategy[Any]:
        return st.fixed_dictionaries({**required, **{name: values(optional[name]) for name in chosen}})

    return names.flatmap(with_fields).map(lambda drawn: kind(**drawn, **fixed))


def plainest(kind: Any, **fixed: Any) -> Any:
    """The plainest value of a type; of a Struct the one with nothing but what it needs, and what is given."""
    if typing.get_origin(kind) is Literal:
        return typing.get_args(kind)[0]
    if kind in _PLAINEST:
        return _PLAINEST[kind]
    needed = {field.name: field.type for field in msgspec.structs.fields(kind) if field.required}
    return kind(**{name: plainest(of) for name, of in needed.items() if name not in fixed}, **fixed)


class Told(NamedTuple):
    """One report of a provider, what it tells of in order, as (MDS, thing), and the books after it."""

    report: Report
    things: tuple[tuple[str, Any], ...]
    mdib: Mdib


class History(NamedTuple):
    """A legal MDIB and what was reported of it later."""

    first: Mdib
    told: tuple[Told, ...]

    @property
    def last(self) -> Mdib:
        return self.told[-1].mdib if self.told else self.first


class Provider:
    """A legal provider, whose every choice is drawn."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.descriptors: dict[str, Any] = {}
        self.states: dict[str, Any] = {}
        self.contexts: dict[str, Any] = {}
        self.mds: dict[str, str] = {}
        self.gone: dict[str, tuple[Any, str | None, int, int]] = {}  # kind, parent, versions
        self.made = 0
        self.version = draw(st.integers(0, 5))
        self.number = draw(st.none() | st.integers(1, 9))
        self.things: list[tuple[str, Any]] = []
        for _ in range(draw(st.integers(1, 2))):
            self.grow(MdsDescriptor, None)

    def books(self) -> Mdib:
        return Mdib(
            device=DEVICE,
            version=MdibVersionGroup(SEQUENCE, self.version, 7),
            descriptors=dict(self.descriptors),
            states=dict(self.states),
            contexts=dict(self.contexts),
            report_number=self.number,
        )

    def new_handle(self) -> str:
        self.made += 1
        return f"h{self.made}"

    def grow(self, kind: Any, parent: str | None) -> None:
        handle = self.new_handle()
        self.enter(plainest(kind, handle=handle, parent=parent))
        if kind not in descriptors.ContextDescriptor.__args__:
            self.states[handle] = plainest(STATE_OF[kind], descriptor_handle=handle)
        for child in HOLDS.get(kind, ()):
            if child in {VmdDescriptor, ChannelDescriptor} or self.draw(st.booleans()):
                self.grow(child, handle)

    def enter(self, descriptor: Any) -> None:
        self.descriptors[descriptor.handle] = descriptor
        self.mds[descriptor.handle] = self.mds.get(descriptor.parent, descriptor.handle)

    def reports(self, limit: int) -> list[Told]:
        told = []
        for _ in range(self.draw(st.integers(0, limit))):
            self.things = []
            self.version += self.draw(st.sampled_from([1, 1, 0, 3]))
            topics = [self.about_states, self.about_states, self.about_contexts, self.about_description]
            fields = self.draw(st.sampled_from(topics))()
            if self.number is not None:
                self.number += 1
            report = Report(version=self.books().version, arrived=1000 + self.version, number=self.number, **fields)
            told.append(Told(report, tuple(self.things), self.books()))
        return told

    def some(self, among: Any, at_least: int = 0) -> list[Any]:
        among = list(among)
        if len(among) < at_least or not among:
            return []
        return self.draw(st.lists(st.sampled_from(among), min_size=at_least, max_size=3, unique=True))

    def about_states(self) -> dict[str, Any]:
        here = {type(state) for state in self.states.values()}
        kind = self.draw(st.sampled_from(["invoked", *(kind for kind in REPORTED if here & {*REPORTED[kind]})]))
        if kind == "invoked":
            return {"kind": kind, "invocations": tuple(map(self.invoked, self.some(self.operations())))}
        mine = [handle for handle, state in self.states.items() if type(state) in REPORTED[kind]]
        return {"kind": kind, "states": tuple(map(self.changed, self.some(mine, 1)))}

    def operations(self) -> list[str]:
        return [handle for handle, state in self.states.items() if type(state) in REPORTED["operational"]]

    def invoked(self, operation: str) -> Invocation:
        invocation = self.draw(structs(Invocation, operation_handle=operation))
        self.things.append((self.mds[operation], invocation))
        return invocation

    def about_contexts(self) -> dict[str, Any]:
        changed = [self.changed_context(handle) for handle in self.some(self.contexts)]
        places = [handle for handle, each in self.descriptors.items() if STATE_OF[type(each)] in CONTEXTS]
        return {"kind": "context", "states": (*changed, *map(self.new_context, self.some(places)))}

    def about_description(self) -> dict[str, Any]:
        used: set[str] = set()  # SDPi R1008: no handle twice in one report
        parts: list[DescriptionPart] = []
        for _ in range(self.draw(st.integers(1, 2))):
            parts += self.draw(st.sampled_from([self.create, self.update, self.delete]))(used)
        return {"kind": "description", "description": tuple(parts)}

    def create(self, used: set[str]) -> list[DescriptionPart]:
        """A descriptor and perhaps a child of it: new ones, or one that comes back, with its versions going on."""
        back = [(handle, *of) for handle, of in self.gone.items() if of[1] in {*self.descriptors, None}]
        back = [each for each in back if each[0] not in used]
        if back and self.draw(st.booleans()):
            handle, kind, parent, version, state_version = self.draw(st.sampled_from(back))
            del self.gone[handle]
            return [self.created(kind, handle, parent, version + 1, state_version + 1, used)]
        parents = [handle for handle, each in self.descriptors.items() if type(each) in HOLDS]
        parent = self.draw(st.sampled_from([None, *parents]))
        kinds = HOLDS[type(self.descriptors[parent])] if parent is not None else (MdsDescriptor,)
        kind, handle = self.draw(st.sampled_from(kinds)), self.new_handle()
        parts = [self.created(kind, handle, parent, 0, 0, used)]
        for child in self.some(HOLDS.get(kind, ()))[:1]:  # SDPi R1009: a parent before its children
            parts += [self.created(child, self.new_handle(), handle, 0, 0, used)]
        return parts

    def created(self, kind, handle, parent, version, state_version, used) -> DescriptionPart:
        used.add(handle)
        fixed = {"handle": handle, "parent": parent, "descriptor_version": version}
        self.enter(descriptor := self.draw(structs(kind, **fixed)))
        self.things.append((self.mds[handle], descriptor))
        if STATE_OF[kind] in CONTEXTS:
            return DescriptionPart("Crt", (descriptor,), tuple(map(self.new_context, self.some([handle]))))
        return DescriptionPart("Crt", (descriptor,), (self.put(handle, state_version),))

    def update(self, used: set[str]) -> list[DescriptionPart]:
        parts = []
        for handle in self.some(handle for handle in self.descriptors if handle not in used):
            used.add(handle)
            old = self.descriptors[handle]
            fixed = {"handle": handle, "parent": old.parent, "descriptor_version": old.descriptor_version + 1}
            self.enter(descriptor := self.draw(structs(type(old), **fixed)))
            self.things.append((self.mds[handle], descriptor))
            mine = [key for key, state in self.contexts.items() if state.descriptor_handle == handle]
            changed = [self.changed(handle)] if handle in self.states else [self.changed_context(key) for key in mine]
            parts.append(DescriptionPart("Upt", (descriptor,), tuple(changed)))
        return parts

    def delete(self, used: set[str]) -> list[DescriptionPart]:
        """A descriptor and all below it, the deepest first (SDPi R1011). An MDS is never left out entirely."""
        first = next(iter(self.descriptors))
        doomed = self.some(handle for handle in self.descriptors if handle != first)[:1]
        for handle in doomed:
            doomed += [each.handle for each in self.descriptors.values() if each.parent == handle]
        if used & set(doomed):
            return []
        used.update(doomed)
        return [DescriptionPart("Del", (self.deleted(handle),)) for handle in reversed(doomed)]

    def deleted(self, handle: str) -> Any:
        descriptor = self.descriptors.pop(handle)
        self.things.append((self.mds.pop(handle), descriptor))
        state = self.states.pop(handle, None)
        self.contexts = {key: each for key, each in self.contexts.items() if each.descriptor_handle != handle}
        versions = descriptor.descriptor_version, state.state_version if state is not None else 0
        self.gone[handle] = (type(descriptor), descriptor.parent, *versions)
        return descriptor

    def changed(self, handle: str) -> Any:
        return self.put(handle, self.states[handle].state_version + 1)

    def put(self, handle: str, version: int) -> Any:
        descriptor = self.descriptors[handle]
        fixed = {"descriptor_handle": handle, "descriptor_version": descriptor.descriptor_version}
        state = self.draw(structs(STATE_OF[type(descriptor)], state_version=version, **fixed))
        self.states[handle] = state
        self.things.append((self.mds[handle], state))
        return state

    def new_context(self, place: str) -> Any:
        return self.put_context(self.new_handle(), place, 0)

    def changed_context(self, handle: str) -> Any:
        old = self.contexts[handle]
        return self.put_context(handle, old.descriptor_handle, old.state_version + 1)

    def put_context(self, handle: str, place: str, version: int) -> Any:
        descriptor = self.descriptors[place]
        fixed = {"handle": handle, "descriptor_handle": place, "descriptor_version": descriptor.descriptor_version}
        state = self.draw(structs(STATE_OF[type(descriptor)], state_version=version, **fixed))
        self.contexts[handle] = state
        self.things.append((self.mds[place], state))
        return state


@st.composite
def histories(draw: Any, limit: int = 6) -> History:
    """A legal device: an MDIB, and up to `limit` reports that follow from it."""
    provider = Provider(draw)
    first = provider.books()
    return History(first, tuple(provider.reports(limit)))
