import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import scenario
from providers.profile import PROFILES, load
from providers.scenario import Scenario, ScenarioError, Step


def test_a_step_with_all_it_can_have():
    parsed = scenario.parse(
        '[[step]]\nat = 5\nevent = "priority"\ndevice = "monitor"\ncondition = "ac.spo2.lo"\nto = "Hi"\n'
        "repeat_every = 20.0\n",
        "x.toml",
    )
    assert parsed.steps == (
        Step(at=5.0, event="priority", device="monitor", condition="ac.spo2.lo", to="Hi", repeat_every=20.0),
    )


def test_nothing_at_all_is_a_scenario():
    assert scenario.parse("", "x.toml") == Scenario()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("step = 3", "'step' must be written as"),
        ("[[step]]\nat=", "is not TOML"),
        ("title = 1", "unknown key 'title'"),
        ("[[step]]\nat = 1", "step 1: 'event' must be a text"),
        ('[[step]]\nevent = "apnea"', "step 1 (apnea): needs 'at'"),
        ('[[step]]\nat = -1\nevent = "apnea"', "'at' must be a number of seconds"),
        ('[[step]]\nat = inf\nevent = "apnea"', "'at' must be a number of seconds"),
        ('[[step]]\nat = nan\nevent = "apnea"', "'at' must be a number of seconds"),
        ('[[step]]\nat = true\nevent = "apnea"', "'at' must be a number of seconds"),
        ('[[step]]\nat = "1"\nevent = "apnea"', "'at' must be a number of seconds"),
        ('[[step]]\nat = 1\nevent = "apnoea"', "step 1 (apnoea): unknown event; there are abp_connect, "),
        ('[[step]]\nat = 1\nevent = "apnea"\nlasts = 3', "unknown key 'lasts'"),
        ('[[step]]\nat = 1\nevent = "apnea"\ncondition = "ac.hr.lo"', "unknown key 'condition'"),
        ('[[step]]\nat = 1\nevent = "apnea"\ndevice = "toaster"', "unknown device 'toaster'"),
        ('[[step]]\nat = 1\nevent = "apnea"\ndevice = "pump"', "a pump does not know it; monitor does"),
        ('[[step]]\nat = 1\nevent = "apnea"\ndevice = 7', "'device' must be a text"),
        ('[[step]]\nat = 1\nevent = "apnea"\nrepeat_every = 0.5', "'repeat_every' must be at least"),
        ('[[step]]\nat = 1\nevent = "priority"\nto = "Hi"', "needs 'condition'"),
        ('[[step]]\nat = 1\nevent = "priority"\ncondition = "ac.hr.lo"', "needs 'to'"),
        ('[[step]]\nat = 1\nevent = "priority"\ncondition = "ac.hr.lo"\nto = "Max"', "'to' must be one of"),
        ('[[step]]\nat = 1\nevent = "acknowledge"\ncondition = "ac.nothing"', "unknown condition 'ac.nothing'"),
        (
            '[[step]]\nat = 1\nevent = "acknowledge"\ndevice = "pump"\ncondition = "ac.hr.lo"',
            "unknown condition 'ac.hr.lo'; there are ac.battery.lo",
        ),
    ],
)
def test_what_is_wrong_is_told_with_file_and_step(text: str, says: str):
    with pytest.raises(ScenarioError) as raised:
        scenario.parse(text, "ward.toml")
    assert str(raised.value).startswith("ward.toml")
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_second_step_is_named_as_such():
    text = '[[step]]\nat = 1\nevent = "apnea"\n[[step]]\nat = 2\nevent = "nap"\n'
    with pytest.raises(ScenarioError, match=r"x\.toml, step 2 \(nap\)"):
        scenario.parse(text, "x.toml")


def test_too_many_steps_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scenario, "MAX_STEPS", 1)
    with pytest.raises(ScenarioError, match="more than 1 steps"):
        scenario.parse('[[step]]\nat = 1\nevent = "apnea"\n' * 2, "x.toml")


def test_reading_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "s.toml"
    path.write_text('[[step]]\nat = 1\nevent = "apnea"\n', encoding="utf-8")
    assert [step.event for step in scenario.read(path).steps] == ["apnea"]
    with pytest.raises(ScenarioError, match="cannot be read"):
        scenario.read(tmp_path / "missing.toml")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ScenarioError, match="not UTF-8 at byte 0"):
        scenario.read(path)
    monkeypatch.setattr(scenario, "MAX_SCENARIO_BYTES", 1)
    with pytest.raises(ScenarioError, match="larger than 1 bytes"):
        scenario.read(path)


@given(
    at=st.integers(0, 500),
    every=st.none() | st.integers(1, 100),
    cuts=st.lists(st.integers(-1, 1000), min_size=1, max_size=20, unique=True).map(sorted),
)
def test_however_time_is_cut_each_occurrence_comes_exactly_once(at: int, every: int | None, cuts: list[int]):
    step = Step(at=float(at), event="apnea", repeat_every=None if every is None else float(every))
    played = Scenario(steps=(step,))
    edges = [-1, *[cut for cut in cuts if cut > -1]]
    pieces = sum(len(played.between(a, b, "monitor")) for a, b in itertools.pairwise(edges))
    expected = [at + n * every for n in range(1001)] if every else [at]
    assert pieces == sum(-1 < instant <= edges[-1] for instant in expected)


def test_steps_come_in_order_of_time_then_as_written():
    steps = (
        Step(at=3.0, event="late"),
        Step(at=1.0, event="early", repeat_every=1.5),
        Step(at=1.0, event="other", device="pump"),
        Step(at=1.0, event="same"),
    )
    events = [step.event for step in Scenario(steps=steps).between(0.0, 3.0, "monitor")]
    assert events == ["early", "same", "early", "late"]


def test_the_demo_scenario_knows_every_event_it_names_and_plays_all_phases():
    steps = scenario.demo().steps
    assert {"desaturation", "recover", "lead_off", "occlusion", "patient_change", "latch_reset"} <= {
        step.event for step in steps
    }
    assert {step.to for step in steps if step.event == "priority"} == {"Hi", "described"}
    change = next(step for step in steps if step.event == "patient_change")
    assert (change.at, change.repeat_every, change.device) == (25.0, 60.0, None)


def test_every_event_of_a_profile_can_be_scripted():
    known = scenario.signal_events()
    for name in PROFILES:
        for event in load(name).reactions:
            assert name in known[event]
            text = f'[[step]]\nat = 1\nevent = "{event}"\ndevice = "{name}"\n'
            assert scenario.parse(text, "x.toml").steps[0].event == event
