"""The MDC code table (IEEE 11073-10101): code <-> RefId <-> UCUM <-> LOINC, each row with its source.

The rows come from public sources (the ``source`` column says which); the official table is licensed. A code
here is the context-free 32-bit one: ``partition * 65536 + term``. The table is read once, at first use;
:func:`load` does it ahead of time for a caller who must not wait later.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Final, Literal

import msgspec

Kind = Literal["device", "metric", "event", "unit", "site"]

MDC: Final = "urn:oid:1.2.840.10004.1.1.1.0.0.1"
"""The coding system of IEEE 11073-10101, which BICEPS implies where @CodingSystem is absent."""

FHIR_MDC: Final = "urn:iso:std:iso:11073:10101"
"""The URI under which FHIR knows the same coding system."""

METRICS: Final = 2
UNITS: Final = 4
SETTINGS: Final = 258
"""Partitions: a setting's code is its measurement's code moved by 256 partitions, from 2 to 258."""

_PARTITION: Final = 0x10000
_TO_SETTING: Final = (SETTINGS - METRICS) * _PARTITION
_SETTING_SUFFIX: Final = "_SETTING"
_FIRST_PRIVATE_TERM: Final = 0xF000
_FIRST_PRIVATE_PARTITION: Final = 1024
_DECIMAL: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_ALIAS: Final = re.compile(r"\balias=([A-Za-z0-9_]+)")


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table.

    ``refid`` is empty for the few codes whose RefId no public source tells; ``display`` may be empty.
    ``ucum`` holds the UCUM spellings, preferred first: a unit's own for a unit, a plausibility list for a
    metric (never a default to stamp on a number). ``loinc`` with more than one entry holds rival published
    pairings.
    """

    kind: Kind
    refid: str
    code: int
    partition: int
    term: int
    display: str
    ucum: tuple[str, ...]
    loinc: tuple[str, ...]
    source: str


class _Table(msgspec.Struct, frozen=True):
    codes: Mapping[int, Term]
    refids: Mapping[str, Term]
    ucums: Mapping[str, tuple[Term, ...]]


def by_code(code: int | str, kind: Kind | None = None) -> Term | None:
    """The term with this context-free code, a number or its decimal text; of this kind only, if one is given.

    A setting (partition 258) that has no row of its own is made from its measurement's row. None for a code
    that is unknown, private, context-sensitive (below 65536) or not a number at all.
    """
    number = _number(code)
    if number is None:
        return None
    codes = _table().codes
    term = codes.get(number)
    if term is None and number // _PARTITION == SETTINGS:
        measured = codes.get(number - _TO_SETTING)
        term = None if measured is None else _setting(measured)
    return term if term is not None and kind in (None, term.kind) else None


def by_refid(refid: str) -> Term | None:
    """The term with this RefId, which may be a former name of it; settings as in :func:`by_code`."""
    refids = _table().refids
    term = refids.get(refid)
    if term is None and refid.endswith(_SETTING_SUFFIX):
        measured = refids.get(refid.removesuffix(_SETTING_SUFFIX))
        if measured is not None and measured.partition == METRICS:
            term = _setting(measured)
    return term


def by_ucum(ucum: str) -> tuple[Term, ...]:
    """The units that this UCUM string (case-sensitive) may stand for, those that prefer it first; or none.

    More than one where MDC tells apart what UCUM does not: ``/min`` is per minute, beats, pulses or breaths.
    """
    return _table().ucums.get(ucum, ())


def terms() -> tuple[Term, ...]:
    """Every row, in the order of the file."""
    return tuple(_table().codes.values())


def former_names(term: Term) -> tuple[str, ...]:
    """Other RefIds that :func:`by_refid` takes for this term."""
    return tuple(_ALIAS.findall(term.source))


def setting_code(code: int) -> int:
    """The code (partition 258) of the setting that belongs to a measurement's code (partition 2).

    ValueError for a code of any other partition.
    """
    if code // _PARTITION != METRICS:
        raise ValueError(f"{code} is no measurement: its partition is {code // _PARTITION}, not {METRICS}")
    return code + _TO_SETTING


def is_private(code: int | str) -> bool:
    """Whether an MDC code is private by its number: its term is 0xF000 or above, or its partition is 1024
    or above. A Translation that repeats @Code makes one private too (SDPi R8119); that is seen on the
    CodedValue, not here. False for what is not a number.
    """
    number = _number(code)
    if number is None:
        return False
    return number % _PARTITION >= _FIRST_PRIVATE_TERM or number // _PARTITION >= _FIRST_PRIVATE_PARTITION


def load() -> None:
    """Read the table now, so that no later lookup has to touch the disk."""
    _table()


def _number(code: int | str) -> int | None:
    if isinstance(code, str):
        return int(code) if _DECIMAL.fullmatch(code) else None
    return code if code >= 0 else None


def _setting(measured: Term) -> Term:
    code = setting_code(measured.code)
    return Term(
        kind="metric",
        refid=measured.refid and measured.refid + _SETTING_SUFFIX,
        code=code,
        partition=SETTINGS,
        term=measured.term,
        display=measured.display and f"{measured.display} setting",
        ucum=measured.ucum,
        loinc=(),  # the pairing is the measurement's; a setting has a LOINC code of its own or none
        source=f"setting of {measured.code}: {measured.source}",
    )


@cache
def _table() -> _Table:
    text = files(__name__).joinpath("terms.csv").read_text(encoding="utf-8")
    rows = [_term(row) for row in csv.DictReader(text.splitlines())]
    refids = {alias: term for term in rows for alias in former_names(term)}
    refids.update({term.refid: term for term in rows if term.refid})
    return _Table(
        codes={term.code: term for term in rows},
        refids=refids,
        ucums=_by_preference(term for term in rows if term.kind == "unit"),
    )


def _term(row: Mapping[str, str]) -> Term:
    code, partition, term = int(row["code10101"]), int(row["partition"]), int(row["term"])
    if code != partition * _PARTITION + term:
        raise ValueError(f"terms.csv: the row of code {code} contradicts itself")
    return Term(
        kind=msgspec.convert(row["kind"], Kind),
        refid=row["refid"],
        code=code,
        partition=partition,
        term=term,
        display=row["display"],
        ucum=_alternatives(row["ucum"]),
        loinc=_alternatives(row["loinc"]),
        source=row["source"],
    )


def _alternatives(cell: str) -> tuple[str, ...]:
    return tuple(cell.split("|")) if cell else ()


def _by_preference(units: Iterable[Term]) -> dict[str, tuple[Term, ...]]:
    found: dict[str, list[Term]] = {}
    for unit in units:
        for ucum in unit.ucum:
            found.setdefault(ucum, []).append(unit)
    return {ucum: tuple(sorted(these, key=lambda unit: unit.ucum.index(ucum))) for ucum, these in found.items()}
