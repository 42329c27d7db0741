"""Escape sequences of HL7 v2.6 chapter 2.7, for the leaves of a field.

A leaf is what stands between two delimiters. Every leaf is escaped by itself, after which it
holds neither a delimiter nor a control character, so that no data can end a segment or a frame.
"""

import re
from typing import Final

import msgspec


class Delimiters(msgspec.Struct, frozen=True):
    """The five delimiters that MSH-1 and MSH-2 declare; PCD fixes them."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"


STANDARD: Final = Delimiters()

_ESCAPES: Final = {
    "\\": "\\E\\",
    "|": "\\F\\",
    "^": "\\S\\",
    "&": "\\T\\",
    "~": "\\R\\",
}
_LINE_BREAK: Final = re.compile(r"\r\n?|\n")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_TO_ESCAPE: Final = re.compile(r"[\\|^&~]")
_HEX: Final = re.compile(r"X(?:[0-9A-Fa-f]{2})+\Z")
_MAX_HEX: Final = 512


def escape(text: str) -> str:
    """Escape one ST leaf: line breaks and other control characters become blanks (mapping section 0)."""
    return _escape_delimiters(_CONTROL.sub(" ", _LINE_BREAK.sub(" ", text)))


def escape_formatted(text: str) -> str:
    r"""Escape one FT leaf: line breaks become ``\.br\``, other control characters blanks."""
    lines = _LINE_BREAK.split(text)
    return "\\.br\\".join(_escape_delimiters(_CONTROL.sub(" ", line)) for line in lines)


def _escape_delimiters(text: str) -> str:
    text = _SURROGATE.sub("\ufffd", text)
    return _TO_ESCAPE.sub(lambda match: _ESCAPES[match[0]], text)


def unescape(text: str, delimiters: Delimiters = STANDARD) -> str:
    r"""Give the text of one leaf. Unknown sequences stay as they are; ``\.br\`` becomes a line feed.

    ``\Xhh..\`` is read as UTF-8 octets, bad ones as U+FFFD; highlighting (``\H\``, ``\N\``) is dropped.
    """
    mark = delimiters.escape
    if mark not in text:
        return text
    quoted = re.escape(mark)
    return re.sub(
        f"{quoted}([^{quoted}]*){quoted}",
        lambda match: _plain(match[1], match[0], delimiters),
        text,
    )


def _plain(sequence: str, whole: str, delimiters: Delimiters) -> str:
    known = {
        "E": delimiters.escape,
        "F": delimiters.field,
        "S": delimiters.component,
        "T": delimiters.subcomponent,
        "R": delimiters.repetition,
        ".br": "\n",
        "H": "",
        "N": "",
    }
    if sequence in known:
        return known[sequence]
    if len(sequence) <= _MAX_HEX and _HEX.match(sequence):
        return bytes.fromhex(sequence[1:]).decode("utf-8", errors="replace")
    return whole
