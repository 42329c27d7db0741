"""A session's life against a real sdc11073 provider in another process."""

import asyncio
from decimal import Decimal

import pytest

from consumers.discovery import ByeHeard, Discovered
from consumers.library import LinkSettings
from consumers.session import Ended, SessionSettings, _Ear
from mdib_models.identity import MdibVersionGroup
from mdib_models.updates import (
    AlertUpdate,
    ComponentUpdate,
    ContextUpdate,
    DescriptionUpdate,
    GapUpdate,
    OperationUpdate,
    Report,
    WaveformChunk,
)

from .conftest import eventually, links, settings


@pytest.mark.parametrize("secured", [True, False])
async def test_from_discovered_to_live_over_tls_and_allowed_plain(secured, start_device, device_certs, follow):
    device = start_device(device_certs if secured else None)
    fleet, watch, _ = await follow(device.found, allow_plaintext=lambda epr: epr == device.epr)
    await watch.state("live")
    said = [update for batch in watch.batches for update in links(batch)]
    assert [update.state for update in said] == ["discovered", "connecting", "subscribed", "live"]
    assert all(update.reason for update in said)
    assert [update.previous for update in said] == [None, "discovered", "connecting", "subscribed"]
    mirror = watch.batches[-1].after
    assert mirror.find("m.hr").parent == "ch0"
    assert mirror.state("m.hr").metric_value.value == Decimal(70)
    snapshot = next(batch for batch in watch.batches if batch.replayed)
    assert len(snapshot.updates) >= len(mirror.descriptors) + len(mirror.states)
    assert device.address.startswith("https" if secured else "http:")
    await device.do("metric", "m.hr", "71")
    batch = await watch.value("m.hr", "71")
    assert not batch.replayed
    assert batch.before.state("m.hr").metric_value.value == Decimal(70)
    assert fleet.sessions[device.epr].state == "live"


async def test_each_kind_of_report_arrives(start_device, follow, device_certs):
    device = start_device(device_certs)
    _, watch, _ = await follow(device.found)
    await watch.state("live")

    def of(kind):
        return lambda batch: any(isinstance(update, kind) for update in batch.updates)

    await device.do("wave", ["1.5", "-2.25"])
    chunk = (await watch.until(of(WaveformChunk))).updates[0]
    assert chunk.state.metric_value.samples == "1.5 -2.25"
    await device.do("alert", True)
    assert (await watch.until(of(AlertUpdate))).updates[0].state.presence
    await device.do("component")
    assert (await watch.until(of(ComponentUpdate))).updates[0].state.operating_hours == 5
    await device.do("operational")
    await watch.until(of(OperationUpdate))
    await device.do("patient", "Neu")
    updates = (await watch.until(of(ContextUpdate))).updates
    assert [update.state.core_data.familyname for update in updates] == ["Neu"]


async def test_description_change_is_folded(start_device, follow, device_certs):
    device = start_device(device_certs)
    fleet, watch, _ = await follow(device.found)
    await watch.state("live")
    await device.do("describe", "m.new")
    batch = await watch.until(lambda each: any(isinstance(update, DescriptionUpdate) for update in each.updates))
    assert not batch.replayed
    assert batch.after.find("m.new").type.code == "77"
    assert batch.before.find("m.new") is None
    await device.do("metric", "m.new", "5")
    await watch.value("m.new", "5")
    await device.do("undescribe", "m.new")
    await watch.until(lambda each: each.after.find("m.new") is None)
    assert not [name for name in fleet.counters() if name.startswith(("resyncs", "violation"))]


