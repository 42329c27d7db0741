import pytest

from sdc_node.receivers.fhir_rules import BICEPS_MDC, LOINC, MDC, POCD, UCUM, VITAL_UNITS, check

CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"


def found(resource):
    return {issue.expression for issue in check(resource)}


def coded(code, system=LOINC):
    return {"coding": [{"system": system, "code": code}]}


def test_good_resources_pass(good):
    for resource in (good.device, good.metric, good.observation):
        assert check(resource) == ()


@pytest.mark.parametrize(
    ("changes", "expression"),
    [
        ({"dataAbsentReason": {"text": "x"}}, "Observation"),  # obs-6
        ({"valueQuantity": None}, "Observation"),  # pocd-obs-1
        ({"identifier": None}, "Observation.identifier"),
        ({"identifier__0__system": None}, "Observation.identifier[0]"),
        ({"subject": None}, "Observation.subject"),
        ({"device": None}, "Observation.device"),
        ({"effectiveDateTime": None}, "Observation.effective[x]"),
        ({"effectiveDateTime": "2026-11-22"}, "Observation.effective[x]"),
        ({"effectiveDateTime": None, "effectiveInstant": "2026-11-22T10:00:00Z"}, "Observation.effective[x]"),
        (
            {"effectiveDateTime": None, "effectivePeriod": {"end": "2026-11-22T10:00:00Z"}},
            "Observation.effective[x].start",
        ),
        ({"valueQuantity__system": "urn:x"}, "Observation.valueQuantity.system"),
        ({"valueQuantity__code": None}, "Observation.valueQuantity.code"),
        ({"valueQuantity__value": None}, "Observation.valueQuantity.value"),
        ({"valueQuantity__code": "{beats}/min"}, "Observation.valueQuantity.code"),
        ({"code": {"text": "HR"}}, "Observation.code.coding"),
        ({"code__coding__1__system": BICEPS_MDC}, "Observation.code.coding[1].system"),
        ({"code__coding__1__code": "MDC_ECG_HEART_RATE"}, "Observation.code.coding[1].code"),
        ({"code__coding": [{"system": MDC, "code": "147842"}]}, "Observation.code"),
        ({"subject": {"type": "Device", "identifier": {"value": "1"}}}, "Observation.subject"),
        ({"modifierExtension": [{"url": "urn:x", "valueCode": "a"}]}, "Observation.modifierExtension"),
        ({"implicitRules": "urn:x"}, "Observation.implicitRules"),
        ({"referenceRange": [{"low": {"system": UCUM, "code": "/min"}}]}, "Observation.referenceRange[0].low.value"),
    ],
)
def test_a_spoilt_observation_is_told_where(good, changes, expression):
    assert expression in found(good.spoilt(good.observation, **changes))


@pytest.mark.parametrize("name", ["identifier", "source", "parent"])
def test_a_metric_needs_what_pocd_asks(good, name):
    assert f"DeviceMetric.{name}" in found(good.spoilt(good.metric, **{name: None}))


def test_an_enumeration_has_no_unit(good):
    odd = good.spoilt(good.metric, meta={"profile": [POCD + "EnumerationDeviceMetric"]})
    assert found(odd) == {"DeviceMetric.unit"}


def test_a_device_needs_an_identifier_or_a_udi_carrier_and_a_type(good):
    assert found(good.spoilt(good.device, identifier=None)) == {"Device"}
    assert found(good.spoilt(good.device, identifier=None, udiCarrier=[{"carrierHRF": "x"}])) == set()
    assert found(good.spoilt(good.device, type=None)) == {"Device.type"}


@pytest.mark.parametrize("profile", ["VmdDevice", "ChannelDevice"])
def test_vmd_and_channel_have_a_parent_and_neither_patient_nor_place(good, profile):
    odd = good.spoilt(
        good.device,
        meta={"profile": [POCD + profile, "urn:other"]},
        patient={"reference": "Patient/1"},
        location={"reference": "Location/1"},
    )
    assert found(odd) == {"Device.parent", "Device.patient", "Device.location"}


@pytest.mark.parametrize("loinc", sorted(VITAL_UNITS))
def test_each_vital_sign_has_its_units(good, loinc):
    for unit in VITAL_UNITS[loinc]:
        fine = good.spoilt(good.observation, code=coded(loinc), valueQuantity__code=unit)
        assert found(fine) == set()
    assert found(good.spoilt(good.observation, code=coded(loinc), valueQuantity__code="kPa")) == {
        "Observation.valueQuantity.code"
    }


def pressure(good, *loincs, unit="mm[Hg]"):
    components = [
        {"code": coded(code), "valueQuantity": {"value": 120, "system": UCUM, "code": unit}} for code in loincs
    ]
    return good.spoilt(good.observation, code=coded("85354-9"), valueQuantity=None, component=components)


def test_a_blood_pressure_has_both_components_in_mmhg(good):
    assert found(pressure(good, "8480-6", "8462-4", "8478-0")) == set()
    assert found(pressure(good, "8480-6")) == {"Observation.component"}
    assert found(pressure(good, "8480-6", "8462-4", unit="kPa")) == {"Observation.component"}
    absent = pressure(good, "8480-6", "8462-4")
    absent["component"][1] = {"code": coded("8462-4"), "dataAbsentReason": coded("unknown", "urn:x")}
    assert found(absent) == set()


def test_components_follow_the_rules_of_values_too(good):
    odd = pressure(good, "8480-6", "8462-4")
    del odd["component"][0]["valueQuantity"]
    assert found(odd) == {"Observation.component[0]"}
    same = good.spoilt(good.observation, component=[{"code": coded("8867-4"), "valueString": "x"}])
    assert found(same) == {"Observation.component[0]"}  # obs-7


def test_ratios_and_samples_are_in_ucum_too(good):
    plain = good.spoilt(good.observation, category=None, valueQuantity=None)
    ratio = plain | {"valueRatio": {"numerator": {"value": 1, "system": "urn:x", "code": "a"}, "id": "r"}}
    assert found(ratio) == {"Observation.valueRatio.numerator.system"}
    samples = {"origin": {"value": 0, "system": "urn:x", "code": "a"}, "period": 4, "dimensions": 1, "data": "1 2"}
    assert found(plain | {"valueSampledData": samples}) == {"Observation.valueSampledData.origin.system"}


def test_no_issue_repeats_what_the_resource_says(good):
    odd = good.spoilt(good.observation, effectiveDateTime=None, valueQuantity__code="SECRET")
    assert check(odd)
    assert "SECRET" not in repr(check(odd))
