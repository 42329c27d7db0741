"""`sdc-node demo`: what it prints and how it ends. A whole run is in tests/end_to_end."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from sdc_node.cli import demo as command
from sdc_node.demo import Counted, DemoError
from sdc_node.telemetry import DestinationStatus, DeviceStatus, Status

STATUS = Status(
    ready=True,
    not_ready=[],
    clock="off",
    devices=[DeviceStatus("urn:uuid:12345678-0000-4000-8000-000000000001", "Demo Pump", "live", "first [/] one", 1)],
    received={"MetricUpdate": 12, "waveform_samples": 34, "AlertUpdate": 5},
    sinks={},
    dropped={"hl7: waveform": 6, "none": 0},
    failed={},
    destinations=[DestinationStatus("hl7", "bulk", 7, 70, 1, 8, 0, "refused [/]")],
    open_alerts=9,
    problems={},
)
GOOD = Counted(
    devices=3,
    metric_updates=12,
    waveform_samples=34,
    alert_updates=5,
    hl7={"pcd01_sent": 4, "pcd01_acked": 4, "pcd04_sent": 2, "pcd04_acked": 2},
    fhir={"sent": 9, "accepted": 9, "rejected": 0, "observations": 6},
    dropped={"hl7: waveform": 6},
    lost=0,
    waiting=0,
)


class Played:
    """A demo whose processes are none; `steps` tell what was asked of it, in order."""

    counts = GOOD
    fails: DemoError | None = None
    hl7_folder = fhir_folder = Path("store")

    def __init__(self, folder, *, seed=None):
        self.folder = folder
        self.steps = [("made", folder.parent.name, seed)]
        Played.last = self

    async def start(self, tell):
        self.steps.append("start")
        tell("making [/] certificates")
        if self.fails:
            raise self.fails

    async def all_live(self):
        self.steps.append("all live")

    async def watch(self):
        while True:
            yield STATUS
            await asyncio.sleep(0.01)

    async def stop(self):
        self.steps.append("stop")

    def counted(self):
        self.steps.append("counted")
        return self.counts


@pytest.fixture
def played(monkeypatch):
    monkeypatch.setattr(command, "Demo", Played)
    monkeypatch.setattr(command, "first_examples", lambda _demo: ("MSH|^~\\&|[/]", "resourceType: Observation"))
    return Played


def test_it_shows_what_flows_and_writes_the_summary(sdc_node, played, tmp_path):
    ended = sdc_node("demo", "--for", 1, "--report", "out.json", "--dir", "runs", "--seed", 7, "--no-open")
    assert ended.status == 0
    assert ended.err == ""
    assert played.last.steps == [("made", "runs", 7), "start", "all live", "stop", "counted"]
    assert json.loads((tmp_path / "out.json").read_text()) == msgspec.to_builtins(GOOD)
    for text in (
        command.BANNER,
        "making [/] certificates",
        f"run folder: runs/{played.last.folder.name}",
        "  sdc-node receive hl7 --dir store --list",
        "  sdc-node receive fhir --dir store --list",
        "1 live  12 metrics  34 samples  5 alert updates  9 open alerts  hl7 bulk: 8 sent, 7 waiting",
        "One PCD-01:\nMSH|^~\\&|[/]\n",
        "One Observation:\nresourceType: Observation\n",
        "PCD-01            4 sent, 4 acknowledged",
        "FHIR              9 sent, 9 accepted, 0 rejected, 6 Observations",
        "dropped           6 hl7: waveform",
        "lost              0",
    ):
        assert text in ended.out


@pytest.mark.parametrize("changes", [{"lost": 1}, {"devices": 0}, {"fhir": {**GOOD.fhir, "rejected": 1}}])
def test_its_status_is_not_0_if_anything_was_lost_or_rejected_or_no_device_came(sdc_node, played, monkeypatch, changes):
    monkeypatch.setattr(played, "counts", msgspec.structs.replace(GOOD, **changes))
    ended = sdc_node("demo", "--for", 1, "--report", "out.json")
    assert ended.status == 1
    assert "Summary" in ended.out


def test_what_is_in_the_way_is_one_line_and_everything_is_stopped(told, played, monkeypatch):
    monkeypatch.setattr(played, "fails", DemoError("monitor did not start: no answer in time"))
    told("demo", "--for", 1, says="error: monitor did not start: no answer in time")
    assert played.last.steps[-1] == "stop"


def test_bad_input_is_told_before_anything_is_started(told, sdc_node, tmp_path, monkeypatch):
    told("demo", "--report", "none/out.json", status=2, says="--report none/out.json: there is no folder none")
    told("demo", "--report", tmp_path, status=2, says=f"--report {tmp_path} is a folder; name a file")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    told("demo", "--dir", "file", says="cannot be made: Not a directory")
    assert sdc_node("demo", "--for", 0).status == 2


def test_bad_input_a_report_that_cannot_be_written_is_told_after_the_summary(sdc_node, played):
    ended = sdc_node("demo", "--for", 1, "--report", "/dev/full")
    assert ended.status == 1
    assert "lost              0" in ended.out
    assert ended.err == "error: --report /dev/full cannot be written: No space left on device\n"


def test_a_signal_ends_it_with_the_summary(sdc_node, played, monkeypatch):
    async def all_live(self):
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(60)

    monkeypatch.setattr(played, "all_live", all_live)
    ended = sdc_node("demo")
    assert ended.status == 0
    assert played.last.steps[-2:] == ["stop", "counted"]
    assert "Summary" in ended.out


def test_a_terminal_gets_a_live_table_that_fits():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, markup=False, emoji=False, color_system=None)
    with command._display(console) as show:
        show(STATUS)
    text = screen.getvalue()
    for word in ("Demo Pump 12345678", "first [/] one", "12 metric updates", "refused [/]", "6 hl7: waveform"):
        assert word in text


def test_ctrl_c_while_it_starts_leaves_no_process(tmp_path):
    argv = [sys.executable, "-P", "-m", "sdc_node", "demo", "--dir", str(tmp_path)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while "starting the devices" not in (line := process.stdout.readline()):
            assert line, process.communicate()
        children = descendants(process.pid)
        assert len(children) >= 2
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 1
    assert "stopping: " in out
    assert err == "error: stopped before the node ran\n"
    deadline = time.monotonic() + 10
    while left := [pid for pid in children if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def descendants(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
