"""The mirror of one device and its fold: an immutable value; each fold makes the next one and shares what is the same.

The rules are decision 3 of the house, from BICEPS (IEEE 11073-10207) and SDPi R1006 to R1011, R1031, R1032.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from mdib_models.descriptors import Descriptor, MdsDescriptor
from mdib_models.identity import DeviceId, Handle, MdibVersionGroup
from mdib_models.states import ContextState, SingleState, State
from mdib_models.updates import (
    AlertUpdate,
    ComponentUpdate,
    ContextUpdate,
    DescriptionPart,
    DescriptionUpdate,
    GapUpdate,
    LinkUpdate,
    MetricUpdate,
    OperationUpdate,
    Report,
    ReportBatch,
    Update,
    WaveformChunk,
)

ViolationKind = Literal[
    "mdib-version-older",
    "state-version-older",
    "state-version-reused",
    "descriptor-version-mismatch",
    "descriptor-version-older",
    "descriptor-version-reused",
    "descriptor-created-twice",
    "descriptor-delete-unknown",
    "descriptor-deleted-with-children",
    "descriptor-moved",
    "state-kind-mismatch",
    "duplicate-report",
]
ResyncReason = Literal[
    "sequence-changed",
    "state-version-gap",
    "descriptor-version-gap",
    "descriptor-version-ahead",
    "report-sequence-jump",
    "unknown-handle",
    "unknown-parent",
]


class Violation(msgspec.Struct, frozen=True, gc=False):
    """A rule that the device broke without harm to the rest: what was skipped, and why."""

    kind: ViolationKind
    handle: Handle | None = None


class Mdib(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True, tag_field="@type"):
    """A device's MDIB at one version.

    `descriptors` is in document order (a parent before its children). `states` are filed by descriptor handle,
    `contexts` by their own. `report_number` is the last sdpi:ReportSequence number folded.
    """

    device: DeviceId
    version: MdibVersionGroup
    descriptors: Mapping[Handle, Descriptor] = msgspec.field(default_factory=dict)
    states: Mapping[Handle, SingleState] = msgspec.field(default_factory=dict)
    contexts: Mapping[Handle, ContextState] = msgspec.field(default_factory=dict)
    description_version: int = 0
    state_version: int = 0
    report_number: int | None = None

    def find(self, handle: Handle) -> Descriptor | None:
        """The descriptor with that handle, or None."""
        return self.descriptors.get(handle)

    def state(self, handle: Handle) -> State | None:
        """The state filed under a descriptor handle, or the context state with that handle, or None."""
        return self.states.get(handle) or self.contexts.get(handle)

    def children(self, handle: Handle | None) -> Iterator[Descriptor]:
        """The descriptors directly under `handle` (None: the MDSs), in document order."""
        return (descriptor for descriptor in self.descriptors.values() if descriptor.parent == handle)

    def walk(self, handle: Handle | None = None) -> Iterator[tuple[int, Descriptor]]:
        """Depth first, parents before children: (depth, descriptor), below `handle` or for the whole MDIB."""
        below: dict[Handle | None, list[Descriptor]] = {}
        for descriptor in self.descriptors.values():
            below.setdefault(descriptor.parent, []).append(descriptor)
        stack = [(0, descriptor) for descriptor in reversed(below.pop(handle, []))]
        while stack:
            depth, descriptor = stack.pop()
            yield depth, descriptor
            stack.extend((depth + 1, child) for child in reversed(below.pop(descriptor.handle, [])))

    def path(self, handle: Handle) -> tuple[Descriptor, ...]:
        """From the MDS down to `handle`; empty where the handle is unknown."""
        steps: list[Descriptor] = []
        descriptor = self.descriptors.get(handle)
        while descriptor is not None and len(steps) <= len(self.descriptors):
            steps.append(descriptor)
            descriptor = self.descriptors.get(descriptor.parent) if descriptor.parent is not None else None
        return tuple(reversed(steps))

    def mds_of(self, handle: Handle) -> Handle:
        """The handle of the MDS that holds `handle`; `handle` itself where it is unknown."""
        path = self.path(handle)
        return path[0].handle if path else handle


class Folded(msgspec.Struct, frozen=True, gc=False):
    """A report was folded. `gap` counts MDIB versions that were not seen (legal, SDPi R1007)."""

    mdib: Mdib
    batch: ReportBatch
    violations: tuple[Violation, ...] = ()
    gap: int = 0


class Resync(msgspec.Struct, frozen=True, gc=False):
    """Nothing was applied: the mirror can no longer be trusted, GetMdib is due."""

    reason: ResyncReason
    handle: Handle | None = None


class _ResyncNeeded(Exception):  # noqa: N818 - a way out of the fold, not an error
    def __init__(self, reason: ResyncReason, handle: Handle | None = None) -> None:
        super().__init__(reason)
        self.resync = Resync(reason, handle)


def empty(device: DeviceId) -> Mdib:
    """The mirror of a device of which nothing is known yet."""
    return Mdib(device=device, version=MdibVersionGroup(""))


def fold(mdib: Mdib, report: Report) -> Folded | Resync:
    """Apply one whole report, or nothing of it. Pure: `mdib` stays as it was."""
    if not report.version.same_sequence(mdib.version):
        return Resync("sequence-changed")
    skipped = _refused_whole(mdib, report)
    if isinstance(skipped, Resync):
        return skipped
    if skipped is not None:
        seen = report.number if report.number is not None else mdib.report_number
        after = mdib if seen == mdib.report_number else msgspec.structs.replace(mdib, report_number=seen)
        return Folded(after, _batch(mdib, after, report, ()), (skipped,))
    draft = _Draft(mdib)
    try:
        for part in report.description:
            draft.modify(part)
        for state in report.states:
            draft.put(state)
    except _ResyncNeeded as needed:
        return needed.resync
    for invocation in report.invocations:
        mds = mdib.mds_of(invocation.operation_handle)
        draft.updates.append(OperationUpdate(mds, invocation=invocation))
    after = draft.finish(report)
    gap = max(0, report.version.mdib_version - mdib.version.mdib_version - 1)
    return Folded(after, _batch(mdib, after, report, tuple(draft.updates)), tuple(draft.violations), gap)


def snapshot(before: Mdib, after: Mdib, arrived: int, gap: GapUpdate | None = None) -> ReportBatch:
    """The batch that follows a GetMdib: one update, marked as replayed, for each state that differs from `before`."""
    updates: list[Update] = [gap] if gap is not None else []
    gone = [handle for handle in before.descriptors if handle not in after.descriptors]
    updates += [DescriptionUpdate(before.mds_of(handle), "Del", before.descriptors[handle]) for handle in gone]
    for handle, descriptor in after.descriptors.items():
        old = before.descriptors.get(handle)
        if old != descriptor:
            updates.append(DescriptionUpdate(after.mds_of(handle), "Upt" if old else "Crt", descriptor))
    for state in (*after.contexts.values(), *after.states.values()):
        if before.state(state.key) != state:
            updates.append(update_of(after.mds_of(state.descriptor_handle), state))
    return ReportBatch(
        device=after.device,
        before=before,
        after=after,
        updates=tuple(updates),
        arrived=arrived,
        replayed=True,
    )


def link(mdib: Mdib, update: LinkUpdate, arrived: int) -> ReportBatch:
    """A batch for what comes from no device: its before is its after."""
    return ReportBatch(device=mdib.device, before=mdib, after=mdib, updates=(update,), arrived=arrived)


_UPDATE_OF: dict[str, type[Update]] = {
    "NumericMetricState": MetricUpdate,
    "StringMetricState": MetricUpdate,
    "EnumStringMetricState": MetricUpdate,
    "DistributionSampleArrayMetricState": MetricUpdate,
    "RealTimeSampleArrayMetricState": WaveformChunk,
    "AlertSystemState": AlertUpdate,
    "AlertConditionState": AlertUpdate,
    "LimitAlertConditionState": AlertUpdate,
    "AlertSignalState": AlertUpdate,
}


def update_of(mds: Handle, state: State) -> Update:
    """The update that tells of a state."""
    name = type(state).__name__
    kind = _UPDATE_OF.get(name)
    if kind is None:
        kind = (
            ContextUpdate
            if name.endswith("ContextState") and hasattr(state, "context_association")
            else OperationUpdate
            if name.endswith("OperationState")
            else ComponentUpdate
        )
    return kind(mds, state)  # type: ignore[arg-type, call-arg]  # the table pairs each state with its update


def state_fits(descriptor: Descriptor, state: State) -> bool:
    """Whether a state is of the kind that its descriptor asks for."""
    return type(descriptor).__name__.removesuffix("Descriptor") == type(state).__name__.removesuffix("State")


def _refused_whole(mdib: Mdib, report: Report) -> Violation | Resync | None:
    if report.number is not None and mdib.report_number is not None:
        if report.number == mdib.report_number:
            return Violation("duplicate-report")
        if report.number != mdib.report_number + 1:
            return Resync("report-sequence-jump")
    if report.version.mdib_version < mdib.version.mdib_version:
        return Violation("mdib-version-older")
    return None


def _batch(before: Mdib, after: Mdib, report: Report, updates: tuple[Update, ...]) -> ReportBatch:
    return ReportBatch(
        device=before.device,
        before=before,
        after=after,
        updates=updates,
        arrived=report.arrived,
        report=report,
    )


class _Draft:
    """The next mirror while it is being made; copies a table the first time it is written to."""

    def __init__(self, mdib: Mdib) -> None:
        self._mdib = mdib
        self._descriptors: dict[Handle, Descriptor] | None = None
        self._states: dict[Handle, SingleState] | None = None
        self._contexts: dict[Handle, ContextState] | None = None
        self._mds: dict[Handle, Handle] = {}
        self.updates: list[Update] = []
        self.violations: list[Violation] = []

    def put(self, state: State, *, created: bool = False) -> None:
        descriptor = self.descriptors.get(state.descriptor_handle)
        if descriptor is None:
            raise _ResyncNeeded("unknown-handle", state.descriptor_handle)
        if not state_fits(descriptor, state):
            self._violate("state-kind-mismatch", state.key)
            return
        if state.descriptor_version > descriptor.descriptor_version:
            raise _ResyncNeeded("descriptor-version-ahead", state.descriptor_handle)
        old = self._old(state)
        if old is not None and not created:
            step = state.state_version - old.state_version
            if step > 1:
                raise _ResyncNeeded("state-version-gap", state.key)
            if step <= 0:
                if step < 0:
                    self._violate("state-version-older", state.key)
                elif state != old:
                    self._violate("state-version-reused", state.key)
                return
        if state.descriptor_version < descriptor.descriptor_version:
            self._violate("descriptor-version-mismatch", state.key)
        self._file(state)
        self.updates.append(update_of(self._mds_of(state.descriptor_handle), state))

    def modify(self, part: DescriptionPart) -> None:
        if part.modification == "Del":
            for descriptor in part.descriptors:
                self._delete(descriptor)
            return
        created = set()
        for descriptor in part.descriptors:
            if part.modification == "Crt" and descriptor.handle not in self.descriptors:
                self._create(descriptor)
                created.add(descriptor.handle)
            else:
                self._replace(descriptor, part)
        for state in part.states:
            self.put(state, created=state.descriptor_handle in created)

    def finish(self, report: Report) -> Mdib:
        mdib = self._mdib
        return Mdib(
            device=mdib.device,
            version=report.version,
            descriptors=self.descriptors,
            states=self._states_now(),
            contexts=self._contexts_now(),
            description_version=mdib.description_version,
            state_version=mdib.state_version,
            report_number=report.number if report.number is not None else mdib.report_number,
        )

    @property
    def descriptors(self) -> Mapping[Handle, Descriptor]:
        return self._descriptors if self._descriptors is not None else self._mdib.descriptors

    def _states_now(self) -> Mapping[Handle, SingleState]:
        return self._states if self._states is not None else self._mdib.states

    def _contexts_now(self) -> Mapping[Handle, ContextState]:
        return self._contexts if self._contexts is not None else self._mdib.contexts

    def _old(self, state: State) -> State | None:
        known = self._contexts_now() if hasattr(state, "context_association") else self._states_now()
        return known.get(state.key)

    def _file(self, state: State) -> None:
        if hasattr(state, "context_association"):
            self._own_contexts()[state.key] = state  # type: ignore[assignment]  # only context states have one
        else:
            self._own_states()[state.key] = state  # and all others have none

    def _create(self, descriptor: Descriptor) -> None:
        is_root = descriptor.parent is None and isinstance(descriptor, MdsDescriptor)
        if not is_root and descriptor.parent not in self.descriptors:
            raise _ResyncNeeded("unknown-parent", descriptor.handle)
        self._own_descriptors()[descriptor.handle] = descriptor
        self.updates.append(DescriptionUpdate(self._mds_of(descriptor.handle), "Crt", descriptor))

    def _replace(self, descriptor: Descriptor, part: DescriptionPart) -> None:
        old = self.descriptors.get(descriptor.handle)
        if old is None:
            raise _ResyncNeeded("unknown-handle", descriptor.handle)
        step = descriptor.descriptor_version - old.descriptor_version
        if step > 1:
            raise _ResyncNeeded("descriptor-version-gap", descriptor.handle)
        if descriptor.parent != old.parent:  # containment is for life; an update may leave the parent out
            if descriptor.parent is not None:
                self._violate("descriptor-moved", descriptor.handle)
            descriptor = msgspec.structs.replace(descriptor, parent=old.parent)
        if step <= 0:
            if part.modification == "Crt":
                self._violate("descriptor-created-twice", descriptor.handle)
            elif step < 0:
                self._violate("descriptor-version-older", descriptor.handle)
            elif descriptor != old:
                self._violate("descriptor-version-reused", descriptor.handle)
            return
        self._own_descriptors()[descriptor.handle] = descriptor
        self.updates.append(DescriptionUpdate(self._mds_of(descriptor.handle), "Upt", descriptor))

    def _delete(self, descriptor: Descriptor) -> None:
        if descriptor.handle not in self.descriptors:
            self._violate("descriptor-delete-unknown", descriptor.handle)
            return
        below: dict[Handle | None, list[Handle]] = {}
        for child in self.descriptors.values():
            below.setdefault(child.parent, []).append(child.handle)
        doomed = [descriptor.handle]
        for handle in doomed:  # grows while it is read: a parent stands before its children
            if children := below.pop(handle, None):
                self._violate("descriptor-deleted-with-children", handle)  # SDPi R1011
                doomed.extend(children)
        mds = self._mds_of(descriptor.handle)
        for handle in dict.fromkeys(reversed(doomed)):
            self._remove(mds, handle)

    def _remove(self, mds: Handle, handle: Handle) -> None:
        self.updates.append(DescriptionUpdate(mds, "Del", self.descriptors[handle]))
        del self._own_descriptors()[handle]
        self._mds.pop(handle, None)  # the handle may come back elsewhere
        if handle in self._states_now():
            self._own_states().pop(handle)
        for key in [key for key, state in self._contexts_now().items() if state.descriptor_handle == handle]:
            del self._own_contexts()[key]

    def _mds_of(self, handle: Handle) -> Handle:
        mds = self._mds.get(handle)
        if mds is None:
            top = handle
            descriptor = self.descriptors.get(handle)
            for _ in range(len(self.descriptors)):
                if descriptor is None or descriptor.parent is None:
                    break
                top = descriptor.parent
                descriptor = self.descriptors.get(top)
            mds = self._mds[handle] = top
        return mds

    def _violate(self, kind: ViolationKind, handle: Handle) -> None:
        self.violations.append(Violation(kind, handle))

    def _own_descriptors(self) -> dict[Handle, Descriptor]:
        if self._descriptors is None:
            self._descriptors = dict(self._mdib.descriptors)
        return self._descriptors

    def _own_states(self) -> dict[Handle, SingleState]:
        if self._states is None:
            self._states = dict(self._mdib.states)
        return self._states

    def _own_contexts(self) -> dict[Handle, ContextState]:
        if self._contexts is None:
            self._contexts = dict(self._mdib.contexts)
        return self._contexts
