import pytest

from mdib_models.coding import CodedValue, LocalizedText, Translation
from sdc_node.sinks.fhir.terms import codings, concept, localized, text, unit_fields, units, uri, vital_sign

MDC = "urn:iso:std:iso:11073:10101"


def coded(code, **fields):
    return CodedValue(code=str(code), **fields)


def test_the_biceps_coding_system_becomes_the_fhir_one_with_the_refid_as_display():
    assert codings(coded(147842)) == [{"system": MDC, "code": "147842", "display": "MDC_ECG_HEART_RATE"}]


def test_a_vendor_system_passes_and_translations_follow_each_once():
    value = coded(
        "X1",
        coding_system="urn:oid:1.3.6.1.4.1.99999.2",
        coding_system_version="3",
        translation=(Translation("147842"), Translation("147842"), Translation("7", "1.2.3")),
    )
    assert [(one["system"], one["code"]) for one in codings(value)] == [
        ("urn:oid:1.3.6.1.4.1.99999.2", "X1"),
        (MDC, "147842"),
        ("urn:oid:1.2.3", "7"),
    ]
    assert codings(value)[0]["version"] == "3"


def test_a_refid_is_never_a_code_and_an_empty_code_gives_nothing():
    assert codings(coded("MDC_ECG_HEART_RATE")) == []
    assert concept(coded(" "), "en") is None
    assert concept(None, "en") is None


def test_a_concept_has_loinc_first_and_the_description_in_the_language():
    described = (LocalizedText(text="Puls", lang="de"), LocalizedText(text="Pulse", lang="en"))
    found = concept(coded(149530, concept_description=described), "de", loinc=("8867-4",))
    assert [one["code"] for one in found["coding"]] == ["8867-4", "149530"]
    assert found["text"] == "Puls"


def test_units_prefer_the_first_spelling_unless_a_profile_allows_another():
    per_minute = coded(264864)
    assert units(per_minute)[0] == "/min"
    assert unit_fields(per_minute, "en") == {
        "unit": "/min",
        "system": "http://unitsofmeasure.org",
        "code": "/min",
    }
    assert unit_fields(coded(268192), "en", frozenset({"[degF]"})).get("code") is None


@pytest.mark.parametrize("code", [268160, 270464])
def test_the_unit_of_a_resistance_index_is_resistance_times_area(code):
    assert units(coded(code)) == ("dyn.s.m2/cm5",)
    assert units(coded("9", coding_system="urn:x", translation=(Translation(str(code)),))) == ("dyn.s.m2/cm5",)


def test_no_unit_is_one():
    assert unit_fields(coded(262656), "en")["code"] == "1"


def test_a_unit_may_come_from_ucum_or_a_translation_and_unknown_ones_keep_their_name():
    ucum = "http://unitsofmeasure.org"
    assert units(coded("mL", coding_system=ucum)) == ("mL",)
    private = coded("9", coding_system="urn:x", translation=(Translation("mL/h", ucum),))
    assert units(private) == ("mL/h",)
    assert units(coded("9", coding_system="urn:x", translation=(Translation("266016"),)))[0] == "mm[Hg]"
    assert units(coded("9", coding_system="urn:x", translation=(Translation("1", "urn:y"),))) == ()
    assert unit_fields(coded("9", coding_system="urn:x", symbolic_code_name="drops"), "en") == {"unit": "drops"}
    assert unit_fields(coded("9", coding_system="urn:x"), "en") == {}


def test_temperature_is_a_vital_sign_only_where_the_site_says_so():
    assert vital_sign(coded(150344), ()) is None
    assert vital_sign(coded(150344), (coded(999),)) is None
    assert "8310-5" in vital_sign(coded(150344), (coded(460492),)).loinc
    assert "8329-5" not in vital_sign(coded(150344), (coded(460492),)).loinc
    assert vital_sign(coded(150356), ()) is None  # breathing gas
    assert "8329-5" in vital_sign(coded(188420), ()).loinc
    assert vital_sign(coded(188428), ()).loinc == ("8310-5",)  # ear, and so not core


def test_pulse_oximetry_has_the_code_that_arterial_saturation_lacks():
    assert vital_sign(coded(150456), ()).loinc == ("59408-5", "2708-6")
    assert vital_sign(coded(150324), ()).loinc == ("2708-6",)


def test_what_is_not_mdc_is_no_vital_sign():
    assert vital_sign(coded(147842, coding_system="urn:x"), ()) is None
    assert vital_sign(coded("HR"), ()) is None
    assert vital_sign(None, ()) is None


def test_texts_and_uris_are_cleaned():
    assert text("a\x00b") == "ab"
    assert text(" \x01 ") is None
    assert text(None) is None
    assert localized((), "en") is None
    assert uri("1.2.3") == "urn:oid:1.2.3"
    assert uri(" urn:x y ") == "urn:xy"


@pytest.mark.parametrize(
    ("root", "told"),
    [
        ("sdc.ctxt.loc.detail", "urn:x-biceps:sdc.ctxt.loc.detail"),
        ("Ward\x01 A|1", "urn:x-biceps:Ward%01A%7C1"),
        ("9:1", "urn:x-biceps:9%3A1"),
        ("\ud800", "urn:x-biceps:%3F"),
        ("1.2.840", "urn:oid:1.2.840"),
        ("http://site.example/ids", "http://site.example/ids"),
        (" ", ""),
    ],
)
def test_a_root_is_told_as_an_absolute_uri(root, told):
    assert uri(root) == told
