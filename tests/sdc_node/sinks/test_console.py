"""What the console says, and whom it does not name."""

import io

import msgspec
import pytest

from mdib_models.updates import GapUpdate
from sdc_node.sinks.console import ConsoleSettings, ConsoleSink, describe


@pytest.fixture
def device(bedside):
    return bedside()


def test_links_are_told(device):
    assert describe(device.link("lost", 1, "no answer"), values=False) == ["bed00000 lost: no answer"]


def test_gaps_are_told(device):
    gap = msgspec.structs.replace(device.link("live", 1), updates=(GapUpdate("overrun"),))
    assert describe(gap, values=False) == ["bed00000 gap: overrun"]


def test_alerts_are_told_with_phase_state_and_priority(device):
    assert describe(device.alarm(1, present=True), values=False) == [
        "bed00000 alert ac.spo2 start (active, priority Me)"
    ]
    assert describe(device.alarm(2, present=True, priority="Hi"), values=False) == [
        "bed00000 alert ac.spo2 escalate (active, priority Hi)"
    ]
    assert describe(device.alarm(3, present=False), values=False)[0].startswith("bed00000 alert ac.spo2 end (inactive")


def test_values_are_told_only_where_asked(device):
    batch = device.values(1, hr="70.0", sys=120)
    assert describe(batch, values=False) == []
    assert describe(batch, values=True) == ["bed00000 m.hr = 70.0 Vld", "bed00000 m.sys = 120 Vld"]
    assert describe(device.waveform(2), values=True) == []


def test_no_patient_is_named(device):
    batches = [device.patient(1, "a"), device.values(2, hr=70), device.alarm(3, present=True), device.link("live", 4)]
    said = "\n".join(line for batch in batches for line in describe(batch, values=True))
    assert said
    assert "Name-a" not in said
    assert "P-a" not in said


async def test_lines_carry_the_time_of_arrival(device, capsys):
    stream = io.StringIO()
    sink = ConsoleSink(ConsoleSettings(values=True), stream)
    await sink.start()
    await sink.accept(device.values(1_800_000_000_000, hr=70))
    await sink.drain(1)
    await sink.stop()
    assert stream.getvalue() == "08:00:00 bed00000 m.hr = 70 Vld\n"
    assert sink.counters() == {"lines": 1}
    assert not sink.wants_waveforms
    await ConsoleSink(ConsoleSettings()).accept(device.link("live", 1_800_000_000_000))
    assert capsys.readouterr().out == "08:00:00 bed00000 live: test\n"
