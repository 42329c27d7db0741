"""The kernel's answer read by adjtimex(2)'s rules, and readiness by R1540 and R1530."""

import asyncio
import logging

import pytest

from sdc_node import timesync
from sdc_node.timesync import TimeStatus, TimeWatch, judge, kernel_clock

GOOD = TimeStatus(synchronised=True, accuracy_ms=12, detail="kept")
BAD = TimeStatus(synchronised=False, accuracy_ms=None, detail="not kept")


def answers(*statuses):
    left = list(statuses)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize(
    ("state", "status", "synchronised"),
    [(0, 0, True), (0, 0x2001, True), (5, 0, False), (5, 0x40, False), (0, 0x40, False), (1, 0x1, True)],
)
def test_status_bits_decide(state, status, synchronised):
    assert judge(state, status, 1500).synchronised is synchronised


def test_accuracy_is_the_kernels_maximum_error_rounded_up():
    assert judge(0, 0, 1001).accuracy_ms == 2
    assert judge(0, 0, 1000).accuracy_ms == 1
    assert judge(5, 0x40, 16_000_000).accuracy_ms is None


def test_the_kernel_of_this_host_answers():
    status = kernel_clock()
    assert status.detail
    assert status.synchronised == (status.accuracy_ms is not None)


def test_another_system_cannot_tell(monkeypatch):
    monkeypatch.setattr(timesync.sys, "platform", "darwin")
    assert kernel_clock() == TimeStatus(synchronised=False, accuracy_ms=None, detail="darwin does not tell")


def test_a_forbidden_call_is_told(monkeypatch):
    class Refusing:
        class adjtimex:  # noqa: N801 - the C function's name
            argtypes = ()

            def __new__(cls, _):
                timesync.ctypes.set_errno(1)
                return -1

    monkeypatch.setattr(timesync.ctypes, "CDLL", lambda *_, **__: Refusing)
    status = kernel_clock()
    assert not status.synchronised
    assert status.detail == "the kernel does not tell: Operation not permitted"


def test_r1540_not_ready_until_a_time_service_was_found():
    watch = TimeWatch(read=answers(BAD, GOOD))
    assert watch.status == BAD
    assert not watch.ready
    watch.check()
    assert watch.ready
    assert watch.status == GOOD


def test_r1530_a_lost_time_service_stops_nothing():
    watch = TimeWatch(read=answers(GOOD, BAD))
    watch.check()
    watch.check()
    assert watch.ready
    assert not watch.status.synchronised


def test_r1534_each_change_is_logged_once(caplog):
    caplog.set_level(logging.INFO, "sdc_node.timesync")
    watch = TimeWatch(read=answers(BAD, BAD, GOOD, GOOD, BAD))
    for _ in range(6):
        watch.check()
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("WARNING", "time service: not kept"),
        ("INFO", "time service: kept"),
        ("WARNING", "time service: not kept"),
    ]


def test_a_demo_is_ready_whatever_the_clock_says():
    watch = TimeWatch(required=False, read=answers(BAD))
    assert watch.ready
    assert not watch.check().synchronised


@pytest.mark.parametrize(("limit", "found"), [(None, True), (12, True), (11, False)])
def test_r1533_a_clock_worse_than_the_limit_does_not_count(limit, found):
    watch = TimeWatch(limit_ms=limit, read=answers(GOOD))
    status = watch.check()
    assert watch.ready is status.synchronised is found
    assert found or status.detail == "kept, 11 ms are demanded"


async def test_run_asks_until_cancelled():
    seen = asyncio.Event()
    count = 0

    def read():
        nonlocal count
        count += 1
        if count == 3:
            seen.set()
        return GOOD

    task = asyncio.create_task(TimeWatch(read=read, interval=0.001).run())
    await asyncio.wait_for(seen.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert count >= 3
