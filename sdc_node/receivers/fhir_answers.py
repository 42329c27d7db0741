"""What the FHIR receiver answers: OperationOutcomes, response Bundles, its CapabilityStatement. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime

from sdc_node.receivers.fhir_checks import JsonObject, parse
from sdc_node.receivers.fhir_elements import RESOURCES
from sdc_node.receivers.fhir_requests import Refusal
from sdc_node.receivers.fhir_store import Stored


def outcome_of(refusal: Refusal) -> JsonObject:
    """The OperationOutcome that says why something is refused."""
    issues = [
        {"severity": "error", "code": issue.code, "diagnostics": issue.text, "expression": [issue.expression]}
        for issue in refusal.issues
    ]
    return {"resourceType": "OperationOutcome", "issue": issues}


def version_headers(base_url: str, stored: Stored) -> dict[str, str]:
    """Location, ETag and Last-Modified of a version (R4 http.html, 3.1.0.1.3)."""
    return {
        "Location": f"{base_url.rstrip('/')}/{stored.location}",
        "ETag": f'W/"{stored.version}"',
        "Last-Modified": format_datetime(datetime.fromtimestamp(stored.stored_ms / 1000, UTC), usegmt=True),
    }


def search_bundle(found: Sequence[bytes]) -> JsonObject:
    """The answer to a search."""
    entries = [{"resource": parse(resource), "search": {"mode": "match"}} for resource in found]
    bundle = {"resourceType": "Bundle", "type": "searchset", "total": len(found)}
    return bundle | ({"entry": entries} if entries else {})


_REASONS = {200: "OK", 201: "Created", 400: "Bad Request", 412: "Precondition Failed"}


def response_bundle(kind: str, outcomes: Sequence[Stored | Refusal]) -> JsonObject:
    """The answer to a batch or a transaction, one entry an entry."""
    entries: list[JsonObject] = []
    for outcome in outcomes:
        status = f"{outcome.status} {_REASONS.get(outcome.status, 'Refused')}"
        if isinstance(outcome, Refusal):
            entries.append({"response": {"status": status, "outcome": outcome_of(outcome)}})
            continue
        stored = datetime.fromtimestamp(outcome.stored_ms / 1000, UTC)
        place = {"location": outcome.location, "etag": f'W/"{outcome.version}"'}
        modified = stored.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        entries.append({"response": {"status": status, **place, "lastModified": modified}})
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


def capabilities() -> JsonObject:
    """The CapabilityStatement of GET /metadata."""
    interactions = [{"code": code} for code in ("read", "vread", "create", "update", "search-type")]
    resource = {
        "interaction": interactions,
        "versioning": "versioned",
        "conditionalCreate": True,
        "conditionalUpdate": True,
        "searchParam": [{"name": "identifier", "type": "token"}],
    }
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-11-22",
        "kind": "instance",
        "implementation": {"description": "SDC node: FHIR receiver for trying out"},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [
            {
                "mode": "server",
                "resource": [{"type": kind, **resource} for kind in RESOURCES],
                "interaction": [{"code": "batch"}, {"code": "transaction"}],
            }
        ],
    }
