"""Devices of `sdc-node simulate` in a process of their own, and certificates that are wrong on purpose."""

import contextlib
import json
import os
import secrets
import select
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ANSWER = 40.0
"""Seconds that a process may take to say that it is ready."""


@contextlib.contextmanager
def simulated(*arguments: object) -> Iterator[list[SimpleNamespace]]:
    """`sdc-node simulate ARGUMENTS --json`: each device with `profile`, `epr` and `address`; killed at the end.

    The seed, and so the EPR, is of this run only: others may be running these tests on the same interface. It is not
    measured: what coverage has seen would die with it.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS_")}
    command = [sys.executable, "-P", "-m", "sdc_node", "simulate", *map(str, arguments)]
    command += ["--seed", str(secrets.randbelow(1_000_000_000)), "--json"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert select.select([process.stdout], [], [], ANSWER)[0], "no device in time"
        residents = json.loads(process.stdout.readline())
        yield [
            SimpleNamespace(profile=each["profile"], epr=each["epr"], address=each["xaddrs"][0]) for each in residents
        ]
    finally:
        process.kill()
        process.communicate()


def issue_expired(authority: Path, folder: Path) -> Path:
    """A participant's folder under the CA that `pki init` made in `authority`, whose certificate ended yesterday."""
    issuer = x509.load_pem_x509_certificate((authority / "ca" / "cacert.pem").read_bytes())
    issuer_key = serialization.load_pem_private_key((authority / "ca" / "cakey.pem").read_bytes(), password=None)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "late")]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now - timedelta(days=1))
        .sign(issuer_key, hashes.SHA256())
    )
    folder.mkdir()
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "userkey.pem").write_bytes(private)
    (folder / "usercert.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "cacert.pem").write_bytes(issuer.public_bytes(pem))
    return folder
