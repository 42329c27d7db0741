"""The FHIR receiver over HTTP."""

import asyncio
import json
import re

import aiohttp
import pytest

from sdc_node.database import DatabaseError
from sdc_node.receivers import fhir
from sdc_node.receivers.fhir import FhirReceiver, FhirReceiverError, accepted_requests, read_counts

URN = "urn:uuid:11111111-1111-4111-8111-11111111111"
JSON = {"Content-Type": "application/fhir+json"}


@pytest.fixture
async def receiver(tmp_path):
    async with FhirReceiver(tmp_path, "127.0.0.1", 0) as running:
        yield running


@pytest.fixture
async def ask(receiver):
    async with aiohttp.ClientSession() as session:

        async def ask(method, path, body=None, **headers):
            data = body if isinstance(body, str | bytes | None) else json.dumps(body)
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            url = receiver.base_url + path
            async with session.request(method, url, data=data, headers=JSON | named) as answer:
                return answer.status, await answer.json(content_type=None), answer.headers

        yield ask


async def test_metadata_says_what_this_endpoint_does(ask):
    status, found, headers = await ask("GET", "/metadata")
    assert (status, found["fhirVersion"]) == (200, "4.0.1")
    assert [one["type"] for one in found["rest"][0]["resource"]] == ["Device", "DeviceMetric", "Observation"]
    assert headers["Content-Type"].startswith("application/fhir+json")


async def test_create_read_update_and_versions(ask, good):
    status, made, headers = await ask("POST", "/Device", good.device)
    assert (status, headers["ETag"]) == (201, 'W/"1"')
    assert headers["Location"].endswith(f"/Device/{made['id']}/_history/1")
    assert made["meta"]["versionId"] == "1"
    path = f"/Device/{made['id']}"
    changed = good.spoilt(good.device, status="inactive") | {"id": made["id"]}
    assert (await ask("PUT", path, changed))[0] == 200
    assert (await ask("GET", path))[1]["status"] == "inactive"
    assert (await ask("GET", f"{path}/_history/1"))[1]["status"] == "active"
    status, _, headers = await ask("PUT", path, changed)
    assert (status, headers["ETag"]) == (200, 'W/"2"')  # the same content is no new version
    for missing in ("/Device/none", f"{path}/_history/9", f"{path}/_history/x", "/Device/none/_history/1"):
        assert (await ask("GET", missing))[0] == 404


async def test_an_update_may_choose_the_id(ask, good):
    status, _, _ = await ask("PUT", "/Device/chosen", good.device | {"id": "chosen"})
    assert status == 201
    assert (await ask("PUT", "/Device/chosen", good.device | {"id": "other"}))[0] == 400
    assert (await ask("PUT", "/Device", good.device))[0] == 400


async def test_conditional_update_and_create_are_201_then_200(ask, good):
    search = "/Device?identifier=urn:x%7Cd1"
    assert [(await ask("PUT", search, good.device))[0] for _ in range(2)] == [201, 200]
    condition = {"If_None_Exist": "identifier=urn%3Ax%7Co1"}
    made = [await ask("POST", "/Observation", good.observation, **condition) for _ in range(2)]
    assert [status for status, _, _ in made] == [201, 200]
    assert made[0][1]["id"] == made[1][1]["id"]
    status, found, _ = await ask("GET", "/Observation?identifier=urn:x|o1")
    assert (status, found["total"], found["entry"][0]["resource"]["id"]) == (200, 1, made[0][1]["id"])
    assert (await ask("GET", "/Observation?identifier=urn:x|o2"))[1] == {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": 0,
    }


async def test_more_than_one_match_is_412(ask, good):
    for _ in range(2):
        await ask("POST", "/Device", good.device)
    status, outcome, _ = await ask("PUT", "/Device?identifier=urn:x%7Cd1", good.device)
    assert (status, outcome["issue"][0]["code"]) == (412, "multiple-matches")


async def test_a_conditional_request_must_hold_the_identifier_it_asks_by(ask, good):
    assert (await ask("PUT", "/Device?identifier=urn:x%7Cother", good.device))[0] == 422
    assert (await ask("POST", "/Device", good.device, If_None_Exist="identifier=urn:x|other"))[0] == 422


