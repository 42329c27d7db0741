import uuid
from decimal import Decimal

import pytest
from lxml import etree

from providers.alarm_panel import AlarmPanel
from providers.device_mdib import DeviceMdib, endpoint
from providers.profile import Profile, Reading, Waveform, load
from providers.signals import Influence

NOW = 1_700_000_000.0


def of(name: str, index: int = 0) -> DeviceMdib:
    return DeviceMdib(load(name), endpoint(name, index, 0))


def identifiers(mdib: DeviceMdib) -> set[str]:
    return {e.text for d in mdib.library.descriptions.objects for e in d.Extension}


def state(mdib: DeviceMdib, handle: str):
    return mdib.library.states.descriptor_handle.get_one(handle)


def test_an_endpoint_is_stable_and_distinct():
    assert endpoint("pump", 0, 0) == endpoint("pump", 0, 0)
    assert len({endpoint(*key) for key in (("pump", 0, 0), ("pump", 1, 0), ("pump", 0, 1), ("vent", 0, 0))}) == 4


def test_r0014_equipment_identifiers_survive_a_restart_and_differ_between_instances():
    first, again, other = of("monitor"), of("monitor"), of("monitor", 1)
    assert len(identifiers(first)) == 2
    assert all(uuid.UUID(identifier).version == 5 for identifier in identifiers(first))
    assert identifiers(first) == identifiers(again)
    assert not identifiers(first) & identifiers(other)
    assert first.library.sequence_id != again.library.sequence_id
    serials = {m.library.descriptions.handle.get_one("mds0").MetaData.SerialNumber[0] for m in (first, again, other)}
    assert len(serials) == 2


def test_a_passive_profile_keeps_its_identifiers(tmp_path):
    path = tmp_path / "x.xml"
    path.write_bytes(load("monitor").mdib)
    assert identifiers(DeviceMdib(load(path), endpoint("x", 0, 0))) == {"urn:uuid:" + str(uuid.UUID(int=0))}


def test_operations_are_disabled_because_nobody_answers_them():
    mdib = of("pump")
    modes = {s.OperatingMode.value for s in mdib.library.states.objects if s.is_operational_state}
    assert modes == {"Dis"}


def test_values_are_whole_resolutions_within_the_technical_range():
    mdib = of("monitor")
    values = {}
    for value in (36.849, 99.0, -3.0):
        mdib.write_readings([Reading(handle="m.temp", value=lambda *_, v=value: v)], NOW, 0, {})
        values[value] = state(mdib, "m.temp").MetricValue.Value
    assert values == {36.849: Decimal("36.8"), 99.0: Decimal(50), -3.0: Decimal(0)}
    assert state(mdib, "m.temp").MetricValue.DeterminationTime == NOW


def test_what_cannot_be_determined_has_no_value_and_is_invalid():
    mdib = of("monitor")
    mdib.write_readings([Reading(handle="m.hr", value=lambda *_: None)], NOW, 0, {})
    value = state(mdib, "m.hr").MetricValue
    assert value.Value is None
    assert value.MetricQuality.Validity.value == "Inv"


def test_settings_get_the_time_of_the_start():
    mdib = of("ventilator")
    mdib.stamp_settings(NOW)
    value = state(mdib, "m.peep.set").MetricValue
    assert (value.Value, value.DeterminationTime) == (Decimal(6), NOW)
    assert state(mdib, "m.peep").MetricValue is None


def test_samples_join_without_gap_or_overlap():
    mdib = of("monitor")
    seen: list[int] = []
    wave = Waveform(handle="m.ecg.ii", sample=lambda t, *_: seen.append(round(t / 0.004)) or 0.0)
    for step in range(30):
        mdib.write_samples([wave], NOW + 0.2 * step, 0, {})
    assert seen == list(range(seen[0], seen[0] + len(seen)))
    assert len(seen) == pytest.approx(29 * 50 + 1, abs=1)


def test_after_a_long_stall_only_the_last_second_is_reported():
    mdib = of("monitor")
    wave = Waveform(handle="m.ecg.ii", sample=lambda *_: 0.5)
    mdib.write_samples([wave], NOW, 0, {})
    assert mdib.write_samples([wave], NOW + 3600, 0, {}) == 250
    value = state(mdib, "m.ecg.ii").MetricValue
    assert value.DeterminationTime == pytest.approx(NOW + 3600 - 249 * 0.004, abs=0.001)


def test_lost_samples_are_invalid_and_absent():
    mdib = of("monitor")
    wave = Waveform(handle="m.ecg.ii", sample=lambda *_: 0.5, lost_by="lead_off")
    assert mdib.write_samples([wave], NOW, 0, {"lead_off": Influence(since=NOW - 1)}) == 0
    assert state(mdib, "m.ecg.ii").MetricValue.MetricQuality.Validity.value == "Inv"
    assert mdib.write_samples([wave], NOW + 0.2, 0, {}) == 50
    assert state(mdib, "m.ecg.ii").MetricValue.MetricQuality.Validity.value == "Vld"


@pytest.mark.parametrize(
    ("value", "low", "high"), [(89, True, False), (90, False, False), (130, False, False), (None, False, False)]
)
def test_a_limit_condition_follows_its_metric(value: float | None, low: bool, high: bool):
    mdib = of("monitor")
    mdib.write_readings(
        [Reading(handle="m.spo2", value=lambda *_: value), Reading(handle="m.hr", value=lambda *_: value)],
        NOW, 0, {},
    )  # fmt: skip
    beyond = mdib.beyond_limits()
    assert (beyond["ac.spo2.lo"], beyond["ac.hr.hi"]) == (low, high)


