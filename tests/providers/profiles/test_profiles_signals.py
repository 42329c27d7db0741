"""What the machines' signals do, beside those of the body."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.profile import load
from providers.profiles import pump, ventilator
from providers.signals import Influence, Influences

times = st.floats(min_value=1.6e9, max_value=2.2e9)
seeds = st.integers(min_value=0, max_value=2**31)


def reading(profile: str, handle: str, t: float, seed: int, influences: Influences):
    return next(r for r in load(profile).readings if r.handle == handle).value(t, seed, influences)


@given(times, seeds)
def test_pressures_agree_with_the_pressure_wave(t: float, seed: int):
    samples = [ventilator.airway_pressure(t + n * 0.02, seed, {}) for n in range(250)]
    assert max(samples) == pytest.approx(reading("ventilator", "m.paw.peak", t + 2.5, seed, {}), abs=0.8)
    assert min(samples) == pytest.approx(reading("ventilator", "m.peep", t + 2.5, seed, {}), abs=0.5)
    peep, mean, plateau, peak = (
        reading("ventilator", f"m.{name}", t, seed, {}) for name in ("peep", "paw.mean", "paw.plat", "paw.peak")
    )
    assert peep < mean < plateau < peak < 35


@given(times, seeds)
def test_what_flows_in_flows_out(t: float, seed: int):
    cycle = 60.0 / ventilator.SET_RATE
    samples = [ventilator.airway_flow(t + n * cycle / 1000, seed, {}) for n in range(1000)]
    into = sum(value for value in samples if value > 0) * cycle / 1000 / 60 * 1000
    out = -sum(value for value in samples if value < 0) * cycle / 1000 / 60 * 1000
    assert into == pytest.approx(ventilator.SET_VOLUME, rel=0.02)
    assert out == pytest.approx(into, rel=0.03)


@given(times, seeds)
def test_minute_volume_is_rate_times_tidal_volume(t: float, seed: int):
    volume = reading("ventilator", "m.vt.exp", t, seed, {})
    assert reading("ventilator", "m.mv", t, seed, {}) == pytest.approx(volume * 14 / 1000)


@given(times, seeds)
def test_machine_alarms_follow_their_influences(t: float, seed: int):
    def acting(name: str) -> Influences:
        return {name: Influence(since=t - 10)}

    assert reading("ventilator", "m.mv", t, seed, acting("disconnect")) < 4
    assert reading("ventilator", "m.paw.peak", t, seed, acting("disconnect")) == 0
    assert reading("ventilator", "m.paw.peak", t, seed, acting("obstruction")) > 35
    assert reading("ventilator", "m.fio2", t, seed, acting("oxygen_failure")) < 30
    assert reading("ventilator", "m.fio2", t, seed, {}) > 30
    assert reading("pump", "m.rate", t, seed, acting("occlusion")) == 0
    assert reading("pump", "m.status", t, seed, acting("occlusion")) == "stopped"


@given(times, seeds, st.floats(1, 600))
def test_the_pump_delivers_at_its_rate_and_nothing_while_occluded(t: float, seed: int, lasts: float):
    def given_in(start: float, influences: Influences) -> float:
        before = pump.volume_infused(start, seed, influences)
        return (pump.volume_infused(start + lasts, seed, influences) - before) % pump.SET_VOLUME

    assert given_in(t, {}) == pytest.approx(pump.SET_RATE * lasts / 3600, abs=1e-6)
    occluded = {"occlusion": Influence(since=t - 5)}
    assert given_in(t, occluded) % pump.SET_VOLUME == pytest.approx(0, abs=1e-6)


@given(times, seeds)
def test_infused_and_remaining_make_the_whole_volume(t: float, seed: int):
    infused = reading("pump", "m.volume.infused", t, seed, {})
    assert infused + reading("pump", "m.volume.remaining", t, seed, {}) == pytest.approx(pump.SET_VOLUME)


def test_with_the_leads_off_nothing_is_determined_from_the_ecg():
    off = {"lead_off": Influence(since=0.0)}
    for handle in ("m.hr", "m.rr", "m.rhythm"):
        assert reading("monitor", handle, 5.0, 0, off) is None
        assert reading("monitor", handle, 5.0, 0, {}) is not None
    assert reading("monitor", "m.pr", 5.0, 0, off) is not None
    assert reading("monitor", "m.rhythm", 5.0, 0, {"tachycardia": Influence(since=0.0)}) == "arrhythmia"
