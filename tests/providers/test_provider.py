"""A simulated device end to end, followed by sdc11073's own consumer over loopback."""

import itertools
import logging
import queue
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest

from providers import provider
from providers.profile import Profile, load
from providers.provider import SimulatedDevice
from providers.scenario import Scenario, Step

Run = Callable[[SimulatedDevice], SimulatedDevice]


def metric(handle: str, wanted: Callable[[Any], bool]) -> Callable[[str, dict[str, Any]], bool]:
    def found(kind: str, states: dict[str, Any]) -> bool:
        return kind == "metrics_by_handle" and handle in states and wanted(states[handle].MetricValue)

    return found


def alert(handle: str, wanted: Callable[[Any], bool] = lambda _: True) -> Callable[[str, dict[str, Any]], bool]:
    def found(kind: str, states: dict[str, Any]) -> bool:
        return kind == "alert_by_handle" and handle in states and wanted(states[handle])

    return found


@pytest.fixture
def eager_components(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "COMPONENT_SECONDS", 1.0)


@pytest.mark.usefixtures("eager_components")
def test_metrics_waves_self_check_and_clock_are_reported(run: Run, follow, discovery):
    device = run(SimulatedDevice(load("monitor"), discovery=discovery))
    follower = follow(device)
    assert follower.mdib.sequence_id == device.sequence_id
    assert follower.state("m.nibp.sys").MetricValue.Value is not None
    wanted = {"m.hr", "m.ecg.ii", "asy.mds0", "clock.mds0"}

    def all_seen(_: str, states: dict[str, Any]) -> bool:
        wanted.difference_update(states)
        return not wanted

    reports = follower.until(all_seen)
    chunks = [s["m.ecg.ii"].MetricValue for kind, s in reports if kind == "waveform_by_handle"]
    for earlier, later in itertools.pairwise(chunks):
        joined = earlier.DeterminationTime + len(earlier.Samples) * 0.004
        assert later.DeterminationTime == pytest.approx(joined, abs=0.0011)
    assert device.failures == 0


def test_it_publishes_itself_and_says_bye(discovery):
    device = SimulatedDevice(load("pump"), discovery=discovery)
    assert device.xaddrs == ()
    device.start()
    try:
        ((epr, _, scopes, xaddrs),) = discovery.published
        assert epr == device.epr
        assert tuple(xaddrs) == device.xaddrs
        assert "sdc.mds.pkp:1.2.840.10004.20701.1.1" in scopes.text
        assert any(text.startswith("sdc.ctxt.loc:/sdc.ctxt.loc.detail/") for text in scopes.text)
    finally:
        device.stop()
    assert discovery.cleared == [device.epr]
    assert device.xaddrs == ()


def test_a_limit_alarm_starts_after_its_value_and_ends_after_it(run: Run, follow, discovery):
    device = run(SimulatedDevice(load("monitor"), discovery=discovery))
    follower = follow(device)
    device.trigger(Step(at=0.0, event="desaturation"))
    reports = follower.until(alert("ac.spo2.lo", lambda state: state.Presence))
    values = [s["m.spo2"].MetricValue.Value for kind, s in reports if "m.spo2" in s]
    assert values[-1] < 90
    assert all(value >= 90 for value in values[:-1])
    started = reports[-1][1]
    assert {h: started[h].Presence.value for h in ("as.spo2.lo.vis", "as.spo2.lo.aud")} == {
        "as.spo2.lo.vis": "On",
        "as.spo2.lo.aud": "On",
    }
    assert started["asy.mds0"].PresentPhysiologicalAlarmConditions == ["ac.spo2.lo"]
    begun = started["ac.spo2.lo"].DeterminationTime
    device.trigger(Step(at=0.0, event="recover"))
    ended = follower.until(alert("ac.spo2.lo", lambda state: not state.Presence))[-1][1]
    assert ended["as.spo2.lo.aud"].Presence.value == "Off"
    assert ended["ac.spo2.lo"].DeterminationTime > begun
    assert not ended["asy.mds0"].PresentPhysiologicalAlarmConditions


