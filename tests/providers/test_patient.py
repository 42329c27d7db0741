import pytest
from lxml import etree
from sdc11073.xml_types import pm_qnames

from providers import patient
from providers.device_mdib import DeviceMdib, endpoint
from providers.profile import load

PM = "{http://standards.ieee.org/downloads/11073/11073-10207-2017/participant}"


@pytest.fixture
def mdib() -> DeviceMdib:
    return DeviceMdib(load("pump"), endpoint("pump", 0, 0))


def patients(mdib: DeviceMdib) -> list:
    states = mdib.library.context_states.NODETYPE.get(pm_qnames.PatientContextState, [])
    return sorted(states, key=lambda state: state.BindingMdibVersion)


def test_a_demo_patient_is_the_same_for_the_same_bed_and_another_after_a_change():
    first = patient.demo_patient(7, 0)
    assert patient.demo_patient(7, 0) == first
    others = [patient.demo_patient(7, 0, change) for change in range(1, 20)]
    records = {who.record for who in [first, *others, patient.demo_patient(7, 1), patient.demo_patient(8, 0)]}
    assert len(records) == 22
    assert {who.sex for who in others} == {"F", "M"}


def test_r8102_r8103_a_patient_is_associated_with_a_validator_and_typed_identifiers(mdib: DeviceMdib):
    who = patient.demo_patient(7, 0)
    version = mdib.library.mdib_version
    mdib.change_patient(who)
    (state,) = patients(mdib)
    assert state.ContextAssociation.value == "Assoc"
    assert [v.Extension for v in state.Validator] == ["demo-validator"]
    assert state.BindingMdibVersion == version + 1
    assert state.BindingStartTime
    identifiers = {i.Type.Code: (i.Type.CodingSystem, i.Root, i.Extension) for i in state.Identification}
    assert identifiers == {
        "MR": (patient.IDENTIFIER_TYPES, patient.ROOT, who.record),
        "VN": (patient.IDENTIFIER_TYPES, patient.ROOT, who.visit),
    }


def test_r0012_demographics_hold_sex_gender_birth_height_and_weight(mdib: DeviceMdib):
    who = patient.demo_patient(7, 0)
    mdib.change_patient(who)
    (state,) = patients(mdib)
    helper = mdib.library.data_model.ns_helper
    node = state.mk_state_node(pm_qnames.State, helper)
    core = node.find(f"{PM}CoreData")
    gender = core.find(f".//{{{patient.SDPI_NAMESPACE}}}Gender")
    assert gender.text == {"F": "Female", "M": "Male"}[who.sex]
    assert core.find(f"{PM}Sex").text == who.sex
    assert core.find(f"{PM}DateOfBirth").text == who.birth.isoformat()
    assert core.find(f"{PM}Height").get("MeasuredValue") == str(who.height)
    assert core.find(f"{PM}Weight").get("MeasuredValue") == str(who.weight)
    assert etree.QName(core[0]).localname == "Extension"


def test_a_change_disassociates_the_former_patient(mdib: DeviceMdib):
    mdib.change_patient(patient.demo_patient(7, 0))
    mdib.change_patient(patient.demo_patient(7, 0, 1))
    former, present = patients(mdib)
    assert (former.ContextAssociation.value, present.ContextAssociation.value) == ("Dis", "Assoc")
    assert former.UnbindingMdibVersion == present.BindingMdibVersion
    assert former.BindingEndTime >= former.BindingStartTime
    mdib.change_patient(None)
    assert {state.ContextAssociation.value for state in patients(mdib)} == {"Dis"}


def test_former_patients_do_not_pile_up(mdib: DeviceMdib):
    for change in range(20):
        mdib.change_patient(patient.demo_patient(7, 0, change))
    kept = patients(mdib)
    assert len(kept) == 9
    assert kept[-1].Identification[0].Extension == patient.demo_patient(7, 0, 19).record
    assert kept[-1].ContextAssociation.value == "Assoc"


def test_r8113_a_location_is_associated_with_a_validator(mdib: DeviceMdib):
    mdib.associate(patient.demo_location(5), None)
    (state,) = mdib.library.context_states.NODETYPE.get(pm_qnames.LocationContextState)
    detail = state.LocationDetail
    assert (detail.Facility, detail.PoC, detail.Room, detail.Bed) == ("DEMO-HOSPITAL", "ICU1", "R2", "B2")
    assert state.ContextAssociation.value == "Assoc"
    assert state.Validator
    assert state.Identification[0].Root == "sdc.ctxt.loc.detail"
