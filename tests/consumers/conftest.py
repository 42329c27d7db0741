"""Devices in processes of their own, certificates, and a fleet to follow them with."""

import asyncio
import contextlib
import datetime as dt
import json
import signal
import socket
import ssl
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from consumers.discovery import ByeHeard, Discovered, Discovery
from consumers.fleet import Fleet, FleetSettings
from consumers.library import LinkSettings, TlsFactory
from consumers.session import SessionSettings
from mdib_models.updates import LinkUpdate, ReportBatch

HERE = Path(__file__).parent


class Ca:
    """A CA that issues folders with userkey.pem, usercert.pem and cacert.pem."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self._name, self._key.public_key(), days=10, ca=True)

    def issue(self, name: str, *, days: int = 5, trust: "Ca | None" = None) -> Path:
        """Negative `days`: expired. `trust`: whose certificates the holder accepts, this CA's by default."""
        folder = self._folder / name
        folder.mkdir()
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        pem = serialization.Encoding.PEM
        (folder / "userkey.pem").write_bytes(private)
        (folder / "usercert.pem").write_bytes(self._sign(subject, key.public_key(), days=days).public_bytes(pem))
        (folder / "cacert.pem").write_bytes((trust or self).certificate.public_bytes(pem))
        return folder

    def _sign(self, subject: x509.Name, public: Any, *, days: int, ca: bool = False) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=20))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Ca:
    return Ca(tmp_path_factory.mktemp("ca"), "Test CA")


@pytest.fixture(scope="session")
def other_ca(tmp_path_factory: pytest.TempPathFactory) -> Ca:
    return Ca(tmp_path_factory.mktemp("other"), "Other CA")


@pytest.fixture(scope="session")
def device_certs(ca: Ca) -> Path:
    return ca.issue("device")


@pytest.fixture(scope="session")
def tls(ca: Ca) -> TlsFactory:
    return tls_from(ca.issue("node"))


@pytest.fixture
def tls_of() -> Callable[[Path], TlsFactory]:
    return tls_from


def tls_from(folder: Path) -> TlsFactory:
    def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for context in (client, server):
            context.load_cert_chain(folder / "usercert.pem", folder / "userkey.pem")
            context.load_verify_locations(folder / "cacert.pem")
            context.verify_mode = ssl.CERT_REQUIRED
        return client, server

    return contexts


class Device:
    """A running device; `do(...)` tells it something and waits until it has done it."""

    def __init__(self, arguments: list[str], epr: uuid.UUID) -> None:
        self.epr = epr.urn
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "device.py"), "--epr", str(epr), "--mdib", str(HERE / "mdib.xml"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self.address: str = self._answer()["addresses"][0]
        except BaseException:
            self.kill()
            raise

    @property
    def found(self) -> Discovered:
        return Discovered(self.epr, xaddrs=(self.address,))

    def tell(self, *command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    async def do(self, *command: Any) -> float:
        """The seconds it took; raises if the device could not."""
        self.tell(*command)
        answer = await asyncio.to_thread(self._answer)
        assert "done" in answer, answer
        return float(answer["seconds"])

    def kill(self) -> None:
        self._process.kill()
        self.reap()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def reap(self) -> None:
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@pytest.fixture
def start_device() -> Iterator[Callable[..., Device]]:
    started: list[Device] = []

    def start(certs: Path | None = None, *, epr: str | None = None, duration: int = 15, **options: Any) -> Device:
        arguments = ["--duration", str(duration)] + (["--certs", str(certs)] if certs else [])
        for name, value in options.items():
            arguments += [f"--{name}", str(value)]
        device = Device(arguments, uuid.UUID(epr) if epr else uuid.uuid4())
        started.append(device)
        return device

    yield start
    for device in started:
        if device.running:
            device.kill()
        else:
            device.reap()


class Announcer:
    """A source of discovery that says what the test tells it to, and counts the Probes."""

    def __init__(self) -> None:
        self.probes = 0
        self.on_probe: Callable[[], None] = lambda: None
        self._events: asyncio.Queue[Discovered | ByeHeard | None] = asyncio.Queue()

    def say(self, event: Discovered | ByeHeard) -> None:
        self._events.put_nowait(event)

    async def start(self) -> None:
        """Nothing to start."""

    async def probe(self, epr: str | None = None) -> None:
        self.probes += 1
        self.on_probe()

    async def close(self) -> None:
        self._events.put_nowait(None)

    def counters(self) -> dict[str, int]:
        return {"probes": self.probes}

    def problems(self) -> dict[str, str]:
        return {}

    async def __aiter__(self) -> AsyncIterator[Discovered | ByeHeard]:
        while (event := await self._events.get()) is not None:
            yield event


def settings(**link: Any) -> FleetSettings:
    return FleetSettings(
        session=SessionSettings(
            link=LinkSettings(**{"delay": 1.0, **link}), first_retry=0.2, longest_retry=1.0, resync_pause=0.05
        ),
        probe_pause=0.5,
    )


class Watch:
    """Reads a fleet and keeps the batches; `until` waits for one that fits, from the last one seen on."""

    def __init__(self, fleet: Fleet) -> None:
        self.batches: list[ReportBatch] = []
        self._position = 0
        self._batches = fleet.__aiter__()

    async def until(self, fits: Callable[[ReportBatch], bool], seconds: float = 10.0) -> ReportBatch:
        async with asyncio.timeout(seconds):
            while True:
                batch = await anext(self._batches)
                self.batches.append(batch)
                if fits(batch):
                    return batch

    async def state(self, state: str, seconds: float = 10.0) -> LinkUpdate:
        batch = await self.until(lambda each: state in [update.state for update in links(each)], seconds)
        return links(batch)[0]

    async def value(self, handle: str, value: str, seconds: float = 10.0) -> ReportBatch:
        def fits(batch: ReportBatch) -> bool:
            return any(
                getattr(update, "state", None) is not None
                and getattr(update.state, "descriptor_handle", None) == handle
                and str(update.state.metric_value.value) == value
                for update in batch.updates
            )

        return await self.until(fits, seconds)


def links(batch: ReportBatch) -> list[LinkUpdate]:
    return [update for update in batch.updates if isinstance(update, LinkUpdate)]


@pytest.fixture
async def follow(tls: TlsFactory) -> AsyncIterator[Callable[..., Awaitable[tuple[Fleet, Watch, Announcer]]]]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            *found: Discovered,
            tls: TlsFactory | None = tls,
            fleet_settings: FleetSettings | None = None,
            sources: Sequence[Discovery] = (),
            **options: Any,
        ) -> tuple[Fleet, Watch, Announcer]:
            announcer = Announcer()
            fleet = Fleet([announcer, *sources], tls, fleet_settings or settings(), **options)
            await stack.enter_async_context(fleet)
            for each in found:
                announcer.say(each)
            return fleet, Watch(fleet), announcer

        yield start


@pytest.fixture
def silent_peer() -> Iterator[str]:
    """An address where connections are accepted by the system and nobody ever says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}/x"


async def eventually(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until something that has no event of its own holds."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - counters and threads tell nobody
            await asyncio.sleep(0.02)