def test_an_upper_limit_is_exceeded_above_it_only():
    mdib = of("monitor")
    for value, beyond in ((130, False), (131, True)):
        mdib.write_readings([Reading(handle="m.hr", value=lambda *_, v=value: v)], NOW, 0, {})
        assert mdib.beyond_limits()["ac.hr.hi"] is beyond


def test_limits_that_are_switched_off_raise_nothing():
    mdib = of("monitor")
    mdib.write_readings([Reading(handle="m.spo2", value=lambda *_: 50.0)], NOW, 0, {})
    limits = state(mdib, "ac.spo2.lo")
    for monitored, beyond in (("All", True), ("LoOff", False), ("None", False)):
        limits.MonitoredAlertLimits = type(limits.MonitoredAlertLimits)(monitored)
        assert mdib.beyond_limits()["ac.spo2.lo"] is beyond


def test_only_alert_states_that_differ_are_reported():
    mdib = of("monitor")
    panel = AlarmPanel(mdib.conditions())
    assert set(mdib.write_alerts(panel.states())) == set(panel.states())
    version = mdib.library.mdib_version
    assert mdib.write_alerts(panel.states()) == ()
    assert mdib.library.mdib_version == version
    panel.observe({"ac.spo2.lo": True, "ac.ecg.leadoff": True})
    written = mdib.write_alerts(panel.states())
    assert set(written) == {
        "ac.spo2.lo", "as.spo2.lo.vis", "as.spo2.lo.aud",
        "ac.ecg.leadoff", "as.ecg.leadoff.vis", "as.ecg.leadoff.aud", "asy.mds0",
    }  # fmt: skip
    assert mdib.library.mdib_version == version + 1
    system = state(mdib, "asy.mds0")
    assert system.PresentPhysiologicalAlarmConditions == ["ac.spo2.lo"]
    assert system.PresentTechnicalAlarmConditions == ["ac.ecg.leadoff"]
    assert state(mdib, "ac.spo2.lo").Presence is True


def test_pause_and_priority_reach_the_states():
    mdib = of("monitor")
    panel = AlarmPanel(mdib.conditions())
    panel.observe({"ac.spo2.lo": True})
    panel.set_priority("ac.spo2.lo", "Hi")
    panel.pause_audio()
    mdib.write_alerts(panel.states())
    assert state(mdib, "ac.spo2.lo").ActualPriority.value == "Hi"
    assert state(mdib, "as.spo2.lo.aud").ActivationState.value == "Psd"
    activation = {a.Manifestation.value: a.State.value for a in state(mdib, "asy.mds0").SystemSignalActivation}
    assert activation == {"Aud": "Psd", "Vis": "On"}
    panel.set_priority("ac.spo2.lo", None)
    mdib.write_alerts(panel.states())
    assert state(mdib, "ac.spo2.lo").ActualPriority is None


def test_a_self_check_counts_up():
    mdib = of("pump")
    assert mdib.alert_systems() == {"asy.mds0": 5.0}
    before = state(mdib, "asy.mds0").SelfCheckCount
    mdib.write_self_check(["asy.mds0"], NOW)
    assert state(mdib, "asy.mds0").SelfCheckCount == before + 1
    assert state(mdib, "asy.mds0").LastSelfCheck == NOW


def test_a_battery_empties_but_not_below_its_reserve():
    mdib = of("pump")
    left = []
    for runtime in (0.0, 3600.0, 1e9):
        mdib.write_components(runtime)
        left.append(state(mdib, "bat.mds0").CapacityRemaining.MeasuredValue)
    assert left == [Decimal("2.47"), Decimal("2.21"), Decimal("0.13")]


BARE = b"""<msg:GetMdibResponse xmlns:msg="http://standards.ieee.org/downloads/11073/11073-10207-2017/message"
 xmlns:pm="http://standards.ieee.org/downloads/11073/11073-10207-2017/participant"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" SequenceId="urn:uuid:0">
 <msg:Mdib SequenceId="urn:uuid:0"><pm:MdDescription><pm:Mds Handle="m">%s</pm:Mds></pm:MdDescription></msg:Mdib>
</msg:GetMdibResponse>"""


def bare(inner: bytes) -> DeviceMdib:
    etree.fromstring(BARE % inner)
    return DeviceMdib(Profile(name="bare", title="bare", mdib=BARE % inner), endpoint("bare", 0, 0))


def test_a_device_without_clock_battery_and_contexts_reports_none():
    mdib = bare(b"")
    mdib.write_components(1.0)
    mdib.associate(None, None)
    assert mdib.library.mdib_version == 0
    assert (mdib.conditions(), mdib.alert_systems(), mdib.beyond_limits()) == ([], {}, {})


def test_a_battery_of_unknown_capacity_is_left_as_it_is():
    mdib = bare(b'<pm:Battery Handle="b"/>')
    mdib.write_components(5.0)
    assert state(mdib, "b").CapacityRemaining is None


def test_a_limit_condition_without_a_source_is_within_its_limits():
    mdib = bare(
        b'<pm:AlertSystem Handle="a"><pm:AlertCondition xsi:type="pm:LimitAlertConditionDescriptor" Handle="c"'
        b' Kind="Phy" Priority="Lo"><pm:MaxLimits/></pm:AlertCondition></pm:AlertSystem>'
    )
    assert mdib.beyond_limits() == {"c": False}
    assert [c.signals for c in mdib.conditions()] == [()]
