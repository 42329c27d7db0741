"""The few errors of the consumer wing, each with one line that a biomedical engineer can act on.

Foreign errors (ssl, socket, http.client, sdc11073) are translated here and nowhere else. No text of a message body
gets into an error: bodies hold patient data.
"""

import http.client
import ssl

EXPIRED = 10
NOT_YET_VALID = 9
"""X509_V_ERR codes of OpenSSL, as in `ssl.SSLCertVerificationError.verify_code`."""
UNTRUSTED = {18, 19, 20, 21}

_ALERTS = {
    "CERTIFICATE_EXPIRED": "the device says that our certificate has expired; renew the node's usercert.pem",
    "UNKNOWN_CA": "the device does not trust the CA of our certificate; both sides need the same cacert.pem",
    "CERTIFICATE_REQUIRED": "the device asks for a client certificate and got none; check usercert.pem",
    "BAD_CERTIFICATE": "the device refuses our certificate; check usercert.pem and its key purposes",
    "CERTIFICATE_UNKNOWN": "the device refuses our certificate; check usercert.pem and its key purposes",
    "UNSUPPORTED_CERTIFICATE": "the device refuses our certificate; check usercert.pem and its key purposes",
    "HANDSHAKE_FAILURE": "the device and we have no TLS version or cipher in common (TLS 1.2 or newer is needed)",
    "PROTOCOL_VERSION": "the device and we have no TLS version in common (TLS 1.2 or newer is needed)",
}
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")


class ConsumerError(Exception):
    """Anything that keeps a device from being found or followed. `str()` is one line without patient data."""


class Unreachable(ConsumerError):  # noqa: N818 - the name says what is wrong
    """Nobody answers at the address, or the connection broke."""


class TimedOut(Unreachable):
    """The device did not answer in time."""


class CertificateRefused(ConsumerError):  # noqa: N818 - the name says what is wrong
    """One side does not accept the other's certificate."""


class PlaintextRefused(ConsumerError):  # noqa: N818 - the name says what is wrong
    """The device offers plain HTTP only and is not listed under `allow_plaintext`."""


class NotAProvider(ConsumerError):  # noqa: N818 - the name says what is wrong
    """What answered is not an SDC provider, or not the one that was asked for."""


class MulticastBlocked(ConsumerError):  # noqa: N818 - the name says what is wrong
    """WS-Discovery cannot work on this interface; devices have to be listed statically."""


class DeviceNotFound(ConsumerError):  # noqa: N818 - the name says what is wrong
    """No device, or more than one, fits what the user named."""


def causes(error: BaseException) -> list[BaseException]:
    """The error and what it was raised from, outermost first; at most ten."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain and len(chain) < 10:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return chain


def explain(error: BaseException, address: str) -> ConsumerError:
    """Translate what went wrong while talking to `address`."""
    chain = causes(error)
    for link in chain:
        if isinstance(link, ConsumerError):
            return link
    for link in chain:
        if isinstance(link, ssl.SSLError):
            return _tls(link, address)
    for link in chain:
        if isinstance(link, TimeoutError):
            return TimedOut(f"{address} did not answer in time")
    for link in chain:
        if isinstance(link, ConnectionRefusedError):
            return Unreachable(f"nobody listens at {address} (connection refused)")
        if isinstance(link, ConnectionError | http.client.RemoteDisconnected):
            return Unreachable(f"{address} closed the connection; a device that wants TLS does so on plain HTTP")
        if isinstance(link, OSError):
            return Unreachable(f"{address} cannot be reached ({link.strerror or type(link).__name__})")
    status = next((link for link in chain if isinstance(getattr(link, "status", None), int)), None)
    if status is not None:
        return NotAProvider(f"{address} answered with HTTP status {getattr(status, 'status', '?')}")
    if any(isinstance(link, http.client.HTTPException) for link in chain):
        return Unreachable(f"{address} broke the HTTP connection ({type(chain[-1]).__name__})")
    return NotAProvider(f"{address} does not answer like an SDC provider ({type(error).__name__})")


def _tls(error: ssl.SSLError, address: str) -> ConsumerError:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code == EXPIRED:
            return CertificateRefused(f"the certificate of {address} has expired; renew it on the device")
        if error.verify_code == NOT_YET_VALID:
            return CertificateRefused(f"the certificate of {address} is not valid yet; check the clocks")
        if error.verify_code in UNTRUSTED:
            return CertificateRefused(
                f"the certificate of {address} is not from our CA; check that cacert.pem is the device's CA"
            )
        return CertificateRefused(f"the certificate of {address} is refused: {error.verify_message}")
    reason = getattr(error, "reason", None) or ""
    for name, text in _ALERTS.items():
        if name in reason:
            return CertificateRefused(f"{address}: {text}")
    if any(name in reason for name in _NOT_TLS):
        return PlaintextRefused(
            f"{address} speaks plain HTTP where TLS was expected; plain HTTP is never fallen back to"
        )
    if isinstance(error, ssl.SSLEOFError):
        return CertificateRefused(f"{address} ended the TLS handshake; it probably refuses our certificate")
    return Unreachable(f"TLS with {address} failed ({reason or type(error).__name__})")
