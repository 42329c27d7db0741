"""The demo: real devices, node and receivers, each a process of its own on loopback, with ports from the system."""

import asyncio
import contextlib
import ctypes
import json
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from sdc_node import pki
from sdc_node.database import DatabaseError
from sdc_node.ledger import lost
from sdc_node.receivers import fhir_listing, hl7_store
from sdc_node.telemetry import Status

PROFILES = ("monitor", "ventilator", "pump")
START_SECONDS = 60.0
"""How long the devices may take to be live before the demo gives up."""
DRAIN_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1


class DemoError(Exception):
    """Why the demo cannot go on, in one line."""


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """The summary that `--report` writes."""

    devices: int
    metric_updates: int
    waveform_samples: int
    alert_updates: int
    hl7: Mapping[str, int]
    fhir: Mapping[str, int]
    dropped: Mapping[str, int]
    lost: int
    waiting: int

    @property
    def good(self) -> bool:
        """Whether everything that was owed arrived, and anything came at all."""
        hl7, fhir = self.hl7, self.fhir
        arrived = (hl7["pcd01_sent"], hl7["pcd04_sent"], fhir["sent"]) == (
            hl7["pcd01_acked"],
            hl7["pcd04_acked"],
            fhir["accepted"],
        )
        return bool(self.devices) and arrived and not (self.lost or self.waiting or self.fhir["rejected"])


class Child:
    """A process of the demo: started with one JSON line to wait for, its errors in a log file."""

    def __init__(self, name: str, arguments: Sequence[str], logs: Path) -> None:
        self.name = name
        self._arguments = arguments
        self._log = logs / f"{name}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, deadline: float) -> Any:
        """The JSON line with which the process says that it is ready. Raises DemoError."""
        with await asyncio.to_thread(self._log.open, "wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "sdc_node",
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which stops its processes in order
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), deadline)
            return json.loads(line)
        except (TimeoutError, ValueError):
            said = (await asyncio.to_thread(self._log.read_text, errors="replace")).strip().splitlines()
            raise DemoError(f"{self.name} did not start: {said[-1] if said else 'no answer in time'}") from None

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.returncode is None

    async def stop(self, seconds: float) -> None:
        """Ask it to end; kill it after `seconds`."""
        if self._process is None:
            return
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.communicate(), seconds)
        except TimeoutError:
            self._process.kill()
            await self._process.communicate()


