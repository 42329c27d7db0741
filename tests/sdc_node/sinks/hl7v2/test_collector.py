"""Which determination goes into which interval: R8037, R8038, R8101 and 5.2 of the mapping."""

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from mdib_models.coding import CodedValue
from mdib_models.descriptors import DistributionSampleArrayMetricDescriptor, MdsDescriptor, Range
from mdib_models.identity import MdsKey
from mdib_models.states import DistributionSampleArrayMetricState, Quality, SampleArrayValue
from sdc_node.sinks.hl7v2 import collector as module
from sdc_node.sinks.hl7v2.collector import Collector

PERIOD, GRACE, LIMIT = 10_000, 500, 5_000
T0 = 1_800_000_000_000  # a multiple of the period


@pytest.fixture
def device(bedside):
    return bedside()


@pytest.fixture
def collector():
    return Collector(period=PERIOD, grace=GRACE, max_clock_offset=LIMIT)


def begin(collector, device, at=T0):
    """The first snapshot."""
    assert collector.accept(device.snapshot(at)) == []


def continuous(interval):
    return {handle: str(one.state.metric_value.value) for handle, one in interval.continuous.items()}


def intermittent(interval):
    return [(one.state.descriptor_handle, str(one.state.metric_value.value)) for one in interval.intermittent]


def bounds(interval):
    return (interval.start - T0, interval.end - T0)


def test_r8037_intervals_are_aligned_to_the_clock_and_half_open(collector, device):
    begin(collector, device, T0 + 3_000)
    collector.accept(device.values(T0 + 9_999, T0 + 9_999, hr=70))
    collector.accept(device.values(T0 + 10_000, T0 + 10_000, hr=71))
    first, second = collector.due(T0 + 20_000 + GRACE)
    assert (bounds(first), continuous(first)) == ((3_000, 10_000), {"m.hr": "70"})
    assert (bounds(second), continuous(second)) == ((10_000, 20_000), {"m.hr": "71"})
    assert first.key == second.key == MdsKey(device.device, "mds")


def test_the_latest_determination_counts_whatever_the_order_of_arrival(collector, device):
    begin(collector, device)
    collector.accept(device.values(T0 + 5_000, T0 + 4_900, hr=70))
    collector.accept(device.values(T0 + 5_100, T0 + 4_000, hr=60))
    (interval,) = collector.due(T0 + 10_500)
    assert continuous(interval) == {"m.hr": "70"}


def test_without_a_determination_time_the_arrival_counts(collector, device):
    begin(collector, device)
    collector.accept(device.values(T0 + 5_000, hr=70, sys=120))
    (interval,) = collector.due(T0 + 10_500)
    assert interval.continuous["m.hr"].time == interval.intermittent[0].time == T0 + 5_000


def test_an_interval_waits_for_its_grace(collector, device):
    begin(collector, device)
    collector.accept(device.values(T0 + 9_000, T0 + 9_000, hr=70))
    assert collector.next_due() == T0 + 10_500
    assert collector.due(T0 + 10_499) == []
    collector.accept(device.values(T0 + 10_400, T0 + 9_990, hr=71))
    (interval,) = collector.due(T0 + 10_500)
    assert continuous(interval) == {"m.hr": "71"}
    assert collector.next_due() == T0 + 20_500


def test_a_value_that_comes_after_the_grace_is_counted_as_late(collector, device):
    begin(collector, device)
    collector.due(T0 + 10_500)
    collector.accept(device.values(T0 + 10_600, T0 + 9_990, hr=71))
    assert collector.counters == {"late": 1}
    assert collector.due(T0 + 20_500) == []


def test_values_from_ahead_wait_for_their_interval(collector, device):
    begin(collector, device)
    for ahead in (3_000, 12_000, 11_000):
        collector.accept(device.values(T0 + 9_000, T0 + ahead, hr=ahead))
    collector.accept(device.values(T0 + 9_100, T0 + 9_000, hr=9_000))
    first, second = collector.due(T0 + 20_500)
    assert continuous(first) == {"m.hr": "9000"}
    assert (bounds(second), continuous(second)) == ((10_000, 20_000), {"m.hr": "12000"})


def test_values_from_ahead_wait_also_over_several_intervals(device):
    collector = Collector(period=1_000, grace=0, max_clock_offset=LIMIT)
    begin(collector, device)
    for ahead in (1_500, 3_500, 2_500):
        collector.accept(device.values(T0 + 100, T0 + ahead, hr=ahead))
    told = {bounds(interval): continuous(interval) for interval in collector.due(T0 + 10_000)}
    assert told == {
        (1_000, 2_000): {"m.hr": "1500"},
        (2_000, 3_000): {"m.hr": "2500"},
        (3_000, 4_000): {"m.hr": "3500"},
    }


