"""The simulated body and machines: every value is a pure function of time, seed and influences.

Times are seconds since the Unix epoch (float). A beat is one unit of :func:`beat_phase`: heart rate, ECG, pleth
and pressures all read that one phase, so they agree with each other at any instant, also across devices.
"""

import math
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

import msgspec

RISE: Final = 3.0
"""Seconds that an influence takes to act fully, and as many to fade."""


class Influence(msgspec.Struct, frozen=True, kw_only=True):
    """Something that acts on a signal from ``since`` until ``until`` (still acting while that is None).

    ``carried`` is the area under the levels of the earlier episodes, in seconds at full effect.
    """

    since: float
    until: float | None = None
    carried: float = 0.0

    @property
    def active(self) -> bool:
        """Whether it has begun and not been ended; the effect may still be rising."""
        return self.until is None

    def level(self, t: float) -> float:
        """How strongly it acts at ``t``, from 0 to 1."""
        if t <= self.since:
            return 0.0
        if self.until is None or t <= self.until:
            return min(1.0, (t - self.since) / RISE)
        return max(0.0, self._peak() - (t - self.until) / RISE)

    def area(self, t: float) -> float:
        """The integral of the level up to ``t`` over all episodes, in seconds."""
        if t <= self.since:
            return self.carried
        rising = self.carried + _ramp_area((min(t, self.until) if self.until is not None else t) - self.since)
        if self.until is None or t <= self.until:
            return rising
        peak = self._peak()
        faded = min(t - self.until, peak * RISE)
        return rising + peak * faded - faded * faded / (2 * RISE)

    def begin(self, t: float) -> "Influence":
        """The next episode, starting at ``t`` from the level that is left of this one."""
        if self.active:
            return self
        level = self.level(t)
        return Influence(since=t - level * RISE, carried=self.area(t) - level * level * RISE / 2)

    def end(self, t: float) -> "Influence":
        """The same influence, fading from ``t`` on."""
        return msgspec.structs.replace(self, until=t) if self.active else self

    def _peak(self) -> float:
        return min(1.0, ((self.until or 0.0) - self.since) / RISE)


Influences = Mapping[str, Influence]

Signal = Callable[[float, int, Influences], float]
"""A pure function of (time, seed, influences)."""


def level(influences: Influences, name: str, t: float) -> float:
    """How strongly the named influence acts at ``t``; 0 for one that never began."""
    influence = influences.get(name)
    return 0.0 if influence is None else influence.level(t)


def area(influences: Influences, name: str, t: float) -> float:
    """The integral of :func:`level` up to ``t``, in seconds."""
    influence = influences.get(name)
    return 0.0 if influence is None else influence.area(t)


def is_active(influences: Influences, name: str) -> bool:
    """Whether the named influence has begun and not been ended."""
    influence = influences.get(name)
    return influence is not None and influence.active


@lru_cache(maxsize=4096)
def trait(seed: int, name: str, lower: float, upper: float) -> float:
    """A constant of this seed between the two bounds."""
    return lower + (upper - lower) * zlib.crc32(f"{seed}:{name}".encode()) / 0xFFFFFFFF


def wander(t: float, seed: int, name: str, amplitude: float, period: float) -> float:
    """A slow, smooth drift within plus or minus ``amplitude``."""
    first = trait(seed, name + ".first", 0.0, math.tau)
    second = trait(seed, name + ".second", 0.0, math.tau)
    slow = math.sin(math.tau * t / period + first)
    fast = math.sin(math.tau * t / (period * 0.37) + second)
    return amplitude * (0.7 * slow + 0.3 * fast)


def _ramp_area(duration: float) -> float:
    return duration * duration / (2 * RISE) if duration <= RISE else duration - RISE / 2


def _bell(x: float, centre: float, width: float) -> float:
    return math.exp(-(((x - centre) / width) ** 2))


# ---------------------------------------------------------------- heart and vessels

_HEART_PERIOD: Final = 47.0
_HEART_SWING: Final = 3.0
_TACHYCARDIA: Final = 75.0


def heart_rate(t: float, seed: int, influences: Influences) -> float:
    """Beats per minute: exactly 60 times the slope of :func:`beat_phase`."""
    swing = math.sin(math.tau * t / _HEART_PERIOD + trait(seed, "hr.phase", 0.0, math.tau))
    return trait(seed, "hr", 66.0, 84.0) + _HEART_SWING * swing + _TACHYCARDIA * level(influences, "tachycardia", t)


def beat_phase(t: float, seed: int, influences: Influences) -> float:
    """Beats since some fixed instant; a beat (R wave) falls on each whole number."""
    shift = trait(seed, "hr.phase", 0.0, math.tau)
    swung = -_HEART_SWING * _HEART_PERIOD / math.tau * math.cos(math.tau * t / _HEART_PERIOD + shift)
    extra = _TACHYCARDIA * area(influences, "tachycardia", t)
    return (trait(seed, "hr", 66.0, 84.0) * t + swung + extra) / 60.0


