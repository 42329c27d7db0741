import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdc_node.hl7.dtm import check_date, format_birth_date, format_dtm, format_dtm_exact, parse_dtm

YEAR_1, YEAR_10000 = -62135596800000, 253402300800000


@given(st.integers(YEAR_1, YEAR_10000 - 1))
def test_round_trip_to_the_millisecond(milliseconds):
    assert parse_dtm(format_dtm(milliseconds)) == milliseconds
    assert parse_dtm(format_dtm_exact(milliseconds)) == milliseconds
    assert parse_dtm(format_dtm(milliseconds, 0)) == milliseconds // 1000 * 1000


def test_forms():
    assert format_dtm(1772446560120) == "20260302101600.120+0000"
    assert format_dtm(1772446560120, 0) == "20260302101600+0000"
    assert format_dtm_exact(1772446560000) == "20260302101600+0000"


@pytest.mark.parametrize("milliseconds", [YEAR_10000, YEAR_1 - 1, 10**30])
def test_moments_without_a_form(milliseconds):
    with pytest.raises(ValueError, match="cannot be written"):
        format_dtm(milliseconds)


def test_other_fractions_are_not_ours():
    with pytest.raises(ValueError, match="0 or 3"):
        format_dtm(0, 2)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("19700101010000+0100", 0),
        ("19691231233000.5-0030", 500),
        ("19700101000000.1234-0000", 123),
    ],
)
def test_offsets_and_fractions(text, milliseconds):
    assert parse_dtm(text) == milliseconds


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a DTM"),
        ("20260302101600.12345+0000", "not a DTM"),
        ("2026-03-02T10:16:00Z", "not a DTM"),
        ("20260302101600123+0000", "not a DTM"),
        ("20260302101600", "offset"),
        ("202603021016+0000", "seconds"),
        ("20260230101600+0000", "no such date"),
        ("20260302101660+0000", "no such date"),
        ("20260302101600+0060", "no such offset"),
        ("20260302101600+2400", "no such offset"),
        ("\u0662\u0660\u0662\u06660302101600+0000", "not a DTM"),
    ],
)
def test_bad_times_are_refused_without_repeating_them(text, why):
    with pytest.raises(ValueError, match=why) as caught:
        parse_dtm(text)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("1970-01-31", "19700131"),
        ("1970-01", "197001"),
        (" 1970 ", "1970"),
        ("1970-01-31T04:05:06", "19700131040506"),
        ("1970-01-31T04:05:06.7Z", "19700131040506+0000"),
        ("1970-01-31T04:05:06-03:30", "19700131040506-0330"),
        ("1970-01-31+01:00", "19700131"),
    ],
)
def test_birth_dates_keep_their_resolution(text, written):
    assert format_birth_date(text) == written


@pytest.mark.parametrize("text", ["", "31.1.1970", "1970-13", "1970-02-30", "1970-01-31T25:00:00"])
def test_bad_birth_dates(text):
    with pytest.raises(ValueError, match=r"not a date|no such date"):
        format_birth_date(text)


@pytest.mark.parametrize("text", ["1970", "197001", "19700131", "19700131040506"])
def test_dates_of_any_resolution(text):
    check_date(text)


def test_text_is_no_date():
    with pytest.raises(ValueError, match="not a DTM"):
        check_date("x")
