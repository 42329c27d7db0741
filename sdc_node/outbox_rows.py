"""What the outbox's tables hold, as values, and the statements that read and change them.

Every function runs in a thread and a transaction of `sdc_node.database`.
"""

import sqlite3
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

Lane = Literal["alert", "bulk"]
LANES: Final[tuple[Lane, ...]] = ("alert", "bulk")
LaneKey = tuple[str, str]
"""(destination, lane)."""

DROPPED_FULL: Final = "outbox full"
DROPPED_DEAD: Final = "dead letters full"

_PRUNED_AT_ONCE: Final = 100


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One message on its way to one destination; (destination, id) is its identity.

    `key` is what order is kept within (the device), `created` is in milliseconds since the epoch. `tries`
    and `refusals` are the outbox's own: how often it was postponed, and how often because the receiver
    answered and did not accept.
    """

    id: str
    destination: str
    lane: Lane
    key: str
    body: bytes
    created: int
    tries: int = 0
    refusals: int = 0


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An item that will not be tried again, when that was decided (milliseconds), and why."""

    item: Item
    buried: int
    reason: str


class LaneCounts(msgspec.Struct, frozen=True, kw_only=True):
    """One destination's lane: what waits now (items, bytes, milliseconds of the oldest), what is dead now,
    and what was sent and dropped (by reason) since the file was made.
    """

    waiting: int = 0
    waiting_bytes: int = 0
    oldest_created: int | None = None
    dead: int = 0
    sent: int = 0
    dropped: Mapping[str, int] = msgspec.field(default_factory=dict)


_COLUMNS: Final = "id, destination, lane, key, body, created, tries, refusals"


def _item(row: tuple[str, str, Lane, str, bytes, int, int, int]) -> Item:
    id_, destination, lane, key, body, created, tries, refusals = row
    return Item(
        id=id_,
        destination=destination,
        lane=lane,
        key=key,
        body=body,
        created=created,
        tries=tries,
        refusals=refusals,
    )


def insert(connection: sqlite3.Connection, item: Item, now: int) -> bool:
    """Whether the item is new. A put that finds no other of its key is the key's head."""
    identity = (item.destination, item.id)
    known = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM item WHERE destination = ?1 AND id = ?2)"
        " OR EXISTS (SELECT 1 FROM sent WHERE destination = ?1 AND id = ?2)"
        " OR EXISTS (SELECT 1 FROM dead WHERE destination = ?1 AND id = ?2)",
        identity,
    ).fetchone()[0]
    if known:
        return False
    connection.execute(
        "INSERT INTO item (destination, lane, key, id, body, size, created, due, since, head) "
        "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, NOT EXISTS "
        "(SELECT 1 FROM item WHERE destination = ?1 AND lane = ?2 AND key = ?3))",
        (item.destination, item.lane, item.key, item.id, item.body, len(item.body), item.created, now),
    )
    return True


def take_out(connection: sqlite3.Connection, destination: str, id_: str) -> None:
    """Delete a waiting item, and make the next of its key the head."""
    for lane, key in connection.execute(
        "DELETE FROM item WHERE destination = ? AND id = ? RETURNING lane, key", (destination, id_)
    ).fetchall():
        connection.execute(
            "UPDATE item SET head = 1 WHERE head = 0 AND seq = "
            "(SELECT min(seq) FROM item WHERE destination = ? AND lane = ? AND key = ?)",
            (destination, lane, key),
        )


def enforce_cap(connection: sqlite3.Connection, destination: str, cap: int) -> set[tuple[str, str]]:
    """Drop the oldest bulk, then the oldest alerts, until the destination fits; what was dropped."""
    dropped: set[tuple[str, str]] = set()
    while True:
        (size,) = connection.execute(
            "SELECT coalesce(sum(waiting_bytes), 0) FROM tally WHERE destination = ?", (destination,)
        ).fetchone()
        if size <= cap:
            return dropped
        oldest = "SELECT lane, id FROM item WHERE destination = ? AND lane = ? ORDER BY seq LIMIT 1"
        lane, id_ = (
            connection.execute(oldest, (destination, "bulk")).fetchone()
            or connection.execute(oldest, (destination, "alert")).fetchone()
        )
        take_out(connection, destination, id_)
        count_drop(connection, destination, lane, DROPPED_FULL)
        dropped.add((destination, id_))


