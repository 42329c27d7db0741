"""HL7 NM: optional minus, digits, optional point and digits; nothing is rounded and no digit is lost."""

import re
from decimal import Decimal
from typing import Final

_NM: Final = re.compile(r"-?\d+(?:\.\d+)?\Z", re.ASCII)
_MAX_DIGITS: Final = 200


def format_nm(value: Decimal, resolution: Decimal | None = None) -> str:
    """Write a decimal as NM, padded to as many decimals as the resolution implies.

    A resolution's trailing zeros imply nothing (SDPi R1015: 0.0100 means two decimals).
    ValueError for a value that is not finite or would need more than 200 digits.
    """
    exponent = _exponent(value)
    if abs(value.adjusted()) > _MAX_DIGITS or -exponent > _MAX_DIGITS:
        raise ValueError("a number with so many digits cannot be written as NM")
    text = format(value, "f")
    wanted = decimals(resolution) if resolution is not None else 0
    missing = wanted - max(0, -exponent)
    if missing <= 0:
        return text
    return f"{text}{'' if '.' in text else '.'}{'0' * missing}"


def decimals(step: Decimal) -> int:
    """Count the decimals that a step implies: those left after its trailing zeros, 0 for whole steps."""
    if not step.is_finite() or not step or abs(step.adjusted()) > _MAX_DIGITS:
        return 0
    return max(0, -_exponent(step.normalize()))


def parse_nm(text: str) -> Decimal:
    """Read NM; ValueError, without the text in it, for anything else (exponents, plus signs, blanks)."""
    if len(text) > 2 * _MAX_DIGITS or _NM.match(text) is None:
        raise ValueError("not a number")
    return Decimal(text)


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):
        raise ValueError("a value that is not finite cannot be written as NM")  # noqa: TRY004 - a value, not a type
    return exponent
