"""Fan-out, completion and the order of saving alerts, with sinks that do as they are told."""

import asyncio
import logging

import msgspec
import pytest

import sdc_node.pipeline as pipeline_module
from mdib_models.identity import MdsKey
from sdc_node.pipeline import Pipeline, Remembered


class Memory:
    """Keeps alerts; `broken` makes saving fail, `gate` closed holds it back."""

    def __init__(self, alerts=()):
        self.alerts = dict(alerts)
        self.gate = asyncio.Event()
        self.gate.set()
        self.saves = 0
        self.broken = False
        self.saved = asyncio.Event()

    def open_alerts(self):
        return dict(self.alerts)

    def remembered(self):
        """The one alert that is kept."""
        (saved,) = self.alerts.values()
        return msgspec.json.decode(saved, type=Remembered)

    async def save_alerts(self, upserts, closed):
        await self.gate.wait()
        self.saves += 1
        self.saved.set()
        if self.broken:
            raise OSError("Name-a is not to be told")
        self.alerts.update(upserts)
        for key in closed:
            self.alerts.pop(key, None)


class Taker:
    """A sink that notes what it gets; `gate` closed holds it, `fails` makes a verb raise."""

    def __init__(self, name="taker", *, wants_waveforms=False, fails=()):
        self.name = name
        self.wants_waveforms = wants_waveforms
        self.fails = set(fails)
        self.gate = asyncio.Event()
        self.gate.set()
        self.batches = []
        self.verbs = []
        self.news = asyncio.Event()

    async def start(self):
        self._did("start")

    async def accept(self, batch):
        await self.gate.wait()
        self.batches.append(batch)
        self.news.set()
        self._did("accept")

    async def drain(self, seconds):
        self.seconds = seconds
        self._did("drain")

    async def stop(self):
        self._did("stop")

    def counters(self):
        return {"batches": len(self.batches)}

    def _did(self, verb):
        self.verbs.append(verb)
        if verb in self.fails:
            raise ValueError("Name-a is not to be told")

    async def until(self, count):
        async with asyncio.timeout(5):
            while len(self.batches) < count:
                self.news.clear()
                await self.news.wait()


@pytest.fixture
def device(bedside):
    return bedside(raw=True)


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


async def running(sinks, memory=None, capacity=8):
    pipeline = Pipeline(sinks, memory or Memory(), lane_capacity=capacity)
    await pipeline.start()
    return pipeline


async def test_each_sink_gets_each_batch_complete_and_in_order(device):
    one, other = Taker("one"), Taker("other")
    pipeline = await running([one, other])
    for batch in (device.snapshot(), device.patient(2, "a"), device.alarm(3, present=True)):
        assert batch.associations == {}
        assert batch.occurrences == ()
        await pipeline.offer(batch)
    await pipeline.close(0.5)
    for sink in (one, other):
        assert [batch.arrived for batch in sink.batches] == [device.t0, 2, 3]
        last = sink.batches[-1]
        assert last.associations[MdsKey(device.device, "mds")].patient.handle == "pc.a"
        assert [told.phase for told in last.occurrences] == ["start"]
        assert sink.verbs == ["start", "accept", "accept", "accept", "drain", "stop"]
        assert sink.seconds == 0.5
    assert pipeline.sent == {"one": 3, "other": 3}
    assert (pipeline.received["batches"], pipeline.received["replayed"], pipeline.received["live"]) == (3, 1, 2)
    assert pipeline.received["AlertUpdate"] == 5
    assert pipeline.open_alerts() == 1


async def test_waveforms_go_to_those_who_want_them(device):
    wants, does_not = Taker("wants", wants_waveforms=True), Taker("does-not")
    pipeline = await running([wants, does_not])
    await pipeline.offer(device.waveform(1, "1 2 3"))
    await pipeline.offer(device.values(2, hr=70))
    await pipeline.close(0)
    assert [batch.arrived for batch in wants.batches] == [1, 2]
    assert [batch.arrived for batch in does_not.batches] == [2]
    assert pipeline.received["waveform_samples"] == 3


