"""Whose the Observation of an alert is: the patient's of its start, whoever lies there when it is told."""

import json

from sdc_node.sinks.fhir.settings import FhirSettings
from sdc_node.sinks.fhir.sink import FhirSink

T0 = 1_800_000_000_000


async def test_it_keeps_its_subject_and_the_next_patient_has_one_of_their_own(tmp_path, stores, bedside):
    told = {}
    async with stores(tmp_path) as (outbox, _):
        sink = FhirSink(FhirSettings(base_url="http://127.0.0.1:1"), outbox=outbox, now=lambda: T0)
        for batch in bedside().handover(T0):
            await sink.accept(batch)
            for item in (item for occurrence in batch.occurrences for item in sink._alert(occurrence, batch)):
                (entry,) = json.loads(item.body)["entry"]
                resource = entry["resource"]
                subject = resource["subject"]["identifier"]["value"]
                told.setdefault(resource["identifier"][0]["value"], []).append((subject, resource["status"]))
    assert [*told.values()] == [
        [("P-a", "preliminary"), ("P-a", "final")],
        [("P-b", "preliminary"), ("P-b", "final")],
    ]
