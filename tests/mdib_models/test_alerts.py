"""The table of phases (SDPi R8050 to R8079 as read in `hl7v2_mapping` 7.3), row by row, with ids and times."""

from decimal import Decimal

import msgspec
import pytest

from mdib_models.alerts import AlertOccurrence, OpenAlert, take_snapshot
from mdib_models.coding import CodedValue, Range
from mdib_models.descriptors import AlertConditionDescriptor, AlertSignalDescriptor
from mdib_models.identity import MdibVersionGroup
from mdib_models.mirror import fold, link
from mdib_models.states import AlertConditionState, AlertSignalState
from mdib_models.updates import (
    AlertUpdate,
    Association,
    DescriptionPart,
    GapUpdate,
    LinkUpdate,
    Report,
    ReportBatch,
)
from tests.mdib_models.alarmed import ACKNOWLEDGED, LATCHED, LEADS, LOW, QUIET, SOUNDING, Alarmed, phases
from tests.mdib_models.strategies import SEQUENCE

PRESENT = {"presence": True, "determination_time": 5000}
GONE = {"presence": False, "determination_time": 6000}
AGAIN = {"presence": True, "determination_time": 7000}


@pytest.fixture
def quiet():
    return Alarmed()


@pytest.fixture
def active(quiet):
    quiet.change(low=PRESENT, aud=SOUNDING, vis=SOUNDING)
    return quiet


@pytest.fixture
def latched(active):
    active.change(low=GONE, aud=LATCHED, vis=LATCHED)
    return active


def test_p_false_to_true_starts(quiet):
    (told,) = quiet.change(low=PRESENT, aud=SOUNDING, vis=SOUNDING)
    assert (told.phase, told.snapshot.state, told.number, told.closes) == ("start", "active", 0, False)
    assert told.key == LOW
    assert quiet.open == {LOW: OpenAlert(told.id, LOW, told.onset, told.snapshot, quiet.whose, 0)}


def test_active_to_gone_without_a_latched_signal_ends(active):
    assert phases(active.change(low=GONE, aud=QUIET, vis=QUIET)) == [("end", "inactive")]
    assert active.last.occurrences[0].closes
    assert active.open == {}


def test_active_to_gone_with_a_latched_signal_is_an_update_and_stays_open(active):
    assert phases(active.change(low=GONE, aud=LATCHED, vis=QUIET)) == [("update", "latched")]
    assert {*active.open} == {LOW}


@pytest.mark.parametrize(
    "signal",
    [QUIET, ACKNOWLEDGED, {"activation_state": "Off"}, {"activation_state": "Psd"}, {"location": "Rem"}],
)
def test_latched_to_no_latched_signal_resets(latched, signal):
    assert phases(latched.change(aud=signal, vis=signal)) == [("reset", "inactive")]
    assert latched.open == {}


def test_one_latched_signal_of_two_keeps_the_alert_open(latched):
    assert latched.change(aud=QUIET) == ()
    assert {*latched.open} == {LOW}
    assert phases(latched.change(vis=QUIET)) == [("reset", "inactive")]


def test_a_latched_signal_that_is_deleted_or_signals_something_else_resets(latched):
    assert latched.delete("aud") == ()
    assert phases(latched.describe(vis={"condition_signaled": "leads"})) == [("reset", "inactive")]
    assert latched.open == {}


def test_a_signal_without_a_condition_touches_none(latched):
    assert latched.describe(tec={"condition_signaled": None}) == ()
    assert latched.change(tec=LATCHED) == ()
    assert phases(latched.describe(aud={"condition_signaled": None}, vis={"condition_signaled": None})) == [
        ("reset", "inactive")
    ]


