"""The FHIR sink on a real outbox, before a real receiver on loopback."""

import asyncio
import contextlib
import json
import logging
import socket
from decimal import Decimal

import msgspec
import pytest
import uvicorn
from fastapi import FastAPI, Response
from pydantic import ValidationError

from mdib_models.coding import Range
from sdc_node.database import DatabaseError
from sdc_node.receivers.fhir import FhirReceiver, list_resources, read_counts
from sdc_node.sinks.fhir import sink as module
from sdc_node.sinks.fhir.settings import FhirSettings
from sdc_node.sinks.fhir.sink import FhirSink
from sdc_node.telemetry import _Server

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
async def running(opened, clock, base_url="http://127.0.0.1:1", **options):
    given = {"base_url": base_url, "interval": 10.0, "retry_first": 0.02, "retry_max": 0.05} | options
    sink = FhirSink(FhirSettings(**given), outbox=opened[0], now=clock)
    await sink.start()
    try:
        yield sink
    finally:
        await sink.stop()


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - counters, which nothing announces
            await asyncio.sleep(0.005)


def waiting(outbox):
    return sum(counts.waiting for counts in outbox.counts().values())


def day(device):
    return [
        device.snapshot(T0),
        device.patient(T0 + 10, "a"),
        device.values(T0 + 1_000, T0 + 1_000, hr=70, sys=120),
        device.alarm(T0 + 2_000, present=True),
        device.alarm(T0 + 3_000, present=False),
    ]


async def test_tree_observations_and_alerts_arrive_and_are_accepted(tmp_path, stores, bedside, clock):
    folder = tmp_path / "in"
    async with stores(tmp_path) as opened, FhirReceiver(folder, "127.0.0.1", 0) as receiver:
        async with running(opened, clock, receiver.base_url) as sink:
            for batch in day(bedside()):
                await sink.accept(batch)
            clock.now = T0 + 4_000
            await sink.drain(10)
            assert waiting(opened[0]) == 0
            counters = dict(sink.counters())
        counts = await asyncio.to_thread(read_counts, folder)
        resources = await asyncio.to_thread(list_resources, folder)
    assert counts.rejected == 0
    assert counters["entries_owed"] == counters["entries_accepted"] == counts.accepted
    assert counters["entries_rejected"] == 0
    assert (counters["observations_rendered"], counters["alerts_rendered"]) == (2, 2)
    kinds = {one.ref.partition("/")[0] for one in resources}
    assert kinds == {"Device", "DeviceMetric", "Observation"}
    titles = [one.title for one in resources if one.ref.startswith("Observation")]
    assert sum("70" in title for title in titles) == 1


async def test_a_round_comes_by_the_clock(tmp_path, stores, bedside, clock):
    async with stores(tmp_path) as opened, running(opened, clock) as sink:
        await sink.accept(bedside().values(T0, T0, hr=70))
        trees = waiting(opened[0])
        clock.now = T0 + 9_999
        sink._wake.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert waiting(opened[0]) == trees
        clock.now = T0 + 10_000
        sink._wake.set()
        await until(lambda: waiting(opened[0]) == trees + 1)


async def test_the_tree_goes_again_only_when_it_changed(tmp_path, stores, bedside, clock):
    device = bedside()
    async with stores(tmp_path) as opened, running(opened, clock) as sink:

        async def trees(batch):
            await sink.accept(batch)
            return sink.counters()["trees_rendered"]

        assert await trees(device.snapshot(T0)) == 1
        assert await trees(device.values(T0 + 1, T0 + 1, hr=70)) == 1
        assert await trees(device.clock(T0 + 2, T0 + 2)) == 1
        assert await trees(device.describe(T0 + 3, device.metric("m.new", 149530, 264864))) == 2
        assert await trees(device.again(device.mdib, T0 + 4)) == 2
        assert await trees(device.patient(T0 + 5, "a")) == 3
        assert await trees(device.values(T0 + 6, T0 + 6, hr=71)) == 3


async def bulk(outbox):
    """The entries of each bundle of the bulk lane, in the order in which they go; they are taken out."""
    found = []
    while items := await outbox.head("fhir", "bulk", T0 * 2, 1):
        found.append(json.loads(items[0].body)["entry"])
        await outbox.acknowledge(items[0])
    return found


def statuses(entries):
    """`operationalStatus` of a DeviceMetric, `status` of a Device, by the last part of what it is found by."""
    resources = [entry["resource"] for entry in entries]
    return {
        one["identifier"][0]["value"].rpartition("/")[2]: one.get("operationalStatus") or one["status"]
        for one in resources
    }