@pytest.mark.parametrize("query", ["name=x", "identifier=x", "identifier=|x", "identifier=a|", "identifier=a|b&x=y"])
async def test_other_searches_are_told_not_to_be_known(ask, query):
    assert (await ask("GET", f"/Device?{query}"))[0] == 400
    assert (await ask("GET", f"/Patient?{query}"))[0] == 404


async def test_a_transaction_resolves_references_between_its_entries(ask, good):
    vmd = good.spoilt(good.device, identifier=[{"system": "urn:x", "value": "v1"}], parent={"reference": URN + "1"})
    metric = good.metric | {"source": {"reference": URN + "1"}, "parent": {"reference": URN + "2"}}
    entries = [good.entry(metric, full_url=URN + "3"), good.entry(vmd, full_url=URN + "2")]
    body = good.bundle(*entries, good.entry(good.device, full_url=URN + "1"), kind="transaction")
    for statuses in (["201 Created"] * 3, ["200 OK"] * 3):
        status, found, _ = await ask("POST", "/", body)
        assert (status, found["type"]) == (200, "transaction-response")
        assert [entry["response"]["status"] for entry in found["entry"]] == statuses
    place = found["entry"][0]["response"]
    assert place["etag"] == 'W/"1"'
    _, stored, _ = await ask("GET", "/" + place["location"])
    parent = found["entry"][2]["response"]["location"].partition("/_history")[0]
    assert stored["source"] == {"reference": parent}


@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_a_transaction_is_all_or_nothing_and_a_batch_each_for_itself(ask, receiver, good, kind):
    bad = good.spoilt(good.observation, status="bogus")
    body = good.bundle(good.entry(good.device), good.entry(bad, "POST"), good.entry(good.metric), kind=kind)
    status, found, _ = await ask("POST", "/", body)
    counts = await receiver.counts()
    if kind == "batch":
        assert [entry["response"]["status"][:3] for entry in found["entry"]] == ["201", "422", "201"]
        assert found["entry"][1]["response"]["outcome"]["issue"][0]["code"] == "code-invalid"
        assert (counts.accepted, counts.rejected, counts.resources["Device"]) == (2, 1, 1)
    else:
        assert status == 422
        assert found["issue"][0]["expression"] == ["Bundle.entry[1].Observation.status"]
        assert (counts.accepted, counts.rejected, counts.resources["Device"]) == (0, 3, 0)


async def test_a_transaction_that_fails_late_leaves_nothing(ask, receiver, good):
    dangling = good.spoilt(good.metric, source={"reference": "Device/none"})
    body = good.bundle(good.entry(good.device), good.entry(dangling), kind="transaction")
    assert (await ask("POST", "/", body))[0] == 422
    unresolved = good.spoilt(good.metric, source={"reference": URN + "9"})
    body = good.bundle(good.entry(good.device), good.entry(unresolved), kind="transaction", key="b2")
    assert (await ask("POST", "/", body))[0] == 400
    twice = good.bundle(
        good.entry(good.device | {"id": "a"}, url="Device/a"),
        good.entry(good.device | {"id": "a"}, url="Device/a"),
        kind="transaction",
        key="b3",
    )
    assert (await ask("POST", "/", twice))[0] == 400
    assert (await receiver.counts()).resources == {"Device": 0, "DeviceMetric": 0, "Observation": 0}


async def test_counts_know_a_repeat_by_bundle_and_entry(ask, receiver, good, tmp_path):
    body = good.bundle(good.entry(good.device), good.entry(good.metric))
    refused = good.bundle(good.entry(good.spoilt(good.device, status="on")), key="b2")
    for _ in range(3):
        await ask("POST", "/", body)
        await ask("POST", "/", refused)
        await ask("POST", "/Device", good.spoilt(good.device, status="on"))
    counts = await receiver.counts()
    assert (counts.accepted, counts.rejected, counts.repeated) == (2, 2, 8)
    assert await asyncio.to_thread(accepted_requests, tmp_path) == {"urn:b|b1"}
    assert await asyncio.to_thread(read_counts, tmp_path) == counts


async def test_a_bundle_without_an_identifier_is_known_by_its_content(ask, receiver, good):
    for _ in range(2):
        await ask("POST", "/", good.bundle(good.entry(good.device), key=None))
    counts = await receiver.counts()
    assert (counts.accepted, counts.repeated) == (1, 1)


