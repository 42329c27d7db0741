"""One run of the demo through its own command line, and all that must be true of it afterwards.

Values are chosen again from the log that the node wrote and compared with what the receivers stored.
"""

import json
import sqlite3
import subprocess
import sys
import tomllib
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pytest
from hl7apy.parser import parse_message

import providers.scenarios
from mdib_models.mirror import Mdib
from mdib_models.states import PatientContextState
from mdib_models.updates import AlertUpdate, ContextUpdate, ReportBatch
from mdib_models.wire.jsonl import Opened, decode, replay
from tests.end_to_end.chosen import chosen, patient_of
from tests.end_to_end.readback import NOBODY, Event, Message, event_of, handles_of, pcd, stored

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SECONDS = 30
PERIOD, GRACE = 5_000, 500
"""The demo's `[[hl7]] interval` and the default `grace`, in ms."""

SCRIPTED_UNTIL = 24.0
"""Seconds of the scenario that a run of SECONDS surely plays; the devices begin it before the last one is live."""

CAUSES = {
    # (event, its `to`) -> condition where the step names none, phase that it causes
    ("desaturation", None): ("ac.spo2.lo", "start"),
    ("audio_pause", None): (None, "update"),
    ("priority", "Hi"): (None, "escalate"),
    ("priority", "described"): (None, "deescalate"),
    ("recover", None): ("ac.spo2.lo", "end"),
    ("lead_off", None): ("ac.ecg.leadoff", "start"),
    ("lead_on", None): ("ac.ecg.leadoff", "end"),
    ("occlusion", None): ("ac.occlusion", "start"),
    ("clear_occlusion", None): ("ac.occlusion", "update"),  # its tone latches
    ("latch_reset", None): ("ac.occlusion", "reset"),
    ("oxygen_failure", None): ("ac.fio2.lo", "start"),
    ("oxygen_restored", None): ("ac.fio2.lo", "end"),
}


