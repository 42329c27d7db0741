"""Show 8 of the first issue: bad input is told in one line, with an exit status, no traceback, within 5 seconds."""

import contextlib
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from importlib.resources import files

import pytest

from consumers.library import Link

PLAIN = "plain HTTP only; give --allow-plaintext to talk to it anyway"


@contextlib.contextmanager
def port_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


@contextlib.contextmanager
def tls_server(folder):
    """The address of a server with the certificate in `folder`, which ends each connection after the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "usercert.pem", folder / "userkey.pem")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(5)
            with connection, contextlib.suppress(OSError):
                context.wrap_socket(connection, server_side=True).close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/device"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


@pytest.fixture
def configured(tmp_path):
    """Writes node.toml in the folder that the command runs in."""

    def configured(*, port=0, certs=None, more="", node=""):
        text = f'[node]\ndirectory = "node"\nport = {port}\nrequire_time_sync = false\ndrain = 0.0\n{node}'
        text += f'certs = "{certs}"\n' if certs else ""
        text += f"[consumer]\ndiscover = false\n{more}"
        (tmp_path / "node.toml").write_text(text)
        return tmp_path / "node.toml"

    return configured


def test_bad_input_unknown_profile(told):
    says = "unknown profile 'toaster': there are monitor, ventilator, pump, or give an MDIB file"
    told("simulate", "toaster", status=2, says=says)


def test_bad_input_as_a_shell_sees_it():
    """The same from the outside: what Show 8 asks of the whole process, its start included."""
    begin = time.monotonic()
    command = [sys.executable, "-P", "-m", "sdc_node", "simulate", "toaster"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert time.monotonic() - begin < 8
    assert done.returncode == 2
    assert re.fullmatch(r"error: unknown profile 'toaster'.*\n", done.stderr)
    assert done.stdout == ""


@pytest.mark.parametrize("kind", ["hl7", "fhir"])
def test_bad_input_port_in_use_by_a_receiver(told, kind):
    with port_in_use() as port:
        line = told("receive", kind, "--port", port, says=str(port))
    assert "in use" in line


def test_bad_input_port_in_use_by_a_node(told, configured):
    with port_in_use() as port:
        configured(port=port)
        line = told("run", says=f"port {port} on 127.0.0.1 cannot be used (Address already in use)")
    assert line.endswith("set another [node] port")


def test_bad_input_wrong_ca_of_a_device(told, pump, strangers):
    says = f"the certificate of {pump.address} is not from our CA; check that cacert.pem is the device's CA"
    for command in ("inspect", "watch"):
        for device in (pump.address, pump.epr):
            told(command, device, "--certs", strangers / "node", says=says)


def test_bad_input_wrong_ca_in_the_own_folder(told, configured, certs, strangers, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in ("userkey.pem", "usercert.pem"):
        (folder / name).write_bytes((certs / "node" / name).read_bytes())
    (folder / "cacert.pem").write_bytes((strangers / "node" / "cacert.pem").read_bytes())
    configured(certs=folder)
    for command in (("run",), ("config", "check"), ("inspect", "x", "--certs", folder)):
        told(*command, says="does not vouch for")


def test_bad_input_expired_certificate_of_ours(told, configured, expired):
    says = f"{expired / 'usercert.pem'} expired on "
    configured(certs=expired)
    told("run", says=says)
    told("config", "check", says=says)
    for command in (
        ("inspect", "https://127.0.0.1:1/x"),
        ("watch", "https://127.0.0.1:1/x"),
        ("simulate", "pump"),
        ("receive", "hl7", "--tls", "--port", 0),
        ("receive", "fhir", "--tls", "--port", 0),
    ):
        told(*command, "--certs", expired, says=says)


def test_bad_input_expired_certificate_of_a_device(told, certs, expired):
    with tls_server(expired) as address:
        for command in ("inspect", "watch"):
            told(
                command,
                address,
                "--certs",
                certs / "node",
                says=f"the certificate of {address} has expired; renew it on the device",
            )


def test_bad_input_plain_http_device(told, plain_pump, certs):
    for command in ("inspect", "watch"):
        for device in (plain_pump.address, plain_pump.epr, plain_pump.epr.removeprefix("urn:uuid:")[:13]):
            told(command, device, "--certs", certs / "node", says=f"{plain_pump.epr} offers {PLAIN}")
    told("inspect", plain_pump.address, says=PLAIN)
    as_tls = plain_pump.address.replace("http:", "https:")
    told("inspect", as_tls, "--certs", certs / "node", says=f"{as_tls} speaks plain HTTP where TLS was expected")


def test_bad_input_plain_http_is_never_spoken_for_data(told, plain_pump, certs, monkeypatch):
    def get_mdib(_link):
        raise AssertionError("asked for the MDIB over plain HTTP")

    monkeypatch.setattr(Link, "get_mdib", get_mdib)
    told("inspect", plain_pump.address, "--certs", certs / "node", says=PLAIN)


@pytest.mark.parametrize("name", ["outbox.sqlite", "state.sqlite"])
@pytest.mark.parametrize("content", [b"\x00\x01 not a database" * 100, b"SQLite format 3\x00" + b"\xff" * 4000])
def test_bad_input_corrupt_file_of_the_node(told, configured, tmp_path, name, content):
    configured()
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / name).write_bytes(content)
    line = told("run", says=f"node/{name}: ")
    assert "move it away" in line
    assert (tmp_path / "node" / name).read_bytes() == content


def test_bad_input_malformed_config(told, configured, sdc_node):
    path = configured()
    path.write_text("[node\n")
    for command in (("run",), ("config", "check")):
        told(*command, "--config", path, status=2, says=f"{path}: Expected ']' at the end of a table declaration (at")
        told(*command, "--config", "none.toml", status=2, says="`sdc-node config sample` prints one to begin with")
    path.write_text('[node]\ndirectory = 1\nprot = "x"\n')
    ended = sdc_node("config", "check", "--config", path)
    assert ended.status == 2
    assert ended.err.splitlines()[0] == f"error: {path}: node.directory: must be a path, as text"
    assert ended.err.splitlines()[1].startswith(f"error: {path}: node.prot: unknown key; known here: certs, directory")


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ("<pm:Mds ", "<pm:Mds Handel='x' ", r"line \d+: breaks the BICEPS schema: .*'Handel'"),
        ("</pm:Mds>", "", r"line \d+: is not XML: Opening and ending tag mismatch"),
        ("GetMdibResponse", "GetMdib", r"the root is \{.*\}GetMdib, not a GetMdibResponse"),
        ('Handle="ch.source"', 'Handle="ch.delivery"', r"line \d+: handle 'ch.delivery' is taken by line \d+"),
    ],
)
def test_bad_input_mdib_file_that_breaks_the_schema(told, tmp_path, right, wrong, says):
    text = (files("providers") / "profiles" / "pump.xml").read_text()
    assert right in text
    (tmp_path / "mine.xml").write_text(text.replace(right, wrong))
    line = told("simulate", "mine.xml", status=2, says="mine.xml")
    assert re.search(says, line), line


def test_bad_input_receiver_that_is_not_there(told, sdc_node, configured):
    with port_in_use() as port:
        pass  # and now it is not
    hl7 = f'[[hl7]]\nhost = "127.0.0.1"\nport = {port}\n'
    fhir = f'[[fhir]]\nbase_url = "http://127.0.0.1:{port}/fhir"\n'
    path = configured(more=hl7)
    says = f"hl7 hl7: nothing answers at 127.0.0.1:{port} (Connection refused); start the receiver"
    told("config", "check", "--connect", says=says)
    configured(more=fhir)
    told("config", "check", "--connect", says=f"fhir fhir: nothing answers at 127.0.0.1:{port}")
    configured(more=hl7 + fhir)
    assert sdc_node("config", "check", "--connect", "--config", path).err.count("error: ") == 2
    assert sdc_node("config", "check", "--config", path).status == 0


def test_bad_input_device_that_is_not_there(told, certs):
    with port_in_use() as port:
        pass
    address = f"https://127.0.0.1:{port}/x"
    told("inspect", address, "--certs", certs / "node", says=f"nobody listens at {address} (connection refused)")
    told("inspect", address, says=f"{address} needs certificates (userkey.pem, usercert.pem, cacert.pem)")
    told("watch", "urn:uuid:nobody", "--timeout", 1, says="no device 'urn:uuid:nobody' (")


def test_bad_input_where_multicast_is_blocked(told):
    says = 'no multicast on 203.0.113.9: list devices statically, in the config as [[consumer.device]] address = "https'
    told("discover", "--interface", "203.0.113.9", says=says)
    told("inspect", "x", "--interface", "203.0.113.9", says=says)
    told("simulate", "pump", "--interface", "203.0.113.9", says="interface 203.0.113.9 cannot be used for discovery")


def test_bad_input_folder_that_another_node_holds_or_nobody_can_use(told, configured, tmp_path):
    configured()
    (tmp_path / "node").write_text("a file")
    told("run", says="node: File exists; name a folder that this user may write to")


def test_bad_input_option_of_the_wrong_type(sdc_node):
    for command in (("receive", "hl7", "--port", "many"), ("run", "--nonsense"), ("nonsense",), ("pki", "init")):
        ended = sdc_node(*command)
        assert ended.status == 2
        assert "Usage: sdc-node" in ended.err
        assert "Traceback" not in ended.err
