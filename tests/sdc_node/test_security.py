"""The contexts in use against each other, and each broken folder told in one line."""

import os
import shutil
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sdc_node import pki
from sdc_node.security import ENVIRONMENT, Contexts, SecurityError, choose_folder, load


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pki") / "certs"
    pki.init(directory, {"node": "consumer", "monitor": "provider"}, days=10)
    return directory


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pki") / "strangers"
    pki.init(directory, {"node": "consumer"}, days=10)
    return directory


@pytest.fixture
def folder(authority, tmp_path):
    return Path(shutil.copytree(authority / "node", tmp_path / "node"))


def handshake(server, client):
    """Both sides' outcomes of one handshake and one byte each way: None or the error."""
    near, far = socket.socketpair()
    near.settimeout(10)
    far.settimeout(10)
    outcome = {}

    def talk(side, context, end, *, server_side):
        try:
            with context.wrap_socket(end, server_side=server_side) as wrapped:
                wrapped.sendall(b"x")
                assert wrapped.recv(1) == b"x"
                outcome[side] = wrapped.version()
        except OSError as error:
            outcome[side] = error

    thread = threading.Thread(target=talk, args=("server", server, far), kwargs={"server_side": True})
    thread.start()
    talk("client", client, near, server_side=False)
    thread.join(20)
    near.close()
    far.close()
    return outcome


def refused(folder, message, **options):
    with pytest.raises(SecurityError, match=message) as caught:
        load(folder, **options)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_r0502_two_participants_meet_over_the_best_tls(authority):
    outcome = handshake(load(authority / "monitor").server, load(authority / "node").client)
    assert outcome == {"server": "TLSv1.3", "client": "TLSv1.3"}


def test_r0063_tls_1_2_is_the_floor(authority):
    contexts = load(authority / "node")
    assert isinstance(contexts, Contexts)
    for context in contexts:
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.verify_mode == ssl.CERT_REQUIRED
    old = load(authority / "node").client
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert handshake(contexts.server, old)["server"] == "TLSv1.2"


def test_r0502_a_client_without_certificate_is_refused(authority):
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anonymous.check_hostname = False
    anonymous.load_verify_locations(authority / "node" / "cacert.pem")
    outcome = handshake(load(authority / "monitor").server, anonymous)
    assert isinstance(outcome["server"], ssl.SSLError)
    assert isinstance(outcome["client"], OSError)


def test_r0502_strangers_are_refused_by_both_sides(authority, strangers):
    ours, theirs = load(authority / "node"), load(strangers / "node")
    assert isinstance(handshake(ours.server, theirs.client)["client"], ssl.SSLCertVerificationError)
    lenient = theirs.client
    lenient.verify_mode = ssl.CERT_NONE
    assert isinstance(handshake(ours.server, lenient)["server"], ssl.SSLCertVerificationError)


def test_a_factory_picks_up_a_renewed_certificate(authority, folder):
    make = partial(load, folder)
    make()
    for path in (authority / "monitor").iterdir():
        shutil.copy(path, folder)
    assert handshake(make().server, load(authority / "node").client)["client"] == "TLSv1.3"


def test_a_folder_that_is_not_there(tmp_path):
    refused(tmp_path / "none", "there is no certificate folder")


