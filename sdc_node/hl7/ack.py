"""Accept acknowledgements (MSH, MSA, ERR) as the receiver writes and the client reads them."""

from collections.abc import Sequence
from typing import Final

import msgspec

from sdc_node.hl7.build import components, encode, leaf, segment
from sdc_node.hl7.dtm import format_dtm
from sdc_node.hl7.message import Hl7ParseError, Message, Segment, parse
from sdc_node.hl7.tables import ACCEPTED_CODES, ACK_CODES, ERROR_TEXTS, NOT_ACCEPTED_CODES

_MAX_TEXT: Final = 500
_MAX_ERRORS: Final = 20


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
    """An acknowledgement: MSA-1, MSA-2 and one line of text for people."""

    code: str
    control_id: str
    text: str = ""

    @property
    def accepted(self) -> bool:
        """CA, and AA from peers of original mode."""
        return self.code in ACCEPTED_CODES

    @property
    def retry(self) -> bool:
        """CE or AE: not taken now, may be sent again a few times; otherwise refused for good."""
        return self.code in NOT_ACCEPTED_CODES


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
    return Ack(code, msa.value(2), _text(message, msa))


def _text(message: Message, msa: Segment) -> str:
    texts = [msa.value(3)]
    for error in message.all("ERR")[:_MAX_ERRORS]:
        texts += [error.value(8) or error.value(7) or error.value(3, 2) or error.value(1, 4)]
    plain = ("".join(char if char.isprintable() else " " for char in text).strip() for text in texts)
    return "; ".join(dict.fromkeys(text for text in plain if text))[:_MAX_TEXT]
