"""The alarm panel of a simulated device: which alert conditions are present and what their signals do.

Values in, values out; the provider writes what has changed to the MDIB in one transaction, so a report never shows
a condition without its signals or an alert system that disagrees with its conditions.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

Activation = Literal["On", "Psd"]
Presence = Literal["On", "Off", "Latch", "Ack"]
Priority = Literal["Lo", "Me", "Hi", "None"]
PRIORITIES: Final[tuple[Priority, ...]] = ("Lo", "Me", "Hi", "None")


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """An alert signal as described; ``audible`` is Manifestation Aud."""

    handle: str
    audible: bool
    latching: bool
    acknowledgeable: bool


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """An alert condition as described, with its signals; ``technical`` is every Kind but Phy."""

    handle: str
    system: str
    technical: bool
    signals: tuple[Signal, ...]


class ConditionState(msgspec.Struct, frozen=True, kw_only=True):
    """Presence and, where an operator or the device changed it, ActualPriority."""

    present: bool = False
    priority: Priority | None = None


class SignalState(msgspec.Struct, frozen=True, kw_only=True):
    """ActivationState and Presence of a signal."""

    activation: Activation = "On"
    presence: Presence = "Off"


class SystemState(msgspec.Struct, frozen=True, kw_only=True):
    """What an alert system says of its conditions and of its audible signals."""

    physiological: tuple[str, ...] = ()
    technical: tuple[str, ...] = ()
    audio: Activation = "On"


AlertState = ConditionState | SignalState | SystemState


class AlarmPanel:
    """The alert states of one device. An unknown condition handle is a KeyError."""

    def __init__(self, conditions: Iterable[Condition]) -> None:
        self._conditions: Final = {condition.handle: condition for condition in conditions}
        self._states = dict.fromkeys(self._conditions, ConditionState())
        self._signals = {s.handle: SignalState() for c in self._conditions.values() for s in c.signals}
        self._quiet = False
        self._quiet_conditions: set[str] = set()

    @property
    def conditions(self) -> tuple[str, ...]:
        """The handles of all conditions."""
        return tuple(self._conditions)

    def observe(self, presence: Mapping[str, bool]) -> None:
        """Take note of which conditions are present now; those not named stay as they are."""
        for handle, present in presence.items():
            before = self._states[handle].present
            if present == before:
                continue
            if present:
                self._states[handle] = msgspec.structs.replace(self._states[handle], present=True)
                self._raise(handle)
            else:
                self._states[handle] = ConditionState()
                self._quiet_conditions.discard(handle)
                self._fall(handle)

    def pause_audio(self, condition: str | None = None) -> None:
        """Pause the audible signals of one condition until it ends, or those of all until :meth:`resume_audio`."""
        if condition is None:
            self._quiet = True
        else:
            self._quiet_conditions.add(self._conditions[condition].handle)
        for handle in self._selected(condition):
            for signal in self._conditions[handle].signals:
                if signal.audible:
                    self._signals[signal.handle] = SignalState(activation="Psd")

    def resume_audio(self) -> None:
        """End every pause; the signals of present conditions sound again."""
        self._quiet = False
        self._quiet_conditions.clear()
        for handle, condition in self._conditions.items():
            presence: Presence = "On" if self._states[handle].present else "Off"
            for signal in condition.signals:
                if self._signals[signal.handle].activation == "Psd":
                    self._signals[signal.handle] = SignalState(presence=presence)

    def acknowledge(self, condition: str | None = None) -> None:
        """Acknowledge the signals that support it and are on or latched."""
        for handle in self._selected(condition):
            for signal in self._conditions[handle].signals:
                if signal.acknowledgeable and self._signals[signal.handle].presence in ("On", "Latch"):
                    self._signals[signal.handle] = SignalState(presence="Ack")

    def reset_latches(self, condition: str | None = None) -> None:
        """Switch off the signals that are latched."""
        for handle in self._selected(condition):
            for signal in self._conditions[handle].signals:
                if self._signals[signal.handle].presence == "Latch":
                    self._signals[signal.handle] = SignalState()

    def set_priority(self, condition: str, priority: Priority | None) -> None:
        """Raise or lower the priority of a condition until it ends; None goes back to the described one."""
        self._states[condition] = msgspec.structs.replace(self._states[condition], priority=priority)

    def states(self) -> dict[str, AlertState]:
        """Every alert state by the handle of its descriptor, alert systems included."""
        states: dict[str, AlertState] = {**self._states, **self._signals}
        for system in {condition.system for condition in self._conditions.values()}:
            states[system] = SystemState(
                physiological=self._present(system, technical=False),
                technical=self._present(system, technical=True),
                audio="Psd" if self._quiet else "On",
            )
        return states

    def _selected(self, condition: str | None) -> tuple[str, ...]:
        return self.conditions if condition is None else (self._conditions[condition].handle,)

    def _present(self, system: str, *, technical: bool) -> tuple[str, ...]:
        return tuple(
            handle
            for handle, condition in self._conditions.items()
            if condition.system == system and condition.technical == technical and self._states[handle].present
        )

    def _raise(self, handle: str) -> None:
        paused = self._quiet or handle in self._quiet_conditions
        for signal in self._conditions[handle].signals:
            silent = paused and signal.audible
            self._signals[signal.handle] = SignalState(activation="Psd") if silent else SignalState(presence="On")

    def _fall(self, handle: str) -> None:
        for signal in self._conditions[handle].signals:
            now = self._signals[signal.handle]
            if signal.audible and self._quiet:
                self._signals[signal.handle] = SignalState(activation="Psd")
            elif signal.latching and now.presence == "On":
                self._signals[signal.handle] = SignalState(presence="Latch")
            else:
                self._signals[signal.handle] = SignalState()
