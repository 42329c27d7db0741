import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdc_node.hl7.describe import describe
from sdc_node.hl7.message import Hl7ParseError

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("name", ["pcd01", "pcd04_start", "pcd04_technical", "ack"])
def test_every_stated_field_is_shown_within_100_columns(name):
    text = describe((DATA / f"{name}.hl7").read_bytes())
    assert max(map(len, text.splitlines())) <= 100
    assert "MSH  Message header" in text


def test_names_numbers_and_values():
    text = describe((DATA / "pcd01.hl7").read_bytes())
    assert "  5  Patient name                      Doe ^ Jane ^^^^^ L\n" in text
    assert "OBX 8  Observation result\n" in text
    assert "  3  Observation identifier            150456 ^ MDC_PULS_OXIM_SAT_O2 ^ MDC\n" in text
    assert re.search(r"\n         and +V4711 \^\^\^ urn:oid", text)


def test_what_a_terminal_would_obey_is_shown_as_an_escape():
    text = describe(b"MSH|^~\\&|a\rZZZ|\\X1B5B324A\\|b\xc2\x9bc\r")
    assert "\\x1b[2J" in text
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert "ZZZ  other segment" in text


def test_no_message_is_an_error():
    with pytest.raises(Hl7ParseError):
        describe(b"x")


@given(st.text(max_size=400))
def test_any_field_stays_within_its_lines(value):
    body = b"MSH|^~\\&|a\rOBX|1||" + value.encode("utf-8", "replace").replace(b"\r", b" ").replace(b"\n", b" ")
    assert max(map(len, describe(body).splitlines())) <= 100
