"""Demo patients and locations: obviously fictional, always the same for the same seed and bed."""

import datetime as dt
import zlib
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec
from lxml import etree
from sdc11073.location import SdcLocation
from sdc11073.xml_types import pm_types
from sdc11073.xml_types.isoduration import XsdDateInformation

ROOT: Final = "urn:oid:1.3.6.1.4.1.99999.1"
"""Root of all demo identifiers: an arc kept for documentation."""

IDENTIFIER_TYPES: Final = "urn:oid:2.16.840.1.113883.18.108"
"""Coding system of HL7 table 0203 (SDPi R8103)."""

SDPI_NAMESPACE: Final = "urn:oid:1.3.6.1.4.1.19376.1.6.2.10.1.1.1"

_GIVEN: Final = (
    ("Testina", "F"), ("Demetrius", "M"), ("Samplia", "F"), ("Mockbert", "M"),
    ("Fictoria", "F"), ("Exempla", "F"), ("Simulus", "M"), ("Phantasius", "M"),
)  # fmt: skip
_FAMILY: Final = ("Paradigma", "Testpatient", "Example", "Nobody", "Simulated", "Placeholder", "Specimen")
_GENDERS: Final = {"F": "Female", "M": "Male"}


class Patient(msgspec.Struct, frozen=True, kw_only=True):
    """A fictional patient: identifiers under :data:`ROOT`, height in cm, weight in kg."""

    given: str
    family: str
    record: str
    visit: str
    sex: Literal["F", "M"]
    birth: dt.date
    height: int
    weight: int


def demo_patient(seed: int, bed: int, change: int = 0) -> Patient:
    """The patient in this bed after so many changes; another one for every change."""
    draw = zlib.crc32(f"patient:{seed}:{bed}".encode()) + change
    given, sex = _GIVEN[draw % len(_GIVEN)]
    number = draw % 1_000_000
    return Patient(
        given=given,
        family=_FAMILY[(draw // len(_GIVEN)) % len(_FAMILY)],
        record=f"DEMO{number:06d}",
        visit=f"V{number:06d}",
        sex="F" if sex == "F" else "M",
        birth=dt.date(1935, 1, 1) + dt.timedelta(days=draw % 25_000),
        height=150 + draw % 45,
        weight=48 + draw % 60,
    )


def demo_location(bed: int) -> SdcLocation:
    """The bed's place: one demo ward with four beds a room."""
    return SdcLocation(
        fac="DEMO-HOSPITAL", bldng="MAIN", flr="4", poc="ICU1", rm=f"R{bed // 4 + 1}", bed=f"B{bed % 4 + 1}"
    )


def validator() -> Any:
    """The InstanceIdentifier that vouches for a demo context (SDPi R8102 asks for one)."""
    return pm_types.InstanceIdentifier(root=ROOT, extension_string="demo-validator")


def associate_patient(mdib: Any, descriptor: str, patient: Patient | None) -> str | None:
    """Disassociate whoever the descriptor has and, if one is given, associate this patient: one context report.

    Returns the Handle of the new PatientContextState.
    """
    with mdib.context_state_transaction() as transaction:
        transaction.disassociate_all(descriptor)
        if patient is None:
            return None
        state = transaction.mk_context_state(descriptor, set_associated=True)
        state.Validator = [validator()]
        state.Identification = [_identifier("MR", patient.record), _identifier("VN", patient.visit)]
        state.CoreData = _core_data(patient)
        return str(state.Handle)


def associate_location(mdib: Any, descriptor: str, location: SdcLocation) -> str:
    """Associate the descriptor's location; returns the Handle of the new LocationContextState."""
    with mdib.context_state_transaction() as transaction:
        transaction.disassociate_all(descriptor)
        state = transaction.mk_context_state(descriptor, set_associated=True)
        state.update_from_sdc_location(location)
        state.Validator = [validator()]
        return str(state.Handle)


def forget_old(mdib: Any, descriptor: str, keep: int = 8) -> None:
    """Drop all but the newest ``keep`` disassociated states of a context descriptor, so that an MDIB does not grow
    with every change. BICEPS knows no report for that: consumers drop them on their own.
    """
    with mdib.mdib_lock:
        states = mdib.context_states.descriptor_handle.get(descriptor, [])
        gone = [s for s in states if s.ContextAssociation == pm_types.ContextAssociation.DISASSOCIATED]
        gone.sort(key=lambda state: state.BindingEndTime or 0.0)
        for state in gone[: max(0, len(gone) - keep)]:
            mdib.context_states.remove_object(state)


def _identifier(kind: str, extension: str) -> Any:
    coded = pm_types.CodedValue(kind, coding_system=IDENTIFIER_TYPES)
    return pm_types.InstanceIdentifier(root=ROOT, type_coded_value=coded, extension_string=extension)


def _core_data(patient: Patient) -> Any:
    data = pm_types.PatientDemographicsCoreData(given_name=patient.given, family_name=patient.family)
    data.Sex = pm_types.Sex(patient.sex)
    data.PatientType = pm_types.PatientType.ADULT
    birth = patient.birth
    data.DateOfBirth = XsdDateInformation(year=birth.year, month=birth.month, day=birth.day)
    data.Height = pm_types.Measurement(Decimal(patient.height), _unit("263441", "MDC_DIM_CENTI_M"))
    data.Weight = pm_types.Measurement(Decimal(patient.weight), _unit("263875", "MDC_DIM_KILO_G"))
    gender = etree.Element(f"{{{SDPI_NAMESPACE}}}Gender", nsmap={"sdpi": SDPI_NAMESPACE})
    gender.text = _GENDERS[patient.sex]
    data.ExtExtension.append(gender)
    return data


def _unit(code: str, refid: str) -> Any:
    return pm_types.CodedValue(code, symbolic_code_name=refid)
