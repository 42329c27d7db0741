"""Foreign errors become one line that says what to do."""

import http.client
import ssl

import pytest

from consumers.errors import (
    CertificateRefused,
    ConsumerError,
    NotAProvider,
    PlaintextRefused,
    TimedOut,
    Unreachable,
    explain,
)


def verification(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError("certificate verify failed")
    error.verify_code = code
    error.verify_message = "bad purpose"
    return error


def tls(reason: str | None) -> ssl.SSLError:
    error = ssl.SSLError(1, "boom")
    error.reason = reason
    return error


def status(code: int) -> Exception:
    error = http.client.HTTPException()
    error.status = code
    return error


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (verification(10), CertificateRefused, "has expired; renew it on the device"),
        (verification(9), CertificateRefused, "not valid yet"),
        (verification(20), CertificateRefused, "not from our CA"),
        (verification(26), CertificateRefused, "bad purpose"),
        (tls("TLSV1_ALERT_UNKNOWN_CA"), CertificateRefused, "does not trust the CA"),
        (tls("SSLV3_ALERT_CERTIFICATE_EXPIRED"), CertificateRefused, "our certificate has expired"),
        (tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), CertificateRefused, "asks for a client certificate"),
        (tls("WRONG_VERSION_NUMBER"), PlaintextRefused, "speaks plain HTTP"),
        (ssl.SSLEOFError(8, "EOF"), CertificateRefused, "ended the TLS handshake"),
        (tls(None), Unreachable, "TLS with"),
        (TimeoutError(), TimedOut, "did not answer in time"),
        (ConnectionRefusedError(), Unreachable, "connection refused"),
        (ConnectionResetError(), Unreachable, "closed the connection"),
        (OSError(113, "No route to host"), Unreachable, "No route to host"),
        (status(503), NotAProvider, "HTTP status 503"),
        (http.client.HTTPException(), Unreachable, "broke the HTTP connection"),
        (ValueError("Mustermann"), NotAProvider, "does not answer like an SDC provider"),
        (NotAProvider("already clear"), NotAProvider, "already clear"),
    ],
)
def test_explained_in_one_line(error, kind, text):
    wrapped = RuntimeError("outer")
    wrapped.__cause__ = error
    for each in (error, wrapped) if isinstance(error, OSError | ConsumerError) else (error,):
        made = explain(each, "https://192.0.2.1:6464/x")
        assert type(made) is kind
        assert text in str(made)
        assert "\n" not in str(made)
        assert "Mustermann" not in str(made)
