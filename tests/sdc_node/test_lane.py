"""The overflow policy of decision 5, branch by branch, and as a property of any traffic."""

import asyncio
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from mdib_models.updates import AlertUpdate, MetricUpdate, WaveformChunk
from sdc_node.lane import METRICS_COALESCED, WAVEFORM_DROPPED, Entry, Lane, is_continuous_only, is_waveform_only


async def taken(lane, count):
    return [await asyncio.wait_for(lane.take(), 2) for _ in range(count)]


def handles(batch):
    return [update.state.descriptor_handle for update in batch.updates]


def values(batch):
    return {u.state.descriptor_handle: int(u.state.metric_value.value) for u in batch.updates}


async def blocked(task):
    """Whether a put still waits after the loop has run everything that is ready."""
    for _ in range(5):
        await asyncio.sleep(0)
    return not task.done()


def test_a_lane_holds_at_least_one_batch():
    with pytest.raises(ValueError, match="at least one"):
        Lane(0)


async def test_below_capacity_all_is_kept_in_order(bedside):
    device, lane = bedside(), Lane(4)
    batches = [device.waveform(1), device.values(2, hr=70), device.values(3, hr=71), device.alarm(4, present=True)]
    for batch in batches:
        await lane.put(Entry(batch))
    assert (len(lane), lane.high_water, dict(lane.dropped)) == (4, 4, {})
    assert [entry.batch for entry in await taken(lane, 4)] == batches


async def test_the_oldest_waveform_goes_first(bedside):
    device, lane = bedside(), Lane(3)
    old, alarm, young, new = (
        device.waveform(1),
        device.alarm(2, present=True),
        device.waveform(3),
        device.waveform(4),
    )
    for batch in (old, alarm, young, new):
        await lane.put(Entry(batch))
    assert [entry.batch for entry in await taken(lane, 3)] == [alarm, young, new]
    assert lane.dropped == {WAVEFORM_DROPPED: 1}


async def test_a_waveform_makes_room_for_an_alert(bedside):
    device, lane = bedside(), Lane(2)
    wave, setting, alarm = device.waveform(1), device.values(2, limit=90), device.alarm(3, present=True)
    for batch in (wave, setting, alarm):
        await asyncio.wait_for(lane.put(Entry(batch)), 2)
    assert [entry.batch for entry in await taken(lane, 2)] == [setting, alarm]


async def test_a_waveform_is_dropped_where_only_what_must_stay_waits(bedside):
    device, lane = bedside(), Lane(1)
    alarm = device.alarm(1, present=True)
    await lane.put(Entry(alarm))
    await asyncio.wait_for(lane.put(Entry(device.waveform(2))), 2)
    assert lane.dropped == {WAVEFORM_DROPPED: 1}
    assert [entry.batch for entry in await taken(lane, 1)] == [alarm]


async def test_neighbouring_continuous_metrics_merge_to_the_latest(bedside):
    device, lane = bedside(), Lane(1)
    done = []
    first, second = device.values(1, hr=70, spo2=97), device.values(2, hr=71)
    await lane.put(Entry(first, lambda: done.append("first")))
    await lane.put(Entry(second, lambda: done.append("second")))
    (entry,) = await taken(lane, 1)
    assert (entry.batch.before, entry.batch.after) == (first.before, second.after)
    assert values(entry.batch) == {"m.hr": 71, "m.spo2": 97}
    assert (entry.batch.arrived, entry.batch.report) == (2, None)
    assert lane.dropped == {METRICS_COALESCED: 1}
    assert done == []
    entry.done()
    assert done == ["first", "second"]


async def test_merged_batches_merge_again(bedside):
    device, lane = bedside(), Lane(1)
    batches = [device.values(number, hr=number) for number in range(1, 5)]
    for batch in batches:
        await lane.put(Entry(batch))
    (entry,) = await taken(lane, 1)
    assert entry.done is not None
    entry.done()
    assert (entry.batch.before, entry.batch.after) == (batches[0].before, batches[-1].after)
    assert values(entry.batch) == {"m.hr": 4}
    assert lane.dropped == {METRICS_COALESCED: 3}


async def test_devices_are_merged_apart(bedside):
    one, other, lane = bedside("urn:uuid:1"), bedside("urn:uuid:2"), Lane(2)
    await lane.put(Entry(one.values(1, hr=70)))
    await lane.put(Entry(other.values(2, hr=80)))
    await lane.put(Entry(one.values(3, hr=71)))
    found = [(entry.batch.device, values(entry.batch)) for entry in await taken(lane, 2)]
    assert found == [("urn:uuid:1", {"m.hr": 71}), ("urn:uuid:2", {"m.hr": 80})]


@pytest.mark.parametrize(
    "between",
    [
        lambda device: device.values(2, sys=120),
        lambda device: device.values(2, limit=90),
        lambda device: device.alarm(2, present=True),
        lambda device: device.patient(2, "a"),
        lambda device: device.link("stale", 2),
        lambda device: device.again(device.mdib, 2),
        lambda device: device.describe(2, device.metric("m.new", 149530, 264864)),
    ],
    ids=["intermittent", "setting", "alert", "patient", "link", "snapshot", "description"],
)
async def test_nothing_is_merged_over_what_must_stay(bedside, between):
    device, lane = bedside(), Lane(2)
    first = device.values(1, hr=70)
    middle = between(device)
    last = device.values(3, hr=71)
    await lane.put(Entry(first))
    await lane.put(Entry(middle))
    putting = asyncio.create_task(lane.put(Entry(last)))
    assert await blocked(putting)
    (entry,) = await taken(lane, 1)
    await asyncio.wait_for(putting, 2)
    assert [entry.batch, *(e.batch for e in await taken(lane, 2))] == [first, middle, last]
    assert not lane.dropped


