"""Show 6: kill -9 of a device. The node tells of the loss in time, shows nothing stale, and holds nothing back."""

import asyncio
import itertools
from collections import defaultdict
from decimal import Decimal

import pytest

from mdib_models.states import NumericMetricState
from mdib_models.wire.jsonl import Linked, Opened, Reported
from tests.end_to_end.kill_device_run import GRANTED, RESTARTS, WARM_UP, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

BUSY = 500
"""Milliseconds that a busy machine may add between an instant and its being written down."""
EARLIER = 1_000
"""A determination is told as of the device's clock, which the node may correct by some of this (ms)."""
POOLED = 6
"""Growth that is none: the node's two thread pools (asyncio's own, and the fleet's of `connects` + 4) are filled as
they are needed and never emptied. Both are bounded; one leaked thread or socket for each restart would be 20."""


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return asyncio.run(run(tmp_path_factory.mktemp("device")))


@pytest.fixture(scope="module")
def lines(record):
    return record.lines()


@pytest.fixture(scope="module")
def links(record, lines):
    return [line for line in lines if isinstance(line, Linked) and line.device == record.victim]


@pytest.fixture(scope="module")
def intervals(record):
    return record.intervals()


@pytest.fixture(scope="module")
def outages(record, links):
    """For each kill, when the LinkUpdates say that the device was lost and live again (ms)."""
    found = []
    for kill in record.kills:
        lost = next(line.arrived for line in links if line.link.state == "lost" and line.arrived >= kill.at)
        live = next(line.arrived for line in links if line.link.state == "live" and line.arrived >= lost)
        found.append((lost, live))
    return found


def test_a_killed_device_is_lost_within_the_expiry_of_its_subscription(record, links, outages):
    granted = {line.link.reason for line in links if line.link.state == "subscribed"}
    assert granted == {f"all reports, for {GRANTED} s at a time"}
    assert len(record.kills) == WARM_UP + RESTARTS
    for kill, (lost, _) in zip(record.kills, outages, strict=True):
        assert lost - kill.at <= GRANTED * 1000 + BUSY
        assert lost - BUSY <= kill.shown_lost


def test_a_restarted_device_is_live_again_without_restarting_the_node(record, lines, outages):
    assert record.status == 0
    assert len({kill.sequence for kill in record.kills}) == len(record.kills)
    opened = [line for line in lines if isinstance(line, Opened) and line.device == record.victim]
    for kill, (_, live) in zip(record.kills, outages, strict=True):
        before = [line for line in opened if line.arrived <= live + BUSY]
        assert before[-1].mdib.version.sequence_id == kill.sequence


def test_the_other_device_notices_nothing(record, lines):
    states = [line.link.state for line in lines if isinstance(line, Linked) and line.device == record.witness]
    assert states == ["discovered", "connecting", "subscribed", "live"]


def test_an_outage_parts_two_intervals(intervals, outages):
    windows = sorted({message.window for message in intervals})  # one of nobody's may stand beside a patient's
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(windows))
    for lost, _ in outages:
        assert not [window for window in windows if window[0] < lost < window[1]]
    for (_, live), (lost, _) in itertools.pairwise(outages):
        assert [window for window in windows if live - BUSY <= window[0] < window[1] <= lost]


def test_decision_6_no_value_from_before_an_outage_is_exported_after_it(record, lines, intervals, outages):
    determined = defaultdict(list)
    for line in lines:
        if line.device == record.victim and not isinstance(line, Linked):
            states = line.report.states if isinstance(line, Reported) else line.mdib.states.values()
            for state in states:
                if isinstance(state, NumericMetricState) and state.metric_value is not None:
                    value = state.metric_value
                    determined[state.descriptor_handle, value.value].append(value.determination_time)
    handles = record.handles()
    checked = 0
    for message in intervals:
        start, end = message.window
        outage = max((lost for lost, _ in outages if lost <= start), default=0)
        for row in message.shown(handles):
            if row.time is not None:
                assert row.time >= outage, row.handle
            if isinstance(row.value, Decimal):
                times = [time for time in determined[row.handle, row.value] if outage <= time < end + EARLIER]
                assert times, f"{row.handle} in the interval from {start} is from before the outage at {outage}"
                checked += 1
    assert checked >= 5 * RESTARTS


def test_20_restarts_leave_threads_and_descriptors_as_they_were(record):
    assert record.before.threads > 1
    assert record.before.descriptors > 3
    assert record.after.threads <= record.before.threads + POOLED
    assert record.after.descriptors <= record.before.descriptors + POOLED
