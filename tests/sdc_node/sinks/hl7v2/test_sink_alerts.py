"""Whose a PCD-04 is: the patient's of the alert's start, whoever lies there when it is told."""

import pytest

from sdc_node.hl7.message import parse
from sdc_node.sinks.hl7v2.collector import Collector
from sdc_node.sinks.hl7v2.settings import Hl7Settings
from sdc_node.sinks.hl7v2.sink import Hl7Sink

T0 = 1_800_000_000_000


@pytest.fixture
async def told(tmp_path, stores, bedside):
    """Makes what the sink commits of an alert that is open across a change of patient: a message for each."""

    async def accept():
        messages = []
        async with stores(tmp_path) as (outbox, state):
            sink = Hl7Sink(Hl7Settings(host="127.0.0.1", port=1), outbox=outbox, state=state, now=lambda: T0)
            for batch in bedside().handover(T0):
                await sink.accept(batch)
                for occurrence in batch.occurrences:
                    messages += [parse(item.body) for item in sink._pcd04(occurrence, batch)]
        return messages

    return accept


def who(message):
    phase = next(row.value(5) for row in message.all("OBX") if row.value(3) == "68481")
    return message.first("PID").value(3), phase


async def test_it_names_the_patient_of_the_alert(told):
    assert [who(message) for message in await told()] == [
        ("P-a", "start"),
        ("P-a", "end"),
        ("P-b", "start"),
        ("P-b", "end"),
    ]


async def test_what_was_corrected_of_the_next_patient_is_not_marked_on_the_last(told, monkeypatch):
    monkeypatch.setattr(Collector, "corrected", lambda *_: frozenset({"sex"}))
    sexes = [row.value(11) for one in await told() for row in one.all("OBX") if row.value(3) == "46098-0"]
    assert sexes == ["C", "F", "C", "C"]
