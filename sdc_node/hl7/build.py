"""Assemble fields and segments from leaves that were escaped already; pure string work."""

from collections.abc import Iterable, Mapping
from typing import Final

from sdc_node.hl7.escaping import escape

FIELD_SEPARATOR: Final = "|"
ENCODING_CHARACTERS: Final = "^~\\&"


def leaf(text: str | None) -> str:
    """Escape a text for one component; None and the empty text both mean "not stated"."""
    return escape(text) if text else ""


def components(*parts: str) -> str:
    """Join the components of a field, trailing empty ones trimmed."""
    return "^".join(parts).rstrip("^")


def subcomponents(*parts: str) -> str:
    """Join the subcomponents of a component, trailing empty ones trimmed."""
    return "&".join(parts).rstrip("&")


def repetitions(parts: Iterable[str]) -> str:
    """Join the repetitions of a field; empty ones are left out."""
    return "~".join(part for part in parts if part)


def segment(name: str, fields: Mapping[int, str]) -> str:
    """Write a segment from its fields by HL7 number, trailing empty ones trimmed, without terminator.

    For MSH, numbers start at 3: MSH-1 and MSH-2 are fixed.
    """
    last = max((number for number, value in fields.items() if value), default=0)
    if name == "MSH":
        values = [fields.get(number, "") for number in range(3, last + 1)]
        return FIELD_SEPARATOR.join(["MSH", ENCODING_CHARACTERS, *values])
    return FIELD_SEPARATOR.join([name, *(fields.get(number, "") for number in range(1, last + 1))])


def encode(segments: Iterable[str]) -> bytes:
    """Terminate each segment with CR and encode the whole as UTF-8."""
    return "".join(f"{text}\r" for text in segments).encode("utf-8")
