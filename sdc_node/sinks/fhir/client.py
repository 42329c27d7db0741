"""Sends a Bundle to a FHIR R4 server and says, entry by entry, what became of it (fhir_mapping 1.11)."""

import ssl as tls
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import aiohttp
import msgspec

from sdc_node import faultpoints

MEDIA_TYPE = "application/fhir+json"
MAX_RETRY_AFTER = 3600.0
"""Seconds; a longer Retry-After is taken as this."""

Verdict = Literal["accepted", "retryable", "poison"]

RETRYABLE = frozenset({408, 409, 429})
"""4xx of an entry that another try may turn; every 5xx is one too, every other 4xx (412 included) is poison."""
POISON = frozenset({400, 412, 413, 415, 422})
"""Statuses of a whole answer that speak of what was sent. Any other, such as 302, 401 or 404, says that the address,
the login or the server is wrong, and would be said of every bundle."""

_ISSUE_CODES = frozenset(
    {
        *("invalid", "structure", "required", "value", "invariant", "security", "login", "unknown", "expired"),
        *("forbidden", "suppressed", "processing", "not-supported", "duplicate", "multiple-matches", "not-found"),
        *("deleted", "too-long", "code-invalid", "extension", "too-costly", "business-rule", "conflict"),
        *("transient", "lock-error", "no-store", "exception", "timeout", "incomplete", "throttled"),
        "informational",
    }
)


class EntryOutcome(msgspec.Struct, frozen=True):
    """What became of one entry. `reason` holds a status and issue codes, never a server's free text."""

    verdict: Verdict
    status: int
    location: str | None = None
    reason: str = ""


class Response(msgspec.Struct, frozen=True):
    """What became of a bundle.

    `accepted`: every entry was. `retryable`: it, or at least one entry, is to be sent again, the same bytes (they are
    idempotent), `retry_after` seconds from now where the server says so. `poison`: nothing is left to retry, and it or
    at least one entry was refused for good. `status` is None when no answer came; `entries` is empty unless the
    server answered entry by entry.
    """

    verdict: Verdict
    status: int | None
    reason: str = ""
    entries: tuple[EntryOutcome, ...] = ()
    retry_after: float | None = None


class FhirClientError(ValueError):
    """The base URL cannot be used; one line that says why."""


