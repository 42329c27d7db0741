"""`sdc-node run` and `sdc-node config`."""

import json
import logging
import os
import signal
import urllib.request

import pytest

from sdc_node.cli import run
from sdc_node.config import SAMPLE
from sdc_node.timesync import TimeStatus, TimeWatch


@pytest.fixture
def configured(tmp_path):
    def configured(more="", node=""):
        text = f'[node]\ndirectory = "node"\nport = 0\nrequire_time_sync = false\ndrain = 0.0\n{node}'
        (tmp_path / "node.toml").write_text(f"{text}[consumer]\ndiscover = false\n{more}")

    return configured


@pytest.fixture
def once_started(monkeypatch):
    """Calls what it is given with the port once the node has said that it runs, then sends the signal."""

    def once_started(number, look=lambda port: None):
        real = run.node.run

        async def running(settings, certs, started, stop):
            def told(port, waiting):
                started(port, waiting)
                look(port)
                os.kill(os.getpid(), number)

            await real(settings, certs, told, stop)

        monkeypatch.setattr(run.node, "run", running)

    return once_started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_runs_until_a_signal_and_stops_cleanly(sdc_node, configured, once_started, tmp_path, number):
    configured()
    once_started(number)
    ended = sdc_node("run")
    assert ended.status == 0
    assert ended.out.startswith("the node runs; its state is at http://127.0.0.1:")
    assert ended.out.endswith("/status; Ctrl-C stops it\n")
    assert json.loads((tmp_path / "node" / "status.json").read_text())["devices"] == []


def test_it_says_what_it_waits_for_in_place_of_that_it_runs(sdc_node, configured, once_started, monkeypatch, tmp_path):
    bad = TimeStatus(synchronised=False, accuracy_ms=None, detail="nobody keeps it")
    monkeypatch.setattr(run.node, "TimeWatch", lambda **options: TimeWatch(**options, read=lambda: bad))
    configured()
    path = tmp_path / "node.toml"
    path.write_text(path.read_text().replace("require_time_sync = false", "require_time_sync = true"))
    once_started(signal.SIGTERM)
    ended = sdc_node("run")
    assert ended.status == 0
    says = (
        "waiting for a time service; no device is followed until then ([node] require_time_sync); its state is at http"
    )
    assert ended.out.startswith(says)
    assert "the node runs" not in ended.out
    assert set(json.loads(sdc_node("run", "--json").out)) == {"port"}


def test_json_says_the_port_and_nothing_else(sdc_node, configured, once_started):
    configured()
    ports = []
    once_started(signal.SIGTERM, ports.append)
    ended = sdc_node("run", "--config", "node.toml", "--json")
    assert json.loads(ended.out) == {"port": ports[0]}


def test_the_log_level_is_the_configured_and_libraries_are_kept_quiet(sdc_node, configured, once_started):
    configured(node='log_level = "ERROR"\n')
    levels = {}

    def look(_port):
        for name in ("", "sdc", "uvicorn", "aiohttp"):
            levels[name] = logging.getLogger(name).level

    once_started(signal.SIGTERM, look)
    assert sdc_node("run").status == 0
    assert levels == {"": logging.ERROR, "sdc": logging.WARNING, "uvicorn": logging.WARNING, "aiohttp": logging.WARNING}


def test_certificates_by_option_go_before_the_file(told, configured, certs):
    configured(node=f'certs = "{certs / "node"}"\n')
    told("run", "--certs", "elsewhere", says="there is no certificate folder elsewhere")
    told("config", "check", "--certs", "elsewhere", says="there is no certificate folder elsewhere")


def test_the_sample_is_printed_as_it_is_and_can_be_used(sdc_node, tmp_path, certs):
    ended = sdc_node("config", "sample")
    assert (ended.status, ended.out) == (0, SAMPLE)
    (tmp_path / "node.toml").write_text(ended.out)
    (tmp_path / "certs").symlink_to(certs)
    ended = sdc_node("config", "check")
    assert (ended.status, ended.out, ended.err) == (0, "node.toml is right: 1 HL7 and 1 FHIR destinations\n", "")
    assert max(map(len, SAMPLE.splitlines())) <= 100


def test_bad_input_unreachable_paths_are_told_by_key(sdc_node, configured, tmp_path):
    configured('[jsonl]\npath = "none/log.jsonl"\n')
    text = (tmp_path / "node.toml").read_text().replace('"node"', '"/none/there/node"')
    (tmp_path / "node.toml").write_text(text)
    ended = sdc_node("config", "check")
    assert ended.status == 1
    assert ended.err.splitlines() == [
        "error: node.toml: node.directory: there is no folder /none/there",
        "error: node.toml: jsonl.path: there is no folder none",
    ]


