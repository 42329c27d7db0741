"""The recorded log: whatever was said comes back as it was, and folds to the same mirrors."""

import json
from decimal import Decimal

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from mdib_models.coding import Unknown
from mdib_models.identity import MdibVersionGroup
from mdib_models.mirror import Mdib, empty, fold, link, snapshot
from mdib_models.states import NumericMetricState, NumericMetricValue, PatientContextState, PatientDemographics, Quality
from mdib_models.updates import GapUpdate, LinkUpdate, Report, ReportBatch
from mdib_models.wire.jsonl import Linked, LogError, Opened, Reported, decode, encode, lines_of, replay
from tests.mdib_models.strategies import (
    CONTEXTS,
    DESCRIPTORS,
    DEVICE,
    SEQUENCE,
    STATES,
    decimals,
    histories,
    plainest,
    structs,
    values,
)

VERSION = MdibVersionGroup(SEQUENCE, 3)
NAMES = {kind.__name__: kind for kind in (*DESCRIPTORS, *STATES)}


def decimals_in(thing):
    """Every Decimal in a value, as its digits."""
    if isinstance(thing, Decimal):
        yield thing.as_tuple()
    elif isinstance(thing, msgspec.Struct):
        for name in thing.__struct_fields__:
            yield from decimals_in(getattr(thing, name))
    elif isinstance(thing, tuple):
        for each in thing:
            yield from decimals_in(each)
    elif isinstance(thing, dict):
        for each in thing.values():
            yield from decimals_in(each)


def again(line):
    """The line, written and read; it is JSON to others too, and stands on one line."""
    text = encode(line)
    assert b"\n" not in text
    json.loads(text, parse_float=Decimal)
    return decode(text)


def reported(*states):
    return Reported(DEVICE, Report(kind="metric", version=VERSION, arrived=1, states=states))


def opened(thing):
    kind = type(thing)
    table = "descriptors" if kind in DESCRIPTORS else "contexts" if kind in CONTEXTS else "states"
    return Opened(DEVICE, 1, Mdib(device=DEVICE, version=VERSION, **{table: {"h": thing}}))


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_every_descriptor_and_state_comes_back_with_its_digits(name, data):
    line = opened(data.draw(structs(NAMES[name])))
    back = again(line)
    assert back == line
    assert list(decimals_in(back)) == list(decimals_in(line))


@given(report=structs(Report))
@settings(max_examples=60, deadline=None)
def test_every_report_comes_back_with_its_digits(report):
    back = again(Reported(DEVICE, report))
    assert back == Reported(DEVICE, report)
    assert list(decimals_in(back)) == list(decimals_in(Reported(DEVICE, report)))


@given(line=st.builds(Linked, values(str), values(int), structs(LinkUpdate)))
def test_every_link_line_comes_back(line):
    assert again(line) == line


@given(number=decimals)
@settings(max_examples=300)
def test_a_value_keeps_its_digits_and_is_a_number_to_others(number):
    value = NumericMetricValue(quality=Quality("Vld"), value=number)
    line = reported(NumericMetricState(descriptor_handle="hr", metric_value=value))
    assert again(line).report.states[0].metric_value.value.as_tuple() == number.as_tuple()
    written = json.loads(encode(line), parse_float=Decimal)["report"]["states"][0]["metric_value"]["value"]
    assert written == number
    assert not isinstance(written, str)


@pytest.mark.parametrize(
    "text", ["98.0", "98.00", "-0.0", "0.000", "1E+3", "1E-30", "123456789012345678901234567890.5"]
)
def test_digits_that_a_float_would_lose(text):
    value = NumericMetricValue(quality=Quality("Vld"), value=Decimal(text))
    back = again(reported(NumericMetricState(descriptor_handle="hr", metric_value=value)))
    assert str(back.report.states[0].metric_value.value) == text


def test_only_a_bare_negative_zero_loses_its_sign():
    value = NumericMetricValue(quality=Quality("Vld"), value=Decimal("-0"))
    back = again(reported(NumericMetricState(descriptor_handle="hr", metric_value=value)))
    assert str(back.report.states[0].metric_value.value) == "0"


def test_what_we_have_no_words_for_survives():
    raw = Unknown("{urn:x}Epochs", '<x:Epochs xmlns:x="urn:x" Version="1">\n\t"é\u2028</x:Epochs>')
    state = plainest(NumericMetricState, extensions=(raw,))
    assert again(reported(state)).report.states[0].extensions == (raw,)


