"""An alert belongs to the patient of its start, and shows only what was measured on that patient (SDPi R8066)."""

from decimal import Decimal

import msgspec
import pytest

from mdib_models.descriptors import MdsDescriptor
from mdib_models.identity import MdibVersionGroup
from mdib_models.mirror import link
from mdib_models.states import RealTimeSampleArrayMetricState
from mdib_models.updates import LinkUpdate, ReportBatch
from tests.mdib_models.alarmed import LATCHED, LOW, QUIET, VALUE, Alarmed, phases
from tests.mdib_models.strategies import SEQUENCE

PRESENT = {"presence": True, "determination_time": 5000}
EVENT = f"low.{SEQUENCE[9:]}.6"


@pytest.fixture
def device():
    device = Alarmed()
    device.hand_over("a")
    return device


@pytest.fixture
def active(device):
    device.change(low=PRESENT)
    return device


def who(told):
    return told.association.patient.handle


def test_an_open_alert_ends_for_the_one_patient_and_starts_for_the_next(active):
    end, start = active.hand_over("b")
    assert [(who(each), each.phase, each.number, each.time) for each in (end, start)] == [
        ("pc.a", "end", 1, active.clock),
        ("pc.b", "start", 0, active.clock),
    ]
    assert (end.id, end.snapshot.state) == (EVENT, "inactive")
    assert start.id == f"{EVENT}.{active.mdib.version.mdib_version}"
    assert active.open[LOW].association == active.whose
    (later,) = active.change(low={"presence": False, "determination_time": 6000})
    assert (later.id, later.phase, who(later)) == (start.id, "end", "pc.b")


def test_to_and_fro_no_id_comes_twice_and_the_same_reports_give_the_same_ids(device):
    def told(one):
        one.change(low=PRESENT)
        return [each.id for handle in "baab" for each in one.hand_over(handle) if each.phase == "start"]

    other = Alarmed()
    other.hand_over("a")
    ids = told(device)
    assert len({EVENT, *ids}) == 4
    assert told(other) == ids


def test_a_state_of_its_own_gives_the_next_patients_alert_the_plain_id(active):
    _, start = active.hand_over("b", low={"determination_time": 5500})
    assert start.id == f"low.{SEQUENCE[9:]}.7"


def test_a_latched_alert_is_reset_and_the_next_patient_is_told_nothing(active):
    active.change(low={"presence": False}, aud=LATCHED)
    (told,) = active.hand_over("b")
    assert (told.phase, who(told), told.time) == ("reset", "pc.a", active.clock)
    assert active.change(aud=QUIET) == ()


def test_an_alert_that_goes_with_its_patient_only_ends(active):
    (told,) = active.hand_over("b", low={"presence": False, "determination_time": 6000}, aud=LATCHED)
    assert (told.phase, who(told), told.time, told.captured) == ("end", "pc.a", active.clock, None)
    assert active.open == {}


def test_after_a_restart_the_saved_patient_is_compared(active):
    active.whose = Alarmed().whose
    end, start = active.reconnect("urn:uuid:77")
    assert [(each.phase, each.association.patient is None) for each in (end, start)] == [
        ("end", False),
        ("start", True),
    ]
    assert start.id == "low.77.6"
    assert phases(active.reconnect("urn:uuid:77")) == [("continue", "active")]


def test_a_correction_of_the_same_patient_goes_on_with_what_is_known_now(active):
    corrected = msgspec.structs.replace(active.whose.patient, state_version=9)
    active.whose = msgspec.structs.replace(active.whose, patient=corrected, since=50)
    (told,) = active.reconnect()
    assert (told.phase, told.association.patient.state_version, told.association.since) == ("continue", 9, 0)


def test_where_nothing_is_said_of_the_mds_nothing_changes_hands(active):
    open_alerts = active.open
    batch = link(active.mdib, LinkUpdate("connecting", "start"), 1)
    active.whose = msgspec.structs.replace(active.whose)
    assert active.evaluate(batch) == ()
    assert active.open == open_alerts


def test_a_condition_of_an_mds_that_is_gone_ends_for_its_patient(active):
    whose = active.whose
    active.hand_over("a")
    (told,) = active.delete("mds0")
    assert (told.phase, told.association) == ("end", whose)


def test_r8066_the_value_of_the_moment_is_captured(active):
    (told,) = active.reconnect()
    assert told.captured == active.mdib.states["spo2"]
    value = msgspec.structs.replace(VALUE, value=Decimal(99))
    active.report(states=(active._changed("spo2", {"metric_value": value}),))
    assert told.captured.metric_value.value == 86


@pytest.mark.parametrize(("since", "captured"), [(4900, True), (4901, False)])
def test_r8066_what_was_measured_on_somebody_else_is_not_captured(device, since, captured):
    (told,) = device.hand_over("b", since, low=PRESENT)
    assert (told.captured is not None) == captured


def test_the_old_alert_does_not_capture_what_the_new_patient_is_measured(active):
    end, start = active.hand_over("b", 4900)
    assert end.captured is None
    assert start.captured == active.mdib.states["spo2"]


def test_a_source_without_one_value_or_in_another_mds_is_not_captured(device):
    mdib = device.mdib
    waves = {**mdib.states, "spo2": RealTimeSampleArrayMetricState(descriptor_handle="spo2")}
    low = msgspec.structs.replace(waves["low"], presence=True)
    metric = msgspec.structs.replace(mdib.descriptors["spo2"], parent="mds1")
    elsewhere = {**mdib.descriptors, "mds1": MdsDescriptor(handle="mds1"), "spo2": metric}
    valueless = msgspec.structs.replace(mdib.states["spo2"], metric_value=None)
    for changed, expected in (
        ({"states": {**waves, "low": low}}, None),
        ({"states": {**mdib.states, "low": low}, "descriptors": elsewhere}, None),
        ({"states": {**mdib.states, "low": low, "spo2": valueless}}, valueless),
    ):
        after = msgspec.structs.replace(mdib, version=MdibVersionGroup(SEQUENCE, 50), **changed)
        batch = ReportBatch(device=LOW.device, before=after, after=after, updates=(), arrived=1, replayed=True)
        device.open = {}
        (told,) = device.evaluate(batch)
        assert told.captured == expected
