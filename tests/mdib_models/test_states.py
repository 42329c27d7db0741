"""States: what they are filed under, BICEPS's implied values, and samples that become numbers when asked for."""

from decimal import Decimal

import hypothesis.strategies as st
import pytest
from hypothesis import given

from mdib_models.states import (
    AlertSignalState,
    ClockState,
    LimitAlertConditionState,
    MdsState,
    PatientContextState,
    Quality,
    SampleArrayValue,
)
from tests.mdib_models.strategies import CONTEXTS, STATES, plainest


def samples(text):
    return SampleArrayValue(quality=Quality("Vld"), samples=text)


@pytest.mark.parametrize("kind", STATES)
def test_context_states_are_filed_under_their_own_handle_and_all_others_under_their_descriptors(kind):
    state = plainest(kind, descriptor_handle="d", **({"handle": "own"} if kind in CONTEXTS else {}))
    assert state.key == ("own" if kind in CONTEXTS else "d")


@pytest.mark.parametrize("kind", STATES)
def test_a_state_is_a_value(kind):
    state = plainest(kind, descriptor_handle="d")
    assert state == plainest(kind, descriptor_handle="d")
    assert state != plainest(kind, descriptor_handle="d", state_version=1)
    with pytest.raises(AttributeError):
        state.state_version = 2


def test_implied_values_are_those_of_biceps():
    assert (Quality("Vld").mode, Quality("Vld").qi) == ("Real", 1)
    mds = MdsState(descriptor_handle="mds0")
    assert (mds.activation_state, mds.operating_mode, mds.lang) == ("On", "Nml", "en")
    assert PatientContextState(handle="p", descriptor_handle="d").context_association == "No"
    signal = plainest(AlertSignalState)
    assert (signal.presence, signal.location) == ("Off", "Loc")
    limit = plainest(LimitAlertConditionState)
    assert (limit.presence, limit.monitored_alert_limits) == (False, "All")
    assert plainest(ClockState).critical_use is False


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", []),
        (" \n", []),
        ("1", [1.0]),
        ("0.25 -0.5  3\n4.0", [0.25, -0.5, 3.0, 4.0]),
    ],
)
def test_samples_are_numbers_when_somebody_asks(text, numbers):
    value = samples(text)
    assert list(value.numbers()) == numbers
    assert value.numbers().typecode == "d"
    assert value.count == len(numbers)
    assert value.samples == text


@pytest.mark.parametrize("text", ["1 two 3", "1,5", "1;2", "--1", "0x10"])
def test_samples_that_are_no_numbers_are_an_error(text):
    with pytest.raises(ValueError, match="could not convert"):
        samples(text).numbers()


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-999, max_value=999)))
def test_samples_are_the_nearest_doubles_to_their_text(numbers):
    value = samples(" ".join(map(str, numbers)))
    assert [Decimal(repr(each)) for each in value.numbers()] == numbers
    assert value.count == len(numbers)