def batches_of(history):
    """A device's whole story: link, snapshot, reports, a lost link and a second snapshot."""
    mirror = history.first
    yield link(empty(DEVICE), LinkUpdate("connecting", "found"), 1)
    yield snapshot(empty(DEVICE), mirror, 2)
    yield link(mirror, LinkUpdate("live", "subscribed"), 3)
    for told in history.told:
        yield fold(mirror, told.report).batch
        mirror = told.mdib
    yield link(mirror, LinkUpdate("stale", "overrun", "live"), 4)
    yield snapshot(mirror, history.first, 5, GapUpdate("overrun"))


@given(histories(limit=4))
@settings(max_examples=60, deadline=None)
def test_a_log_read_again_folds_to_the_same_batches(history):
    batches = list(batches_of(history))
    lines = [line for batch in batches for line in lines_of(batch)]
    replayed = list(replay(decode(encode(line)) for line in lines))
    assert [batch.after for batch in replayed] == [batch.after for batch in batches]
    assert [batch.before for batch in replayed] == [batch.before for batch in batches]
    assert [batch.replayed for batch in replayed] == [batch.replayed for batch in batches]
    assert [batch.arrived for batch in replayed] == [batch.arrived for batch in batches]
    told = [[each for each in batch.updates if not isinstance(each, GapUpdate)] for batch in batches]
    assert [list(batch.updates) for batch in replayed] == told


def test_several_devices_share_a_log():
    one, two = ("urn:uuid:1", "urn:uuid:2")
    mdibs = {device: Mdib(device=device, version=VERSION) for device in (one, two)}
    report = Report(kind="metric", version=VERSION, arrived=9)
    lines = [Opened(one, 1, mdibs[one]), Opened(two, 2, mdibs[two]), Reported(one, report), Reported(two, report)]
    assert [batch.device for batch in replay(lines)] == [one, two, one, two]


def test_a_report_is_written_as_it_came_and_a_link_change_as_such():
    report = Report(kind="metric", version=VERSION, arrived=9)
    mdib = Mdib(device=DEVICE, version=VERSION)
    assert list(lines_of(fold(mdib, report).batch)) == [Reported(DEVICE, report)]
    update = LinkUpdate("lost", "gone")
    assert list(lines_of(link(mdib, update, 5))) == [Linked(DEVICE, 5, update)]


def test_reports_that_were_merged_are_written_as_the_mdib_after_them():
    mdib = Mdib(device=DEVICE, version=VERSION)
    merged = ReportBatch(device=DEVICE, before=empty(DEVICE), after=mdib, updates=(), arrived=5)
    assert list(lines_of(merged)) == [Opened(DEVICE, 5, mdib)]


def test_a_report_that_does_not_follow_is_told_by_its_line():
    update = Linked(DEVICE, 1, LinkUpdate("live", "subscribed"))
    with pytest.raises(LogError, match=r"^line 2: the report does not follow \(sequence-changed\)$"):
        list(replay([update, reported()]))


LINE = '{"line":"report","device":"d","report":{"@type":"Report","version":{"sequence_id":"s"},'


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xffSECRET",
        b'{"line":"SECRET"}',
        b'{"line":5}',
        b'{"line":"report","device":"SECRET"}',
        b'{"line":"report","device":"SECRET\xff"}',
        b'{"line":"report","SECRET":' + b"[" * 200_000,
        b'{"line":"link","device":"d","arrived":1,"link":{"@type":"LinkUpdate","state":"it\'s SECRET","reason":""}}',
        (LINE + '"kind":"SECRET","arrived":1}}').encode(),
        (LINE + '"kind":"metric","arrived":"SECRET"}}').encode(),
        (LINE + '"kind":"metric","arrived":' + "9" * 5000 + "}}").encode(),
        (LINE + '"kind":"metric","arrived":1,"states":[{"@type":"SECRET"}]}}').encode(),
        (LINE + '"kind":"metric","arrived":1,"states":[{"@type":"NumericMetricState","descriptor_handle":"SECRET",'
         '"metric_value":{"quality":{"validity":"Vld"},"value":"SECRET"}}]}}').encode(),
        b'{"line":"mdib","device":"d","arrived":1,"mdib":{"@type":"Mdib","contexts":{"SECRET":7}}}',
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_read_is_an_error_that_quotes_nothing(text):
    with pytest.raises(LogError) as caught:
        decode(text)
    assert str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("name", ["sex", "gender"])
def test_patient_data_in_the_wrong_place_is_not_quoted(name):
    person = plainest(PatientContextState, core_data=PatientDemographics(**{name: "O'Neil 'Ann' Doe"}))
    with pytest.raises(LogError, match=rf"\(not shown\) - at `\$\.report\.states\[0\]\.core_data\.{name}`$"):
        decode(encode(reported(person)))


def test_a_cut_line_is_an_error_wherever_it_is_cut():
    text = encode(reported(plainest(NumericMetricState)))
    for length in range(len(text)):
        with pytest.raises(LogError):
            decode(text[:length])
