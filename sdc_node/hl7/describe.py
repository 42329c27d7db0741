"""A message as a tree that people can read, at most 100 columns wide."""

import textwrap
from typing import Final

from sdc_node.hl7.message import Message, Segment, parse
from sdc_node.hl7.tables import FIELD_NAMES, SEGMENT_NAMES

WIDTH: Final = 100
_NAME_WIDTH: Final = 32


def describe(body: bytes) -> str:
    """Write each segment with the number, name and value of each field that it states.

    Components stand between ``^``, subcomponents between ``&``; whatever a terminal would not print is
    shown as an escape. Hl7ParseError as from ``parse``.
    """
    return describe_message(parse(body))


def describe_message(message: Message) -> str:
    """The same for a message that was read already."""
    return "\n".join(line for segment in message.segments for line in _segment(segment)) + "\n"


def _segment(segment: Segment) -> list[str]:
    title = SEGMENT_NAMES.get(segment.name, "other segment")
    number = segment.value(1) if segment.name in {"OBR", "OBX", "NTE"} else ""
    lines = [f"{segment.name} {number}".rstrip() + f"  {title}"]
    names = FIELD_NAMES.get(segment.name, {})
    for position in range(1, len(segment.fields)):
        name = names.get(position, f"Field {position}")
        for repetition in range(1, len(segment.repetitions(position)) + 1):
            value = _joined(segment.components(position, repetition))
            lines += _field(position if repetition == 1 else None, name if repetition == 1 else "  and", value)
    return lines


def _field(position: int | None, name: str, value: str) -> list[str]:
    label = f"  {position or '':>3}  {name:<{_NAME_WIDTH}}  "
    room = WIDTH - len(label)
    chunks = textwrap.wrap(value, room, break_on_hyphens=False, drop_whitespace=False) or [""]
    return [((label if index == 0 else " " * len(label)) + chunk).rstrip() for index, chunk in enumerate(chunks)]


def _joined(parts: list[str]) -> str:
    return "^".join(f" {_printable(part)} " if part else "" for part in parts).strip()


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
