"""Each rule of the receiver by a message that breaks it and nothing else."""

from pathlib import Path

import pytest

from sdc_node.hl7.checks import check, kind_of, verdict
from sdc_node.hl7.message import parse

DATA = Path(__file__).parent / "data"
PCD01 = (DATA / "pcd01.hl7").read_text()
PCD04 = (DATA / "pcd04_start.hl7").read_text()


def findings_of(text):
    findings = check(parse(text.encode()))
    return verdict(findings), [finding.location for finding in findings]


def planted(text, segment, number, value, *, occurrence=1):
    """The message with one field of one segment replaced."""
    lines = text.splitlines()
    places = [index for index, line in enumerate(lines) if line.startswith(f"{segment}|")]
    place = places[occurrence - 1]
    fields = lines[place].split("|")
    index = number - 1 if segment == "MSH" else number
    fields += [""] * (index + 1 - len(fields))
    fields[index] = value
    lines[place] = "|".join(fields)
    return "\r".join(lines) + "\r"


@pytest.mark.parametrize("name", ["pcd01", "pcd04_start", "pcd04_technical"])
def test_worked_examples_are_accepted(name):
    assert findings_of((DATA / f"{name}.hl7").read_text()) == ("CA", [])


def test_kinds():
    assert kind_of(parse(PCD01.encode())) == "pcd01"
    assert kind_of(parse(PCD04.encode())) == "pcd04"
    assert kind_of(parse(planted(PCD01, "MSH", 9, "ORU^R42").encode())) == "other"


@pytest.mark.parametrize(
    ("number", "value", "verdict_"),
    [
        (12, "2.5", "CR"),
        (12, "", "CR"),
        (9, "ADT^A01^ADT_A01", "CR"),
        (9, "ORU^R42^ORU_R42", "CR"),
        (11, "X", "CR"),
        (2, "^~\\&#", "CE"),
        (3, "", "CE"),
        (7, "20260302101600", "CE"),
        (7, "", "CE"),
        (9, "ORU^R01", "CE"),
        (10, "", "CE"),
        (10, "x" * 200, "CE"),
        (15, "NE", "CE"),
        (16, "AL", "CE"),
        (21, "", "CE"),
        (21, "IHE_PCD_001^IHE PCD^1.2.3^ISO", "CE"),
        (21, "IHE_PCD_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.1.1", "CE"),
        (21, "IHE_PCD_004^IHE PCD^1.3.6.1.4.1.19376.1.6.1.4.1^ISO", "CE"),
    ],
)
def test_header(number, value, verdict_):
    assert findings_of(planted(PCD01, "MSH", number, value)) == (verdict_, [f"MSH[1]-{number}"])


@pytest.mark.parametrize("oid", ["1.6.4.1", "1.6.1.1.1"])
def test_msh_21_legacy_is_accepted(oid):
    assert findings_of(planted(PCD01, "MSH", 21, f"x^y^1.3.6.1.4.1.19376.{oid}^ISO")) == ("CA", [])


@pytest.mark.parametrize(
    ("segment", "number", "value", "occurrence"),
    [
        ("PID", 5, "", 1),
        ("PID", 5, "Doe^Jane", 1),
        ("PID", 3, "0815^^^urn:x", 1),
        ("PID", 3, "^^^urn:x^MR", 1),
        ("PID", 7, "31.01.1970", 1),
        ("PID", 31, "X", 1),
        ("PID", 31, "Y", 1),
        ("PV1", 2, "X", 1),
        ("PV1", 2, "", 1),
        ("PV1", 51, "N", 1),
        ("OBR", 1, "2", 1),
        ("OBR", 2, "", 1),
        ("OBR", 3, "", 1),
        ("OBR", 4, "", 1),
        ("OBR", 4, "182777000^monitoring", 1),
        ("OBR", 7, "", 1),
        ("OBR", 7, "20260302101530", 1),
        ("OBR", 8, "soon", 1),
        ("OBR", 8, "20260302101529+0000", 1),
        ("OBX", 1, "", 8),
        ("OBX", 2, "XX", 8),
        ("OBX", 3, "", 8),
        ("OBX", 3, "150456", 8),
        ("OBX", 4, "", 8),
        ("OBX", 4, "1.1.1", 8),
        ("OBX", 4, "1.1.01.1", 8),
        ("OBX", 5, "", 8),
        ("OBX", 5, "abc", 8),
        ("OBX", 5, "1e2", 8),
        ("OBX", 5, "97~x", 8),
        ("OBX", 5, "20260302", 5),
        ("OBX", 5, "67108877", 15),
        ("OBX", 6, "mm", 8),
        ("OBX", 6, "262688^MDC_DIM_PERCENT^MDC", 15),
        ("OBX", 11, "", 8),
        ("OBX", 11, "Q", 8),
        ("OBX", 11, "W", 8),
        ("OBX", 11, "X", 8),
        ("OBX", 11, "R", 7),
        ("OBX", 14, "2026-03-02", 12),
        ("OBX", 17, "AMEAS", 8),
        ("OBX", 20, "460533^^MDC^^^^^^^x", 12),
    ],
)
def test_content_of_pcd01(segment, number, value, occurrence):
    text = planted(PCD01, segment, number, value, occurrence=occurrence)
    assert findings_of(text) == ("CE", [f"{segment}[{occurrence}]-{number}"])


def test_value_without_a_type():
    text = planted(PCD01, "OBX", 2, "", occurrence=8)
    assert findings_of(text) == ("CE", ["OBX[8]-2", "OBX[8]-6", "OBX[8]-11"])


