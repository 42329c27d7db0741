"""The one check after all kills, for the honest node and for the planted one.

It knows the node's ledger and open alerts, and of everything else only what the receivers stored.
"""

import itertools
import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from sdc_node.ledger import read_ledger
from tests.end_to_end.readback import NOBODY, Event, Message, event_of, pcd, stored

OPEN = {"active", "latched"}


class Evidence(NamedTuple):
    """What a run left: messages in the order in which the HL7 receiver first stored them."""

    owed: Sequence[str]
    messages: Sequence[Message]
    bundles: frozenset[str]
    refused: Mapping[str, int]
    repeats: int
    open_alerts: frozenset[str]
    untold: int
    observations: Mapping[str, Sequence[dict[str, Any]]]

    @property
    def events(self) -> dict[str, list[tuple[Message, Event]]]:
        """The PCD-04 by event id, in order."""
        found: dict[str, list[tuple[Message, Event]]] = {}
        for message in pcd(self.messages, 4):
            event = event_of(message)
            found.setdefault(event.id, []).append((message, event))
        return found


def collect(node: Path, hl7: Path, fhir: Path) -> Evidence:
    """Read the node's folder and those of the receivers. In a thread."""
    refused = Counter(f"hl7: {row[0]}" for row in _rows(hl7 / "hl7.sqlite", _REFUSED))
    refused.update(f"fhir: {row[0]}" for row in _rows(fhir / "fhir.sqlite", "SELECT reason FROM refusal"))
    resources: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for (body,) in _rows(fhir / "fhir.sqlite", _NEWEST):
        resource = json.loads(body)
        for identifier in resource["identifier"]:
            resources[f"{identifier['system']}|{identifier['value']}"].append(resource)
    alerts = [json.loads(row[0]) for row in _rows(node / "state.sqlite", "SELECT occurrence FROM alert")]
    return Evidence(
        owed=read_ledger(node / "ledger.txt"),
        messages=stored(hl7),
        bundles=frozenset(row[0].rpartition("|")[2] for row in _rows(fhir / "fhir.sqlite", _TAKEN)),
        refused=refused,
        repeats=_rows(hl7 / "hl7.sqlite", "SELECT coalesce(sum(repeats), 0) FROM hl7_message")[0][0],
        open_alerts=frozenset(alert["open"]["id"] for alert in alerts if "open" in alert),
        untold=sum(len(alert.get("untold", ())) for alert in alerts),
        observations=resources,
    )


def faults(evidence: Evidence) -> list[str]:
    """Each thing that is wrong, as a line; none of them names a patient."""
    return sorted(
        {
            *_lost(evidence),
            *(f"refused {number} times: {reason}" for reason, number in evidence.refused.items()),
            *_second_ids(evidence.messages),
            *_overlaps(evidence.messages),
            *_broken_events(evidence.events),
            *_concurrent_events(evidence),
            *_forgotten_events(evidence),
            *_observations(evidence),
        }
    )


def _lost(evidence: Evidence) -> Iterator[str]:
    """Show 5: whatever became owed is stored by its receiver."""
    arrived = {message.control_id for message in evidence.messages} | evidence.bundles
    return (f"lost: {one}" for one in evidence.owed if one not in arrived)


def _second_ids(messages: Sequence[Message]) -> Iterator[str]:
    """Show 5: the same content under two MSH-10."""
    ids: dict[tuple[object, ...], set[str]] = defaultdict(set)
    for message in pcd(messages, 1):
        ids["pcd01", message.field("OBR", 3), *message.window, message.equipment].add(message.control_id)
    for message in pcd(messages, 4):
        event = event_of(message)
        ids["pcd04", event.id, event.phase, _said(message)].add(message.control_id)
    for (kind, name, *_), found in ids.items():
        if len(found) > 1:
            yield f"the same content under {len(found)} ids: {kind} {name}"


def _said(message: Message) -> tuple[str, ...]:
    """The seven facets as they stand."""
    return tuple(str(row) for row in message.segments("OBX") if str(row[4]).count(".") == 4)