async def test_a_metric_that_is_deleted_is_turned_off_once_and_on_when_it_comes_back(tmp_path, stores, bedside, clock):
    device = bedside()
    async with stores(tmp_path) as opened, running(opened, clock) as sink:
        await sink.accept(device.snapshot(T0))
        metric = device.mdib.descriptors["m.dia"]
        await sink.accept(device.describe(T0 + 1, metric, modification="Del"))
        await sink.accept(device.values(T0 + 2, T0 + 2, hr=70))
        await sink.accept(device.describe(T0 + 3, metric))
        _, gone, without, back = await bulk(opened[0])
        assert statuses(gone) == {"m.dia": "off"}
        assert "m.dia" not in statuses(without)
        assert statuses(back)["m.dia"] == "on"
        assert sink.counters()["gone_rendered"] == 1


async def test_an_mds_that_a_snapshot_no_longer_has_is_turned_off_and_on_when_it_comes_back(
    tmp_path, stores, bedside, clock
):
    device = bedside()
    async with stores(tmp_path) as opened, running(opened, clock) as sink:
        await sink.accept(device.snapshot(T0))
        full = device.mdib
        later = msgspec.structs.replace(full.version, mdib_version=2)
        device.mdib = msgspec.structs.replace(full, descriptors={}, states={}, version=later)
        await sink.accept(device.again(full, T0 + 1))
        empty, device.mdib = device.mdib, msgspec.structs.replace(full, version=later)
        await sink.accept(device.again(empty, T0 + 2))
        there, gone, back = map(statuses, await bulk(opened[0]))
    assert set(gone) == set(there) == set(back)
    assert set(gone.values()) == {"inactive", "off"}
    assert set(back.values()) == {"active", "on"}


async def test_a_new_physiological_range_is_a_new_tree(tmp_path, stores, bedside, clock):
    device = bedside()
    async with stores(tmp_path) as opened, running(opened, clock) as sink:
        await sink.accept(device.values(T0, T0, hr=70))
        for version, high in ((2, 120), (3, 120), (4, 130)):
            state = msgspec.structs.replace(
                device.mdib.states["m.hr"],
                state_version=version,
                physiological_range=(Range(Decimal(50), Decimal(high)),),
            )
            await sink.accept(device.report("metric", T0 + version, state))
        assert sink.counters()["trees_rendered"] == 3


async def test_the_same_batches_again_owe_nothing_new(tmp_path, stores, bedside, clock):
    seen = []
    for built in (T0 + 4_000, T0 + 9_000):
        async with stores(tmp_path) as opened, running(opened, clock) as sink:
            clock.now = built
            for batch in day(bedside()):
                await sink.accept(batch)
            await sink.drain(0)
            seen.append((waiting(opened[0]), sink.counters()["entries_owed"]))
            items = await opened[0].head("fhir", "alert", T0 * 2, 10)
    assert seen[0][0] == seen[1][0]
    assert seen[0][1] > 0
    assert seen[1][1] == 0
    assert json.loads(items[0].body)["identifier"]["value"] == items[0].id


async def test_a_condition_that_is_gone_is_told_from_the_mirror_in_which_it_was(tmp_path, stores, bedside, clock):
    device = bedside()
    async with stores(tmp_path) as opened, running(opened, clock) as sink:
        await sink.accept(device.alarm(T0, present=True))
        await sink.accept(device.describe(T0 + 1, device.mdib.descriptors["as.spo2"], modification="Del"))
        gone = device.describe(T0 + 2, device.mdib.descriptors["ac.spo2"], modification="Del")
        assert [one.phase for one in gone.occurrences] == ["end"]
        before = opened[0].counts()["fhir", "alert"].waiting
        await sink.accept(gone)
        assert opened[0].counts()["fhir", "alert"].waiting == before + 1


async def test_values_that_give_no_observation_are_counted_by_reason(tmp_path, stores, bedside, clock):
    async with stores(tmp_path) as opened, running(opened, clock) as sink:
        await sink.accept(bedside().values(T0, 10**15, hr=70))  # beyond the year 9999
        await sink.drain(0)
        assert sink.counters()["dropped_observations_time-out-of-range"] == 1
        assert sink.counters()["observations_rendered"] == 0


async def test_a_receiver_that_is_down_gets_everything_when_it_is_up(tmp_path, stores, bedside, clock):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with stores(tmp_path) as opened, running(opened, clock, f"http://127.0.0.1:{port}") as sink:
        for batch in day(bedside()):
            await sink.accept(batch)
        await until(lambda: all(delivery.counts.retried for delivery in sink.deliveries))
        draining = asyncio.create_task(sink.drain(10))
        async with FhirReceiver(tmp_path / "in", "127.0.0.1", port):
            await draining
            assert waiting(opened[0]) == 0
        assert sink.counters()["entries_accepted"] == sink.counters()["entries_owed"]