@pytest.mark.parametrize(("was", "state"), [("active", "active"), ("latched", "latched")])
@pytest.mark.parametrize(("priority", "phase"), [("Hi", "escalate"), ("Lo", "deescalate")])
def test_r8075_only_the_priority_rose_or_fell(request, was, state, priority, phase):
    device = request.getfixturevalue(was)
    (told,) = device.change(low={"actual_priority": priority})
    assert (told.phase, told.snapshot.state, told.snapshot.priority) == (phase, state, priority)
    assert {*device.open} == {LOW}


def test_r8074_the_actual_priority_counts_before_the_descriptors(active):
    assert active.open[LOW].snapshot.priority == "Me"
    assert phases(active.change(low={"actual_priority": "Me"})) == []
    assert phases(active.describe(low={"priority": "Hi"})) == []
    assert phases(active.change(low={"actual_priority": None})) == [("escalate", "active")]
    assert phases(active.describe(low={"priority": "Lo"})) == [("deescalate", "active")]


@pytest.mark.parametrize("other", [{"limits": Range(lower=Decimal("90.00001"))}, {"monitored_alert_limits": "LoOff"}])
def test_r8077_r8078_the_priority_and_anything_else_is_an_update(active, other):
    assert phases(active.change(low={"actual_priority": "Hi", **other})) == [("update", "active")]


def test_r8078_a_priority_to_or_from_none_changes_the_type_too_and_is_an_update(active):
    (told,) = active.change(low={"actual_priority": "None"})
    assert (told.phase, told.snapshot.priority, told.snapshot.type) == ("update", "None", "SA")
    (told,) = active.change(low={"actual_priority": "Hi"})
    assert (told.phase, told.snapshot.priority, told.snapshot.type) == ("update", "Hi", "SP")


@pytest.mark.parametrize(
    ("handle", "fields"),
    [
        ("aud", {"activation_state": "Psd"}),
        ("vis", ACKNOWLEDGED),
        ("low", {"limits": Range(lower=Decimal(88))}),
        ("low", {"monitored_alert_limits": "None"}),
    ],
)
def test_any_other_reportable_change_is_an_update(active, handle, fields):
    assert phases(active.change(**{handle: fields})) == [("update", "active")]


@pytest.mark.parametrize("kind", ["Phy", "Tec", "Oth"])
def test_r8078_a_priority_to_or_from_none_is_an_update_of_every_kind(quiet, kind):
    quiet.describe(low={"kind": kind})
    quiet.change(low=PRESENT)
    assert phases(quiet.change(low={"actual_priority": "None"})) == [("update", "active")]
    assert phases(quiet.change(low={"actual_priority": "Hi"})) == [("update", "active")]
    assert phases(quiet.change(low={"actual_priority": "Lo"})) == [("deescalate", "active")]


def test_a_change_of_source_is_an_update(active):
    (told,) = active.describe(low={"source": ("vmd0",)})
    assert (told.phase, told.snapshot.source, told.captured) == ("update", ("vmd0",), None)


def test_a_change_of_code_or_text_is_an_update(active):
    assert phases(active.describe(low={"type": CodedValue("196648")})) == [("update", "active")]
    assert phases(active.describe(low={"kind": "Tec"})) == [("update", "active")]


@pytest.mark.parametrize(
    ("handle", "fields"),
    [
        ("low", {"rank": 3}),
        ("low", {"actual_condition_generation_delay": 2.0}),
        ("aud", {"slot": 1}),
        ("as0", {"self_check_count": 4}),
        ("mds0", {"operating_mode": "Dmo"}),
    ],
)
def test_what_no_receiver_is_told_of_tells_nothing(active, handle, fields):
    before = dict(active.open)
    assert active.change(**{handle: fields}) == ()
    assert active.open == before


def test_latched_to_present_again_resets_the_old_and_starts_a_new_one(latched):
    old = latched.open[LOW].id
    told = latched.change(low=AGAIN, aud=SOUNDING, vis=SOUNDING)
    assert phases(told) == [("reset", "inactive"), ("start", "active")]
    assert [(each.id == old, each.number, each.onset) for each in told] == [(True, 2, 5000), (False, 0, 7000)]
    assert latched.open[LOW].id == told[1].id


