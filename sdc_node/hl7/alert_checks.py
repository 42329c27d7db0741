"""What PCD-04 adds: its OBR and the seven facets in their order (mapping sections 7.1 and 7.2)."""

from collections.abc import Iterator
from typing import Final

from sdc_node.hl7.ack import Finding
from sdc_node.hl7.field_checks import containment
from sdc_node.hl7.message import Message, Segment
from sdc_node.hl7.tables import ALARM_EVENT, FACET_VALUES, FACETS, PHASES

_COUNT: Final = 7
_FIRST_TEXT: Final = 3  # facets 3 to 7 are texts out of a table


def check_alert(message: Message) -> Iterator[Finding]:
    """Check the one alert of a PCD-04: OBR-4, -8, -29, facets 1 to 7 with their codes and values."""
    request = message.first("OBR")
    results = message.all("OBX")
    facets = [(number, result) for number, result in enumerate(results, start=1) if _facet(result) is not None]
    order = [_facet(result) for _, result in facets]
    if order != list(range(1, _COUNT + 1)):
        yield Finding("OBX", facets[0][0] if facets else 1, 4, 100, "facets 1 to 7 must come once each, in order")
        return
    if len({result.value(4).rpartition(".")[0] for _, result in facets}) > 1:
        yield Finding("OBX", facets[0][0], 4, 103, "the facets must share one containment")
    for number, result in facets:
        if result.value(11) != "R":
            yield Finding("OBX", number, 11, 103, "the status of a facet must be R (R8068)")
    if not facets[0][1].value(14):
        yield Finding("OBX", facets[0][0], 14, 101, "the time of the status change is missing (R8062)")
    for index, (number, result) in enumerate(facets[_FIRST_TEXT - 1 :]):
        yield from _check_text_facet(result, number, index)
    if request is not None:
        yield from _check_request(request, phase=facets[_FIRST_TEXT - 1][1].value(5))


def _facet(result: Segment) -> int | None:
    path = containment(result.value(4))
    return path[4] if path is not None and len(path) == 5 else None


def _check_text_facet(result: Segment, number: int, index: int) -> Iterator[Finding]:
    code, reference_id = FACETS[index]
    if (result.value(3, 1), result.value(3, 2)) != (code, reference_id):
        yield Finding("OBX", number, 3, 103, f"facet {index + _FIRST_TEXT} must be {code} {reference_id}")
    values = [result.value(5, repetition=n + 1) for n in range(len(result.repetitions(5)))]
    if result.value(2) != "ST" or not set(values) <= FACET_VALUES[index]:
        yield Finding("OBX", number, 5, 103, f"not a value of facet {index + _FIRST_TEXT}")


def _check_request(request: Segment, phase: str) -> Iterator[Finding]:
    if request.value(4) != ALARM_EVENT:
        yield Finding("OBR", 1, 4, 103, f"the service identifier must be {ALARM_EVENT} MDC_EVT_ALARM (R8054)")
    if request.field(8):
        yield Finding("OBR", 1, 8, 103, "an alert has no end time in OBR-8")
    parent = request.value(29, 2)
    if phase == "start" and request.field(29):
        yield Finding("OBR", 1, 29, 103, "the initial message has no parent (R8056)")
    elif phase in PHASES - {"start"} and not parent:
        yield Finding("OBR", 1, 29, 101, "the event id of the initial message is missing (R8056)")
