"""Does a message keep IHE PCD-01 or PCD-04 as ``hl7v2_mapping`` states them: structure, header, patient.

Findings name segment and field and never repeat what stood there, since that may be about a patient.
"""

import re
from collections.abc import Iterator
from typing import Final, Literal

from sdc_node.hl7.ack import Finding
from sdc_node.hl7.alert_checks import check_alert
from sdc_node.hl7.dtm import check_date
from sdc_node.hl7.field_checks import check_time
from sdc_node.hl7.message import Message, Segment
from sdc_node.hl7.observation_checks import check_observations
from sdc_node.hl7.tables import (
    PATIENT_CLASSES,
    PCD01_LEGACY_PROFILES,
    PCD01_MESSAGE,
    PCD01_PROFILE,
    PCD04_LEGACY_PROFILES,
    PCD04_MESSAGE,
    PCD04_PROFILE,
    PROCESSING_IDS,
    REJECTING_ERRORS,
)

Kind = Literal["pcd01", "pcd04", "other"]

_GRAMMAR: Final = {
    "pcd01": re.compile(r"MSH (SFT )*PID (PD1 )?(NTE )*PV1 (PV2 )?((ORC )?OBR (NTE )*(OBX (NTE )*)+)+\Z"),
    "pcd04": re.compile(r"MSH (SFT )*PID (PD1 )?(NTE )*PV1 (PV2 )?(ORC )?OBR (NTE )*(OBX (NTE )*)+\Z"),
}
_PROFILES: Final = {
    "pcd01": PCD01_LEGACY_PROFILES | {PCD01_PROFILE},
    "pcd04": PCD04_LEGACY_PROFILES | {PCD04_PROFILE},
}
_MAX_CONTROL_ID: Final = 199


def kind_of(message: Message) -> Kind:
    """Tell from MSH-9 which transaction a message belongs to."""
    code_and_event = (message.header.value(9, 1), message.header.value(9, 2))
    if code_and_event == PCD01_MESSAGE[:2]:
        return "pcd01"
    if code_and_event == PCD04_MESSAGE[:2]:
        return "pcd04"
    return "other"


def check(message: Message) -> list[Finding]:
    """Give all that is wrong with a message, in its order; an empty list means that it is accepted."""
    refused = list(_check_support(message))
    if refused:
        return refused
    kind = kind_of(message)
    findings = [*_check_header(message.header, kind), *_check_structure(message, kind)]
    for segment in message.all("PID")[:1]:
        findings += _check_patient(segment, kind)
    for segment in message.all("PV1")[:1]:
        findings += _check_visit(segment)
    findings += check_observations(message, alert=kind == "pcd04")
    if kind == "pcd04":
        findings += check_alert(message)
    return findings


def verdict(findings: list[Finding]) -> Literal["CA", "CE", "CR"]:
    """CR for a type, event, processing id or version that is not supported, CE for other faults, else CA."""
    if not findings:
        return "CA"
    return "CR" if any(finding.code in REJECTING_ERRORS for finding in findings) else "CE"


def _check_support(message: Message) -> Iterator[Finding]:
    header = message.header
    if header.value(12) != "2.6":
        yield Finding("MSH", 1, 12, 203, "the version must be 2.6")
    if header.value(9, 1) != "ORU":
        yield Finding("MSH", 1, 9, 200, "the message type must be ORU")
    elif kind_of(message) == "other":
        yield Finding("MSH", 1, 9, 201, "the event must be R01 (PCD-01) or R40 (PCD-04)")
    if header.value(11) not in PROCESSING_IDS:
        yield Finding("MSH", 1, 11, 202, "the processing id must be P, D or T")


def _check_header(header: Segment, kind: Kind) -> Iterator[Finding]:
    expected = PCD01_MESSAGE if kind == "pcd01" else PCD04_MESSAGE
    if header.field(2) != "^~\\&":
        yield Finding("MSH", 1, 2, 103, "the encoding characters must be ^~\\&")
    if not header.value(3):
        yield Finding("MSH", 1, 3, 101, "the sending application is missing")
    yield from check_time(header, 1, 7, required=True)
    if header.value(9, 3) != expected[2]:
        yield Finding("MSH", 1, 9, 103, f"the message structure must be {expected[2]}")
    control_id = header.value(10)
    if not control_id:
        yield Finding("MSH", 1, 10, 101, "the message control id is missing")
    elif len(control_id) > _MAX_CONTROL_ID:
        yield Finding("MSH", 1, 10, 102, f"the message control id exceeds {_MAX_CONTROL_ID} characters")
    if header.value(15) != "AL":
        yield Finding("MSH", 1, 15, 103, "the accept acknowledgement type must be AL")
    if header.value(16) != "NE":
        yield Finding("MSH", 1, 16, 103, "the application acknowledgement type must be NE")
    profiles = [header.components(21, n + 1) for n in range(len(header.repetitions(21)))]
    if not profiles:
        yield Finding("MSH", 1, 21, 101, "the message profile id is missing")
    elif not any(len(p) >= 4 and p[2] in _PROFILES[kind] and p[3] == "ISO" for p in profiles):
        yield Finding("MSH", 1, 21, 103, "no profile id with this transaction's OID and type ISO")


def _check_structure(message: Message, kind: Kind) -> Iterator[Finding]:
    names = [segment.name for segment in message.segments]
    if _GRAMMAR[kind].match("".join(f"{name} " for name in names)):
        return
    for name in ("PID", "PV1", "OBR", "OBX"):
        if name not in names:
            yield Finding(name, 1, 0, 100, "the segment is missing")
            return
    for name in ("MSH", "PID", "PV1"):
        if names.count(name) > 1:
            yield Finding(name, 2, 0, 100, "the segment must come once")
            return
    if kind == "pcd04" and names.count("OBR") > 1:
        yield Finding("OBR", 2, 0, 100, "one alert, hence one OBR, in a PCD-04")
        return
    yield Finding("MSH", 1, 9, 100, "segments are not in the order of MSH PID PV1 {OBR {OBX}}")


def _check_patient(patient: Segment, kind: Kind) -> Iterator[Finding]:
    if kind == "pcd01" and not patient.field(5):
        yield Finding("PID", 1, 5, 101, "the patient name is missing (an unknown patient's type is U)")
    if patient.field(5) and not patient.value(5, 7):
        yield Finding("PID", 1, 5, 101, "the name type is missing")
    for repetition in range(1, len(patient.repetitions(3)) + 1):
        if not patient.value(3, repetition=repetition):
            yield Finding("PID", 1, 3, 101, "an identifier is missing")
        if not patient.value(3, 5, repetition=repetition):
            yield Finding("PID", 1, 3, 101, "an identifier type is missing")
    if patient.field(7):
        try:
            check_date(patient.value(7))
        except ValueError as error:
            yield Finding("PID", 1, 7, 102, str(error))
    if patient.value(31) not in {"", "Y", "N"}:
        yield Finding("PID", 1, 31, 103, "the identity unknown indicator must be Y or N")
    if patient.value(31) == "Y" and patient.value(5):
        yield Finding("PID", 1, 31, 103, "an unknown patient cannot have a name")


def _check_visit(visit: Segment) -> Iterator[Finding]:
    if visit.value(2) not in PATIENT_CLASSES:
        yield Finding("PV1", 1, 2, 103, "the patient class must be one of B E I O P R U")
    if visit.value(51) not in {"", "V"}:
        yield Finding("PV1", 1, 51, 103, "the visit indicator must be V or empty")