async def test_changed_sequence_id_starts_over(start_device, follow, device_certs):
    device = start_device(device_certs)
    _, watch, _ = await follow(device.found)
    await watch.state("live")
    before = watch.batches[-1].after.version.sequence_id
    await device.do("sequence")
    await device.do("metric", "m.hr", "66")
    stale = await watch.state("stale")
    assert stale.reason == "sequence-changed"
    batch = await watch.until(lambda each: each.replayed)
    gap = batch.updates[0]
    assert isinstance(gap, GapUpdate)
    assert gap.after.sequence_id == before
    assert batch.after.version.sequence_id != before
    assert batch.after.state("m.hr").metric_value.value == Decimal(66)
    await watch.state("live")
    await device.do("metric", "m.hr", "67")
    await watch.value("m.hr", "67")


async def test_state_version_gap_resyncs_and_then_is_followed_without(start_device, follow, device_certs):
    device = start_device(device_certs)
    fleet, watch, _ = await follow(device.found)
    await watch.state("live")
    for value in range(1, 4):
        await device.do("skip_version", "m.hr")
        await device.do("metric", "m.hr", str(value))
        assert (await watch.state("stale")).reason == "state-version-gap"
        await watch.state("live")
    await device.do("skip_version", "m.hr")
    await device.do("metric", "m.hr", "44")
    batch = await watch.value("m.hr", "44")
    assert not batch.replayed
    assert fleet.sessions[device.epr].violating == {"state-version-gap"}
    assert fleet.counters()["resyncs_state-version-gap"] == 3


async def test_killed_device_is_lost_within_its_expiry_and_found_again(start_device, follow, device_certs):
    device = start_device(device_certs, duration=4)
    fleet, watch, announcer = await follow(device.found)
    await watch.state("live")
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(device.kill)
    killed = loop.time()
    lost = await watch.state("lost", seconds=6)
    assert loop.time() - killed < 4.5
    assert lost.previous == "live"
    assert lost.reason
    assert watch.batches[-1].after.find("m.hr") is not None
    again = start_device(device_certs, epr=device.epr, duration=4)
    assert again.address != device.address
    announcer.say(again.found)
    await watch.state("live")
    assert fleet.counters()["losses"] == 1
    await again.do("metric", "m.hr", "90")
    await watch.value("m.hr", "90")


async def test_r3001_lost_device_is_found_by_a_probe_and_nothing_is_asked_otherwise(start_device, follow, device_certs):
    device = start_device(device_certs, duration=4)
    _, watch, announcer = await follow(device.found)
    await watch.state("live")
    assert announcer.probes == 0
    await device.do("stop")
    lost = await watch.state("lost", seconds=6)
    assert "ended the subscription" in lost.reason
    await asyncio.to_thread(device.reap)
    await watch.until(lambda batch: any("refused" in update.reason for update in links(batch)))
    again = start_device(device_certs, epr=device.epr, duration=4)
    announcer.on_probe = lambda: announcer.say(again.found)
    await watch.state("live")
    asked = announcer.probes
    assert asked >= 1
    await asyncio.sleep(1.0)
    assert announcer.probes == asked


async def test_bye_is_not_believed(start_device, follow, device_certs):
    device = start_device(device_certs)
    fleet, watch, announcer = await follow(device.found)
    await watch.state("live")
    announcer.say(ByeHeard(device.epr))
    announcer.say(ByeHeard("urn:uuid:nobody"))
    await device.do("metric", "m.hr", "55")
    await watch.value("m.hr", "55")
    assert fleet.sessions[device.epr].state == "live"
    assert fleet.counters()["byes"] == 1


async def test_bye_of_a_device_that_is_gone_is_noticed_before_the_renewal(start_device, follow, device_certs):
    device = start_device(device_certs, duration=60)
    _, watch, announcer = await follow(device.found)
    await watch.state("live")
    await asyncio.to_thread(device.kill)
    announcer.say(ByeHeard(device.epr))
    await watch.state("lost", seconds=5)


async def test_forged_address_does_not_move_a_live_device(start_device, follow, device_certs):
    device, other = start_device(device_certs), start_device(device_certs)
    fleet, watch, announcer = await follow(device.found)
    await watch.state("live")
    announcer.say(Discovered(device.epr, xaddrs=(other.address,)))
    await device.do("metric", "m.hr", "33")
    await watch.value("m.hr", "33")
    assert fleet.counters()["connects"] == 1


