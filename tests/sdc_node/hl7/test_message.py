from pathlib import Path

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdc_node.hl7.message import MAX_SEGMENTS, Hl7ParseError, field, parse

EXAMPLE = (Path(__file__).parent / "data/pcd01.hl7").read_bytes().strip()


@pytest.mark.parametrize("separator", [b"\r", b"\n", b"\r\n"])
@pytest.mark.parametrize("end", [b"", b"\r", b"\r\n\r\n"])
def test_segments_end_with_cr_lf_or_both(separator, end):
    message = parse(EXAMPLE.replace(b"\n", separator) + end)
    assert [segment.name for segment in message.segments] == ["MSH", "PID", "PV1", "OBR"] + ["OBX"] * 15
    assert message.control_id == "SDCGW-20260302-000117"


def test_mixed_line_ends_and_blank_lines():
    body = b"MSH|^~\\&|a\r\rPID|1\n\nPV1|2\r\nOBX|3|first\nsecond\r"
    message = parse(body)
    assert [segment.name for segment in message.segments] == ["MSH", "PID", "PV1", "OBX"]
    assert message.all("OBX")[0].value(2) == "first\nsecond"


def test_parts_are_counted_from_one():
    message = parse(b"MSH|^~\\&|app\rPID|||a^b&c\\T\\d^e~f^g\r")
    patient = message.first("PID")
    assert patient.value(3) == "a"
    assert patient.value(3, 2, 2) == "c&d"
    assert patient.value(3, 3) == "e"
    assert patient.value(3, 2, repetition=2) == "g"
    assert patient.repetitions(3) == ["a^b&c\\T\\d^e", "f^g"]
    assert patient.components(3) == ["a", "b&c&d", "e"]
    assert patient.value(3, 4) == patient.value(3, 1, 2) == patient.value(9) == ""
    assert patient.value(3, repetition=3) == ""
    assert patient.components(3, 3) == patient.repetitions(1) == []
    assert field(patient, 3).startswith("a^")
    assert field(message.first("PV1"), 3) == ""


def test_msh_1_and_2_are_the_delimiters():
    header = parse(b"MSH|^~\\&|a^b|c\r").header
    assert (header.value(1), header.value(2), header.value(3, 2), header.value(4)) == ("|", "^~\\&", "b", "c")
    assert header.components(2) == header.repetitions(2) == ["^~\\&"]
    assert header.value(2, 2) == ""


def test_other_delimiters():
    message = parse(b"MSH#*@!%#app*x\rPID#a*b!F!c@d%e\r")
    assert message.header.value(3, 2) == "x"
    assert message.first("PID").value(1, 2) == "b#c"
    assert message.first("PID").value(1, 1, 2, repetition=2) == "e"


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [("UNICODE UTF-8", "utf-8"), ("8859/1", "latin-1"), ("8859/15", "iso8859-15"), ("", "utf-8"), ("", "latin-1")],
)
def test_character_set_of_msh_18(declared, encoding):
    body = f"MSH|^~\\&|{'|' * 15}{declared}\rPID|Müller\r".encode(encoding)
    assert parse(body).first("PID").value(1) == "Müller"


def test_byte_order_mark_is_passed_over():
    assert parse(b"\xef\xbb\xbfMSH|^~\\&|a\r").header.value(3) == "a"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "MSH"),
        (b"MSH|^~", "MSH"),
        (b"PID|1\rMSH|^~\\&|\r", "MSH"),
        (b"MSHa^~\\&abc", "delimiters"),
        (b"MSH|^^\\&|abc", "delimiters"),
        (b"MSH|^~\\&|a\rgarbage\r", "line 2"),
        (b"MSH|^~\\&|a\rPID|1\rpv1|x\r", "line 3"),
        (b"\x00\xff" * 50, "MSH"),
    ],
)
def test_what_is_no_message(body, why):
    with pytest.raises(Hl7ParseError, match=why):
        parse(body)


def test_number_of_segments_is_bounded():
    with pytest.raises(Hl7ParseError, match="more than"):
        parse(b"MSH|^~\\&|a\r" + b"NTE|\r" * MAX_SEGMENTS)


@given(st.binary() | st.binary().map(lambda rest: b"MSH|^~\\&|" + rest))
def test_any_bytes_give_a_message_or_a_parse_error(body):
    try:
        message = parse(body)
    except Hl7ParseError:
        return
    for segment in message.segments:
        for number in range(len(segment.fields)):
            segment.components(number)


def test_reads_what_python_hl7_reads():
    other = hl7.parse(EXAMPLE.replace(b"\n", b"\r").decode())
    for ours, theirs in zip(parse(EXAMPLE).all("OBX"), other.segments("OBX"), strict=True):
        assert [ours.field(n) for n in range(1, 6)] == [str(theirs[n]) for n in range(1, 6)]
