"""The rows of both transactions: OBR and OBX, value types, containment (mapping sections 5 and 7)."""

from collections.abc import Iterator
from typing import Final

from sdc_node.hl7.ack import Finding
from sdc_node.hl7.dtm import parse_dtm
from sdc_node.hl7.field_checks import check_coded, check_time, check_value, containment
from sdc_node.hl7.message import Message, Segment
from sdc_node.hl7.tables import RESULT_STATUSES, VALUE_TYPES

_PCD01_STATUSES: Final = frozenset({"R", "F", "C", "X"})
_DEVICE_LEVELS: Final = 4
_FACET_LEVELS: Final = 5
_SOURCE_FACET: Final = 2


def check_observations(message: Message, *, alert: bool) -> Iterator[Finding]:
    """Check each OBR and OBX by itself, and containment within each OBR and across the message."""
    requests = results = 0
    mds: set[int] = set()
    rows: set[tuple[int, ...]] = set()
    last: tuple[int, ...] = ()
    for segment in message.segments:
        if segment.name == "OBR":
            requests += 1
            yield from _check_request(segment, requests, alert=alert)
            rows, last = set(), ()
        elif segment.name == "OBX":
            results += 1
            yield from _check_result(segment, results, alert=alert)
            path = containment(segment.value(4))
            if path is None:
                yield Finding("OBX", results, 4, 102, "containment must be four or more numbers between dots")
                continue
            yield from _check_place(path, rows, results)
            if len(path) == _DEVICE_LEVELS:
                if path < last:
                    yield Finding("OBX", results, 4, 103, "rows must be in the order of their containment")
                last = path
            if path[0] not in mds:
                mds.add(path[0])
                if len(mds) > 1:
                    yield Finding("OBX", results, 4, 103, "one message speaks of one MDS (R8101)")
            rows.add(path)


def _check_place(path: tuple[int, ...], rows: set[tuple[int, ...]], number: int) -> Iterator[Finding]:
    if path in rows:
        yield Finding("OBX", number, 4, 205, "containment must be unique under one OBR")
    for level in (1, 2, 3):
        device = path[:level] + (0,) * (4 - level)
        if path[level - 1] and device != path and device not in rows:
            yield Finding("OBX", number, 4, 103, "the row of an MDS, VMD or channel above it is missing")
            return


def _check_request(request: Segment, number: int, *, alert: bool) -> Iterator[Finding]:
    if request.value(1) != str(number):
        yield Finding("OBR", number, 1, 102, "set ids must count from 1")
    for field, name in ((2, "placer"), (3, "filler")):
        if not request.value(field):
            yield Finding("OBR", number, field, 101, f"the {name} order number is missing")
    if request.field(4):
        yield from check_coded(request, number, 4)
    else:
        yield Finding("OBR", number, 4, 101, "the service identifier is missing")
    yield from check_time(request, number, 7, required=True)
    if alert:
        return
    yield from check_time(request, number, 8)
    if request.value(7) and request.value(8):
        try:
            backwards = parse_dtm(request.value(8)) < parse_dtm(request.value(7))
        except ValueError:
            return
        if backwards:
            yield Finding("OBR", number, 8, 102, "the interval ends before it starts")


def _check_result(result: Segment, number: int, *, alert: bool) -> Iterator[Finding]:
    if result.value(1) != str(number):
        yield Finding("OBX", number, 1, 102, "set ids must count from 1 over the whole message")
    if result.field(3):
        yield from check_coded(result, number, 3)
    else:
        yield Finding("OBX", number, 3, 101, "the observation identifier is missing")
    yield from _check_result_value(result, number, alert=alert)
    yield from _check_status(result, number, alert=alert)
    yield from check_time(result, number, 14)
    for field in (17, 20):
        yield from check_coded(result, number, field)


def _check_result_value(result: Segment, number: int, *, alert: bool) -> Iterator[Finding]:
    value_type = result.value(2)
    has_value = bool(result.field(5))
    if value_type and value_type not in VALUE_TYPES:
        yield Finding("OBX", number, 2, 103, "the value type is not one of HL7 table 0125")
    elif value_type and not has_value:
        if not (alert and _is_source_facet(result)):
            yield Finding("OBX", number, 5, 101, "the value is missing")
    elif not value_type and has_value:
        yield Finding("OBX", number, 2, 101, "the value type is missing")
    else:
        yield from check_value(result, number, value_type)
    if value_type == "NM":
        yield from check_coded(result, number, 6)
    elif result.field(6) and (not value_type or value_type in VALUE_TYPES):
        yield Finding("OBX", number, 6, 102, "only numbers have a unit")


def _is_source_facet(result: Segment) -> bool:
    path = containment(result.value(4))
    return path is not None and len(path) == _FACET_LEVELS and path[-1] == _SOURCE_FACET


def _check_status(result: Segment, number: int, *, alert: bool) -> Iterator[Finding]:
    status = result.value(11)
    if not status:
        yield Finding("OBX", number, 11, 101, "the result status is missing")
    elif status not in RESULT_STATUSES:
        yield Finding("OBX", number, 11, 103, "the result status is not one of HL7 table 0085")
    elif not alert and status not in _PCD01_STATUSES:
        yield Finding("OBX", number, 11, 103, "the result status must be R, F, C or X")
    elif (status == "X") != (not result.value(2)):
        yield Finding("OBX", number, 11, 103, "status X belongs to device rows, which have no value type")
