import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.alarm_panel import AlarmPanel, Condition, ConditionState, Signal, SignalState, SystemState


def condition(handle: str, *, technical: bool = False, latching: bool = False) -> Condition:
    return Condition(
        handle=handle,
        system="asy",
        technical=technical,
        signals=(
            Signal(handle=f"{handle}.vis", audible=False, latching=False, acknowledgeable=False),
            Signal(handle=f"{handle}.aud", audible=True, latching=latching, acknowledgeable=True),
        ),
    )


@pytest.fixture
def panel() -> AlarmPanel:
    return AlarmPanel([condition("lo"), condition("apnea", latching=True), condition("tec", technical=True)])


def test_start_and_end(panel: AlarmPanel):
    panel.observe({"lo": True})
    states = panel.states()
    assert states["lo"] == ConditionState(present=True)
    assert states["lo.vis"] == states["lo.aud"] == SignalState(presence="On")
    assert states["asy"] == SystemState(physiological=("lo",))
    panel.observe({"lo": False})
    assert panel.states() == AlarmPanel([condition(h) for h in ("lo",)]).states() | {
        handle: state for handle, state in panel.states().items() if not handle.startswith("lo")
    }


def test_a_technical_condition_is_listed_as_one(panel: AlarmPanel):
    panel.observe({"tec": True, "lo": True})
    assert panel.states()["asy"] == SystemState(physiological=("lo",), technical=("tec",))


def test_update_a_latching_signal_outlives_its_condition_until_it_is_reset(panel: AlarmPanel):
    panel.observe({"apnea": True})
    panel.observe({"apnea": False})
    assert panel.states()["apnea.aud"] == SignalState(presence="Latch")
    assert panel.states()["apnea.vis"] == SignalState(presence="Off")
    panel.reset_latches("lo")
    assert panel.states()["apnea.aud"] == SignalState(presence="Latch")
    panel.reset_latches()
    assert panel.states()["apnea.aud"] == SignalState(presence="Off")


def test_acknowledging_a_latched_signal_ends_the_latch(panel: AlarmPanel):
    panel.observe({"apnea": True})
    panel.observe({"apnea": False})
    panel.acknowledge("apnea")
    assert panel.states()["apnea.aud"] == SignalState(presence="Ack")


def test_an_acknowledged_alarm_ends_without_a_latch(panel: AlarmPanel):
    panel.observe({"apnea": True, "lo": True})
    panel.acknowledge()
    assert panel.states()["apnea.aud"] == panel.states()["lo.aud"] == SignalState(presence="Ack")
    assert panel.states()["apnea.vis"] == SignalState(presence="On")
    panel.observe({"apnea": False})
    assert panel.states()["apnea.aud"] == SignalState(presence="Off")


def test_a_latched_alarm_that_comes_back_is_on(panel: AlarmPanel):
    panel.observe({"apnea": True})
    panel.observe({"apnea": False})
    panel.observe({"apnea": True})
    assert panel.states()["apnea.aud"] == SignalState(presence="On")


def test_pausing_one_condition_lasts_until_it_ends(panel: AlarmPanel):
    panel.observe({"lo": True, "tec": True})
    panel.pause_audio("lo")
    states = panel.states()
    assert states["lo.aud"] == SignalState(activation="Psd")
    assert states["lo.vis"] == states["tec.aud"] == SignalState(presence="On")
    assert states["asy"].audio == "On"
    panel.observe({"lo": False})
    panel.observe({"lo": True})
    assert panel.states()["lo.aud"] == SignalState(presence="On")


def test_pausing_all_lasts_until_it_is_resumed(panel: AlarmPanel):
    panel.observe({"lo": True})
    panel.pause_audio()
    panel.observe({"tec": True})
    states = panel.states()
    assert [states[f"{h}.aud"].activation for h in ("lo", "apnea", "tec")] == ["Psd"] * 3
    assert states["asy"].audio == "Psd"
    assert states["tec.vis"] == SignalState(presence="On")
    panel.observe({"tec": False})
    assert panel.states()["tec.aud"] == SignalState(activation="Psd")
    panel.resume_audio()
    states = panel.states()
    assert states["lo.aud"] == SignalState(presence="On")
    assert states["tec.aud"] == SignalState(presence="Off")
    assert states["asy"].audio == "On"


def test_escalate_and_deescalate_last_until_the_condition_ends(panel: AlarmPanel):
    panel.observe({"lo": True})
    panel.set_priority("lo", "Hi")
    assert panel.states()["lo"] == ConditionState(present=True, priority="Hi")
    panel.set_priority("lo", None)
    assert panel.states()["lo"] == ConditionState(present=True)
    panel.set_priority("lo", "Lo")
    panel.observe({"lo": False})
    assert panel.states()["lo"] == ConditionState()


@pytest.mark.parametrize("act", ["pause_audio", "acknowledge", "reset_latches"])
def test_an_unknown_condition_is_a_key_error(panel: AlarmPanel, act: str):
    with pytest.raises(KeyError):
        getattr(panel, act)("nothing")
    with pytest.raises(KeyError):
        panel.observe({"nothing": True})


handles = st.sampled_from(["lo", "apnea", "tec"])
actions = st.lists(
    st.one_of(
        st.tuples(st.just("observe"), st.dictionaries(handles, st.booleans())),
        st.tuples(st.sampled_from(["pause_audio", "acknowledge", "reset_latches"]), st.none() | handles),
        st.tuples(st.just("resume_audio")),
    ),
    max_size=30,
)


@given(actions)
def test_states_never_contradict_each_other(done):
    panel = AlarmPanel([condition("lo"), condition("apnea", latching=True), condition("tec", technical=True)])
    for name, *arguments in done:
        getattr(panel, name)(*arguments)
        states = panel.states()
        present = {h for h in panel.conditions if states[h].present}
        assert set(states["asy"].physiological) | set(states["asy"].technical) == present
        for handle in panel.conditions:
            vis, aud = states[f"{handle}.vis"], states[f"{handle}.aud"]
            assert (vis.presence == "On") == (handle in present)
            assert aud.presence != "On" or handle in present
            assert aud.presence != "Latch" or (handle == "apnea" and handle not in present)
            assert aud.activation != "Psd" or aud.presence == "Off"
