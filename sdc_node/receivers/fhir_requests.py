"""From HTTP requests and Bundles to actions on resources, and the refusals on the way. Pure."""

import re
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import parse_qsl

import msgspec

from sdc_node.receivers.fhir_checks import Issue, JsonObject
from sdc_node.receivers.fhir_elements import RESOURCES
from sdc_node.receivers.fhir_rules import check

MAX_ENTRIES = 500
"""Entries of one bundle; a sender keeps to 200 (mapping 1.11)."""

_URN_UUID = re.compile(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TARGET = re.compile(r"([A-Za-z]{1,64})(?:/([A-Za-z0-9\-.]{1,64}))?(?:\?(.{1,2000}))?")
_LITERAL = re.compile(r"([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?")
_REQUEST = frozenset({"method", "url", "ifNoneExist"})


class Refusal(Exception):  # noqa: N818  # an answer to the sender, not a fault of ours
    """A request or an entry that is not taken: HTTP status and what to say in the OperationOutcome."""

    def __init__(self, status: int, *issues: Issue) -> None:
        super().__init__(f"{status}: " + "; ".join(f"{issue.expression}: {issue.text}" for issue in issues))
        self.status = status
        self.issues = issues


class Condition(msgspec.Struct, frozen=True):
    """`identifier=system|value`: the one search that conditional requests may use here."""

    system: str
    value: str


class Action(msgspec.Struct, frozen=True):
    """Create or update one resource; exactly one of `id` and `condition`, or neither (a plain create)."""

    method: Literal["POST", "PUT"]
    kind: str
    resource: JsonObject
    id: str | None = None
    condition: Condition | None = None
    full_url: str | None = None


class Batch(msgspec.Struct, frozen=True):
    """A Bundle of actions. `key` names the bundle across resends; a refused entry of a batch stays in place."""

    atomic: bool
    key: str | None
    entries: tuple[Action | Refusal, ...]


def condition_of(query: str) -> Condition:
    """Read `identifier=system|value`, percent-encoded. Raises Refusal."""
    pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=8)
    if len(pairs) != 1 or pairs[0][0] != "identifier":
        raise Refusal(400, Issue("not-supported", "request", "only identifier=system|value can be searched"))
    system, bar, value = pairs[0][1].partition("|")
    if not (system and bar and value):
        raise Refusal(400, Issue("value", "request", "an identifier is searched as system|value"))
    return Condition(system, value)


def action_of(
    method: str,
    target: str,
    resource: Any,
    if_none_exist: str | None = None,
    full_url: str | None = None,
) -> Action:
    """Read one create or update of a resource that passes every check. Raises Refusal."""
    if method not in {"POST", "PUT"}:
        raise Refusal(405, Issue("not-supported", "request.method", "only POST and PUT are taken"))
    if not isinstance(resource, dict):
        raise Refusal(400, Issue("required", "resource", "there is no resource"))
    if issues := check(resource):
        raise Refusal(422, *issues)
    match = _TARGET.fullmatch(target)
    if match is None or match[1] != resource["resourceType"]:
        raise Refusal(400, Issue("value", "request.url", "must begin with the type of the resource"))
    kind, id_, query = match.groups()
    if method == "POST":
        return _create(kind, id_ or query, resource, if_none_exist, full_url)
    return _update(kind, id_, query, resource, full_url)


def _create(
    kind: str, rest: str | None, resource: JsonObject, if_none_exist: str | None, full_url: str | None
) -> Action:
    if rest:
        raise Refusal(400, Issue("value", "request.url", "a create goes to the type"))
    condition = condition_of(if_none_exist) if if_none_exist is not None else None
    if condition is not None:
        _answers(resource, condition)
    return Action("POST", kind, resource, condition=condition, full_url=full_url)


def _update(kind: str, id_: str | None, query: str | None, resource: JsonObject, full_url: str | None) -> Action:
    if (id_ is None) == (query is None):
        raise Refusal(400, Issue("value", "request.url", "an update goes to Type/id or Type?identifier="))
    if resource.get("id") != id_:
        raise Refusal(400, Issue("value", f"{kind}.id", "must be the id of the request's address"))
    if query is None:
        return Action("PUT", kind, resource, id=id_, full_url=full_url)
    condition = condition_of(query)
    _answers(resource, condition)
    return Action("PUT", kind, resource, condition=condition, full_url=full_url)


