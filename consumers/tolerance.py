"""How a device that keeps breaking a rule is followed all the same: paced resyncs, and a fold that lets it pass."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable

import msgspec

from mdib_models.descriptors import Descriptor
from mdib_models.mirror import Folded, Mdib, Resync, fold
from mdib_models.updates import Report

NEVER_TOLERATED = {"sequence-changed", "overrun"}
"""Starting over cannot be skipped, and an overrun is our own doing."""


class Pacing:
    """When the next resync of one connection may start, and which rules its device breaks too often to resync for.

    `limit` resyncs of one reason within `window` seconds mark the device as violating, until it has kept the rule for
    `window` seconds; between two resyncs at least `pause` seconds pass, twice as long after each further one within the
    window, at most `window`. `marked` and `violating` from any thread, everything else on the event loop.
    """

    def __init__(
        self,
        *,
        pause: float = 1.0,
        window: float = 60.0,
        limit: int = 3,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pause = pause
        self._window = window
        self._limit = limit
        self._clock = clock
        self._done: deque[tuple[float, str]] = deque(maxlen=100)
        self._marks: dict[str, float] = {}
        self._marking = threading.Lock()

    @property
    def violating(self) -> frozenset[str]:
        """The rules that the device is marked for now."""
        oldest = self._clock() - self._window
        with self._marking:
            return frozenset(reason for reason, broken in self._marks.items() if broken >= oldest)

    def marked(self, reason: str) -> bool:
        """Whether the device, which has just broken this rule, is marked for it; it stays marked then."""
        with self._marking:
            now = self._clock()
            if self._marks.get(reason, -math.inf) < now - self._window:
                return False
            self._marks[reason] = now
            return True

    def tolerates(self, reason: str) -> bool:
        """As `marked`; marks the device when it is one resync too many."""
        if self.marked(reason):
            return True
        self._forget()
        if reason in NEVER_TOLERATED or sum(each == reason for _, each in self._done) < self._limit:
            return False
        with self._marking:
            self._marks[reason] = self._clock()
        return True

    def forgive(self) -> None:
        """A new sequence: what was broken in the one before no longer counts. The pace is kept."""
        with self._marking:
            self._marks.clear()
        self._done = deque(((when, "") for when, _ in self._done), maxlen=self._done.maxlen)

    def wait(self, reason: str) -> float:
        """Note a resync; the seconds to let pass before it."""
        self._forget()
        now = self._clock()
        wait = 0.0
        if self._done:
            gap = min(self._window, self._pause * 2 ** (len(self._done) - 1))
            wait = max(0.0, self._done[-1][0] + gap - now)
        self._done.append((now + wait, reason))
        return wait

    def _forget(self) -> None:
        oldest = self._clock() - self._window
        while self._done and self._done[0][0] < oldest:
            self._done.popleft()


def fold_leniently(mdib: Mdib, report: Report, tolerated: Callable[[str], bool]) -> Folded | Resync:
    """Fold, and where a tolerated rule is broken bend the mirror or the report so that the rest still applies."""
    mirror, bent = mdib, False
    for _ in range(2 * (len(report.states) + sum(len(part.descriptors) for part in report.description)) + 2):
        result = fold(mirror, report)
        if isinstance(result, Folded):
            return _as_bent(result, mdib) if bent else result
        if not tolerated(result.reason):
            return result
        mirror, report = _bend(mirror, report, result)
        bent = True
    return result


def _as_bent(folded: Folded, before: Mdib) -> Folded:
    """From the mirror that was there; without the report, which nobody could fold again as it came."""
    batch = msgspec.structs.replace(folded.batch, before=before, report=None)
    return Folded(folded.mdib, batch, folded.violations, folded.gap)


def _bend(mdib: Mdib, report: Report, broken: Resync) -> tuple[Mdib, Report]:
    handle = broken.handle or ""
    if broken.reason == "report-sequence-jump":
        return msgspec.structs.replace(mdib, report_number=None), report
    if broken.reason in {"unknown-handle", "unknown-parent"}:
        return mdib, _without(report, handle)
    if broken.reason != "state-version-gap" and handle not in mdib.descriptors:
        return mdib, _without(report, handle)  # created by this very report, and contradicted by it
    if broken.reason == "state-version-gap":
        states, contexts = dict(mdib.states), dict(mdib.contexts)
        states.pop(handle, None)
        contexts.pop(handle, None)
        return msgspec.structs.replace(mdib, states=states, contexts=contexts), report
    version = _descriptor_version(report, handle) - (broken.reason == "descriptor-version-gap")
    descriptor: Descriptor = msgspec.structs.replace(mdib.descriptors[handle], descriptor_version=version)
    return msgspec.structs.replace(mdib, descriptors={**mdib.descriptors, handle: descriptor}), report


def _descriptor_version(report: Report, handle: str) -> int:
    described = [each for part in report.description for each in part.descriptors if each.handle == handle]
    states = [*report.states, *(state for part in report.description for state in part.states)]
    versions = [each.descriptor_version for each in described]
    return max(versions + [each.descriptor_version for each in states if each.descriptor_handle == handle], default=0)


def _without(report: Report, handle: str) -> Report:
    return msgspec.structs.replace(
        report,
        states=tuple(state for state in report.states if state.descriptor_handle != handle),
        description=tuple(
            msgspec.structs.replace(
                part,
                descriptors=tuple(each for each in part.descriptors if each.handle != handle),
                states=tuple(state for state in part.states if state.descriptor_handle != handle),
            )
            for part in report.description
        ),
    )
