"""The durable queue between the sinks and the receivers.

An item is owed from the moment the commit of its `put` returned until its receiver has acknowledged it, and is
kept on disk for as long. Order is kept per destination, lane and key: the *head* of a key is its oldest
waiting item, and only heads are handed out.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from sdc_node import outbox_rows as rows
from sdc_node.database import Database
from sdc_node.ledger import Ledger
from sdc_node.outbox_rows import DROPPED_DEAD, DROPPED_FULL, LANES, DeadLetter, Item, Lane, LaneCounts, LaneKey
from sdc_node.outbox_schema import MIGRATIONS

__all__ = [
    "DROPPED_DEAD",
    "DROPPED_FULL",
    "LANES",
    "DeadLetter",
    "Item",
    "Lane",
    "LaneCounts",
    "LaneKey",
    "Outbox",
    "wall_clock",
]

T = TypeVar("T")

CAP_BYTES: Final = 512 * 1024 * 1024
"""What may wait for one destination, both lanes together; and, counted apart, its dead letters."""
RETENTION_MS: Final = 7 * 24 * 3600 * 1000
"""How long the id of what was sent is remembered."""

_LONGEST_SLEEP: Final = 60.0


def wall_clock() -> int:
    """Milliseconds since the Unix epoch, UTC."""
    return time.time_ns() // 1_000_000


class Outbox:
    """The durable queue; its methods belong to one event loop. Every method that touches the file may raise
    DatabaseError, and may be tried again after it.
    """

    def __init__(
        self,
        database: Database,
        counts: Mapping[LaneKey, LaneCounts],
        *,
        cap: int,
        caps: Mapping[str, int],
        retention: int,
        clock: Callable[[], int],
    ) -> None:
        self._database = database
        self._counts = dict(counts)
        self._cap = cap
        self._caps = caps
        self._retention = retention
        self._clock = clock
        self._news: dict[LaneKey, asyncio.Event] = {}

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        cap: int = CAP_BYTES,
        caps: Mapping[str, int] | None = None,
        retention: int = RETENTION_MS,
        clock: Callable[[], int] = wall_clock,
    ) -> "Outbox":
        """Open or make the file. `cap` is in bytes per destination, `caps` overrides it for some;
        `retention` is in milliseconds. Raises DatabaseError in one line if the file is not usable.
        """
        database = await asyncio.to_thread(Database.open, path, MIGRATIONS)
        try:
            counts = await database.read(rows.count_all)
        except BaseException:
            await database.close()
            raise
        return cls(database, counts, cap=cap, caps=caps or {}, retention=retention, clock=clock)

    async def close(self) -> None:
        """Finish what was begun and close the file."""
        await self._database.close()

    async def put(self, items: Sequence[Item], *, ledger: Ledger | None = None) -> tuple[str, ...]:
        """The ids that are owed from now on, after the commit; they go to `ledger` before this returns.

        An id that waits, is dead, or was sent within the retention is passed over, whatever its body. Past
        the destination's cap the oldest bulk items are dropped, then, where there is no bulk, the oldest
        alerts; both are counted, and neither is owed.
        """
        now = self._clock()

        def insert(connection: sqlite3.Connection) -> tuple[str, ...]:
            fresh = [(item.destination, item.id) for item in items if rows.insert(connection, item, now)]
            dropped: set[tuple[str, str]] = set()
            for destination in sorted({destination for destination, _ in fresh}):
                dropped |= rows.enforce_cap(connection, destination, self._cap_of(destination))
            return tuple(id_ for destination, id_ in fresh if (destination, id_) not in dropped)

        owed = await self._write({item.destination for item in items}, insert)
        if ledger is not None:
            await ledger.append(owed)
        return owed

    async def head(self, destination: str, lane: Lane, now: int, limit: int) -> tuple[Item, ...]:
        """Up to `limit` heads that are due at `now` (milliseconds), one per key, longest due first."""
        return await self._database.read(lambda connection: rows.heads(connection, destination, lane, now, limit))

    async def acknowledge(self, item: Item) -> None:
        """The receiver has it: no longer owed. Its id is remembered for the retention."""
        now = self._clock()

        def settle(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR IGNORE INTO sent (destination, lane, id, created, at) VALUES (?, ?, ?, ?, ?)",
                (item.destination, item.lane, item.id, item.created, now),
            )
            rows.take_out(connection, item.destination, item.id)
            rows.prune(connection, now - self._retention)

        await self._write({item.destination}, settle)

    async def postpone(self, item: Item, due: int, reason: str, *, refused: bool = False) -> None:
        """Not handed out before `due` (milliseconds); its key waits with it. `refused` counts an answer of
        the receiver that did not accept. Nothing happens to an item that no longer waits.
        """
        now = self._clock()

        def move(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE item SET due = ?, since = ?, tries = tries + 1, refusals = refusals + ?, reason = ? "
                "WHERE destination = ? AND id = ?",
                (due, now, int(refused), reason, item.destination, item.id),
            )

        await self._write({item.destination}, move)

    async def bury(self, item: Item, reason: str) -> None:
        """A dead letter from now on: body, tries and `reason` are kept, its key goes on without it."""
        now = self._clock()
        cap = self._cap_of(item.destination)

        def move(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO dead (destination, lane, key, id, body, created, tries, refusals, reason, buried) "
                "SELECT destination, lane, key, id, body, created, tries, refusals, ?, ? "
                "FROM item WHERE destination = ? AND id = ?",
                (reason, now, item.destination, item.id),
            )
            rows.take_out(connection, item.destination, item.id)
            rows.enforce_dead_cap(connection, item.destination, cap)

        await self._write({item.destination}, move)

    async def dead_letters(self, destination: str, *, limit: int = 100) -> tuple[DeadLetter, ...]:
        """The newest `limit` dead letters, oldest first."""
        return await self._database.read(lambda connection: rows.dead(connection, destination, limit))

    async def wait(self, destination: str, lane: Lane) -> None:
        """Return when a head of the lane is due: at once, after a `put`, or when its time has come."""
        news = self._news.setdefault((destination, lane), asyncio.Event())
        while True:
            news.clear()
            now = self._clock()
            due = await self._next_due(destination, lane, now)
            if due is not None and due <= now:
                return
            sleep = _LONGEST_SLEEP if due is None else min((due - now) / 1000, _LONGEST_SLEEP)
            try:
                async with asyncio.timeout(sleep):
                    await news.wait()
            except TimeoutError:
                continue

    def counts(self) -> Mapping[LaneKey, LaneCounts]:
        """By (destination, lane), as of the last commit; from memory."""
        return dict(self._counts)

    async def _next_due(self, destination: str, lane: Lane, now: int) -> int | None:
        return await self._database.read(lambda connection: rows.next_due(connection, destination, lane, now))

    def _cap_of(self, destination: str) -> int:
        return self._caps.get(destination, self._cap)

    async def _write(self, destinations: Iterable[str], function: Callable[[sqlite3.Connection], T]) -> T:
        def change(connection: sqlite3.Connection) -> tuple[T, dict[LaneKey, LaneCounts]]:
            result = function(connection)
            counts: dict[LaneKey, LaneCounts] = {}
            for destination in destinations:
                for lane in LANES:
                    counts[destination, lane] = rows.count(connection, destination, lane)
            return result, counts

        def publish(changed: tuple[T, dict[LaneKey, LaneCounts]]) -> None:
            self._counts.update(changed[1])
            for key in changed[1]:
                if (news := self._news.get(key)) is not None:
                    news.set()

        result, _ = await self._database.write(change, committed=publish)
        return result