def test_r8072_inactive_is_told_only_when_an_alert_is_left(quiet):
    assert quiet.change(low={"actual_priority": "Hi"}) == ()
    assert quiet.change(aud=ACKNOWLEDGED) == ()
    assert quiet.change(aud=LATCHED) == ()  # latched, and never seen present
    assert quiet.last.latched_at_connect == ()
    assert quiet.open == {}


@pytest.mark.parametrize("activation", ["Off", "Psd"])
def test_a_condition_that_is_not_on_is_never_present(quiet, activation):
    assert quiet.change(low={**PRESENT, "activation_state": activation}) == ()
    assert phases(quiet.change(low={"activation_state": "On"})) == [("start", "active")]


@pytest.mark.parametrize("activation", ["Off", "Psd"])
def test_an_open_alert_whose_condition_is_switched_off_is_closed(active, activation):
    assert phases(active.change(low={"activation_state": activation}, aud=LATCHED)) == [("update", "latched")]
    assert phases(active.change(aud=QUIET)) == [("reset", "inactive")]
    active.change(low={"activation_state": "On"}, aud=SOUNDING)
    assert phases(active.change(low={"activation_state": activation})) == [("end", "inactive")]


def test_remote_signals_do_not_count(quiet):
    quiet.change(aud={"location": "Rem"}, vis={"location": "Rem"})
    quiet.change(low=PRESENT)
    assert quiet.open[LOW].snapshot.inactivation == ("enabled",)  # nor do they silence anything
    assert quiet.change(aud=ACKNOWLEDGED) == ()
    assert phases(quiet.change(low=GONE, aud=LATCHED)) == [("end", "inactive")]


def test_signals_of_other_conditions_do_not_count(active):
    assert active.change(tec=LATCHED) == ()
    assert phases(active.change(low=GONE, aud=QUIET, vis=QUIET)) == [("end", "inactive")]


def test_r8076_r8079_the_type_follows_kind_and_priority(quiet):
    types = {}
    for kind in ("Phy", "Tec", "Oth"):
        quiet.describe(low={"kind": kind})
        for priority in ("None", "Lo"):
            quiet.change(low={"actual_priority": priority})
            types[kind, priority] = take_snapshot(quiet.mdib, "low").type
    assert types == {
        ("Phy", "None"): "SA",
        ("Phy", "Lo"): "SP",
        ("Tec", "None"): "SA",
        ("Tec", "Lo"): "ST",
        ("Oth", "None"): "SA",
        ("Oth", "Lo"): "SA",
    }


def test_several_conditions_of_a_report_are_told_in_the_order_of_the_mdib(quiet):
    told = quiet.change(leads=PRESENT, tec=SOUNDING, low=PRESENT)
    assert [each.key for each in told] == [LOW, LEADS]
    assert {*quiet.open} == {LOW, LEADS}


def test_gone_conditions_are_told_first(quiet):
    quiet.change(leads=PRESENT)
    removed = [DescriptionPart("Del", (quiet.mdib.find(handle),)) for handle in ("tec", "leads")]
    told = quiet.report(description=tuple(removed), states=(quiet._changed("low", PRESENT),))
    assert [(each.key, each.phase) for each in told] == [(LEADS, "end"), (LOW, "start")]


@pytest.mark.parametrize(("was", "phase"), [("active", "end"), ("latched", "reset")])
@pytest.mark.parametrize("gone", ["low", "as0", "mds0"])
def test_a_condition_deleted_from_the_mdib_is_closed(request, was, phase, gone):
    device = request.getfixturevalue(was)
    device.change(aud=ACKNOWLEDGED)
    (told,) = device.delete(gone)
    assert (told.phase, told.snapshot.state, told.time) == (phase, "inactive", device.clock)
    assert told.snapshot.inactivation == ("enabled",)
    assert (told.id, told.key, told.onset) == (f"low.{SEQUENCE[9:]}.6", LOW, 5000)
    assert device.open == {}


