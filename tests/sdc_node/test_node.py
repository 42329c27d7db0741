"""The whole node in this process: a simulated device over TLS on one side, real receivers on the other."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import msgspec
import pytest

from consumers.errors import MulticastBlocked
from sdc_node import node, pki
from sdc_node.config import Config, ConfigError, load
from sdc_node.directory import DirectoryError
from sdc_node.ledger import read_ledger
from sdc_node.receivers import fhir_listing, hl7_store
from sdc_node.receivers.fhir import FhirReceiver
from sdc_node.receivers.hl7 import Hl7Receiver
from sdc_node.security import SecurityError
from sdc_node.sinks.base import SinkError
from sdc_node.telemetry import Status, TelemetryError
from sdc_node.timesync import TimeStatus, TimeWatch
from tests.sdc_node.simulated import issue_expired, simulated

pytestmark = pytest.mark.timeout(120)
SECONDS = 30.0


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("node") / "certs"
    pki.init(folder, {"node": "consumer", "pump": "provider"}, days=2)
    return folder


@pytest.fixture(scope="module")
def pump(certs):
    with simulated("pump", "--certs", certs / "pump") as (device,):
        yield device


@pytest.fixture(scope="module")
def plain():
    """A pump that offers plain HTTP only."""
    with simulated("pump") as (device,):
        yield device


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    monkeypatch.delenv("SDC_NODE_CERTS", raising=False)


@pytest.fixture
def configured(tmp_path, certs):
    """A Config as node.toml gives it, in `tmp_path`."""

    async def configured(*, node="", consumer="discover = false\n", more="") -> Config:
        text = f'[node]\ndirectory = "node"\ncerts = "{certs / "node"}"\nport = 0\nrequire_time_sync = false\n'
        text += f"drain = 5.0\nledger = true\n{node}[consumer]\n{consumer}{more}"
        (tmp_path / "node.toml").write_text(text)
        return await asyncio.to_thread(load, tmp_path / "node.toml", {})

    return configured


class Running:
    """A node that runs: its port, what it waits for, and its status."""

    def __init__(self, port: int, waiting: str) -> None:
        self.port = port
        self.waiting = waiting
        self.stop = asyncio.Event()

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}{path}") as answer:
            return answer.status, await answer.text()

    async def status(self) -> Status:
        return msgspec.json.decode((await self.get("/status"))[1], type=Status)

    async def until(self, holds: Callable[[Status], bool]) -> Status:
        async with asyncio.timeout(SECONDS):
            while not holds(status := await self.status()):  # noqa: ASYNC110 - the status is asked for
                await asyncio.sleep(0.05)
        return status


@contextlib.asynccontextmanager
async def running(config: Config, certs: Path | None = None) -> AsyncIterator[Running]:
    """`node.run` in a task; stopped at the end, and what it raised is raised."""
    began: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    task = asyncio.create_task(node.run(config, certs, lambda port, waiting: began.set_result((port, waiting)), stop))
    await asyncio.wait({began, task}, timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
    try:
        if began.done():
            made = Running(*began.result())
            made.stop = stop
            yield made
    finally:
        stop.set()
        await asyncio.wait_for(task, SECONDS)


async def test_it_follows_a_device_and_delivers_to_every_destination(configured, pump, tmp_path):
    async with contextlib.AsyncExitStack() as receivers:
        hl7 = Hl7Receiver(tmp_path / "hl7", "127.0.0.1", 0)
        await hl7.start()
        receivers.push_async_callback(hl7.stop)
        fhir = await receivers.enter_async_context(FhirReceiver(tmp_path / "fhir", "127.0.0.1", 0))
        await follow_and_deliver(configured, pump, hl7, fhir)
    left = msgspec.json.decode((tmp_path / "node" / "status.json").read_bytes(), type=Status)
    assert [one.waiting for one in left.destinations] == [0] * 4
    assert left.failed == {}
    messages = await asyncio.to_thread(hl7_store.list_messages, tmp_path / "hl7")
    stored = {one.control_id for one in messages if one.verdict == "CA"}
    taken = await asyncio.to_thread(fhir_listing.accepted_requests, tmp_path / "fhir")
    stored |= {key.rpartition("|")[2] for key in taken}
    owed = await asyncio.to_thread(read_ledger, tmp_path / "node" / "ledger.txt")
    assert owed
    assert set(owed) <= stored
    assert (tmp_path / "log.jsonl").stat().st_size > 1000


async def follow_and_deliver(configured, pump, hl7, fhir):
    config = await configured(
        consumer=f'discover = false\n[[consumer.device]]\naddress = "{pump.address}"\n',
        more=f'[[hl7]]\nhost = "127.0.0.1"\nport = {hl7.port}\ninterval = 1.0\n'
        f'[[fhir]]\nbase_url = "{fhir.base_url}"\ninterval = 1.0\n[jsonl]\npath = "log.jsonl"\n[console]\n',
    )
    async with running(config) as made:
        status = await made.until(
            lambda now: now.ready and all(one.sent > 1 for one in now.destinations if one.lane == "bulk")
        )
        assert (await made.get("/ready"))[0] == 200
        (device,) = status.devices
        assert (device.device, device.state) == (pump.epr, "live")
        assert device.since > 1_700_000_000_000
        assert {one.destination for one in status.destinations} == {"hl7", "fhir"}
        assert set(status.sinks) == {"hl7", "fhir", "jsonl", "console"}
        assert status.received["MetricUpdate"] > 0


async def test_r1540_no_device_is_followed_before_a_time_service_is_known(configured, pump, monkeypatch, caplog):
    answers = [TimeStatus(synchronised=False, accuracy_ms=None, detail="nobody keeps it")]

    def watch(*, required, limit_ms):
        assert (required, limit_ms) == (True, 250)
        return TimeWatch(required=required, limit_ms=limit_ms, interval=0.1, read=lambda: answers[0])

    monkeypatch.setattr(node, "TimeWatch", watch)
    followed = []
    real = node.Fleet.start

    async def start(fleet):
        followed.append(len(answers))
        await real(fleet)

    monkeypatch.setattr(node.Fleet, "start", start)
    config = await configured(
        node="max_clock_error = 0.25\n",
        consumer=f'discover = false\n[[consumer.device]]\naddress = "{pump.address}"\n',
    )
    config = config.model_copy(update={"node": config.node.model_copy(update={"require_time_sync": True})})
    async with running(config) as made:
        assert made.waiting.startswith("waiting for a time service; no device is followed until then")
        assert caplog.messages.count(made.waiting) == 1
        assert await made.get("/ready") == (503, "not ready: no time service: nobody keeps it\n")
        assert (await made.get("/health"))[0] == 200
        await asyncio.sleep(1.2)  # longer than the node waits between two looks
        status = await made.status()
        assert (status.ready, status.clock, status.devices) == (False, "nobody keeps it", [])
        assert followed == []
        answers[0] = TimeStatus(synchronised=True, accuracy_ms=1, detail="kept")
        status = await made.until(lambda now: now.ready and [one.state for one in now.devices] == ["live"])
        assert status.clock == "kept"
        assert followed == [1]


async def test_it_can_be_stopped_while_there_is_no_time_service(configured, monkeypatch):
    bad = TimeStatus(synchronised=False, accuracy_ms=None, detail="nobody keeps it")
    monkeypatch.setattr(node, "TimeWatch", lambda **options: TimeWatch(**options, read=lambda: bad))
    config = await configured()
    config = config.model_copy(update={"node": config.node.model_copy(update={"require_time_sync": True})})
    async with running(config) as made:
        assert not (await made.status()).ready


def threads() -> set[str]:
    """Names of what runs beside the loop and its own pool."""
    names = {thread.name for thread in threading.enumerate()}
    return {name for name in names if not name.startswith("asyncio_") and "_read_queue" not in name}


async def test_it_leaves_no_thread_and_can_run_again_on_its_directory(configured, pump):
    before = threads()
    consumer = f'discover = true\nonly = ["{pump.epr}"]\n'
    for _ in range(2):
        async with running(await configured(consumer=consumer)) as made:
            status = await made.until(lambda now: now.ready and [one.state for one in now.devices] == ["live"])
            assert [one.device for one in status.devices] == [pump.epr]
            assert threads() > before
        async with asyncio.timeout(SECONDS):
            while threads() != before:  # noqa: ASYNC110 - threads tell nobody when they have ended
                await asyncio.sleep(0.02)


async def test_bad_input_plain_http_device_is_told_in_the_status(configured, plain):
    consumer = f'discover = false\n[[consumer.device]]\naddress = "{plain.address}"\n'
    async with running(await configured(consumer=consumer)) as made:
        status = await made.until(lambda now: [one.state for one in now.devices] == ["lost"])
        (device,) = status.devices
        assert device.device == plain.epr
        assert "plain HTTP" in device.reason
        assert "allow_plaintext" in device.reason
    allowed = f'discover = false\nallow_plaintext = ["{plain.epr}"]\n{consumer.removeprefix("discover = false")}'
    async with running(await configured(consumer=allowed)) as made:
        await made.until(lambda now: [one.state for one in now.devices] == ["live"])


async def test_bad_input_device_of_another_ca_is_told_in_the_status(configured, pump, tmp_path):
    await asyncio.to_thread(pki.init, tmp_path / "strangers", {"node": "consumer"})
    consumer = f'discover = false\n[[consumer.device]]\naddress = "{pump.address}"\nepr = "{pump.epr}"\n'
    async with running(await configured(consumer=consumer), tmp_path / "strangers" / "node") as made:
        status = await made.until(lambda now: [one.state for one in now.devices] == ["lost"])
        assert status.devices[0].reason.endswith("is not from our CA; check that cacert.pem is the device's CA")


async def test_a_second_node_in_the_same_directory_is_refused(configured):
    config = await configured()
    async with running(config) as made:
        with pytest.raises(DirectoryError, match=r"node is in use by process \d+; stop it or name another folder"):
            async with running(config):
                pytest.fail("two nodes run in one directory")
        assert (await made.get("/health"))[0] == 200


async def test_what_is_in_the_way_of_a_start_is_raised_in_one_line(configured, tmp_path, certs):
    async def told(error: type[Exception], config: Config, certs: Path | None = None) -> str:
        with pytest.raises(error) as caught:
            async with running(config, certs):
                pytest.fail("it started")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    await asyncio.to_thread(issue_expired, certs, tmp_path / "late")
    assert "expired on" in await told(SecurityError, await configured(), tmp_path / "late")
    assert "there is no certificate folder" in await told(SecurityError, await configured(), tmp_path / "none")
    destination = '[[hl7]]\nhost = "h"\nport = 1\ntls = true\ncerts = "none"\n'
    assert "there is no certificate folder" in await told(SecurityError, await configured(more=destination))
    log = await configured(more='[jsonl]\npath = "none/log.jsonl"\n')
    assert "none/log.jsonl" in await told(SinkError, log)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = await configured()
        port = taken.getsockname()[1]
        config = config.model_copy(update={"node": config.node.model_copy(update={"port": port})})
        assert "set another [node] port" in await told(TelemetryError, config)
    elsewhere = await configured(consumer='interface = "203.0.113.7"\n')
    assert "203.0.113.7 is no address of this host" in await told(ConfigError, elsewhere)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("consumers.discovery.adhoc._hears_itself", lambda _interface: False)
        assert "no multicast on 127.0.0.1" in await told(MulticastBlocked, await configured(consumer=""))
    unused = 'discover = false\ninterface = "203.0.113.7"\n'
    async with running(await configured(consumer=unused)) as made:  # nothing of all that is still in the way
        assert made.waiting == ""
        await made.until(lambda now: now.ready)


async def test_no_log_line_of_a_run_names_a_patient(configured, pump, tmp_path, caplog):
    caplog.set_level("DEBUG", "sdc_node")
    caplog.set_level("DEBUG", "consumers")
    consumer = f'discover = false\n[[consumer.device]]\naddress = "{pump.address}"\n'
    config = await configured(consumer=consumer, more='[jsonl]\npath = "log.jsonl"\n')
    async with running(config) as made:
        status = await made.until(
            lambda now: [one.state for one in now.devices] == ["live"] and now.received["batches"] > 5
        )
        said = [await made.get(path) for path in ("/status", "/metrics", "/ready")]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    opened = next(line for line in lines if line["line"] == "mdib")
    patients = [one for one in opened["mdib"]["contexts"].values() if one["@type"] == "PatientContextState"]
    names = {one["core_data"][key] for one in patients for key in ("givenname", "familyname")}
    names |= {identifier["extension"] for one in patients for identifier in one["identification"]}
    assert len(names) >= 4
    names -= set(status.devices[0].model.split())  # a simulated patient may be called as its device is
    assert len(names) >= 3
    for text in (caplog.text, *(text for _, text in said), (tmp_path / "node" / "status.json").read_text()):
        assert text
        assert not [name for name in names if name in text]
