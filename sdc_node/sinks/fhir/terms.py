"""Coding systems and coded values of the FHIR sink: MDC, UCUM, LOINC (fhir_mapping 1.1, 1.2, 1.10). Pure."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from mdib_models import nomenclature
from mdib_models.coding import CodedValue, LocalizedText, text_of

Json = dict[str, Any]

POCD = "http://hl7.org/fhir/uv/pocd/StructureDefinition/"
CORE = "http://hl7.org/fhir/StructureDefinition/"
"""Extensions that the PoCD guide 1.0.0-ballot3 still ships, but that live in HL7's core space."""

UCUM = "http://unitsofmeasure.org"
LOINC = "http://loinc.org"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
OBSERVATION_CATEGORY = TERMINOLOGY + "observation-category"
DATA_ABSENT = TERMINOLOGY + "data-absent-reason"
INTERPRETATION = TERMINOLOGY + "v3-ObservationInterpretation"
MEASUREMENT_STATUS = TERMINOLOGY + "measurement-status"
OBSERVATION_VALUE = TERMINOLOGY + "v3-ObservationValue"
ACT_REASON = TERMINOLOGY + "v3-ActReason"
IDENTIFIER_TYPE = TERMINOLOGY + "v2-0203"
URI_SYSTEM = "urn:ietf:rfc:3986"

_UCUM_SYSTEMS = frozenset({UCUM, "urn:oid:2.16.840.1.113883.6.8"})
_DOTTED = re.compile(r"[0-2](\.(0|[1-9]\d*))+", re.ASCII)
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.", re.ASCII)
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

_PER_MINUTE = frozenset({"/min"})
_PERCENT = frozenset({"%"})
_DEGREES = frozenset({"Cel", "[degF]"})
_WEIGHT = frozenset({"kg", "g", "[lb_av]"})
_LENGTH = frozenset({"cm", "[in_i]"})


_SPELLINGS: Mapping[int, tuple[str, ...]] = {
    262656: ("1",),
    268160: ("dyn.s.m2/cm5",),
    270464: ("dyn.s.m2/cm5",),
}
"""Units that UCUM is told otherwise than the code table says (mapping 5).

No unit is "1". MDC_DIM_DYNE_SEC_PER_M_SQ_PER_CM_5 (268160) means by its name a resistance per area, but devices send it
for the index, which is resistance times area like 270464; nobody measures the other.
"""


class VitalSign(msgspec.Struct, frozen=True):
    """LOINC codes of a vital sign, the most specific first, and the units its R4 profile allows (mapping 1.10)."""

    loinc: tuple[str, ...]
    units: frozenset[str]


_VITAL_SIGNS: Mapping[int, VitalSign] = {
    147842: VitalSign(("8867-4",), _PER_MINUTE),
    149530: VitalSign(("8867-4",), _PER_MINUTE),
    151562: VitalSign(("9279-1",), _PER_MINUTE),
    151578: VitalSign(("9279-1",), _PER_MINUTE),
    150456: VitalSign(("59408-5", "2708-6"), _PERCENT),
    150324: VitalSign(("2708-6",), _PERCENT),
    150348: VitalSign(("8329-5", "8310-5"), _DEGREES),
    150364: VitalSign(("8310-5",), _DEGREES),
    150368: VitalSign(("8329-5", "8310-5"), _DEGREES),
    150372: VitalSign(("60836-4", "8329-5", "8310-5"), _DEGREES),
    150380: VitalSign(("60838-0", "8310-5"), _DEGREES),
    150392: VitalSign(("8333-7", "8310-5"), _DEGREES),
    188420: VitalSign(("8332-9", "8329-5", "8310-5"), _DEGREES),
    188424: VitalSign(("8331-1", "8310-5"), _DEGREES),
    188428: VitalSign(("8310-5",), _DEGREES),
    188436: VitalSign(("60834-9", "8329-5", "8310-5"), _DEGREES),
    188452: VitalSign(("8328-7", "8310-5"), _DEGREES),
    188736: VitalSign(("29463-7",), _WEIGHT),
    188740: VitalSign(("8302-2",), _LENGTH),
}
_SITELESS_TEMPERATURE = 150344
_TEMPERATURE_AT: Mapping[int, VitalSign] = {
    460272: _VITAL_SIGNS[150392],  # ear
    460292: _VITAL_SIGNS[188424],  # mouth
    460420: _VITAL_SIGNS[188420],  # rectum
    460492: _VITAL_SIGNS[188452],  # axilla
}
"""MDC_TEMP says nothing of where it was taken: only a body site makes it a body temperature."""


