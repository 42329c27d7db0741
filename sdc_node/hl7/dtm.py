"""HL7 DTM: ``YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]`` and milliseconds since the epoch."""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DTM: Final = re.compile(
    r"(?P<year>\d{4})"
    r"(?:(?P<month>\d{2})"
    r"(?:(?P<day>\d{2})"
    r"(?:(?P<hour>\d{2})"
    r"(?:(?P<minute>\d{2})"
    r"(?:(?P<second>\d{2})(?:\.(?P<fraction>\d{1,4}))?)?)?)?)?)?"
    r"(?P<offset>[+-]\d{4})?\Z",
    re.ASCII,
)
_BIRTH: Final = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d{2})(?:-(?P<day>\d{2})(?:T(?P<time>\d{2}:\d{2}:\d{2})(?:\.\d+)?)?)?)?"
    r"(?P<zone>Z|[+-]\d{2}:\d{2})?\Z",
    re.ASCII,
)


def format_dtm(milliseconds: int, digits: int = 3) -> str:
    """Write milliseconds since 1970-01-01T00:00Z as a DTM in UTC with offset ``+0000``.

    ``digits`` is 0 or 3, the number of fraction digits; with 0 the milliseconds are cut off.
    ValueError when the year is not within 1 to 9999.
    """
    try:
        moment = _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        raise ValueError(f"{milliseconds} ms cannot be written as a DTM") from None
    seconds = f"{moment.year:04d}{moment:%m%d%H%M%S}"
    if digits == 0:
        return f"{seconds}+0000"
    if digits == 3:
        return f"{seconds}.{milliseconds % 1000:03d}+0000"
    raise ValueError("a DTM of ours has 0 or 3 fraction digits")


def format_dtm_exact(milliseconds: int) -> str:
    """Write whole seconds without a fraction, anything else with three digits (OBR-7, OBR-8)."""
    return format_dtm(milliseconds, 0 if milliseconds % 1000 == 0 else 3)


def parse_dtm(text: str) -> int:
    """Read a DTM of at least second resolution with its offset as milliseconds since the epoch.

    ValueError says what is wrong, without repeating the text. Missing offset and coarser
    resolutions are refused: PCD wants both in every timestamp.
    """
    match = _DTM.match(text)
    if match is None:
        raise ValueError("not a DTM")
    if match["second"] is None:
        raise ValueError("a time needs seconds")
    if match["offset"] is None:
        raise ValueError("a time needs its offset from UTC")
    return _milliseconds(match)


def check_date(text: str) -> None:
    """Raise ValueError unless the text is a DTM of any resolution that names a real date (PID-7)."""
    match = _DTM.match(text)
    if match is None:
        raise ValueError("not a DTM")
    _milliseconds(match)


def _milliseconds(match: re.Match[str]) -> int:
    offset = match["offset"] or "+0000"
    minutes = int(offset[1:3]) * 60 + int(offset[3:5])
    if int(offset[3:5]) > 59 or minutes >= 24 * 60:
        raise ValueError("no such offset from UTC")
    zone = timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
    second = int(match["second"] or 0)
    try:
        moment = datetime(
            int(match["year"]),
            int(match["month"] or 1),
            int(match["day"] or 1),
            int(match["hour"] or 0),
            int(match["minute"] or 0),
            second,
            tzinfo=zone,
        )
    except ValueError:
        raise ValueError("no such date or time") from None
    fraction = int(((match["fraction"] or "") + "000")[:3])
    return (moment - _EPOCH) // timedelta(milliseconds=1) + fraction


def format_birth_date(text: str) -> str:
    """Write a BICEPS DateOfBirth (xsd:dateTime, date, gYearMonth or gYear) for PID-7, its resolution kept.

    A zone written in a dateTime is kept as an offset; a pure date carries none and none is invented.
    ValueError, without the text in it, when it is none of the four.
    """
    match = _BIRTH.match(text.strip())
    if match is None:
        raise ValueError("not a date of birth")
    written = "".join(match[part] or "" for part in ("year", "month", "day"))
    if match["time"] is not None:
        written += match["time"].replace(":", "")
        zone = match["zone"]
        if zone is not None:
            written += "+0000" if zone == "Z" else zone.replace(":", "")
    check_date(written)
    return written
