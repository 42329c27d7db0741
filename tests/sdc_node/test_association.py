"""Whose data it is: R8102 case by case, and never a guess."""

import msgspec
import pytest

from mdib_models.coding import InstanceIdentifier
from mdib_models.descriptors import LocationContextDescriptor, MdsDescriptor, PatientContextDescriptor
from mdib_models.descriptors import SystemContextDescriptor as SystemContext
from mdib_models.identity import MdsKey
from sdc_node.association import (
    NO_PATIENT,
    NOT_VALIDATED,
    SEVERAL_PATIENTS,
    Associations,
    associate,
)


@pytest.fixture
def device(bedside):
    return bedside()


def found(device, mds="mds"):
    return associate(device.mdib, mds)


def test_r8102_nobody_is_associated(device):
    assert (found(device).patient, found(device).location, found(device).reason) == (None, None, NO_PATIENT)


def test_r8102_an_associated_and_validated_patient_counts(device):
    device.patient(1, "a")
    assert (found(device).patient.handle, found(device).reason) == ("pc.a", None)


@pytest.mark.parametrize("association", ["No", "Pre", "Dis"])
def test_r8102_any_other_association_is_nobody(device, association):
    device.patient(1, "a", association=association)
    assert (found(device).patient, found(device).reason) == (None, NO_PATIENT)


@pytest.mark.parametrize(
    "validator",
    [(), (InstanceIdentifier(),), (InstanceIdentifier(root="biceps.uri.unk"),)],
    ids=["none", "empty", "unknown"],
)
def test_r8102_without_a_validator_it_is_nobody(device, validator):
    device.patient(1, "a", validator=validator)
    assert (found(device).patient, found(device).reason) == (None, NOT_VALIDATED)


@pytest.mark.parametrize(
    "validator", [InstanceIdentifier(root="urn:oid:1.2"), InstanceIdentifier(extension="nurse")], ids=["root", "ext"]
)
def test_r8102_one_validator_that_says_something_is_enough(device, validator):
    device.patient(1, "a", validator=(InstanceIdentifier(), validator))
    assert found(device).patient is not None


def test_r8102_two_associated_patients_are_nobody(device):
    device.patient(1, "a")
    first = device.mdib.contexts["pc.a"]
    device.patient(2, "b")
    both = msgspec.structs.replace(first, state_version=first.state_version + 2)
    device.report("context", 3, both)
    assert (found(device).patient, found(device).reason) == (None, SEVERAL_PATIENTS)


def test_r8102_only_the_contexts_of_the_same_mds(device):
    for descriptor in (
        MdsDescriptor(handle="mds2"),
        SystemContext(handle="sc2", parent="mds2"),
        PatientContextDescriptor(handle="pc2", parent="sc2"),
        LocationContextDescriptor(handle="lc2", parent="sc2"),
    ):
        device.describe(1, descriptor)
    device.patient(2, "a")
    device.location(2, "7")
    batch = device.values(3, hr=70)
    assert batch.associations[MdsKey(device.device, "mds")].patient.handle == "pc.a"
    assert batch.associations[MdsKey(device.device, "mds")].location.location_detail.bed == "7"
    second = batch.associations[MdsKey(device.device, "mds2")]
    assert (second.patient, second.location, second.reason) == (None, None, NO_PATIENT)


def test_a_location_counts_only_validated_and_alone(device):
    device.location(1, "1", validator=())
    assert found(device).location is None
    device.location(2, "1")
    assert found(device).location.location_detail.bed == "1"
    device.location(3, "2", handle="lc.2")
    assert found(device).location is None
    device.location(4, "2", handle="lc.2", association="Dis")
    assert found(device).location.location_detail.bed == "1"


def test_the_reason_names_nobody(device):
    device.patient(1, "a", validator=())
    assert "a" not in found(device).reason.split("-")
    assert found(device).reason == "patient-not-validated"


def test_the_same_subject_by_identifiers_only(device):
    device.patient(1, "a")
    first = found(device)
    device.patient(2, "a", weight="70")
    corrected = found(device)
    device.patient(3, "b")
    other = found(device)
    device.patient(4, "b", association="Dis")
    nobody = found(device)
    assert first.same_subject(corrected)
    assert not first.same_subject(other)
    assert not other.same_subject(nobody)
    assert not nobody.same_subject(other)
    assert nobody.same_subject(found(device))


def test_another_identifier_or_binding_is_another_subject(device):
    device.patient(1, "a")
    first = found(device)
    renamed = msgspec.structs.replace(first.patient, identification=(InstanceIdentifier("urn:oid:1.2", "other"),))
    rebound = msgspec.structs.replace(first.patient, binding_start_time=5)
    for patient in (renamed, rebound):
        assert not first.same_subject(msgspec.structs.replace(first, patient=patient))


def test_associations_follow_the_batches(bedside):
    device, associations = bedside(raw=True), Associations()
    key = MdsKey(device.device, "mds")
    before = associations.of(device.snapshot())
    assert before[key].reason == NO_PATIENT
    assert associations.of(device.values(1, hr=70)) is before, "nothing that may change it: nothing is made anew"
    taken = associations.of(device.patient(2, "a"))
    assert taken[key].patient.handle == "pc.a"
    assert before[key].patient is None, "what was handed out stays as it was"
    device.patient(3, "b")
    assert associations.of(device.again(device.mdib, 4))[key].patient.handle == "pc.b"


def test_devices_are_kept_apart(bedside):
    one, other, associations = bedside("urn:uuid:1", raw=True), bedside("urn:uuid:2", raw=True), Associations()
    associations.of(one.patient(1, "a"))
    assert associations.of(other.snapshot())[MdsKey(other.device, "mds")].patient is None
    assert associations.of(one.values(2, hr=1))[MdsKey(one.device, "mds")].patient.handle == "pc.a"
