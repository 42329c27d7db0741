"""Each rule of the fold that a device may break, each cause of a resync, and the ways to look at a mirror."""

from decimal import Decimal
from typing import get_args

import msgspec
import pytest

from mdib_models.descriptors import (
    ChannelDescriptor,
    MdsDescriptor,
    NumericMetricDescriptor,
    PatientContextDescriptor,
    SetValueOperationDescriptor,
    SystemContextDescriptor,
    VmdDescriptor,
)
from mdib_models.identity import MdibVersionGroup
from mdib_models.mirror import (
    Folded,
    Mdib,
    Resync,
    ResyncReason,
    Violation,
    ViolationKind,
    empty,
    fold,
    link,
    snapshot,
)
from mdib_models.states import (
    ChannelState,
    MdsState,
    NumericMetricState,
    NumericMetricValue,
    PatientContextState,
    Quality,
    StringMetricState,
    SystemContextState,
    VmdState,
)
from mdib_models.updates import DescriptionPart, DescriptionUpdate, GapUpdate, Invocation, LinkUpdate, Report
from tests.mdib_models.strategies import DEVICE, SEQUENCE, plainest

TREE = {
    "mds0": (MdsDescriptor, None),
    "vmd0": (VmdDescriptor, "mds0"),
    "ch0": (ChannelDescriptor, "vmd0"),
    "hr": (NumericMetricDescriptor, "ch0"),
    "spo2": (NumericMetricDescriptor, "ch0"),
    "sc0": (SystemContextDescriptor, "mds0"),
    "pc0": (PatientContextDescriptor, "sc0"),
    "mds1": (MdsDescriptor, None),
}


def descriptor(handle, version=2, **fields):
    kind, parent = TREE[handle]
    return plainest(kind, handle=handle, **{"parent": parent, "descriptor_version": version} | fields)


def numeric(handle="hr", version=6, number="71.0", described=2):
    value = NumericMetricValue(quality=Quality("Vld"), value=Decimal(number))
    return NumericMetricState(
        descriptor_handle=handle, descriptor_version=described, state_version=version, metric_value=value
    )


def patient(handle="pat0", version=6, **fields):
    return PatientContextState(
        handle=handle, descriptor_handle="pc0", descriptor_version=2, state_version=version, **fields
    )


def mirror(**fields):
    plain = {"mds0": MdsState, "vmd0": VmdState, "ch0": ChannelState, "sc0": SystemContextState, "mds1": MdsState}
    states = {
        handle: kind(descriptor_handle=handle, descriptor_version=2, state_version=5) for handle, kind in plain.items()
    }
    return Mdib(
        device=DEVICE,
        **{
            "version": MdibVersionGroup(SEQUENCE, 10, 3),
            "descriptors": {handle: descriptor(handle) for handle in TREE},
            "states": {**states, "hr": numeric(version=5), "spo2": numeric("spo2", 5)},
            "contexts": {"pat0": patient(version=5)},
            "report_number": 4,
        }
        | fields,
    )


def report(*states, version=11, number=5, parts=(), **fields):
    return Report(
        kind="description" if parts else "metric",
        version=MdibVersionGroup(SEQUENCE, version, 3),
        arrived=1,
        states=states,
        description=tuple(parts),
        number=number,
        **fields,
    )


def part(modification, *descriptors, states=()):
    return DescriptionPart(modification, descriptors, tuple(states))


WHOLE = {
    "mdib-version-older": report(numeric(), version=9),
    "duplicate-report": report(numeric(), number=4),
}
"""The whole report is skipped."""

SKIPPED = {
    "state-version-older": (report(numeric(version=4)), "hr"),
    "state-version-reused": (report(numeric(version=5, number="99")), "hr"),
    "descriptor-version-older": (report(parts=[part("Upt", descriptor("hr", 1))]), "hr"),
    "descriptor-version-reused": (report(parts=[part("Upt", descriptor("hr", safety_classification="MedC"))]), "hr"),
    "descriptor-created-twice": (report(parts=[part("Crt", descriptor("hr"))]), "hr"),
    "descriptor-delete-unknown": (report(parts=[part("Del", plainest(VmdDescriptor, handle="nowhere"))]), "nowhere"),
    "state-kind-mismatch": (
        report(StringMetricState(descriptor_handle="hr", descriptor_version=2, state_version=6)),
        "hr",
    ),
}
"""One thing is skipped: the report, and the handle of the thing."""

APPLIED = {
    "descriptor-version-mismatch": (report(numeric(described=1)), "hr"),
    "descriptor-deleted-with-children": (report(parts=[part("Del", descriptor("sc0"))]), "sc0"),
    "descriptor-moved": (report(parts=[part("Upt", descriptor("hr", 3, parent="mds1"))]), "hr"),
}
"""Counted, and applied as far as it makes sense."""