class FhirClient:
    """One connection to one server, one request at a time. Event loop only; `close` it.

    `timeout` is for a whole exchange, in seconds; an answer of more than `max_response` bytes is not read to its end.
    """

    def __init__(
        self,
        base_url: str,
        *,
        ssl: tls.SSLContext | None = None,
        timeout: float = 30.0,
        max_response: int = 4 * 1024 * 1024,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise FhirClientError("a FHIR base URL begins with http:// or https:// and names a host")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise FhirClientError("a FHIR base URL holds no credentials, query or fragment")
        if ssl is not None and parts.scheme != "https":
            raise FhirClientError("certificates are given, but the FHIR base URL is not https")
        self._url = base_url if base_url.endswith("/") else base_url + "/"
        self._ssl: tls.SSLContext | bool = ssl if ssl is not None else True
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._max_response = max_response
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; a later `send` opens a new one."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def send(self, body: bytes) -> Response:
        """Post a batch or transaction Bundle. Faults of the transport are a `retryable` Response, not exceptions.

        Raises ValueError when `body` is no Bundle in JSON.
        """
        expected = count_entries(body)
        headers = {"Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE, "Accept-Encoding": "identity"}
        try:
            async with self._open().post(
                self._url, data=body, headers=headers, allow_redirects=False, ssl=self._ssl
            ) as answer:
                faultpoints.reach("sent")
                content = await self._read(answer)
        except TimeoutError:
            return Response("retryable", None, "no answer in time")
        except aiohttp.ClientConnectorCertificateError as error:
            return Response("retryable", None, f"the server's certificate is refused: {error.certificate_error}")
        except OSError as error:
            reason = ": ".join([type(error).__name__, *([error.strerror] if error.strerror else [])])
            return Response("retryable", None, reason)
        except (aiohttp.ClientError, UnicodeError) as error:  # their texts repeat bytes of the peer, or the host
            return Response("retryable", None, type(error).__name__)
        return _judge(answer.status, answer.headers, content, expected)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=1),
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes | None:
        content = bytearray()
        async for chunk in answer.content.iter_chunked(65536):
            content += chunk
            if len(content) > self._max_response:
                answer.close()
                return None
        return bytes(content)


class _Bundle(msgspec.Struct):
    entry: list[msgspec.Raw] = []


def count_entries(body: bytes) -> int:
    """How many entries a Bundle has. Raises ValueError when the bytes are no Bundle in JSON."""
    return len(msgspec.json.decode(body, type=_Bundle).entry)


def verdict_of(status: int) -> Verdict:
    """What the status of one entry says about sending the same again."""
    if 200 <= status < 300:
        return "accepted"
    return "retryable" if status >= 500 or status in RETRYABLE else "poison"


def verdict_of_answer(status: int) -> Verdict:
    """What the HTTP status of a whole answer says about sending the same again."""
    if 200 <= status < 300:
        return "accepted"
    return "poison" if status in POISON else "retryable"


def _judge(status: int, headers: Mapping[str, str], content: bytes | None, expected: int) -> Response:
    wait = _retry_after(headers.get("Retry-After"))
    verdict = verdict_of_answer(status)
    if verdict != "accepted":
        issues = _issues(_decoded(content))
        return Response(verdict, status, " ".join([f"HTTP {status}", *issues]), retry_after=wait)
    if content is None:
        return Response("retryable", status, "the answer is longer than allowed")
    entries = _entries(_decoded(content))
    if entries is None or len(entries) != expected:
        return Response("retryable", status, "the answer is not a response bundle with one entry for each sent")
    for worst in ("retryable", "poison"):
        found = [entry for entry in entries if entry.verdict == worst]
        if found:
            return Response(found[0].verdict, status, f"{len(found)} of {expected}: {found[0].reason}", entries, wait)
    return Response("accepted", status, "", entries)


def _decoded(content: bytes | None) -> Any:
    try:
        return msgspec.json.decode(content or b"")
    except (ValueError, RecursionError):
        return None  # told by the caller as an unreadable answer


def _entries(bundle: Any) -> tuple[EntryOutcome, ...] | None:
    if not isinstance(bundle, dict) or not str(bundle.get("type", "")).endswith("-response"):
        return None
    found = bundle.get("entry", [])
    if not isinstance(found, list):
        return None
    entries = tuple(_entry(entry) for entry in found)
    return None if None in entries else tuple(entry for entry in entries if entry is not None)


def _entry(entry: Any) -> EntryOutcome | None:
    response = entry.get("response") if isinstance(entry, dict) else None
    status = response.get("status") if isinstance(response, dict) else None
    if not isinstance(response, dict) or not isinstance(status, str) or not status[:3].isdecimal():
        return None
    number, location = int(status[:3]), response.get("location")
    verdict = verdict_of(number)
    reason = "" if verdict == "accepted" else " ".join([f"{number}", *_issues(response.get("outcome"))])
    return EntryOutcome(verdict, number, location if isinstance(location, str) else None, reason)


def _issues(outcome: Any) -> list[str]:
    """Issue codes of an OperationOutcome; its texts may repeat what was sent, so they go nowhere."""
    issues = outcome.get("issue") if isinstance(outcome, dict) else None
    if not isinstance(issues, list):
        return []
    codes = [issue.get("code") for issue in issues[:5] if isinstance(issue, dict)]
    return [code for code in codes if isinstance(code, str) and code in _ISSUE_CODES]


def _retry_after(text: str | None) -> float | None:
    """Seconds to wait (RFC 9110, 10.2.3: a number of seconds or a date), or None."""
    if text is None:
        return None
    if (digits := text.strip()).isdecimal():
        return min(float(digits[:10]), MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None  # no hint then; the caller has a backoff of its own
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = (moment - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)
