"""Certificates, a discovery that sends nothing and a follower on sdc11073's own consumer."""

import datetime as dt
import queue
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sdc11073.certloader import SSLContextContainer
from sdc11073.consumer.consumerimpl import SdcConsumer
from sdc11073.definitions_sdc import SdcV1Definitions
from sdc11073.mdib.consumermdib import ConsumerMdib
from sdc11073.observableproperties import strongbind

from providers.provider import SimulatedDevice, TlsContexts

DEADLINE = 20.0


class SilentDiscovery:
    """What SdcProvider needs of a WSDiscovery, without a network; ``published`` and ``cleared`` tell what it said."""

    active_address = "127.0.0.1"

    def __init__(self) -> None:
        self.published: list[tuple[Any, ...]] = []
        self.cleared: list[str] = []

    def publish_service(self, *service: Any) -> None:
        self.published.append(service)

    def clear_service(self, epr: str) -> None:
        self.cleared.append(epr)


class Follower:
    """A consumer of one device. ``seen`` holds (kind, states by handle), in the order of arrival."""

    KINDS = ("metrics_by_handle", "waveform_by_handle", "alert_by_handle", "context_by_handle", "component_by_handle")

    def __init__(self, xaddr: str, tls: TlsContexts | None = None) -> None:
        contexts = SSLContextContainer(tls.client_context, tls.server_context) if tls else None
        self.consumer = SdcConsumer(xaddr, SdcV1Definitions, contexts, validate=True, force_ssl_connect=tls is not None)
        self.consumer.set_used_compression()
        self.seen: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        try:
            self.consumer.start_all()
            self.mdib = ConsumerMdib(self.consumer)
            for kind in self.KINDS:
                strongbind(self.mdib, **{kind: lambda states, kind=kind: self._note(kind, states)})
            self.mdib.init_mdib()
        except BaseException:
            self.stop()
            raise

    def _note(self, kind: str, states: dict[str, Any] | None) -> None:
        if states:
            self.seen.put((kind, {handle: state.mk_copy() for handle, state in states.items()}))

    def until(self, wanted: Callable[[str, dict[str, Any]], bool]) -> list[tuple[str, dict[str, Any]]]:
        """All reports up to the first that is wanted; AssertionError after the deadline."""
        reports = []
        end = time.monotonic() + DEADLINE
        while True:
            try:
                report = self.seen.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError("the report did not come in time") from None
            reports.append(report)
            if wanted(*report):
                return reports

    def state(self, handle: str) -> Any:
        return self.mdib.states.descriptor_handle.get_one(handle)

    def stop(self) -> None:
        self.consumer.stop_all()


@pytest.fixture
def discovery() -> SilentDiscovery:
    return SilentDiscovery()


@pytest.fixture
def follow() -> Iterator[Callable[..., Follower]]:
    followers: list[Follower] = []

    def make(device: SimulatedDevice, tls: TlsContexts | None = None) -> Follower:
        followers.append(Follower(device.xaddrs[0], tls))
        return followers[-1]

    yield make
    for follower in followers:
        follower.stop()


@pytest.fixture
def run() -> Iterator[Callable[[SimulatedDevice], SimulatedDevice]]:
    devices: list[SimulatedDevice] = []

    def start(device: SimulatedDevice) -> SimulatedDevice:
        device.start()
        devices.append(device)
        return device

    yield start
    for device in devices:
        device.stop()


@pytest.fixture
def new_threads() -> Callable[[], list[str]]:
    before = set(threading.enumerate())

    def names() -> list[str]:
        """Threads that came since, but for sdc11073's consumer leak (_read_queue, issue 519)."""
        end = time.monotonic() + 5
        while True:
            found = [t.name for t in threading.enumerate() if t not in before and "_read_queue" not in t.name]
            if not found or time.monotonic() > end:
                return found
            threading.Event().wait(0.05)

    return names


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], TlsContexts]:
    """A factory of contexts of one participant; every call loads the same files anew."""
    folder = tmp_path_factory.mktemp("pki")
    ca_key, ca = _certify("demo CA", None, None)
    key, certificate = _certify("demo participant", ca_key, ca)
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return lambda: TlsContexts(_context(folder, ssl.PROTOCOL_TLS_CLIENT), _context(folder, ssl.PROTOCOL_TLS_SERVER))


def _context(folder: Path, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _certify(name: str, ca_key: Any, ca: Any) -> tuple[Any, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if ca is None else ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    )
    return key, builder.sign(ca_key or key, hashes.SHA256())