RESYNCS = {
    "sequence-changed": (
        msgspec.structs.replace(report(numeric()), version=MdibVersionGroup("urn:uuid:other", 11, 3)),
        None,
    ),
    "state-version-gap": (report(numeric(version=7)), "hr"),
    "descriptor-version-gap": (report(parts=[part("Upt", descriptor("hr", 4))]), "hr"),
    "descriptor-version-ahead": (report(numeric(described=3)), "hr"),
    "report-sequence-jump": (report(numeric(), number=6), None),
    "unknown-handle": (report(numeric("nowhere")), "nowhere"),
    "unknown-parent": (report(parts=[part("Crt", plainest(VmdDescriptor, handle="new", parent="nowhere"))]), "new"),
}
"""The report, and the handle that the resync names."""

SIBLINGS = (numeric("spo2", 6, "97.5"), MdsState(descriptor_handle="mds1", descriptor_version=2, state_version=6))


def with_siblings(told):
    """The report with a lawful state before and after what it had to say."""
    return msgspec.structs.replace(told, states=(SIBLINGS[0], *told.states, SIBLINGS[1]))


def things(folded):
    return [getattr(update, "descriptor", None) or update.state for update in folded.batch.updates]


def test_every_violation_is_produced_here():
    assert {*WHOLE, *SKIPPED, *APPLIED} == set(get_args(ViolationKind))


def test_every_cause_of_a_resync_is_produced_here():
    assert {*RESYNCS} == set(get_args(ResyncReason))


@pytest.mark.parametrize("kind", WHOLE)
def test_a_report_refused_whole_is_counted_and_changes_no_table(kind):
    before = mirror()
    folded = fold(before, WHOLE[kind])
    assert folded.violations == (Violation(kind),)
    assert folded.batch.updates == ()
    assert (folded.batch.before, folded.batch.after) == (before, folded.mdib)
    for name in ("version", "descriptors", "states", "contexts"):
        assert getattr(folded.mdib, name) is getattr(before, name)


@pytest.mark.parametrize("kind", SKIPPED)
def test_what_breaks_a_rule_is_skipped_and_its_siblings_apply(kind):
    told, handle = SKIPPED[kind]
    before = mirror()
    folded = fold(before, with_siblings(told))
    assert folded.violations == (Violation(kind, handle),)
    assert things(folded) == [*SIBLINGS]
    expected = {**before.states, **{state.descriptor_handle: state for state in SIBLINGS}}
    version = MdibVersionGroup(SEQUENCE, 11, 3)
    assert folded.mdib == msgspec.structs.replace(before, version=version, states=expected, report_number=5)


@pytest.mark.parametrize("kind", APPLIED)
def test_what_breaks_a_rule_without_harm_is_counted_and_applies(kind):
    told, handle = APPLIED[kind]
    folded = fold(mirror(), with_siblings(told))
    assert folded.violations == (Violation(kind, handle),)
    assert [state for state in things(folded) if state in SIBLINGS] == [*SIBLINGS]
    assert len(things(folded)) > len(SIBLINGS)


@pytest.mark.parametrize("reason", RESYNCS)
def test_a_resync_applies_nothing(reason):
    told, handle = RESYNCS[reason]
    before = mirror()
    assert fold(before, with_siblings(told)) == Resync(reason, handle)
    assert before == mirror()


def test_a_state_with_an_older_descriptor_version_is_filed_all_the_same():
    folded = fold(mirror(), report(numeric(described=1)))
    assert folded.mdib.states["hr"] == numeric(described=1)


def test_the_same_state_again_is_no_violation_and_no_update():
    before = mirror()
    folded = fold(before, report(numeric(version=5)))
    assert (folded.violations, folded.batch.updates) == ((), ())
    assert folded.mdib.states is before.states


def test_a_descriptor_updated_to_what_it_is_is_no_violation_and_no_update():
    folded = fold(mirror(), report(parts=[part("Upt", descriptor("hr"))]))
    assert (folded.violations, folded.batch.updates) == ((), ())


def test_a_descriptor_created_again_with_the_next_version_counts_as_updated():
    folded = fold(mirror(), report(parts=[part("Crt", descriptor("hr", 3))]))
    assert folded.violations == ()
    assert folded.batch.updates == (DescriptionUpdate("mds0", "Upt", descriptor("hr", 3)),)


def test_an_update_of_an_unknown_descriptor_is_a_resync():
    stranger = plainest(VmdDescriptor, handle="new", parent="mds0")
    assert fold(mirror(), report(parts=[part("Upt", stranger)])) == Resync("unknown-handle", "new")