def test_a_clock_that_is_off_is_corrected_by_its_measured_offset(collector, device):
    begin(collector, device)
    collector.accept(device.clock(T0 + 1_000, T0 + 1_000 - 60_000))
    collector.accept(device.values(T0 + 10_100, T0 + 9_900 - 60_000, hr=70))
    collector.accept(device.values(T0 + 10_200, T0 + 10_100 - 60_000, hr=71))
    first, second = collector.due(T0 + 20_500)
    assert (continuous(first), continuous(second)) == ({"m.hr": "70"}, {"m.hr": "71"})
    assert not collector.counters


def test_the_offset_outlives_the_patient(collector, device):
    collector.accept(device.patient(T0, "a"))
    collector.accept(device.clock(T0 + 1_000, T0 + 1_000 - 60_000))
    collector.accept(device.patient(T0 + 2_000, "b"))
    collector.accept(device.values(T0 + 3_000, T0 + 2_900 - 60_000, hr=70))
    (interval,) = collector.due(T0 + 10_500)
    assert interval.continuous["m.hr"].time == T0 + 2_900
    assert not collector.counters


@pytest.mark.parametrize("off", [-400, 400])
def test_a_small_offset_is_taken_for_travelling_time(collector, device, off):
    begin(collector, device)
    collector.accept(device.clock(T0 + 1_000, T0 + 1_000 + off))
    collector.accept(device.values(T0 + 5_000, T0 + 5_000 + off, hr=70))
    (interval,) = collector.due(T0 + 10_500)
    assert interval.continuous["m.hr"].time == T0 + 5_000 + off


@pytest.mark.parametrize("off", [-3_600_000, -LIMIT - 1, LIMIT + 1, 3_600_000])
def test_beyond_the_limit_the_arrival_counts_and_it_is_counted(collector, device, off):
    begin(collector, device)
    collector.accept(device.values(T0 + 6_000, T0 + 6_000 + off, hr=70))
    (interval,) = collector.due(T0 + 10_500)
    assert interval.continuous["m.hr"].time == T0 + 6_000
    assert collector.counters == {"clock-beyond-limit": 1}


def test_a_clock_of_an_old_snapshot_is_no_measure(collector, device):
    before = device.mdib
    device.clock(T0, T0 - 60_000)
    collector.accept(device.again(before, T0 + 1))
    collector.accept(device.values(T0 + 5_000, T0 + 5_000, hr=70))
    (interval,) = collector.due(T0 + 10_500)
    assert interval.continuous["m.hr"].time == T0 + 5_000


def test_intermittent_values_are_each_told_once_in_the_interval_of_their_arrival(collector, device):
    begin(collector, device)
    collector.accept(device.values(T0 + 1_000, T0 + 900, sys=120, dia=80))
    collector.accept(device.values(T0 + 5_000, T0 - 600_000, sys=118))  # determined long ago, received now
    collector.accept(device.values(T0 + 10_100, T0 + 9_900, sys=116))  # in the grace: received in the next
    first, second = collector.due(T0 + 20_500)
    assert intermittent(first) == [("m.sys", "120"), ("m.dia", "80"), ("m.sys", "118")]
    assert intermittent(second) == [("m.sys", "116")]
    assert first.intermittent[2].time == T0 - 600_000
    assert collector.due(T0 + 40_500) == []


def test_what_changes_the_patient_closes_the_interval_and_nothing_is_mixed(collector, device):
    collector.accept(device.snapshot(T0))
    assert collector.accept(device.patient(T0 + 10, "a")) == []
    collector.accept(device.values(T0 + 1_000, T0 + 1_000, hr=70, sys=120))
    (a,) = collector.accept(device.patient(T0 + 2_000, "b"))
    collector.accept(device.values(T0 + 3_000, T0 + 3_000, hr=90))
    (b,) = collector.due(T0 + 10_500)
    assert (bounds(a), continuous(a), intermittent(a)) == ((10, 2_000), {"m.hr": "70"}, [("m.sys", "120")])
    assert (bounds(b), continuous(b), intermittent(b)) == ((2_000, 10_000), {"m.hr": "90"}, [])
    assert (a.association.patient.handle, b.association.patient.handle) == ("pc.a", "pc.b")