@contextlib.asynccontextmanager
async def answering(answer):
    """A server that gives every request the answer that the function makes of its number, from 1."""
    application, came = FastAPI(), []

    @application.post("/")
    async def post() -> Response:
        came.append(1)
        return answer(len(came))

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = _Server(uvicorn.Config(application, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await server.listening.wait()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", came
    finally:
        server.should_exit = True
        await serving


def bundle(*statuses):
    entries = [{"response": {"status": status}} for status in statuses]
    content = {"resourceType": "Bundle", "type": "batch-response", "entry": entries}
    return Response(json.dumps(content), media_type="application/fhir+json")


async def test_a_refused_entry_is_a_dead_letter(tmp_path, stores, bedside, clock):
    async with stores(tmp_path) as opened, answering(lambda _: bundle("422 Unprocessable")) as (url, _):
        async with running(opened, clock, url) as sink:
            await sink.accept(bedside().alarm(T0, present=True))
            await until(lambda: opened[0].counts()["fhir", "alert"].dead)
            assert sink.counters()["entries_rejected"] == 1
        letters = await opened[0].dead_letters("fhir")
        assert "422" in next(one for one in letters if one.item.lane == "alert").reason


async def test_a_conflict_is_tried_again_and_then_taken(tmp_path, stores, bedside, clock):
    def answer(number):
        return Response(status_code=409) if number == 1 else bundle("200 OK")

    async with stores(tmp_path) as opened, answering(answer) as (url, _), running(opened, clock, url) as sink:
        alarm = bedside().alarm(T0, present=True)
        await sink.accept(msgspec.structs.replace(alarm, associations={}))  # and so without a tree
        await until(lambda: opened[0].counts()["fhir", "alert"].sent)


@pytest.mark.parametrize("status", [302, 401, 404, 503])
async def test_a_server_that_takes_nothing_at_all_is_asked_again_for_ever(tmp_path, stores, bedside, clock, status):
    busy = answering(lambda _: Response(status_code=status))
    async with stores(tmp_path) as opened, busy as (url, came), running(opened, clock, url) as sink:
        await sink.accept(bedside().alarm(T0, present=True))
        await until(lambda: len(came) > 8)
        assert sum(counts.dead for counts in opened[0].counts().values()) == 0


async def test_what_cannot_be_rendered_is_counted_and_the_rest_goes(
    tmp_path, stores, bedside, clock, monkeypatch, caplog
):
    one, other = bedside("urn:uuid:1"), bedside("urn:uuid:2")
    real = module.render_observations

    def render(mdib, *arguments):
        if mdib.device == one.device:
            raise ValueError("Name-a")
        return real(mdib, *arguments)

    def no_alert(*_):
        raise ValueError("Name-a")

    monkeypatch.setattr(module, "render_observations", render)
    monkeypatch.setattr(module, "render_alert", no_alert)
    async with stores(tmp_path) as opened, running(opened, clock) as sink:
        for device in (one, other):
            await sink.accept(device.values(T0, T0, hr=70, sys=1))
        await sink.accept(other.alarm(T0 + 1, present=True))
        await sink.drain(0)
        counters = sink.counters()
    assert counters["dropped_observations_not_rendered"] == 2
    assert counters["dropped_alerts_not_rendered"] == 1
    assert counters["observations_rendered"] == 2
    assert "Name-a" not in caplog.text


async def test_what_cannot_be_committed_is_held_and_goes_with_the_next_try(
    tmp_path, stores, bedside, clock, monkeypatch, caplog
):
    device = bedside()
    async with stores(tmp_path) as opened, running(opened, clock) as sink:

        async def full(*_, **__):
            raise DatabaseError("the disk is full")

        with monkeypatch.context() as patched, caplog.at_level(logging.ERROR):
            patched.setattr(opened[0], "put", full)
            with pytest.raises(DatabaseError):
                await sink.accept(device.values(T0, T0, hr=70))
            clock.now = T0 + 10_000
            sink._wake.set()
            await until(lambda: sink.counters().get("failed_rounds"))
        assert waiting(opened[0]) == 0
        sink._wake.set()
        await until(lambda: waiting(opened[0]) == 2)  # the tree and the values


async def test_a_sink_that_was_never_started_can_be_stopped(tmp_path, stores):
    async with stores(tmp_path) as (outbox, _):
        sink = FhirSink(FhirSettings(base_url="http://127.0.0.1:1"), outbox=outbox)
        await sink.drain(1)
        await sink.stop()


async def test_no_waveforms_are_wanted(tmp_path, stores):
    async with stores(tmp_path) as (outbox, _):
        assert not FhirSink(FhirSettings(base_url="http://127.0.0.1:1"), outbox=outbox).wants_waveforms


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "ftp://h"},
        {"base_url": "http://h?x=1"},
        {"interval": 0},
        {"name": "No Spaces"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        FhirSettings(**({"base_url": "http://h"} | wrong))