def test_only_an_mds_is_created_without_a_parent():
    root = plainest(MdsDescriptor, handle="mds2")
    assert fold(mirror(), report(parts=[part("Crt", root)])).mdib.find("mds2") == root
    orphan = plainest(ChannelDescriptor, handle="new")
    assert fold(mirror(), report(parts=[part("Crt", orphan)])) == Resync("unknown-parent", "new")


def test_an_update_that_names_another_parent_changes_all_but_the_parent():
    told = report(parts=[part("Upt", descriptor("hr", 3, parent="mds1", safety_classification="MedC"))])
    folded = fold(mirror(), told)
    expected = descriptor("hr", 3, safety_classification="MedC")
    assert folded.mdib.find("hr") == expected
    assert folded.batch.updates == (DescriptionUpdate("mds0", "Upt", expected),)


def test_an_update_may_leave_the_parent_out():
    folded = fold(mirror(), report(parts=[part("Upt", descriptor("hr", 3, parent=None))]))
    assert folded.violations == ()
    assert folded.mdib.find("hr") == descriptor("hr", 3)


def test_a_parent_made_its_own_grandchild_by_an_update_leaves_a_tree_that_can_be_deleted():
    looped = fold(mirror(), report(parts=[part("Upt", descriptor("vmd0", 3, parent="hr"))])).mdib
    assert [each.handle for each in looped.path("hr")] == ["mds0", "vmd0", "ch0", "hr"]
    folded = fold(looped, report(parts=[part("Del", descriptor("vmd0"))], number=6))
    assert [violation.handle for violation in folded.violations] == ["vmd0", "ch0"]
    assert {*folded.mdib.descriptors} == {"mds0", "sc0", "pc0", "mds1"}


def test_r1007_versions_may_have_gaps_which_are_counted():
    assert fold(mirror(), report(numeric(), version=10)).gap == 0
    assert fold(mirror(), report(numeric(), version=11)).gap == 0
    assert fold(mirror(), report(numeric(), version=14)).gap == 3


def test_several_reports_may_share_an_mdib_version():
    first = fold(mirror(), report(numeric()))
    second = fold(first.mdib, report(numeric("spo2"), number=6))
    assert (first.violations, second.violations) == ((), ())
    assert second.mdib.states["hr"] == numeric()
    assert second.mdib.states["spo2"] == numeric("spo2")


def test_r1006_a_report_with_an_older_version_still_counts_in_the_sequence_of_reports():
    older = fold(mirror(), report(numeric(), version=9, number=5))
    following = fold(older.mdib, report(numeric(), version=11, number=6))
    assert isinstance(following, Folded)
    assert following.mdib.states["hr"] == numeric()


def test_r1011_a_parent_deleted_before_its_children_takes_them_and_their_states_along():
    folded = fold(mirror(), report(parts=[part("Del", descriptor("vmd0")), part("Del", descriptor("sc0"))]))
    assert {*folded.mdib.descriptors} == {"mds0", "mds1"}
    assert {*folded.mdib.states} == {"mds0", "mds1"}
    assert folded.mdib.contexts == {}
    assert [update.modification for update in folded.batch.updates] == ["Del"] * 6
    assert [update.descriptor.handle for update in folded.batch.updates] == ["spo2", "hr", "ch0", "vmd0", "pc0", "sc0"]
    assert {update.mds for update in folded.batch.updates} == {"mds0"}
    assert [violation.handle for violation in folded.violations] == ["vmd0", "ch0", "sc0"]


def test_a_chain_of_any_depth_can_be_deleted():
    chain = {f"c{n}": plainest(VmdDescriptor, handle=f"c{n}", parent=f"c{n - 1}") for n in range(1, 3000)}
    deep = mirror(descriptors={"c0": plainest(MdsDescriptor, handle="c0"), **chain})
    folded = fold(deep, report(parts=[part("Del", deep.descriptors["c0"])]))
    assert folded.mdib.descriptors == {}
    assert len(folded.batch.updates) == 3000


def test_a_deleted_handle_may_come_back_under_another_mds():
    back = descriptor("hr", 3, parent="vmd1")
    vmd = plainest(VmdDescriptor, handle="vmd1", parent="mds1")
    state = numeric(version=6, described=3)
    told = report(parts=[part("Del", descriptor("hr")), part("Crt", vmd), part("Crt", back, states=[state])])
    folded = fold(mirror(), told)
    assert folded.violations == ()
    assert [update.mds for update in folded.batch.updates] == ["mds0", "mds1", "mds1", "mds1"]
    assert folded.mdib.mds_of("hr") == "mds1"


def test_a_state_left_over_from_a_snapshot_does_not_hinder_its_new_descriptor():
    left = mirror(states={"ghost": plainest(ChannelState, descriptor_handle="ghost", state_version=9)})
    ghost = plainest(ChannelDescriptor, handle="ghost", parent="vmd0")
    state = plainest(ChannelState, descriptor_handle="ghost")
    folded = fold(left, report(parts=[part("Crt", ghost, states=[state])]))
    assert folded.mdib.states["ghost"] == state


