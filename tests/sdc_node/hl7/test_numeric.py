from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdc_node.hl7.numeric import decimals, format_nm, parse_nm


@pytest.mark.parametrize(
    ("value", "resolution", "text"),
    [
        ("97", "1", "97"),
        ("+97", None, "97"),
        (".5", None, "0.5"),
        ("5.", None, "5"),
        ("36.60", "0.1", "36.60"),
        ("36", "0.1", "36.0"),
        ("36.6", "0.0100", "36.60"),
        ("-0.5", "10", "-0.5"),
        ("1E+3", None, "1000"),
        ("1E-3", None, "0.001"),
        ("120", "0", "120"),
    ],
)
def test_nm_keeps_digits_and_pads_to_the_resolution(value, resolution, text):
    assert format_nm(Decimal(value), Decimal(resolution) if resolution else None) == text


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=6))
def test_nm_round_trip_keeps_every_digit(value):
    back = parse_nm(format_nm(value))
    assert (back, back.as_tuple().exponent) == (value, value.as_tuple().exponent)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1E+5000", "1E-5000"])
def test_nm_has_no_form_for_these(value):
    with pytest.raises(ValueError, match="NM"):
        format_nm(Decimal(value))


@pytest.mark.parametrize(("step", "count"), [("0.0100", 2), ("1", 0), ("10", 0), ("0.5", 1), ("NaN", 0), ("0", 0)])
def test_r1015_decimals_of_a_step(step, count):
    assert decimals(Decimal(step)) == count


@pytest.mark.parametrize("text", ["", "abc", "+1", "1e3", "1,5", " 1", "1.", ".5", "--1", "٣", "9" * 500])
def test_what_is_no_nm(text):
    with pytest.raises(ValueError, match="not a number"):
        parse_nm(text)
