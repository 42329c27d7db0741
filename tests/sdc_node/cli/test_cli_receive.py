"""`sdc-node receive`: serve, list and show."""

import json
import socket
import ssl
import subprocess
import sys
import urllib.request

import pytest

from sdc_node.cli import receive
from sdc_node.hl7.mllp import frame
from sdc_node.security import load

MESSAGE = (
    "MSH|^~\\&|SDC|F|||20261122110000+0000||ORU^R01^ORU_R01|ID-1|P|2.6|||NE|AL|||||"
    "IHE_PCD_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.1.1^ISO\r"
)
RESOURCE = {
    "resourceType": "Device",
    "identifier": [{"system": "urn:x", "value": "d1"}],
    "status": "active",
    "type": {"coding": [{"system": "urn:iso:std:iso:11073:10101", "code": "69965"}]},
    "deviceName": [{"name": "Monitor", "type": "model-name"}],
}


@pytest.fixture
def while_running(monkeypatch):
    """What is called, in a thread, with the line that was printed; then the command ends as by a signal."""

    def while_running(capsys, look):
        async def until_stopped():
            await receive.asyncio.to_thread(look, capsys.readouterr().out)

        monkeypatch.setattr(receive, "until_stopped", until_stopped)

    return while_running


def exchange(port, message, context=None):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        connection = context.wrap_socket(plain) if context else plain
        connection.sendall(frame(message.encode()))
        answer = connection.recv(65536).decode()
        connection.close()
        return answer


def test_hl7_is_answered_kept_listed_and_shown(sdc_node, while_running, capsys):
    answers = []
    while_running(capsys, lambda line: answers.append(exchange(json.loads(line)["port"], MESSAGE)))
    assert sdc_node("receive", "hl7", "--port", 0, "--dir", "store", "--json").status == 0
    assert "MSA|C" in answers[0]
    listed = sdc_node("receive", "hl7", "--dir", "store", "--list")
    assert listed.status == 0
    assert listed.out.splitlines()[0].split("  ")[0] == "id"
    assert "ID-1" in listed.out
    assert max(map(len, listed.out.splitlines())) <= 100
    (one,) = json.loads(sdc_node("receive", "hl7", "--dir", "store", "--list", "--json").out)
    assert (one["control_id"], one["verdict"]) == ("ID-1", "CE")
    for name in ("ID-1", one["id"]):
        shown = sdc_node("receive", "hl7", "--dir", "store", "--show", name)
        assert shown.status == 0
        assert "MSH" in shown.out


