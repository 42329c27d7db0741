from decimal import Decimal
from pathlib import Path

import hl7
import msgspec
import pytest

from mdib_models.alerts import AlertKey, AlertOccurrence, AlertSnapshot
from mdib_models.coding import CodedValue, Range
from mdib_models.descriptors import MdsDescriptor
from mdib_models.states import MdsState
from mdib_models.updates import Association
from sdc_node.hl7.checks import check
from sdc_node.hl7.message import parse
from sdc_node.sinks.hl7v2.render import render_pcd04

DATA = Path(__file__).parents[2] / "hl7/data"
ONSET = 1772446580000  # 2026-03-02T10:16:20Z


def replace(struct, **changes):
    return msgspec.structs.replace(struct, **changes)


def lines_of(body):
    lines = body.decode().split("\r")
    assert lines[-1] == ""
    return lines[:-1]


def expected(name):
    """A worked example with trailing blanks cut off, as the file writes each segment."""
    return (DATA / f"{name}.hl7").read_text().splitlines()


@pytest.fixture
def occurrence(mdib, association):
    snapshot = AlertSnapshot(
        present=True,
        latched=False,
        priority="Me",
        kind="Phy",
        type="SP",
        inactivation=("enabled",),
        code=mdib.find("ac.spo2.lo").type,
        limits=mdib.states["ac.spo2.lo"].limits,
        monitored_limits="All",
        source=("m.spo2",),
        determination_time=ONSET,
    )
    return AlertOccurrence(
        id="ac.spo2.lo.ae3170b5-4fd7-43b5-94c6-71b933342ffe.45",
        key=AlertKey(mdib.device, "mds0", "ac.spo2.lo"),
        phase="start",
        number=0,
        time=ONSET,
        onset=ONSET,
        snapshot=snapshot,
        association=association,
        captured=mdib.states["m.spo2"],
    )


@pytest.fixture
def technical(occurrence, mdib):
    descriptor = mdib.find("ac.ecg.leadoff")
    snapshot = replace(
        occurrence.snapshot,
        kind="Tec",
        type="ST",
        priority="Lo",
        code=descriptor.type,
        source=descriptor.source,
        limits=None,
    )
    return replace(
        occurrence,
        id="ac.ecg.leadoff.ae3170b5-4fd7-43b5-94c6-71b933342ffe.12",
        key=replace(occurrence.key, condition="ac.ecg.leadoff"),
        time=1772446631950,
        snapshot=snapshot,
    )


@pytest.fixture
def alert_stamps(stamps):
    return replace(
        stamps,
        control_id="SDCGW-20260302-000121",
        built=ONSET + 410,
        message_id="bd3170b6-4fd7-43b5-94c6-71b935642fac",
    )


def about(occurrence, *source, captured=None):
    """The occurrence with other sources."""
    return replace(occurrence, snapshot=replace(occurrence.snapshot, source=source), captured=captured)


def without(mdib, *handles):
    return replace(mdib, descriptors={h: d for h, d in mdib.descriptors.items() if h not in handles})


def facets(body):
    """(OBX-2, OBX-3.1, OBX-5 escaped) of each facet."""
    found = [row for row in parse(body).all("OBX") if row.value(4).count(".") == 4]
    return [(row.value(2), row.value(3), row.field(5)) for row in found]


def test_worked_example_of_section_11_1(occurrence, mdib, alert_stamps):
    assert lines_of(render_pcd04(occurrence, mdib, alert_stamps)) == expected("pcd04_start")


def test_worked_example_of_section_11_3(technical, mdib, stamps):
    stamps = replace(
        stamps,
        control_id="SDCGW-20260302-000131",
        built=1772446632300,
        gateway=replace(stamps.gateway, patient_class="U"),
    )
    technical = replace(technical, association=replace(technical.association, patient=None))
    body = render_pcd04(technical, mdib, stamps)
    assert lines_of(body) == expected("pcd04_technical")


