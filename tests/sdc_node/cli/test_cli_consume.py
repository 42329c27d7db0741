"""`sdc-node discover`, `inspect` and `watch`, against a pump over mutual TLS in a process of its own."""

import json
import re
import threading

import pytest

from consumers.discovery import Discovered
from mdib_models.updates import ReportBatch
from mdib_models.wire.jsonl import Opened, decode, replay
from sdc_node.cli import consume
from tests.sdc_node.simulated import simulated


@pytest.fixture
def node_certs(certs, monkeypatch, sdc_node):
    monkeypatch.setenv("SDC_NODE_CERTS", str(certs / "node"))


def test_discover_lists_epr_address_and_location(sdc_node, pump):
    ended = sdc_node("discover", "--timeout", 2)
    assert ended.status == 0
    lines = ended.out.splitlines()
    at = lines.index(f"{pump.epr}  DEMO-HOSPITAL/MAIN/4/ICU1/R1/B1")
    assert lines[at + 1] == f"  {pump.address}"


def test_discover_never_folds_an_address_nor_lets_a_device_steer_the_terminal(sdc_node, monkeypatch):
    address = "https://10.0.0.5:6464/" + "0123456789abcdef" * 12

    async def one(_interface, _seconds):
        return [Discovered("urn:uuid:1\x1b[2J", xaddrs=(address, "http://10.0.0.5/\x9b1m"))]

    monkeypatch.setattr(consume.identify, "discover", one)
    assert sdc_node("discover").out == f"urn:uuid:1?[2J\n  {address}\n  http://10.0.0.5/?1m\n"


@pytest.mark.parametrize(
    "device", ["https://127.0.0.1:99999/x", "https://127.0.0.1:abc/x", f"https://{'h' * 64}/x", "http://[::1/x"]
)
def test_bad_input_what_can_be_no_address(told, device):
    for command in ("inspect", "watch"):
        told(command, device, says=f"'{device}' is no address; it looks like https://HOST:PORT/PATH")


def test_discover_as_json(sdc_node, pump):
    found = json.loads(sdc_node("discover", "--timeout", 2, "--json").out)
    (mine,) = [one for one in found if one["epr"] == pump.epr]
    assert mine["xaddrs"] == [pump.address]
    assert any(scope.startswith("sdc.mds.pkp:") for scope in mine["scopes"])


def test_discover_finds_nobody(sdc_node, monkeypatch):
    async def nobody(_interface, _seconds):
        return []

    monkeypatch.setattr(consume.identify, "discover", nobody)
    ended = sdc_node("discover", "--timeout", 1.5)
    assert (ended.status, ended.out) == (0, "nobody answered on 127.0.0.1 within 1.5 s\n")


@pytest.mark.usefixtures("node_certs")
def test_inspect_shows_the_tree_with_values(sdc_node, pump):
    ended = sdc_node("inspect", pump.address)
    assert ended.status == 0
    lines = ended.out.splitlines()
    assert lines[0].startswith(f"{pump.epr}  MDIB version ")
    assert lines[1] == "mds0  Mds  70053 MDC_DEV_PUMP_INFUS_SYRINGE_MDS"
    assert "    ac.occlusion  AlertCondition  196940 MDC_EVT_FLUID_LINE_OCCL  absent" in lines
    assert "    as.occlusion.aud  AlertSignal  On/Off" in lines
    assert "      m.rate.set  NumericMetric  16935000 MDC_FLOW_FLUID_PUMP_SETTING  = 8 mL/h (Vld)" in lines
    assert any(re.fullmatch(r" +m\.status  EnumStringMetric  \d+ \w+  = infusing \(Vld\)", line) for line in lines)
    assert any(re.fullmatch(r" +pc\.mds0  PatientContext  \[\w+ Assoc\]", line) for line in lines)
    assert max(map(len, lines)) <= 160


@pytest.mark.usefixtures("node_certs")
def test_inspect_finds_by_epr_and_by_prefix(sdc_node, pump):
    for name in (pump.epr, pump.epr[:20], pump.epr.removeprefix("urn:uuid:")[:11]):
        ended = sdc_node("inspect", name, "--json")
        mdib = json.loads(ended.out)
        assert mdib["device"] == pump.epr
        assert mdib["descriptors"]["m.rate.set"]["resolution"] == 0.1
        assert mdib["states"]["m.rate.set"]["metric_value"]["value"] == 8
        assert ended.seconds < 5


@pytest.mark.usefixtures("node_certs")
def test_inspect_shows_samples_of_a_waveform(sdc_node, certs):
    with simulated("ventilator", "--certs", certs / "ventilator") as (device,):
        out = sdc_node("inspect", device.address).out
    assert re.search(r"RealTimeSampleArrayMetric  \d+ \w+  \d+ samples", out)


def test_inspect_over_plain_http_only_if_asked_to(sdc_node, plain_pump):
    ended = sdc_node("inspect", plain_pump.epr, "--allow-plaintext")
    assert ended.status == 0
    assert ended.out.startswith(plain_pump.epr)


def test_watch_prints_link_and_values(sdc_node, pump, certs):
    ended = sdc_node("watch", pump.address, "--certs", certs / "node", "--for", 3)
    assert ended.status == 0
    short = pump.epr.removeprefix("urn:uuid:")[:8]
    lines = ended.out.splitlines()
    assert all(re.match(rf"\d\d:\d\d:\d\d {short} ", line) for line in lines)
    told = [line.partition(f" {short} ")[2] for line in lines]
    assert told[0] == "discovered: announced"
    assert "m.rate = 8 Vld" in told
    live = told.index("live: snapshot taken: first contact")
    assert any(line.startswith("m.volume.infused = ") for line in told[live:])


def test_watch_as_json_is_the_recorded_log(sdc_node, plain_pump):
    ended = sdc_node("watch", plain_pump.address, "--allow-plaintext", "--for", 3, "--json")
    lines = [decode(line) for line in ended.out.encode().splitlines()]
    assert sum(isinstance(line, Opened) for line in lines) == 1
    batches = list(replay(lines))
    assert {type(batch) for batch in batches} == {ReportBatch}
    assert {batch.device for batch in batches} == {plain_pump.epr}
    assert batches[-1].after.version.mdib_version > 0
    assert any(batch.report is not None for batch in batches)


def test_watch_ends_by_a_signal(sdc_node, plain_pump, monkeypatch):
    signalled = threading.Event()

    async def until_stopped():
        signalled.set()

    monkeypatch.setattr(consume, "until_stopped", until_stopped)
    ended = sdc_node("watch", plain_pump.address, "--allow-plaintext")
    assert (ended.status, signalled.is_set()) == (0, True)


def test_a_prefix_of_two_devices_names_both(told, pump, plain_pump):
    line = told("inspect", "urn:uuid:", "--timeout", 3, says="'urn:uuid:' fits ")
    assert line.count("urn:uuid:") >= 3