async def test_another_patients_values_are_not_merged(bedside):
    device, lane = bedside(), Lane(1)
    device.patient(1, "a")
    first = device.values(2, hr=70)
    device.patient(3, "b")  # told to another sink only: this lane never sees the change itself
    last = device.values(4, hr=71)
    await lane.put(Entry(first))
    putting = asyncio.create_task(lane.put(Entry(last)))
    assert await blocked(putting)
    assert [entry.batch for entry in await taken(lane, 1)] == [first]
    await asyncio.wait_for(putting, 2)


async def test_a_continuous_batch_waits_where_none_of_its_device_is_queued(bedside):
    one, other, lane = bedside("urn:uuid:1"), bedside("urn:uuid:2"), Lane(1)
    await lane.put(Entry(one.values(1, hr=70)))
    putting = asyncio.create_task(lane.put(Entry(other.values(2, hr=80))))
    assert await blocked(putting)
    await taken(lane, 1)
    await asyncio.wait_for(putting, 2)


async def test_taking_waits_for_something(bedside):
    lane = Lane(1)
    taking = asyncio.create_task(lane.take())
    assert await blocked(taking)
    batch = bedside().values(1, hr=70)
    await lane.put(Entry(batch))
    assert (await asyncio.wait_for(taking, 2)).batch is batch


async def test_a_closed_lane_gives_what_it_holds_and_then_nothing(bedside):
    device, lane = bedside(), Lane(1)
    alarm = device.alarm(1, present=True)
    await lane.put(Entry(alarm))
    done = []
    putting = asyncio.create_task(lane.put(Entry(device.alarm(2, present=False), lambda: done.append(1))))
    assert await blocked(putting)
    await lane.close()
    await asyncio.wait_for(putting, 2)
    assert lane.dropped == {"closed": 1}
    assert done == [], "what no sink has taken is not done"
    assert (await lane.take()).batch is alarm
    assert await lane.take() is None


async def test_who_waits_to_take_is_released_by_closing():
    lane = Lane(1)
    taking = asyncio.create_task(lane.take())
    assert await blocked(taking)
    await lane.close()
    assert await asyncio.wait_for(taking, 2) is None


def test_kinds_of_batches(bedside):
    device = bedside()
    wave, metrics, setting = device.waveform(1), device.values(2, hr=70), device.values(3, hr=71, limit=90)
    assert [is_waveform_only(batch) for batch in (wave, metrics, device.link("live", 4))] == [True, False, False]
    assert [is_continuous_only(batch) for batch in (wave, metrics, setting)] == [False, True, False]
    assert not is_continuous_only(device.again(device.mdib, 5)), "a batch without updates is not merged away"


KINDS = {
    "wave": lambda device, at: device.waveform(at),
    "cont": lambda device, at: device.values(at, hr=at, spo2=at),
    "hr": lambda device, at: device.values(at, hr=at),
    "intr": lambda device, at: device.values(at, sys=at),
    "set": lambda device, at: device.values(at, limit=at),
    "alert": lambda device, at: device.alarm(at, present=bool(at % 2)),
    "link": lambda device, at: device.link("live", at),
}
traffic = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([*KINDS, "take", "take"])), min_size=1, max_size=40
)


@settings(max_examples=60, deadline=None)
@given(capacity=st.integers(1, 4), events=traffic)
def test_any_traffic_is_bounded_and_keeps_what_must_stay(bedside, capacity, events):
    asyncio.run(_any_traffic(bedside, capacity, events))


async def _any_traffic(bedside, capacity, events):
    lane = Lane(capacity)
    devices = {name: bedside(f"urn:uuid:{name}") for name in "ab"}
    offered, out, waiting = [], [], []
    for at, (name, kind) in enumerate(events, start=1):
        if kind == "take":
            if len(lane):
                out.append((await lane.take()).batch)
        elif not waiting:  # whoever delivers waits: devices are held back together
            offered.append(KINDS[kind](devices[name], at))
            waiting = [asyncio.create_task(lane.put(Entry(offered[-1])))]
        assert len(lane) <= capacity
        for task in list(waiting):
            if not await blocked(task):
                waiting.remove(task)
    while len(lane) or waiting:
        out.append((await lane.take()).batch)
        waiting = [task for task in waiting if await blocked(task)]
    assert lane.high_water <= capacity
    for device in devices.values():
        before = [batch for batch in offered if batch.device == device.device]
        after = [batch for batch in out if batch.device == device.device]
        kept = [batch for batch in before if not is_waveform_only(batch) and not is_continuous_only(batch)]
        assert [batch for batch in after if batch in kept] == kept, "what must stay came out, in its order"
        assert [batch.arrived for batch in after] == sorted(batch.arrived for batch in after)
        latest = {
            update.state.descriptor_handle: update.state.metric_value.value
            for batch in before
            for update in batch.updates
            if isinstance(update, MetricUpdate)
        }
        told = {
            update.state.descriptor_handle: update.state.metric_value.value
            for batch in after
            for update in batch.updates
            if isinstance(update, MetricUpdate)
        }
        assert told == latest, "the latest value of each metric came out"
    counted = Counter(type(u).__name__ for batch in offered for u in batch.updates)
    counted_out = Counter(type(u).__name__ for batch in out for u in batch.updates)
    assert counted_out[AlertUpdate.__name__] == counted[AlertUpdate.__name__]
    lost_waves = counted[WaveformChunk.__name__] - counted_out[WaveformChunk.__name__]
    assert lost_waves == lane.dropped[WAVEFORM_DROPPED]
    assert len(offered) - len(out) == lane.dropped[WAVEFORM_DROPPED] + lane.dropped[METRICS_COALESCED]
