"""Mutual TLS from a folder of three PEM files, with the own certificate checked before anybody relies on it.

SDPi R0502 asks for mutual authentication on every secured transaction, IEEE 11073-20701 R0063 for TLS 1.2 or
higher. Everything here reads files: call it in a thread, never on an event loop.
"""

import os
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from sdc_node.pki import CA_CERTIFICATE, USER_CERTIFICATE, USER_KEY

ENVIRONMENT: Final = "SDC_NODE_CERTS"

_MAX_BYTES: Final = 1 << 20
_MAX_CHAIN: Final = 8
_NEEDED: Final = {
    ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth",
    ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth",
}


class SecurityError(Exception):
    """Why TLS cannot be used, in one line that names the file."""


class Contexts(NamedTuple):
    """The two sides of one identity; both demand a certificate of the peer that the CA file vouches for."""

    client: ssl.SSLContext
    server: ssl.SSLContext


def choose_folder(option: Path | None, configured: Path | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The certificate folder: the command line's, else the one in ``SDC_NODE_CERTS``, else the configured."""
    if option is not None:
        return option
    return Path(named) if (named := environ.get(ENVIRONMENT)) else configured


def load(folder: Path, now: datetime | None = None) -> Contexts:
    """The contexts for ``userkey.pem``, ``usercert.pem`` (chain included) and ``cacert.pem`` in ``folder``.

    Reads the files anew at each call, so ``functools.partial(load, folder)`` is a factory that picks up a
    renewed certificate. SecurityError for a file that is missing, unreadable or not what it should be, a key
    of another certificate, an expired or not yet valid certificate (at ``now``, by default the clock's), a CA
    file that does not vouch for the own certificate, or key purposes that TLS peers would refuse.
    """
    now = now or datetime.now(UTC)
    key_path, own_path, ca_path = (folder / name for name in (USER_KEY, USER_CERTIFICATE, CA_CERTIFICATE))
    if not folder.is_dir():
        raise SecurityError(f"there is no certificate folder {folder}")
    key = _private_key(key_path)
    own, *intermediates = _certificates(own_path)
    authorities = _certificates(ca_path)
    if key.public_key() != own.public_key():
        raise SecurityError(f"{key_path} is not the key of {own_path}")
    _check_dates(own_path, own, now)
    _check_purposes(own_path, own)
    authority = _find_authority(own, intermediates, authorities)
    if authority is None:
        held = ", ".join(f"'{_subject(each)}'" for each in authorities[:3])
        raise SecurityError(
            f"{ca_path} does not vouch for {own_path}: that was issued by "
            f"'{own.issuer.rfc4514_string()}', the CA file holds {held}"
        )
    _check_authority(ca_path, authority, now)
    try:
        return Contexts(
            client=_context(ssl.PROTOCOL_TLS_CLIENT, key_path, own_path, ca_path),
            server=_context(ssl.PROTOCOL_TLS_SERVER, key_path, own_path, ca_path),
        )
    except (ssl.SSLError, OSError) as error:
        raise SecurityError(f"the TLS library refuses the files in {folder}: {error}") from error


def _context(protocol: int, key: Path, own: Path, authorities: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # SDC peers are found by discovery at addresses that their certificates seldom name; a participant is who
    # its EPR and its certificate say, not the address it has today.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cafile=authorities)
    context.load_cert_chain(own, key)
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # no resumption: every connection shows its certificate anew
    return context


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise SecurityError(f"{path} is missing") from error
    except OSError as error:
        raise SecurityError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_BYTES:
        raise SecurityError(f"{path} is larger than {_MAX_BYTES} bytes: that is no PEM file of ours")
    return content


def _private_key(path: Path) -> PrivateKeyTypes:
    content = _read(path)
    try:
        return load_pem_private_key(content, password=None)
    except TypeError as error:
        raise SecurityError(f"{path} is encrypted: store the key without a passphrase, mode 0600") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SecurityError(f"{path} holds no private key in PEM form") from error


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise SecurityError(f"{path} holds no certificate in PEM form") from error


def _check_dates(path: Path, certificate: x509.Certificate, now: datetime) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > end:
        raise SecurityError(f"{path} expired on {_when(end)}, {_span(now - end)} ago: renew it")
    if now < begin:
        raise SecurityError(
            f"{path} is not valid before {_when(begin)}, {_span(begin - now)} from now: is this host's clock right?"
        )


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _span(span: timedelta) -> str:
    hours, days = span // timedelta(hours=1), span.days
    return f"{days} days" if days > 1 else f"{hours} hours" if hours > 1 else f"{span // timedelta(minutes=1)} minutes"


def _check_purposes(path: Path, certificate: x509.Certificate) -> None:
    """Both SDC roles serve and call; without the extension all is allowed (RFC 5280 4.2.1.12)."""
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    except ValueError as error:
        raise SecurityError(f"{path} has extensions that cannot be read") from error
    if missing := [name for oid, name in _NEEDED.items() if oid not in purposes]:
        raise SecurityError(f"{path} lacks the key purpose {' and '.join(missing)}: peers would refuse it")


def _check_authority(path: Path, authority: x509.Certificate, now: datetime) -> None:
    try:
        is_ca = authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        is_ca = False
    if not is_ca:
        raise SecurityError(f"{path} holds '{_subject(authority)}', which is not an authority's certificate")
    _check_dates(path, authority, now)


def _find_authority(
    own: x509.Certificate, intermediates: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]
) -> x509.Certificate | None:
    """The trusted authority at the end of the own certificate's chain, or None where the chain breaks off."""
    link = own
    for _ in range(_MAX_CHAIN):
        for authority in authorities:
            if _issued(link, authority):
                return authority
        above = next((each for each in intermediates if each != link and _issued(link, each)), None)
        if above is None:
            return None
        link = above
    return None


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()