def test_obr_8_before_a_bad_obr_7_is_told_once():
    assert findings_of(planted(PCD01, "OBR", 7, "x")) == ("CE", ["OBR[1]-7"])


def test_r8015_containment_is_unique_under_one_obr():
    text = planted(PCD01, "OBX", 4, "1.1.1.1", occurrence=9)
    assert findings_of(text) == ("CE", ["OBX[9]-4"])


def test_r8015_another_obr_may_have_the_same_containment():
    lines = PCD01.splitlines()
    again = [lines[4], lines[9], lines[10], lines[11]]
    lines.append(lines[3].replace("OBR|1|", "OBR|2|"))
    lines += [f"OBX|{number}|" + line.split("|", 2)[2] for number, line in enumerate(again, start=16)]
    assert findings_of("\r".join(lines)) == ("CA", [])


def test_r8101_one_message_one_mds():
    lines = PCD01.splitlines()
    lines += ["OBX|16||69965^MDC_DEV^MDC|2.0.0.0|||||||X"]
    assert findings_of("\r".join(lines)) == ("CE", ["OBX[16]-4"])


def test_rows_stand_in_the_order_of_containment():
    lines = PCD01.splitlines()
    lines[11], lines[12] = lines[12].replace("OBX|9", "OBX|8"), lines[11].replace("OBX|8", "OBX|9")
    assert findings_of("\r".join(lines)) == ("CE", ["OBX[9]-4"])


def test_rows_of_devices_above_a_metric_are_needed():
    lines = PCD01.splitlines()
    assert lines[13].startswith("OBX|10||70686")
    del lines[13]
    _, places = findings_of("\r".join(lines))
    assert {place for place in places if place.endswith("-4")} == {f"OBX[{n}]-4" for n in range(10, 15)}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda lines: [line for line in lines if not line.startswith("PID")], "PID[1]"),
        (lambda lines: [line for line in lines if not line.startswith("PV1")], "PV1[1]"),
        (lambda lines: [line for line in lines if not line.startswith("OBX")], "OBX[1]"),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], "PID[2]"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "MSH[1]-9"),
        (lambda lines: [*lines, "ZZZ|1"], "MSH[1]-9"),
    ],
)
def test_structure(change, place):
    verdict_, places = findings_of("\r".join(change(PCD01.splitlines())))
    assert verdict_ == "CE"
    assert place in places


def test_missing_obr():
    verdict_, places = findings_of("\r".join(line for line in PCD01.splitlines() if line[:3] != "OBR"))
    assert (verdict_, places) == ("CE", ["OBR[1]"])


@pytest.mark.parametrize(
    ("segment", "number", "value", "occurrence"),
    [
        ("OBR", 4, "182777000^monitoring of patient^SCT", 1),
        ("OBR", 8, "20260302101620+0000", 1),
        ("OBR", 29, "^x&&y&UUID", 1),
        ("OBX", 3, "68165^MDC_ATTR_EVENT_PHASE^MDC", 7),
        ("OBX", 5, "begin", 7),
        ("OBX", 5, "gone", 8),
        ("OBX", 5, "enabled~sleeping", 9),
        ("OBX", 5, "HIGH", 10),
        ("OBX", 5, "XX", 11),
        ("OBX", 2, "TX", 11),
        ("OBX", 11, "F", 7),
        ("OBX", 14, "", 5),
    ],
)
def test_content_of_pcd04(segment, number, value, occurrence):
    field = 5 if number == 2 else number
    text = planted(PCD04, segment, number, value, occurrence=occurrence)
    assert findings_of(text) == ("CE", [f"{segment}[{occurrence}]-{field}"])


def test_r8056_later_messages_name_their_event():
    text = planted(PCD04, "OBX", 5, "update", occurrence=7)
    assert findings_of(text) == ("CE", ["OBR[1]-29"])
    text = planted(text, "OBR", 29, "^event&&uuid&UUID")
    assert findings_of(text) == ("CA", [])


def test_seven_facets_in_their_order():
    lines = PCD04.splitlines()
    assert findings_of("\r".join(lines[:-1])) == ("CE", ["OBX[5]-4"])
    assert findings_of("\r".join(lines[:8])) == ("CE", ["OBX[1]-4"])
    lines[-1], lines[-2] = (
        lines[-2].replace("OBX|10", "OBX|11"),
        lines[-1].replace("OBX|11", "OBX|10"),
    )
    assert findings_of("\r".join(lines)) == ("CE", ["OBX[5]-4"])


def test_facets_share_their_place():
    text = planted(PCD04, "OBX", 4, "1.1.1.2.7", occurrence=11)
    assert findings_of(text) == ("CE", ["OBX[5]-4"])


def test_source_facet_may_lack_a_value():
    text = planted(planted(PCD04, "OBX", 5, "", occurrence=6), "OBX", 6, "", occurrence=6)
    assert findings_of(text) == ("CA", [])


def test_one_alert_one_obr():
    lines = PCD04.splitlines()
    verdict_, places = findings_of("\r".join([*lines, lines[3], *lines[4:]]))
    assert verdict_ == "CE"
    assert places[0] == "OBR[2]"


def test_findings_never_repeat_the_data():
    secret = "Xq7Zlkjh"
    for number in range(1, 40):
        for segment in ("PID", "PV1", "OBR", "OBX"):
            text = planted(PCD01, segment, number, f"{secret}^{secret}&{secret}")
            for finding in check(parse(text.encode())):
                assert secret not in str(finding)
