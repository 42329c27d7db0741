"""Facet 5 (SDPi R8073 as read in `hl7v2_mapping` 7.4): what the signals at the device say, and in which words."""

import itertools
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdib_models.alerts import inactivation
from mdib_models.descriptors import AlertSignalDescriptor, Manifestation
from mdib_models.states import AlertActivation, AlertSignalState, SignalPresence

OFF, PAUSED = ("Off", "Off"), ("Psd", "Off")
ON, SILENT, ACK, LATCH = ("On", "On"), ("On", "Off"), ("On", "Ack"), ("On", "Latch")


def signals(*said):
    """(manifestation, (activation, presence)) of each signal, as the machine takes them."""
    return [
        (
            AlertSignalDescriptor(handle=f"s{number}", manifestation=manifestation, latching=False),
            AlertSignalState(descriptor_handle=f"s{number}", activation_state=activation, presence=presence),
        )
        for number, (manifestation, (activation, presence)) in enumerate(said)
    ]


def words(*said, present=True):
    return "~".join(inactivation(signals(*said), present=present))


@pytest.mark.parametrize(
    ("aud", "vis", "told"),
    [
        (ON, ON, "enabled"),
        (PAUSED, PAUSED, "alarm-paused"),
        (OFF, OFF, "alarm-off"),
        (SILENT, SILENT, "alarm-off"),
        (OFF, SILENT, "alarm-off"),
        (PAUSED, ON, "audio-paused"),
        (PAUSED, OFF, "audio-paused"),
        (PAUSED, ACK, "audio-paused~alert-acknowledged"),
        (OFF, ON, "audio-off"),
        (SILENT, ON, "audio-off"),
        (OFF, PAUSED, "audio-off"),
        (ACK, ON, "audio-off~alert-acknowledged"),
        (ACK, LATCH, "audio-off~alert-acknowledged"),
        (ACK, ACK, "alert-acknowledged"),
        (ACK, OFF, "alert-acknowledged"),
        (OFF, ACK, "alert-acknowledged"),
        (ON, ACK, "alert-acknowledged"),
        (ON, OFF, "enabled"),
        (ON, PAUSED, "enabled"),
        (LATCH, LATCH, "enabled"),
    ],
)
def test_r8073_one_audible_and_one_visible_signal(aud, vis, told):
    assert words(("Aud", aud), ("Vis", vis)) == told


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (PAUSED, PAUSED, "audio-paused"),
        (PAUSED, ON, "enabled"),
        (PAUSED, OFF, "enabled"),
        (OFF, SILENT, "audio-off"),
        (OFF, ACK, "audio-off~alert-acknowledged"),
        (OFF, ON, "enabled"),
        (("Psd", "Ack"), OFF, "alert-acknowledged"),  # paused, so neither off nor acknowledged while on
    ],
)
def test_r8073_all_audible_signals_must_be_silenced(first, second, told):
    assert words(("Aud", first), ("Aud", second), ("Vis", ON)) == told


@pytest.mark.parametrize(("first", "second"), [(ON, OFF), (OFF, ON)])
def test_r8073_any_other_signal_that_is_off_too_is_more_than_audio_off(first, second):
    assert words(("Aud", OFF), ("Vis", first), ("Tan", second)) == "enabled"


def test_r8073_any_other_signal_that_is_paused_too_is_more_than_audio_paused():
    assert words(("Aud", PAUSED), ("Vis", ON), ("Oth", PAUSED)) == "enabled"


@pytest.mark.parametrize("only", get_args(Manifestation))
def test_r8073_a_single_signal_that_is_silenced_is_the_whole_alarm(only):
    assert words((only, PAUSED)) == "alarm-paused"
    assert words((only, OFF)) == "alarm-off"


def test_r8073_without_signals_nothing_is_silenced():
    assert words() == "enabled"


@pytest.mark.parametrize("other", [OFF, PAUSED, ACK, SILENT])
def test_r8073_without_an_audible_signal_audio_is_never_named(other):
    assert "audio" not in words(("Vis", other), ("Tan", ON))


@pytest.mark.parametrize(("aud", "vis"), [*itertools.product([OFF, PAUSED, SILENT, ON, LATCH], repeat=2)])
def test_r8073_without_a_present_condition_nothing_is_silenced(aud, vis):
    assert words(("Aud", aud), ("Vis", vis), present=False) == "enabled"


@pytest.mark.parametrize("other", [OFF, PAUSED, ON, LATCH])
def test_r8073_an_acknowledgement_is_told_without_a_present_condition_too(other):
    assert words(("Aud", ACK), ("Vis", other), present=False) == "alert-acknowledged"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(get_args(Manifestation)),
            st.tuples(st.sampled_from(get_args(AlertActivation)), st.sampled_from(get_args(SignalPresence))),
        ),
        max_size=5,
    ),
    st.booleans(),
)
def test_r8073_the_words_never_contradict_each_other(said, present):
    told = inactivation(signals(*said), present=present)
    assert told
    assert sum(word.startswith(("alarm-", "audio-")) for word in told) <= int(present)
    assert ("enabled" in told) == (told == ("enabled",))
    assert ("alert-acknowledged" in told) == any(presence == "Ack" for _, (_, presence) in said)
    assert sorted(told) == sorted(inactivation(signals(*reversed(said)), present=present))