async def test_another_device_at_the_address_is_refused(start_device, follow, device_certs):
    other = start_device(device_certs)
    _, watch, _ = await follow(Discovered("urn:uuid:4f3b3c1e-0000-4000-8000-000000000001", xaddrs=(other.address,)))
    assert "another device answers" in (await watch.state("lost")).reason


async def test_reader_that_does_not_read_makes_the_session_stale_and_is_resynced(start_device, follow, device_certs):
    device = start_device(device_certs, timeout=20)
    small = settings(delay=0.3, dispatch_depth=2)
    fleet, watch, _ = await follow(
        device.found, fleet_settings=type(small)(session=_with_depth(small.session, 4), queue=8)
    )
    await watch.state("live")
    took = await device.do("flood", 60)
    assert took > 0.25, "the device was not slowed down"
    stale = await watch.state("stale")
    assert stale.reason == "overrun"
    await watch.state("live")
    assert watch.batches[-1].after.state("m.hr").metric_value.value == Decimal(59)
    values = [
        update.state.metric_value.value
        for batch in watch.batches
        for update in batch.updates
        if getattr(getattr(update, "state", None), "descriptor_handle", "") == "m.hr" and not batch.replayed
    ]
    assert values == [Decimal(value) for value in range(len(values))], "reports before the overrun came whole"
    counters = fleet.counters()
    assert counters["resyncs_overrun"] >= 1
    assert fleet.sessions[device.epr].violating == frozenset()


def _with_depth(session, depth):
    import msgspec

    return msgspec.structs.replace(session, depth=depth)


async def test_frozen_device_is_lost_within_its_expiry(start_device, follow, device_certs):
    device = start_device(device_certs, duration=3)
    _, watch, _ = await follow(device.found)
    await watch.state("live")
    device.freeze()
    lost = await watch.state("lost", seconds=3.5)
    assert lost.reason
    device.thaw()


async def test_unreadable_reports_resync_until_the_device_is_marked(start_device, follow, device_certs):
    device = start_device(device_certs)
    fleet, watch, _ = await follow(device.found)
    await watch.state("live")
    session = fleet.sessions[device.epr]
    for _ in range(3):
        session._ear.interrupted("unreadable")
        assert (await watch.state("stale")).reason == "unreadable"
        await watch.state("live")
    session._ear.interrupted("unreadable")
    await eventually(lambda: session.counts["tolerated_unreadable"] == 1)
    await device.do("metric", "m.hr", "12")
    await watch.value("m.hr", "12")
    assert session.violating == {"unreadable"}
    snapshots = session.counts["snapshots"]
    session._ear.interrupted("unreadable")
    report = watch.batches[-1].report
    session._ear.report(report)
    session._ear.interrupted("unreadable")
    await device.do("metric", "m.hr", "13")
    batch = await watch.value("m.hr", "13")
    assert batch.before.state("m.hr").metric_value.value == Decimal(12)
    assert (session.state, session.counts["snapshots"]) == ("live", snapshots)
    counters = fleet.counters()
    assert counters["tolerated_unreadable"] == 3
    assert counters.get("dropped_while_stale", 0) == 0, "good reports between unreadable ones are taken"


async def test_ear_drops_what_waits_from_before_a_snapshot_but_never_the_end():
    ear = _Ear(SessionSettings(link=LinkSettings(delay=0.01), depth=1), lambda reason: reason == "unreadable")
    early = Report(kind="alert", version=MdibVersionGroup("urn:uuid:s", 1), arrived=1)
    ear.interrupted("unreadable")
    ear.report(early)
    await asyncio.to_thread(ear.report, early)
    ear.ended("the device ended the subscription")
    ear.report(early)
    await asyncio.sleep(0)
    assert not ear.resume(), "a report was missed"
    ear.listen()
    await asyncio.sleep(0)
    assert [type(event) for event in ear.events.drain()] == [Ended]
    assert ear.counts == {"tolerated_unreadable": 1, "dropped_overrun": 1, "dropped_while_stale": 2}
    assert ear.resume()