async def test_a_failing_sink_is_counted_and_stops_nobody(device, caplog):
    bad, good = Taker("bad", fails={"accept", "drain", "stop"}), Taker("good")
    pipeline = await running([bad, good])
    with caplog.at_level(logging.ERROR):
        await pipeline.offer(device.patient(1, "a"))
        await pipeline.offer(device.values(2, hr=70))
        await pipeline.close(0)
    assert len(good.batches) == len(bad.batches) == 2
    assert pipeline.failed == {"bad": 4}
    assert pipeline.sent == {"good": 2}
    assert good.verbs[-2:] == ["drain", "stop"]
    assert "ValueError at Taker._did" in caplog.text
    assert "Name-a" not in caplog.text


async def test_what_a_sink_failed_on_is_counted_kept_and_told_again_word_for_word_by_the_next_life(device):
    memory, good, bad = Memory(), Taker("good"), Taker("bad", fails={"accept"})
    pipeline = await running([good, bad], memory)
    await pipeline.offer(device.patient(1, "a"))
    await pipeline.offer(device.values(2, 2, spo2=86))
    await pipeline.offer(device.alarm(3, present=True))
    await pipeline.offer(device.values(4, 4, spo2=97))
    await pipeline.close(0)
    assert (pipeline.failed["bad"], pipeline.not_told) == (4, {"bad": 1})
    assert memory.remembered().untold == good.batches[2].occurrences
    again = Taker()
    restarted = await running([again], memory)
    await restarted.offer(device.snapshot(5))
    await restarted.close(0)
    assert again.batches[0].occurrences == good.batches[2].occurrences
    (told,) = again.batches[0].occurrences
    assert (str(told.captured.metric_value.value), told.association.patient.handle) == ("86", "pc.a")
    assert memory.remembered().untold == ()


async def test_what_is_kept_of_a_sink_that_always_fails_is_bounded(device, monkeypatch):
    monkeypatch.setattr(pipeline_module, "MAX_NOT_TOLD", 2)
    memory, bad = Memory(), Taker("bad", fails={"accept"})
    pipeline = await running([bad], memory)
    for at in range(1, 6):
        await pipeline.offer(device.alarm(at, present=bool(at % 2)))
    await pipeline.close(0)
    assert pipeline.not_told == {"bad": 2}
    assert [told.phase for told in memory.remembered().untold] == ["start", "end"]


async def test_an_alert_open_across_a_change_of_patient_is_told_of_each_under_its_own(device):
    sink, memory = Taker(), Memory()
    pipeline = await running([sink], memory)
    await pipeline.offer(device.patient(1, "a"))
    await pipeline.offer(device.alarm(2, present=True))
    await pipeline.offer(device.patient(3, "b"))
    await pipeline.close(0)
    (start,), (end, again) = (batch.occurrences for batch in sink.batches[1:])
    assert [(told.phase, told.association.patient.handle) for told in (start, end, again)] == [
        ("start", "pc.a"),
        ("end", "pc.a"),
        ("start", "pc.b"),
    ]
    assert start.id == end.id != again.id
    assert memory.remembered().open.association.patient.handle == "pc.b"


async def test_a_sink_that_goes_on_failing_is_told_once_and_once_when_it_works_again(device, caplog):
    bad = Taker("bad", fails={"accept"})
    pipeline = await running([bad])
    with caplog.at_level(logging.WARNING):
        for number in range(1, 6):
            await pipeline.offer(device.values(number, hr=70))
        async with asyncio.timeout(5):
            while pipeline.failed["bad"] < 5:  # noqa: ASYNC110 - counters tell nobody
                await asyncio.sleep(0)
        bad.fails.clear()
        await pipeline.offer(device.values(6, hr=70))
        await pipeline.offer(device.values(7, hr=70))
        await pipeline.close(0)
    assert (pipeline.failed, pipeline.sent) == ({"bad": 5}, {"bad": 2})
    first, second = caplog.messages
    assert first.startswith("sink bad fails since a batch of ")
    assert second == "sink bad works again; it failed on 5 so far"


