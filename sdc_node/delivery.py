"""The sender between the outbox and one receiver: one for each destination and lane."""

import asyncio
import logging
import random
import traceback
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from sdc_node import faultpoints
from sdc_node.database import DatabaseError
from sdc_node.outbox import Item, Lane, LaneCounts, Outbox, wall_clock

_log = logging.getLogger(__name__)


class Accepted(msgspec.Struct, frozen=True):
    """The receiver has it for good (MLLP CA or AA, HTTP 2xx)."""


class Retry(msgspec.Struct, frozen=True):
    """Not now. "unreachable": no answer, or one that speaks of the receiver, not of the item; tried for ever.
    "not accepted": the receiver has read the item and did not take it (MLLP CE or AE); tried a few times.
    `after` is the least pause in seconds that the receiver asked for. Reasons hold no patient data.
    """

    reason: str
    kind: Literal["unreachable", "not accepted"] = "unreachable"
    after: float = 0.0


class Refused(msgspec.Struct, frozen=True):
    """Never: the same bytes would be refused again (MLLP CR or AR, HTTP 400 or 422)."""

    reason: str


Outcome = Accepted | Retry | Refused
Send = Callable[[Item], Awaitable[Outcome]]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """When to try again. Seconds; a pause is `first * factor ** failures`, at most `longest`, and shortened
    by a random part of up to `jitter` (0 to 1), so that senders do not come back all at once.

    `refusals` answers of "not accepted" make a dead letter (hl7v2_mapping.md 8). `patience` bounds one
    attempt; `batch` is how many heads are fetched at once.
    """

    first: float = 1.0
    factor: float = 2.0
    longest: float = 60.0
    jitter: float = 0.2
    refusals: int = 3
    patience: float = 120.0
    batch: int = 32

    def __post_init__(self) -> None:
        if not (0 < self.first <= self.longest and self.factor >= 1 and 0 <= self.jitter <= 1):
            raise ValueError("a pause needs 0 < first <= longest, factor >= 1, jitter from 0 to 1")
        if self.refusals < 1 or self.batch < 1 or self.patience <= 0:
            raise ValueError("refusals and batch are at least 1, patience is more than 0 seconds")

    def pause(self, failures: int, chance: float) -> float:
        """Seconds after the `failures`-th failure in a row (from 1); `chance` is from 0 to 1."""
        exponent = min(failures - 1, 64)  # beyond, a float would overflow long after `longest` was reached
        return min(self.longest, self.first * self.factor**exponent) * (1 - self.jitter * chance)


class DeliveryCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Since the start of the sender; `last_success` in milliseconds since the epoch. `last_error` stays
    until the next success.
    """

    sent: int = 0
    retried: int = 0
    refused: int = 0
    last_error: str | None = None
    last_success: int | None = None


class Delivery:
    """Sends one lane of one destination, one item at a time, from `start` to `stop`."""

    def __init__(
        self,
        outbox: Outbox,
        destination: str,
        lane: Lane,
        send: Send,
        policy: Policy | None = None,
        *,
        clock: Callable[[], int] = wall_clock,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.destination = destination
        self.lane = lane
        self._outbox = outbox
        self._send = send
        self._policy = policy or Policy()
        self._clock = clock
        self._chance = chance
        self._counts = DeliveryCounts()
        self._failures = 0  # in a row, without an answer
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    @property
    def counts(self) -> DeliveryCounts:
        return self._counts

    def start(self) -> None:
        """Begin to send; once."""
        if self._task is not None:
            raise RuntimeError("a delivery starts once")
        self._task = asyncio.create_task(self._run(), name=f"delivery-{self.destination}-{self.lane}")

    async def stop(self, drain: float = 0.0) -> bool:
        """Send on for up to `drain` seconds while anything waits, then end; whether nothing waits any more.
        What was cut off in the middle waits, and is sent again after the next start.
        """
        self._stopping = True
        if self._task is not None:
            if self._waiting() and drain > 0:
                await asyncio.wait({self._task}, timeout=drain)
            self._task.cancel()
            await asyncio.wait({self._task})
        return not self._waiting()

    def _waiting(self) -> int:
        return self._outbox.counts().get((self.destination, self.lane), LaneCounts()).waiting

    async def _run(self) -> None:
        while not (self._stopping and not self._waiting()):
            try:
                await self._outbox.wait(self.destination, self.lane)
                await self._send_heads()
            except DatabaseError as error:  # a full disk, say: what is owed is still owed
                await self._pause(str(error), self._next_pause(self._failures + 1, 0.0))
            except Exception as error:  # noqa: BLE001  # a lane that ends in silence would be worse
                _log.error("%s (%s): the sender failed: %s", self.destination, self.lane, _told(error))
                await self._pause(type(error).__name__, self._next_pause(self._failures + 1, 0.0))

    async def _send_heads(self) -> None:
        items = await self._outbox.head(self.destination, self.lane, self._clock(), self._policy.batch)
        for item in items:
            faultpoints.reach("committed")
            outcome = await self._attempt(item)
            match outcome:
                case Accepted():
                    faultpoints.reach("acknowledged")
                    await self._outbox.acknowledge(item)
                    self._succeeded()
                case Refused(reason):
                    self._answered()
                    await self._bury(item, reason)
                case Retry(reason, "not accepted", after):
                    self._answered()
                    await self._not_accepted(item, reason, after)
                case Retry(reason, _, after):
                    # Postponed too, so that an item which makes its receiver fall silent lets others pass.
                    pause = self._next_pause(self._failures + 1, after)
                    await self._postpone(item, pause, reason)
                    await self._pause(reason, pause)
                    return

    async def _attempt(self, item: Item) -> Outcome:
        try:
            async with asyncio.timeout(self._policy.patience):
                return await self._send(item)
        except OSError as error:  # TimeoutError is one
            return Retry(f"{type(error).__name__}: {error.strerror or 'no answer'}")
        except Exception as error:  # noqa: BLE001  # no answer of the receiver: the item is still owed
            _log.error("%s (%s): the sender failed on %s: %s", self.destination, self.lane, item.id, _told(error))
            return Retry(f"the sender failed: {type(error).__name__}")

    def _next_pause(self, failures: int, after: float) -> float:
        """`after` is the receiver's wish, bounded too: a typing error there must not silence us for a day."""
        bounded = min(max(after, 0.0), 10 * self._policy.longest)
        return max(self._policy.pause(failures, self._chance()), bounded)

    async def _not_accepted(self, item: Item, reason: str, after: float) -> None:
        refusals = item.refusals + 1
        if refusals >= self._policy.refusals:
            await self._bury(item, f"{reason} ({refusals} times)")
            return
        await self._postpone(item, self._next_pause(refusals, after), reason, refused=True)
        self._count(retried=self._counts.retried + 1, last_error=reason)

    async def _postpone(self, item: Item, seconds: float, reason: str, *, refused: bool = False) -> None:
        due = self._clock() + round(seconds * 1000)
        await self._outbox.postpone(item, due, reason, refused=refused)

    async def _bury(self, item: Item, reason: str) -> None:
        await self._outbox.bury(item, reason)
        self._count(refused=self._counts.refused + 1, last_error=reason)
        _log.error("%s (%s): %s is a dead letter: %s", self.destination, self.lane, item.id, reason)

    async def _pause(self, reason: str, seconds: float) -> None:
        self._failures += 1
        self._count(retried=self._counts.retried + 1, last_error=reason)
        if self._failures == 1:  # told once, not at every try; `_answered` tells the end
            _log.warning("%s (%s): %s; trying again", self.destination, self.lane, reason)
        await asyncio.sleep(seconds)

    def _succeeded(self) -> None:
        self._answered()
        self._count(sent=self._counts.sent + 1, last_error=None, last_success=self._clock())

    def _answered(self) -> None:
        if self._failures:
            _log.info("%s (%s): answers again after %d tries", self.destination, self.lane, self._failures + 1)
        self._failures = 0

    def _count(self, **changes: int | str | None) -> None:
        self._counts = msgspec.structs.replace(self._counts, **changes)


def _told(error: Exception) -> str:
    """Type and place of an error; never its text, nor a traceback's, which may repeat what was to be sent."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    return f"{type(error).__name__} in {frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}, line {line}"