def test_fhir_is_answered_kept_listed_and_shown(sdc_node, tmp_path):
    """In a process of its own, ended by a signal: FastAPI looks for its endpoints' source files on the loop."""
    command = [sys.executable, "-P", "-m", "sdc_node", "receive", "fhir", "--port", "0", "--dir", "store", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path)
    try:
        base = json.loads(process.stdout.readline())["address"]
        body = json.dumps(RESOURCE).encode()
        request = urllib.request.Request(f"{base}/Device", body, {"Content-Type": "application/fhir+json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 201
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
    listed = sdc_node("receive", "fhir", "--dir", "store", "--list")
    assert listed.out.splitlines()[0].split() == ["resource", "version", "stored", "title"]
    (one,) = json.loads(sdc_node("receive", "fhir", "--dir", "store", "--list", "--json").out)
    assert one["ref"].startswith("Device/")
    assert one["ref"] in listed.out
    shown = sdc_node("receive", "fhir", "--dir", "store", "--show", one["ref"])
    assert shown.out.startswith("resourceType: Device\n")


def test_where_it_listens_is_told_for_people(sdc_node, while_running, capsys):
    lines = []
    while_running(capsys, lines.append)
    sdc_node("receive", "hl7", "--port", 0)
    sdc_node("receive", "fhir", "--port", 0)
    assert lines[0].startswith("listening on mllp://127.0.0.1:")
    assert lines[1].startswith("listening on http://127.0.0.1:")
    assert all(line.endswith("; Ctrl-C stops\n") for line in lines)


def test_an_empty_store_lists_nothing(sdc_node, while_running, capsys):
    while_running(capsys, lambda line: None)
    for kind in ("hl7", "fhir"):
        sdc_node("receive", kind, "--port", 0)
        assert sdc_node("receive", kind, "--list").out == "nothing has come yet\n"
        assert sdc_node("receive", kind, "--list", "--json").out == "[]\n"


def test_tls_is_mutual(sdc_node, while_running, capsys, certs, strangers):
    outcome = {}

    def knock(line):
        port = json.loads(line)["port"]
        outcome["friend"] = exchange(port, MESSAGE, load(certs / "node").client)
        context = load(strangers / "node").client
        context.load_verify_locations(certs / "node" / "cacert.pem")  # trusts us, and is no friend
        try:
            outcome["stranger"] = exchange(port, MESSAGE, context)
        except (ssl.SSLError, ConnectionError) as error:
            outcome["stranger"] = error

    while_running(capsys, knock)
    assert sdc_node("receive", "hl7", "--port", 0, "--tls", "--certs", certs / "monitor", "--json").status == 0
    assert "MSA|C" in outcome["friend"]
    assert isinstance(outcome["stranger"], ssl.SSLError | ConnectionError) or outcome["stranger"] == ""


@pytest.mark.parametrize("kind", ["hl7", "fhir"])
def test_bad_input_is_told(told, kind):
    says = "--tls needs certificates: give --certs DIR or set SDC_NODE_CERTS"
    told("receive", kind, "--port", 0, "--tls", says=says)
    told("receive", kind, "--port", 0, "--tls", "--certs", "none", says="there is no certificate folder none")
    told(
        "receive", kind, "--list", says=f"received/{kind}/{kind}.sqlite: no {kind.upper()} receiver has stored anything"
    )
    told("receive", kind, "--port", 0, "--host", "203.0.113.9", says="203.0.113.9")


@pytest.mark.parametrize("kind", ["hl7", "fhir"])
def test_bad_input_a_folder_that_is_a_file(told, tmp_path, kind):
    (tmp_path / "file").write_text("")
    says = "--dir file is a file; name the folder of a store, or one to make"
    for more in (("--port", 0), ("--list",), ("--show", "Device/7")):
        told("receive", kind, "--dir", "file", *more, status=2, says=says)
    says = "file/store: Not a directory; name a folder that this user may write to"
    told("receive", kind, "--dir", "file/store", "--port", 0, says=says)


def test_a_sender_cannot_steer_the_terminal(sdc_node, while_running, capsys):
    steering = MESSAGE.replace("ID-1", "ID\x1b[2J")
    while_running(capsys, lambda line: exchange(json.loads(line)["port"], steering))
    sdc_node("receive", "hl7", "--port", 0, "--dir", "store", "--json")
    (one,) = json.loads(sdc_node("receive", "hl7", "--dir", "store", "--list", "--json").out)
    listed = sdc_node("receive", "hl7", "--dir", "store", "--list").out
    shown = sdc_node("receive", "hl7", "--dir", "store", "--show", one["id"]).out
    assert "\x1b" in one["control_id"]
    assert "ID?[2J" in listed
    assert r"ID\x1b[2J" in shown
    assert "\x1b" not in listed + shown


def test_a_resource_cannot_steer_the_terminal(sdc_node, monkeypatch):
    monkeypatch.setattr(receive.fhir_listing, "show_resource", lambda _folder, _ref: "id: a\x1b[2J\nname: b")
    assert sdc_node("receive", "fhir", "--show", "Device/a").out == "id: a?[2J\nname: b\n"


def test_bad_input_one_that_is_not_there(told, sdc_node, while_running, capsys):
    while_running(capsys, lambda line: None)
    sdc_node("receive", "hl7", "--port", 0)
    sdc_node("receive", "fhir", "--port", 0)
    told("receive", "hl7", "--show", "7", says="no message 7 in received/hl7; list them to see which there are")
    told("receive", "fhir", "--show", "Device/7", says="Device/7: no such resource; list them to see what is there")
    told("receive", "fhir", "--show", "seven", says="a resource is named Type/id or Type/id/_history/number")


@pytest.mark.parametrize("kind", ["hl7", "fhir"])
def test_bad_input_corrupt_store(told, tmp_path, kind):
    (tmp_path / f"{kind}.sqlite").write_bytes(b"\x01\x02" * 5000)
    told("receive", kind, "--port", 0, "--dir", tmp_path, says=f"{kind}.sqlite: not a database of this node")
    told("receive", kind, "--dir", tmp_path, "--list", says=f"{kind}.sqlite")