async def test_a_sink_that_cannot_start_is_told_and_all_are_stopped(device):
    good, bad = Taker("good"), Taker("bad", fails={"start"})
    pipeline = Pipeline([good, bad], Memory(), lane_capacity=8)
    with pytest.raises(ValueError, match="not to be told"):
        await pipeline.start()
    await pipeline.close(0)
    assert good.verbs == ["start", "drain", "stop"]
    assert bad.verbs == ["start", "drain", "stop"]


async def test_an_alert_is_saved_before_a_sink_gets_it_and_as_told_when_every_sink_has_taken_it(device):
    memory, quick, slow = Memory(), Taker("quick"), Taker("slow")
    pipeline = await running([quick, slow], memory)
    memory.gate.clear()
    slow.gate.clear()
    await pipeline.offer(device.alarm(1, present=True))
    await settle()
    assert (pipeline.open_alerts(), memory.alerts, quick.batches) == (1, {}, [])
    memory.gate.set()
    await quick.until(1)
    await settle()
    assert list(memory.alerts) == [(device.device, "mds", "ac.spo2")]
    told = quick.batches[0].occurrences[0]
    assert memory.remembered().open.id == told.id
    assert memory.remembered().untold == (told,)
    slow.gate.set()
    await slow.until(1)
    await settle()
    assert (memory.remembered().open.id, memory.remembered().untold) == (told.id, ())
    await pipeline.offer(device.alarm(2, present=False))
    await pipeline.close(0)
    assert (pipeline.open_alerts(), memory.alerts) == (0, {})


async def test_killed_before_every_sink_has_it_the_alert_is_told_again_and_then_what_came_of_it(device):
    memory, first, stuck = Memory(), Taker("first"), Taker("stuck")
    killed = await running([first, stuck], memory)
    stuck.gate.clear()
    await killed.offer(device.patient(1, "a"))
    await killed.offer(device.alarm(2, present=True))
    await first.until(2)
    left = Memory(memory.alerts)
    again = Taker("first")
    restarted = await running([again], left)
    device.patient(3, "b")  # while nobody looked, the patient left and the alert ended
    device.alarm(4, present=False)
    await restarted.offer(device.snapshot(5))
    await restarted.close(0)
    retold, now = again.batches
    assert retold.occurrences == first.batches[1].occurrences
    assert retold.occurrences[0].association.patient.handle == "pc.a"
    assert retold.associations == now.associations, "what an MDS is told to be now is never the past"
    assert [(told.id, told.phase) for told in now.occurrences] == [(retold.occurrences[0].id, "end")]
    assert now.associations[MdsKey(device.device, "mds")].patient.handle == "pc.b"
    assert left.alerts == {}
    stuck.gate.set()
    await killed.close(0)


async def test_killed_before_every_sink_has_the_end_of_an_alert_it_ends_after_the_restart(device):
    memory, sink = Memory(), Taker()
    killed = await running([sink], memory)
    await killed.offer(device.alarm(1, present=True))
    await sink.until(1)
    sink.gate.clear()
    await killed.offer(device.alarm(2, present=False))
    await settle()
    left = Memory(memory.alerts)
    assert left.remembered().open is None
    again = Taker()
    restarted = await running([again], left)
    assert restarted.open_alerts() == 0
    await restarted.offer(device.snapshot(5))
    await restarted.close(0)
    sink.gate.set()
    await killed.close(0)
    assert [batch.occurrences for batch in again.batches] == [sink.batches[1].occurrences, ()]
    assert [told.phase for told in again.batches[0].occurrences] == ["end"]
    assert left.alerts == {}


async def test_killed_again_and_again_an_alert_is_told_until_it_has_been_taken(device):
    left = Memory()
    start = device.alarm(1, present=True)
    for _ in range(3):
        stuck = Taker("stuck")
        stuck.gate.clear()
        pipeline = await running([stuck], memory := Memory(left.alerts))
        await pipeline.offer(start if not left.alerts else device.snapshot(5))
        await asyncio.wait_for(memory.saved.wait(), 5)
        await settle()
        left = Memory(memory.alerts)
        phases = [untold.phase for untold in left.remembered().untold]
        assert phases == ["start", *["continue"] * (len(phases) - 1)]
        stuck.gate.set()
        await pipeline.close(0)
    assert len(phases) == 3
    taker = Taker()
    pipeline = await running([taker], left)
    await pipeline.offer(device.snapshot(6))
    await pipeline.close(0)
    assert [told.number for batch in taker.batches for told in batch.occurrences] == [0, 1, 2, 3]
    assert left.remembered().untold == ()


