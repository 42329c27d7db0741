"""Foreign providers, our receivers and a real node between them, each a process of its own on loopback."""

import contextlib
import json
import select
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
import zlib
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import unquote

from lxml import etree

from tests.end_to_end.readback import Message, Shown, handles_of, pcd, rows_of, stored

PM = "{http://standards.ieee.org/downloads/11073/11073-10207-2017/participant}"
TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"

ANSWER = 40.0
"""Seconds that a process may take to say that it is ready, or to end when told to."""

CATEGORIES = {"Msrmt", "Clc", "Set"}
KINDS = {"NumericMetricDescriptor": "NM", "StringMetricDescriptor": "ST", "EnumStringMetricDescriptor": "CWE"}


class Metric(NamedTuple):
    """A metric of an MDIB file that PCD-01 has to show (mapping 5.4), with what its values can be."""

    handle: str
    kind: str
    resolution: Decimal
    codes: frozenset[str]

    def fits(self, shown: Shown) -> bool:
        """Whether the row shows what the foreign provider writes for this very metric."""
        if self.kind == "NM":
            steps = shown.value / self.resolution - 100 - zlib.crc32(self.handle.encode()) % 900
            return shown.type == "NM" and steps in range(10)
        if self.kind == "CWE":
            return shown.value in self.codes
        return shown.type == "ST" and shown.value in {f"{self.handle} {turn}" for turn in range(10)}


def eligible(mdib: Path) -> dict[str, Metric]:
    """The eligible metrics of an MDIB file by handle, read by lxml alone."""
    found = {}
    for element in etree.parse(mdib).iter(f"{PM}Metric"):
        kind = KINDS.get(element.get(TYPE).rpartition(":")[2])
        if kind is None or element.get("MetricCategory") not in CATEGORIES:
            continue
        # an allowed value without a Type is sent as it is, with OBX-2 ST
        codes = {
            (one.find(f"{PM}Type").get("Code") if one.find(f"{PM}Type") is not None else one.findtext(f"{PM}Value"))
            for one in element.iter(f"{PM}AllowedValue")
        }
        resolution = Decimal(element.get("Resolution", "1"))
        found[element.get("Handle")] = Metric(element.get("Handle"), kind, resolution, frozenset(codes))
    return found


class Device(NamedTuple):
    """A foreign device to serve: an MDIB file over TLS or plain HTTP, which the node is told to allow or not."""

    name: str
    mdib: Path
    tls: bool = True
    allowed: bool = True


class Process:
    """A process that prints one JSON line when it is ready, and ends well on SIGTERM."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        self._asked = False
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=file
            )
        try:
            self.said = self._answer()
        except BaseException:
            self._process.kill()
            self._close()
            raise

    def ask_to_end(self) -> None:
        """Send SIGTERM once and do not wait: one that comes while Python ends would kill it."""
        if not self._asked:
            self._asked = True
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Ask it to end, and wait. Fails where it does not, or not well."""
        try:
            self.ask_to_end()
            status = self._process.wait(ANSWER)
        finally:
            self._process.kill()
            self._close()
        assert status == 0, f"{self.log.stem} ended with {status}: {self.log.read_text(errors='replace')[-2000:]}"

    def _answer(self) -> Any:
        output = self._process.stdout
        ready, _, _ = select.select([output], [], [], ANSWER)
        line = output.readline() if ready else b""
        if not line:
            raise AssertionError(f"{self.log.stem} did not start: {self.log.read_text(errors='replace')[-2000:]}")
        return json.loads(line)

    def _close(self) -> None:
        self._process.stdout.close()
        self._process.wait(ANSWER)


