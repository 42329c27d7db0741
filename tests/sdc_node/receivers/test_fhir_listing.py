import asyncio
import sqlite3

import pytest

from sdc_node.database import Database
from sdc_node.receivers.fhir_checks import parse
from sdc_node.receivers.fhir_listing import WIDTH, StoreError, list_resources, read_counts, show_resource
from sdc_node.receivers.fhir_requests import batch_of
from sdc_node.receivers.fhir_store import FILE, KEPT_VERSIONS, MIGRATIONS, apply, count


@pytest.fixture
def store(tmp_path, good):
    connection = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    for migration in MIGRATIONS:
        connection.executescript(migration)

    def put(*resources, now=1000):
        batch = batch_of(parse(good.bundle(*map(good.entry, resources), kind="transaction").encode()))
        outcomes = apply(connection, batch, now)
        count(connection, "r", outcomes, now)
        return outcomes

    yield put
    connection.close()


def test_the_newest_resources_come_first_with_code_and_value(store, tmp_path, good):
    store(good.device, now=1)
    coded = {"valueCodeableConcept": {"coding": [{"system": "urn:x", "code": "a", "display": "Sinus"}]}}
    word = {"valueString": "all well"}
    plain = good.spoilt(good.observation, valueQuantity=None, category=None)
    named = [{"system": "urn:x", "value": "o2"}]
    spelt = [{"system": "urn:x", "value": "o3"}]
    store(good.observation, plain | coded | {"identifier": named}, plain | word | {"identifier": spelt}, now=2)
    found = list_resources(tmp_path)
    assert [one.title for one in found] == ["8867-4 all well", "8867-4 Sinus", "8867-4 72 /min", "69965"]
    assert [(one.version, one.stored_ms) for one in found] == [(1, 2)] * 3 + [(1, 1)]
    assert [one.ref for one in list_resources(tmp_path, limit=1)] == [found[0].ref]


def test_a_resource_is_shown_as_a_tree_of_at_most_100_columns(store, tmp_path, good):
    long = good.observation | {"note": [{"text": "word " * 60}], "referenceRange": [{"low": {"value": 5}}]}
    long["code"]["coding"][0]["userSelected"] = True
    (stored,) = store(long)
    shown = show_resource(tmp_path, f"Observation/{stored.id}")
    lines = shown.splitlines()
    assert max(map(len, lines)) <= WIDTH
    for line in ("status: final", "  value: 72", "      userSelected: true", "valueQuantity", "  [0]"):
        assert line in lines
    assert " ".join(shown.split()).count("word") == 60
    assert show_resource(tmp_path, f"Observation/{stored.id}/_history/1") == shown


def test_only_the_newest_versions_are_kept(store, tmp_path, good):
    for number in range(KEPT_VERSIONS + 2):
        (stored,) = store(good.spoilt(good.device, lotNumber=f"L{number}") if number else good.device)
    assert stored.version == KEPT_VERSIONS + 2
    with pytest.raises(StoreError):
        show_resource(tmp_path, f"Device/{stored.id}/_history/2")
    assert f"versionId: {KEPT_VERSIONS + 2}" in show_resource(tmp_path, f"Device/{stored.id}")
    assert len(list_resources(tmp_path)) == 1


@pytest.mark.parametrize("ref", ["", "Device", "Device/", "Device/x/_history/y", "Device/none", "Device/x/_history/1"])
def test_what_is_not_there_is_told_in_one_line(store, tmp_path, ref):
    with pytest.raises(StoreError) as error:
        show_resource(tmp_path, ref)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_store_and_a_file_that_is_none_are_told(tmp_path):
    with pytest.raises(StoreError, match="has stored anything"):
        list_resources(tmp_path)
    (tmp_path / FILE).write_text("no database at all, and long enough to be looked at")
    with pytest.raises(StoreError, match=r"fhir\.sqlite"):
        read_counts(tmp_path)


async def test_it_reads_while_a_receiver_has_the_file_open(tmp_path, good):
    database = await asyncio.to_thread(Database.open, tmp_path / FILE, MIGRATIONS)
    try:
        batch = batch_of(parse(good.bundle(good.entry(good.device)).encode()))
        await database.write(lambda connection: apply(connection, batch, 5))
        assert [one.title for one in await asyncio.to_thread(list_resources, tmp_path)] == ["69965"]
    finally:
        await database.close()
    assert [one.title for one in await asyncio.to_thread(list_resources, tmp_path)] == ["69965"]