def test_when_nobody_may_say_any_more_the_interval_closes_too(collector, device):
    collector.accept(device.patient(T0, "a"))
    collector.accept(device.values(T0 + 1_000, T0 + 1_000, hr=70))
    (interval,) = collector.accept(device.patient(T0 + 2_000, "a", association="Dis"))
    assert interval.association.patient.handle == "pc.a"
    collector.accept(device.values(T0 + 3_000, T0 + 3_000, hr=71))
    (interval,) = collector.due(T0 + 10_500)
    assert interval.association.patient is None


def test_a_change_of_patient_in_the_grace_closes_two_intervals(collector, device):
    collector.accept(device.patient(T0, "a"))
    collector.accept(device.values(T0 + 9_000, T0 + 9_000, hr=70))
    collector.accept(device.values(T0 + 10_200, T0 + 10_100, hr=71))
    closed = collector.accept(device.patient(T0 + 10_300, "b"))
    assert [(bounds(one), continuous(one)) for one in closed] == [
        ((0, 10_000), {"m.hr": "70"}),
        ((10_000, 10_300), {"m.hr": "71"}),
    ]
    assert {one.association.patient.handle for one in closed} == {"pc.a"}


def test_values_ahead_of_a_change_of_patient_stay_the_former_patients(collector, device):
    collector.accept(device.patient(T0, "a"))
    collector.accept(device.values(T0 + 9_000, T0 + 11_000, hr=70))
    (interval,) = collector.accept(device.patient(T0 + 9_500, "b"))
    assert (interval.association.patient.handle, continuous(interval)) == ("pc.a", {"m.hr": "70"})
    assert collector.due(T0 + 30_500) == []


def test_another_location_closes_the_interval_under_the_former_one(collector, device):
    collector.accept(device.patient(T0, "a"))
    collector.accept(device.location(T0, "6"))
    collector.accept(device.values(T0 + 1_000, T0 + 1_000, hr=70))
    (there,) = collector.accept(device.location(T0 + 2_000, "7"))
    collector.accept(device.values(T0 + 3_000, T0 + 3_000, hr=71))
    (here,) = collector.due(T0 + 10_500)
    assert [one.association.location.location_detail.bed for one in (there, here)] == ["6", "7"]
    assert [continuous(one) for one in (there, here)] == [{"m.hr": "70"}, {"m.hr": "71"}]


def test_r8118_another_operating_mode_closes_the_interval(collector, device):
    begin(collector, device)
    collector.accept(device.values(T0 + 1_000, T0 + 1_000, hr=70))
    (demo,) = collector.accept(device.mode(T0 + 2_000, "Nml"))
    collector.accept(device.values(T0 + 3_000, T0 + 3_000, hr=71))
    (normal,) = collector.due(T0 + 10_500)
    assert [one.mdib.states["mds"].operating_mode for one in (demo, normal)] == ["Dmo", "Nml"]
    assert [continuous(one) for one in (demo, normal)] == [{"m.hr": "70"}, {"m.hr": "71"}]


def test_a_value_is_told_by_the_description_under_which_it_came(collector, device):
    begin(collector, device)
    collector.accept(device.values(T0 + 1_000, T0 + 1_000, sys=120))
    former = device.mdib.find("m.sys")
    changed = msgspec.structs.replace(former, descriptor_version=1, unit=CodedValue("266048"))
    (interval,) = collector.accept(device.describe(T0 + 2_000, changed, modification="Upt"))
    assert interval.mdib.find("m.sys") == former
    collector.accept(device.values(T0 + 3_000, T0 + 3_000, dia=80))
    (gone,) = collector.accept(device.describe(T0 + 4_000, device.mdib.find("m.dia"), modification="Del"))
    assert intermittent(gone) == [("m.dia", "80")]
    assert gone.mdib.find("m.dia") is not None


def test_corrected_demographics_are_named(collector, device):
    collector.accept(device.patient(T0, "a", weight="70"))
    collector.accept(device.values(T0 + 1_000, hr=70))
    (first,) = collector.due(T0 + 10_500)
    assert first.corrected == frozenset()
    assert collector.accept(device.patient(T0 + 11_000, "a", weight="71")) == []
    key = MdsKey(device.device, "mds")
    assert collector.corrected(key) == {"weight"}
    for at in (12_000, 22_000):  # from now on, to the end of the association
        collector.accept(device.values(T0 + at, hr=71))
    assert [one.corrected for one in collector.due(T0 + 40_500)] == [{"weight"}, {"weight"}]
    collector.accept(device.patient(T0 + 41_000, "b", weight="50"))
    assert collector.corrected(key) == frozenset()
    assert collector.corrected(MdsKey(device.device, "elsewhere")) == frozenset()


