"""A ventilator in volume-controlled mandatory ventilation: pressures, volumes, flow, oxygen.

The set values stand in ventilator.xml; the constants here are the same numbers (a test compares them).
"""

import math
from typing import Final

from providers import signals
from providers.profile import Profile, Reading, Waveform, episode, packaged_mdib
from providers.signals import INSPIRATION, Influences

SET_RATE: Final = 14.0
SET_VOLUME: Final = 450.0
SET_PEEP: Final = 6.0
SET_FIO2: Final = 40.0
RESISTANCE: Final = 8.0
"""cmH2O per L/s."""


def breath_part(t: float) -> float:
    """The part (0 to 1) of the machine's present breath; inspiration is its first third."""
    return (SET_RATE * t / 60.0) % 1.0


def _seal(t: float, influences: Influences) -> float:
    return 1.0 - signals.level(influences, "disconnect", t)


def _compliance(t: float, seed: int, influences: Influences) -> float:
    calm = signals.trait(seed, "compliance", 42.0, 55.0) + signals.wander(t, seed, "compliance", 2.0, 97.0)
    return calm / (1.0 + 3.0 * signals.level(influences, "obstruction", t))


def _inspiratory_flow() -> float:
    seconds = INSPIRATION * 60.0 / SET_RATE
    return SET_VOLUME / 1000.0 / seconds * 60.0


def airway_pressure(t: float, seed: int, influences: Influences) -> float:
    """cmH2O: a rising ramp in inspiration, an exponential fall to PEEP in expiration."""
    x, seal = breath_part(t), _seal(t, influences)
    stiff = SET_VOLUME / _compliance(t, seed, influences)
    if x < INSPIRATION:
        resistive = RESISTANCE * _inspiratory_flow() / 60.0
        return seal * (SET_PEEP + resistive + stiff * x / INSPIRATION)
    return seal * (SET_PEEP + stiff * math.exp(-(x - INSPIRATION) / 0.09))


def airway_flow(t: float, seed: int, influences: Influences) -> float:  # noqa: ARG001 - a signal's signature
    """L/min: constant in inspiration, negative and decaying in expiration."""
    x = breath_part(t)
    if x < INSPIRATION:
        return _inspiratory_flow()
    exhaled = _inspiratory_flow() * INSPIRATION / 0.09
    return -_seal(t, influences) * exhaled * math.exp(-(x - INSPIRATION) / 0.09)


def _plateau(t: float, seed: int, influences: Influences) -> float:
    return _seal(t, influences) * (SET_PEEP + SET_VOLUME / _compliance(t, seed, influences))


def _peak(t: float, seed: int, influences: Influences) -> float:
    resistive = RESISTANCE * _inspiratory_flow() / 60.0
    return _plateau(t, seed, influences) + _seal(t, influences) * resistive


def _mean(t: float, seed: int, influences: Influences) -> float:
    peep = _peep(t, seed, influences)
    return peep + (_plateau(t, seed, influences) - peep) * INSPIRATION


def _peep(t: float, seed: int, influences: Influences) -> float:
    return _seal(t, influences) * (SET_PEEP + signals.wander(t, seed, "peep", 0.2, 31.0))


def _exhaled_volume(t: float, seed: int, influences: Influences) -> float:
    leak = signals.trait(seed, "leak", 4.0, 18.0) + signals.wander(t, seed, "leak", 4.0, 41.0)
    return max(0.0, _seal(t, influences) * (SET_VOLUME - leak))


def _minute_volume(t: float, seed: int, influences: Influences) -> float:
    return SET_RATE * _exhaled_volume(t, seed, influences) / 1000.0


def _rate(t: float, seed: int, influences: Influences) -> float:  # noqa: ARG001 - a reading's signature
    return SET_RATE


def _peak_flow(t: float, seed: int, influences: Influences) -> float:  # noqa: ARG001 - a reading's signature
    return _inspiratory_flow() + signals.wander(t, seed, "flow", 0.4, 29.0)


def _oxygen(t: float, seed: int, influences: Influences) -> float:
    calm = SET_FIO2 + signals.wander(t, seed, "fio2", 0.8, 53.0)
    return calm - 16.0 * signals.level(influences, "oxygen_failure", t)


PROFILE: Final = Profile(
    name="ventilator",
    title="Ventilator",
    mdib=packaged_mdib("ventilator"),
    readings=(
        Reading(handle="m.paw.peak", value=_peak),
        Reading(handle="m.paw.plat", value=_plateau),
        Reading(handle="m.paw.mean", value=_mean),
        Reading(handle="m.peep", value=_peep),
        Reading(handle="m.vt.exp", value=_exhaled_volume),
        Reading(handle="m.mv", value=_minute_volume),
        Reading(handle="m.rr", value=_rate),
        Reading(handle="m.flow.insp.peak", value=_peak_flow),
        Reading(handle="m.compliance", value=_compliance),
        Reading(handle="m.fio2", value=_oxygen),
    ),
    waveforms=(
        Waveform(handle="m.paw.wave", sample=airway_pressure),
        Waveform(handle="m.flow.wave", sample=airway_flow),
    ),
    reactions={
        **episode("disconnect", "disconnect", "reconnect", "ac.circuit.disconnect"),
        **episode("obstruction", "obstruction", "clear_obstruction"),
        **episode("oxygen_failure", "oxygen_failure", "oxygen_restored"),
    },
)