def planted(good):
    observation, metric, device = good.observation, good.metric, good.device
    return {
        "status that R4 does not know": (422, good.spoilt(observation, status="bogus")),
        "element that R4 does not know": (422, observation | {"pulse": 72}),
        "dateTime without a zone": (422, good.spoilt(observation, effectiveDateTime="2026-11-22T10:00:00")),
        "no code": (422, good.spoilt(observation, code=None)),
        "value and dataAbsentReason": (422, observation | {"dataAbsentReason": {"text": "x"}}),
        "no value and no reason": (422, good.spoilt(observation, valueQuantity=None)),
        "vital sign of no patient": (422, good.spoilt(observation, subject=None)),
        "heart rate in {beats}/min": (422, good.spoilt(observation, valueQuantity__code="{beats}/min")),
        "unit that is not UCUM": (422, good.spoilt(observation, valueQuantity__system="urn:mdc")),
        "no device": (422, good.spoilt(observation, device=None)),
        "category of a metric that R4 does not know": (422, good.spoilt(metric, category="nonsense")),
        "enumeration with a unit": (
            422,
            good.spoilt(metric, meta__profile=[metric["meta"]["profile"][0].replace("Numeric", "Enumeration")]),
        ),
        "metric without a parent": (422, good.spoilt(metric, parent=None)),
        "device without an identifier": (422, good.spoilt(device, identifier=None)),
        "reference to a type that cannot be": (422, good.spoilt(metric, source={"reference": "Patient/1"})),
        "a patient": (422, {"resourceType": "Patient", "identifier": [{"system": "urn:p", "value": "SECRET-1"}]}),
    }


async def test_planted_bad_resources_are_refused_alone_and_in_a_batch(ask, receiver, good):
    cases = planted(good)
    assert len(cases) >= 10
    for name, (expected, resource) in cases.items():
        status, outcome, _ = await ask("POST", f"/{resource['resourceType']}", resource)
        assert (status, outcome["resourceType"]) == (expected, "OperationOutcome"), name
        assert all(issue["severity"] == "error" for issue in outcome["issue"]), name
        assert "SECRET" not in json.dumps(outcome), name
    entries = [
        {"resource": one, "request": {"method": "POST", "url": one["resourceType"]}} for _, one in cases.values()
    ]
    _, found, _ = await ask("POST", "/", good.bundle(*entries, good.entry(good.observation)))
    statuses = [entry["response"]["status"][:3] for entry in found["entry"]]
    assert statuses == [str(expected) for expected, _ in cases.values()] + ["201"]
    counts = await receiver.counts()
    assert (counts.accepted, counts.rejected) == (1, 2 * len(cases))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b'{"a": 1, "a": 1}', 400),
        (b'{"resourceType": "Device"}', 400),
        (b'{"resourceType": "Bundle", "type": "message", "entry": [{}]}', 400),
        (b'{"resourceType": "Bundle", "type": "batch", "entry": []}', 400),
        (b'{"resourceType": "Bundle", "type": "batch", "total": 1, "entry": [{}]}', 400),
        (b'{"resourceType": "Bundle", "type": "batch", "identifier": 5, "entry": [{}]}', 400),
        (b'{"resourceType": "Bundle", "type": "batch", "entry": [%b{}]}' % (b"{}," * 500), 413),
        (b"[" * 100_000, 400),
    ],
)
async def test_bodies_that_are_no_bundle_are_refused_and_counted(ask, receiver, body, status):
    assert (await ask("POST", "/", body))[0] == status
    assert (await receiver.counts()).rejected == 1


@pytest.mark.parametrize(
    "entry",
    [
        5,
        {},
        {"request": 5},
        {"request": {"method": "DELETE", "url": "Device/1"}},
        {"request": {"method": 5, "url": "Device"}},
        {"request": {"method": "POST", "url": "Device", "ifNoneExist": 5}},
        {"request": {"method": "POST", "url": "Device", "ifMatch": "1"}},
        {"request": {"method": "POST", "url": "Device"}, "link": []},
        {"request": {"method": "POST", "url": "Device"}, "fullUrl": "http://h/Device/1"},
        {"request": {"method": "POST", "url": "Device"}},
        {"request": {"method": "POST", "url": "Device/1"}, "resource": "good"},
        {"request": {"method": "POST", "url": "Observation"}, "resource": "good"},
        {"request": {"method": "PUT", "url": "http://h/Device/1"}, "resource": "good"},
    ],
)
async def test_entries_that_ask_for_nothing_that_can_be_done(ask, good, entry):
    if isinstance(entry, dict) and entry.get("resource") == "good":
        entry = entry | {"resource": good.device}
    _, found, _ = await ask("POST", "/", good.bundle(entry))
    assert found["entry"][0]["response"]["status"][:3] in {"400", "405"}


