"""What the FHIR receiver has stored, for people: a listing, and one resource as a readable tree.

The file is opened read-only, so both work while a receiver is writing to it. What they return may name patients: it is
for the operator's screen, never for a log.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten
from typing import Any

import msgspec

from sdc_node.receivers.fhir_checks import JsonObject, parse
from sdc_node.receivers.fhir_requests import Refusal
from sdc_node.receivers.fhir_store import FILE, Counts, body, counts

WIDTH = 100


class StoreError(Exception):
    """There is no store, or no such resource in it; one line."""


class StoredResource(msgspec.Struct, frozen=True):
    """One line of a listing: the newest version of a resource; `title` is its code or type and its value."""

    ref: str
    version: int
    stored_ms: int
    title: str


def list_resources(directory: Path, limit: int = 1000) -> list[StoredResource]:
    """The newest `limit` resources, newest first. Raises StoreError."""
    with _reading(directory) as connection:
        rows = connection.execute(
            "SELECT type, id, version, stored_ms, body FROM fhir_resource AS this WHERE version ="
            " (SELECT max(version) FROM fhir_resource WHERE type=this.type AND id=this.id)"
            " ORDER BY rowid DESC LIMIT ?",
            (limit,),
        ).fetchall()
    return [
        StoredResource(f"{kind}/{id_}", version, stored_ms, _title(parse(content)))
        for kind, id_, version, stored_ms, content in rows
    ]


def show_resource(directory: Path, ref: str) -> str:
    """`Type/id` (or `Type/id/_history/n`) as an indented tree, at most WIDTH columns. Raises StoreError."""
    kind, _, rest = ref.partition("/")
    id_, _, version = rest.partition("/_history/")
    if not id_ or (version and not version.isdecimal()):
        raise StoreError(f"{ref}: a resource is named Type/id or Type/id/_history/number")
    with _reading(directory) as connection:
        try:
            content = body(connection, kind, id_, int(version) if version else None)
        except Refusal:
            raise StoreError(f"{ref}: no such resource; list them to see what is there") from None
    return "\n".join(_tree(parse(content), ""))


def read_counts(directory: Path) -> Counts:
    """The counts of a receiver that runs or ran. Raises StoreError."""
    with _reading(directory) as connection:
        return counts(connection)


def accepted_requests(directory: Path) -> frozenset[str]:
    """Keys (`system|value` of Bundle.identifier) of the requests of which every entry was taken or is repeated.

    A request that was refused, wholly or in part, and never taken since, is not among them. Raises StoreError.
    """
    with _reading(directory) as connection:
        rows = connection.execute(
            "SELECT request FROM (SELECT request, entry, max(taken) AS taken FROM seen GROUP BY request, entry)"
            " GROUP BY request HAVING min(taken) = 1"
        ).fetchall()
    return frozenset(request for (request,) in rows)


@contextlib.contextmanager
def _reading(directory: Path) -> Iterator[sqlite3.Connection]:
    path = Path(directory) / FILE
    if not path.is_file():
        raise StoreError(f"{path}: no FHIR receiver has stored anything here")
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error


def _title(resource: JsonObject) -> str:
    concept = resource.get("code") or resource.get("type") or {}
    parts = [_concept(concept)]
    if "valueQuantity" in resource:
        parts.append(_quantity(resource["valueQuantity"]))
    elif "valueCodeableConcept" in resource:
        parts.append(_concept(resource["valueCodeableConcept"]))
    elif "valueString" in resource:
        parts.append(resource["valueString"])
    return shorten(" ".join(filter(None, parts)), WIDTH, placeholder="...")


def _concept(concept: JsonObject) -> str:
    codings = concept.get("coding", [])
    names = (concept.get("text"), *(coding.get("display") or coding.get("code") for coding in codings))
    return next(filter(None, names), "")


def _quantity(quantity: JsonObject) -> str:
    unit = quantity.get("unit") or quantity.get("code") or ""
    return f"{quantity.get('comparator', '')}{quantity.get('value', '')} {unit}".strip()


def _tree(value: Any, indent: str) -> Iterator[str]:
    """One line a primitive; lists are numbered from 0 as in FHIRPath."""
    members = value.items() if isinstance(value, dict) else ((f"[{i}]", item) for i, item in enumerate(value))
    for name, member in members:
        if isinstance(member, dict | list):
            yield f"{indent}{name}"
            yield from _tree(member, indent + "  ")
        else:
            text = str(member).lower() if isinstance(member, bool) else str(member)
            yield from _lines(f"{indent}{name}: ", text)


def _lines(head: str, text: str) -> Iterator[str]:
    room = max(WIDTH - len(head), 20)
    text = " ".join(text.split())
    yield head + text[:room]
    for start in range(room, len(text), room):
        yield " " * len(head) + text[start : start + room]
