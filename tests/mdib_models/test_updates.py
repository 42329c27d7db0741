"""Updates: each is tagged, comes back from JSON as what it was, and tells of its own kind of state."""

from typing import get_args

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from mdib_models import states
from mdib_models.mirror import empty, update_of
from mdib_models.updates import (
    AlertUpdate,
    Association,
    ComponentUpdate,
    ContextUpdate,
    MetricUpdate,
    OperationUpdate,
    ReportBatch,
    Update,
    WaveformChunk,
)
from tests.mdib_models.strategies import DEVICE, STATES, plainest, structs

UPDATES = get_args(Update)


def kind_of(state):
    for update, kinds in {
        WaveformChunk: (states.RealTimeSampleArrayMetricState,),
        MetricUpdate: get_args(states.NonWaveformMetricState),
        AlertUpdate: get_args(states.AlertState),
        ContextUpdate: get_args(states.ContextState),
        ComponentUpdate: get_args(states.ComponentState),
        OperationUpdate: get_args(states.OperationState),
    }.items():
        if type(state) in kinds:
            return update
    return None


@pytest.mark.parametrize("kind", STATES)
def test_each_kind_of_state_has_its_own_kind_of_update(kind):
    state = plainest(kind, descriptor_handle="d")
    update = update_of("mds0", state)
    assert type(update) is kind_of(state)
    assert (update.mds, update.state) == ("mds0", state)


@pytest.mark.parametrize("kind", UPDATES)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_every_update_comes_back_from_json_as_what_it_was(kind, data):
    update = data.draw(structs(kind))
    text = msgspec.json.encode(update)
    assert msgspec.json.decode(text)["@type"] == kind.__name__
    back = msgspec.json.decode(text, type=Update)
    assert type(back) is kind
    assert back == update


def test_tags_tell_all_updates_apart():
    assert len({kind.__name__ for kind in UPDATES}) == len(UPDATES) == 9


def test_a_batch_leaves_the_wing_without_associations_and_occurrences():
    mirror = empty(DEVICE)
    batch = ReportBatch(device=DEVICE, before=mirror, after=mirror, updates=(), arrived=1)
    assert (batch.associations, batch.occurrences, batch.report, batch.replayed) == ({}, (), None, False)
    with pytest.raises(AttributeError):
        batch.arrived = 2


@given(structs(Association))
def test_an_association_is_a_value_that_comes_back_from_json(association):
    assert msgspec.json.decode(msgspec.json.encode(association), type=Association) == association
