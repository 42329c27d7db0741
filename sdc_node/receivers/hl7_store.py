"""What the HL7 receiver has taken and refused, in one SQLite file of its folder."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from sdc_node.database import DatabaseError
from sdc_node.hl7.describe import describe
from sdc_node.hl7.message import Hl7ParseError

FILE_NAME: Final = "hl7.sqlite"
MIGRATIONS: Final = (
    """
    CREATE TABLE hl7_message (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        received INTEGER NOT NULL,
        kind TEXT NOT NULL,
        sender TEXT NOT NULL,
        control_id TEXT NOT NULL,
        verdict TEXT NOT NULL,
        reason TEXT NOT NULL,
        repeats INTEGER NOT NULL DEFAULT 0,
        body BLOB NOT NULL
    );
    CREATE UNIQUE INDEX hl7_accepted ON hl7_message (sender, control_id) WHERE verdict = 'CA';
    CREATE INDEX hl7_by_control_id ON hl7_message (sender, control_id);
    """,
)
KEPT_REFUSALS: Final = 10_000
"""Refused messages that are kept, newest first; accepted ones are never dropped."""
MAX_CONTROL_ID: Final = 199
"""Characters of MSH-10 that are kept apart from the message (HL7 v2.6); a message with more is refused."""

Stored = Literal["new", "repeat", "conflict"]


class StoredMessage(msgspec.Struct, frozen=True):
    """One line of the receiver's list; ``received`` in milliseconds since the epoch, ``size`` in bytes."""

    id: int
    received: int
    kind: str
    control_id: str
    verdict: str
    reason: str
    repeats: int
    size: int


class Arrival(msgspec.Struct, frozen=True):
    """A message with what was made of it, on its way to the store."""

    received: int
    kind: str
    sender: str
    control_id: str
    verdict: str
    reason: str
    body: bytes


def store(connection: sqlite3.Connection, arrival: Arrival) -> Stored:
    """Keep an arrival; the same bytes under the same control id only count one repeat more.

    ``conflict``, with nothing kept, when an accepted message has its control id and other bytes.
    """
    key = (arrival.sender, arrival.control_id[:MAX_CONTROL_ID])
    if arrival.verdict == "CA":
        row = connection.execute(
            "SELECT id, body FROM hl7_message WHERE sender = ? AND control_id = ? AND verdict = 'CA'", key
        ).fetchone()
        if row is not None and row[1] != arrival.body:
            return "conflict"
    else:
        row = connection.execute(
            "SELECT id FROM hl7_message WHERE sender = ? AND control_id = ? AND verdict = ? AND body = ?",
            (*key, arrival.verdict, arrival.body),
        ).fetchone()
    if row is not None:
        connection.execute("UPDATE hl7_message SET repeats = repeats + 1 WHERE id = ?", (row[0],))
        return "repeat"
    connection.execute(
        "INSERT INTO hl7_message (received, kind, sender, control_id, verdict, reason, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            arrival.received,
            arrival.kind,
            *key,
            arrival.verdict,
            arrival.reason,
            arrival.body,
        ),
    )
    if arrival.verdict != "CA":
        _drop_old_refusals(connection)
    return "new"


def _drop_old_refusals(connection: sqlite3.Connection) -> None:
    connection.execute(
        "DELETE FROM hl7_message WHERE id IN"
        " (SELECT id FROM hl7_message WHERE verdict <> 'CA' ORDER BY id DESC LIMIT -1 OFFSET ?)",
        (KEPT_REFUSALS,),
    )


def list_messages(directory: Path) -> list[StoredMessage]:
    """Give what a receiver has stored in its folder, oldest first; it may be running meanwhile.

    DatabaseError, one line, when there is no such store or it cannot be read.
    """
    rows = _query(
        directory,
        "SELECT id, received, kind, control_id, verdict, reason, repeats, length(body) FROM hl7_message ORDER BY id",
        (),
    )
    return [StoredMessage(*row) for row in rows]


def show_message(directory: Path, id: int | str) -> str:  # noqa: A002 - the word of the command line
    """Give one message as a readable tree, by its number in the list or its control id (the newest).

    LookupError when there is none; DatabaseError as for ``list_messages``.
    """
    body = message_body(directory, id)
    try:
        return describe(body)
    except Hl7ParseError as error:
        return f"not readable as HL7 v2: {error}\n{body[:2000]!r}\n"


def message_body(directory: Path, id: int | str) -> bytes:  # noqa: A002 - the word of the command line
    """Give the bytes of one message as they came; errors as for ``show_message``."""
    text = str(id).encode(errors="backslashreplace").decode()  # a lone surrogate is in no message
    rows = _query(
        directory,
        "SELECT body FROM hl7_message WHERE id = ? OR control_id = ? ORDER BY id = ? DESC, id DESC LIMIT 1",
        (
            number := int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1,
            text[:MAX_CONTROL_ID],
            number,
        ),
    )
    if not rows:
        raise LookupError(f"no message {text} in {directory}; list them to see which there are")
    return bytes(rows[0][0])


def _query(directory: Path, statement: str, values: tuple[int | str, ...]) -> list[tuple[Any, ...]]:
    path = Path(directory) / FILE_NAME
    if not path.is_file():
        raise DatabaseError(f"{path}: no HL7 receiver has stored anything here")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5.0)) as connection:
            return connection.execute(statement, values).fetchall()
    except sqlite3.Error as error:
        raise DatabaseError(f"{path}: cannot be read ({error})") from error
