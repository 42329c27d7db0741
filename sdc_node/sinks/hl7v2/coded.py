"""Coded values as CWE fields (SDPi R8013, R8022, R8024, R8035, R8058, R8063, R8064, R8069, R8119)."""

import re
from typing import Final

from mdib_models import nomenclature
from mdib_models.coding import CodedValue, LocalizedText, Translation
from mdib_models.identity import Handle
from sdc_node.hl7.build import components, leaf

_MDC: Final = "MDC"
_REFERENCE_ID: Final = re.compile(r"MDC[A-Z0-9_]+\Z")


def cwe(coded: CodedValue, *, original_text: str = "") -> str:
    """Write a coded value as CWE-1 to -8, and ``original_text`` as CWE-9 where there is any.

    A standard MDC code gets its RefId from the code table; a private one keeps its translation in the second
    triplet; other coding systems go out as they are.
    """
    private = _private_translation(coded)
    return components(
        leaf(coded.code),
        leaf(reference_id(coded)),
        _MDC if coded.is_mdc else leaf(coded.system),
        leaf(private.code) if private else "",
        "",
        leaf(private.coding_system) if private else "",
        leaf(coded.coding_system_version),
        leaf(private.coding_system_version) if private else "",
        leaf(original_text),
    )


def cwe_or_handle(coded: CodedValue | None, handle: Handle) -> str:
    """The same; a descriptor without Type is told by its handle as a local code (HL7 table 0396, L)."""
    return cwe(coded) if coded is not None else components(leaf(handle), "", "L")


def reference_id(coded: CodedValue) -> str:
    """CWE-2: the RefId of an MDC code, ``MDC_PRIVATE_<code>`` for a nameless private one, or nothing.

    After the code table come @SymbolicCodeName and a concept description that reads like a RefId.
    """
    symbolic = coded.symbolic_code_name or ""
    if not coded.is_mdc:
        return symbolic
    if is_private(coded):
        return symbolic or f"MDC_PRIVATE_{coded.code}"
    term = nomenclature.by_code(coded.code)
    if term is not None and term.refid:
        return term.refid
    return symbolic or _described(coded.concept_description)


def is_private(coded: CodedValue) -> bool:
    """Whether an MDC code is private: by its number, or since a translation repeats it in another system."""
    return coded.is_mdc and (nomenclature.is_private(coded.code) or _repeated(coded) is not None)


def race(coded: CodedValue) -> str:
    """PID-10 (R8108): like ``cwe``, but the second triplet may be any first translation."""
    other = _repeated(coded) or next(iter(coded.translation), None)
    return components(
        leaf(coded.code),
        leaf(coded.symbolic_code_name),
        _MDC if coded.is_mdc else leaf(coded.system),
        leaf(other.code) if other else "",
        "",
        leaf(other.coding_system) if other else "",
        leaf(coded.coding_system_version),
        leaf(other.coding_system_version) if other else "",
    )


def _private_translation(coded: CodedValue) -> Translation | None:
    return _repeated(coded) if is_private(coded) else None


def _repeated(coded: CodedValue) -> Translation | None:
    return next(
        (
            translation
            for translation in coded.translation
            if translation.code == coded.code and (translation.coding_system or nomenclature.MDC) != coded.system
        ),
        None,
    )


def _described(texts: tuple[LocalizedText, ...]) -> str:
    return next((text.text for text in texts if _REFERENCE_ID.match(text.text)), "")