def test_r8053_later_messages_have_their_own_id_and_name_the_event(occurrence, mdib, alert_stamps):
    later = replace(
        occurrence,
        phase="update",
        number=1,
        snapshot=replace(occurrence.snapshot, inactivation=("audio-paused",)),
    )
    stamps = replace(alert_stamps, built=1772446588015)
    body = render_pcd04(later, mdib, stamps)
    request = next(line for line in lines_of(body) if line.startswith("OBR"))
    assert request == (
        "OBR|1|ACDE48234567ABCD^SDC_GW^ACDE48234567ABCD^EUI-64|bd3170b6-4fd7-43b5-94c6-71b935642fac^^"
        "9c057bb4-8d83-4fc1-9ad1-832ad543e2b2^UUID|196616^MDC_EVT_ALARM^MDC|||20260302101628.015+0000|||||||||"
        "|||||||||||||^ac.spo2.lo.ae3170b5-4fd7-43b5-94c6-71b933342ffe.45&&"
        "9c057bb4-8d83-4fc1-9ad1-832ad543e2b2&UUID"
    )
    assert facets(body)[2:5] == [
        ("ST", "68481", "update"),
        ("ST", "68482", "active"),
        ("ST", "68483", "audio-paused"),
    ]
    assert check(parse(body)) == []


@pytest.mark.parametrize("phase", ["continue", "end", "update", "escalate", "deescalate", "reset"])
def test_r8070_every_later_phase_is_read_back(occurrence, mdib, alert_stamps, phase):
    latched = phase == "update"
    snapshot = replace(occurrence.snapshot, present=phase not in {"end", "update", "reset"}, latched=latched)
    later = replace(occurrence, phase=phase, number=3, snapshot=snapshot)
    body = render_pcd04(later, mdib, alert_stamps)
    assert check(parse(body)) == []
    read = hl7.parse(body.decode())
    values = [str(row[5]) for row in read.segments("OBX") if str(row[4]).count(".") == 4]
    assert values[2] == phase
    assert values[3] == {"end": "inactive", "reset": "inactive", "update": "latched"}.get(phase, "active")


@pytest.mark.parametrize(
    ("priority", "kind", "code", "type_"),
    [("Hi", "Phy", "PH", "SP"), ("None", "Phy", "PN", "SA"), ("Hi", "Oth", "PH", "SA")],
)
def test_r8074_r8079_priority_and_type(occurrence, mdib, alert_stamps, priority, kind, code, type_):
    snapshot = replace(occurrence.snapshot, priority=priority, kind=kind, type=type_)
    body = render_pcd04(replace(occurrence, snapshot=snapshot), mdib, alert_stamps)
    assert [value for _, _, value in facets(body)[5:]] == [code, type_]
    assert check(parse(body)) == []


def test_r8073_several_inactivation_states_repeat(occurrence, mdib, alert_stamps):
    snapshot = replace(occurrence.snapshot, inactivation=("audio-off", "alert-acknowledged"))
    body = render_pcd04(replace(occurrence, snapshot=snapshot), mdib, alert_stamps)
    assert facets(body)[4][2] == "audio-off~alert-acknowledged"


def test_r8066_an_invalid_value_is_not_shown(occurrence, mdib, alert_stamps):
    state = mdib.states["m.spo2"]
    questionable = replace(
        state,
        metric_value=replace(
            state.metric_value, quality=msgspec.structs.replace(state.metric_value.quality, validity="Qst")
        ),
    )
    body = render_pcd04(replace(occurrence, captured=questionable), mdib, alert_stamps)
    assert facets(body)[1] == ("NM", "150456", "")
    row = next(row for row in parse(body).all("OBX") if row.value(4).endswith(".1.1.1.2"))
    assert row.field(6) == ""
    assert check(parse(body)) == []


@pytest.mark.parametrize(
    ("source", "value_type", "code"),
    [("m.pleth", "NM", "150452"), ("m.mode", "CWE", "67108875"), ("m.note", "ST", "68080")],
)
def test_r8059_a_source_without_a_value_keeps_its_type(occurrence, mdib, stamps, source, value_type, code):
    parent = mdib.find(source).parent
    numbers = stamps.numbers | {(parent, source): 9}
    body = render_pcd04(about(occurrence, source), mdib, replace(stamps, numbers=numbers))
    assert facets(body)[1] == (value_type, code, "")
    assert check(parse(body)) == []


