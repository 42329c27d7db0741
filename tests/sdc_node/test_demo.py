"""The demo's parts: its processes, its sums, its two examples. A whole run is in tests/end_to_end."""

import asyncio
import stat
import tomllib

import aiohttp
import msgspec
import pytest

from sdc_node import demo as demos
from sdc_node.config import load
from sdc_node.demo import Child, Counted, Demo, DemoError, first_examples, new_folder
from sdc_node.receivers.fhir import FhirReceiver

COUNTED = Counted(
    devices=3,
    metric_updates=10,
    waveform_samples=100,
    alert_updates=2,
    hl7={"pcd01_sent": 4, "pcd01_acked": 4, "pcd04_sent": 2, "pcd04_acked": 2},
    fhir={"sent": 9, "accepted": 9, "rejected": 0, "observations": 5},
    dropped={},
    lost=0,
    waiting=0,
)


def test_the_summary_has_the_keys_of_the_issue():
    keys = {"devices", "metric_updates", "waveform_samples", "alert_updates", "hl7", "fhir", "dropped", "lost"}
    assert keys <= set(msgspec.json.decode(msgspec.json.encode(COUNTED)))


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        ({"dropped": {"waveform": 3}}, True),
        ({"devices": 0}, False),
        ({"lost": 1}, False),
        ({"waiting": 1}, False),
        ({"fhir": {**COUNTED.fhir, "rejected": 1}}, False),
        ({"hl7": {**COUNTED.hl7, "pcd01_acked": 3}}, False),
        ({"hl7": {**COUNTED.hl7, "pcd04_acked": 1}}, False),
    ],
)
def test_a_run_is_good_only_if_all_that_was_owed_arrived(changes, good):
    assert msgspec.structs.replace(COUNTED, **changes).good is good


def test_each_run_has_a_private_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(demos.time, "strftime", lambda _: "demo-now")
    first, second = new_folder(tmp_path / "runs"), new_folder(tmp_path / "runs")
    assert [first.name, second.name] == ["demo-now", "demo-now-2"]
    assert stat.S_IMODE(first.stat().st_mode) == 0o700


def test_bad_input_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(DemoError, match="cannot be made: Not a directory"):
        new_folder(tmp_path / "file")
    monkeypatch.setattr(demos.time, "strftime", lambda _: "demo-now")
    for _ in range(99):
        new_folder(tmp_path)
    with pytest.raises(DemoError, match="is full of runs of this second"):
        new_folder(tmp_path)


async def test_a_process_that_does_not_start_is_told_with_its_last_line(tmp_path):
    child = Child("toaster", ("simulate", "toaster", "--json"), tmp_path)
    with pytest.raises(DemoError, match=r"^toaster did not start: error: unknown profile 'toaster'"):
        await child.start(30)
    await child.stop(10)
    assert not child.running


async def test_a_process_that_says_nothing_is_given_up_and_killed(tmp_path):
    child = Child("silent", ("discover", "--timeout", "600"), tmp_path)
    with pytest.raises(DemoError, match=r"^silent did not start: no answer in time$"):
        await child.start(0.1)
    assert child.running
    await child.stop(0.0)
    assert not child.running
    await Child("never", (), tmp_path).stop(1)


async def test_a_small_run(tmp_path, monkeypatch):
    """One device instead of three: from certificates to the sums, and every process ends."""
    monkeypatch.setattr(demos, "PROFILES", ("pump",))
    demo = Demo(tmp_path / "run")
    told = []
    try:
        await demo.start(told.append)
        status = await demo.all_live()
        assert [device.state for device in status.devices] == ["live"]
        examples = None
        async with asyncio.timeout(60):
            async for status in demo.watch():
                examples = examples or await asyncio.to_thread(first_examples, demo)
                sent = [one.sent for one in status.destinations if one.lane == "bulk"]
                if examples and min(sent) > 0:
                    break
    finally:
        await demo.stop()
    assert told == ["making certificates", "starting the receivers", "starting the devices", "starting the node"]
    message, observation = examples
    assert "MSH" in message
    assert "OBX" in message
    assert observation.startswith("resourceType: Observation\n")
    assert "\nvalueQuantity\n  value: " in observation
    counted = await asyncio.to_thread(demo.counted)
    assert counted.good, counted
    assert counted.devices == 1
    assert counted.metric_updates > 0
    assert counted.waveform_samples == 0  # a pump has none
    assert counted.fhir["observations"] > 0
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
    config = await asyncio.to_thread(load, tmp_path / "run" / "node.toml", {})
    assert (config.hl7[0].interval, config.fhir[0].interval, config.node.ledger) == (5.0, 10.0, True)
    assert not config.node.require_time_sync
    assert "node need not" not in (tmp_path / "run" / "node.toml").read_text()
    for log in (tmp_path / "run" / "logs").iterdir():
        assert "Traceback" not in log.read_text()
    with pytest.raises(DemoError, match=r"the node has ended; see .*node\.log"):
        await anext(demo.watch())