def test_a_technical_alarm_and_what_can_be_done_about_it(run: Run, follow, discovery):
    device = run(SimulatedDevice(load("pump"), discovery=discovery))
    follower = follow(device)
    c = "ac.occlusion"

    def do(event: str, wanted: str, **arguments: str) -> dict[str, Any]:
        device.trigger(Step(at=0.0, event=event, **arguments))
        return follower.until(alert(wanted))[-1][1]

    # its syringe may run empty meanwhile: signals are functions of the time of day
    assert c in do("occlusion", c)["asy.mds0"].PresentTechnicalAlarmConditions
    assert do("priority", c, condition=c, to="Me")[c].ActualPriority.value == "Me"
    assert do("priority", c, condition=c, to="described")[c].ActualPriority is None
    assert do("audio_pause", "as.occlusion.aud")["asy.mds0"].SystemSignalActivation[0].State.value == "Psd"
    assert do("audio_on", "as.occlusion.aud")["as.occlusion.aud"].Presence.value == "On"
    latched = do("clear_occlusion", c)
    assert (latched[c].Presence, latched["as.occlusion.aud"].Presence.value) == (False, "Latch")
    assert do("latch_reset", "as.occlusion.aud")["as.occlusion.aud"].Presence.value == "Off"
    do("occlusion", c)
    assert do("acknowledge", "as.occlusion.aud", condition=c)["as.occlusion.aud"].Presence.value == "Ack"
    device.trigger(Step(at=0.0, event="acknowledge", condition="ac.spo2.lo"))  # not a condition of a pump
    device.trigger(Step(at=0.0, event="apnea"))  # nor an event of it
    assert do("clear_occlusion", c)["as.occlusion.aud"].Presence.value == "Off"
    assert device.failures == 0


def test_with_the_leads_off_values_are_invalid_before_the_alert_comes(run: Run, follow, discovery):
    device = run(SimulatedDevice(load("monitor"), discovery=discovery))
    follower = follow(device)
    device.trigger(Step(at=0.0, event="lead_off"))
    reports = follower.until(alert("ac.ecg.leadoff", lambda state: state.Presence))
    values = [s["m.hr"].MetricValue for kind, s in reports if kind == "metrics_by_handle" and "m.hr" in s]
    assert values[-1].Value is None
    assert values[-1].MetricQuality.Validity.value == "Inv"
    assert follower.state("m.rhythm").MetricValue.Value is None
    device.trigger(Step(at=0.0, event="lead_on"))
    follower.until(metric("m.hr", lambda value: value.Value is not None))
    follower.until(alert("ac.ecg.leadoff", lambda state: not state.Presence))


def test_a_scenario_plays_and_ending_what_never_began_does_nothing(run: Run, follow, discovery):
    steps = (
        Step(at=0.0, event="clear_occlusion"),
        Step(at=0.4, event="patient_change"),
        Step(at=0.8, event="battery_low"),
        Step(at=1.2, event="patient_leave"),
    )
    device = run(SimulatedDevice(load("pump"), discovery=discovery, scenario=Scenario(steps=steps)))
    follower = follow(device)
    follower.until(lambda *_: follower.state("ac.battery.lo").Presence)
    follower.until(
        lambda kind, states: (
            kind == "context_by_handle" and [s.ContextAssociation.value for s in states.values()] == ["Dis"]
        )
    )
    assert device.failures == 0


def test_a_patient_change_is_one_report_with_both_patients(run: Run, follow, discovery):
    device = run(SimulatedDevice(load("monitor"), discovery=discovery, seed=3))
    follower = follow(device)
    device.trigger(Step(at=0.0, event="patient_change"))
    reports = follower.until(lambda kind, _: kind == "context_by_handle")
    states = {s.ContextAssociation.value: s for s in reports[-1][1].values()}
    assert set(states) == {"Dis", "Assoc"}
    assert states["Assoc"].Validator
    assert states["Assoc"].Identification[0].Extension != states["Dis"].Identification[0].Extension


def ask(context: ssl.SSLContext, raw: socket.socket) -> bytes:
    """The first bytes of an answer; ConnectionError if the other side hangs up without one."""
    with context.wrap_socket(raw) as wrapped:
        wrapped.sendall(b"GET / HTTP/1.1\r\n\r\n")
        answer = wrapped.recv(100)
    if not answer:
        raise ConnectionResetError
    return answer


