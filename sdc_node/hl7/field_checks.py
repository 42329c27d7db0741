"""Checks of single fields: times, numbers, coded values, containment in OBX-4."""

import re
from collections.abc import Iterator
from typing import Final

from sdc_node.hl7.ack import Finding
from sdc_node.hl7.dtm import parse_dtm
from sdc_node.hl7.message import Segment
from sdc_node.hl7.numeric import parse_nm

_CONTAINMENT: Final = re.compile(r"(?:0|[1-9]\d{0,8})(?:\.(?:0|[1-9]\d{0,8})){3,5}\Z", re.ASCII)


def check_time(segment: Segment, occurrence: int, number: int, *, required: bool = False) -> Iterator[Finding]:
    """A field that holds a moment: seconds and the offset from UTC are mandatory in PCD."""
    text = segment.value(number)
    if not text:
        if required:
            yield Finding(segment.name, occurrence, number, 101, "the time is missing")
        return
    try:
        parse_dtm(text)
    except ValueError as error:
        yield Finding(segment.name, occurrence, number, 102, str(error))


def check_coded(segment: Segment, occurrence: int, number: int) -> Iterator[Finding]:
    """Each repetition of a CWE field needs a code and its coding system; 9 components at most."""
    for repetition in range(1, len(segment.repetitions(number)) + 1):
        parts = segment.components(number, repetition)
        if len(parts) < 3 or not parts[0] or not parts[2]:
            yield Finding(segment.name, occurrence, number, 102, "a coded value needs code and coding system")
        elif len(parts) > 9:
            yield Finding(segment.name, occurrence, number, 102, "a coded value has 9 components at most")


def check_value(segment: Segment, occurrence: int, value_type: str) -> Iterator[Finding]:
    """OBX-5 as the type in OBX-2 wants it; types that ours never send are not looked into."""
    if value_type == "CWE":
        yield from check_coded(segment, occurrence, 5)
        return
    for repetition in range(1, len(segment.repetitions(5)) + 1):
        text = segment.value(5, repetition=repetition)
        try:
            if value_type == "NM":
                parse_nm(text)
            elif value_type == "DTM":
                parse_dtm(text)
        except ValueError as error:
            yield Finding(segment.name, occurrence, 5, 102, f"{error}, as OBX-2 announces")


def containment(text: str) -> tuple[int, ...] | None:
    """Read OBX-4, four to six numbers between dots without leading zeros; None for anything else."""
    if _CONTAINMENT.match(text) is None:
        return None
    return tuple(int(part) for part in text.split("."))