def test_intermittent_source_shows_its_time(occurrence, mdib, alert_stamps, interval):
    told = about(occurrence, "m.sys", captured=interval.intermittent[1].state)
    body = render_pcd04(told, mdib, alert_stamps)
    row = next(row for row in parse(body).all("OBX") if row.value(4) == "1.2.1.1.2")
    assert (row.value(5), row.value(11), row.value(14)) == ("124", "R", "20260302101541.250+0000")


def test_first_metric_among_sources_counts_for_physiological(occurrence, mdib, alert_stamps):
    body = render_pcd04(about(occurrence, "no such", "vmd.spo2", "m.pr"), mdib, alert_stamps)
    assert facets(body)[1] == ("NM", "149530", "")


def test_r8060_technical_source_is_told_by_its_type(technical, mdib, stamps):
    body = render_pcd04(about(technical, "ch.nibp"), mdib, stamps)
    found = parse(body).all("OBX")
    assert [row.value(4) for row in found[:4]] == ["1.0.0.0", "1.0.0.3", "1.2.0.0", "1.2.1.0"]
    assert found[4].value(4) == "1.2.1.0.1"
    assert facets(body)[1] == ("CWE", "68480", "70687^MDC_DEV_PRESS_BLD_NONINV_CHAN^MDC")
    assert check(parse(body)) == []


def test_physiological_without_a_metric_has_the_technical_source(occurrence, mdib, alert_stamps):
    body = render_pcd04(about(occurrence), mdib, alert_stamps)
    assert facets(body)[0][:2] == ("ST", "196670")
    assert facets(body)[1] == ("CWE", "68480", "69642^MDC_DEV_ANALY_SAT_O2_VMD^MDC")
    assert parse(body).all("OBX")[-1].value(4) == "1.1.0.0.7"


def test_condition_that_is_gone_without_a_source_is_closed_on_the_mds(occurrence, mdib, alert_stamps):
    gone = replace(occurrence, phase="end", number=2, snapshot=replace(occurrence.snapshot, present=False))
    body = render_pcd04(about(gone), without(mdib, "ac.spo2.lo"), alert_stamps)
    assert facets(body)[1][2].startswith("69965^")
    assert check(parse(body)) == []
    body = render_pcd04(gone, replace(mdib, descriptors={}), alert_stamps)
    assert facets(body)[1][2] == "mds0^^L"
    assert check(parse(body)) == []


def test_alert_whose_owner_is_gone_is_told_on_the_mds(technical, mdib, stamps):
    body = render_pcd04(technical, without(mdib, "asy"), stamps)
    assert facets(body)[1][2].startswith("69965^")


def test_text_falls_back_to_the_reference_id_and_the_handle(occurrence, technical, mdib, stamps):
    bare = replace(occurrence.snapshot, code=CodedValue("196670"))
    body = render_pcd04(replace(occurrence, snapshot=bare), mdib, stamps)
    assert facets(body)[0][2] == "MDC_EVT_LO"
    untyped = replace(occurrence.snapshot, code=None)
    body = render_pcd04(replace(occurrence, snapshot=untyped), mdib, stamps)
    assert facets(body)[0] == ("ST", "ac.spo2.lo", "ac.spo2.lo")
    body = render_pcd04(replace(technical, snapshot=replace(technical.snapshot, code=None)), mdib, stamps)
    assert facets(body)[0] == ("CWE", "196616", "ac.ecg.leadoff^^L")
    assert check(parse(body)) == []


def test_r8102_r8120_nobody_is_named_without_a_patient(occurrence, mdib, alert_stamps):
    body = render_pcd04(replace(occurrence, association=Association()), mdib, alert_stamps)
    assert b"PID|||||^^^^^^U||||||||||||||||||||||||||Y\rPV1||I\r" in body
    assert b"46098-0" not in body
    assert b"Doe" not in body


def test_r8120_a_corrected_sex_is_marked(occurrence, mdib, alert_stamps):
    body = render_pcd04(occurrence, mdib, alert_stamps, corrected=frozenset({"sex"}))
    row = next(row for row in parse(body).all("OBX") if row.value(3) == "46098-0")
    assert row.value(11) == "C"