async def test_mark_that_cost_a_report_is_made_good_by_a_snapshot(start_device, follow, device_certs):
    device = start_device(device_certs)
    fleet, watch, _ = await follow(device.found)
    await watch.state("live")
    await device.do("metric", "m.hr", "12")
    report = (await watch.value("m.hr", "12")).report
    session = fleet.sessions[device.epr]
    for _ in range(3):
        session._ear.interrupted("unreadable")
        await watch.state("stale")
        await watch.state("live")
    session._ear.interrupted("unreadable")
    session._ear.report(report)  # before the session could ask whether the reason is tolerated
    assert (await watch.state("stale")).reason == "unreadable"
    assert "violating: unreadable" in (await watch.state("live")).reason
    assert fleet.counters()["snapshots"] == 5
    await device.do("metric", "m.hr", "13")
    await watch.value("m.hr", "13")


@pytest.mark.parametrize("change", ["sequence", "connection"])
async def test_marks_are_taken_back_when_the_device_starts_over(change, start_device, follow, device_certs):
    device = start_device(device_certs, duration=4)
    fleet, watch, announcer = await follow(device.found)
    await watch.state("live")
    session = fleet.sessions[device.epr]
    for _ in range(3):
        session._ear.interrupted("unreadable")
        await watch.state("live")
    session._ear.interrupted("unreadable")
    await eventually(lambda: session.violating == {"unreadable"})
    if change == "sequence":
        await device.do("sequence")
        await device.do("metric", "m.hr", "66")
    else:
        await asyncio.to_thread(device.kill)
        announcer.say(start_device(device_certs, epr=device.epr).found)
    assert "violating" not in (await watch.state("live")).reason
    assert session.violating == frozenset()
    session._ear.interrupted("unreadable")
    assert (await watch.state("stale")).reason == "unreadable"


async def test_device_that_dies_during_a_resync_is_lost(start_device, follow, device_certs):
    device = start_device(device_certs)
    fleet, watch, _ = await follow(device.found)
    await watch.state("live")
    await asyncio.to_thread(device.kill)
    fleet.sessions[device.epr]._ear.interrupted("unreadable")
    await watch.state("stale")
    assert (await watch.state("lost")).previous == "stale"


async def test_reports_that_the_snapshot_holds_are_not_applied_again(start_device, follow, device_certs):
    device = start_device(device_certs)
    fleet, watch, _ = await follow(device.found)
    await watch.state("live")
    await device.do("metric", "m.hr", "10")
    report = (await watch.value("m.hr", "10")).report
    session = fleet.sessions[device.epr]
    session._ear.interrupted("unreadable")
    await watch.state("live")
    session._ear.events.put_urgent(report)
    await eventually(lambda: session.counts["dropped_before_snapshot"] == 1)
    await device.do("metric", "m.hr", "11")
    await watch.value("m.hr", "11")
    assert not [name for name in session.counts if name.startswith("violation")]


async def test_our_own_failure_loses_the_device_for_a_while(start_device, follow, device_certs, monkeypatch, caplog):
    device = start_device(device_certs)
    fleet, watch, _ = await follow(device.found)
    await watch.state("live")

    def broken(*_args):
        raise KeyError("Beispiel")

    with monkeypatch.context() as patched:
        patched.setattr("consumers.session.fold_leniently", broken)
        await device.do("metric", "m.hr", "10")
        assert (await watch.state("lost")).reason == "this node failed (KeyError)"
    await watch.state("live")
    assert fleet.counters()["failures"] == 1
    assert "Beispiel" not in caplog.text
