import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdc_node.hl7.build import components, encode, leaf, segment
from sdc_node.hl7.escaping import Delimiters, escape, escape_formatted, unescape
from sdc_node.hl7.message import parse

CONTROL = re.compile(r"\r\n?|[\x00-\x1f\x7f-\x9f]")


def blanked(text):
    return CONTROL.sub(" ", re.sub(r"[\ud800-\udfff]", "\ufffd", text))


ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text(r"\|^~&EFSTRX0D.br" + "\r\n\x0b\x1c")


@given(ANY_TEXT)
def test_escape_round_trip(text):
    assert unescape(escape(text)) == blanked(text)


@given(ANY_TEXT)
def test_escaped_text_ends_nothing(text):
    for escaped in (escape(text), escape_formatted(text)):
        assert not re.search(r"[|^~&\x00-\x1f]", escaped)
        escaped.encode("utf-8")


@given(st.lists(ANY_TEXT, min_size=2, max_size=5))
def test_leaves_come_back_from_a_whole_message(texts):
    header = segment("MSH", {12: "2.6", 18: "UNICODE UTF-8"})
    body = encode([header, segment("OBX", {5: components(*map(leaf, texts), "end")})])
    read = parse(body).all("OBX")[0]
    assert [read.value(5, n + 1) for n in range(len(texts))] == [blanked(text) for text in texts]


@given(ANY_TEXT)
def test_formatted_text_keeps_its_lines(text):
    lines = re.split(r"\r\n?|\n", text)
    assert unescape(escape_formatted(text)) == "\n".join(blanked(line) for line in lines)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (r"a\F\b\S\c\T\d\R\e\E\f", "a|b^c&d~e\\f"),
        (r"\X41C3A4\\XFF\ ", "Aä\ufffd "),
        (r"one\.br\two", "one\ntwo"),
        (r"\H\bold\N\ ", "bold "),
        (r"\Zxy\ \X4\ \unfinished", r"\Zxy\ \X4\ \unfinished"),
        ("\\X" + "41" * 300 + "\\", "\\X" + "41" * 300 + "\\"),
    ],
)
def test_sequences_of_other_senders(raw, text):
    assert unescape(raw) == text


def test_delimiters_of_another_sender():
    assert unescape("a!F!b!E!", Delimiters(field="#", escape="!")) == "a#b!"


def test_empty_and_absent_are_not_stated():
    assert leaf(None) == leaf("") == ""
    assert components("a", "", "") == "a"
    assert segment("PID", {}) == "PID"
