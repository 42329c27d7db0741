"""The fold of whatever a legal device may say, against the device's own books; and the shape of every MDIB."""

import typing

from hypothesis import given, settings

from mdib_models import descriptors, states
from mdib_models.mirror import Folded, fold, snapshot
from mdib_models.updates import (
    AlertUpdate,
    ComponentUpdate,
    ContextUpdate,
    DescriptionUpdate,
    MetricUpdate,
    OperationUpdate,
    WaveformChunk,
)
from tests.mdib_models.strategies import DESCRIPTORS, DEVICE, histories

UPDATES = {
    MetricUpdate: typing.get_args(states.NonWaveformMetricState),
    WaveformChunk: (states.RealTimeSampleArrayMetricState,),
    AlertUpdate: typing.get_args(states.AlertState),
    ContextUpdate: typing.get_args(states.ContextState),
    ComponentUpdate: typing.get_args(states.ComponentState),
    OperationUpdate: typing.get_args(states.OperationState),
    DescriptionUpdate: DESCRIPTORS,
}
UPDATE_OF = {kind: update for update, kinds in UPDATES.items() for kind in kinds}


def thing_of(update):
    for name in ("descriptor", "state", "invocation"):
        if getattr(update, name, None) is not None:
            return getattr(update, name)
    raise AssertionError(update)


def tables(mdib):
    return dict(mdib.descriptors), dict(mdib.states), dict(mdib.contexts)


@given(histories())
@settings(max_examples=120, deadline=None)
def test_the_fold_of_a_legal_history_is_the_final_mdib(history):
    mirror = history.first
    for told in history.told:
        kept = tables(mirror)
        folded = fold(mirror, told.report)
        assert isinstance(folded, Folded)
        assert folded.violations == ()
        assert folded.mdib == told.mdib
        assert folded.batch.before is mirror
        assert folded.batch.after is folded.mdib
        assert folded.batch.report is told.report
        assert folded.batch.arrived == told.report.arrived
        assert folded.batch.device == DEVICE
        assert not folded.batch.replayed
        assert tables(mirror) == kept  # what was is never touched
        stepped = told.report.version.mdib_version - mirror.version.mdib_version
        assert folded.gap == (stepped - 1 if stepped > 1 else 0)
        mirror = folded.mdib
    assert mirror == history.last


@given(histories())
@settings(max_examples=60, deadline=None)
def test_each_thing_told_is_one_update_of_its_kind_and_mds_in_order(history):
    mirror = history.first
    for told in history.told:
        folded = fold(mirror, told.report)
        things = [(update.mds, thing_of(update)) for update in folded.batch.updates]
        assert things == list(told.things)
        for update in folded.batch.updates:
            thing = thing_of(update)
            assert type(update) is UPDATE_OF.get(type(thing), OperationUpdate)
        mirror = folded.mdib


@given(histories())
@settings(max_examples=60, deadline=None)
def test_a_table_that_a_report_does_not_write_is_shared(history):
    mirror = history.first
    for told in history.told:
        after = fold(mirror, told.report).mdib
        for name in ("descriptors", "states", "contexts"):
            before_table, after_table = getattr(mirror, name), getattr(after, name)
            assert (before_table is after_table) == (before_table == after_table)
        mirror = after


@given(histories())
@settings(max_examples=60, deadline=None)
def test_a_snapshot_tells_of_every_difference_once(history):
    before, after = history.first, history.last
    batch = snapshot(before, after, 5)
    assert (batch.before, batch.after, batch.arrived, batch.replayed, batch.report) == (before, after, 5, True, None)
    changes = {"Crt": {}, "Upt": {}, "Del": {}}
    told = {}
    for update in batch.updates:
        thing = thing_of(update)
        if isinstance(update, DescriptionUpdate):
            assert thing.handle not in changes[update.modification]
            changes[update.modification][thing.handle] = thing
            assert update.mds == (before if update.modification == "Del" else after).mds_of(thing.handle)
        else:
            assert thing.key not in told
            told[thing.key] = thing
            assert update.mds == after.mds_of(thing.descriptor_handle)
    old, new = before.descriptors, after.descriptors
    assert changes["Del"] == {handle: old[handle] for handle in old if handle not in new}
    assert changes["Crt"] == {handle: new[handle] for handle in new if handle not in old}
    assert changes["Upt"] == {handle: new[handle] for handle in new if old.get(handle) not in {None, new[handle]}}
    was, now = {**before.states, **before.contexts}, {**after.states, **after.contexts}
    assert told == {key: state for key, state in now.items() if was.get(key) != state}


@given(histories())
@settings(max_examples=60, deadline=None)
def test_walk_and_path_agree_and_reach_every_descriptor_once(history):
    mdib = history.last
    walked = list(mdib.walk())
    assert sorted(descriptor.handle for _, descriptor in walked) == sorted(mdib.descriptors)
    seen = set()
    for depth, descriptor in walked:
        assert descriptor.parent is None or descriptor.parent in seen  # a parent before its children
        seen.add(descriptor.handle)
        path = mdib.path(descriptor.handle)
        assert (len(path) - 1, path[-1]) == (depth, descriptor)
        assert [step.parent for step in path] == [None, *(step.handle for step in path[:-1])]
        assert isinstance(path[0], descriptors.MdsDescriptor)
        assert mdib.mds_of(descriptor.handle) == path[0].handle
        below = [each for _, each in mdib.walk(descriptor.handle)]
        assert all(descriptor in mdib.path(each.handle) for each in below)
        assert [each for each in below if each.parent == descriptor.handle] == list(mdib.children(descriptor.handle))
