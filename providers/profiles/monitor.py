"""A patient monitor: ECG, SpO2, respiration, NIBP, two invasive pressures, temperature."""

from typing import Final

from providers import signals
from providers.profile import Profile, Reading, ReadingFunction, Waveform, episode, packaged_mdib
from providers.signals import Influences, Signal

NIBP_INTERVAL: Final = 20.0
"""Seconds between two cuff measurements."""


def _unless(lost_by: str, signal: Signal) -> ReadingFunction:
    def value(t: float, seed: int, influences: Influences) -> float | None:
        return None if signals.is_active(influences, lost_by) else signal(t, seed, influences)

    return value


def _rhythm(t: float, seed: int, influences: Influences) -> str | None:  # noqa: ARG001 - a reading's signature
    if signals.is_active(influences, "lead_off"):
        return None
    return "arrhythmia" if signals.is_active(influences, "tachycardia") else "sinus rhythm"


PROFILE: Final = Profile(
    name="monitor",
    title="Patient monitor",
    mdib=packaged_mdib("monitor"),
    readings=(
        Reading(handle="m.hr", value=_unless("lead_off", signals.heart_rate)),
        Reading(handle="m.rhythm", value=_rhythm, every=10.0),
        Reading(handle="m.spo2", value=signals.spo2),
        Reading(handle="m.pr", value=signals.heart_rate),
        Reading(handle="m.rr", value=_unless("lead_off", signals.respiration_rate)),
        Reading(handle="m.nibp.sys", value=signals.arterial_systolic, every=NIBP_INTERVAL),
        Reading(handle="m.nibp.dia", value=signals.arterial_diastolic, every=NIBP_INTERVAL),
        Reading(handle="m.nibp.mean", value=signals.arterial_mean, every=NIBP_INTERVAL),
        Reading(handle="m.abp.sys", value=_unless("abp_disconnect", signals.arterial_systolic)),
        Reading(handle="m.abp.dia", value=_unless("abp_disconnect", signals.arterial_diastolic)),
        Reading(handle="m.abp.mean", value=_unless("abp_disconnect", signals.arterial_mean)),
        Reading(handle="m.cvp.mean", value=signals.central_venous),
        Reading(handle="m.temp", value=signals.temperature),
    ),
    waveforms=(
        Waveform(handle="m.ecg.ii", sample=signals.ecg, lost_by="lead_off"),
        Waveform(handle="m.pleth", sample=signals.pleth),
        Waveform(handle="m.resp.wave", sample=signals.thoracic_impedance, lost_by="lead_off"),
        Waveform(handle="m.abp.wave", sample=signals.arterial_wave, lost_by="abp_disconnect"),
    ),
    reactions={
        **episode("desaturation", "desaturation", "recover"),
        **episode("tachycardia", "tachycardia", "calm"),
        **episode("hypotension", "hypotension", "pressure_recover"),
        **episode("apnea", "apnea", "breathe"),
        **episode("lead_off", "lead_off", "lead_on", "ac.ecg.leadoff"),
        **episode("abp_disconnect", "abp_disconnect", "abp_connect", "ac.abp.disconnect"),
    },
)