def test_a_condition_that_is_created_present_starts(quiet):
    quiet.delete("low")
    descriptor = AlertConditionDescriptor(handle="new", parent="as0", kind="Phy", priority="Hi")
    state = AlertConditionState(descriptor_handle="new", activation_state="On", presence=True)
    (told,) = quiet.report(description=(DescriptionPart("Crt", (descriptor,), (state,)),))
    assert (told.phase, told.key.condition, told.key.mds, told.snapshot.limits) == ("start", "new", "mds0", None)


def test_a_condition_without_a_state_is_no_alert(quiet):
    descriptor = AlertConditionDescriptor(handle="new", parent="as0", kind="Phy", priority="Hi")
    signal = AlertSignalDescriptor(
        handle="beep", parent="as0", condition_signaled="new", manifestation="Aud", latching=False
    )
    sounding = AlertSignalState(descriptor_handle="beep", activation_state="On", presence="Latch")
    parts = DescriptionPart("Crt", (descriptor,)), DescriptionPart("Crt", (signal,), (sounding,))
    assert quiet.report(description=parts) == ()
    assert take_snapshot(quiet.mdib, "new") is None
    assert take_snapshot(quiet.mdib, "aud") is None
    assert take_snapshot(quiet.mdib, "nowhere") is None


def test_a_signal_of_a_condition_that_is_not_there_is_no_alert(quiet):
    quiet.describe(aud={"condition_signaled": "nowhere"})
    assert quiet.change(aud=LATCHED) == ()


def test_a_report_of_something_else_tells_nothing(active):
    assert active.evaluate(link(active.mdib, LinkUpdate("stale", "silence"), 1)) == ()
    assert {*active.open} == {LOW}


def test_r8051_the_event_id_is_handle_sequence_and_state_version(quiet):
    (told,) = quiet.change(low=PRESENT)
    assert told.id == f"low.{SEQUENCE.removeprefix('urn:uuid:')}.6"


def test_r8051_a_sequence_that_is_no_uuid_is_printed_as_it_is(quiet):
    (told,) = quiet.reconnect("urn:oid:1.2.3", low=PRESENT)
    assert told.id == "low.urn:oid:1.2.3.6"


def test_the_id_stays_through_all_phases_and_numbers_count_on(quiet):
    told = [
        *quiet.change(low=PRESENT, aud=SOUNDING, vis=SOUNDING),
        *quiet.change(low={"actual_priority": "Hi"}),
        *quiet.change(low={"actual_priority": "Lo"}),
        *quiet.change(aud=ACKNOWLEDGED),
        *quiet.reconnect(),
        *quiet.change(low=GONE, vis=LATCHED),
        *quiet.reconnect("urn:uuid:another"),
        *quiet.change(vis=QUIET),
    ]
    assert [each.phase for each in told] == [
        "start", "escalate", "deescalate", "update", "continue", "update", "continue", "reset",
    ]  # fmt: skip
    assert {each.id for each in told} == {told[0].id}
    assert {each.onset for each in told} == {5000}
    assert [each.number for each in told] == [*range(8)]
    assert quiet.open == {}


def test_r8062_start_and_end_have_the_devices_time(quiet):
    (start,) = quiet.change(low=PRESENT)
    (end,) = quiet.change(low=GONE)
    assert (start.time, start.onset) == (5000, 5000)
    assert (end.time, end.onset) == (6000, 5000)


@pytest.mark.parametrize("determined", [5000, 4000])
def test_r8062_a_live_end_has_the_time_of_arrival_where_the_devices_is_not_newer(active, determined):
    (told,) = active.change(low={"presence": False, "determination_time": determined}, aud=QUIET, vis=QUIET)
    assert (told.phase, told.time) == ("end", active.clock)


