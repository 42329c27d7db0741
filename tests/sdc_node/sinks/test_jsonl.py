"""The recorded log: whole, private, bounded, and each of its files can be read alone."""

import asyncio
import errno
import os
import stat

import msgspec
import pytest

from mdib_models.wire.jsonl import Linked, Opened, Reported, decode, replay
from sdc_node.sinks.base import SinkError
from sdc_node.sinks.jsonl import JsonlSettings, JsonlSink


@pytest.fixture
def path(tmp_path):
    return tmp_path / "reports.jsonl"


@pytest.fixture
def small(monkeypatch):
    """Files that are full after so many bytes."""

    def limit(count, **settings):
        made = JsonlSettings(max_megabytes=1, **settings)
        object.__setattr__(made, "max_megabytes", count / 1_000_000)
        return made

    return limit


async def recorded(settings, *batches):
    sink = JsonlSink(settings)
    await sink.start()
    try:
        for batch in batches:
            await sink.accept(batch)
        await sink.drain(1)
    finally:
        await sink.stop()
    return sink


def lines(path):
    return [decode(line) for line in path.read_bytes().splitlines()]


def kinds(path):
    return [type(line) for line in lines(path)]


async def test_a_log_folds_again_to_the_same_mirror(path, bedside):
    device = bedside()
    batches = [
        device.link("live", 1),
        device.snapshot(2),
        device.values(3, 3, hr="70.50"),
        device.waveform(4),
        device.patient(5, "a"),
        device.alarm(6, present=True),
        device.link("lost", 7),
    ]
    sink = await recorded(JsonlSettings(path=path), *batches)
    assert kinds(path) == [Linked, Opened, Reported, Reported, Reported, Reported, Linked]
    again = list(replay(lines(path)))
    assert again[-1].after == device.mdib
    assert [batch.updates for batch in again[2:6]] == [batch.updates for batch in batches[2:6]]
    assert b"70.50" in path.read_bytes()
    assert sink.counters() == {"lines": 7, "bytes": path.stat().st_size}


async def test_the_file_is_private_also_where_it_was_not(path, bedside):
    path.touch(0o644)
    await recorded(JsonlSettings(path=path), bedside().snapshot(1))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_device_met_in_the_middle_begins_with_its_mdib(path, bedside):
    device = bedside()
    device.values(1, hr=70)
    await recorded(JsonlSettings(path=path), device.values(2, hr=71), device.values(3, hr=72))
    assert kinds(path) == [Opened, Reported]
    assert list(replay(lines(path)))[-1].after == device.mdib


async def test_after_a_restart_the_log_goes_on_and_can_be_read(path, bedside):
    device = bedside()
    await recorded(JsonlSettings(path=path), device.snapshot(1), device.values(2, hr=70))
    await recorded(JsonlSettings(path=path), device.values(3, hr=71))
    assert kinds(path) == [Opened, Reported, Opened]
    assert list(replay(lines(path)))[-1].after == device.mdib


async def test_merged_batches_are_recorded_as_a_whole_mdib(path, bedside):
    device = bedside()
    merged = msgspec.structs.replace(device.values(2, hr=70), report=None)
    await recorded(JsonlSettings(path=path), device.snapshot(1), merged, device.values(3, hr=71))
    assert kinds(path) == [Opened, Opened, Reported]
    assert list(replay(lines(path)))[-1].after == device.mdib


async def test_files_rotate_by_size_and_each_stands_alone(path, bedside, small):
    device = bedside()
    batches = [device.snapshot(0), *(device.values(at, hr=at) for at in range(1, 200))]
    sink = await recorded(small(6_000, path=path, keep=3), *batches)
    files = sorted(one.name for one in path.parent.iterdir())
    assert files == ["reports.1.jsonl", "reports.2.jsonl", "reports.jsonl"]
    assert sink.counters()["rotated"] > 2
    ends = []
    for name in ("reports.2.jsonl", "reports.1.jsonl", "reports.jsonl"):
        file = path.with_name(name)
        assert kinds(file)[0] is Opened
        assert file.stat().st_size < 6_000 + 8_000
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        told = list(replay(lines(file)))
        ends.append((told[0].arrived, told[-1].arrived))
    assert ends[0][1] + 1 == ends[1][0]
    assert ends[1][1] + 1 == ends[2][0]
    assert ends[2][1] == 199