def test_r1032_a_duplicate_number_is_not_applied_again():
    first = fold(mirror(), report(numeric()))
    again = fold(first.mdib, report(numeric()))
    assert again.mdib is first.mdib
    assert again.violations == (Violation("duplicate-report"),)


@pytest.mark.parametrize("number", [1, 3, 6, 2**40])
def test_r1031_a_number_that_is_lower_or_jumps_is_a_resync(number):
    assert fold(mirror(), report(numeric(), number=number)) == Resync("report-sequence-jump")


def test_the_first_number_after_a_snapshot_is_taken_as_it_is():
    assert fold(mirror(report_number=None), report(numeric(), number=17)).mdib.report_number == 17


def test_a_report_without_a_number_leaves_the_last_one():
    assert fold(mirror(), report(numeric(), number=None)).mdib.report_number == 4


@pytest.mark.parametrize("version", [MdibVersionGroup("urn:uuid:x", 11, 3), MdibVersionGroup(SEQUENCE, 11, 4)])
def test_a_new_sequence_or_instance_starts_over(version):
    assert fold(mirror(), msgspec.structs.replace(report(numeric()), version=version)) == Resync("sequence-changed")


def test_an_invocation_belongs_to_the_mds_of_its_operation():
    operation = plainest(SetValueOperationDescriptor, handle="op", parent="mds1")
    held = mirror(descriptors={**mirror().descriptors, "op": operation})
    known, unknown = Invocation("op", 1, "Fin"), Invocation("gone", 2, "Fail")
    updates = fold(held, report(invocations=(known, unknown))).batch.updates
    assert [(update.mds, update.invocation) for update in updates] == [("mds1", known), ("gone", unknown)]


def test_find_state_and_children():
    held = mirror()
    assert held.find("hr") == descriptor("hr")
    assert held.find("nowhere") is None
    assert held.state("hr") == numeric(version=5)
    assert held.state("pat0") == patient(version=5)
    assert held.state("nowhere") is None
    assert [each.handle for each in held.children("ch0")] == ["hr", "spo2"]
    assert [each.handle for each in held.children(None)] == ["mds0", "mds1"]
    assert list(held.children("nowhere")) == []


def test_walk_is_depth_first_in_document_order():
    walked = [(depth, each.handle) for depth, each in mirror().walk()]
    assert walked == [*zip([0, 1, 2, 3, 3, 1, 2, 0], TREE, strict=True)]
    assert [(depth, each.handle) for depth, each in mirror().walk("vmd0")] == [(0, "ch0"), (1, "hr"), (1, "spo2")]
    assert list(mirror().walk("nowhere")) == []


def test_path_and_mds():
    assert [each.handle for each in mirror().path("hr")] == ["mds0", "vmd0", "ch0", "hr"]
    assert mirror().path("nowhere") == ()
    assert mirror().mds_of("pc0") == "mds0"
    assert mirror().mds_of("nowhere") == "nowhere"


def test_a_loop_in_a_read_mdib_ends_every_walk_and_can_be_deleted():
    loop = {handle: plainest(VmdDescriptor, handle=handle, parent=up) for handle, up in ("ab", "ba")}
    held = mirror(descriptors=loop)
    assert list(held.walk()) == []
    assert [each.handle for _, each in held.walk("a")] == ["b", "a"]
    assert {each.handle for each in held.path("a")} == {"a", "b"}
    folded = fold(held, report(parts=[part("Del", loop["a"])]))
    assert folded.mdib.descriptors == {}
    assert {update.mds for update in folded.batch.updates} <= {"a", "b"}


def test_a_snapshot_of_what_is_known_tells_nothing_and_a_gap_is_told_first():
    gap = GapUpdate("state-version-gap", after=MdibVersionGroup(SEQUENCE, 10, 3))
    assert snapshot(mirror(), mirror(), 1).updates == ()
    batch = snapshot(empty(DEVICE), mirror(), 1, gap)
    assert batch.updates[0] == gap
    assert len(batch.updates) == 1 + len(TREE) + len(mirror().states) + 1
    assert batch.replayed


def test_a_link_update_rides_in_a_batch_whose_before_is_its_after():
    held, update = mirror(), LinkUpdate("lost", "no renewal", "live")
    batch = link(held, update, 77)
    assert batch.before is held
    assert batch.after is held
    assert (batch.updates, batch.arrived, batch.replayed, batch.report) == ((update,), 77, False, None)


def test_an_empty_mirror_knows_nothing():
    held = empty(DEVICE)
    assert (held.device, held.version.sequence_id) == (DEVICE, "")
    assert list(held.walk()) == []
    assert isinstance(fold(held, report(numeric())), Resync)