class Run(NamedTuple):
    """What the demo left behind."""

    status: int
    output: str
    report: dict
    folder: Path
    batches: list[ReportBatch]
    messages: list[Message]

    @property
    def mirrors(self) -> dict[str, Mdib]:
        return {batch.device: batch.after for batch in self.batches if batch.after.descriptors}

    @property
    def events(self) -> dict[str, list[Event]]:
        """The PCD-04s by event id, each in the order in which they came."""
        found: dict[str, list[Event]] = {}
        for message in pcd(self.messages, 4):
            event = event_of(message)
            found.setdefault(event.id, []).append(event)
        return found

    def device(self, equipment: str) -> str:
        """Whose OBX-18 this is: `uuid^^uuid^UUID` (R8117)."""
        uuid, _, same, kind = equipment.split("^")
        assert (uuid, kind) == (same, "UUID")
        named = {next(iter(mdib.children(None))).equipment_identifier: device for device, mdib in self.mirrors.items()}
        return named[f"urn:uuid:{uuid}"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    base = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-P", "-m", "sdc_node", "demo", "--for", str(SECONDS), "--no-open"]
    command += ["--report", str(base / "report.json"), "--dir", str(base / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, stdin=subprocess.DEVNULL, check=False)
    (folder,) = (base / "runs").iterdir()
    lines = [decode(line) for line in (folder / "reports.jsonl").read_bytes().splitlines()]
    opened = Counter(line.device for line in lines if isinstance(line, Opened))
    assert set(opened.values()) == {1}, "a device was resynchronised, the log cannot tell what was merged"
    return Run(
        done.returncode,
        done.stdout + done.stderr,
        json.loads((base / "report.json").read_text()),
        folder,
        list(replay(lines)),
        stored(folder / "received" / "hl7"),
    )


def test_it_ends_well(run):
    assert run.status == 0, run.output
    assert "Traceback" not in run.output


def test_everything_flowed_and_nothing_was_lost(run):
    report = run.report
    for name in ("devices", "metric_updates", "waveform_samples", "alert_updates"):
        assert report[name] > 0, name
    assert report["devices"] == 3
    hl7, fhir = report["hl7"], report["fhir"]
    assert hl7["pcd01_sent"] == hl7["pcd01_acked"] == len(pcd(run.messages, 1)) > 0
    assert hl7["pcd04_sent"] == hl7["pcd04_acked"] == len(pcd(run.messages, 4)) > 0
    assert fhir["sent"] == fhir["accepted"] > 0
    assert fhir["observations"] > 0
    assert (fhir["rejected"], report["lost"], report["waiting"]) == (0, 0, 0)


def test_the_outbox_is_empty_and_what_was_sent_is_what_was_owed(run):
    outbox = (run.folder / "node" / "outbox.sqlite").resolve().as_uri()
    with closing(sqlite3.connect(f"{outbox}?mode=ro", uri=True)) as connection:
        assert connection.execute("SELECT count(*) FROM item").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM dead").fetchone() == (0,)
        sent = {id_ for (id_,) in connection.execute("SELECT id FROM sent WHERE destination = 'hl7'")}
    assert sent == {message.control_id for message in run.messages}


def test_every_interval_holds_what_the_rules_choose_from_the_log(run, record_property):
    """Show 3: R8017, R8018, R8037, R8038, R8101 and decision 8, chosen anew and read back by python-hl7."""
    came = {}
    for message in pcd(run.messages, 1):
        device = run.device(message.equipment)
        key = (device, message.window, message.patient)  # what was measured before the patient came is nobody's
        assert key not in came
        came[key] = message
    stopped = max(end for _, (_, end), _ in came)
    expected = {
        (one.device, (one.start, one.end), one.patient): one
        for one in chosen(run.batches, period=PERIOD, grace=GRACE, stopped=stopped)
    }
    assert came.keys() == expected.keys()
    rows = 0
    for key, message in came.items():
        shown = message.shown(handles_of(run.folder / "node" / "state.sqlite", key[0]))
        assert sorted(shown, key=str) == sorted(expected[key].rows, key=str), key
        assert message.patient == expected[key].patient, key
        rows += len(shown)
    summary = f"{len(came)} intervals of {len(run.mirrors)} devices, {rows} values: as chosen from the log"
    record_property("intervals", summary)
    sys.stdout.write(f"{summary}\n")


def test_decision_8_no_message_spans_a_change_of_patient(run):
    for device in run.mirrors:
        messages = [one for one in pcd(run.messages, 1) if run.device(one.equipment) == device]
        mirrors = [batch for batch in run.batches if batch.device == device and batch.after.descriptors]
        before, after = (patient_of(batch.after, "mds0") for batch in (mirrors[0], mirrors[-1]))
        assert before != after
        at = next(batch.arrived for batch in mirrors if patient_of(batch.after, "mds0") == after)
        named = [message for message in messages if message.patient != NOBODY]  # see `chosen`: measured before
        assert {message.patient for message in named} == {before, after}
        for message in named:
            start, end = message.window
            assert end <= at if message.patient == before else start >= at


def test_pcd01_passes_the_structure_validation_of_hl7apy(run):
    for message in pcd(run.messages, 1):
        text = message.text
        if (
            message.patient == NOBODY
        ):  # section 3 leaves PID-3 empty then; hl7apy holds to the base standard's "required"
            assert "\rPID|||||^^^^^^U|" in text
            text = text.replace("\rPID|||||", '\rPID|||""||', 1)
        parsed = parse_message(text, find_groups=True)
        assert parsed.version == "2.6"
        assert parsed.validate() is True


def test_every_alert_goes_through_a_legal_chain_of_phases(run):
    """Mapping 7.3: which phase may follow which alert state, and the state that it leaves."""
    assert run.events
    for name, events in run.events.items():
        state = "none"
        for number, event in enumerate(events):
            assert event.first is (number == 0), name
            legal = {
                "none": {("start", "active")},
                "active": {
                    *((phase, "active") for phase in ("update", "escalate", "deescalate", "continue")),
                    ("update", "latched"),
                    ("end", "inactive"),
                },
                "latched": {
                    *((phase, "latched") for phase in ("update", "escalate", "deescalate", "continue")),
                    ("reset", "inactive"),
                },
                "inactive": set(),
            }[state]
            assert (event.phase, event.state) in legal, (name, [one.phase for one in events])
            state = event.state


def test_every_condition_goes_through_the_phases_that_the_scenario_scripts(run):
    scenario = tomllib.loads((Path(providers.scenarios.__path__[0]) / "demo.toml").read_text())
    scripted: dict[str, list[str]] = {}
    for step in sorted(scenario["step"], key=lambda one: one["at"]):
        cause = CAUSES.get((step["event"], step.get("to")))
        if cause is not None and step["at"] < SCRIPTED_UNTIL:
            scripted.setdefault(step.get("condition") or cause[0], []).append(cause[1])
    assert {"start", "update", "escalate", "deescalate", "end", "reset"} <= set().union(*scripted.values())
    firsts: dict[str, list[str]] = {}
    for events in run.events.values():
        firsts.setdefault(events[0].condition, [event.phase for event in events])
    assert {condition: firsts.get(condition) for condition in scripted} == scripted


def test_pcd04_names_the_patient_of_the_start(run):
    patients = set()
    for events in run.events.values():
        batch = _cause(run, events[0])
        (mds,) = (descriptor.handle for descriptor in batch.after.children(None))
        whose = patient_of(batch.after, mds)
        assert {event.patient for event in events} == {whose}
        assert not whose.unknown
        patients.add(whose)
        for event in events:
            _cause(run, event)
    assert patients <= {patient_of(batch.after, "mds0") for batch in run.batches if batch.after.descriptors}


def test_the_same_alerts_are_in_fhir_under_the_same_ids(run):
    file = (run.folder / "received" / "fhir" / "fhir.sqlite").resolve().as_uri()
    found = {}
    with closing(sqlite3.connect(f"{file}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT body FROM fhir_resource WHERE type = 'Observation' ORDER BY id, version")
        for resource in (json.loads(body) for (body,) in rows):
            for identifier in resource["identifier"]:
                if identifier["system"].endswith("/identifier/alert"):
                    found[unquote(identifier["value"].rpartition("/")[2])] = resource
    events = run.events
    assert set(found) == set(events)
    ended = {name for name, of_alert in events.items() if of_alert[-1].phase in {"end", "reset"}}
    assert len(ended) >= 4
    assert {name for name, resource in found.items() if resource["status"] == "final"} == ended
    assert all(found[name]["status"] == "preliminary" for name in set(events) - ended)


def test_no_patient_is_named_in_a_log_or_in_the_status(run):
    patients = {
        state
        for batch in run.batches
        for state in batch.after.contexts.values()
        if isinstance(state, PatientContextState) and state.core_data is not None
    }
    of_devices = " ".join(
        text.text
        for mdib in run.mirrors.values()
        for mds in mdib.children(None)
        for text in (*mds.meta_data.model_name, *mds.meta_data.manufacturer)
    )
    names = {
        text
        for state in patients
        for text in (
            state.core_data.familyname,
            state.core_data.givenname,
            state.core_data.birthname,
            state.core_data.date_of_birth,
            *(identifier.extension for identifier in state.identification),
        )
        if text and text not in of_devices  # a patient who is called Demo, like the devices
    }
    assert len(names) >= 6  # of two patients
    assert all(any(name in message.text for message in run.messages) for name in names if "-" not in name)
    files = [*(run.folder / "logs").iterdir(), run.folder / "node" / "status.json", run.folder / "node" / "ledger.txt"]
    for file in files:
        text = file.read_text()
        assert not [name for name in names if name in text], file
    assert (run.folder / "logs" / "node.log").stat().st_size > 0


def test_no_process_wrote_an_error(run):
    for log in (run.folder / "logs").iterdir():
        assert "Traceback" not in log.read_text(), log
        assert " ERROR " not in log.read_text(), log
    assert json.loads((run.folder / "node" / "status.json").read_text())["failed"] == {}


def _cause(run: Run, event: Event) -> ReportBatch:
    """The first report about this alert at the time that facet 1 gives: its own, or that of the change (R8062)."""
    device = run.device(event.equipment)
    for batch in run.batches:
        if batch.device != device:
            continue
        for update in batch.updates:
            if isinstance(update, ContextUpdate) and event.time == batch.arrived:
                return batch  # the patient changed while it was open
            if not isinstance(update, AlertUpdate):
                continue
            descriptor = batch.after.find(update.state.descriptor_handle)
            condition = getattr(descriptor, "condition_signaled", descriptor.handle)
            times = {batch.arrived, getattr(update.state, "determination_time", None)}
            if condition == event.condition and event.time in times:
                return batch
    raise AssertionError(f"nothing in the log tells of {event.id} at {event.time}")