def test_r0502_mutual_tls(run: Run, follow, discovery, certificates):
    calls = []

    def factory():
        calls.append(1)
        return certificates()

    device = run(SimulatedDevice(load("pump"), discovery=discovery, tls=factory))
    assert device.xaddrs[0].startswith("https://")
    assert calls == [1]
    follower = follow(device, certificates())
    assert follower.consumer.is_ssl_connection
    follower.until(metric("m.rate", lambda value: value.Value is not None))
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anonymous.check_hostname = False
    anonymous.verify_mode = ssl.CERT_NONE
    host, port = device.xaddrs[0].split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.settimeout(10)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(anonymous, raw)


def test_a_restarted_device_has_the_same_epr_and_a_new_sequence(run: Run, follow, discovery):
    arguments: dict[str, Any] = {"discovery": discovery, "index": 2, "seed": 9}
    first = SimulatedDevice(load("pump"), **arguments)
    first.start()
    first.stop()
    second = run(SimulatedDevice(load("pump"), **arguments))
    assert second.epr == first.epr
    assert second.sequence_id != first.sequence_id
    assert follow(second).mdib.sequence_id == second.sequence_id


def test_stopping_leaves_no_thread_and_ends_the_subscriptions(follow, discovery, new_threads):
    device = SimulatedDevice(load("monitor"), discovery=discovery)
    device.start()
    follower = follow(device)
    follower.until(metric("m.hr", lambda _: True))
    device.stop()
    assert follower.consumer.is_connected is False
    follower.stop()
    device.stop()
    assert new_threads() == []


def test_a_device_that_cannot_start_leaves_nothing_behind(discovery, new_threads):
    def broken() -> provider.TlsContexts:
        raise FileNotFoundError("usercert.pem")

    device = SimulatedDevice(load("pump"), discovery=discovery, tls=broken)
    with pytest.raises(FileNotFoundError):
        device.start()
    assert new_threads() == []
    discovery.active_address = "203.0.113.1"  # TEST-NET-3: not an address of this machine
    with pytest.raises(OSError, match="assign"):
        SimulatedDevice(load("pump"), discovery=discovery).start()
    assert new_threads() == []


@pytest.mark.usefixtures("eager_components")
def test_a_passive_profile_serves_its_file(run: Run, follow, discovery, tmp_path):
    path = tmp_path / "any.xml"
    path.write_bytes(load("ventilator").mdib)
    device = run(SimulatedDevice(load(path), discovery=discovery))
    follower = follow(device)
    assert follower.state("m.peep.set").MetricValue.Value == 6
    assert follower.state("m.peep").MetricValue is None
    assert not follower.mdib.context_states.objects
    follower.until(lambda kind, _: kind == "alert_by_handle")
    follower.until(lambda kind, _: kind == "component_by_handle")


def test_a_bad_tick_is_counted_and_told_without_its_text(discovery, caplog: pytest.LogCaptureFixture):
    failing = threading.Event()

    def bad(*_: Any) -> float:
        if failing.is_set():
            raise ValueError("Jane Doe")
        return 1.0

    good = load("pump")
    (first, *rest) = good.readings
    profile = Profile(
        name="pump", title="x", mdib=good.mdib, readings=(type(first)(handle=first.handle, value=bad), *rest)
    )
    device = SimulatedDevice(profile, discovery=discovery)
    with caplog.at_level(logging.ERROR, logger=provider.__name__):
        device.start()
        try:
            failing.set()
            end = threading.Event()
            for _ in range(100):
                if device.failures:
                    break
                end.wait(0.1)
        finally:
            device.stop()
    assert device.failures
    assert f"{device.epr}: tick failed: ValueError" in caplog.text
    assert "Jane Doe" not in caplog.text


def test_too_many_waiting_steps_are_refused(discovery):
    device = SimulatedDevice(load("pump"), discovery=discovery)
    step = Step(at=0.0, event="occlusion")
    for _ in range(100):
        device.trigger(step)
    with pytest.raises(queue.Full):
        device.trigger(step)
