"""The SQLite file of the FHIR receiver: versions of resources, what was seen, what was refused, and the counts.

Every function takes a connection and runs in a thread of `sdc_node.database`.
"""

import contextlib
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from sdc_node.receivers.fhir_checks import Issue, JsonObject, parse
from sdc_node.receivers.fhir_elements import RESOURCES
from sdc_node.receivers.fhir_requests import Action, Batch, Condition, Refusal, local_targets, resolve

FILE = "fhir.sqlite"
KEPT_VERSIONS = 20
"""Versions of one resource that are kept; older ones are forgotten."""
KEPT_REFUSALS = 10_000

MIGRATIONS = (
    """
    CREATE TABLE fhir_resource(
        type TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, stored_ms INTEGER NOT NULL,
        body BLOB NOT NULL, PRIMARY KEY(type, id, version));
    CREATE TABLE fhir_identifier(
        type TEXT NOT NULL, system TEXT NOT NULL, value TEXT NOT NULL, id TEXT NOT NULL,
        PRIMARY KEY(type, system, value, id)) WITHOUT ROWID;
    CREATE INDEX fhir_identifier_of ON fhir_identifier(type, id);
    CREATE TABLE seen(
        request TEXT NOT NULL, entry INTEGER NOT NULL, taken INTEGER NOT NULL,
        PRIMARY KEY(request, entry, taken)) WITHOUT ROWID;
    CREATE TABLE refusal(
        number INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, request TEXT NOT NULL,
        entry INTEGER NOT NULL, status INTEGER NOT NULL, reason TEXT NOT NULL);
    CREATE TABLE tally(name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
    """,
)

ENCODER = msgspec.json.Encoder(decimal_format="number")
_SORTED_ENCODER = msgspec.json.Encoder(decimal_format="number", order="deterministic")


class Stored(msgspec.Struct, frozen=True):
    """Where a resource stands now. `status` is 201 for a new one, 200 for one that was there."""

    status: int
    kind: str
    id: str
    version: int
    stored_ms: int

    @property
    def location(self) -> str:
        """Relative address of this version."""
        return f"{self.kind}/{self.id}/_history/{self.version}"


class Counts(msgspec.Struct, frozen=True):
    """What came, by entry. A request is known by its Bundle's identifier, or else by its content.

    `accepted` and `rejected` count the first sight of an entry, `repeated` every further one; of a transaction
    that is refused, all entries are. `resources` counts what is stored, by type.
    """

    accepted: int
    rejected: int
    repeated: int
    resources: Mapping[str, int]


def apply(connection: sqlite3.Connection, batch: Batch, now_ms: int) -> list[Stored | Refusal]:
    """Do what a bundle asks, one outcome an entry. An atomic one raises its first Refusal, and nothing is kept."""
    entries = [*enumerate(batch.entries)]
    if batch.atomic:
        return [*_transaction(connection, entries, now_ms)]
    outcomes: list[Stored | Refusal] = []
    for entry in entries:
        connection.execute("SAVEPOINT entry")
        try:
            outcomes += _transaction(connection, [entry], now_ms)
        except Refusal as refusal:
            connection.execute("ROLLBACK TO entry")
            outcomes.append(refusal)
        connection.execute("RELEASE entry")
    return outcomes


def apply_one(connection: sqlite3.Connection, action: Action, now_ms: int) -> Stored:
    """Do what a request outside of a bundle asks. Raises Refusal."""
    return _transaction(connection, [(None, action)], now_ms)[0]


class _Placed(msgspec.Struct, frozen=True):
    """An action whose resource has its id; `found` when that is there already."""

    index: int | None
    action: Action
    id: str
    found: bool


def _transaction(
    connection: sqlite3.Connection, entries: Sequence[tuple[int | None, Action | Refusal]], now_ms: int
) -> list[Stored]:
    placed = [_place(connection, index, entry) for index, entry in entries]
    places = {one.action.full_url: f"{one.action.kind}/{one.id}" for one in placed if one.action.full_url}
    if len({(one.action.kind, one.id) for one in placed}) != len(placed):
        raise Refusal(400, Issue("duplicate", "Bundle.entry", "two entries speak of the same resource"))
    stored: list[Stored] = []
    for one in placed:
        with _at(one.index):
            resource = resolve(one.action.resource, places)
            if one.found and one.action.method == "POST":
                stored.append(_untouched(connection, one.action.kind, one.id))
            else:
                stored.append(_store(connection, one.action.kind, one.id, resource, now_ms))
    for one in placed:
        with _at(one.index):
            _targets_exist(connection, one.action.kind, one.id)
    return stored


@contextlib.contextmanager
def _at(index: int | None) -> Iterator[None]:
    """Refusals inside say which entry of the bundle they are about."""
    try:
        yield
    except Refusal as refusal:
        if index is None:
            raise
        moved = (Issue(issue.code, f"Bundle.entry[{index}].{issue.expression}", issue.text) for issue in refusal.issues)
        raise Refusal(refusal.status, *moved) from None


def _place(connection: sqlite3.Connection, index: int | None, entry: Action | Refusal) -> _Placed:
    with _at(index):
        if isinstance(entry, Refusal):
            raise entry
        if entry.condition is None:
            id_ = entry.id or uuid.uuid4().hex
            return _Placed(index, entry, id_, _newest(connection, entry.kind, id_) is not None)
        found = find(connection, entry.kind, entry.condition, limit=2)
        if len(found) > 1:
            issue = Issue("multiple-matches", "request", "more than one resource has that identifier")
            raise Refusal(412, issue)
        return _Placed(index, entry, found[0] if found else uuid.uuid4().hex, bool(found))


