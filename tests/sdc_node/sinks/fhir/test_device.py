import msgspec
import pytest

from mdib_models.coding import CodedValue, InstanceIdentifier, LocalizedText, PhysicalConnectorInfo
from mdib_models.descriptors import MdsDescriptor, ProductionSpecification, Udi
from mdib_models.states import ChannelState, MdsState
from sdc_node.sinks.fhir.device import device
from sdc_node.sinks.fhir.identity import Names, device_of

PROFILE = "http://hl7.org/fhir/uv/pocd/StructureDefinition/"
PARENT = {"reference": "urn:uuid:11111111-1111-4111-8111-111111111111"}


def rendered(monitor, mdib, handle, parent=None, association=None):
    identities = device_of(mdib, "mds0", Names("http://site.example"))
    return device(mdib, mdib.descriptors[handle], identities, parent, association or monitor.nobody)


def test_an_mds_tells_all_that_its_meta_data_tells(monitor, r4):
    found = rendered(monitor, monitor.mdib(), "mds0", association=monitor.somebody)
    r4(found)
    assert found["meta"]["profile"] == [PROFILE + "MdsDevice"]
    assert found["udiCarrier"] == [
        {
            "deviceIdentifier": "00099999000015",
            "issuer": "urn:oid:2.51.1.1",
            "carrierHRF": "(01)00099999000015(21)SN-1",
        }
    ]
    assert (found["manufacturer"], found["lotNumber"], found["modelNumber"]) == ("Makers", "L1", "1")
    assert found["manufactureDate"] == "2024-05-06"  # R4 has no zone on a date
    assert [one["name"] for one in found["deviceName"]] == ["Model", "Modell"]  # English first
    assert (found["serialNumber"], found["partNumber"]) == ("SN-1", "PART-7")
    assert [one["value"] for one in found["version"]] == ["0.1.0", "A"]
    assert found["safety"][0]["coding"][0]["code"] == "Inf"
    assert found["patient"]["identifier"]["value"] == "P-77"
    assert found["location"]["identifier"]["value"] == "ward/bed1"
    extensions = {one["url"].rpartition("/")[2]: one for one in found["extension"]}
    assert extensions["operating-hours"]["valueUnsignedInt"] == 12
    assert extensions["operating-cycles"]["valueUnsignedInt"] == 3
    assert extensions["operating-mode"]["valueCode"] == "Nml"
    clock = found["property"][0]
    assert [one.get("text") or one["coding"][0]["code"] for one in clock["valueCode"]] == ["532226", "synchronised"]
    assert str(clock["valueQuantity"][0]["value"]) == "0.05"


def test_an_mds_with_nothing_to_tell_is_still_a_device(monitor, r4):
    bare = MdsDescriptor(handle="mds0")
    mdib = msgspec.structs.replace(monitor.mdib(), descriptors={"mds0": bare}, states={})
    found = rendered(monitor, mdib, "mds0")
    r4(found)
    assert found["type"]["coding"][0]["code"] == "unknown"
    assert found["status"] == "active"
    assert not found.keys() & {"patient", "location", "udiCarrier", "property", "extension"}


def test_vmd_and_channel_hang_below_and_have_no_patient(monitor, r4):
    mdib = monitor.mdib()
    for handle, profile in (("vmd", "VmdDevice"), ("ch", "ChannelDevice")):
        found = rendered(monitor, mdib, handle, PARENT, monitor.somebody)
        r4(found)
        assert found["meta"]["profile"] == [PROFILE + profile]
        assert found["parent"] == PARENT
        assert not found.keys() & {"patient", "location", "property"}


@pytest.mark.parametrize(
    ("activation", "status", "reason"),
    [
        ("On", "active", "online"),
        ("NotRdy", "inactive", "not-ready"),
        ("StndBy", "inactive", "standby"),
        ("Off", "inactive", "off"),
        ("Shtdn", "inactive", "not-ready"),
        ("Fail", "inactive", "not-ready"),
    ],
)
def test_activation_becomes_status_and_reason(monitor, activation, status, reason):
    mdib = monitor.mdib(MdsState(descriptor_handle="mds0", activation_state=activation))
    found = rendered(monitor, mdib, "mds0")
    assert (found["status"], found["statusReason"][0]["coding"][0]["code"]) == (status, reason)


def test_a_connector_is_the_instance_and_a_vmd_has_identifiers_of_its_own(monitor, r4):
    connector = PhysicalConnectorInfo((LocalizedText(text="slot", lang="en"),), 2)
    mdib = monitor.mdib(ChannelState(descriptor_handle="ch", physical_connector=connector))
    found = rendered(monitor, mdib, "ch", PARENT)
    assert [part["url"] for part in found["extension"][0]["extension"]] == ["number", "label"]
    component = ProductionSpecification(CodedValue(code="531974"), "B", InstanceIdentifier("1.2.3", "module-9"))
    vmd = msgspec.structs.replace(
        mdib.descriptors["vmd"],
        production_specification=(component,),
        equipment_identifier="urn:uuid:vmd",
        type=CodedValue(code="69686", concept_description=(LocalizedText(text="SpO2", lang="en"),)),
    )
    found = rendered(monitor, monitor.mdib(descriptors=(vmd,)), "vmd", PARENT)
    r4(found)
    assert [one["value"] for one in found["identifier"][1:]] == ["module-9", "urn:uuid:vmd"]
    assert found["deviceName"] == [{"name": "SpO2", "type": "user-friendly-name"}]


def test_nonsense_from_the_device_is_left_out(monitor, r4):
    meta = monitor.mdib().descriptors["mds0"].meta_data
    odd = msgspec.structs.replace(
        meta,
        udi=(Udi("1", " ", InstanceIdentifier("biceps.uri.unk"), InstanceIdentifier("1.2", "EU")),),
        manufacture_date="soon",
        serial_number=("",),
    )
    mds = msgspec.structs.replace(monitor.mdib().descriptors["mds0"], meta_data=odd)
    state = MdsState(descriptor_handle="mds0", operating_hours=-1)
    found = rendered(monitor, monitor.mdib(state, descriptors=(mds,)), "mds0")
    r4(found)
    assert found["udiCarrier"] == [{"deviceIdentifier": "1", "jurisdiction": "urn:oid:1.2EU"}]
    assert not found.keys() & {"manufactureDate", "serialNumber"}


def test_a_device_that_is_gone_is_inactive_whatever_it_said_last(monitor, r4):
    mdib = monitor.mdib()
    identities = device_of(mdib, "mds0", Names("http://site.example"))
    found = device(mdib, mdib.descriptors["vmd"], identities, PARENT, monitor.nobody, gone=True)
    r4(found)
    assert (found["status"], found["statusReason"][0]["coding"][0]["code"]) == ("inactive", "off")
    assert rendered(monitor, mdib, "vmd", PARENT)["status"] == "active"
