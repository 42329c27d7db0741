import contextlib
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdc_node.receivers.fhir_checks import (
    MAX_ISSUES,
    Malformed,
    check_elements,
    is_primitive,
    parse,
    target_type,
)


def expressions(resource):
    return [issue.expression for issue in check_elements(resource)]


def codes(resource):
    return {issue.code for issue in check_elements(resource)}


def test_numbers_keep_their_digits():
    found = parse(b'{"a": 72.50, "b": [1E+2, 7], "c": -0.0}')
    assert [str(found["a"]), str(found["b"][0]), found["b"][1], str(found["c"])] == ["72.50", "1E+2", 7, "-0.0"]


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=4))
def test_any_decimal_keeps_its_digits(value):
    assert parse(b'{"a": %b}' % str(value).encode())["a"] == value


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"{", "line 1, column 2"),
        (b"[]", "not a JSON object"),
        (b'"x"', "not a JSON object"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": "\\ud800"}', "not UTF-8"),
        (b'{"a": ' * 100_000, "deep"),
        (b'{"a": 1e999999999}', "too many digits"),
        (b'{"a": 1e99999999999999999999}', "too many digits"),
        (b'{"a": %b}' % (b"9" * 5000), "too many digits"),
        (b'{"a": 0.%b}' % (b"9" * 50), "too many digits"),
    ],
)
def test_bodies_that_are_no_json_object_as_fhir_wants_it(body, says):
    with pytest.raises(Malformed, match=says):
        parse(body)


@given(st.binary(max_size=60))
def test_no_bytes_break_the_parser(body):
    with contextlib.suppress(Malformed):
        assert isinstance(parse(body), dict)


def test_good_resources_have_no_issue(good):
    for resource in (good.device, good.metric, good.observation):
        assert check_elements(resource) == ()


@pytest.mark.parametrize("kind", [None, 5, "Patient", "Bundle", "device"])
def test_other_resource_types_are_told(good, kind):
    (issue,) = check_elements({"resourceType": kind} if kind else {})
    assert issue.expression == "resourceType"


@pytest.mark.parametrize(
    ("changes", "expression"),
    [
        ({"status": "bogus"}, "Observation.status"),
        ({"status": 5}, "Observation.status"),
        ({"status": None}, "Observation.status"),
        ({"code": None}, "Observation.code"),
        ({"code": []}, "Observation.code"),
        ({"code": {}}, "Observation.code"),
        ({"category": {}}, "Observation.category"),
        ({"category": []}, "Observation.category"),
        ({"identifier__0__use": "mine"}, "Observation.identifier[0].use"),
        ({"effectiveDateTime": "2026-11-22T10:00:00"}, "Observation.effectiveDateTime"),
        ({"effectiveDateTime": "2026-13-22"}, "Observation.effectiveDateTime"),
        ({"issued": "2026-11-22"}, "Observation.issued"),
        ({"effectivePeriod": {"start": "2026-11-22"}}, "Observation.effective[x]"),
        ({"valueString": "x"}, "Observation.value[x]"),
        ({"valueQuantity__value": "72"}, "Observation.valueQuantity.value"),
        ({"valueQuantity__value": True}, "Observation.valueQuantity.value"),
        ({"valueQuantity__comparator": "~"}, "Observation.valueQuantity.comparator"),
        ({"valueQuantity__system": None}, "Observation.valueQuantity"),
        ({"valueQuantity__unit": " "}, "Observation.valueQuantity.unit"),
        ({"subject": {"type": "Practitioner", "display": "x"}}, "Observation.subject"),
        ({"subject": {"reference": "Practitioner/1"}}, "Observation.subject"),
        ({"subject": {"reference": "nonsense"}}, "Observation.subject.reference"),
        ({"subject": {"type": "Patient"}}, "Observation.subject"),
        ({"subject": {"reference": "Device/1", "type": "Patient"}}, "Observation.subject.type"),
        ({"subject": {"identifier": {"value": "1"}}}, "Observation.subject.type"),
        ({"subject": {"type": "Patient", "identifier": {"system": "urn:x"}}}, "Observation.subject.identifier"),
        ({"extension": [{"url": "urn:x"}]}, "Observation.extension[0]"),
        ({"extension": [{"url": "urn:x", "valueCode": "a", "extension": []}]}, "Observation.extension[0].extension"),
        ({"referenceRange": [{"age": {}}]}, "Observation.referenceRange[0].age"),
        ({"_status": 5}, "Observation.status"),
        ({"_status": {"surprise": 1}}, "Observation.status"),
        ({"_code": {"id": "a"}}, "Observation"),
        ({"contained": [{}]}, "Observation.contained[0]"),
        ({"encounters": 5}, "Observation"),
        ({"valueQuantity__value": None, "valueQuantity__values": 5}, "Observation.valueQuantity"),
    ],
)
def test_a_spoilt_observation_is_told_where(good, changes, expression):
    assert expression in expressions(good.spoilt(good.observation, **changes))


