"""Certificates as SDC wants them, and nothing overwritten."""

import ipaddress
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from sdc_node import pki
from sdc_node.pki import KEY_PURPOSES, PkiError, add, init

NAMES = {"node": "consumer", "monitor": "provider"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pki") / "certs"
    return directory, init(directory, NAMES, ["localhost", "127.0.0.1", "::1", "icu-gw.example"], days=30)


def certificate(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def extension(found, kind):
    return found.extensions.get_extension_for_class(kind).value


def test_each_participant_has_its_folder(made):
    directory, participants = made
    assert [(each.name, each.role, each.folder) for each in participants] == [
        ("node", "consumer", directory / "node"),
        ("monitor", "provider", directory / "monitor"),
    ]
    for each in participants:
        assert sorted(path.name for path in each.folder.iterdir()) == ["cacert.pem", "usercert.pem", "userkey.pem"]


def test_private_keys_are_for_their_owner_only(made):
    directory, participants = made
    for key in [directory / "ca" / "cakey.pem", *(each.folder / "userkey.pem" for each in participants)]:
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700


def test_keys_are_p256_and_belong_to_their_certificates(made):
    for each in made[1]:
        key = load_pem_private_key((each.folder / "userkey.pem").read_bytes(), password=None)
        assert isinstance(key.curve, ec.SECP256R1)
        assert key.public_key() == certificate(each.folder / "usercert.pem").public_key()


def test_key_purposes_by_role(made):
    for each in made[1]:
        purposes = extension(certificate(each.folder / "usercert.pem"), x509.ExtendedKeyUsage)
        assert {purpose.dotted_string for purpose in purposes} == {
            ExtendedKeyUsageOID.SERVER_AUTH.dotted_string,
            ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string,
            KEY_PURPOSES[each.role],
        }
    assert KEY_PURPOSES == {"provider": "1.2.840.10004.20701.1.1", "consumer": "1.2.840.10004.20701.1.2"}


def test_hosts_and_addresses_are_named(made):
    names = extension(certificate(made[1][0].folder / "usercert.pem"), x509.SubjectAlternativeName)
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "icu-gw.example"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("::1"),
    ]


def test_the_authority_signs_and_nobody_else_can(made):
    directory, participants = made
    authority = certificate(directory / "ca" / "cacert.pem")
    assert extension(authority, x509.BasicConstraints).ca
    authority.verify_directly_issued_by(authority)
    for each in participants:
        own = certificate(each.folder / "usercert.pem")
        own.verify_directly_issued_by(authority)
        assert not extension(own, x509.BasicConstraints).ca
        assert certificate(each.folder / "cacert.pem") == authority


def test_days_bound_the_life(made):
    end = certificate(made[1][0].folder / "usercert.pem").not_valid_after_utc
    assert abs(end - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=10)


def test_nothing_is_overwritten(made):
    directory, _ = made
    before = {path: path.read_bytes() for path in directory.rglob("*.pem")}
    with pytest.raises(PkiError, match="is there already, and not an empty folder"):
        init(directory, NAMES)
    with pytest.raises(PkiError, match="node is there already"):
        add(directory, {"late": "provider", "node": "consumer"})
    assert {path: path.read_bytes() for path in directory.rglob("*.pem")} == before


def test_a_file_is_no_place_for_certificates(tmp_path):
    (tmp_path / "certs").write_text("mine")
    with pytest.raises(PkiError, match="not an empty folder"):
        init(tmp_path / "certs", NAMES)
    with pytest.raises(PkiError, match=r"cannot write certificates to .*: (File exists|Not a directory)"):
        init(tmp_path / "certs" / "below", NAMES)
    assert (tmp_path / "certs").read_text() == "mine"


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "certs").mkdir()
    init(tmp_path / "certs", NAMES)
    assert (tmp_path / "certs" / "node" / "userkey.pem").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["certs"]


def test_half_a_run_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pki, "_write_participant", full)
    with pytest.raises(PkiError, match="No space left on device"):
        init(tmp_path / "certs", NAMES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("names", "hosts", "days", "message"),
    [
        ({}, ["localhost"], 1, "no participant"),
        ({"../up": "provider"}, ["localhost"], 1, "'../up' cannot be a participant's name"),
        ({"": "provider"}, ["localhost"], 1, "cannot be a participant's name"),
        ({"ca": "provider"}, ["localhost"], 1, "'ca' cannot be"),
        ({"n" * 64: "provider"}, ["localhost"], 1, "cannot be a participant's name"),
        ({"node": "printer"}, ["localhost"], 1, "'printer' is no role; there are provider and consumer"),
        ({"node": "consumer"}, [], 1, "no host"),
        ({"node": "consumer"}, ["not a host"], 1, "'not a host' is neither"),
        ({"node": "consumer"}, ["grün.example"], 1, "is neither"),
        ({"node": "consumer"}, ["localhost"], 0, "days must be 1 to 3650, not 0"),
        ({"node": "consumer"}, ["localhost"], 10**9, "days must be"),
    ],
)
def test_bad_wishes_are_refused_before_anything_is_written(tmp_path, names, hosts, days, message):
    with pytest.raises(PkiError, match=message) as caught:
        init(tmp_path / "certs", names, hosts, days)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_participant_can_join_later(tmp_path):
    directory = tmp_path / "certs"
    init(directory, {"node": "consumer"})
    (late,) = add(directory, {"pump": "provider"})
    own = certificate(late.folder / "usercert.pem")
    own.verify_directly_issued_by(certificate(directory / "node" / "cacert.pem"))


def test_no_certificate_outlives_its_authority(tmp_path, monkeypatch):
    monkeypatch.setattr(pki, "_CA_DAYS", 10)
    init(tmp_path / "certs", {"node": "consumer"}, days=9)
    with pytest.raises(PkiError, match="the authority ends on"):
        add(tmp_path / "certs", {"pump": "provider"}, days=11)
    assert not (tmp_path / "certs" / "pump").exists()


def test_joining_needs_a_sound_authority(tmp_path):
    with pytest.raises(PkiError, match=r"no authority in .*No such file"):
        add(tmp_path, {"pump": "provider"})
    init(tmp_path / "one", {"node": "consumer"})
    init(tmp_path / "two", {"node": "consumer"})
    (tmp_path / "one" / "ca" / "cakey.pem").write_bytes((tmp_path / "two" / "ca" / "cakey.pem").read_bytes())
    with pytest.raises(PkiError, match="its key does not belong to its certificate"):
        add(tmp_path / "one", {"pump": "provider"})
    (tmp_path / "one" / "ca" / "cakey.pem").write_text("nonsense")
    with pytest.raises(PkiError, match="cannot be read"):
        add(tmp_path / "one", {"pump": "provider"})


def test_joining_says_what_the_disk_says(tmp_path, monkeypatch):
    init(tmp_path / "certs", {"node": "consumer"})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pki, "_write", full)
    with pytest.raises(PkiError, match=r"cannot write certificates to .*pump: No space left on device"):
        add(tmp_path / "certs", {"pump": "provider"})
    assert sorted(path.name for path in (tmp_path / "certs").iterdir()) == ["ca", "node"]