def vital_sign(code: CodedValue | None, sites: tuple[CodedValue, ...]) -> VitalSign | None:
    """The vital sign that an MDC metric code stands for, or None."""
    number = _number(code)
    if number == _SITELESS_TEMPERATURE and sites:
        return _TEMPERATURE_AT.get(_number(sites[0]) or 0)
    return _VITAL_SIGNS.get(number) if number is not None else None


def _number(code: CodedValue | None) -> int | None:
    return int(code.code) if code is not None and code.is_mdc and code.code.isdecimal() else None


def text(raw: str | None) -> str | None:
    """The text as FHIR allows it (no control characters, not blank), or None."""
    cleaned = _NOT_TEXT.sub("", raw or "")
    return cleaned if cleaned.strip() else None


def localized(texts: tuple[LocalizedText, ...], lang: str) -> str | None:
    """The text in `lang`, else English, else the first, as FHIR allows it."""
    return text(text_of(texts, lang))


def uri(raw: str) -> str:
    """An identifier root or coding system as an absolute URI, which FHIR asks for; empty where there is nothing.

    Blanks, which no URI holds, go; a bare OID gets its prefix; a bare word, such as the sdc.ctxt.loc.detail of
    IEEE 11073-20701, becomes urn:x-biceps:<word>.
    """
    joined = "".join(raw.split())
    if _DOTTED.fullmatch(joined):
        return f"urn:oid:{joined}"
    if not joined or _ABSOLUTE.match(joined):
        return joined
    return "urn:x-biceps:" + quote(joined, errors="replace")


def codings(coded: CodedValue) -> list[Json]:
    """The code and its translations, each once, under FHIR's name of the coding system (mapping 1.2)."""
    own = _coding(coded.code, coded.system, coded.coding_system_version, coded.symbolic_code_name)
    others = (
        _coding(other.code, other.coding_system or nomenclature.MDC, other.coding_system_version, None)
        for other in coded.translation
    )
    found: list[Json] = []
    for coding in (own, *others):
        if coding is not None and coding not in found:
            found.append(coding)
    return found


def _coding(code: str, system: str, version: str | None, display: str | None) -> Json | None:
    token = " ".join(code.split())
    if not token:
        return None
    is_mdc = system == nomenclature.MDC
    if is_mdc:
        if not token.isdecimal():  # never a RefId as code
            return None
        term = nomenclature.by_code(token)
        display = (term.refid if term is not None else None) or display
    found: Json = {"system": nomenclature.FHIR_MDC if is_mdc else uri(system)}
    if version := text(version):
        found["version"] = version
    found["code"] = token
    if display := text(display):
        found["display"] = display
    return found


def coded(system: str, code: str, display: str | None = None) -> Json:
    """A CodeableConcept of one coding."""
    coding = {"system": system, "code": code}
    return {"coding": [coding | ({"display": display} if display else {})]}


def concept(value: CodedValue | None, lang: str, *, loinc: tuple[str, ...] = ()) -> Json | None:
    """The CodeableConcept of a coded value, LOINC codes first; None where it holds no usable code."""
    if value is None or not (own := codings(value)):
        return None
    found: Json = {"coding": [*({"system": LOINC, "code": code} for code in loinc), *own]}
    if described := localized(value.concept_description, lang):
        found["text"] = described
    return found


def units(unit: CodedValue) -> tuple[str, ...]:
    """UCUM spellings of a unit, preferred first; empty where none is known (mapping 5)."""
    if unit.system in _UCUM_SYSTEMS:
        return (unit.code,)
    candidates = [unit.code] if unit.is_mdc else []
    for other in unit.translation:
        if other.coding_system in _UCUM_SYSTEMS:
            return (other.code,)
        if other.coding_system in {None, nomenclature.MDC}:
            candidates.append(other.code)
    terms = (nomenclature.by_code(code, "unit") for code in candidates)
    spellings = (_SPELLINGS.get(term.code, term.ucum) for term in terms if term is not None)
    return next((spelling for spelling in spellings if spelling), ())


def unit_fields(unit: CodedValue, lang: str, allowed: frozenset[str] | None = None) -> Json:
    """`unit`, `system` and `code` of a Quantity; of several spellings, the first that is allowed.

    A unit that UCUM has no word for leaves only its text: Quantity.system is fixed to UCUM in the PoCD profiles.
    """
    known = units(unit)
    code = next((spelling for spelling in known if allowed is None or spelling in allowed), None)
    if code is not None:
        return {"unit": code, "system": UCUM, "code": code}
    name = localized(unit.concept_description, lang) or text(unit.symbolic_code_name)
    return {"unit": name} if name else {}
