"""What a receiver stored, read back by python-hl7: nothing here knows how the node writes a message."""

import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import hl7

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Path4 = tuple[int, int, int, int]
Value = Decimal | str


class Shown(NamedTuple):
    """One metric row: what stands in OBX-2, -5, -11 and -14 of the metric with this handle."""

    handle: str
    type: str
    value: Value
    status: str
    time: int | None


class Patient(NamedTuple):
    """PID-3 as (extension, root, type code) of each repetition, PID-5.1 and .2, and whether PID-31 says unknown."""

    identifiers: tuple[tuple[str, str, str], ...]
    family: str
    given: str
    unknown: bool


NOBODY = Patient((), "", "", unknown=True)


class Message:
    """A stored message, read by python-hl7."""

    def __init__(self, body: bytes) -> None:
        self.text = body.decode("utf-8")
        self.hl7 = hl7.parse(self.text)

    def text_of(self, field: object) -> str:
        """A field's text without its escapes."""
        return str(self.hl7.unescape(str(field)))

    def segments(self, name: str) -> Sequence[hl7.Segment]:
        return list(self.hl7.segments(name)) if any(str(one[0]) == name for one in self.hl7) else []

    def field(self, name: str, number: int) -> str:
        return _field(self.segments(name)[0], number)

    @property
    def control_id(self) -> str:
        return self.field("MSH", 10)

    @property
    def pid(self) -> str:
        """The PID segment as it stands."""
        return str(self.segments("PID")[0])

    @property
    def patient(self) -> Patient:
        identifiers = []
        for repetition in filter(None, self.field("PID", 3).split("~")):
            parts = [self.text_of(part) for part in repetition.split("^")] + [""] * 5
            identifiers.append((parts[0], parts[3], parts[4]))
        family, given = (self.text_of(part) for part in [*self.field("PID", 5).split("^"), ""][:2])
        return Patient(tuple(identifiers), family, given, unknown=self.field("PID", 31) == "Y")

    @property
    def equipment(self) -> str:
        """OBX-18 of the MDS's row, as it stands."""
        return next(_field(row, 18) for row in self.segments("OBX") if _field(row, 4).endswith(".0.0.0"))

    @property
    def window(self) -> tuple[int, int]:
        """OBR-7 and OBR-8 in ms, the same in each OBR."""
        windows = {(milliseconds(_field(one, 7)), milliseconds(_field(one, 8))) for one in self.segments("OBR")}
        (window,) = windows
        return window

    def shown(self, handles: Mapping[Path4, str]) -> list[Shown]:
        """The metric rows (PCD-01); `handles` says whose an OBX-4 is. The patient's own rows (m.0.0.1 to 3) are none.

        KeyError where an OBX-4 names no metric of the device.
        """
        found = []
        for row in self.segments("OBX"):
            path = _path(_field(row, 4))
            if path[3] == 0 or (path[1:3] == (0, 0) and path[3] <= 19):
                continue
            kind, text = _field(row, 2), _field(row, 5)
            value: Value = self.text_of(text)
            if kind == "NM":
                value = Decimal(text)
            elif kind == "CWE":
                value = text.split("^")[0]
            time = milliseconds(_field(row, 14)) if _field(row, 14) else None
            found.append(Shown(handles[path], kind, value, _field(row, 11), time))
        return found


class Event(NamedTuple):
    """One PCD-04: its occurrence by event id, and what its facets say."""

    id: str
    first: bool
    phase: str
    state: str
    priority: str
    time: int
    equipment: str
    patient: Patient

    @property
    def condition(self) -> str:
        """The handle in an event id `<handle>.<SequenceId>.<StateVersion>` (R8052), of ours with a fourth part."""
        found = re.fullmatch(r"(.+)\.[0-9a-f-]{36}\.\d+(\.\d+)?", self.id)
        return found[1] if found else self.id.rsplit(".", 2)[0]


def event_of(message: Message) -> Event:
    """Read a PCD-04: the event id stands in OBR-3 of the first message, and in OBR-29 of every later one (R8056)."""
    parent = message.field("OBR", 29)
    if parent:
        name = message.text_of(parent.split("^")[1].split("&")[0])
    else:
        name = message.text_of(message.field("OBR", 3).split("^")[0])
    facets = {}
    for row in message.segments("OBX"):
        parts = _field(row, 4).split(".")
        if len(parts) == 5:
            facets[int(parts[4])] = row
    phase, state, _, priority = (_field(facets[number], 5) for number in (3, 4, 5, 6))
    time = milliseconds(_field(facets[1], 14))
    return Event(name, not parent, phase, state, priority, time, message.equipment, message.patient)


def stored(folder: Path) -> list[Message]:
    """The messages that a receiver acknowledged, in the order in which they came."""
    rows = rows_of(folder / "hl7.sqlite", "SELECT body FROM hl7_message WHERE verdict = 'CA' ORDER BY id")
    return [Message(bytes(body)) for (body,) in rows]


def pcd(messages: Sequence[Message], number: int) -> list[Message]:
    """Those of one transaction, by the OID in MSH-21.3."""
    oid = {1: "1.3.6.1.4.1.19376.1.6.1.1.1", 4: "1.3.6.1.4.1.19376.1.6.1.4.1"}[number]
    return [message for message in messages if message.field("MSH", 21).split("^")[2] == oid]


def handles_of(state: Path, device: str) -> dict[Path4, str]:
    """From OBX-4 to metric handle, by the numbers in a node's state file."""
    rows = rows_of(state, f"SELECT parent, handle, number FROM number WHERE device = '{device}'")
    below: dict[str, list[tuple[str, int]]] = {}
    for parent, handle, number in rows:
        below.setdefault(parent, []).append((handle, number))
    found: dict[Path4, str] = {}

    def walk(parent: str, path: tuple[int, ...]) -> None:
        for handle, number in below.get(parent, ()):
            if handle in below:
                walk(handle, (*path, number))
            else:
                zeros = (0,) * (3 - len(path))
                found[(*path, *zeros, number)] = handle  # type: ignore[index]  # four numbers: MDS, VMD, channel, metric

    walk("", ())
    return found


def milliseconds(text: str) -> int:
    """A DTM with its offset, which every time of PCD has, as ms since the epoch."""
    form = "%Y%m%d%H%M%S.%f%z" if "." in text else "%Y%m%d%H%M%S%z"
    return (datetime.strptime(text, form) - EPOCH) // timedelta(milliseconds=1)  # noqa: DTZ007 - both forms end in %z


def rows_of(file: Path, statement: str) -> list[tuple]:
    """What a statement finds in a SQLite file, which may be in use."""
    with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=5.0)) as connection:
        return connection.execute(statement).fetchall()


def _field(segment: hl7.Segment, number: int) -> str:
    return str(segment[number]) if number < len(segment) else ""


def _path(text: str) -> Path4:
    first, second, third, fourth = map(int, text.split("."))
    return first, second, third, fourth
