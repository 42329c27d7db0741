"""Accept acknowledgements (MSH, MSA, ERR) as the receiver writes and the client reads them."""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from sdc_node.hl7.build import components, encode, leaf, segment
from sdc_node.hl7.dtm import format_dtm
from sdc_node.hl7.message import Hl7ParseError, Message, Segment, parse
from sdc_node.hl7.tables import ACCEPTED_CODES, ACK_CODES, ERROR_TEXTS, NOT_ACCEPTED_CODES, SEGMENT_NAMES

_MAX_TEXT: Final = 500
_MAX_ERRORS: Final = 20
_INTERNAL_ERROR: Final = 207
_ERRORS_READ: Final = ERROR_TEXTS | {204: "Unknown key identifier", 206: "Application record locked"}
_OCCURRENCE: Final = re.compile(r"[0-9]{1,4}", re.ASCII)
_FIELD: Final = re.compile(r"[0-9]{1,2}", re.ASCII)


class Finding(msgspec.Struct, frozen=True):
    """One thing wrong in a message: where, the code of HL7 table 0357, and why; never the data itself."""

    segment: str
    occurrence: int
    field: int
    code: int
    text: str

    @property
    def location(self) -> str:
        """``OBX[3]-5``, the third OBX's field 5."""
        return f"{self.segment}[{self.occurrence}]" + (f"-{self.field}" if self.field else "")

    def __str__(self) -> str:
        return f"{self.location}: {self.text}"


class Ack(msgspec.Struct, frozen=True):
    """An acknowledgement: MSA-1, MSA-2, the codes of HL7 table 0357 in its ERR-3, and one line for people.

    `text` is made of codes and locations (ERR-2): what a receiver writes freely (MSA-3, ERR-7, ERR-8) may repeat what
    was sent, a patient's name among it.
    """

    code: str
    control_id: str
    text: str = ""
    errors: tuple[int, ...] = ()

    @property
    def accepted(self) -> bool:
        """CA, and AA from peers of original mode."""
        return self.code in ACCEPTED_CODES

    @property
    def retry(self) -> bool:
        """CE or AE: not taken now, may be sent again a few times; otherwise refused for good."""
        return self.code in NOT_ACCEPTED_CODES

    @property
    def receiver_failed(self) -> bool:
        """CE or AE for an application internal error (207), a full disk, say: it speaks not of the message."""
        return self.retry and _INTERNAL_ERROR in self.errors


def build_ack(
    message: Message | None, code: str, *, control_id: str, now: int, findings: Sequence[Finding] = ()
) -> bytes:
    """Acknowledge a message with MSA-1 ``code``; ``now`` in milliseconds since the epoch.

    Sender and receiver are exchanged, MSH-9 is ``ACK^<event>^ACK``. Without a readable
    message MSA-2 is empty. At most 20 findings become ERR segments.
    """
    header = message.header if message is not None else None
    event = header.value(9, 2) if header is not None else ""
    fields: dict[int, str] = {
        7: format_dtm(now),
        9: components("ACK", leaf(event), "ACK") if event else "ACK",
        10: leaf(control_id),
        11: "P",
        12: "2.6",
        18: "UNICODE UTF-8",
    }
    if header is not None:
        fields |= {11: _again(header, 11) or "P"}
        fields |= {3: _again(header, 5), 4: _again(header, 6), 5: _again(header, 3), 6: _again(header, 4)}
    acknowledged = message.control_id if message is not None else ""
    text = str(findings[0]) if findings else ""
    msa = segment("MSA", {1: code, 2: leaf(acknowledged), 3: leaf(text[:80])})
    errors = [_error(finding) for finding in findings[:_MAX_ERRORS]]
    return encode([segment("MSH", fields), msa, *errors])


def _again(header: Segment, number: int) -> str:
    """Give a field's first repetition in standard delimiters."""
    return components(*(leaf(part) for part in header.components(number)))


def _error(finding: Finding) -> str:
    where = components(finding.segment, str(finding.occurrence), str(finding.field) if finding.field else "")
    code = components(str(finding.code), leaf(ERROR_TEXTS.get(finding.code)), "HL70357")
    return segment("ERR", {2: where, 3: code, 4: "E", 8: leaf(str(finding))})


def parse_ack(body: bytes) -> Ack:
    """Read an acknowledgement of any version; Hl7ParseError when it is none or MSA-1 is unknown."""
    message = parse(body)
    msa = message.first("MSA")
    if msa is None:
        raise Hl7ParseError("the answer has no MSA segment")
    code = msa.value(1).strip()
    if code not in ACK_CODES:
        raise Hl7ParseError("MSA-1 of the answer is no acknowledgement code")
    told = message.all("ERR")[:_MAX_ERRORS]
    codes = [_code(error) for error in told]
    text = "; ".join(dict.fromkeys(filter(None, map(_text, told, codes))))[:_MAX_TEXT]
    return Ack(code, msa.value(2), text, tuple(number for number in codes if number is not None))


def _code(error: Segment) -> int | None:
    """ERR-3.1 where it is a code of table 0357."""
    return next((number for number in _ERRORS_READ if str(number) == error.value(3).strip()), None)


def _text(error: Segment, code: int | None) -> str:
    """``OBX[3]-5: 102 Data type error``, or what of it there is."""
    said = f"{code} {_ERRORS_READ[code]}" if code is not None else ""
    return ": ".join(filter(None, (_location(error), said)))


def _location(error: Segment) -> str:
    """ERR-2 as far as it names a segment that we send, its occurrence and field."""
    name, occurrence, field = (error.value(2, component).strip() for component in (1, 2, 3))
    if name not in SEGMENT_NAMES:
        return ""
    if not _OCCURRENCE.fullmatch(occurrence):
        return name
    return f"{name}[{occurrence}]" + (f"-{field}" if _FIELD.fullmatch(field) else "")
