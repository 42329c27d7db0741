"""Pacing of resyncs, and the fold that lets a violating device pass."""

import msgspec
import pytest

from consumers.tolerance import Pacing, fold_leniently
from mdib_models.coding import CodedValue
from mdib_models.descriptors import ChannelDescriptor, MdsDescriptor, StringMetricDescriptor
from mdib_models.identity import DeviceId, MdibVersionGroup
from mdib_models.mirror import Folded, Mdib, Resync
from mdib_models.states import StringMetricState
from mdib_models.updates import DescriptionPart, Report

UNIT = CodedValue("262656")


def metric(handle="m", version=0, parent="c"):
    return StringMetricDescriptor(
        handle=handle,
        parent=parent,
        descriptor_version=version,
        unit=UNIT,
        metric_category="Msrmt",
        metric_availability="Intr",
    )


MIRROR = Mdib(
    device=DeviceId("urn:uuid:d"),
    version=MdibVersionGroup("urn:uuid:s", 5),
    descriptors={
        "mds": MdsDescriptor(handle="mds"),
        "c": ChannelDescriptor(handle="c", parent="mds"),
        "m": metric(),
        "n": metric("n"),
    },
    states={handle: StringMetricState(descriptor_handle=handle) for handle in ("m", "n")},
    report_number=3,
)


def report(*states, description=(), number=None, sequence="urn:uuid:s"):
    return Report(
        kind="metric",
        version=MdibVersionGroup(sequence, 6),
        arrived=1,
        states=states,
        description=description,
        number=number,
    )


def state(handle="m", version=1, descriptor_version=0):
    return StringMetricState(descriptor_handle=handle, state_version=version, descriptor_version=descriptor_version)


def always(_reason):
    return True


@pytest.mark.parametrize(
    ("made", "reason", "applied"),
    [
        (report(state(version=9), state("n")), "state-version-gap", {"m", "n"}),
        (report(state("ghost"), state("n")), "unknown-handle", {"n"}),
        (report(state(descriptor_version=4), state("n")), "descriptor-version-ahead", {"m", "n"}),
        (report(state(), number=9), "report-sequence-jump", {"m"}),
        (
            report(state(), description=(DescriptionPart("Upt", (metric(version=7),), (state("n"),)),)),
            "descriptor-version-gap",
            {"m", "n"},
        ),
        (
            report(state(), description=(DescriptionPart("Crt", (metric("x", parent="gone"),)),)),
            "unknown-parent",
            {"m"},
        ),
    ],
)
def test_marked_device_is_followed_without_what_it_breaks(made, reason, applied):
    refused = fold_leniently(MIRROR, made, lambda _reason: False)
    assert isinstance(refused, Resync)
    assert refused.reason == reason
    folded = fold_leniently(MIRROR, made, always)
    assert isinstance(folded, Folded)
    assert folded.batch.before is MIRROR
    assert folded.batch.after is folded.mdib
    changed = {update.state.descriptor_handle for update in folded.batch.updates if hasattr(update, "state")}
    assert changed == applied
    assert folded.mdib.version.mdib_version == 6


def test_new_sequence_is_never_bent():
    pacing = Pacing()
    for _ in range(50):
        assert not pacing.tolerates("sequence-changed")
        pacing.wait("sequence-changed")
    result = fold_leniently(MIRROR, report(sequence="urn:uuid:other"), pacing.tolerates)
    assert result == Resync("sequence-changed")


def test_several_rules_broken_in_one_report():
    made = report(state(version=9), state("ghost"), state("n", version=4), number=8)
    folded = fold_leniently(MIRROR, made, always)
    assert {update.state.descriptor_handle for update in folded.batch.updates} == {"m", "n"}
    assert folded.mdib.report_number == 8


def test_a_report_that_keeps_the_rules_is_folded_as_ever():
    folded = fold_leniently(MIRROR, report(state(), number=4), lambda _reason: False)
    assert folded.mdib.states["m"].state_version == 1
    assert msgspec.structs.asdict(MIRROR)["report_number"] == 3


def test_pacing_waits_longer_and_marks_after_the_limit():
    now = [100.0]
    pacing = Pacing(pause=1.0, window=60.0, limit=3, clock=lambda: now[0])
    waits = []
    for _ in range(3):
        assert not pacing.tolerates("state-version-gap")
        waits.append(pacing.wait("state-version-gap"))
        now[0] += waits[-1]
    assert waits == [0.0, 1.0, 2.0]
    assert not pacing.tolerates("unknown-handle")
    assert pacing.tolerates("state-version-gap")
    assert pacing.violating == {"state-version-gap"}
    now[0] += 100
    assert pacing.wait("unknown-handle") == 0.0, "the past is forgotten after the window"


def marked(now, reason="unreadable"):
    pacing = Pacing(window=60.0, limit=3, clock=lambda: now[0])
    for _ in range(3):
        assert not pacing.tolerates(reason)
        pacing.wait(reason)
    assert not pacing.marked(reason), "asking marks nobody"
    assert pacing.tolerates(reason)
    return pacing


def test_mark_lasts_until_the_rule_was_kept_for_the_window():
    now = [100.0]
    pacing = marked(now)
    for _ in range(5):
        now[0] += 50
        assert pacing.marked("unreadable")
    assert pacing.violating == {"unreadable"}
    now[0] += 61
    assert pacing.violating == frozenset()
    assert not pacing.marked("unreadable")
    assert not pacing.tolerates("unreadable")


def test_new_sequence_takes_the_marks_back_and_keeps_the_pace():
    pacing = marked([100.0])
    pacing.forgive()
    assert pacing.violating == frozenset()
    assert not pacing.tolerates("unreadable")
    assert pacing.wait("unreadable") > 0


def test_descriptor_that_its_own_report_contradicts_is_left_out():
    part = DescriptionPart("Crt", (metric("x"),), (state("x", descriptor_version=5),))
    folded = fold_leniently(MIRROR, report(state(), description=(part,)), always)
    assert "x" not in folded.mdib.descriptors
    assert folded.mdib.states["m"].state_version == 1
