"""`sdc-node simulate`: devices that run until stopped, in words or as JSON."""

import asyncio
import json
import os
import signal
import ssl
from importlib.resources import files

import pytest

from sdc_node.cli import simulate


@pytest.fixture
def stopped_at_once(request, monkeypatch):
    """The command is sent the signal as soon as it waits for one."""
    real = simulate.until_stopped

    async def until_stopped():
        asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), request.param)
        await real()

    monkeypatch.setattr(simulate, "until_stopped", until_stopped)


@pytest.mark.usefixtures("stopped_at_once")
@pytest.mark.parametrize("stopped_at_once", [signal.SIGTERM], indirect=True)
def test_each_profile_in_each_bed_with_its_address_in_one_piece(sdc_node):
    ended = sdc_node("simulate", "pump", "ventilator", "--count", 2, "--seed", 8821)
    assert ended.status == 0
    assert ended.err == "no certificates: plain HTTP, which consumers refuse unless they are told not to\n"
    lines = ended.out.splitlines()
    profiles = [line.split()[1] for line in lines[:-1:2]]
    assert all(line.startswith("urn:uuid:") for line in lines[:-1:2])
    assert all(line.startswith("  http://127.0.0.1:") for line in lines[1:-1:2])
    assert profiles == ["pump", "ventilator", "pump", "ventilator"]
    assert lines[-1] == "4 devices are running; Ctrl-C stops them"
    assert max(map(len, lines)) <= 100


@pytest.mark.usefixtures("stopped_at_once")
@pytest.mark.parametrize("stopped_at_once", [signal.SIGINT], indirect=True)
def test_json_over_tls_from_the_environment_with_a_scenario(sdc_node, certs, monkeypatch):
    monkeypatch.setenv("SDC_NODE_CERTS", str(certs / "pump"))
    ended = sdc_node("simulate", "pump", "--scenario", "demo", "--seed", 8822, "--json")
    assert (ended.status, ended.err) == (0, "")
    (resident,) = json.loads(ended.out)
    assert (resident["profile"], resident["index"]) == ("pump", 0)
    assert resident["epr"].startswith("urn:uuid:")
    assert resident["xaddrs"][0].startswith("https://127.0.0.1:")


def test_a_device_shows_the_certificate_of_its_folder(pump, certs):
    host, port = pump.address.removeprefix("https://").partition("/")[0].split(":")
    assert ssl.get_server_certificate((host, int(port)), timeout=5) == (certs / "pump" / "usercert.pem").read_text()


@pytest.mark.usefixtures("stopped_at_once")
@pytest.mark.parametrize("stopped_at_once", [signal.SIGTERM], indirect=True)
def test_an_mdib_file_of_the_users(sdc_node, tmp_path):
    (tmp_path / "mine.xml").write_bytes((files("providers") / "profiles" / "pump.xml").read_bytes())
    ended = sdc_node("simulate", "mine.xml", "--seed", 8823, "--json")
    assert ended.status == 0
    assert [one["profile"] for one in json.loads(ended.out)] == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("pump", "--scenario", "none.toml"), 2, "none.toml: cannot be read: No such file or directory"),
        (("pump", "--count", 501), 1, "a ward has between 1 and 500 devices, not 501"),
        (("pump", "pump"), 1, "a ward needs one profile at least, and each only once"),
        (("pump", "--certs", "none"), 1, "there is no certificate folder none"),
        (("none.xml",), 2, "none.xml: cannot be read: No such file or directory"),
    ],
)
def test_bad_input_is_told(told, arguments, status, says):
    told("simulate", *arguments, status=status, says=says)