def test_r8062_a_condition_that_is_switched_off_ends_when_that_arrives_and_not_at_its_onset(active):
    (told,) = active.change(low={"activation_state": "Off"}, aud=QUIET, vis=QUIET)
    assert (told.phase, told.time, told.onset) == ("end", active.clock, 5000)


def test_another_determination_time_alone_is_no_new_occurrence_while_all_is_seen(active):
    old = active.open[LOW].id
    assert active.change(low={"determination_time": 5500}) == ()
    assert active.open[LOW].id == old


def skipping(device, **changes):
    """A report after one that was not seen: the gap was tolerated."""
    state = device._changed("low", changes)
    state = msgspec.structs.replace(state, state_version=state.state_version + 1)
    after = msgspec.structs.replace(
        device.mdib,
        version=MdibVersionGroup(SEQUENCE, device.mdib.version.mdib_version + 2),
        states={**device.mdib.states, "low": state},
    )
    updates = (AlertUpdate("mds0", state),)
    device.clock += 1000
    return device.evaluate(
        ReportBatch(device=LOW.device, before=device.mdib, after=after, updates=updates, arrived=device.clock)
    )


def test_a_tolerated_gap_with_another_determination_time_missed_an_end_and_a_start(active):
    old = active.open[LOW].id
    end, start = skipping(active, **AGAIN)
    assert (end.id, end.phase, end.time) == (old, "end", active.clock)
    assert (start.phase, start.time, start.number) == ("start", 7000, 0)
    assert start.id == f"low.{SEQUENCE[9:]}.8"
    assert skipping(active, determination_time=7000) == ()


def test_r8062_the_update_to_latched_has_the_devices_time(active):
    (told,) = active.change(low=GONE, aud=LATCHED)
    assert (told.phase, told.time) == ("update", 6000)


@pytest.mark.parametrize("fields", [{"actual_priority": "Hi"}, {"actual_priority": "Lo"}, {"limits": Range()}])
def test_r8062_other_changes_have_the_time_of_arrival(active, fields):
    (told,) = active.change(low=fields)
    assert told.time == active.clock


def test_r8062_reset_and_continue_have_the_time_of_arrival(latched):
    (told,) = latched.reconnect()
    assert (told.phase, told.time) == ("continue", latched.clock)
    reset, start = latched.change(low=AGAIN)
    assert (reset.phase, reset.time) == ("reset", latched.clock)
    assert (start.phase, start.time) == ("start", 7000)


def test_r8062_without_a_determination_time_the_arrival_counts(quiet):
    (start,) = quiet.change(low={"presence": True})
    assert (start.time, start.onset) == (quiet.clock, quiet.clock)
    (end,) = quiet.change(low={"presence": False})
    assert (end.time, end.onset) == (quiet.clock, start.onset)


def test_which_phases_close():
    told = {"start": False, "continue": False, "update": False, "escalate": False, "deescalate": False}
    told |= {"end": True, "reset": True}
    snapshot = take_snapshot(Alarmed().mdib, "low")
    for phase, closes in told.items():
        each = AlertOccurrence(
            id="i", key=LOW, phase=phase, number=1, time=1, onset=1, snapshot=snapshot, association=Association()
        )
        assert each.closes is closes


# The second table: the first MDIB after a (re)connect


def test_connect_unknown_and_present_starts(quiet):
    (told,) = quiet.reconnect("urn:uuid:77", low=PRESENT)
    assert (told.phase, told.id, told.time) == ("start", "low.77.6", 5000)


def test_connect_unknown_and_latched_is_not_told_but_noted(quiet):
    assert quiet.reconnect(aud=LATCHED) == ()
    assert quiet.last.latched_at_connect == (LOW,)
    assert quiet.open == {}


def test_connect_unknown_and_not_present_tells_nothing(quiet):
    assert quiet.reconnect() == ()
    assert quiet.last.latched_at_connect == ()


