"""From settings to parts: sinks, contexts and the fleet that a configuration asks for."""

import asyncio
import ssl

import pytest

from consumers.discovery import Discovered
from consumers.discovery.adhoc import AdHoc
from consumers.discovery.static import StaticList
from sdc_node import assembly, pki
from sdc_node.assembly import destination_tls, device_tls, fleet_of, sinks_of
from sdc_node.config import load
from sdc_node.outbox import Outbox
from sdc_node.security import SecurityError
from sdc_node.state import State


@pytest.fixture
def read(monkeypatch):
    """The certificate folders that are read, in order."""
    folders, load_folder = [], assembly.load
    monkeypatch.setattr(assembly, "load", lambda folder: folders.append(folder) or load_folder(folder))
    return folders


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("assembly") / "certs"
    pki.init(folder, {"node": "consumer", "hospital": "consumer"}, days=2)
    return folder


@pytest.fixture
def configured(tmp_path, monkeypatch):
    monkeypatch.delenv("SDC_NODE_CERTS", raising=False)

    def configured(text, *, certs=None):
        own = f'certs = "{certs}"\n' if certs else ""
        (tmp_path / "node.toml").write_text(f'[node]\ndirectory = "node"\n{own}{text}')
        return load(tmp_path / "node.toml", {})

    return configured


DESTINATIONS = """
[[hl7]]
name = "plain"
host = "h"
port = 1
[[hl7]]
name = "secured"
host = "h"
port = 2
tls = true
[[fhir]]
name = "open"
base_url = "http://h"
[[fhir]]
name = "closed"
base_url = "https://h"
"""


def test_only_destinations_that_speak_tls_get_a_context(configured, certs):
    contexts = destination_tls(configured(DESTINATIONS, certs=certs / "node"), None)
    assert set(contexts) == {"secured", "closed"}
    for context in contexts.values():
        assert context.protocol == ssl.PROTOCOL_TLS_CLIENT
        assert context.verify_mode == ssl.CERT_REQUIRED


def test_a_destination_may_have_certificates_of_its_own(configured, certs, read):
    text = DESTINATIONS.replace("tls = true", f'tls = true\ncerts = "{certs / "hospital"}"')
    destination_tls(configured(text, certs=certs / "node"), None)
    assert read == [certs / "hospital", certs / "node"]


def test_the_command_line_and_the_environment_go_before_the_file(configured, certs, monkeypatch, read):
    config = configured("", certs=certs / "none")
    device_tls(config, certs / "node")
    monkeypatch.setenv("SDC_NODE_CERTS", str(certs / "hospital"))
    device_tls(config, None)
    assert read == [certs / "node", certs / "hospital"]


def test_hl7_over_tls_without_certificates_never_goes_in_the_clear_instead(configured):
    config = configured('[[hl7]]\nname = "a"\nhost = "h"\nport = 2\ntls = true\n')
    with pytest.raises(SecurityError, match=r"\[\[hl7\]\] a: tls needs certificates; set certs there or in \[node\]"):
        destination_tls(config, None)


def test_https_without_certificates_of_ours_is_left_to_those_of_the_system(configured):
    assert destination_tls(configured('[[fhir]]\nbase_url = "https://h"\n'), None) == {}


def test_contexts_for_devices_are_made_anew_at_each_connect(configured, certs):
    factory = device_tls(configured("", certs=certs / "node"), None)
    (client, server), again = factory(), factory()
    assert (client.protocol, server.protocol) == (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER)
    assert client is not again[0]


def test_devices_without_certificates_are_plain(configured, certs):
    assert device_tls(configured(""), None) is None
    with pytest.raises(SecurityError, match="there is no certificate folder"):
        device_tls(configured("", certs=certs / "none"), None)


async def test_every_sink_that_is_asked_for(configured, certs, tmp_path):
    text = DESTINATIONS + '[jsonl]\npath = "log.jsonl"\n[console]\n'
    config = await asyncio.to_thread(configured, text, certs=certs / "node")
    state = await State.open(tmp_path / "state.sqlite")
    outbox = await Outbox.open(tmp_path / "outbox.sqlite")
    try:
        contexts = await asyncio.to_thread(destination_tls, config, None)
        names = [sink.name for sink in sinks_of(config, contexts, outbox, state, None)]
        assert names == ["plain", "secured", "open", "closed", "jsonl", "console"]
        assert sinks_of(await asyncio.to_thread(configured, ""), {}, outbox, state, None) == []
    finally:
        await outbox.close()
        await state.close()


def test_the_fleet_finds_accepts_and_follows_as_told(configured, monkeypatch):
    made = {}

    def fleet(discovery, tls, settings, *, accept, allow_plaintext):
        made.update(discovery=discovery, tls=tls, settings=settings, accept=accept, plain=allow_plaintext)

    monkeypatch.setattr(assembly, "Fleet", fleet)
    text = (
        '[consumer]\ninterface = "127.0.0.9"\nonly = ["urn:uuid:1"]\nallow_plaintext = ["urn:uuid:2"]\nexpires = 33\n'
        'connects = 7\nmax_devices = 9\ndeadline = 1.5\n[[consumer.device]]\naddress = "https://h/p"\n'
    )
    fleet_of(configured(text), None)
    adhoc, static = made["discovery"]
    assert isinstance(adhoc, AdHoc)
    assert adhoc.interface == "127.0.0.9"
    assert isinstance(static, StaticList)
    assert made["accept"](Discovered("urn:uuid:1"))
    assert not made["accept"](Discovered("urn:uuid:2"))
    assert made["plain"]("urn:uuid:2")
    assert not made["plain"]("urn:uuid:1")
    settings = made["settings"]
    assert (settings.connects, settings.devices) == (7, 9)
    assert (settings.session.link.expiry, settings.session.link.delay) == (33, 1.5)
    fleet_of(configured("[consumer]\ndiscover = false\n"), None)
    assert made["discovery"] == []
    assert made["accept"](Discovered("urn:uuid:2"))
