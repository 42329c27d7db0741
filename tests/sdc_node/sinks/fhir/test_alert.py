from decimal import Decimal
from typing import get_args

import msgspec

from mdib_models.alerts import AlertKey, AlertOccurrence, take_snapshot
from mdib_models.descriptors import MdsDescriptor, VmdDescriptor
from mdib_models.states import AlertSignalState, LimitAlertConditionState, MdsState, Validity
from sdc_node.sinks.fhir.alert import alert_observation
from sdc_node.sinks.fhir.identity import Names, device_of


def condition(monitor, presence, time):
    limits = monitor.mdib().states["ac.spo2.lo"].limits
    return LimitAlertConditionState(
        descriptor_handle="ac.spo2.lo",
        activation_state="On",
        presence=presence,
        limits=limits,
        determination_time=time,
    )


def occurrence(monitor, mdib, phase, time, **fields):
    key = AlertKey(mdib.device, "mds0", "ac.spo2.lo")
    made = AlertOccurrence(
        id="ac.spo2.lo.5.7",
        key=key,
        phase=phase,
        number=0,
        time=time,
        onset=monitor.t0,
        snapshot=take_snapshot(mdib, "ac.spo2.lo"),
        association=monitor.somebody,
        captured=mdib.states["m.spo2"],
    )
    return msgspec.structs.replace(made, **fields)


def rendered(monitor, mdib, told):
    identities = device_of(mdib, "mds0", Names("http://site.example"))
    return alert_observation(mdib, identities, told, monitor.t0 + 50)


def components(found):
    told = {}
    for one in found["component"]:
        value = one.get("valueQuantity") or [coding["code"] for coding in one["valueCodeableConcept"]["coding"]]
        told.setdefault(one["code"]["coding"][0]["code"], []).append(value)
    return told


def test_a_present_alert_is_preliminary_and_open(monitor, r4):
    signal = AlertSignalState(descriptor_handle="as.spo2.aud", activation_state="On", presence="On")
    mdib = monitor.mdib(condition(monitor, True, monitor.t0), signal)
    found = rendered(monitor, mdib, occurrence(monitor, mdib, "start", monitor.t0))
    r4(found)
    assert found["status"] == "preliminary"
    assert found["code"]["coding"][0]["code"] == "196672"
    assert found["effectivePeriod"] == {"start": "2025-11-22T10:00:00.125Z"}
    assert found["valueCodeableConcept"]["coding"][0]["code"] == "present"
    assert found["subject"]["type"] == "Patient"
    assert [one["type"] for one in found["focus"]] == ["DeviceMetric", "Device"]
    assert found["device"]["identifier"]["value"].endswith("/m.spo2")
    assert found["meta"]["tag"] == [{"system": "http://site.example/CodeSystem/tag", "code": "device-alert"}]
    told = components(found)
    assert (told["priority"], told["kind"], told["phase"]) == ([["Me"]], [["Phy"]], [["start"]])
    assert [str(told[name][0]["value"]) for name in ("limit-low", "limit-high", "value")] == ["90", "100.0", "88"]
    assert told["value"][0]["code"] == "%"
    assert told["signal"] == [["Aud", "On", "On"]]


def test_an_ended_alert_is_final_and_ends_when_presence_did(monitor, r4):
    mdib = monitor.mdib(condition(monitor, False, monitor.t0 + 5000))
    found = rendered(monitor, mdib, occurrence(monitor, mdib, "end", monitor.t0 + 5000))
    r4(found)
    assert found["status"] == "final"
    assert found["effectivePeriod"]["end"] == "2025-11-22T10:00:05.125Z"
    assert found["valueCodeableConcept"]["coding"][0]["code"] == "ended"


def test_a_latched_alert_is_over_but_not_final_and_its_reset_keeps_the_end(monitor, r4):
    signal = AlertSignalState(descriptor_handle="as.spo2.aud", activation_state="On", presence="Latch")
    mdib = monitor.mdib(condition(monitor, False, monitor.t0 + 5000), signal)
    latched = rendered(monitor, mdib, occurrence(monitor, mdib, "update", monitor.t0 + 5000))
    r4(latched)
    assert latched["status"] == "preliminary"
    assert latched["valueCodeableConcept"]["coding"][0]["code"] == "latched"
    quiet = monitor.mdib(condition(monitor, False, monitor.t0 + 5000))
    reset = rendered(monitor, quiet, occurrence(monitor, quiet, "reset", monitor.t0 + 9000))
    assert reset["status"] == "final"
    assert reset["effectivePeriod"] == latched["effectivePeriod"]
    assert reset["identifier"] == latched["identifier"]