async def test_killed_after_saving_the_alert_goes_on(device):
    memory = Memory()
    pipeline = await running([Taker()], memory)
    await pipeline.offer(device.alarm(1, present=True))
    await pipeline.close(0)
    again = Taker()
    restarted = await running([again], Memory(memory.alerts))
    assert restarted.open_alerts() == 1
    await restarted.offer(device.snapshot(5))
    await restarted.close(0)
    assert [told.phase for told in again.batches[0].occurrences] == ["continue"]


async def test_alerts_that_cannot_be_saved_are_counted_and_tried_again(device, caplog):
    memory = Memory()
    memory.broken = True
    pipeline = await running([Taker()], memory)
    await pipeline.offer(device.alarm(1, present=True))
    await asyncio.wait_for(memory.saved.wait(), 5)
    await settle()
    assert (pipeline.not_saved, memory.alerts) == (2, {}), "before the sink got it, and after"
    memory.broken = False
    await pipeline.close(0)
    assert len(memory.alerts) == 1
    assert "Name-a" not in caplog.text


async def test_closing_ends_even_where_nothing_can_be_saved(device):
    memory = Memory()
    memory.broken = True
    pipeline = await running([Taker()], memory)
    await pipeline.offer(device.alarm(1, present=True))
    await asyncio.wait_for(pipeline.close(0), 5)
    assert (pipeline.not_saved, memory.alerts) == (3, {})


async def test_without_sinks_alerts_are_kept_all_the_same(device):
    memory = Memory()
    pipeline = await running([], memory)
    await pipeline.offer(device.alarm(1, present=True))
    await pipeline.close(0)
    assert len(memory.alerts) == 1


async def test_a_full_lane_delays_the_device_until_there_is_room(device):
    sink = Taker()
    pipeline = await running([sink], capacity=1)
    sink.gate.clear()
    for at in (1, 2):  # one in the sink's hands, one in the lane
        await pipeline.offer(device.alarm(at, present=bool(at % 2)))
        await settle()
    delayed = asyncio.create_task(pipeline.offer(device.alarm(3, present=True)))
    await settle()
    assert not delayed.done()
    assert len(pipeline.lanes()["taker"]) == 1
    sink.gate.set()
    await asyncio.wait_for(delayed, 5)
    await pipeline.close(0)
    assert [batch.arrived for batch in sink.batches] == [1, 2, 3]


async def test_what_is_queued_is_taken_before_the_end(device):
    sink = Taker()
    pipeline = await running([sink])
    sink.gate.clear()
    for at in range(1, 6):
        await pipeline.offer(device.values(at, sys=at))
    closing = asyncio.create_task(pipeline.close(0))
    await settle()
    assert not closing.done()
    sink.gate.set()
    await asyncio.wait_for(closing, 5)
    assert [batch.arrived for batch in sink.batches] == [1, 2, 3, 4, 5]
    assert sink.verbs[-2:] == ["drain", "stop"]


async def test_an_alert_latched_before_anyone_looked_is_not_told(device, caplog):
    latched = msgspec.structs.replace(device.mdib.states["as.spo2"], state_version=1, presence="Latch")
    device.report("alert", 1, latched)
    sink = Taker()
    pipeline = await running([sink])
    with caplog.at_level(logging.INFO):
        await pipeline.offer(device.snapshot(2))
        await pipeline.close(0)
    assert sink.batches[0].occurrences == ()
    assert "latched without having been seen" in caplog.text


async def test_an_alert_of_another_version_is_forgotten_and_counted_and_the_node_starts(caplog):
    memory = Memory({("urn:uuid:1", "mds", "ac.spo2"): b'{"open": 7}'})
    taker = Taker()
    pipeline = Pipeline([taker], memory, lane_capacity=10)
    with caplog.at_level(logging.ERROR):
        await pipeline.start()
    assert (pipeline.not_read, pipeline.open_alerts()) == (1, 0)
    assert "forgotten" in caplog.text
    await pipeline.close(0)