async def test_where_one_file_is_kept_it_begins_anew(path, bedside, small):
    device = bedside()
    batches = [device.snapshot(0), *(device.values(at, hr=at) for at in range(1, 40))]
    await recorded(small(6_000, path=path, keep=1), *batches)
    assert [one.name for one in path.parent.iterdir()] == ["reports.jsonl"]
    assert list(replay(lines(path)))[-1].after == device.mdib


async def test_a_line_cut_off_by_a_crash_is_put_aside(path, bedside):
    device = bedside()
    await recorded(JsonlSettings(path=path), device.snapshot(1))
    with path.open("ab") as file:
        file.write(b'{"line":"rep')
    sink = await recorded(JsonlSettings(path=path), device.values(2, hr=70))
    assert kinds(path) == [Opened]
    assert path.with_name("reports.1.jsonl").read_bytes().endswith(b'{"line":"rep')
    assert sink.counters()["rotated"] == 1


@pytest.mark.parametrize("left", [0, 10])
async def test_a_full_disk_leaves_no_half_line(path, bedside, monkeypatch, left):
    device = bedside()
    room = [left] if left else []
    write = os.write

    def write_while_there_is_room(descriptor, data):
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: room.pop()])

    sink = JsonlSink(JsonlSettings(path=path))
    await sink.start()
    try:
        await sink.accept(device.snapshot(1))
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", write_while_there_is_room)
            with pytest.raises(OSError, match="No space"):
                await sink.accept(device.values(2, hr=70))
        await sink.accept(device.values(3, hr=71))
    finally:
        await sink.stop()
    assert kinds(path) == [Opened, Opened]
    assert list(replay(lines(path)))[-1].after == device.mdib


async def test_a_rotation_that_failed_is_tried_again(path, bedside, small, monkeypatch):
    device = bedside()
    sink = JsonlSink(small(1, path=path, keep=2))
    await sink.start()
    try:
        await sink.accept(device.snapshot(1))
        blocker = path.with_name("reports.1.jsonl")
        blocker.mkdir()
        for at in (2, 3):
            with pytest.raises(OSError, match="directory"):
                await sink.accept(device.values(at, hr=at))
        blocker.rmdir()
        await sink.accept(device.values(4, hr=4))
    finally:
        await sink.stop()
    assert kinds(path) == [Opened]
    assert list(replay(lines(path)))[-1].after == device.mdib


@pytest.mark.parametrize("place", ["nowhere/reports.jsonl", "."])
async def test_a_path_that_cannot_be_written_is_told_in_one_line(tmp_path, place):
    sink = JsonlSink(JsonlSettings(path=tmp_path / place))
    with pytest.raises(SinkError) as told:
        await sink.start()
    assert str(tmp_path) in str(told.value)
    assert "\n" not in str(told.value)
    await sink.stop()


def test_waveforms_are_recorded_where_wanted(path):
    assert JsonlSink(JsonlSettings(path=path)).wants_waveforms
    assert not JsonlSink(JsonlSettings(path=path, waveforms=False)).wants_waveforms


async def test_writing_does_not_hold_the_loop(path, bedside):
    device = bedside()
    sink = JsonlSink(JsonlSettings(path=path))
    await sink.start()
    try:
        async with asyncio.timeout(5):
            for at in range(20):
                await sink.accept(device.values(at + 1, hr=at))
    finally:
        await sink.stop()
    assert len(lines(path)) == 20