def test_a_demographic_that_is_only_added_is_no_correction(collector, device):
    collector.accept(device.patient(T0, "a"))
    collector.accept(device.patient(T0 + 1, "a", weight="70"))
    assert collector.corrected(MdsKey(device.device, "mds")) == frozenset()
    nameless = device.mdib.contexts["pc.a"]
    bare = msgspec.structs.replace(nameless, state_version=nameless.state_version + 1, core_data=None)
    assert collector.accept(device.report("context", T0 + 2, bare)) == []


@pytest.mark.parametrize("state", ["stale", "lost"])
def test_a_link_that_is_not_live_closes_at_once(collector, device, state):
    begin(collector, device)
    collector.accept(device.values(T0 + 1_000, T0 + 1_000, hr=70, sys=120))
    (interval,) = collector.accept(device.link(state, T0 + 4_000))
    assert (bounds(interval), continuous(interval)) == ((0, 4_000), {"m.hr": "70"})
    assert collector.due(T0 + 60_000) == []
    assert collector.next_due() is None


def test_an_mds_that_is_gone_closes(collector, device):
    device.describe(T0, MdsDescriptor(handle="mds2"))
    begin(collector, device, T0 + 1)
    assert collector.accept(device.values(T0 + 2, hr=70)) == []
    assert collector.accept(device.describe(T0 + 3, MdsDescriptor(handle="mds2"), modification="Del")) == []
    assert len(collector.drain(T0 + 4)) == 1


def test_devices_are_collected_apart(collector, bedside):
    one, other = bedside("urn:uuid:1"), bedside("urn:uuid:2")
    collector.accept(one.values(T0, hr=70))
    collector.accept(other.values(T0, hr=80))
    (lost,) = collector.accept(one.link("lost", T0 + 1_000))
    assert (lost.key.device, continuous(lost)) == ("urn:uuid:1", {"m.hr": "70"})
    (due,) = collector.due(T0 + 10_500)
    assert (due.key.device, continuous(due)) == ("urn:uuid:2", {"m.hr": "80"})


def test_draining_closes_everything_now(collector, device):
    begin(collector, device)
    collector.accept(device.values(T0 + 1_000, T0 + 1_000, hr=70))
    collector.accept(device.values(T0 + 1_100, T0 + 12_000 - LIMIT, hr=71))
    (interval,) = collector.drain(T0 + 2_000)
    assert (bounds(interval), continuous(interval)) == ((0, 2_000), {"m.hr": "71"})
    assert collector.drain(T0 + 3_000) == []
    assert collector.next_due() is None


def test_a_late_tick_still_gives_every_interval(collector, device):
    begin(collector, device)
    for at in (1_000, 11_000, 21_000):
        collector.accept(device.values(T0 + at, T0 + at, hr=at))
    closed = collector.drain(T0 + 25_000)
    assert [bounds(one) for one in closed] == [(0, 10_000), (10_000, 20_000), (20_000, 25_000)]


def test_a_wall_clock_set_back_makes_no_interval_that_ends_before_it_begins(collector, device):
    begin(collector, device)
    collector.accept(device.values(T0 + 1, sys=120))
    (interval,) = collector.drain(T0 - 3_600_000)
    assert bounds(interval) == (0, 0)


def test_a_first_snapshot_tells_intermittent_values_and_no_old_continuous_ones(collector, device):
    device.values(T0 - 900_000, T0 - 900_000, sys=120, hr=60)
    begin(collector, device)
    assert collector.counters == {"replayed-before-interval": 1}
    (interval,) = collector.due(T0 + 10_500)
    assert (continuous(interval), intermittent(interval)) == ({}, [("m.sys", "120")])


def test_a_later_snapshot_tells_intermittent_values_only_if_new(collector, device):
    begin(collector, device)
    seen = device.mdib
    collector.accept(device.values(T0 + 1_000, T0 + 1_000, sys=120))
    device.values(T0 + 2_000, T0 + 2_000, dia=80)  # missed
    collector.accept(device.again(seen, T0 + 3_000))
    assert collector.counters == {"replayed-already-told": 1}
    (interval,) = collector.due(T0 + 10_500)
    assert intermittent(interval) == [("m.sys", "120"), ("m.dia", "80")]