def _beat_part(t: float, seed: int, influences: Influences, delay: float) -> float:
    return (beat_phase(t, seed, influences) - delay) % 1.0


def ecg(t: float, seed: int, influences: Influences) -> float:
    """Lead II in mV: P, QRS and T around the beat."""
    x = _beat_part(t, seed, influences, 0.0)
    near = x - 1.0 if x > 0.5 else x  # the QRS lies around 0, on both sides of the beat's border
    return (
        0.12 * _bell(x, 0.84, 0.03)
        - 0.10 * _bell(near, -0.030, 0.010)
        + 1.10 * _bell(near, 0.0, 0.012)
        - 0.20 * _bell(near, 0.030, 0.012)
        + 0.28 * _bell(x, 0.30, 0.06)
    )


def pulse_shape(x: float) -> float:
    """One pulse over its part of a beat (0 to 1): 0 at its foot, 1 at its peak, with a dicrotic notch."""
    if x < 0.18:
        return math.sin(math.pi / 2 * x / 0.18) ** 2
    fall = math.exp(-(x - 0.18) / 0.28) - math.exp(-(1.0 - 0.18) / 0.28) * (x - 0.18) / (1.0 - 0.18)
    return max(0.0, min(1.0, fall + 0.10 * _bell(x, 0.52, 0.06)))


def pleth(t: float, seed: int, influences: Influences) -> float:
    """Plethysmogram in percent of full scale; it follows the beat by a fifth of it."""
    return 20.0 + 60.0 * pulse_shape(_beat_part(t, seed, influences, 0.20))


def spo2(t: float, seed: int, influences: Influences) -> float:
    """Oxygen saturation in percent; a desaturation takes it well below 90."""
    calm = trait(seed, "spo2", 96.6, 98.0) + wander(t, seed, "spo2", 0.7, 83.0)
    return calm - 13.0 * level(influences, "desaturation", t)


def arterial_systolic(t: float, seed: int, influences: Influences) -> float:
    """Systolic arterial pressure in mmHg."""
    calm = trait(seed, "sys", 112.0, 128.0) + wander(t, seed, "sys", 4.0, 61.0)
    return calm - 52.0 * level(influences, "hypotension", t)


def arterial_diastolic(t: float, seed: int, influences: Influences) -> float:
    """Diastolic arterial pressure in mmHg."""
    calm = trait(seed, "dia", 66.0, 78.0) + wander(t, seed, "dia", 3.0, 61.0)
    return calm - 26.0 * level(influences, "hypotension", t)


def arterial_mean(t: float, seed: int, influences: Influences) -> float:
    """Mean arterial pressure in mmHg: the diastolic and a third of the pulse pressure."""
    low = arterial_diastolic(t, seed, influences)
    return low + (arterial_systolic(t, seed, influences) - low) / 3.0


def arterial_wave(t: float, seed: int, influences: Influences) -> float:
    """Arterial pressure in mmHg; it swings between diastolic and systolic, an eighth of a beat after the R wave."""
    low = arterial_diastolic(t, seed, influences)
    high = arterial_systolic(t, seed, influences)
    return low + (high - low) * pulse_shape(_beat_part(t, seed, influences, 0.125))


def central_venous(t: float, seed: int, influences: Influences) -> float:  # noqa: ARG001 - a signal's signature
    """Mean central venous pressure in mmHg."""
    return trait(seed, "cvp", 6.0, 11.0) + wander(t, seed, "cvp", 1.0, 71.0)


def temperature(t: float, seed: int, influences: Influences) -> float:  # noqa: ARG001 - a signal's signature
    """Body temperature in degrees Celsius."""
    return trait(seed, "temp", 36.5, 37.4) + wander(t, seed, "temp", 0.1, 601.0)


# ---------------------------------------------------------------- breathing

INSPIRATION: Final = 1.0 / 3.0
"""The part of a breath that is inspiration: a ratio of 1 to 2."""


def respiration_rate(t: float, seed: int, influences: Influences) -> float:
    """Breaths per minute of the patient; an apnea takes it to 0."""
    return trait(seed, "rr", 13.0, 18.0) * (1.0 - level(influences, "apnea", t))


def breath_phase(t: float, seed: int, influences: Influences) -> float:
    """Breaths since some fixed instant; it stands still in an apnea."""
    return trait(seed, "rr", 13.0, 18.0) * (t - area(influences, "apnea", t)) / 60.0


def thoracic_impedance(t: float, seed: int, influences: Influences) -> float:
    """Impedance respiration wave in Ohm around 0; flat in an apnea."""
    swing = math.sin(math.tau * (breath_phase(t, seed, influences) % 1.0))
    return swing * (1.0 - level(influences, "apnea", t))