class Demo:
    """One run in one folder."""

    def __init__(self, folder: Path, *, seed: int | None = None) -> None:
        self.folder = folder
        self._seed = seed if seed is not None else random.randrange(1, 1_000_000)
        self._logs = folder / "logs"
        self._receivers: list[Child] = []
        self._devices: list[Child] = []
        self._node: Child | None = None
        self._port = 0

    @property
    def hl7_folder(self) -> Path:
        """The HL7 receiver's store."""
        return self.folder / "received" / "hl7"

    @property
    def fhir_folder(self) -> Path:
        """The FHIR receiver's store."""
        return self.folder / "received" / "fhir"

    async def start(self, tell: Callable[[str], None]) -> None:
        """Certificates, receivers, devices, node. Raises DemoError; what was started can be stopped."""
        await asyncio.to_thread(self._make_folders)
        tell("making certificates")
        names: dict[str, pki.Role] = {"node": "consumer", **dict.fromkeys(PROFILES, "provider")}
        await asyncio.to_thread(pki.init, self.folder / "certs", names)
        tell("starting the receivers")
        hl7 = await self._receiver("hl7", self.hl7_folder)
        fhir = await self._receiver("fhir", self.fhir_folder)
        tell("starting the devices")
        residents = await asyncio.gather(*(self._device(profile) for profile in PROFILES))
        eprs = [resident["epr"] for found in residents for resident in found]
        tell("starting the node")
        config = self.folder / "node.toml"
        await asyncio.to_thread(config.write_text, _config(hl7["port"], fhir["address"], eprs))
        self._node = Child("node", ("run", "--config", str(config), "--json"), self._logs)
        self._port = (await self._node.start(START_SECONDS))["port"]

    async def all_live(self, seconds: float = START_SECONDS) -> Status:
        """Wait until every device is live. Raises DemoError."""
        status: Status | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for status in self.watch():
                    if sum(device.state == "live" for device in status.devices) == len(PROFILES):
                        return status
        states = ", ".join(device.state for device in status.devices) if status is not None else ""
        raise DemoError(f"not all devices were live after {seconds:.0f} s ({states or 'none was found'})")

    async def watch(self, every: float = 0.5) -> AsyncIterator[Status]:
        """The node's status, again and again. Raises DemoError where the node is gone."""
        decoder = msgspec.json.Decoder(Status)
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                if self._node is None or not self._node.running:
                    raise DemoError(f"the node has ended; see {self._logs / 'node.log'}")
                try:
                    async with session.get(f"http://127.0.0.1:{self._port}/status") as answer:
                        yield decoder.decode(await answer.read())
                except (aiohttp.ClientError, TimeoutError):
                    continue
                finally:
                    await asyncio.sleep(every)

    async def stop(self) -> None:
        """The node first, so that it drains while the receivers still answer; then devices and receivers."""
        if self._node is not None:
            await self._node.stop(DRAIN_SECONDS + 20)
        await asyncio.gather(*(device.stop(20) for device in self._devices))
        await asyncio.gather(*(receiver.stop(20) for receiver in self._receivers))

    def counted(self) -> Counted:
        """What the node says it sent, and the receivers that they took. Call after `stop`."""
        if not self._port:
            raise DemoError("stopped before the node ran")
        try:
            status = msgspec.json.decode((self.folder / "node" / "status.json").read_bytes(), type=Status)
        except OSError:
            raise DemoError(f"the node left no status; see {self._logs / 'node.log'}") from None
        messages = [one for one in hl7_store.list_messages(self.hl7_folder) if one.verdict == "CA"]
        counts = fhir_listing.read_counts(self.fhir_folder)
        bundles = {key.rpartition("|")[2] for key in fhir_listing.accepted_requests(self.fhir_folder)}
        stored = {one.control_id for one in messages} | bundles
        owed = {(one.destination, one.lane): one.sent + one.waiting + one.dead for one in status.destinations}
        return Counted(
            devices=len({device.device for device in status.devices}),
            metric_updates=status.received.get("MetricUpdate", 0),
            waveform_samples=status.received.get("waveform_samples", 0),
            alert_updates=status.received.get("AlertUpdate", 0),
            hl7={
                "pcd01_sent": owed.get(("hl7", "bulk"), 0),
                "pcd01_acked": sum(one.kind == "pcd01" for one in messages),
                "pcd04_sent": owed.get(("hl7", "alert"), 0),
                "pcd04_acked": sum(one.kind == "pcd04" for one in messages),
            },
            fhir={
                "sent": status.sinks.get("fhir", {}).get("entries_owed", 0),
                "accepted": counts.accepted,
                "rejected": counts.rejected,
                "observations": counts.resources.get("Observation", 0),
            },
            dropped={reason: number for reason, number in status.dropped.items() if number},
            lost=len(lost([self.folder / "node" / "ledger.txt"], stored)),
            waiting=sum(one.waiting for one in status.destinations),
        )

    def _make_folders(self) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)  # the demo's patients are written here

    async def _receiver(self, kind: str, store: Path) -> Any:
        child = Child(f"receive-{kind}", ("receive", kind, "--port", "0", "--dir", str(store), "--json"), self._logs)
        self._receivers.append(child)
        return await child.start(START_SECONDS)

    async def _device(self, profile: str) -> Any:
        certs = str(self.folder / "certs" / profile)
        seed = str(self._seed)
        arguments = ("simulate", profile, "--certs", certs, "--seed", seed, "--scenario", "demo", "--json")
        child = Child(profile, arguments, self._logs)
        self._devices.append(child)
        return await child.start(START_SECONDS)


def first_examples(demo: Demo) -> tuple[str, str] | None:
    """One PCD-01 and one numeric Observation, readably, once there is one of each."""
    try:
        messages = [
            one for one in hl7_store.list_messages(demo.hl7_folder) if one.kind == "pcd01" and one.verdict == "CA"
        ]
        observation = _numeric_observation(demo.fhir_folder)
        if not messages or observation is None:
            return None
        return hl7_store.show_message(demo.hl7_folder, messages[-1].id), observation
    except (LookupError, fhir_listing.StoreError, DatabaseError):
        return None  # a store that is only being made


def _numeric_observation(folder: Path) -> str | None:
    for one in fhir_listing.list_resources(folder):
        if one.ref.startswith("Observation/"):
            text = fhir_listing.show_resource(folder, one.ref)
            if "valueQuantity" in text.splitlines():
                return text
    return None


def new_folder(base: Path) -> Path:
    """A folder of this run's own, named by the time."""
    name = time.strftime("demo-%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        folder = base / f"{name}{suffix}"
        try:
            folder.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise DemoError(f"{folder} cannot be made: {error.strerror}") from None
        return folder
    raise DemoError(f"{base} is full of runs of this second")


def _config(hl7_port: int, fhir_url: str, eprs: Sequence[str]) -> str:
    only = ", ".join(f'"{epr}"' for epr in eprs)
    return f"""# the demo's node: `sdc-node config sample`, but quicker, and the clock need not be synchronised
[node]
directory = "node"
certs = "certs/node"
port = 0
require_time_sync = false
drain = {DRAIN_SECONDS}
ledger = true

[consumer]
interface = "127.0.0.1"
only = [{only}]

[[hl7]]
host = "127.0.0.1"
port = {hl7_port}
interval = 5.0
application = "SDC_NODE_DEMO"

[[fhir]]
base_url = "{fhir_url}"
interval = 10.0

[jsonl]
path = "reports.jsonl"
"""


def _die_with_parent() -> None:
    """The demo's processes do not outlive it, even where it is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