@pytest.mark.parametrize("name", ["userkey.pem", "usercert.pem", "cacert.pem"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    refused(folder, f"{name} is missing$")


@pytest.mark.parametrize("name", ["userkey.pem", "usercert.pem", "cacert.pem"])
@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_that_is_something_else_is_named(folder, name, content):
    (folder / name).write_bytes(content)
    refused(folder, f"{name} holds no (private key|certificate) in PEM form")


def test_a_file_without_end_is_not_read(folder):
    (folder / "usercert.pem").write_bytes(b"A" * (1 << 20) + b"B")
    refused(folder, "usercert.pem is larger than")


def test_a_file_that_cannot_be_read_says_why(folder):
    (folder / "cacert.pem").unlink()
    (folder / "cacert.pem").mkdir()
    refused(folder, "cacert.pem cannot be read: Is a directory")


def test_an_encrypted_key_is_told(folder):
    key = serialization.load_pem_private_key((folder / "userkey.pem").read_bytes(), password=None)
    encryption = serialization.BestAvailableEncryption(b"secret")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    (folder / "userkey.pem").write_bytes(pem)
    refused(folder, "userkey.pem is encrypted")


def test_a_key_of_another_certificate(authority, folder):
    shutil.copy(authority / "monitor" / "userkey.pem", folder)
    refused(folder, r"userkey\.pem is not the key of .*usercert\.pem")


@pytest.mark.parametrize(
    ("past", "span"),
    [
        (timedelta(minutes=16), "16 minutes"),
        (timedelta(hours=23, minutes=50), "23 hours"),
        (timedelta(days=4.5), "4 days"),
    ],
)
def test_an_expired_certificate_says_since_when(folder, past, span):
    end = x509.load_pem_x509_certificate((folder / "usercert.pem").read_bytes()).not_valid_after_utc
    now = end + past
    refused(folder, rf"usercert\.pem expired on {end:%Y-%m-%d %H:%M:%S} UTC, {span} ago: renew it", now=now)


def test_a_certificate_of_tomorrow_asks_for_the_clock(folder):
    now = datetime.now(UTC) - timedelta(days=3)
    refused(folder, r"usercert\.pem is not valid before .* UTC, 2 days from now: is this host's clock right\?", now=now)


def test_another_authoritys_file(strangers, folder):
    shutil.copy(strangers / "node" / "cacert.pem", folder)
    refused(folder, r"cacert\.pem does not vouch for .*usercert\.pem: that was issued by 'CN=sdc-node authority")


def test_a_ca_file_that_holds_no_authority(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    own = sign(key, key, "self", "self")
    put(folder, key, own)
    (folder / "cacert.pem").write_bytes(pem(own))
    refused(folder, r"cacert\.pem holds 'CN=self', which is not an authority's certificate")


def test_an_expired_authority(folder):
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = sign(ca_key, ca_key, "root", "root", ca=True, days=1)
    put(folder, key, sign(ca_key, key, "leaf", "root", days=9))
    (folder / "cacert.pem").write_bytes(pem(root))
    refused(folder, r"cacert\.pem expired on", now=datetime.now(UTC) + timedelta(days=2))


def test_a_chain_through_an_intermediate_is_followed(folder):
    root_key, middle_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    root = sign(root_key, root_key, "root", "root", ca=True)
    middle = sign(root_key, middle_key, "middle", "root", ca=True)
    leaf = sign(middle_key, key, "leaf", "middle")
    put(folder, key, leaf, middle)
    (folder / "cacert.pem").write_bytes(pem(root))
    load(folder)
    put(folder, key, leaf)
    refused(folder, r"does not vouch for .*issued by 'CN=middle', the CA file holds 'CN=root'")


def test_a_circle_of_intermediates_ends(folder):
    one_key, two_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    one = sign(two_key, one_key, "one", "two", ca=True)
    two = sign(one_key, two_key, "two", "one", ca=True)
    put(folder, key, sign(one_key, key, "leaf", "one"), one, two)
    refused(folder, "does not vouch for")


def test_missing_key_purposes_are_named(folder):
    serving = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    (folder / "cacert.pem").write_bytes(pem(sign(ca_key, ca_key, "root", "root", ca=True)))
    put(folder, key, sign(ca_key, key, "leaf", "root", extension=serving))
    refused(folder, r"usercert\.pem lacks the key purpose clientAuth: peers would refuse it")
    put(folder, key, sign(ca_key, key, "leaf", "root"))
    load(folder)


def test_unreadable_extensions_are_told(folder):
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    junk = x509.UnrecognizedExtension(x509.ExtendedKeyUsage.oid, b"junk")
    (folder / "cacert.pem").write_bytes(pem(sign(ca_key, ca_key, "root", "root", ca=True)))
    put(folder, key, sign(ca_key, key, "leaf", "root", extension=junk))
    refused(folder, r"usercert\.pem has extensions that cannot be read")


def test_what_only_the_tls_library_dislikes_is_still_one_line(folder):
    """A key too short for TLS passes every look at the files."""
    key = rsa.generate_private_key(65537, 1024)
    own = sign(key, key, "weak", "weak", ca=True)
    put(folder, key, own)
    (folder / "cacert.pem").write_bytes(pem(own))
    refused(folder, "the TLS library refuses the files")


def test_the_folder_is_chosen_option_first_then_environment_then_config(tmp_path):
    option, configured = tmp_path / "option", tmp_path / "config"
    environ = {ENVIRONMENT: str(tmp_path / "environment")}
    assert choose_folder(option, configured, environ) == option
    assert choose_folder(None, configured, environ) == tmp_path / "environment"
    assert choose_folder(None, configured, {}) == configured
    assert choose_folder(None, configured, {ENVIRONMENT: ""}) == configured
    assert choose_folder(None, None, {}) is None


def test_the_environment_is_this_process_by_default(monkeypatch, tmp_path):
    monkeypatch.setitem(os.environ, ENVIRONMENT, str(tmp_path))
    assert choose_folder(None, None) == tmp_path


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


def put(folder, key, *chain):
    secret = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    (folder / "userkey.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, secret))
    (folder / "usercert.pem").write_bytes(b"".join(map(pem, chain)))


def sign(issuer_key, key, subject, issuer, *, ca=False, days=9, extension=None):
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
    )
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if extension:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