async def test_other_media_types_and_long_bodies_are_refused(ask, receiver, good, monkeypatch):
    assert (await ask("POST", "/Device", "<Device/>", Content_Type="application/fhir+xml"))[0] == 415
    monkeypatch.setattr(fhir, "MAX_BODY", 100)
    assert (await ask("POST", "/Device", good.device))[0] == 413

    async def chunks():
        for _ in range(10):
            yield b" " * 50

    url = receiver.base_url + "/Device"
    async with aiohttp.ClientSession() as session, session.post(url, data=chunks(), headers=JSON) as answer:
        assert answer.status == 413  # without a Content-Length


async def raw(receiver, text):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(receiver.base_url.rpartition(":")[2]))
    writer.write(text)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


async def test_a_silent_peer_is_closed_and_a_slow_body_is_408(receiver, monkeypatch):
    monkeypatch.setattr(fhir, "READ_SECONDS", 0.2)
    assert await raw(receiver, b"") == b""
    assert await raw(receiver, b"POST / HTTP/1.1\r\n") == b""
    names = b"Host: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\nConnection: close\r\n\r\n"
    head = b"POST / HTTP/1.1\r\n" + names
    assert (await raw(receiver, head + b"{")).startswith(b"HTTP/1.1 408")


async def test_a_peer_that_goes_away_in_the_middle_leaves_no_trace(receiver, ask, good):
    _, writer = await asyncio.open_connection("127.0.0.1", int(receiver.base_url.rpartition(":")[2]))
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await ask("POST", "/Device", good.device))[0] == 201
    counts = await receiver.counts()
    assert (counts.accepted, counts.rejected) == (1, 0)


async def test_a_store_that_fails_is_503_and_nothing_is_acknowledged(receiver, ask, good, monkeypatch, caplog):
    async def full(*_):
        raise DatabaseError("the disk is full; make room")

    monkeypatch.setattr(receiver._database, "write", full)
    status, outcome, headers = await ask("POST", "/Device", good.device)
    assert (status, headers["Retry-After"]) == (503, "5")
    assert outcome["issue"][0]["code"] == "transient"
    assert "disk is full" in caplog.text


async def test_what_was_answered_is_there_after_a_restart(tmp_path, good):
    for expected in (201, 200):
        async with FhirReceiver(tmp_path, "127.0.0.1", 0) as running, aiohttp.ClientSession() as session:
            url = running.base_url + "/Device?identifier=urn:x%7Cd1"
            async with session.put(url, data=json.dumps(good.device), headers=JSON) as answer:
                assert answer.status == expected
        assert running._database is None
    with pytest.raises(FhirReceiverError, match="not running"):
        await running.counts()


async def test_a_port_in_use_and_a_bad_folder_are_told_in_one_line(receiver, tmp_path):
    port = int(receiver.base_url.rpartition(":")[2])
    with pytest.raises(FhirReceiverError, match=f"127.0.0.1:{port}"):
        await FhirReceiver(tmp_path / "other", "127.0.0.1", port).start()
    (tmp_path / "file").write_text("x")
    with pytest.raises(FhirReceiverError, match="file"):
        await FhirReceiver(tmp_path / "file", "127.0.0.1", 0).start()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "fhir.sqlite").write_text("no database at all")
    with pytest.raises(FhirReceiverError, match=re.escape("fhir.sqlite")):
        await FhirReceiver(tmp_path / "odd", "127.0.0.1", 0).start()


async def test_decimals_keep_their_digits_on_the_way_through(receiver, good):
    body = json.dumps(good.observation).replace('"value": 72', '"value": 72.500')
    async with aiohttp.ClientSession() as session:
        url = receiver.base_url + "/Observation"
        async with session.post(url, data=body, headers=JSON) as answer:
            assert b'"value":72.500,' in await answer.read()
        async with session.get(url + "?identifier=urn:x|o1") as answer:
            assert b'"value":72.500,' in await answer.read()