def _answers(resource: JsonObject, condition: Condition) -> None:
    """A resource that lacks the identifier it is found by would be stored again by each repeat."""
    for identifier in resource.get("identifier", ()):
        if (identifier["system"], identifier["value"]) == (condition.system, condition.value):
            return
    kind = resource["resourceType"]
    raise Refusal(422, Issue("business-rule", f"{kind}.identifier", "lacks the identifier it is asked by"))


def batch_of(bundle: JsonObject) -> Batch:
    """Read a Bundle of type batch or transaction. Raises Refusal where the Bundle itself is wrong."""
    if bundle.get("resourceType") != "Bundle":
        raise Refusal(400, Issue("value", "resourceType", "only a Bundle can be posted here"))
    kind = bundle.get("type")
    if kind not in {"batch", "transaction"}:
        raise Refusal(400, Issue("code-invalid", "Bundle.type", "must be batch or transaction"))
    unknown = bundle.keys() - {"resourceType", "id", "meta", "identifier", "type", "timestamp", "entry"}
    if unknown:
        raise Refusal(400, Issue("structure", "Bundle", "has elements that are not taken in a request"))
    entries = bundle.get("entry")
    if not isinstance(entries, list) or not entries:
        raise Refusal(400, Issue("required", "Bundle.entry", "must be an array that is not empty"))
    if len(entries) > MAX_ENTRIES:
        raise Refusal(413, Issue("too-long", "Bundle.entry", f"more than {MAX_ENTRIES} entries"))
    return Batch(kind == "transaction", bundle_key(bundle), tuple(_entry(entry) for entry in entries))


def bundle_key(bundle: JsonObject) -> str | None:
    """`system|value` of Bundle.identifier; None where there is none. Raises Refusal when it is malformed."""
    identifier = bundle.get("identifier")
    if identifier is None:
        return None
    if not isinstance(identifier, dict) or not isinstance(identifier.get("value"), str):
        raise Refusal(400, Issue("value", "Bundle.identifier", "needs a value"))
    return f"{identifier.get('system', '')}|{identifier['value']}"


def _entry(entry: Any) -> Action | Refusal:
    try:
        return _read_entry(entry)
    except Refusal as refusal:
        return refusal


def _read_entry(entry: Any) -> Action:
    if not isinstance(entry, dict) or not isinstance(request := entry.get("request"), dict):
        raise Refusal(400, Issue("required", "request", "an entry needs its request"))
    if entry.keys() - {"fullUrl", "resource", "request"} or request.keys() - _REQUEST:
        raise Refusal(400, Issue("structure", "entry", "has elements that are not taken in a request"))
    method, url, if_none_exist = (request.get(name) for name in ("method", "url", "ifNoneExist"))
    if not (isinstance(method, str) and isinstance(url, str) and isinstance(if_none_exist, str | None)):
        raise Refusal(400, Issue("value", "request", "method, url and ifNoneExist are texts"))
    full_url = entry.get("fullUrl")
    if full_url is not None and not (isinstance(full_url, str) and _URN_UUID.fullmatch(full_url)):
        raise Refusal(400, Issue("value", "fullUrl", "must be a urn:uuid"))
    return action_of(method, url, entry.get("resource"), if_none_exist, full_url)


def resolve(resource: Any, places: Mapping[str, str]) -> Any:
    """The resource with every reference to a `fullUrl` replaced by `Type/id`.

    Raises Refusal where a urn:uuid stands for no entry of the transaction.
    """
    if isinstance(resource, list):
        return [resolve(item, places) for item in resource]
    if not isinstance(resource, dict):
        return resource
    resolved = {name: resolve(value, places) for name, value in resource.items()}
    literal = resolved.get("reference")
    if isinstance(literal, str) and literal.startswith("urn:uuid:"):
        if literal not in places:
            raise Refusal(400, Issue("value", "reference", "a urn:uuid that is no fullUrl of this bundle"))
        resolved["reference"] = places[literal]
    return resolved


def local_targets(resource: Any) -> set[tuple[str, str]]:
    """(type, id) of every relative literal reference in a resource."""
    if isinstance(resource, list):
        return set().union(*map(local_targets, resource))
    if not isinstance(resource, dict):
        return set()
    found = set().union(*map(local_targets, resource.values()))
    literal = resource.get("reference")
    if isinstance(literal, str) and (match := _LITERAL.fullmatch(literal)):
        found.add((match[1], match[2]))
    return found


def known_type(kind: str) -> str:
    """`kind`, if this endpoint serves it. Raises Refusal (404) otherwise."""
    if kind not in RESOURCES:
        raise Refusal(404, Issue("not-supported", "request.url", f"only {', '.join(RESOURCES)} live here"))
    return kind
