import re
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdib_models.coding import CodedValue, InstanceIdentifier
from mdib_models.descriptors import MdsDescriptor, ProductionSpecification
from mdib_models.states import PatientContextState
from sdc_node.sinks.fhir.identity import (
    EUI64,
    Identifier,
    Names,
    device_of,
    instance_identifier,
    join,
    location_reference,
    mds_identifiers,
    patient_reference,
    uuid_of,
)

NAMES = Names("http://site.example/fhir/")


def mds(handle="mds0", *, component=None, equipment=None, udi=None):
    specifications = tuple(
        ProductionSpecification(CodedValue(code="531975"), "1", InstanceIdentifier(*one)) for one in component or ()
    )
    return MdsDescriptor(
        handle=handle, production_specification=specifications, equipment_identifier=equipment, meta_data=udi
    )


def mirror(monitor, *descriptors):
    empty = monitor.mdib()
    return msgspec.structs.replace(empty, descriptors={one.handle: one for one in descriptors})


def test_an_mds_is_found_by_its_eui64_first_in_the_spelling_of_fhir(monitor):
    mdib = mirror(monitor, mds(component=[(EUI64, "acde48234567abcd")], equipment="urn:uuid:x"))
    found = mds_identifiers(mdib, "mds0", NAMES)
    assert found[0] == Identifier(EUI64, "AC-DE-48-23-45-67-AB-CD")
    assert Identifier("urn:ietf:rfc:3986", "urn:uuid:x") in found


def test_then_by_its_equipment_identifier_then_by_udi_and_serial_then_by_its_epr(monitor):
    full = monitor.mdib()
    assert device_of(full, "mds0", NAMES).identifier.system == "urn:ietf:rfc:3986"
    meta = full.descriptors["mds0"].meta_data
    by_udi = mds_identifiers(mirror(monitor, mds(udi=meta)), "mds0", NAMES)
    assert by_udi[0] == Identifier("http://site.example/fhir/identifier/udi-serial", "00099999000015/SN-1")
    bare = mds_identifiers(mirror(monitor, mds()), "mds0", NAMES)
    assert [one.value for one in bare] == [f"{full.device}/mds0"]


@pytest.mark.parametrize("serials", [(), ("",), (" ",), (None,)])
def test_a_serial_number_that_says_nothing_makes_no_key(monitor, serials):
    meta = msgspec.structs.replace(monitor.mdib().descriptors["mds0"].meta_data, serial_number=serials)
    (found,) = mds_identifiers(mirror(monitor, mds(udi=meta)), "mds0", NAMES)
    assert found.value.endswith("/mds0")


def test_a_component_id_is_kept_but_no_device_is_found_by_it(monitor):
    found = mds_identifiers(mirror(monitor, mds(component=[("1.2.3", "mainboard")])), "mds0", NAMES)
    assert found[0].value.endswith("/mds0")
    assert found[-1] == Identifier("urn:oid:1.2.3", "mainboard")


def test_two_mdss_of_a_device_that_share_an_identifier_stay_two_devices(monitor):
    shared = mirror(
        monitor,
        mds("mds0", component=[(EUI64, "ACDE48234567ABCD")]),
        mds("mds1", component=[(EUI64, "ACDE48234567ABCD")]),
    )
    first, second = (device_of(shared, handle, NAMES).identifier for handle in ("mds0", "mds1"))
    assert first != second
    assert first.value.endswith("/mds0")


def test_what_lies_below_an_mds_is_named_after_it(monitor):
    identities = device_of(monitor.mdib(), "mds0", NAMES)
    assert identities.component("mds0") == identities.identifier
    assert identities.component("vmd").value == "urn:ietf:rfc:3986/urn:uuid:5b1a9a1e-0000-4000-8000-000000000001/vmd"
    assert identities.metric("m.hr").value.endswith("/m.hr")
    assert identities.metric("x") != identities.component("x")
    bare = device_of(mirror(monitor, mds()), "mds0", NAMES)
    assert bare.metric("m,1").value == f"{bare.id}/mds0/m%2C1"


@given(st.lists(st.text(), min_size=1, max_size=4), st.lists(st.text(), min_size=1, max_size=4))
def test_different_parts_never_join_to_the_same_value(first, second):
    if first != second:
        assert join(*first) != join(*second)
    assert not set(join(*first)) & set("|,$\\ ")


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_uuid_follows_from_the_identifier_and_is_well_formed(system, value):
    first = uuid_of(Identifier(system, value))
    assert first == uuid_of(Identifier(system, value))
    assert first != uuid_of(Identifier(system, value + "x"))
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", first)


def test_a_search_escapes_what_means_something_to_fhir():
    query = Identifier("urn:x", "a,b$c\\d&e").search()
    assert unquote(query) == "identifier=urn:x|a\\,b\\$c\\\\d&e"
    assert "&" not in query


@pytest.mark.parametrize(
    "instance",
    [None, InstanceIdentifier(None, "1"), InstanceIdentifier("biceps.uri.unk", "1"), InstanceIdentifier("urn:x", " ")],
)
def test_an_identifier_that_identifies_nothing_is_none(instance):
    assert instance_identifier(instance) is None


def test_the_patient_is_named_by_the_record_number_wherever_it_stands(monitor):
    found = patient_reference(monitor.somebody.patient)
    assert found["type"] == "Patient"
    assert found["identifier"]["value"] == "P-77"
    assert found["identifier"]["type"]["coding"][0]["code"] == "MR"


def test_a_patient_without_a_usable_identifier_is_no_patient():
    assert patient_reference(None) is None
    state = PatientContextState(descriptor_handle="pc", handle="p", identification=(InstanceIdentifier(None, "1"),))
    assert patient_reference(state) is None
    untyped = msgspec.structs.replace(state, identification=(InstanceIdentifier("urn:x", "1"),))
    assert patient_reference(untyped)["identifier"] == {"system": "urn:x", "value": "1"}


def test_the_place_is_a_logical_reference(monitor):
    assert location_reference(None) is None
    nameless = msgspec.structs.replace(monitor.somebody.location, identification=(InstanceIdentifier(None, "1"),))
    assert location_reference(nameless) is None
    found = location_reference(monitor.somebody.location)
    system = "urn:x-biceps:sdc.ctxt.loc.detail"  # an absolute URI, which the root is not
    assert found == {"type": "Location", "identifier": {"system": system, "value": "ward/bed1"}}
