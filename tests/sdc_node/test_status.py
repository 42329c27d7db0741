"""The status board: every number from where it is kept, and the last one left in a file."""

import stat
from collections import Counter
from types import SimpleNamespace

import msgspec
import pytest

from mdib_models.coding import CodedValue, LocalizedText
from mdib_models.descriptors import MdsDescriptor, MetaData
from mdib_models.identity import DeviceId
from mdib_models.mirror import empty
from sdc_node.outbox import LaneCounts
from sdc_node.status import StatusBoard
from sdc_node.telemetry import DestinationStatus, DeviceStatus, Status
from sdc_node.timesync import TimeStatus, TimeWatch

EPR = DeviceId("urn:uuid:aaaaaaaa-0000-4000-8000-000000000001")


def clock(*, synchronised, required=True):
    answer = TimeStatus(synchronised=synchronised, accuracy_ms=1 if synchronised else None, detail="as the test says")
    return TimeWatch(required=required, read=lambda: answer)


class Sink:
    def __init__(self, name, counters, lanes=()):
        self.name = name
        self._counters = counters
        if lanes:
            self.deliveries = [
                SimpleNamespace(destination=name, lane=lane, counts=SimpleNamespace(last_error=f"{lane} refused"))
                for lane in lanes
            ]

    def counters(self):
        return self._counters


@pytest.fixture
def board():
    def board(*, mirror=None, watch=None):
        session = SimpleNamespace(state="live", reason="snapshot taken", mirror=mirror or empty(EPR))
        fleet = SimpleNamespace(
            sessions={EPR: session},
            problems=lambda: {"https://10.0.0.5/x": "nobody listens"},
            counters=lambda: {"dropped_overrun": 2, "connects": 1, "discovery_dropped_x": 1},
        )
        pipeline = SimpleNamespace(
            received={"MetricUpdate": 3},
            failed={"jsonl": 1},
            lanes=lambda: {"hl7": SimpleNamespace(dropped={"waveform": 4}), "jsonl": SimpleNamespace(dropped={})},
            open_alerts=lambda: 5,
            not_told=Counter({"hl7": 2}),
            not_saved=0,
            not_read=1,
        )
        outbox = SimpleNamespace(
            counts=lambda: {
                ("hl7", "bulk"): LaneCounts(waiting=6, waiting_bytes=60, oldest_created=7, sent=8, dead=9,
                                            dropped={"cap": 10}),
            }
        )  # fmt: skip
        sinks = [Sink("hl7", {"pcd01": 11, "dropped_no_patient": 12}, ("alert", "bulk")), Sink("jsonl", {"lines": 13})]
        return StatusBoard(sinks, pipeline, fleet, outbox, watch or clock(synchronised=True))

    return board


def test_every_number_is_told(board):
    made = board()
    made.following = True
    made.linked(EPR, 1_800_000_000_000)
    assert made.status() == Status(
        ready=True,
        not_ready=[],
        clock="as the test says",
        devices=[DeviceStatus(EPR, "", "live", "snapshot taken", 1_800_000_000_000)],
        received={"MetricUpdate": 3},
        sinks={"hl7": {"pcd01": 11, "dropped_no_patient": 12}, "jsonl": {"lines": 13}},
        dropped={
            "hl7: waveform": 4,
            "devices: dropped_overrun": 2,
            "devices: discovery_dropped_x": 1,
            "hl7 bulk: cap": 10,
            "hl7: no_patient": 12,
        },
        failed={"jsonl": 1, "alerts: not-told": 2, "alerts: not-read": 1},
        destinations=[
            DestinationStatus("hl7", "alert", 0, 0, None, 0, 0, "alert refused"),
            DestinationStatus("hl7", "bulk", 6, 60, 7, 8, 9, "bulk refused"),
        ],
        open_alerts=5,
        problems={"https://10.0.0.5/x": "nobody listens"},
    )


def test_r1540_not_ready_without_a_time_service_nor_before_devices_are_followed(board):
    made = board(watch=clock(synchronised=False))
    assert made.status().not_ready == ["no time service: as the test says"]
    assert not made.status().ready
    made = board(watch=clock(synchronised=False, required=False))
    assert made.status().not_ready == ["devices are not followed yet"]
    made.following = True
    assert made.status().ready
    assert made.status().clock == "as the test says"


@pytest.mark.parametrize(
    ("mds", "model"),
    [
        (MdsDescriptor(handle="m", meta_data=MetaData(model_name=(LocalizedText("Watcher 1"),))), "Watcher 1"),
        (MdsDescriptor(handle="m", meta_data=MetaData(), type=CodedValue("1", symbolic_code_name="X")), None),
        (MdsDescriptor(handle="m"), ""),
    ],
)
def test_a_device_is_named_by_its_model(board, mds, model):
    mirror = msgspec.structs.replace(empty(EPR), descriptors={"m": mds})
    (told,) = board(mirror=mirror).status().devices
    assert told.model == ((mds.type.text() or "") if model is None else model)


def test_the_last_status_is_left_in_a_private_file(board, tmp_path):
    path = tmp_path / "status.json"
    path.write_text("x" * 100_000)
    made = board()
    made.write(path)
    assert msgspec.json.decode(path.read_bytes(), type=Status) == made.status()
    path.unlink()
    made.write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_full_disk_costs_the_new_status_only_and_is_one_line(board, tmp_path, caplog):
    path = tmp_path / "status.json"
    path.write_text("the one before")
    (tmp_path / "status.json.new").symlink_to("/dev/full")
    board().write(path)
    (line,) = caplog.messages
    assert line == f"the last status cannot be left in {path}: No space left on device"
    assert [each.name for each in tmp_path.iterdir()] == ["status.json"]
    assert path.read_text() == "the one before"
    board().write(tmp_path / "gone" / "status.json")
    assert caplog.messages[1].endswith("gone/status.json: No such file or directory")