def enforce_dead_cap(connection: sqlite3.Connection, destination: str, cap: int) -> None:
    while True:
        (size,) = connection.execute(
            "SELECT coalesce(sum(dead_bytes), 0) FROM tally WHERE destination = ?", (destination,)
        ).fetchone()
        if size <= cap:
            return
        seq, lane = connection.execute(
            "SELECT seq, lane FROM dead WHERE destination = ? ORDER BY seq LIMIT 1", (destination,)
        ).fetchone()
        connection.execute("DELETE FROM dead WHERE seq = ?", (seq,))
        count_drop(connection, destination, lane, DROPPED_DEAD)


def count_drop(connection: sqlite3.Connection, destination: str, lane: str, reason: str) -> None:
    connection.execute(
        "INSERT INTO dropped (destination, lane, reason, number) VALUES (?, ?, ?, 1) "
        "ON CONFLICT DO UPDATE SET number = number + 1",
        (destination, lane, reason),
    )


def prune(connection: sqlite3.Connection, before: int) -> None:
    """Forget some of what was sent too long ago; every acknowledgement forgets more than it adds."""
    connection.execute(
        "DELETE FROM sent WHERE seq IN (SELECT seq FROM sent WHERE at < ? ORDER BY at LIMIT ?)",
        (before, _PRUNED_AT_ONCE),
    )


# A clock that was set back since an item was postponed makes the item due: it waits for its delay at most
# twice, not until the old time comes round again.
def heads(connection: sqlite3.Connection, destination: str, lane: Lane, now: int, limit: int) -> tuple[Item, ...]:
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM item WHERE head = 1 AND destination = ? AND lane = ? "  # noqa: S608
        "AND (due <= ? OR since > ?) ORDER BY due, seq LIMIT ?",
        (destination, lane, now, now, limit),
    )
    return tuple(_item(row) for row in rows)


def next_due(connection: sqlite3.Connection, destination: str, lane: Lane, now: int) -> int | None:
    """When the next head is due; None if nothing waits."""
    due: int | None = connection.execute(
        "SELECT min(CASE WHEN since > ? THEN ? ELSE due END) FROM item WHERE head = 1 AND destination = ? AND lane = ?",
        (now, now, destination, lane),
    ).fetchone()[0]
    return due


def dead(connection: sqlite3.Connection, destination: str, limit: int) -> tuple[DeadLetter, ...]:
    rows = connection.execute(
        f"SELECT buried, reason, {_COLUMNS} FROM dead WHERE destination = ? "  # noqa: S608
        "ORDER BY seq DESC LIMIT ?",
        (destination, limit),
    ).fetchall()
    return tuple(DeadLetter(item=_item(row), buried=buried, reason=reason) for buried, reason, *row in reversed(rows))


def count_all(connection: sqlite3.Connection) -> dict[LaneKey, LaneCounts]:
    keys = connection.execute("SELECT destination, lane FROM tally").fetchall()
    return {(destination, lane): count(connection, destination, lane) for destination, lane in keys}


def count(connection: sqlite3.Connection, destination: str, lane: str) -> LaneCounts:
    place = (destination, lane)
    tally = connection.execute(
        "SELECT waiting, waiting_bytes, dead, sent FROM tally WHERE destination = ? AND lane = ?", place
    ).fetchone()
    waiting, waiting_bytes, dead, sent = tally or (0, 0, 0, 0)
    oldest = connection.execute(
        "SELECT created FROM item WHERE destination = ? AND lane = ? ORDER BY seq LIMIT 1", place
    ).fetchone()
    dropped = connection.execute(
        "SELECT reason, number FROM dropped WHERE destination = ? AND lane = ?", place
    ).fetchall()
    return LaneCounts(
        waiting=waiting,
        waiting_bytes=waiting_bytes,
        oldest_created=oldest[0] if oldest else None,
        dead=dead,
        sent=sent,
        dropped=dict(dropped),
    )