def test_a_snapshot_from_a_clock_far_ahead_does_not_reach_into_later_intervals(collector, device):
    device.values(T0 - 1_000, T0 + 3_600_000, hr=60)
    begin(collector, device)
    (interval,) = collector.due(T0 + 10_500)
    assert (continuous(interval), dict(collector.counters)) == ({"m.hr": "60"}, {"clock-beyond-limit": 1})


def test_at_the_cap_an_interval_closes_early_so_that_nothing_is_dropped(collector, device, monkeypatch):
    monkeypatch.setattr(module, "INTERMITTENT_CAP", 4)
    begin(collector, device)
    collector.accept(device.values(T0 + 1_000, sys=1, dia=1, hr=1))
    (early,) = collector.accept(device.values(T0 + 2_000, sys=2, dia=2))
    collector.accept(device.values(T0 + 3_000, sys=3, hr=3))
    (rest,) = collector.due(T0 + 10_500)
    assert (bounds(early), len(early.intermittent), continuous(early)) == ((0, 2_000), 4, {"m.hr": "1"})
    assert (bounds(rest), intermittent(rest), continuous(rest)) == (
        (2_000, 10_000),
        [("m.sys", "3")],
        {"m.hr": "3"},
    )
    assert collector.counters == {"closed-early": 1}


def test_the_cap_in_the_grace_closes_what_has_ended_first(collector, device, monkeypatch):
    monkeypatch.setattr(module, "INTERMITTENT_CAP", 2)
    begin(collector, device)
    collector.accept(device.values(T0 + 9_000, sys=1))
    closed = collector.accept(device.values(T0 + 10_100, sys=2))
    assert [(bounds(one), intermittent(one)) for one in closed] == [
        ((0, 10_000), [("m.sys", "1")]),
        ((10_000, 10_100), [("m.sys", "2")]),
    ]


def test_the_cap_closes_no_interval_without_a_length(collector, device, monkeypatch):
    monkeypatch.setattr(module, "INTERMITTENT_CAP", 1)
    begin(collector, device)
    assert collector.accept(device.values(T0, sys=1, dia=1)) == []
    assert collector.accept(device.values(T0 + 1, sys=2)) != []


def test_what_has_no_place_in_a_pcd01_is_passed_over(collector, device):
    handle = "m.dist"
    unit = CodedValue("262656")
    descriptor = DistributionSampleArrayMetricDescriptor(
        handle=handle,
        parent="ch",
        unit=unit,
        metric_category="Msrmt",
        metric_availability="Cont",
        resolution=1,
        domain_unit=unit,
        distribution_range=Range(),
    )
    got = SampleArrayValue(quality=Quality("Vld"), samples="1 2")
    begin(collector, device)
    state = DistributionSampleArrayMetricState(descriptor_handle=handle)
    collector.accept(device.describe(T0 + 1, descriptor, state))
    known = device.mdib.states[handle]
    told = msgspec.structs.replace(known, state_version=known.state_version + 1, metric_value=got)
    collector.accept(device.report("metric", T0 + 2, told))
    empty = msgspec.structs.replace(device.mdib.states["m.hr"], state_version=1, metric_value=None)
    collector.accept(device.report("metric", T0 + 3, empty))
    assert collector.drain(T0 + 4) == []


