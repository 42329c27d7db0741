"""A syringe pump: rate, volumes, drug, occlusion. A new syringe begins where the old one is empty."""

from typing import Final

from providers import signals
from providers.profile import Profile, Reading, episode, packaged_mdib
from providers.signals import Influences

SET_RATE: Final = 8.0
SET_VOLUME: Final = 50.0
"""mL/h and mL, as pump.xml sets them (a test compares them)."""


def delivery_rate(t: float, seed: int, influences: Influences) -> float:
    """In mL/h; an occlusion takes it to 0."""
    flowing = 1.0 - signals.level(influences, "occlusion", t)
    return flowing * (SET_RATE + signals.wander(t, seed, "rate", 0.05, 37.0))


def volume_infused(t: float, seed: int, influences: Influences) -> float:
    """The mL out of the present syringe: the set rate over the time that was not occluded."""
    started = signals.trait(seed, "syringe", 0.0, SET_VOLUME * 0.8)
    flowing = t - signals.area(influences, "occlusion", t)
    return (started + SET_RATE * flowing / 3600.0) % SET_VOLUME


def _volume_remaining(t: float, seed: int, influences: Influences) -> float:
    return SET_VOLUME - volume_infused(t, seed, influences)


def _status(t: float, seed: int, influences: Influences) -> str:  # noqa: ARG001 - a reading's signature
    return "stopped" if signals.is_active(influences, "occlusion") else "infusing"


PROFILE: Final = Profile(
    name="pump",
    title="Syringe pump",
    mdib=packaged_mdib("pump"),
    readings=(
        Reading(handle="m.rate", value=delivery_rate),
        Reading(handle="m.volume.infused", value=volume_infused),
        Reading(handle="m.volume.remaining", value=_volume_remaining),
        Reading(handle="m.status", value=_status, every=10.0),
    ),
    reactions={
        **episode("occlusion", "occlusion", "clear_occlusion", "ac.occlusion"),
        **episode("battery_low", "battery_low", "battery_ok", "ac.battery.lo"),
    },
)
