from pathlib import Path

import hl7
import pytest

from sdc_node.hl7.ack import Ack, Finding, build_ack, parse_ack
from sdc_node.hl7.message import Hl7ParseError, parse

DATA = Path(__file__).parent / "data"
NOW = 1772446580480


def test_worked_example_of_section_11_4():
    message = parse((DATA / "pcd04_start.hl7").read_bytes())
    lines = build_ack(message, "CA", control_id="HIS000981", now=NOW).decode().split("\r")
    header = "MSH|^~\\&|HIS_DOC|HOSP1|SDC_GW^ACDE48234567ABCD^EUI-64|HOSP1|20260302101620.480+0000|"
    header += "|ACK^R40^ACK|HIS000981|P|2.6||||||UNICODE UTF-8"
    assert lines == [header, "MSA|CA|SDCGW-20260302-000121", ""]


def test_example_of_another_receiver_is_read():
    ack = parse_ack((DATA / "ack.hl7").read_bytes())
    assert ack == Ack("CA", "SDCGW-20260302-000121")
    assert ack.accepted
    assert not ack.retry


def test_findings_travel_as_err_and_come_back_as_text():
    message = parse((DATA / "pcd01.hl7").read_bytes())
    findings = [Finding("OBX", 3, 5, 102, "not a number"), Finding("PID", 1, 0, 100, "missing | thing")]
    body = build_ack(message, "CE", control_id="1", now=NOW, findings=findings)
    read = hl7.parse(body.decode())
    assert [str(err[2]) for err in read.segments("ERR")] == ["OBX^3^5", "PID^1"]
    assert str(read.segments("ERR")[0][3]) == "102^Data type error^HL70357"
    ack = parse_ack(body)
    assert (ack.code, ack.control_id) == ("CE", "SDCGW-20260302-000117")
    assert ack.text == "OBX[3]-5: 102 Data type error; PID[1]: 100 Segment sequence error"
    assert ack.errors == (102, 100)
    assert (ack.retry, ack.receiver_failed) == (True, False)


def test_findings_are_bounded():
    many = [Finding("OBX", n, 5, 102, "x" * 200) for n in range(1, 100)]
    body = build_ack(None, "CE", control_id="1", now=NOW, findings=many)
    assert body.count(b"\rERR|") == 20
    assert len(parse_ack(body).text) <= 500


def test_unreadable_message_is_acknowledged_without_an_id():
    body = build_ack(None, "CR", control_id="1", now=NOW)
    assert parse(body).header.field(9) == "ACK"
    assert parse_ack(body).control_id == ""


def test_foreign_delimiters_are_translated():
    message = parse(b"MSH#*@!%#app*1.2*ISO#fac|x###20260302##ORU*R01*ORU_R01#77#T\r")
    header = parse(build_ack(message, "CA", control_id="1", now=NOW)).header
    assert header.components(5) == ["app", "1.2", "ISO"]
    assert header.value(6) == "fac|x"
    assert header.value(11) == "T"


@pytest.mark.parametrize("code", ["AA", "CA", "AE", "CE", "AR", "CR"])
def test_all_codes_of_table_0008(code):
    ack = parse_ack(f"MSH|^~\\&|a\rMSA|{code}|1|because\x07\r".encode())
    assert (ack.accepted, ack.retry) == (code[1] == "A", code[1] == "E")
    assert ack.text == ""
    assert not ack.receiver_failed


@pytest.mark.parametrize("code", ["AA", "CA", "AE", "CE", "AR", "CR"])
def test_an_internal_error_is_the_receivers_where_it_is_not_a_rejection(code):
    body = f"MSH|^~\\&|a\rMSA|{code}|1\rERR||PID|101|E\rERR|||207^Application internal error^HL70357|E\r"
    assert parse_ack(body.encode()).receiver_failed == (code[1] == "E")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("||PID^1^5^1^2|101^Doe^Jane|E|Doe|Doe|Doe, Jane|Jane Doe", "PID[1]-5: 101 Required field missing"),
        ("||OBX^12|206|E", "OBX[12]: 206 Application record locked"),
        ("||OBX|0815|E", "OBX"),
        ("||DOE^1^5|103", "103 Table value not found"),
        ("||PID^Doe^5|Doe", "PID"),
        ("||PID^1^19700131|204", "PID[1]: 204 Unknown key identifier"),
        ("||PID^19700131^5|204", "PID: 204 Unknown key identifier"),
        ("PID^1^5^207&Doe|Doe|Doe", ""),
        ("||Doe|\u0661\u0660\u0661", ""),
        ("", ""),
    ],
)
def test_only_codes_and_locations_of_a_receiver_are_told(error, text):
    ack = parse_ack(f"MSH|^~\\&|a\rMSA|CE|1|Doe, Jane 0815\rERR{error and '|'}{error.removeprefix('|')}\r".encode())
    assert ack.text == text
    assert "Doe" not in repr(ack)


@pytest.mark.parametrize(
    "body", [b"", b"hello", b"MSH|^~\\&|a\rPID|1\r", b"MSH|^~\\&|a\rMSA||1\r", b"MSH|^~\\&|a\rMSA|OK|1\r"]
)
def test_what_is_no_acknowledgement(body):
    with pytest.raises(Hl7ParseError):
        parse_ack(body)