def _overlaps(messages: Sequence[Message]) -> Iterator[str]:
    """R8037: an instant of an MDS is in one interval, over restarts too.

    What was measured before the patient was associated goes beside the patient's interval, without a patient.
    """
    windows: dict[tuple[str, bool], list[tuple[int, int]]] = defaultdict(list)
    for message in pcd(messages, 1):
        windows[message.equipment, message.patient == NOBODY].append(message.window)
    for (equipment, _), found in windows.items():
        found.sort()
        for (_, end), (start, _) in itertools.pairwise(found):
            if start < end:
                yield f"two intervals of {equipment} overlap at {start}"


def _broken_events(events: Mapping[str, Sequence[tuple[Message, Event]]]) -> Iterator[str]:
    """Mapping 7.3: an event starts once, changes with every message but `continue`, and ends once, at its end."""
    for name, told in events.items():
        phases = [event.phase for _, event in told]
        if phases.count("start") != 1 or phases[0] != "start":
            yield f"{name} starts {phases.count('start')} times: {phases}"
        if any(event.state not in OPEN for _, event in told[:-1]):
            yield f"{name} goes on after its end: {phases}"
        for (before, _), (after, event) in itertools.pairwise(told):
            if event.phase != "continue" and _facets(before)[1:] == _facets(after)[1:] and event.state in OPEN:
                yield f"{name} is told twice of the same {event.phase}: {phases}"


def _facets(message: Message) -> tuple[str, ...]:
    """Facets 3 to 7: phase, state, inactivation, priority, type."""
    rows = {
        str(row[4]).rpartition(".")[2]: str(row[5]) for row in message.segments("OBX") if str(row[4]).count(".") == 4
    }
    return tuple(rows[number] for number in "34567")


def _concurrent_events(evidence: Evidence) -> Iterator[str]:
    """An alert condition has one event at a time: the next begins when the one before has ended."""
    last: dict[tuple[str, str], Event] = {}
    for message in pcd(evidence.messages, 4):
        event = event_of(message)
        before = last.get((event.equipment, event.condition))
        if before is not None and before.id != event.id and before.state in OPEN:
            yield f"{event.id} begins while {before.id} goes on"
        last[event.equipment, event.condition] = event


def _forgotten_events(evidence: Evidence) -> Iterator[str]:
    """What is open for the receiver is open for the node, and the other way round."""
    there = {name for name, told in evidence.events.items() if told[-1][1].state in OPEN}
    yield from (f"{name} is open at the receiver only" for name in there - evidence.open_alerts)
    yield from (f"{name} is open at the node only" for name in evidence.open_alerts - there)
    if evidence.untold:
        yield f"{evidence.untold} occurrences were still to be told"


def _observations(evidence: Evidence) -> Iterator[str]:
    """One Observation per identifier; that of an alert says what the last PCD-04 said."""
    for name, found in evidence.observations.items():
        if len({resource["id"] for resource in found}) > 1:
            yield f"stored {len(found)} times: {name}"
    phases = {name: told[-1][1].phase for name, told in evidence.events.items()}
    alerts = dict(_alerts(evidence.observations))
    yield from (f"{name} is in one of HL7 and FHIR only" for name in phases.keys() ^ alerts.keys())
    for name in phases.keys() & alerts.keys():
        if alerts[name] != phases[name]:
            yield f"{name} is {phases[name]} in HL7 and {alerts[name]} in FHIR"


def _alerts(observations: Mapping[str, Sequence[dict[str, Any]]]) -> Iterator[tuple[str, str]]:
    """Event id and phase."""
    for name, (resource, *_) in observations.items():
        if "/identifier/alert|" in name:
            yield unquote(name.rpartition("/")[2]), _component(resource, "phase")


def _component(resource: Mapping[str, Any], code: str) -> str:
    (found,) = (one for one in resource["component"] if one["code"]["coding"][0]["code"] == code)
    phase: str = found["valueCodeableConcept"]["coding"][0]["code"]
    return phase


_REFUSED = "SELECT verdict || ' ' || reason FROM hl7_message WHERE verdict <> 'CA'"
_TAKEN = (
    "SELECT request FROM (SELECT request, entry, max(taken) AS taken FROM seen GROUP BY request, entry)"
    " GROUP BY request HAVING min(taken) = 1"
)
_NEWEST = (
    "SELECT body FROM fhir_resource AS this WHERE type = 'Observation' AND version ="
    " (SELECT max(version) FROM fhir_resource WHERE type = this.type AND id = this.id)"
)


def _rows(file: Path, statement: str) -> Iterable[Any]:
    with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=5.0)) as connection:
        return connection.execute(statement).fetchall()
