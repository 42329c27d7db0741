"""Coded values and the other small values that descriptors and states are made of (BICEPS participant model)."""

from decimal import Decimal
from typing import Literal

import msgspec

MDC = "urn:oid:1.2.840.10004.1.1.1.0.0.1"
"""The coding system that BICEPS implies: IEEE 11073-10101."""

HL7_0203 = "urn:oid:2.16.840.1.113883.18.108"
"""The coding system of identifier types (MR, VN, ...)."""


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """Something this version has no words for: its qualified name `{namespace}local` and its XML, kept as it came."""

    type: str
    raw: str


class LocalizedText(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A text, or a reference (`ref`) into the device's localization service."""

    text: str = ""
    lang: str | None = None
    ref: str | None = None
    version: int | None = None
    text_width: str | None = None


class Translation(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The same concept in another coding system."""

    code: str
    coding_system: str | None = None
    coding_system_version: str | None = None


class CodedValue(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """pm:CodedValue. `code` is the decimal context-free code where the system is MDC."""

    code: str
    coding_system: str | None = None
    coding_system_version: str | None = None
    symbolic_code_name: str | None = None
    coding_system_name: tuple[LocalizedText, ...] = ()
    concept_description: tuple[LocalizedText, ...] = ()
    translation: tuple[Translation, ...] = ()

    @property
    def system(self) -> str:
        """The coding system with the implied one filled in."""
        return self.coding_system or MDC

    @property
    def is_mdc(self) -> bool:
        """Whether the code is from IEEE 11073-10101."""
        return self.system == MDC

    def text(self, lang: str = "en") -> str | None:
        """The concept description in `lang` (then English, then the first), or None."""
        return text_of(self.concept_description, lang)


class InstanceIdentifier(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """pm:InstanceIdentifier: an `extension` unique under its `root` (a URI)."""

    root: str | None = None
    extension: str | None = None
    type: CodedValue | None = None
    identifier_name: tuple[LocalizedText, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it identifies nothing."""
        return not self.extension and self.root in {None, "", "biceps.uri.unk"}


class Range(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """pm:Range; a missing bound is open."""

    lower: Decimal | None = None
    upper: Decimal | None = None
    step_width: Decimal | None = None
    relative_accuracy: Decimal | None = None
    absolute_accuracy: Decimal | None = None


class Measurement(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """pm:Measurement."""

    measured_value: Decimal
    measurement_unit: CodedValue


class AllowedValue(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One value that an enumeration may take, with the code that says what it means."""

    value: str
    type: CodedValue | None = None
    identification: InstanceIdentifier | None = None
    characteristic: Measurement | None = None


RelationKind = Literal["Rcm", "PS", "SST", "ECE", "DCE", "Oth"]


class Relation(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """pm:Relation of a metric to others; kind SST with a code joins a compound (SDPi R0703)."""

    kind: RelationKind
    entries: tuple[str, ...] = ()
    code: CodedValue | None = None
    identification: InstanceIdentifier | None = None


class PhysicalConnectorInfo(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """pm:PhysicalConnectorInfo: the socket a module or cable sits in."""

    label: tuple[LocalizedText, ...] = ()
    number: int | None = None


def text_of(texts: tuple[LocalizedText, ...], lang: str = "en") -> str | None:
    """The text in `lang`, else English, else the first one that has any; None where there is none."""
    some = [candidate for candidate in texts if candidate.text]
    for wanted in (lang, "en"):
        for candidate in some:
            if _language(candidate.lang or "en") == _language(wanted):
                return candidate.text
    return some[0].text if some else None


def _language(tag: str) -> str:
    return tag.lower().partition("-")[0]