async def test_a_run_whose_devices_do_not_come_is_given_up(tmp_path, monkeypatch):
    demo = Demo(tmp_path)

    async def watch():
        while True:
            yield STATUS
            await asyncio.sleep(0.01)

    monkeypatch.setattr(demo, "watch", watch)
    with pytest.raises(DemoError, match=r"^not all devices were live after 0 s \(connecting, live\)$"):
        await demo.all_live(0.1)


STATUS = msgspec.json.decode(
    b"""{"ready": true, "not_ready": [], "clock": "", "received": {}, "sinks": {}, "dropped": {}, "failed": {},
    "destinations": [], "open_alerts": 0, "problems": {}, "devices": [
    {"device": "urn:uuid:a", "model": "", "state": "connecting", "reason": "", "since": 0},
    {"device": "urn:uuid:b", "model": "", "state": "live", "reason": "", "since": 0}]}""",
    type=demos.Status,
)


def test_a_run_without_a_node_has_no_sums(tmp_path):
    demo = Demo(tmp_path)
    with pytest.raises(DemoError, match="stopped before the node ran"):
        demo.counted()
    demo._node = Child("node", (), tmp_path)
    with pytest.raises(DemoError, match="stopped before the node ran"):
        demo.counted()
    demo._port = 1
    with pytest.raises(DemoError, match=r"the node left no status; see .*node\.log"):
        demo.counted()
    assert first_examples(Demo(tmp_path)) is None


async def test_the_example_is_a_number_and_not_an_alert(tmp_path):
    """The newest Observation may be an alert or an enumeration; one with a number is shown."""
    base = {
        "resourceType": "Observation",
        "status": "final",
        "category": [
            {
                "coding": [
                    {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}
                ]
            }
        ],
        "code": {
            "coding": [
                {"system": "http://loinc.org", "code": "8867-4"},
                {"system": "urn:iso:std:iso:11073:10101", "code": "147842"},
            ]
        },
        "subject": {"type": "Patient", "identifier": {"system": "urn:p", "value": "1"}},
        "effectiveDateTime": "2026-11-22T10:00:00.125Z",
        "device": {"type": "DeviceMetric", "identifier": {"system": "urn:x", "value": "m1"}},
    }
    unit = {"unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
    resources = [
        {**base, "identifier": [{"system": "urn:x", "value": "o1"}], "valueQuantity": {"value": 72, **unit}},
        {**base, "identifier": [{"system": "urn:x", "value": "o2"}], "valueString": "valueQuantity"},
    ]
    folder = tmp_path / "fhir"
    async with FhirReceiver(folder, "127.0.0.1", 0) as receiver, aiohttp.ClientSession() as session:
        assert await asyncio.to_thread(demos._numeric_observation, folder) is None
        for resource in reversed(resources):
            headers = {"Content-Type": "application/fhir+json"}
            async with session.post(
                f"{receiver.base_url}/Observation", data=msgspec.json.encode(resource), headers=headers
            ) as answer:
                assert answer.status == 201, await answer.text()
        text = await asyncio.to_thread(demos._numeric_observation, folder)
    assert "\nvalueQuantity\n  value: 72\n" in text


def test_what_the_node_is_told_is_strict_toml():
    text = demos._config(2575, "http://127.0.0.1:8080", ["urn:uuid:a", "urn:uuid:b"])
    assert tomllib.loads(text)["consumer"]["only"] == ["urn:uuid:a", "urn:uuid:b"]
