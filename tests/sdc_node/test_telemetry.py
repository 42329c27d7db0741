"""/health, /ready, /metrics and /status over loopback, and that nothing in them names a patient."""

import asyncio
import re
import socket

import aiohttp
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sdc_node.telemetry import DestinationStatus, DeviceStatus, Status, Telemetry, TelemetryError

EPR = "urn:uuid:aaaaaaaa-0000-4000-8000-000000000001"

STATUS = Status(
    ready=True,
    not_ready=[],
    clock="kept",
    devices=[
        DeviceStatus(device=EPR, model="Demo", state="live", reason="snapshot taken", since=1_800_000_000_000),
        DeviceStatus(device="urn:uuid:b", model="", state="lost", reason='said "no"\nand left', since=0),
    ],
    received={"MetricUpdate": 7, "batches": 3},
    sinks={"hl7": {"pcd01": 2}, 'odd"name\n': {"x": 1}},
    dropped={"hl7: waveform": 5},
    failed={"jsonl": 1},
    destinations=[
        DestinationStatus(
            destination="hl7",
            lane="bulk",
            waiting=4,
            waiting_bytes=400,
            oldest=1_800_000_000_500,
            sent=9,
            dead=1,
            last_error="refused",
        ),
        DestinationStatus(
            destination="hl7", lane="alert", waiting=0, waiting_bytes=0, oldest=None, sent=2, dead=0, last_error=None
        ),
    ],
    open_alerts=2,
    problems={"https://10.0.0.5/x": "nobody listens"},
)


@pytest.fixture
async def serve():
    """Serves what it is given; `get(path)` gives status, text and type."""
    started = []

    async def serve(status):
        telemetry = Telemetry(status, 0)
        await telemetry.start()
        started.append(telemetry)

        async def get(path):
            timeout = aiohttp.ClientTimeout(total=10)
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"http://127.0.0.1:{telemetry.port}{path}") as answer,
            ):
                return answer.status, await answer.text(), answer.headers["content-type"]

        return get

    yield serve
    for telemetry in started:
        await telemetry.stop()


async def test_health_and_ready(serve):
    get = await serve(lambda: STATUS)
    assert (await get("/health"))[:2] == (200, "ok\n")
    assert (await get("/ready"))[:2] == (200, "ready\n")
    assert (await get("/docs"))[0] == 404
    assert (await get("/openapi.json"))[0] == 404


async def test_r1540_not_ready_is_503_with_each_reason(serve):
    why = ["no time service: not kept", "devices are not followed yet"]
    get = await serve(lambda: msgspec.structs.replace(STATUS, ready=False, not_ready=why))
    assert (await get("/health"))[0] == 200
    status, text, _ = await get("/ready")
    assert status == 503
    assert text == "not ready: no time service: not kept\nnot ready: devices are not followed yet\n"
    assert "sdc_node_ready 0.0" in (await get("/metrics"))[1]


async def test_status_reads_back(serve):
    get = await serve(lambda: STATUS)
    status, text, kind = await get("/status")
    assert (status, kind) == (200, "application/json")
    assert msgspec.json.decode(text, type=Status) == STATUS


async def test_metrics_say_every_number_in_prometheus_words(serve):
    get = await serve(lambda: STATUS)
    status, text, kind = await get("/metrics")
    assert status == 200
    assert kind.startswith("text/plain; version=0.0.4")
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    bulk = (("destination", "hl7"), ("lane", "bulk"))
    alert = (("destination", "hl7"), ("lane", "alert"))
    states = ("discovered", "connecting", "subscribed", "live", "stale", "lost")
    assert found == {
        ("sdc_node_ready",): 1,
        ("sdc_node_open_alerts",): 2,
        **{("sdc_node_devices", ("state", state)): float(state in {"live", "lost"}) for state in states},
        ("sdc_node_received_total", ("kind", "MetricUpdate")): 7,
        ("sdc_node_received_total", ("kind", "batches")): 3,
        ("sdc_node_dropped_total", ("reason", "hl7: waveform")): 5,
        ("sdc_node_failed_total", ("sink", "jsonl")): 1,
        ("sdc_node_sink_total", ("name", "pcd01"), ("sink", "hl7")): 2,
        ("sdc_node_sink_total", ("name", "x"), ("sink", 'odd"name\n')): 1,
        ("sdc_node_outbox_waiting", *bulk): 4,
        ("sdc_node_outbox_waiting", *alert): 0,
        ("sdc_node_outbox_waiting_bytes", *bulk): 400,
        ("sdc_node_outbox_waiting_bytes", *alert): 0,
        ("sdc_node_outbox_oldest_seconds", *bulk): 1_800_000_000.5,
        ("sdc_node_outbox_dead", *bulk): 1,
        ("sdc_node_outbox_dead", *alert): 0,
        ("sdc_node_outbox_sent_total", *bulk): 9,
        ("sdc_node_outbox_sent_total", *alert): 2,
    }


async def test_no_label_holds_what_a_device_says_or_who_it_is(serve):
    """Labels are names of ours; what devices say (a reason, a model) is told in /status only."""
    get = await serve(lambda: STATUS)
    _, text, _ = await get("/metrics")
    labels = set(re.findall(r'(\w+)="', text))
    assert labels == {"state", "kind", "reason", "sink", "name", "destination", "lane"}
    assert EPR not in text
    assert "Demo" not in text
    assert "and left" not in text


async def test_each_answer_is_of_that_moment(serve):
    moments = [msgspec.structs.replace(STATUS, open_alerts=number) for number in (1, 2)]
    get = await serve(lambda: moments.pop(0))
    counts = [msgspec.json.decode((await get("/status"))[1])["open_alerts"] for _ in range(2)]
    assert counts == [1, 2]


async def test_bad_input_a_port_in_use_is_told_in_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        telemetry = Telemetry(lambda: STATUS, port)
        with pytest.raises(TelemetryError) as caught:
            await telemetry.start()
    assert str(caught.value) == (
        f"port {port} on 127.0.0.1 cannot be used (Address already in use); set another [node] port"
    )
    await telemetry.stop()


async def test_it_listens_on_loopback_only_and_leaves_the_port_free():
    telemetry = Telemetry(lambda: STATUS, 0)
    await telemetry.start()
    port = telemetry.port
    with socket.socket() as other:  # bound to all addresses it could not be had
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.2", port))
    await telemetry.stop()
    again = Telemetry(lambda: STATUS, port)
    await again.start()
    assert again.port == port
    await again.stop()


async def test_bad_input_what_is_no_http_leaves_no_traceback_in_the_log(serve, caplog):
    caplog.set_level("INFO")
    get = await serve(lambda: STATUS)
    port = int(get.__closure__[0].cell_contents.port)
    head = b"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    for wrong in (b"nonsense\r\n\r\n", head + b"zz\r\n", head + b"5\r\nab\r\n0\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(wrong)
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 10)
        writer.close()
        await writer.wait_closed()
    assert (await get("/health"))[0] == 200
    assert [record.message for record in caplog.records if record.name.startswith("uvicorn")] == []


async def test_a_status_that_cannot_be_told_is_500_and_one_line(serve, caplog):
    def broken():
        raise ValueError("whom it is about")

    get = await serve(broken)
    assert (await get("/status"))[:2] == (500, "the node failed to tell; see its log\n")
    assert caplog.messages == ["/status could not be answered: ValueError"]
    assert (await get("/health"))[0] == 200
