"""Descriptors: implied values, and one state for each kind."""

from typing import get_args

import pytest

from mdib_models.descriptors import (
    AlertConditionDescriptor,
    Descriptor,
    LimitAlertConditionDescriptor,
    MetricDescriptor,
)
from mdib_models.mirror import state_fits
from tests.mdib_models.strategies import DESCRIPTORS, STATE_OF, STATES, plainest

IMPLIED = {"Set": "Man", "Preset": "Man", "Msrmt": "Auto", "Clc": "Auto", "Rcmm": "Auto"}
"""By category; BICEPS implies nothing for Unspec."""


@pytest.mark.parametrize("category", IMPLIED)
@pytest.mark.parametrize("kind", get_args(MetricDescriptor))
def test_the_implied_derivation_follows_the_category(kind, category):
    fields = {"handle": "m", "metric_category": category}
    assert plainest(kind, **fields).derivation == IMPLIED[category]
    assert plainest(kind, **fields, derivation_method="Man").derivation == "Man"
    assert plainest(kind, **fields, derivation_method="Auto").derivation == "Auto"


@pytest.mark.parametrize("kind", DESCRIPTORS)
def test_every_descriptor_has_exactly_one_kind_of_state(kind):
    descriptor = plainest(kind, handle="h")
    assert [each for each in STATES if state_fits(descriptor, plainest(each))] == [STATE_OF[kind]]


def test_no_state_is_without_a_descriptor():
    assert {*STATE_OF.values()} == {*STATES}
    assert len(STATE_OF) == len(get_args(Descriptor)) == len(STATES)


def test_a_limit_condition_is_a_condition():
    limit = plainest(LimitAlertConditionDescriptor, handle="h")
    assert isinstance(limit, AlertConditionDescriptor)


@pytest.mark.parametrize("kind", DESCRIPTORS)
def test_a_descriptor_is_a_value(kind):
    one, two = plainest(kind, handle="h"), plainest(kind, handle="h")
    assert one == two
    assert one is not two
    assert one != plainest(kind, handle="other")
    with pytest.raises(AttributeError):
        one.handle = "other"
