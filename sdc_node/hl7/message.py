"""Read a message into segments, fields, repetitions, components and subcomponents, liberally.

Structure is read as it comes; whether it keeps the profile is asked in ``checks``.
"""

import re
from typing import Final

import msgspec

from sdc_node.hl7.escaping import STANDARD, Delimiters, unescape

_SEGMENT_NAME: Final = re.compile(r"[A-Z][A-Z0-9]{2}\Z")
MAX_SEGMENTS: Final = 100_000


class Hl7ParseError(ValueError):
    """The bytes are no HL7 v2 message; the text says where, never what stood there."""


class Segment(msgspec.Struct, frozen=True):
    """One segment; ``fields[n]`` is field n as it stands on the wire, ``fields[0]`` the name."""

    fields: tuple[str, ...]
    delimiters: Delimiters = STANDARD

    @property
    def name(self) -> str:
        return self.fields[0]

    def field(self, number: int) -> str:
        """Give field n, still escaped and with all its repetitions; empty when it is not there."""
        return self.fields[number] if number < len(self.fields) else ""

    def repetitions(self, number: int) -> list[str]:
        """Give the repetitions of field n, still escaped; an empty field has none."""
        raw = self.field(number)
        if not raw:
            return []
        if self.name == "MSH" and number <= 2:
            return [raw]
        return raw.split(self.delimiters.repetition)

    def components(self, number: int, repetition: int = 1) -> list[str]:
        """Give the components of one repetition, unescaped; subcomponents stay joined by ``&``."""
        repeats = self.repetitions(number)
        if repetition > len(repeats):
            return []
        raw = repeats[repetition - 1]
        if self.name == "MSH" and number <= 2:
            return [raw]
        return [unescape(part, self.delimiters) for part in raw.split(self.delimiters.component)]

    def value(self, number: int, component: int = 1, subcomponent: int = 1, *, repetition: int = 1) -> str:
        """Give one leaf, unescaped; empty when it is not there. All four count from 1."""
        repeats = self.repetitions(number)
        if repetition > len(repeats):
            return ""
        raw = repeats[repetition - 1]
        if self.name == "MSH" and number <= 2:
            return raw if component == 1 and subcomponent == 1 else ""
        parts = raw.split(self.delimiters.component)
        if component > len(parts):
            return ""
        leaves = parts[component - 1].split(self.delimiters.subcomponent)
        return unescape(leaves[subcomponent - 1], self.delimiters) if subcomponent <= len(leaves) else ""


class Message(msgspec.Struct, frozen=True):
    """A message as segments in their order; the first is always MSH."""

    segments: tuple[Segment, ...]

    @property
    def header(self) -> Segment:
        return self.segments[0]

    @property
    def control_id(self) -> str:
        """MSH-10."""
        return self.header.value(10)

    def all(self, name: str) -> list[Segment]:
        return [segment for segment in self.segments if segment.name == name]

    def first(self, name: str) -> Segment | None:
        return next((segment for segment in self.segments if segment.name == name), None)


def field(segment: Segment | None, number: int) -> str:
    """Give field n still escaped; empty for a segment that is not there."""
    return segment.field(number) if segment is not None else ""


def parse(body: bytes) -> Message:
    """Read one message; segments may end with CR, LF or CRLF, blank lines are passed over.

    The character set is MSH-18's; without one UTF-8, and Latin-1 where that fails.
    Hl7ParseError when there is no MSH, a delimiter is unusable or a line is no segment.
    """
    text = _decode(body).strip("\r\n")
    if not text.startswith("MSH") or len(text) < 8:
        raise Hl7ParseError("the message does not start with an MSH segment")
    delimiters = _delimiters(text)
    segments: list[Segment] = []
    for line in _lines(text, delimiters):
        if len(segments) >= MAX_SEGMENTS:
            raise Hl7ParseError(f"the message has more than {MAX_SEGMENTS} segments")
        parts = line.split(delimiters.field)
        if _SEGMENT_NAME.match(parts[0]) is None:
            raise Hl7ParseError(f"line {len(segments) + 1} does not start with a segment name")
        if parts[0] == "MSH":
            parts.insert(1, delimiters.field)
        segments.append(Segment(tuple(parts), delimiters))
    return Message(tuple(segments))


def _lines(text: str, delimiters: Delimiters) -> list[str]:
    # a lone LF ends a segment only where another one begins: within a field it is (bad) data
    pattern = r"\r\n?|\n(?=[A-Z][A-Z0-9]{2}" + re.escape(delimiters.field) + ")"
    lines = (line.strip("\n") for line in re.split(pattern, text))
    return [line for line in lines if line]


def _delimiters(text: str) -> Delimiters:
    separator = text[3]
    header = re.split(r"[\r\n]", text, maxsplit=1)[0]
    encoding = header[4:].split(separator, 1)[0]
    chosen = encoding + "^~\\&"[len(encoding) :]
    marks = separator + chosen[:4]
    if len(set(marks)) != 5 or any(mark.isalnum() or mark.isspace() or not mark.isprintable() for mark in marks):
        raise Hl7ParseError("MSH-1 and MSH-2 do not declare usable delimiters")
    return Delimiters(field=marks[0], component=marks[1], repetition=marks[2], escape=marks[3], subcomponent=marks[4])


_CHARSETS: Final = {
    "UNICODE UTF-8": "utf-8",
    "ASCII": "latin-1",
    **{f"8859/{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
}


def _decode(body: bytes) -> str:
    body = body.removeprefix(b"\xef\xbb\xbf")
    header = re.split(rb"[\r\n]", body.lstrip(b"\r\n"), maxsplit=1)[0]
    fields = header.split(header[3:4]) if len(header) > 3 else []
    declared = fields[17].split(b"~")[0].decode("ascii", errors="replace") if len(fields) > 17 else ""
    charset = _CHARSETS.get(declared.strip(), "utf-8")
    try:
        return body.decode(charset)
    except UnicodeDecodeError:
        return body.decode("latin-1")
