from decimal import Decimal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdib_models.coding import CodedValue
from mdib_models.descriptors import MdsDescriptor
from mdib_models.states import (
    AlertSystemState,
    ClockState,
    LimitAlertConditionState,
    MdsState,
    NumericMetricState,
    NumericMetricValue,
    Quality,
    StringMetricState,
)
from sdc_node.sinks.fhir.identity import Names, device_of
from sdc_node.sinks.fhir.observation import Skipped, context, instant, observation


def rendered(monitor, mdib, handle, association=None, **fields):
    identities = device_of(mdib, "mds0", Names("http://site.example"))
    shared = context(mdib, identities, association or monitor.somebody)
    return observation(shared, monitor.sample(mdib, handle, **fields))


def codes(concept):
    return [one["code"] for one in concept["coding"]]


def test_a_heart_rate_is_a_vital_sign_with_its_digits(monitor, r4):
    found = rendered(monitor, monitor.mdib(), "m.hr")
    r4(found)
    assert found["meta"] == {
        "source": "urn:uuid:e0000000-0000-4000-8000-000000000001#4",
        "profile": ["http://hl7.org/fhir/uv/pocd/StructureDefinition/NumericObservation"],
        "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "RELIABLE"}],
    }
    assert codes(found["code"]) == ["8867-4", "147842"]
    assert codes(found["category"][0]) == ["vital-signs"]
    assert str(found["valueQuantity"].pop("value")) == "72.50"
    assert found["valueQuantity"] == {"unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
    assert found["effectiveDateTime"] == "2025-11-22T10:00:00.125Z"
    assert found["issued"] == "2025-11-22T10:00:00.165Z"
    assert found["subject"]["identifier"]["value"] == "P-77"
    assert found["device"]["type"] == "DeviceMetric"
    assert found["device"]["identifier"]["value"].endswith("/m.hr")
    assert [str(found["referenceRange"][0][bound]["value"]) for bound in ("low", "high")] == ["50", "120"]


def test_without_a_patient_the_subject_is_the_mds_and_nothing_is_a_vital_sign(monitor, r4):
    found = rendered(monitor, monitor.mdib(), "m.hr", monitor.nobody)
    r4(found)
    assert found["subject"]["type"] == "Device"
    assert "category" not in found
    assert codes(found["code"]) == ["147842"]


def test_a_setting_is_the_devices_even_with_a_patient(monitor, r4):
    found = rendered(monitor, monitor.mdib(), "m.rate.set")
    r4(found)
    assert found["subject"]["type"] == "Device"
    assert found["category"][0]["coding"] == [
        {"system": "http://site.example/CodeSystem/obs-category", "code": "device-setting"}
    ]


def test_temperature_by_its_site_and_a_lone_systolic_claims_no_blood_pressure(monitor, r4):
    temperature = rendered(monitor, monitor.mdib(), "m.temp")
    r4(temperature)
    assert codes(temperature["code"]) == ["8328-7", "8310-5", "150344"]
    assert temperature["valueQuantity"]["code"] == "Cel"
    assert codes(temperature["bodySite"]) == ["460492"]
    systolic = rendered(monitor, monitor.mdib(), "m.sys")
    assert "category" not in systolic
    assert systolic["valueQuantity"]["code"] == "mm[Hg]"


def test_a_rate_in_a_unit_that_the_profile_forbids_is_no_vital_sign(monitor):
    odd = msgspec.structs.replace(monitor.mdib().descriptors["m.hr"], unit=CodedValue(code="264384"))
    assert "category" not in rendered(monitor, monitor.mdib(descriptors=(odd,)), "m.hr")


def test_what_a_ventilator_measures_is_no_spontaneous_vital_sign(monitor):
    ventilator = msgspec.structs.replace(monitor.mdib().descriptors["mds0"], type=CodedValue(code="70001"))
    assert "category" not in rendered(monitor, monitor.mdib(descriptors=(ventilator,)), "m.hr")


def test_an_enumeration_tells_what_its_word_means(monitor, r4):
    found = rendered(monitor, monitor.mdib(), "m.rhythm")
    r4(found)
    assert codes(found["valueCodeableConcept"]) == ["147232"]
    assert found["valueCodeableConcept"]["text"] == "sinus"
    state = monitor.words(type(monitor.mdib().states["m.rhythm"]), "m.rhythm", "odd")
    assert rendered(monitor, monitor.mdib(state), "m.rhythm")["valueString"] == "odd"
    assert rendered(monitor, monitor.mdib(), "m.note")["valueString"] == "all well"


@pytest.mark.parametrize("word", [None, "", " ", "\x01"])
def test_a_text_that_says_nothing_is_absent(monitor, r4, word):
    found = rendered(monitor, monitor.mdib(monitor.words(StringMetricState, "m.note", word)), "m.note")
    r4(found)
    assert codes(found["dataAbsentReason"]) == ["unknown"]


@pytest.mark.parametrize("validity", ["Vld", "Vldated", "Ong", "Qst", "Calib", "Inv", "Oflw", "Uflw", "NA"])
@pytest.mark.parametrize("value", ["5.10", None, "NaN"])
def test_every_validity_gives_a_legal_observation(monitor, r4, validity, value):
    found = rendered(monitor, monitor.mdib(monitor.numeric("m.hr", value, validity)), "m.hr")
    r4(found)
    assert ("valueQuantity" in found) == (value == "5.10" and validity not in {"Inv", "NA"})


def test_test_data_and_a_device_in_demo_mode_are_marked(monitor):
    value = NumericMetricValue(quality=Quality("Vld", "Demo"), determination_time=1, value=Decimal(1))
    tested = NumericMetricState(descriptor_handle="m.hr", metric_value=value)
    for mdib in (
        monitor.mdib(tested),
        monitor.mdib(MdsState(descriptor_handle="mds0", operating_mode="Dmo")),
    ):
        assert [one["code"] for one in rendered(monitor, mdib, "m.hr")["meta"]["security"]] == ["RELIABLE", "HTEST"]


UNSYNCED = [{"system": "http://site.example/CodeSystem/tag", "code": "clock-unsynced"}]


@pytest.mark.parametrize(
    ("clock", "tag"),
    [
        (ClockState(descriptor_handle="clock", remote_sync=True), None),
        (ClockState(descriptor_handle="clock", remote_sync=False), UNSYNCED),
        (ClockState(descriptor_handle="clock", remote_sync=True, activation_state="StndBy"), UNSYNCED),
    ],
    ids=["synchronised", "not synchronised", "stepped"],
)
@pytest.mark.parametrize("handle", ["m.hr", "m.sys", "m.rate.set"])
def test_a_clock_that_is_known_to_be_wrong_leaves_a_mark_and_the_time_stays(monitor, r4, clock, tag, handle):
    found = rendered(monitor, monitor.mdib(clock), handle)
    r4(found)
    assert found["meta"].get("tag") == tag
    assert found["effectiveDateTime"] == "2025-11-22T10:00:00.125Z"


def test_a_clock_of_which_nothing_is_known_leaves_no_mark(monitor):
    mdib = monitor.mdib()
    states = {handle: state for handle, state in mdib.states.items() if handle != "clock"}
    for mute in (monitor.without(mdib, "clock"), msgspec.structs.replace(mdib, states=states)):
        assert "tag" not in rendered(monitor, mute, "m.spo2")["meta"]


@pytest.mark.parametrize(
    ("handle", "age", "marked"),
    [
        ("m.spo2", 10_000, False),
        ("m.spo2", 10_001, True),
        ("m.spo2", -10_000, False),
        ("m.spo2", -10_001, True),
        ("m.hr", 11_000, False),  # determined every second
        ("m.hr", 11_001, True),
        ("m.hr", -10_001, True),
        ("m.sys", 3_600_000, False),  # a cuff's value may be an hour old
    ],
)
def test_a_continuous_value_of_another_time_than_its_arrival_is_marked(monitor, handle, age, marked):
    found = rendered(monitor, monitor.mdib(), handle, arrived=monitor.t0 + age)
    assert found["meta"].get("tag") == (UNSYNCED if marked else None)
    assert found["effectiveDateTime"] == "2025-11-22T10:00:00.125Z"


@pytest.mark.parametrize(("period", "marked"), [(float("nan"), True), (float("inf"), False), (-60.0, True)])
def test_an_impossible_period_does_no_harm(monitor, period, marked):
    odd = msgspec.structs.replace(monitor.mdib().descriptors["m.hr"], determination_period=period)
    found = rendered(monitor, monitor.mdib(descriptors=(odd,)), "m.hr", arrived=monitor.t0 + 10_001)
    assert ("tag" in found["meta"]) == marked


def test_an_alarm_on_a_value_is_an_interpretation(monitor, r4):
    limits = monitor.mdib().states["ac.spo2.lo"].limits
    present = LimitAlertConditionState(
        descriptor_handle="ac.spo2.lo", activation_state="On", presence=True, limits=limits
    )
    found = rendered(monitor, monitor.mdib(present), "m.spo2")
    r4(found)
    assert [codes(one) for one in found["interpretation"]] == [["in-alarm"]]
    off = AlertSystemState(descriptor_handle="asy", activation_state="Off")
    found = rendered(monitor, monitor.mdib(off), "m.spo2")
    assert [codes(one) for one in found["interpretation"]] == [["alarm-inhibited"]]
    absent = monitor.numeric("m.spo2", None)
    assert "interpretation" not in rendered(monitor, monitor.mdib(present, absent), "m.spo2")


def test_averaged_values_have_a_period_and_others_an_instant(monitor, r4):
    def with_times(averaging, determined, start, stop):
        odd = msgspec.structs.replace(monitor.mdib().descriptors["m.hr"], averaging_period=averaging)
        value = NumericMetricValue(
            quality=Quality("Vld"), determination_time=determined, start_time=start, stop_time=stop, value=Decimal(1)
        )
        state = NumericMetricState(descriptor_handle="m.hr", metric_value=value)
        return rendered(monitor, monitor.mdib(state, descriptors=(odd,)), "m.hr")

    averaged = with_times(10.0, 2000, 0, 1000)
    r4(averaged)
    assert averaged["effectivePeriod"] == {"start": "1970-01-01T00:00:00.000Z", "end": "1970-01-01T00:00:01.000Z"}
    assert "effectivePeriod" in with_times(None, None, 0, 1000)
    assert "effectiveDateTime" in with_times(None, 2000, 0, 1000)
    assert "effectiveDateTime" in with_times(10.0, 2000, 1000, 0)


def test_each_sample_that_gives_nothing_says_why(monitor):
    mdib = monitor.mdib()
    cases = {
        "not-a-metric": (monitor.without(mdib, "m.hr"), "m.hr", {}),
        "no-value-yet": (monitor.mdib(NumericMetricState(descriptor_handle="m.hr")), "m.hr", {}),
        "time-out-of-range": (mdib, "m.hr", {"time": 10**18}),
    }
    odd = msgspec.structs.replace(mdib.descriptors["m.hr"], type=CodedValue(code="MDC_HR"))
    cases["no-code"] = (monitor.mdib(descriptors=(odd,)), "m.hr", {})
    for category in ("Preset", "Rcmm"):
        prepared = msgspec.structs.replace(mdib.descriptors["m.rate.set"], metric_category=category)
        with pytest.raises(Skipped, match="not-in-force"):
            rendered(monitor, monitor.mdib(descriptors=(prepared,)), "m.rate.set")
    for reason, (mirror, handle, fields) in cases.items():
        with pytest.raises(Skipped) as skipped:
            rendered(monitor, mirror, handle, **fields)
        assert skipped.value.reason == reason


def test_the_identifier_is_the_same_only_for_the_same_value(monitor):
    def identifier(mdib, **fields):
        return rendered(monitor, mdib, "m.hr", **fields)["identifier"][0]["value"]

    base = monitor.mdib()
    assert identifier(base) == identifier(monitor.mdib(version=9), arrived=5)  # sent again later: the same
    newer = msgspec.structs.replace(base.states["m.hr"], state_version=8)
    sequence = msgspec.structs.replace(base.version, sequence_id="urn:uuid:other")
    instance = msgspec.structs.replace(base.version, instance_id=0)
    others = [
        identifier(monitor.mdib(newer)),
        identifier(monitor.mdib(device="urn:uuid:e0000000-0000-4000-8000-000000000002")),
        identifier(msgspec.structs.replace(base, version=sequence)),
        identifier(msgspec.structs.replace(base, version=instance)),
        identifier(monitor.mdib(monitor.numeric("m.hr", "72.50", time=monitor.t0 + 1))),
        rendered(monitor, base, "m.spo2")["identifier"][0]["value"],
    ]
    assert len({identifier(base), *others}) == 7


def test_two_devices_that_share_a_serial_number_do_not_share_observations(monitor):
    def bare(epr):
        mdib = monitor.mdib(device=epr)
        return msgspec.structs.replace(mdib, descriptors={**mdib.descriptors, "mds0": MdsDescriptor(handle="mds0")})

    first, second = bare("urn:uuid:a"), bare("urn:uuid:b")
    for part in ("identifier", "device"):
        assert rendered(monitor, first, "m.hr")[part] != rendered(monitor, second, "m.hr")[part]


@given(ms=st.integers(min_value=-(10**13), max_value=2 * 10**14))
def test_instants_have_milliseconds_and_a_zone(ms):
    text = instant(ms)
    assert len(text) == 24
    assert text.endswith(f".{ms % 1000:03d}Z")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(value=st.decimals(allow_nan=False, allow_infinity=False))
def test_a_decimal_keeps_its_digits(monitor, value):
    state = NumericMetricState(
        descriptor_handle="m.hr",
        metric_value=NumericMetricValue(quality=Quality("Vld"), determination_time=1, value=value),
    )
    quantity = rendered(monitor, monitor.mdib(state), "m.hr")["valueQuantity"]
    body = msgspec.json.Encoder(decimal_format="number").encode(quantity["value"])
    assert Decimal(body.decode()).as_tuple() == value.as_tuple()