def test_r8118_demonstration_is_marked(occurrence, mdib, alert_stamps):
    demo = MdsState(descriptor_handle="mds0", operating_mode="Dmo")
    body = render_pcd04(occurrence, replace(mdib, states=mdib.states | {"mds0": demo}), alert_stamps)
    assert parse(body).header.value(11) == "D"


def test_handles_with_delimiters_stay_one_component(occurrence, mdib, alert_stamps):
    body = render_pcd04(replace(occurrence, id="a&b^c.seq.1"), mdib, alert_stamps)
    assert parse(body).first("OBR").value(3) == "a&b^c.seq.1"
    later = render_pcd04(replace(occurrence, id="a&b^c.seq.1", number=1), mdib, alert_stamps)
    assert parse(later).first("OBR").value(29, 2) == "a&b^c.seq.1"


def test_moment_without_a_dtm_form_is_left_out(occurrence, mdib, alert_stamps):
    body = render_pcd04(replace(occurrence, time=10**18), mdib, alert_stamps)
    assert parse(body).all("OBX")[4].field(14) == ""


def test_value_of_the_source_is_kept_to_the_digit(occurrence, mdib, alert_stamps):
    state = mdib.states["m.spo2"]
    exact = replace(state, metric_value=replace(state.metric_value, value=Decimal("86.50")))
    body = render_pcd04(replace(occurrence, captured=exact), mdib, alert_stamps)
    assert facets(body)[1][2] == "86.50"


def test_r8066_value_limits_and_source_are_those_of_the_moment_and_not_of_the_mirror(occurrence, mdib, alert_stamps):
    told = render_pcd04(occurrence, mdib, alert_stamps)
    value, condition = mdib.states["m.spo2"], mdib.states["ac.spo2.lo"]
    later = {
        "m.spo2": replace(value, metric_value=replace(value.metric_value, value=Decimal(97))),
        "ac.spo2.lo": replace(condition, limits=Range(lower=Decimal(80)), activation_state="Off"),
    }
    described = replace(mdib.find("ac.spo2.lo"), source=("m.pr",))
    moved = replace(mdib, states=mdib.states | later, descriptors=mdib.descriptors | {"ac.spo2.lo": described})
    assert render_pcd04(occurrence, moved, alert_stamps) == told


def test_r8066_without_a_captured_value_none_is_shown(occurrence, mdib, alert_stamps):
    body = render_pcd04(replace(occurrence, captured=None), mdib, alert_stamps)
    assert facets(body)[1] == ("NM", "150456", "")
    stranger = replace(mdib.states["m.spo2"], descriptor_handle="m.pr")
    assert facets(render_pcd04(replace(occurrence, captured=stranger), mdib, alert_stamps))[1][2] == ""


def test_a_source_in_another_mds_does_not_resolve(occurrence, mdib, alert_stamps):
    metric = replace(mdib.find("m.spo2"), handle="m.other", parent="mds1")
    other = {"mds1": MdsDescriptor(handle="mds1"), "m.other": metric}
    body = render_pcd04(about(occurrence, "m.other"), replace(mdib, descriptors=mdib.descriptors | other), alert_stamps)
    assert facets(body)[1] == ("CWE", "68480", "69642^MDC_DEV_ANALY_SAT_O2_VMD^MDC")
    assert parse(body).all("OBX")[-1].value(4) == "1.1.0.0.7"
    assert check(parse(body)) == []


@pytest.mark.parametrize("source", ["m.spo2", "ch.spo2"])
def test_an_alert_is_not_lost_to_a_number_that_is_missing(occurrence, mdib, alert_stamps, source):
    stamps = replace(alert_stamps, numbers={("", "mds0"): 3})
    body = render_pcd04(about(occurrence, source, captured=mdib.states["m.spo2"]), mdib, stamps)
    assert parse(body).all("OBX")[-1].value(4) == "3.0.0.0.7"
    assert facets(body)[1][2] == ("86" if source == "m.spo2" else "69643^MDC_DEV_ANALY_SAT_O2_CHAN^MDC")
    assert check(parse(body)) == []