def find(connection: sqlite3.Connection, kind: str, condition: Condition, limit: int) -> list[str]:
    """Ids of at most `limit` resources that have the identifier."""
    rows = connection.execute(
        "SELECT id FROM fhir_identifier WHERE type=? AND system=? AND value=? ORDER BY id LIMIT ?",
        (kind, condition.system, condition.value, limit),
    )
    return [id_ for (id_,) in rows]


def _newest(connection: sqlite3.Connection, kind: str, id_: str) -> tuple[int, int, bytes] | None:
    row: tuple[int, int, bytes] | None = connection.execute(
        "SELECT version, stored_ms, body FROM fhir_resource WHERE type=? AND id=? ORDER BY version DESC LIMIT 1",
        (kind, id_),
    ).fetchone()
    return row


def _untouched(connection: sqlite3.Connection, kind: str, id_: str) -> Stored:
    version, stored_ms = connection.execute(
        "SELECT max(version), max(stored_ms) FROM fhir_resource WHERE type=? AND id=?", (kind, id_)
    ).fetchone()
    return Stored(200, kind, id_, version, stored_ms)


def _store(connection: sqlite3.Connection, kind: str, id_: str, resource: JsonObject, now_ms: int) -> Stored:
    newest = _newest(connection, kind, id_)
    version = newest[0] + 1 if newest else 1
    if newest and _canonical(parse(newest[2])) == _canonical({**resource, "resourceType": kind, "id": id_}):
        return Stored(200, kind, id_, newest[0], newest[1])
    meta = {**resource.get("meta", {}), "versionId": str(version), "lastUpdated": _instant(now_ms)}
    body = ENCODER.encode({**resource, "resourceType": kind, "id": id_, "meta": meta})
    connection.execute("INSERT INTO fhir_resource VALUES (?, ?, ?, ?, ?)", (kind, id_, version, now_ms, body))
    connection.execute(
        "DELETE FROM fhir_resource WHERE type=? AND id=? AND version<=?", (kind, id_, version - KEPT_VERSIONS)
    )
    connection.execute("DELETE FROM fhir_identifier WHERE type=? AND id=?", (kind, id_))
    connection.executemany(
        "INSERT OR IGNORE INTO fhir_identifier VALUES (?, ?, ?, ?)",
        [(kind, known["system"], known["value"], id_) for known in resource.get("identifier", ())],
    )
    return Stored(200 if newest else 201, kind, id_, version, now_ms)


def _canonical(resource: JsonObject) -> bytes:
    """The same bytes for the same content, without what the server adds; 72.5 and 72.50 differ (R4 decimal)."""
    meta = {k: v for k, v in resource.get("meta", {}).items() if k not in {"versionId", "lastUpdated"}}
    return _SORTED_ENCODER.encode({**resource, "meta": meta})


def _instant(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _targets_exist(connection: sqlite3.Connection, kind: str, id_: str) -> None:
    newest = _newest(connection, kind, id_)
    for target_kind, target in sorted(local_targets(parse(newest[2]))) if newest else ():
        if _newest(connection, target_kind, target) is None:
            raise Refusal(422, Issue("not-found", kind, "refers to a resource that is not here"))


def count(connection: sqlite3.Connection, request: str, outcomes: Sequence[Stored | Refusal], now_ms: int) -> None:
    """Enter the outcomes of a request's entries in the books."""
    for entry, outcome in enumerate(outcomes):
        taken = isinstance(outcome, Stored)
        fresh = connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (request, entry, taken))
        name = "repeated" if not fresh.rowcount else "accepted" if taken else "rejected"
        connection.execute(
            "INSERT INTO tally VALUES (?, 1) ON CONFLICT(name) DO UPDATE SET number = number + 1", (name,)
        )
        if isinstance(outcome, Refusal):
            connection.execute(
                "INSERT INTO refusal(at_ms, request, entry, status, reason) VALUES (?, ?, ?, ?, ?)",
                (now_ms, request, entry, outcome.status, str(outcome)),
            )
    connection.execute("DELETE FROM refusal WHERE number <= (SELECT max(number) FROM refusal) - ?", (KEPT_REFUSALS,))


def counts(connection: sqlite3.Connection) -> Counts:
    """The books so far."""
    tally = dict(connection.execute("SELECT name, number FROM tally").fetchall())
    rows = connection.execute("SELECT type, count(DISTINCT id) FROM fhir_resource GROUP BY type").fetchall()
    resources = {**dict.fromkeys(RESOURCES, 0), **dict(rows)}
    return Counts(tally.get("accepted", 0), tally.get("rejected", 0), tally.get("repeated", 0), resources)


def body(connection: sqlite3.Connection, kind: str, id_: str, version: int | None = None) -> bytes:
    """One version of a resource, the newest unless told. Raises Refusal (404)."""
    if version is None:
        newest = _newest(connection, kind, id_)
        row = newest and (newest[2],)
    else:
        row = connection.execute(
            "SELECT body FROM fhir_resource WHERE type=? AND id=? AND version=?", (kind, id_, version)
        ).fetchone()
    if not row:
        raise Refusal(404, Issue("not-found", kind, "is not here"))
    return bytes(row[0])


def search(connection: sqlite3.Connection, kind: str, condition: Condition, limit: int) -> list[bytes]:
    """Newest versions of the resources that have the identifier, at most `limit`."""
    return [body(connection, kind, id_) for id_ in find(connection, kind, condition, limit)]