def test_bad_input_what_run_would_refuse_is_told_by_key(sdc_node, configured, tmp_path):
    (tmp_path / "node").write_text("a file")
    configured('[jsonl]\npath = "."\n')
    ended = sdc_node("config", "check")
    assert ended.status == 1
    assert ended.err.splitlines() == [
        "error: node.toml: node.directory: node is not a folder",
        "error: node.toml: jsonl.path: . is a folder; name a file in it",
    ]
    (tmp_path / "node.toml").write_text('[node]\ndirectory = "node/x"\n')
    assert sdc_node("config", "check").err == "error: node.toml: node.directory: there is no folder node\n"


def test_bad_input_places_that_may_not_be_written_are_told_by_key(sdc_node, configured, tmp_path, monkeypatch):
    configured('[jsonl]\npath = "log.jsonl"\n')
    refused = set()

    def access(path, mode):
        return not (mode & os.W_OK and str(path) in refused)

    monkeypatch.setattr(run.os, "access", access)
    for made, path, says in (
        (False, ".", ["node.directory: this user may not write to .", "jsonl.path: this user may not write to ."]),
        (True, "node", ["node.directory: this user may not write to node"]),
        (True, "log.jsonl", ["jsonl.path: this user may not write to log.jsonl"]),
    ):
        if made:
            (tmp_path / "node").mkdir(exist_ok=True)
            (tmp_path / "log.jsonl").write_text("")
        refused.clear()
        assert sdc_node("config", "check").status == 0
        refused.add(path)
        ended = sdc_node("config", "check")
        assert (ended.status, ended.err.splitlines()) == (1, [f"error: node.toml: {line}" for line in says])


def test_bad_input_interface_is_told_by_check_and_run(told, tmp_path):
    text = '[node]\ndirectory = "node"\nport = 0\n[consumer]\ninterface = "{}"\n'
    for interface, says in (
        ("eth0", "node.toml: consumer.interface: must be the IPv4 address of an interface, as 10.0.0.5, not its name"),
        ("203.0.113.9", "consumer.interface: 203.0.113.9 is no address of this host (Cannot assign requested address)"),
    ):
        (tmp_path / "node.toml").write_text(text.format(interface))
        told("config", "check", status=2, says=says)
        told("run", status=2, says=says)
        assert not (tmp_path / "node").exists()


@pytest.mark.parametrize(
    "more",
    [
        '[[fhir]]\nbase_url = "http://127.0.0.1:99999/x"\n',
        f'[[fhir]]\nbase_url = "http://{"h" * 64}/x"\n',
        f'[[hl7]]\nhost = "{"h" * 64}.example"\nport = 1\n',
    ],
)
def test_bad_input_addresses_that_are_none(told, configured, more):
    configured(more)
    told("config", "check", "--connect", status=2, says="host")


def test_bad_input_a_host_that_the_resolver_refuses_is_told(told, configured, monkeypatch):
    def refuse(_address, timeout):
        raise UnicodeError("label too long")

    monkeypatch.setattr(run.socket, "create_connection", refuse)
    configured('[[hl7]]\nhost = "h"\nport = 1\n')
    told("config", "check", "--connect", says="hl7 hl7: its host is no host name (label too long)")


def test_connect_tells_that_all_answer(sdc_node, configured):
    server = urllib.request.socket.create_server(("127.0.0.1", 0))
    with server:
        port = server.getsockname()[1]
        configured(f'[[hl7]]\nhost = "127.0.0.1"\nport = {port}\n[[fhir]]\nbase_url = "http://127.0.0.1:{port}/x"\n')
        ended = sdc_node("config", "check", "--connect")
    assert (ended.status, ended.err) == (0, "")


@pytest.mark.parametrize(("url", "port"), [("http://127.0.0.1/x", 80), ("https://127.0.0.1", 443)])
def test_connect_knows_the_ports_of_http(told, configured, monkeypatch, url, port):
    def refuse(address, timeout):
        raise ConnectionRefusedError(111, f"asked at {address[1]}")

    monkeypatch.setattr(run.socket, "create_connection", refuse)
    configured(f'[[fhir]]\nbase_url = "{url}"\n')
    told("config", "check", "--connect", says=f"nothing answers at 127.0.0.1:{port} (asked at {port})")


def test_connect_waits_three_seconds_at_most_and_asks_all_at_once(told, configured, monkeypatch):
    waited = []

    def silent(address, timeout):
        waited.append(timeout)
        raise TimeoutError("timed out")

    monkeypatch.setattr(run.socket, "create_connection", silent)
    configured('[[hl7]]\nhost = "192.0.2.1"\nport = 2575\n')
    told("config", "check", "--connect", says="hl7 hl7: nothing answers at 192.0.2.1:2575 (timed out); start the")
    assert waited == [3]