events = st.lists(
    st.tuples(
        st.sampled_from(["hr", "hr", "spo2", "sys", "sys", "patient", "lost", "due", "wait", "resync"]),
        st.integers(0, 1_400),  # ms to the event before
        st.integers(-1_500, 1_500),  # a determination's distance from its arrival
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(events=events)
def test_any_traffic_gives_each_intermittent_value_once_and_the_latest_continuous_ones(bedside, events):
    period, grace = 1_000, 200
    collector = Collector(period=period, grace=grace, max_clock_offset=5_000)
    device = bedside()
    now, epoch, number = T0 + 123, 0, 0
    offered = {}  # value -> (index, epoch, metric, time, arrived)
    closed = []  # (index, epoch, whether all of the epoch is closed by it, interval)
    collector.accept(device.snapshot(now))
    for index, (kind, pause, off) in enumerate(events):
        now += pause
        got, ending = [], False
        if kind in {"hr", "spo2", "sys"}:
            number += 1
            slow = kind != "sys" and -off > period // 2  # a clock that is slow: the arrival counts
            offered[number] = (index, epoch, f"m.{kind}", now if slow else now + off, now)
            got = collector.accept(device.values(now, now + off, **{kind: number}))
        elif kind == "patient":
            got, ending = collector.accept(device.patient(now, str(index))), True
        elif kind == "lost":
            got, ending = collector.accept(device.link("lost", now)), True
        elif kind == "resync":
            got = collector.accept(device.again(device.mdib, now))
        elif kind == "due":
            got = collector.due(now)
        closed += [(index, epoch, ending and one is got[-1], one) for one in got]
        epoch += ending
    got = collector.drain(now + 1)
    closed += [(len(events), epoch, one is got[-1], one) for one in got]

    ends = 0
    covered = set()
    for index, of, last, interval in closed:
        assert ends <= interval.start <= interval.end
        ends = interval.end
        assert interval.end - interval.start <= period
        assert last or interval.end % period == 0
        for handle, told in interval.continuous.items():
            inside = {
                number: time
                for number, (when, whose, name, time, _) in offered.items()
                if when < index
                and whose == of
                and name == handle
                and time >= interval.start
                and (last or time < interval.end)
            }
            assert told.time == max(inside.values())
            assert offered[int(told.state.metric_value.value)][3] == told.time
            covered |= set(inside)
        for told in interval.intermittent:
            number = int(told.state.metric_value.value)
            _, whose, name, time, arrived = offered[number]
            assert number not in covered
            covered.add(number)
            assert (whose, name, time) == (of, "m.sys", told.time)
            assert interval.start <= arrived
            assert arrived < interval.end or (last and arrived <= interval.end)
    late = {number for number, (_, _, name, _, _) in offered.items() if number not in covered}
    assert all(offered[number][2] != "m.sys" for number in late)
    assert len(late) == collector.counters["late"]


def test_what_was_measured_before_the_patient_was_associated_is_told_of_nobody(collector, device):
    device.values(T0 - 900_000, T0 - 900_000, sys=120)  # on whoever was there before
    device.patient(T0 - 60_000, "B", bound=T0 - 60_000)
    begin(collector, device)
    collector.accept(device.values(T0 + 1_000, T0 - 61_000, hr=60))
    collector.accept(device.values(T0 + 2_000, T0 + 2_000, dia=80))
    theirs, nobodys = collector.due(T0 + 10_500)
    assert intermittent(theirs) == [("m.dia", "80")]
    assert theirs.association.patient is not None
    assert (intermittent(nobodys), continuous(nobodys)) == ([("m.sys", "120")], {})
    assert (nobodys.association.patient, nobodys.association.reason) == (None, module.BEFORE_ASSOCIATION)
    assert collector.counters == {"before-association": 1}  # a continuous value that nobody may have is no news


def test_without_a_binding_time_the_moment_it_was_seen_counts(collector, device):
    collector.accept(device.patient(T0, "A", bound=None))
    collector.accept(device.patient(T0 + 5_000, "B", bound=None))
    collector.accept(device.values(T0 + 6_000, T0 + 4_000, sys=120))
    (nobodys,) = collector.due(T0 + 10_500)
    assert (intermittent(nobodys), nobodys.association.patient) == ([("m.sys", "120")], None)


def test_what_an_earlier_life_told_is_not_told_again(device):
    collector = Collector(period=PERIOD, grace=GRACE, max_clock_offset=LIMIT)
    collector.remember({(MdsKey(device.device, "mds"), "m.sys"): T0 - 900_000})
    device.values(T0 - 900_000, T0 - 900_000, sys=120)
    device.values(T0 - 800_000, T0 - 800_000, dia=80)
    begin(collector, device)
    (interval,) = collector.due(T0 + 10_500)
    assert intermittent(interval) == [("m.dia", "80")]


def test_a_setting_made_before_the_patient_was_associated_stays_in_force(collector, device):
    begin(collector, device)
    collector.accept(device.patient(T0 + 500, "B", bound=T0 + 700))
    collector.accept(device.values(T0 + 800, T0 + 600, limit=40, hr=60))
    (interval,) = collector.due(T0 + 10_500)
    assert continuous(interval) == {"m.limit": "40"}
    assert collector.counters == {"before-association": 1}


def test_a_report_that_repeats_a_determination_tells_it_once(collector, device):
    begin(collector, device)
    collector.accept(device.values(T0 + 1_000, T0 + 900, sys=120))
    collector.accept(device.values(T0 + 2_000, T0 + 900, sys=120))
    collector.accept(device.values(T0 + 3_000, T0 + 2_900, sys=120))
    (interval,) = collector.due(T0 + 10_500)
    assert [one.time - T0 for one in interval.intermittent] == [900, 2_900]
    assert collector.counters == {"repeated": 1}
