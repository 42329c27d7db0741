"""XML Schema's ways of writing a boolean, a duration and a date, as sdc11073 has to be taught to read them.

The library takes a boolean with blanks around it for false; it refuses a duration in years, months or days (SDPi's
narrower form, which it asks of all of BICEPS) and a date of birth with blanks around it. All of these are valid to the
schema, so a device that writes them is followed. Reading only; what the library writes stays as it is.
"""

import math
import re
from decimal import Decimal
from typing import Any

from sdc11073.xml_types.dataconverters import BooleanConverter, DurationConverter
from sdc11073.xml_types.isoduration import parse_date_time
from sdc11073.xml_types.xml_structure import DateOfBirthProperty

BLANKS = " \t\r\n"
"""What XML Schema's whiteSpace="collapse" takes off at both ends."""

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}

_DURATION = re.compile(
    r"(?P<sign>-)?P(?=.)(?:(?P<years>[0-9]+)Y)?(?:(?P<months>[0-9]+)M)?(?:(?P<days>[0-9]+)D)?"
    r"(?:T(?=.)(?:(?P<hours>[0-9]+)H)?(?:(?P<minutes>[0-9]+)M)?(?:(?P<seconds>[0-9]+(?:\.[0-9]+)?)S)?)?"
)


def install() -> None:
    """Make the library read by this module, everywhere in this process. May be called again."""
    for owner, method, read in (
        (BooleanConverter, "to_py", staticmethod(boolean)),
        (DurationConverter, "to_py", staticmethod(duration)),
        (DateOfBirthProperty, "get_py_value_from_node", _date_of_birth),
    ):
        setattr(owner, method, read)


def boolean(text: str) -> bool:
    """An xsd:boolean. Raises ValueError for anything else, which must not pass for false."""
    try:
        return _BOOLEANS[text.strip(BLANKS)]
    except KeyError:
        raise ValueError("no xsd:boolean") from None


def duration(text: str | None) -> float | None:
    """An xsd:duration in seconds; None where it has none: years and months differ in length, no time is below zero.

    Raises ValueError where it is no xsd:duration.
    """
    if text is None:
        return None
    match = _DURATION.fullmatch(text.strip(BLANKS))
    if match is None:
        raise ValueError("no xsd:duration")
    years, months, days, hours, minutes, seconds = (Decimal(each or 0) for each in match.groups()[1:])
    total = float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    if years or months or not math.isfinite(total) or (match["sign"] and total):
        return None
    return total


def collapsed(text: str | None) -> str | None:
    """Without the blanks at both ends; None where nothing is left."""
    return (text or "").strip(BLANKS) or None


def _date_of_birth(self: Any, _instance: Any, node: Any) -> Any:
    text = collapsed(node.findtext(self._sub_element_name))
    return None if text is None else parse_date_time(text)
