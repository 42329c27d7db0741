"""The HL7 sink on a real outbox, before a real receiver on loopback."""

import asyncio
import contextlib
import logging
import socket

import pytest
from pydantic import ValidationError

from sdc_node.database import DatabaseError
from sdc_node.ledger import Ledger, read_ledger
from sdc_node.receivers.hl7 import Hl7Receiver, list_messages, message_body
from sdc_node.sinks.base import SinkError
from sdc_node.sinks.hl7v2 import sink as module
from sdc_node.sinks.hl7v2.settings import Hl7Settings
from sdc_node.sinks.hl7v2.sink import Hl7Sink, gateway_of

T0 = 1_800_000_000_000


class Clock:
    def __init__(self, now=T0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@contextlib.asynccontextmanager
async def running(opened, clock, port=1, **options):
    outbox, state = opened
    ledger = options.pop("ledger", None)
    given = {"host": "127.0.0.1", "port": port, "interval": 10.0, "retry_first": 0.02, "retry_max": 0.05} | options
    sink = Hl7Sink(Hl7Settings(**given), outbox=outbox, state=state, ledger=ledger, now=clock)
    await sink.start()
    try:
        yield sink
    finally:
        await sink.stop()


@contextlib.asynccontextmanager
async def receiving(directory, port=0):
    receiver = Hl7Receiver(directory, port=port)
    await receiver.start()
    try:
        yield receiver
    finally:
        await receiver.stop()


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - counters, which nothing announces
            await asyncio.sleep(0.005)


def waiting(outbox):
    return sum(counts.waiting for counts in outbox.counts().values())


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def day(device):
    """The traffic of a short day: a patient, values, an alert that starts and ends."""
    return [
        device.snapshot(T0),
        device.patient(T0 + 10, "a", weight="70"),
        device.values(T0 + 1_000, T0 + 1_000, hr=70, sys=120),
        device.alarm(T0 + 2_000, present=True),
        device.alarm(T0 + 3_000, present=False),
    ]


async def test_intervals_and_alerts_arrive_and_are_accepted(tmp_path, stores, bedside, clock):
    async with stores(tmp_path) as opened, receiving(tmp_path / "in") as receiver:
        async with running(opened, clock, receiver.port) as sink:
            for batch in day(bedside()):
                await sink.accept(batch)
            clock.now = T0 + 4_000
            await sink.drain(10)
            assert waiting(opened[0]) == 0
            assert dict(receiver.counters.accepted) == {"pcd01": 1, "pcd04": 2}
            assert not receiver.counters.refused
            assert sink.counters() == {"pcd01_rendered": 1, "pcd04_rendered": 2}
        messages = await asyncio.to_thread(list_messages, tmp_path / "in")
        bulk = next(one for one in messages if one.kind == "pcd01")
        body = (await asyncio.to_thread(message_body, tmp_path / "in", bulk.id)).decode()
    assert "|70|" in body
    assert "P-a" in body
    assert len(bulk.control_id) == 20


async def test_an_interval_is_closed_by_the_clock_without_another_batch(tmp_path, stores, bedside, clock):
    there = receiving(tmp_path / "in")
    async with stores(tmp_path) as opened, there as receiver, running(opened, clock, receiver.port) as sink:
        await sink.accept(bedside().values(T0 + 1_000, T0 + 1_000, hr=70))
        clock.now = T0 + 10_500
        sink._wake.set()
        await until(lambda: receiver.counters.accepted["pcd01"])


async def test_nothing_exportable_is_no_message(tmp_path, stores, bedside, clock):
    async with stores(tmp_path) as opened, running(opened, clock) as sink:
        await sink.accept(bedside().values(T0 + 1, T0 + 1, validity="Inv", hr=70))
        await sink.drain(0)
        assert sink.counters() == {"empty_intervals": 1}
        assert waiting(opened[0]) == 0


async def test_the_same_batches_again_owe_nothing_new(tmp_path, stores, bedside, clock):
    bodies = []
    ledger = await asyncio.to_thread(Ledger, tmp_path / "ledger.txt")
    for built in (T0 + 4_000, T0 + 9_000):  # the second time after a crash, and later
        clock.now = built
        async with stores(tmp_path) as opened, running(opened, clock, ledger=ledger) as sink:
            for batch in day(bedside()):
                await sink.accept(batch)
            clock.now = T0 + 4_000
            await sink.drain(0)
            assert waiting(opened[0]) == 3
            counts = opened[0].counts()
            assert (counts["hl7", "alert"].waiting, counts["hl7", "bulk"].waiting) == (2, 1)
            bodies.append(await opened[0].head("hl7", "alert", T0 * 2, 10))
    ledger.close()
    owed = await asyncio.to_thread(read_ledger, tmp_path / "ledger.txt")
    assert len(owed) == len(set(owed)) == 3
    assert [item.id for item in bodies[0]] == [item.id for item in bodies[1]]
    assert [item.body for item in bodies[0]] == [item.body for item in bodies[1]], "the first bytes are kept"


async def test_numbers_of_rows_survive_a_restart(tmp_path, stores, bedside, clock):
    device = bedside()
    seen = []
    for number in range(2):
        async with stores(tmp_path) as opened, running(opened, clock) as sink:
            if number:
                device.describe(T0, device.metric("m.aa", 149530, 264864))
            await sink.accept(device.snapshot(T0))
            seen.append(dict(sink._numbers[device.device]))
    added = set(seen[1]) - set(seen[0])
    assert added == {("ch", "m.aa")}
    assert {pair: seen[1][pair] for pair in seen[0]} == seen[0]
    assert seen[1]["ch", "m.aa"] > max(number for (parent, _), number in seen[0].items() if parent == "ch")


async def test_a_receiver_that_is_down_gets_everything_when_it_is_up(tmp_path, stores, bedside, clock):
    port = free_port()
    async with stores(tmp_path) as opened, running(opened, clock, port) as sink:
        for batch in day(bedside()):
            await sink.accept(batch)
        await until(lambda: all(delivery.counts.retried for delivery in sink.deliveries if delivery.lane == "alert"))
        assert waiting(opened[0]) == 2
        clock.now = T0 + 4_000
        draining = asyncio.create_task(sink.drain(10))
        async with receiving(tmp_path / "in", port) as receiver:
            await draining
            assert waiting(opened[0]) == 0
            assert dict(receiver.counters.accepted) == {"pcd01": 1, "pcd04": 2}


async def test_draining_ends_where_nobody_answers_and_keeps_what_is_owed(tmp_path, stores, bedside, clock):
    async with stores(tmp_path) as opened:
        async with running(opened, clock, free_port()) as sink:
            for batch in day(bedside()):
                await sink.accept(batch)
            await asyncio.wait_for(sink.drain(0.1), 5)
        assert waiting(opened[0]) == 3
    async with stores(tmp_path) as opened, receiving(tmp_path / "in") as receiver:
        async with running(opened, clock, receiver.port) as sink:
            await until(lambda: waiting(opened[0]) == 0)
        assert sum(receiver.counters.accepted.values()) == 3


class Answers:
    """An MLLP receiver that answers each message with the next of its codes, and with the last one for ever."""

    def __init__(self, *codes, error=""):
        self.codes = list(codes)
        self.error = error
        self.came = 0

    async def serve(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                body = await reader.readuntil(b"\x1c\r")
                self.came += 1
                code = self.codes.pop(0) if len(self.codes) > 1 else self.codes[0]
                control_id = body.split(b"\r")[0].split(b"|")[9].decode()
                writer.write(f"\x0bMSH|^~\\&|r\rMSA|{code}|{control_id}|why\r{self.error}\r\x1c\r".encode())
                await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await server.wait_closed()


@pytest.mark.parametrize("code", ["CR", "AR"])
async def test_a_rejection_is_a_dead_letter_and_the_next_one_goes(tmp_path, stores, bedside, clock, code):
    answers = Answers(code, "CA")
    async with stores(tmp_path) as opened, answers.running() as port:
        async with running(opened, clock, port) as sink:
            for batch in day(bedside())[:-1]:
                await sink.accept(batch)
            await until(lambda: opened[0].counts()["hl7", "alert"].dead)
            clock.now = T0 + 4_000
            await sink.drain(10)
        (letter,) = await opened[0].dead_letters("hl7")
        assert letter.reason == code
        assert opened[0].counts()["hl7", "bulk"].sent == 1


@pytest.mark.parametrize("code", ["CE", "AE"])
async def test_an_error_is_tried_again_and_then_a_dead_letter(tmp_path, stores, bedside, clock, code):
    answers = Answers(code)
    async with stores(tmp_path) as opened, answers.running() as port:
        async with running(opened, clock, port) as sink:
            await sink.accept(bedside().alarm(T0, present=True))
            await until(lambda: opened[0].counts()["hl7", "alert"].dead)
        assert answers.came == 3


@pytest.mark.parametrize("code", ["CE", "AE"])
async def test_an_internal_error_of_the_receiver_makes_no_dead_letter(tmp_path, stores, bedside, clock, caplog, code):
    answers = Answers(*[code] * 5, "CA", error="ERR||OBX^3^5|207|E||||Doe, Jane")
    async with stores(tmp_path) as opened, answers.running() as port:
        async with running(opened, clock, port) as sink:
            await sink.accept(bedside().alarm(T0, present=True))
            await until(lambda: opened[0].counts()["hl7", "alert"].sent)
        assert answers.came == 6
        assert not await opened[0].dead_letters("hl7")
    assert f"hl7 (alert): {code} OBX[3]-5: 207 Application internal error; trying again" in caplog.text
    assert "Doe" not in caplog.text


async def test_a_gone_condition_is_told_from_the_mirror_in_which_it_was(tmp_path, stores, bedside, clock):
    device = bedside()
    async with stores(tmp_path) as opened, receiving(tmp_path / "in") as receiver:
        async with running(opened, clock, receiver.port) as sink:
            await sink.accept(device.alarm(T0, present=True))
            signal = device.mdib.descriptors["as.spo2"]
            await sink.accept(device.describe(T0 + 1, signal, modification="Del"))
            condition = device.mdib.descriptors["ac.spo2"]
            gone = device.describe(T0 + 2, condition, modification="Del")
            assert [one.phase for one in gone.occurrences] == ["end"]
            await sink.accept(gone)
            await sink.drain(10)
        assert receiver.counters.accepted["pcd04"] >= 2
        assert not receiver.counters.refused


async def test_what_cannot_be_rendered_is_counted_and_the_rest_goes(
    tmp_path, stores, bedside, clock, monkeypatch, caplog
):
    one, other = bedside("urn:uuid:1"), bedside("urn:uuid:2")
    real = module.render_pcd01

    def render(interval, stamps):
        if interval.key.device == one.device:
            raise ValueError("Name-a")
        return real(interval, stamps)

    def no_alert(*_, **__):
        raise ValueError("Name-a")

    monkeypatch.setattr(module, "render_pcd01", render)
    monkeypatch.setattr(module, "render_pcd04", no_alert)
    async with stores(tmp_path) as opened, running(opened, clock) as sink:
        for device in (one, other):
            await sink.accept(device.values(T0, T0, hr=70))
        await sink.accept(other.alarm(T0 + 1, present=True))
        await sink.drain(0)
        assert opened[0].counts()["hl7", "bulk"].waiting == 1
        counters = sink.counters()
    assert (counters["dropped_pcd01_not_rendered"], counters["dropped_pcd04_not_rendered"]) == (1, 1)
    assert "Name-a" not in caplog.text
    assert "ValueError" in caplog.text


async def test_numbers_that_could_not_be_kept_are_given_at_the_next_batch(
    tmp_path, stores, bedside, clock, monkeypatch
):
    device = bedside()
    async with stores(tmp_path) as opened, running(opened, clock) as sink:
        await sink.accept(device.link("connecting", T0))

        async def full(*_):
            raise DatabaseError("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(opened[1], "assign", full)
            patched.setattr(sink, "_numbered", {})
            with pytest.raises(DatabaseError):
                await sink.accept(device.snapshot(T0))
        await sink.accept(device.alarm(T0 + 1, present=True))
        assert waiting(opened[0]) == 1


async def test_what_cannot_be_committed_is_held_and_goes_with_the_next_try(
    tmp_path, stores, bedside, clock, monkeypatch, caplog
):
    device = bedside()
    async with stores(tmp_path) as opened, running(opened, clock) as sink:

        async def full(*_, **__):
            raise DatabaseError("the disk is full")

        await sink.accept(device.values(T0, T0, hr=70, sys=120))
        with monkeypatch.context() as patched, caplog.at_level(logging.ERROR):
            patched.setattr(opened[0], "put", full)
            with pytest.raises(DatabaseError):
                await sink.accept(device.alarm(T0 + 1, present=True))
            clock.now = T0 + 10_500
            sink._wake.set()
            await until(lambda: sink.counters().get("failed_intervals"))
        assert waiting(opened[0]) == 0
        sink._wake.set()
        await until(lambda: waiting(opened[0]) == 2)  # the alert and the interval
        await sink.drain(0)
        assert await opened[1].told(sink.name) == {(device.device, "mds", "m.sys"): T0}  # and noted with it


async def test_what_was_told_and_could_not_be_noted_is_noted_with_the_next_try(
    tmp_path, stores, bedside, clock, monkeypatch
):
    device = bedside()
    async with stores(tmp_path) as opened, running(opened, clock) as sink:

        async def full(*_, **__):
            raise DatabaseError("the disk is full")

        await sink.accept(device.values(T0, T0, sys=120))
        with monkeypatch.context() as patched:
            patched.setattr(opened[1], "save_told", full)
            with pytest.raises(DatabaseError):
                await sink.accept(device.link("lost", T0 + 1_000))
        assert await opened[1].told(sink.name) == {}
        await sink.drain(0)
        assert await opened[1].told(sink.name) == {(device.device, "mds", "m.sys"): T0}


async def test_late_values_show_among_what_was_dropped(tmp_path, stores, bedside, clock):
    device = bedside()
    async with stores(tmp_path) as opened, running(opened, clock) as sink:
        await sink.accept(device.snapshot(T0))
        await sink.accept(device.values(T0 + 1, T0 - 1_000, hr=70))
        assert sink.counters()["dropped_late"] == 1


async def test_a_sink_that_was_never_started_can_be_stopped(tmp_path, stores):
    async with stores(tmp_path) as (outbox, state):
        sink = Hl7Sink(Hl7Settings(host="127.0.0.1", port=1), outbox=outbox, state=state)
        await sink.drain(1)
        await sink.stop()


async def test_the_outbox_holds_what_the_receiver_will_see(tmp_path, stores, bedside, clock):
    async with stores(tmp_path) as opened, running(opened, clock, eui64="ACDE48234567ABCD", application="GW") as sink:
        await sink.accept(bedside().alarm(T0, present=True))
        (item,) = await opened[0].head("hl7", "alert", T0 * 2, 10)
    header = item.body.decode().split("\r")[0].split("|")
    assert header[2] == "GW^ACDE48234567ABCD^EUI-64"
    assert (header[9], item.key, item.created) == (item.id, bedside().device, T0)


async def test_tls_without_certificates_is_refused_and_never_sent_in_the_clear(tmp_path, stores):
    settings = Hl7Settings(host="127.0.0.1", port=1, tls=True)
    async with stores(tmp_path) as (outbox, state):
        with pytest.raises(SinkError, match="tls needs certificates"):
            Hl7Sink(settings, outbox=outbox, state=state)


def test_the_gateway_is_who_the_settings_say():
    settings = Hl7Settings(
        host="h", port=1, application="A", eui64="0" * 16, facility="F", country="DEU", patient_class="I"
    )
    gateway = gateway_of(settings)
    assert (gateway.application, gateway.facility, gateway.country, gateway.patient_class) == ("A", "F", "DEU", "I")


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 0},
        {"host": ""},
        {"eui64": "xyz"},
        {"country": "D"},
        {"patient_class": "X"},
        {"interval": 0},
        {"name": "No Spaces"},
        {"application": ""},
        {"unknown": 1},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Hl7Settings(**({"host": "h", "port": 1} | wrong))