class Bridge:
    """Serves `devices`, follows them with a node, and gives what the receivers got. A context manager."""

    def __init__(self, folder: Path, devices: Sequence[Device]) -> None:
        self.folder = folder
        self.devices = {device.name: device for device in devices}
        self.eprs = {device.name: uuid.uuid4() for device in devices}
        self._stack = contextlib.ExitStack()
        self._node: Process | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            names = [f"--device={name}" for name in self.devices]
            _sdc_node("pki", "init", str(self.folder / "certs"), "--node=node", *names)
            providers: list[Process] = []
            hl7, fhir = (self._receiver(stack, kind) for kind in ("hl7", "fhir"))
            for device in self.devices.values():
                certs = [f"--certs={self.folder / 'certs' / device.name}"] if device.tls else []
                script = str(Path(__file__).with_name("provider.py"))
                epr = f"--epr={self.eprs[device.name]}"
                provider = Process(self.folder / f"{device.name}.log", script, str(device.mdib), epr, *certs)
                stack.callback(provider.stop)
                providers.append(provider)
            for provider in providers:  # all at once before each is waited for: sdc11073 takes seconds to stop
                stack.callback(provider.ask_to_end)
            config = self.folder / "node.toml"
            config.write_text(self._config(hl7["port"], fhir["address"]))
            self._node = self._command(stack, "node", "run", "--config", str(config), "--json")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def epr(self, name: str) -> str:
        """The EPR of a device."""
        return self.eprs[name].urn

    def status(self) -> dict[str, Any]:
        """What the node's /status says, and `devices` by EPR."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._node.said['port']}/status", timeout=10) as answer:
            status = json.loads(answer.read())
        return status | {"devices": {device["device"]: device for device in status["devices"]}}

    def log(self) -> str:
        """What the node has logged."""
        return self._node.log.read_text()

    def pcd01(self, name: str) -> list[Message]:
        """The PCD-01 of a device, known by OBX-18 of its MDS."""
        messages = pcd(stored(self.folder / "received-hl7"), 1)
        return [message for message in messages if message.equipment == self.equipment(name)]

    def shown(self, name: str) -> list[Shown]:
        """All metric rows that came of a device."""
        handles = handles_of(self.folder / "node" / "state.sqlite", self.epr(name))
        return [row for message in self.pcd01(name) for row in message.shown(handles)]

    def observed(self, name: str) -> set[str]:
        """The handles of all metrics of a device of which an Observation came."""
        file = self.folder / "received-fhir" / "fhir.sqlite"
        found = set()
        for (body,) in rows_of(file, "SELECT body FROM fhir_resource WHERE type = 'Observation'"):
            resource = json.loads(body)
            own = resource["meta"]["source"].partition("#")[0] == self.epr(name)
            if own and resource["identifier"][0]["system"].endswith("/observation"):
                found.add(unquote(resource["device"]["identifier"]["value"].rpartition("/")[2]))
        return found

    def wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Look twice a second whether it is done; the last answer."""
        deadline = time.monotonic() + seconds
        while not done() and time.monotonic() < deadline:
            time.sleep(0.5)
        return done()

    def bridged(self, name: str) -> tuple[int, int]:
        """How many of its eligible metrics came with a value of their own, of how many."""
        metrics = eligible(self.devices[name].mdib)
        came = {row.handle for row in self.shown(name) if row.handle in metrics and metrics[row.handle].fits(row)}
        return len(came), len(metrics)

    def equipment(self, name: str) -> str:
        """OBX-18 of a device's MDS that says nothing of itself: an EUI-64 of a part, else the EPR (mapping 6)."""
        mds = etree.parse(self.devices[name].mdib).find(f".//{PM}Mds")
        for component in mds.iterfind(f"{PM}ProductionSpecification/{PM}ComponentId"):
            digits = component.get("Extension", "").replace("-", "")
            if len(digits) == 16:
                return f"{digits}^^{digits}^EUI-64"
        return f"{self.eprs[name]}^^{self.eprs[name]}^UUID"

    def _receiver(self, stack: contextlib.ExitStack, kind: str) -> Any:
        store = str(self.folder / f"received-{kind}")
        return self._command(stack, f"receive-{kind}", "receive", kind, "--port=0", f"--dir={store}", "--json").said

    def _command(self, stack: contextlib.ExitStack, log: str, *arguments: str) -> Process:
        process = Process(self.folder / f"{log}.log", "-P", "-m", "sdc_node", *arguments)
        stack.callback(process.stop)
        return process

    def _config(self, hl7_port: int, fhir_url: str) -> str:
        def eprs(chosen: Sequence[str]) -> str:
            return ", ".join(f'"{self.epr(name)}"' for name in chosen)

        plain = [device.name for device in self.devices.values() if device.allowed and not device.tls]
        return f"""
[node]
directory = "node"
certs = "certs/node"
port = 0
require_time_sync = false

[consumer]
interface = "127.0.0.1"
only = [{eprs([*self.devices])}]
allow_plaintext = [{eprs(plain)}]

[[hl7]]
host = "127.0.0.1"
port = {hl7_port}
interval = 2.0

[[fhir]]
base_url = "{fhir_url}"
interval = 2.0
"""


def _sdc_node(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-P", "-m", "sdc_node", *arguments],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=ANSWER,
    )
