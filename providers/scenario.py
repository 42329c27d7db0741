"""Scenarios: a TOML timeline of events that act on simulated devices.

::

    [[step]]
    at = 5.0                  # seconds after the device started
    event = "desaturation"
    device = "monitor"        # optional; without it, every device that knows the event
    repeat_every = 20.0       # optional; seconds

Events are those of the profiles (:data:`SIGNAL_EVENTS`) and those that every device knows (:data:`ARGUMENTS`).
"""

import math
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import msgspec

from providers.alarm_panel import PRIORITIES
from providers.profile import PROFILES, load

MAX_SCENARIO_BYTES: Final = 1024 * 1024
MAX_STEPS: Final = 10_000
MIN_REPEAT: Final = 1.0
"""Seconds; faster repeats would only flood."""

ARGUMENTS: Final[dict[str, dict[str, bool]]] = {
    "patient_change": {},
    "patient_leave": {},
    "audio_pause": {"condition": False},
    "audio_on": {},
    "acknowledge": {"condition": False},
    "latch_reset": {"condition": False},
    "priority": {"condition": True, "to": True},
}
"""The events that every device knows; for each its arguments and whether they are required."""

_STEP_KEYS: Final = frozenset({"at", "event", "device", "repeat_every"})


class ScenarioError(ValueError):
    """A scenario that cannot be played; the text is one line with the file and the step."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One event: ``at`` seconds after the start and then, if it repeats, every ``repeat_every`` seconds.

    ``condition`` is the handle of an alert condition, ``to`` a priority ("Lo", "Me", "Hi", "None", or "described"
    for the descriptor's own).
    """

    at: float
    event: str
    device: str | None = None
    repeat_every: float | None = None
    condition: str | None = None
    to: str | None = None

    def occurrences(self, after: float, until: float) -> list[float]:
        """The instants of this step in ``(after, until]``, in seconds after the start."""
        if self.repeat_every is None:
            return [self.at] if after < self.at <= until else []
        first = max(0, math.floor((after - self.at) / self.repeat_every) + 1)
        last = math.floor((until - self.at) / self.repeat_every)
        return [self.at + n * self.repeat_every for n in range(first, last + 1)]


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of a timeline, as written."""

    steps: tuple[Step, ...] = ()

    def between(self, after: float, until: float, device: str) -> list[Step]:
        """What happens to this kind of device in ``(after, until]``, in order of time."""
        due = [
            (instant, order, step)
            for order, step in enumerate(self.steps)
            if step.device in (None, device)
            for instant in step.occurrences(after, until)
        ]
        return [step for _, _, step in sorted(due, key=lambda item: item[:2])]


def signal_events() -> dict[str, tuple[str, ...]]:
    """The events that act on signals, with the profiles that know them."""
    events: dict[str, tuple[str, ...]] = {}
    for name in PROFILES:
        for event in load(name).reactions:
            events[event] = (*events.get(event, ()), name)
    return events


def demo() -> Scenario:
    """The bundled scenario."""
    resource = files("providers.scenarios").joinpath("demo.toml")
    return parse(resource.read_text(encoding="utf-8"), "demo.toml")


def read(path: str | Path) -> Scenario:
    """The scenario in this file. ScenarioError if it cannot be read or says anything this module does not know."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_SCENARIO_BYTES + 1)
        if len(content) > MAX_SCENARIO_BYTES:
            raise ScenarioError(f"{path}: larger than {MAX_SCENARIO_BYTES} bytes")
        return parse(content.decode("utf-8"), str(path))
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: is not UTF-8 at byte {error.start}") from error


def parse(text: str, source: str) -> Scenario:
    """The scenario in this text; ``source`` is how errors name it."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{source}: is not TOML: {error}") from error
    unknown = sorted(set(table) - {"step"})
    if unknown:
        raise ScenarioError(f"{source}: unknown key {unknown[0]!r}; a scenario has [[step]] tables only")
    steps = table.get("step", [])
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise ScenarioError(f"{source}: 'step' must be written as [[step]] tables")
    if len(steps) > MAX_STEPS:
        raise ScenarioError(f"{source}: more than {MAX_STEPS} steps")
    return Scenario(steps=tuple(_step(step, f"{source}, step {n}") for n, step in enumerate(steps, 1)))


def _step(table: dict[str, Any], where: str) -> Step:
    event = table.get("event")
    if not isinstance(event, str):
        raise ScenarioError(f"{where}: 'event' must be a text")
    where = f"{where} ({event})"
    device = _text(table, "device", where)
    arguments = _arguments_of(event, device, where)
    for key in table:
        if key not in _STEP_KEYS and key not in arguments:
            raise ScenarioError(f"{where}: unknown key {key!r}")
    for key, required in arguments.items():
        if required and key not in table:
            raise ScenarioError(f"{where}: needs {key!r}")
    to = _text(table, "to", where)
    if to is not None and to not in (*PRIORITIES, "described"):
        raise ScenarioError(f"{where}: 'to' must be one of {', '.join(PRIORITIES)}, described; not {to!r}")
    repeat = _seconds(table, "repeat_every", where)
    if repeat is not None and repeat < MIN_REPEAT:
        raise ScenarioError(f"{where}: 'repeat_every' must be at least {MIN_REPEAT} seconds")
    at = _seconds(table, "at", where)
    if at is None:
        raise ScenarioError(f"{where}: needs 'at'")
    return Step(
        at=at,
        event=event,
        device=device,
        repeat_every=repeat,
        condition=_condition(_text(table, "condition", where), device, where),
        to=to,
    )


def _arguments_of(event: str, device: str | None, where: str) -> dict[str, bool]:
    if device is not None and device not in PROFILES:
        raise ScenarioError(f"{where}: unknown device {device!r}; there are {', '.join(PROFILES)}")
    if event in ARGUMENTS:
        return ARGUMENTS[event]
    events = signal_events()
    if event not in events:
        raise ScenarioError(f"{where}: unknown event; there are {', '.join(sorted([*ARGUMENTS, *events]))}")
    if device is not None and device not in events[event]:
        raise ScenarioError(f"{where}: a {device} does not know it; {' and '.join(events[event])} does")
    return {}


def _condition(condition: str | None, device: str | None, where: str) -> str | None:
    if condition is None:
        return None
    devices = PROFILES if device is None else (device,)
    known = sorted({handle for name in devices for handle in load(name).conditions()})
    if condition not in known:
        raise ScenarioError(f"{where}: unknown condition {condition!r}; there are {', '.join(known)}")
    return condition


def _text(table: dict[str, Any], key: str, where: str) -> str | None:
    value = table.get(key)
    if value is not None and not isinstance(value, str):
        raise ScenarioError(f"{where}: {key!r} must be a text")
    return value


def _seconds(table: dict[str, Any], key: str, where: str) -> float | None:
    value = table.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ScenarioError(f"{where}: {key!r} must be a number of seconds from 0 on")
    return float(value)
