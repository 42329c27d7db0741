"""A certificate authority for a demo, a test or a closed network: one folder of PEM files per participant.

Everything here reads and writes files and makes keys: call it from the command line or in a thread, never on
an event loop.
"""

import ipaddress
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Role = Literal["provider", "consumer"]

KEY_PURPOSES: Final[Mapping[Role, str]] = {
    "provider": "1.2.840.10004.20701.1.1",
    "consumer": "1.2.840.10004.20701.1.2",
}
"""The SDC participant key purposes (IEEE 11073-20701) that a certificate's extended key usage carries."""

USER_KEY: Final = "userkey.pem"
USER_CERTIFICATE: Final = "usercert.pem"
CA_CERTIFICATE: Final = "cacert.pem"
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

_AUTHORITY: Final = "ca"
_CA_KEY: Final = "cakey.pem"
_CA_DAYS: Final = 3650
_MAX_DAYS: Final = 3650
_CLOCK_SKEW: Final = timedelta(hours=1)  # a participant whose clock is a little late still accepts us
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_HOST: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9-]{1,63})*", re.ASCII)


class PkiError(Exception):
    """What stops a certificate from being made, in one line for the person at the terminal."""


class Participant(msgspec.Struct, frozen=True):
    """Who got a certificate: ``folder`` holds ``userkey.pem`` (0600), ``usercert.pem`` and ``cacert.pem``."""

    name: str
    role: Role
    folder: Path


class _Validity(msgspec.Struct, frozen=True):
    san: x509.SubjectAlternativeName
    days: int


class _Authority(msgspec.Struct, frozen=True):
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def init(
    directory: Path, names: Mapping[str, Role], hosts: Sequence[str] = LOOPBACK, days: int = 365
) -> tuple[Participant, ...]:
    """Make a new authority in ``directory`` and a folder beside it for each name, valid for ``hosts``.

    All or nothing: PkiError, and nothing written, where ``directory`` already holds something or a name, host
    or number of days cannot be used. The authority's key stays in ``ca/cakey.pem`` (0600) for :func:`add`.
    """
    validity = _check(names, hosts, days)
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise PkiError(f"{directory} is there already, and not an empty folder: nothing is overwritten")
        directory.absolute().parent.mkdir(parents=True, exist_ok=True)
        with _staged(directory) as staging:
            authority = _new_authority()
            _write_authority(staging / _AUTHORITY, authority)
            for name, role in names.items():
                (staging / name).mkdir(mode=0o700)
                _write_participant(staging / name, authority, name, role, validity)
    except OSError as error:
        raise PkiError(f"cannot write certificates to {directory}: {error.strerror}") from error
    return tuple(Participant(name, role, directory / name) for name, role in names.items())


def add(
    directory: Path, names: Mapping[str, Role], hosts: Sequence[str] = LOOPBACK, days: int = 365
) -> tuple[Participant, ...]:
    """Make further participants under the authority that :func:`init` left in ``directory``.

    A certificate never outlives its authority. PkiError where a folder exists already (none is overwritten;
    those named before it stay) or the authority cannot be read.
    """
    validity = _check(names, hosts, days)
    authority = _read_authority(directory / _AUTHORITY)
    for name in names:
        if (directory / name).exists():
            raise PkiError(f"{directory / name} is there already: nothing is overwritten")
    for name, role in names.items():
        try:
            with _staged(directory / name) as staging:
                _write_participant(staging, authority, name, role, validity)
        except OSError as error:
            raise PkiError(f"cannot write certificates to {directory / name}: {error.strerror}") from error
    return tuple(Participant(name, role, directory / name) for name, role in names.items())


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A fresh private folder that becomes ``target`` when the block ends well, and is removed when it does not."""
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.absolute().parent))
    try:
        yield staging
        staging.rename(target)  # at once; the system refuses where target holds something
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _check(names: Mapping[str, Role], hosts: Sequence[str], days: int) -> _Validity:
    if not names:
        raise PkiError("no participant is named")
    if not hosts:
        raise PkiError("no host is named: a certificate needs at least one host name or address")
    if not 1 <= days <= _MAX_DAYS:
        raise PkiError(f"days must be 1 to {_MAX_DAYS}, not {days}")
    for name, role in names.items():
        if not _NAME.fullmatch(name) or name == _AUTHORITY:
            raise PkiError(f"{name!r} cannot be a participant's name: letters, digits, '.', '_', '-'; not 'ca'")
        if role not in KEY_PURPOSES:
            raise PkiError(f"{name}: {role!r} is no role; there are {' and '.join(KEY_PURPOSES)}")
    san = x509.SubjectAlternativeName([_general_name(host) for host in dict.fromkeys(hosts)])
    return _Validity(san, days)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if _HOST.fullmatch(host):
            return x509.DNSName(host)
    raise PkiError(f"{host!r} is neither a host name nor an IP address")


def _new_authority() -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    # Two authorities of one name would be told apart by their key only: give each a name of its own.
    mark = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:8]
    name = _common_name(f"sdc-node authority {mark}")
    builder = (
        _builder(name, name, key, key, _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
    )
    return _Authority(key, builder.sign(key, hashes.SHA256()))


def _issue(
    authority: _Authority, key: ec.EllipticCurvePrivateKey, name: str, role: Role, validity: _Validity
) -> x509.Certificate:
    end = authority.certificate.not_valid_after_utc
    if datetime.now(UTC) + timedelta(days=validity.days) > end:
        raise PkiError(f"the authority ends on {end:%Y-%m-%d}: {validity.days} days from now are past that")
    purposes = [
        ExtendedKeyUsageOID.SERVER_AUTH,  # both roles serve (notifications) and call
        ExtendedKeyUsageOID.CLIENT_AUTH,
        x509.ObjectIdentifier(KEY_PURPOSES[role]),
    ]
    builder = (
        _builder(_common_name(name), authority.certificate.subject, key, authority.key, validity.days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(validity.san, critical=False)
    )
    return builder.sign(authority.key, hashes.SHA256())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    days: int,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _write_authority(folder: Path, authority: _Authority) -> None:
    folder.mkdir(mode=0o700)
    _write(folder / _CA_KEY, _key_pem(authority.key), 0o600)
    _write(folder / CA_CERTIFICATE, _certificate_pem(authority.certificate), 0o644)


def _read_authority(folder: Path) -> _Authority:
    try:
        key = serialization.load_pem_private_key((folder / _CA_KEY).read_bytes(), password=None)
        certificate = x509.load_pem_x509_certificate((folder / CA_CERTIFICATE).read_bytes())
    except OSError as error:
        raise PkiError(f"no authority in {folder}: {error.strerror}: {error.filename}") from error
    except (ValueError, TypeError) as error:
        raise PkiError(
            f"the authority in {folder} cannot be read: not an unencrypted PEM key and certificate"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise PkiError(f"the authority in {folder} cannot be used: its key does not belong to its certificate")
    return _Authority(key, certificate)


def _write_participant(folder: Path, authority: _Authority, name: str, role: Role, validity: _Validity) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _issue(authority, key, name, role, validity)
    _write(folder / USER_KEY, _key_pem(key), 0o600)
    _write(folder / USER_CERTIFICATE, _certificate_pem(certificate), 0o644)
    _write(folder / CA_CERTIFICATE, _certificate_pem(authority.certificate), 0o644)


def _write(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    encryption = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