@pytest.mark.parametrize(
    ("changes", "expression"),
    [
        ({"category": "nonsense"}, "DeviceMetric.category"),
        ({"operationalStatus": "maybe"}, "DeviceMetric.operationalStatus"),
        ({"color": "pink"}, "DeviceMetric.color"),
        ({"calibration": [{"state": "fresh"}]}, "DeviceMetric.calibration[0].state"),
        ({"source": {"reference": "Patient/1"}}, "DeviceMetric.source"),
        ({"measurementPeriod__repeat__durationUnit": None}, "DeviceMetric.measurementPeriod.repeat"),
        ({"measurementPeriod__repeat__duration": -1}, "DeviceMetric.measurementPeriod.repeat"),
        ({"type": None}, "DeviceMetric.type"),
    ],
)
def test_a_spoilt_metric_is_told_where(good, changes, expression):
    assert expression in expressions(good.spoilt(good.metric, **changes))


@pytest.mark.parametrize(
    ("changes", "expression"),
    [
        ({"status": "on"}, "Device.status"),
        ({"deviceName": [{"name": "x", "type": "nick"}]}, "Device.deviceName[0].type"),
        ({"deviceName": [{"name": "x"}]}, "Device.deviceName[0].type"),
        ({"udiCarrier": [{"entryType": "guess"}]}, "Device.udiCarrier[0].entryType"),
        ({"manufactureDate": "2024-05-06Z"}, "Device.manufactureDate"),
    ],
)
def test_a_spoilt_device_is_told_where(good, changes, expression):
    assert expression in expressions(good.spoilt(good.device, **changes))


def test_a_period_that_ends_before_it_starts_is_told(good):
    period = {"start": "2026-11-22T10:00:00Z", "end": "2026-11-22T09:00:00Z"}
    odd = good.spoilt(good.observation, effectiveDateTime=None, effectivePeriod=period)
    assert "invariant" in codes(odd)
    period["end"] = "2026-11-22T10:00:00+02:00"  # another zone: not compared as text
    assert check_elements(odd) == ()


def test_a_reference_range_needs_something_to_say(good):
    odd = good.spoilt(good.observation, referenceRange=[{"type": {"text": "normal"}}])
    assert codes(odd) == {"invariant"}


def test_primitive_extensions_stand_beside_or_for_a_value(good):
    beside = {"extension": [{"url": "urn:x", "valueCode": "a"}]}
    assert check_elements(good.spoilt(good.observation, _status=beside)) == ()
    instead = good.spoilt(good.observation, status=None, _status=beside)
    assert check_elements(instead) == ()
    assert check_elements(good.spoilt(good.observation, meta={"profile": ["urn:x"], "_profile": [None]})) == ()


def test_issues_are_bounded_in_number_and_depth(good):
    many = good.spoilt(good.observation, identifier=[{"use": "mine"}] * 50)
    assert len(check_elements(many)) == MAX_ISSUES
    deep = {"url": "urn:x", "valueCode": "a"}
    for _ in range(60):
        deep = {"url": "urn:x", "extension": [deep]}
    assert any("deeply" in issue.text for issue in check_elements(good.spoilt(good.device, extension=[deep])))


def test_no_issue_repeats_what_the_resource_says(good):
    odd = good.spoilt(
        good.observation,
        status="SECRET",
        SECRET="SECRET",
        valueQuantity={"value": "SECRET", "SECRET": 1},
        subject={"reference": "SECRET"},
    )
    assert "SECRET" not in repr(check_elements(odd))
    assert "'encounter'" in repr(check_elements(good.spoilt(good.device, encounter={})))  # a name R4 knows elsewhere


@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [
        ("boolean", True, True),
        ("boolean", 1, False),
        ("decimal", Decimal("1.0"), True),
        ("decimal", True, False),
        ("integer", -5, True),
        ("integer", Decimal("1.0"), False),
        ("unsignedInt", -1, False),
        ("positiveInt", 0, False),
        ("positiveInt", 2**31, False),
        ("string", "a\nb", True),
        ("string", "\x00", False),
        ("string", "  ", False),
        ("string", 5, False),
        ("code", "a b", True),
        ("code", " a", False),
        ("uri", "a b", False),
        ("id", "x" * 65, False),
        ("instant", "2026-11-22T10:00:00.1+02:00", True),
        ("instant", "2026-11-22T10:00:00", False),
        ("dateTime", "2026", True),
        ("dateTime", "2026-11-22T10:00Z", False),
        ("date", "2026-11", True),
        ("time", "25:00:00", False),
        ("oid", "urn:oid:1.2", True),
        ("uuid", "urn:uuid:x", False),
    ],
)
def test_primitives(kind, value, fits):
    assert is_primitive(value, kind) is fits


def test_a_reference_names_its_type_by_its_literal_first():
    assert target_type({"reference": "http://h/fhir/Device/1/_history/2"}) == "Device"
    assert target_type({"reference": "urn:uuid:1", "type": "Patient"}) == "Patient"
    assert target_type({"display": "x"}) is None


def test_a_long_text_with_a_bad_character_is_judged_in_no_time(good):
    odd = good.spoilt(good.observation, note=[{"text": " " * 900_000 + "\x01"}])
    assert codes(json.loads(json.dumps(odd))) == {"value"}
