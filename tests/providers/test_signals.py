import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import signals
from providers.signals import RISE, Influence

times = st.floats(min_value=1.6e9, max_value=2.2e9)
seeds = st.integers(min_value=0, max_value=2**31)
offsets = st.floats(min_value=0.1, max_value=60.0)

SIGNALS = [
    signals.heart_rate,
    signals.beat_phase,
    signals.ecg,
    signals.pleth,
    signals.spo2,
    signals.arterial_systolic,
    signals.arterial_diastolic,
    signals.arterial_mean,
    signals.arterial_wave,
    signals.central_venous,
    signals.temperature,
    signals.respiration_rate,
    signals.breath_phase,
    signals.thoracic_impedance,
]


@given(times, seeds, st.sampled_from(SIGNALS))
def test_a_signal_is_a_pure_function(t: float, seed: int, signal: signals.Signal):
    influences = {"tachycardia": Influence(since=t - 2.0)}
    first = signal(t, seed, influences)
    signal(t + 5.0, seed + 1, {})
    assert signal(t, seed, influences) == first
    assert math.isfinite(first)


@given(times, seeds)
def test_calm_values_lie_within_a_healthy_range(t: float, seed: int):
    assert 60 < signals.heart_rate(t, seed, {}) < 90
    assert 95 < signals.spo2(t, seed, {}) < 100
    assert 36 < signals.temperature(t, seed, {}) < 38
    assert 10 < signals.respiration_rate(t, seed, {}) < 20
    assert 4 < signals.central_venous(t, seed, {}) < 13
    low, mean, high = (
        signal(t, seed, {}) for signal in (signals.arterial_diastolic, signals.arterial_mean, signals.arterial_systolic)
    )
    assert 60 < low < mean < high < 140


@given(times, seeds)
def test_heart_rate_is_the_slope_of_the_beat_phase(t: float, seed: int):
    influences = {"tachycardia": Influence(since=t - 1.0)}
    beats = signals.beat_phase(t + 0.5, seed, influences) - signals.beat_phase(t - 0.5, seed, influences)
    assert beats * 60 == pytest.approx(signals.heart_rate(t, seed, influences), abs=3.5)


@given(times, seeds)
def test_every_beat_shows_in_ecg_pleth_and_pressure(t: float, seed: int):
    """Count the peaks of 20 s in each waveform: all have as many as beats passed."""
    beats = signals.beat_phase(t + 20, seed, {}) - signals.beat_phase(t, seed, {})
    for wave in (signals.ecg, signals.pleth, signals.arterial_wave):
        samples = [wave(t + n * 0.004, seed, {}) for n in range(5000)]
        threshold = min(samples) + 0.8 * (max(samples) - min(samples))
        peaks = sum(a < threshold <= b for a, b in itertools.pairwise(samples))
        assert abs(peaks - beats) <= 1.01


@given(times, seeds)
def test_the_arterial_wave_reaches_the_systolic_and_diastolic_values(t: float, seed: int):
    samples = [signals.arterial_wave(t + n * 0.008, seed, {}) for n in range(250)]
    assert max(samples) == pytest.approx(signals.arterial_systolic(t + 1, seed, {}), abs=2)
    assert min(samples) == pytest.approx(signals.arterial_diastolic(t + 1, seed, {}), abs=2)


@given(st.floats(min_value=0, max_value=1, exclude_max=True))
def test_a_pulse_stays_between_foot_and_peak(x: float):
    assert 0 <= signals.pulse_shape(x) <= 1


@pytest.mark.parametrize(
    ("influence", "signal", "beyond"),
    [
        ("desaturation", signals.spo2, lambda value: value < 88),
        ("tachycardia", signals.heart_rate, lambda value: value > 130),
        ("hypotension", signals.arterial_systolic, lambda value: value < 85),
        ("apnea", signals.respiration_rate, lambda value: value == 0),
    ],
)
@given(t=times, seed=seeds)
def test_an_influence_takes_its_signal_beyond_the_limit_and_back(
    influence: str, signal: signals.Signal, beyond: Callable[[float], bool], t: float, seed: int
):
    acting = {influence: Influence(since=t)}
    assert beyond(signal(t + 2 * RISE, seed, acting))
    over = {influence: acting[influence].end(t + 10)}
    assert not beyond(signal(t + 10 + 2 * RISE, seed, over))


def test_in_an_apnea_the_impedance_wave_is_flat():
    influences = {"apnea": Influence(since=1000.0)}
    assert {signals.thoracic_impedance(1010.0 + n / 10, 3, influences) for n in range(40)} <= {0.0, -0.0}


@given(since=st.floats(0, 100), lasts=offsets, pause=offsets, again=offsets)
def test_area_is_the_integral_of_level_over_all_episodes(since: float, lasts: float, pause: float, again: float):
    first = Influence(since=since)
    second = first.end(since + lasts).begin(since + lasts + pause)
    last = second.end(since + lasts + pause + again)
    step = 0.01

    def level(t: float) -> float:
        if t < since + lasts:
            return first.level(t)
        if t < since + lasts + pause:
            return first.end(since + lasts).level(t)
        return last.level(t)

    end = since + lasts + pause + again + 2 * RISE
    count = int((end - since) / step)
    summed = sum(level(since + (n + 0.5) * step) for n in range(count)) * step
    assert last.area(end) == pytest.approx(summed, abs=0.1)


@given(since=st.floats(0, 100), lasts=offsets)
def test_the_level_rises_to_one_and_falls_to_zero_without_a_jump(since: float, lasts: float):
    influence = Influence(since=since).end(since + lasts)
    steps = [influence.level(since - 1 + n * 0.05) for n in range(int((lasts + 6) / 0.05))]
    assert all(0 <= value <= 1 for value in steps)
    assert max(abs(a - b) for a, b in itertools.pairwise(steps)) <= 0.05 / RISE + 1e-9
    assert influence.level(since) == 0
    assert influence.level(since + lasts + 2 * RISE) == 0


def test_beginning_twice_and_ending_twice_changes_nothing():
    acting = Influence(since=5.0)
    assert acting.begin(9.0) is acting
    ended = acting.end(9.0)
    assert ended.end(11.0) is ended
    assert (acting.active, ended.active) == (True, False)


def test_unknown_influences_do_nothing():
    assert signals.level({}, "apnea", 5.0) == 0
    assert signals.area({}, "apnea", 5.0) == 0
    assert not signals.is_active({}, "apnea")
    assert Influence(since=10.0, carried=2.5).area(3.0) == 2.5


@given(seeds, st.text(max_size=10), st.floats(-100, 100), st.floats(0, 100))
def test_a_trait_lies_between_its_bounds(seed: int, name: str, lower: float, width: float):
    assert lower <= signals.trait(seed, name, lower, lower + width) <= lower + width + 1e-9