def test_an_end_before_the_onset_is_told_as_the_onset(monitor):
    mdib = monitor.mdib(condition(monitor, False, None))
    found = rendered(monitor, mdib, occurrence(monitor, mdib, "end", monitor.t0 - 10))
    assert found["effectivePeriod"]["end"] == found["effectivePeriod"]["start"]


def test_a_condition_that_is_gone_is_still_told_from_its_snapshot(monitor, r4):
    mdib = monitor.mdib(condition(monitor, True, monitor.t0))
    told = occurrence(monitor, mdib, "end", monitor.t0 + 1, association=monitor.nobody)
    gone = monitor.without(mdib, "ac.spo2.lo", "as.spo2.aud", "m.spo2", "vmd")
    found = rendered(monitor, gone, told)
    r4(found)
    assert found["subject"]["type"] == found["device"]["type"] == "Device"
    assert "focus" not in found
    uncoded = msgspec.structs.replace(told, snapshot=msgspec.structs.replace(told.snapshot, code=None, limits=None))
    found = rendered(monitor, gone, uncoded)
    assert found["code"]["coding"][0]["code"] == "196616"
    assert not components(found).keys() & {"limit-low", "limit-high", "value", "signal"}


def test_only_a_valid_value_is_a_component_for_it_could_not_be_marked(monitor, r4):
    for validity in get_args(Validity):
        mdib = monitor.mdib(condition(monitor, True, monitor.t0), monitor.numeric("m.spo2", "88", validity))
        found = rendered(monitor, mdib, occurrence(monitor, mdib, "start", monitor.t0))
        r4(found)
        assert ("value" in components(found)) == (validity in {"Vld", "Vldated"}), validity
    for state in (None, monitor.numeric("m.spo2", None), monitor.numeric("m.spo2", "NaN"), mdib.states["m.note"]):
        told = occurrence(monitor, mdib, "start", monitor.t0, captured=state)
        assert "value" not in components(rendered(monitor, mdib, told))


def test_r8066_value_and_patient_are_those_of_the_moment_and_not_of_the_mirror(monitor):
    mdib = monitor.mdib(condition(monitor, True, monitor.t0))
    told = occurrence(monitor, mdib, "start", monitor.t0)
    later = monitor.mdib(condition(monitor, True, monitor.t0), monitor.numeric("m.spo2", "97"))
    assert rendered(monitor, later, told) == rendered(monitor, mdib, told)
    nobody = msgspec.structs.replace(told, association=monitor.nobody)
    assert rendered(monitor, later, nobody)["subject"]["type"] == "Device"


def test_a_source_in_another_mds_is_neither_focus_nor_device(monitor):
    other = (MdsDescriptor(handle="mds1"), VmdDescriptor(handle="vmd1", parent="mds1"))
    mdib = monitor.mdib(condition(monitor, True, monitor.t0), descriptors=other)
    told = occurrence(monitor, mdib, "start", monitor.t0)
    sources = msgspec.structs.replace(told.snapshot, source=("vmd1", "vmd"))
    found = rendered(monitor, mdib, msgspec.structs.replace(told, snapshot=sources))
    assert [one["identifier"]["value"].rpartition("/")[2] for one in found["focus"]] == ["vmd"]


def test_an_alert_of_a_device_in_demo_mode_is_marked(monitor):
    demo = MdsState(descriptor_handle="mds0", operating_mode="Dmo")
    mdib = monitor.mdib(demo, condition(monitor, True, monitor.t0))
    found = rendered(monitor, mdib, occurrence(monitor, mdib, "start", monitor.t0))
    assert found["meta"]["security"][0]["code"] == "HTEST"


def test_limits_keep_their_digits(monitor):
    mdib = monitor.mdib(condition(monitor, True, monitor.t0))
    found = rendered(monitor, mdib, occurrence(monitor, mdib, "start", monitor.t0))
    high = components(found)["limit-high"][0]["value"]
    assert isinstance(high, Decimal)
    assert str(high) == "100.0"
