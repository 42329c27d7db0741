"""The client against servers that answer well, badly, late and never."""

import asyncio
import datetime as dt
import email.utils
import ipaddress
import json
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sdc_node.receivers.fhir import FhirReceiver, read_counts
from sdc_node.sinks.fhir.client import FhirClient, FhirClientError, count_entries, verdict_of, verdict_of_answer

ROOT = Path(__file__).parents[4]
TWO = json.dumps({"resourceType": "Bundle", "type": "batch", "entry": [{}, {}]}).encode()


def bundle(*statuses, **response):
    entries = [{"response": {"status": status, **response}} for status in statuses]
    return json.dumps({"resourceType": "Bundle", "type": "batch-response", "entry": entries}).encode()


def http(status, body=b"", *headers):
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Server:
    """Answers each request with the next of `answers`; None closes the connection, ... says nothing at all."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []
        self.connections = 0

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/fhir"
        return self

    async def __aexit__(self, *_):
        self.server.close()
        await self.server.wait_closed()

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while self.answers:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-len"))
                self.requests.append((head, await reader.readexactly(length)))
                answer = self.answers.pop(0)
                if answer is None:
                    return
                if answer is ...:
                    await reader.read()
                    return
                writer.write(answer)
                await writer.drain()
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()


async def sent(*answers, **options):
    async with Server(*answers) as server, FhirClient(server.url, **options) as client:
        return await client.send(TWO)


async def test_every_entry_accepted_is_accepted_and_says_where():
    async with Server(http(200, bundle("201 Created", "200 OK", location="Device/1/_history/1"))) as server:
        async with FhirClient(server.url) as client:
            response = await client.send(TWO)
        head, body = server.requests[0]
    assert (response.verdict, response.status, response.reason) == ("accepted", 200, "")
    assert [(one.verdict, one.status) for one in response.entries] == [("accepted", 201), ("accepted", 200)]
    assert response.entries[0].location == "Device/1/_history/1"
    assert body == TWO
    assert head.startswith(b"POST /fhir/ HTTP/1.1\r\n")
    assert b"Content-Type: application/fhir+json" in head


async def test_one_connection_serves_many_bundles():
    async with Server(*[http(200, bundle("201", "201"))] * 3) as server, FhirClient(server.url) as client:
        for _ in range(3):
            assert (await client.send(TWO)).verdict == "accepted"
        assert server.connections == 1


@pytest.mark.parametrize(
    ("status", "of_entry", "verdict"),
    [
        (200, "accepted", "accepted"),
        (201, "accepted", "accepted"),
        (302, "poison", "retryable"),
        (400, "poison", "poison"),
        (401, "poison", "retryable"),
        (403, "poison", "retryable"),
        (404, "poison", "retryable"),
        (405, "poison", "retryable"),
        (407, "poison", "retryable"),
        (408, "retryable", "retryable"),
        (409, "retryable", "retryable"),
        (412, "poison", "poison"),
        (413, "poison", "poison"),
        (415, "poison", "poison"),
        (422, "poison", "poison"),
        (429, "retryable", "retryable"),
        (500, "retryable", "retryable"),
        (503, "retryable", "retryable"),
    ],
)
async def test_what_a_status_means(status, of_entry, verdict):
    assert (verdict_of(status), verdict_of_answer(status)) == (of_entry, verdict)
    if verdict != "accepted":
        response = await sent(http(status, b"{}"))
        assert (response.verdict, response.status, response.reason) == (verdict, status, f"HTTP {status}")


async def test_retry_after_is_honoured_in_seconds_as_a_date_and_within_reason():
    assert (await sent(http(503, b"", "Retry-After: 7"))).retry_after == 7
    assert (await sent(http(429, b"", "Retry-After: 99999999999999"))).retry_after == 3600
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=30)
    for text in (
        email.utils.format_datetime(soon, usegmt=True),
        email.utils.format_datetime(soon.replace(tzinfo=None)),
    ):
        assert 25 < (await sent(http(503, b"", f"Retry-After: {text}"))).retry_after <= 30
    assert (await sent(http(503, b"", "Retry-After: Mon, 01 Jan 2001 00:00:00 GMT"))).retry_after == 0
    assert (await sent(http(503, b"", "Retry-After: later"))).retry_after is None


async def test_a_batch_with_an_entry_to_retry_is_retried_and_one_with_an_entry_refused_is_poison():
    response = await sent(http(200, bundle("422 Unprocessable", "503 Later"), "Retry-After: 2"))
    assert (response.verdict, response.reason, response.retry_after) == ("retryable", "1 of 2: 503", 2)
    assert [one.verdict for one in response.entries] == ["poison", "retryable"]
    response = await sent(http(200, bundle("201 Created", "412 Precondition Failed")))
    assert (response.verdict, response.reason) == ("poison", "1 of 2: 412")


async def test_only_issue_codes_of_an_outcome_reach_the_reason():
    outcome = {
        "resourceType": "OperationOutcome",
        "issue": [{"code": "value", "diagnostics": "Doe, Jane"}, {"code": "Doe, Jane"}, "Doe, Jane"],
    }
    response = await sent(http(422, json.dumps(outcome).encode()))
    assert response.reason == "HTTP 422 value"
    response = await sent(http(200, bundle("201", "422 Doe, Jane", outcome=outcome)))
    assert response.reason == "1 of 2: 422 value"
    assert "Doe" not in repr(response)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"[" * 100_000,
        b'{"type": "batch-response", "entry": 3}',
        b'{"type": "searchset", "entry": [{"response": {"status": "200"}}]}',
        b'{"type": "batch-response", "entry": [{"response": {"status": "200"}}]}',
        b'{"type": "batch-response", "entry": [{"response": {"status": 200}}, {}]}',
        b'{"type": "batch-response", "entry": [{"response": {"status": ""}}, 5]}',
    ],
)
async def test_an_answer_that_cannot_be_read_is_retried(body):
    response = await sent(http(200, body))
    assert (response.verdict, response.status) == ("retryable", 200)
    assert "not a response bundle" in response.reason


async def test_an_endless_answer_is_cut_off():
    response = await sent(http(200, bundle("201 " + "x" * 100_000, "201")), max_response=1000)
    assert (response.verdict, response.reason) == ("retryable", "the answer is longer than allowed")


async def test_silence_a_closed_connection_and_garbage_are_retryable_without_a_status():
    for answer, reason in ((..., "no answer in time"), (None, "ServerDisconnected"), (b"\0garbage\r\n\r\n", "")):
        response = await sent(answer, timeout=0.3)
        assert (response.verdict, response.status) == ("retryable", None)
        assert reason in response.reason


async def test_what_a_peer_says_instead_of_http_is_not_told():
    for answer in (b"Doe, Jane\r\n\r\n", b"HTTP/1.1 Doe Jane\r\n\r\n", b"HTTP/1.1 200 X\r\nDoe, Jane\r\n\r\n"):
        response = await sent(answer, timeout=2.0)
        assert (response.verdict, response.status) == ("retryable", None)
        assert response.reason == "ClientResponseError"


async def test_a_host_that_cannot_be_encoded_is_as_good_as_a_server_that_is_not_there():
    for host in ("ward..example", "x" * 64 + ".example"):
        async with FhirClient(f"http://{host}/fhir") as client:
            response = await client.send(TWO)
        assert (response.verdict, response.status) == ("retryable", None)
        assert host not in response.reason


async def test_a_server_that_is_not_there_is_retryable_and_the_client_recovers():
    async with Server(http(200, bundle("201", "201"))) as server:
        url = server.url
    async with FhirClient(url) as client:
        response = await client.send(TWO)
        assert (response.verdict, response.status) == ("retryable", None)
        assert response.reason.startswith("ClientConnectorError: ")
        await client.close()
        assert (await client.send(TWO)).verdict == "retryable"  # a new connection, not a closed session


def certificate(path, *, name="127.0.0.1"):
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])

    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = path / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return pem


async def test_over_tls_only_a_trusted_server_gets_the_bundle(tmp_path):
    pem = await asyncio.to_thread(certificate, tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    trusting = ssl.create_default_context(cafile=str(pem))
    body = json.dumps({"resourceType": "Bundle", "type": "batch", "entry": [{}]}).encode()
    async with FhirReceiver(tmp_path / "store", "127.0.0.1", 0, server) as receiver:
        assert receiver.base_url.startswith("https://")
        async with FhirClient(receiver.base_url, ssl=trusting) as client:
            assert [one.status for one in (await client.send(body)).entries] == [400]
        async with FhirClient(receiver.base_url, ssl=ssl.create_default_context()) as client:
            response = await client.send(body)
            assert (response.verdict, response.status) == ("retryable", None)
            assert "certificate" in response.reason.lower()
        assert (await receiver.counts()).rejected == 1


@pytest.mark.parametrize(
    "url",
    ["", "ftp://x", "http://", "http://user:secret@x/", "http://x/?q=1", "http://x/#f"],
)
def test_a_base_url_that_cannot_work_is_refused_without_repeating_it(url):
    with pytest.raises(FhirClientError) as refused:
        FhirClient(url)
    assert "secret" not in str(refused.value)


def test_certificates_need_https():
    with pytest.raises(FhirClientError):
        FhirClient("http://x/", ssl=ssl.create_default_context())


async def test_what_is_no_bundle_is_not_sent():
    async with Server(http(200)) as server, FhirClient(server.url) as client:
        for body in (b"", b"[]", b'{"entry": 1}'):
            with pytest.raises(ValueError):
                await client.send(body)
        assert server.requests == []
    assert count_entries(TWO) == 2


def test_the_fault_point_lies_after_the_server_has_the_bundle(tmp_path):
    script = f"""
import asyncio, json
from sdc_node.sinks.fhir.client import FhirClient
from sdc_node.receivers.fhir import FhirReceiver, read_counts
from pathlib import Path
async def main():
    receiver = FhirReceiver(Path({str(tmp_path)!r}), "127.0.0.1", 0)
    await receiver.start()
    body = {{"resourceType": "Bundle", "type": "batch", "entry": [{{}}], "identifier": {{"value": "b1"}}}}
    await FhirClient(receiver.base_url).send(json.dumps(body).encode())
    print("survived")
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"SDC_NODE_FAULTPOINT": "sent"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-9, b"")

    assert read_counts(tmp_path).rejected == 1
