import msgspec
import pytest

from mdib_models.coding import HL7_0203, CodedValue, InstanceIdentifier, LocalizedText
from mdib_models.descriptors import MetaData, ProductionSpecification
from mdib_models.states import PatientDemographics
from sdc_node.sinks.hl7v2.segments import equipment_identifier, patient, visit


def replace(struct, **changes):
    return msgspec.structs.replace(struct, **changes)


def with_patient(association, **changes):
    return replace(association, patient=replace(association.patient, **changes))


def fields(segment):
    return dict(enumerate(segment.split("|")))


def test_r8103_identifiers_in_their_order_with_null_and_unknown_root(association):
    ids = (
        InstanceIdentifier(root="biceps.uri.unk", extension="1"),
        InstanceIdentifier(root="urn:oid:1.2"),
        InstanceIdentifier(extension="3", type=CodedValue("X", "urn:other")),
    )
    assert fields(patient(with_patient(association, identification=ids)))[3] == ('1^^^^U~""^^^urn:oid:1.2^U~3^^^^U')


def test_pid_3_has_six_repetitions_at_most(association):
    ids = tuple(InstanceIdentifier(extension=str(n)) for n in range(9))
    assert fields(patient(with_patient(association, identification=ids)))[3].count("~") == 5


def test_r8104_r8105_names(association):
    data = PatientDemographics(familyname="O|Neil", givenname="A", middlename=("B", "C"), title="Dr", birthname="Born")
    found = fields(patient(with_patient(association, core_data=data)))
    assert found[5] == "O\\F\\Neil^A^B C^^Dr^^L"
    assert found[6] == "Born"


def test_r8104_nameless_patient_has_name_type_u(association):
    for data in (PatientDemographics(), None):
        found = fields(patient(with_patient(association, core_data=data)))
        assert found[5] == "^^^^^^U"
        assert found[31] == "N"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("1970", "1970"),
        ("1970-01-31T04:05:06+01:00", "19700131040506+0100"),
        ("yesterday", ""),
        ("1970-02-31", ""),
    ],
)
def test_r8106_birth_date(association, text, written):
    data = PatientDemographics(familyname="Doe", date_of_birth=text)
    assert fields(patient(with_patient(association, core_data=data))).get(7, "") == written


def test_r8107_r8120_pid_8_stays_empty(association):
    assert fields(patient(association))[8] == ""


def test_r8108_race(association):
    data = replace(association.patient.core_data, race=CodedValue("W", "urn:r"))
    assert fields(patient(with_patient(association, core_data=data)))[10] == "W^^urn:r"


def test_r8114_r8116_account_number_is_no_visit(association):
    account = InstanceIdentifier(root="urn:oid:1.2", extension="A1", type=CodedValue("AN", HL7_0203))
    found = fields(visit(with_patient(association, identification=(account,)), "I"))
    assert found[19] == "A1^^^urn:oid:1.2^AN"
    assert 51 not in found


def test_r8114_no_identifier_no_visit(association):
    assert visit(with_patient(association, identification=()), "I").count("|") == 3


EUI = InstanceIdentifier(extension="00-1B-63-84-45-E6-AA-01")


@pytest.mark.parametrize(
    ("changes", "identifier"),
    [
        ({"equipment_identifier": "urn:oid:1.2.3"}, ("1.2.3", "", "1.2.3", "ISO")),
        ({"equipment_identifier": "https://x/1"}, ("https://x/1", "", "https://x/1", "URI")),
        (
            {"production_specification": (ProductionSpecification(CodedValue("1"), "x", EUI),)},
            ("001B638445E6AA01", "", "001B638445E6AA01", "EUI-64"),
        ),
        (
            {
                "meta_data": MetaData(
                    serial_number=("S1",),
                    model_name=(LocalizedText("M"),),
                    manufacturer=(LocalizedText("Some Company"), LocalizedText("maker.example")),
                )
            },
            ("S1", "M", "maker.example", "DNS"),
        ),
        (
            {"meta_data": MetaData(serial_number=("S1",), manufacturer=(LocalizedText("urn:x:maker"),))},
            ("S1", "", "urn:x:maker", "URI"),
        ),
        (
            {"meta_data": MetaData(serial_number=("S1",), manufacturer=(LocalizedText("Some Company"),))},
            ("5e1f0000-0000-4000-8000-000000000001", "", "5e1f0000-0000-4000-8000-000000000001", "UUID"),
        ),
        (
            {
                "production_specification": (
                    ProductionSpecification(CodedValue("1"), "x", InstanceIdentifier(extension="1234567890123456")),
                )
            },
            ("5e1f0000-0000-4000-8000-000000000001", "", "5e1f0000-0000-4000-8000-000000000001", "UUID"),
        ),
    ],
)
def test_r8117_equipment_identifier_and_its_fallbacks(mdib, changes, identifier):
    mds = replace(mdib.find("mds0"), **({"equipment_identifier": None} | changes))
    changed = replace(mdib, descriptors=mdib.descriptors | {"mds0": mds})
    assert equipment_identifier(changed, "mds0") == identifier