def test_connect_active_and_unchanged_continues(active):
    (told,) = active.reconnect()
    assert (told.phase, told.snapshot.state, told.number) == ("continue", "active", 1)


@pytest.mark.parametrize(
    ("fields", "phase"),
    [
        ({"actual_priority": "Hi"}, "escalate"),
        ({"actual_priority": "Lo"}, "deescalate"),
        ({"actual_priority": "None"}, "update"),
        ({"limits": Range(lower=Decimal(80))}, "update"),
    ],
)
def test_connect_active_and_changed_is_the_phase_of_the_first_table(active, fields, phase):
    assert phases(active.reconnect(low=fields)) == [(phase, "active")]


def test_connect_active_with_another_determination_time_missed_an_end_and_a_start(active):
    active.change(aud={"activation_state": "Psd"})
    old = active.open[LOW].id
    end, start = active.reconnect(low=AGAIN)
    assert (end.id, end.phase, end.snapshot.state, end.time) == (old, "end", "inactive", active.clock)
    assert end.snapshot.inactivation == ("enabled",)  # R8073: no word for a pause without a present condition
    assert (start.phase, start.number, start.time, start.snapshot.inactivation) == ("start", 0, 7000, ("audio-paused",))
    assert start.id != old
    assert active.open[LOW].id == start.id


def test_connect_latched_and_present_resets_and_starts(latched):
    reset, start = latched.reconnect(low=AGAIN)
    assert (reset.phase, reset.time, reset.snapshot.state) == ("reset", latched.clock, "inactive")
    assert (start.phase, start.time) == ("start", 7000)
    assert start.id != reset.id


def test_connect_active_and_now_latched_is_an_update_and_stays_open(active):
    assert phases(active.reconnect(low=GONE, aud=LATCHED)) == [("update", "latched")]
    assert {*active.open} == {LOW}


def test_connect_latched_and_unchanged_continues(latched):
    assert phases(latched.reconnect()) == [("continue", "latched")]
    assert {*latched.open} == {LOW}


@pytest.mark.parametrize(("determined", "newer"), [(6000, True), (5000, False), (4000, False), (None, False)])
def test_connect_active_and_now_inactive_ends_at_the_devices_time_if_newer(active, determined, newer):
    fields = {"presence": False, "determination_time": determined}
    (told,) = active.reconnect(low=fields, aud=QUIET, vis=QUIET)
    assert (told.phase, told.time) == ("end", determined if newer else active.clock)
    assert active.open == {}


def test_connect_latched_and_now_inactive_resets(latched):
    (told,) = latched.reconnect(aud=QUIET, vis=QUIET)
    assert (told.phase, told.time) == ("reset", latched.clock)
    assert latched.open == {}


@pytest.mark.parametrize(("was", "phase"), [("active", "end"), ("latched", "reset")])
def test_connect_closes_what_is_gone(request, was, phase):
    device = request.getfixturevalue(was)
    assert phases(device.reconnect("urn:uuid:new", without="low")) == [(phase, "inactive")]
    assert device.open == {}


def test_connect_closes_what_is_no_longer_a_condition(active):
    stranger = AlertSignalDescriptor(handle="low", parent="as0", manifestation="Aud", latching=False)
    after = msgspec.structs.replace(active.mdib, descriptors={**active.mdib.descriptors, "low": stranger})
    batch = ReportBatch(device=LOW.device, before=active.mdib, after=after, updates=(), arrived=9, replayed=True)
    assert phases(active.evaluate(batch)) == [("end", "inactive")]


def test_a_gap_makes_every_condition_be_looked_at(active):
    version = MdibVersionGroup(SEQUENCE, 9)
    report = Report(kind="alert", version=version, arrived=9, states=(active._changed("low", GONE),))
    batch = fold(active.mdib, report).batch
    gap = msgspec.structs.replace(batch, updates=(GapUpdate("merged"),))
    assert phases(active.evaluate(gap)) == [("end", "inactive")]
