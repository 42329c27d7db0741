import re
from decimal import Decimal
from pathlib import Path

import hl7
import msgspec
import pytest
from hl7apy.exceptions import ValidationError
from hl7apy.parser import parse_message

from mdib_models.coding import CodedValue
from mdib_models.states import MdsState, NumericMetricState, NumericMetricValue, Quality
from mdib_models.updates import Association
from sdc_node.hl7.checks import check
from sdc_node.hl7.message import parse
from sdc_node.sinks.hl7v2.interval import Determination
from sdc_node.sinks.hl7v2.render import exported, numbered, render_pcd01

EXAMPLE = Path(__file__).parents[2] / "hl7/data/pcd01.hl7"


def expected_example():
    """The worked example without what this sink does not send: operator (OBR-10, OBX-16) and clock row."""
    lines, number = [], 0
    for line in EXAMPLE.read_text().splitlines():
        if "|67975^MDC_ATTR_TIME_ABS" in line:
            continue
        fields = line.split("|")
        if fields[0] == "OBR":
            fields[10] = ""
        if fields[0] == "OBX":
            number += 1
            fields[1] = str(number)
            if len(fields) > 16:
                fields[16] = ""
        lines.append("|".join(fields).rstrip("|"))
    return lines


def replace(struct, **changes):
    return msgspec.structs.replace(struct, **changes)


def with_descriptor(interval, handle, **changes):
    descriptors = dict(interval.mdib.descriptors)
    descriptors[handle] = replace(descriptors[handle], **changes)
    return replace(interval, mdib=replace(interval.mdib, descriptors=descriptors))


def with_state(interval, state):
    states = interval.mdib.states | {state.descriptor_handle: state}
    return replace(interval, mdib=replace(interval.mdib, states=states))


def only(interval, *determinations, continuous=()):
    return replace(
        interval,
        continuous={one.state.descriptor_handle: one for one in continuous},
        intermittent=tuple(determinations),
    )


def rows(body):
    return {row.value(4): row for row in parse(body).all("OBX")}


def test_worked_example_of_section_10(interval, stamps):
    lines = render_pcd01(interval, stamps).decode().split("\r")
    assert lines[-1] == ""
    assert lines[:-1] == expected_example()


def test_rendered_again_it_is_the_same(interval, stamps):
    assert render_pcd01(interval, stamps) == render_pcd01(interval, stamps)


def test_receiver_rules_accept_it(interval, stamps):
    assert check(parse(render_pcd01(interval, stamps))) == []


def test_hl7apy_accepts_the_structure(interval, stamps):
    text = render_pcd01(interval, stamps).decode()
    message = parse_message(text, find_groups=True)
    assert message.version == "2.6"
    assert message.validate() is True


def test_hl7apy_would_see_a_missing_obr_4(interval, stamps):
    text = re.sub(r"\|182777000[^|]*\|", "||", render_pcd01(interval, stamps).decode())
    with pytest.raises(ValidationError, match="OBR_4"):
        parse_message(text, find_groups=True).validate()


def test_python_hl7_reads_the_same_values_back(interval, stamps):
    message = hl7.parse(render_pcd01(interval, stamps).decode())
    read = {str(row[4]): str(row[5]) for row in message.segments("OBX") if str(row[5])}
    assert read["1.1.1.1"] == "97"
    assert read["1.1.1.2"] == "72"
    assert [read[f"1.2.1.{k}"] for k in (1, 2, 3)] == ["124", "78", "93"]
    assert str(message.segment("MSH")[10]) == "SDCGW-20260302-000117"


@pytest.mark.parametrize(("mode", "letter"), [("Nml", "P"), ("Dmo", "D"), ("Srv", "D"), ("Mtn", "D")])
def test_r8118_processing_id_follows_the_operating_mode(interval, stamps, mode, letter):
    body = render_pcd01(with_state(interval, MdsState(descriptor_handle="mds0", operating_mode=mode)), stamps)
    assert parse(body).header.value(11) == letter


def test_r8102_without_a_valid_patient_pid_says_only_unknown(interval, stamps, association):
    body = render_pcd01(replace(interval, association=Association(location=association.location)), stamps)
    lines = body.decode().split("\r")
    assert lines[1] == "PID|||||^^^^^^U||||||||||||||||||||||||||Y"
    assert lines[2] == "PV1||I|ICU1^R3^B2^HOSP1^^^MAIN^4"
    assert not {"1.0.0.1", "1.0.0.2", "1.0.0.3"} & rows(body).keys()
    assert check(parse(body)) == []


def test_r8113_without_a_location_pv1_3_is_empty(interval, stamps, association):
    body = render_pcd01(replace(interval, association=replace(association, location=None)), stamps)
    assert parse(body).first("PV1").field(3) == ""


@pytest.mark.parametrize("validity", ["Ong", "Qst", "Calib", "Inv", "Oflw", "Uflw", "NA"])
def test_r8017_other_validities_are_left_out(interval, stamps, validity):
    value = NumericMetricValue(value=Decimal(5), quality=Quality(validity))
    state = NumericMetricState(descriptor_handle="m.spo2", metric_value=value)
    assert render_pcd01(only(interval, continuous=[Determination(state, 0)]), stamps) is None


@pytest.mark.parametrize("category", ["Preset", "Rcmm", "Unspec"])
def test_r8018_other_categories_are_left_out(interval, stamps, category):
    changed = with_descriptor(interval, "m.spo2", metric_category=category)
    assert "1.1.1.1" not in rows(render_pcd01(changed, stamps))
    assert "m.spo2" not in exported(changed)
    assert "m.pr" in exported(changed)


def test_nothing_to_export_is_no_message(interval, stamps):
    assert render_pcd01(only(interval), stamps) is None
    assert exported(only(interval)) == frozenset()


def test_device_rows_only_above_exported_metrics(interval, stamps):
    alone = only(interval, continuous=[interval.continuous["m.spo2"]])
    assert [path for path in rows(render_pcd01(alone, stamps)) if path.endswith(".0")] == [
        "1.0.0.0",
        "1.1.0.0",
        "1.1.1.0",
    ]


def test_r8019_digits_are_kept_and_padded_to_the_resolution(interval, stamps):
    changed = with_descriptor(interval, "m.spo2", resolution=Decimal("0.0100"))
    assert rows(render_pcd01(changed, stamps))["1.1.1.1"].value(5) == "97.00"


def test_r8021_enum_without_a_code_goes_out_as_text(interval, stamps):
    for value in ("PLAIN", "no such | value"):
        state = replace(
            interval.intermittent[0].state,
            metric_value=replace(interval.intermittent[0].state.metric_value, value=value),
        )
        row = rows(render_pcd01(only(interval, Determination(state, 0)), stamps))["1.2.1.4"]
        assert (row.value(2), row.value(5)) == ("ST", value)


def test_r8020_text_is_escaped(interval, stamps, text_state):
    nasty = "a|b^c&d~e\\f\rg\x0bh\x1ci"
    body = render_pcd01(only(interval, Determination(text_state(nasty), 0)), stamps)
    assert rows(body)["1.2.1.5"].value(5) == "a|b^c&d~e\\f g h i"
    assert b"\x0b" not in body
    assert check(parse(body)) == []


def test_empty_text_is_no_value(interval, stamps, text_state):
    assert render_pcd01(only(interval, Determination(text_state(""), 0)), stamps) is None
    assert render_pcd01(only(interval, Determination(text_state(None), 0)), stamps) is None


def test_demo_values_go_out_only_where_the_message_says_so(interval, stamps, text_state):
    demo = only(interval, Determination(text_state("x", mode="Demo"), 0))
    assert render_pcd01(demo, stamps) is None
    in_demo_mode = with_state(demo, MdsState(descriptor_handle="mds0", operating_mode="Dmo"))
    assert "1.2.1.5" in rows(render_pcd01(in_demo_mode, stamps))


def test_second_determination_of_a_metric_gets_its_own_obr(interval, stamps):
    first = interval.intermittent[1]
    second = Determination(
        NumericMetricState(
            descriptor_handle="m.sys",
            metric_value=NumericMetricValue(value=Decimal(131), quality=Quality("Vld")),
        ),
        first.time + 5000,
    )
    body = render_pcd01(only(interval, first, second, continuous=interval.continuous.values()), stamps)
    message = parse(body)
    assert check(message) == []
    requests = message.all("OBR")
    assert [request.value(3) for request in requests] == [stamps.order_id, f"{stamps.order_id}.2"]
    assert len({request.value(7) for request in requests}) == 1
    sys = [row for row in message.all("OBX") if row.value(4) == "1.2.1.1"]
    assert [(row.value(5), row.value(14)) for row in sys] == [
        ("124", "20260302101541.250+0000"),
        ("131", "20260302101546.250+0000"),
    ]
    assert [row.value(1) for row in message.all("OBX")] == [str(n + 1) for n in range(len(message.all("OBX")))]


def test_r8031_only_intermittent_metrics_carry_their_time(interval, stamps):
    found = rows(render_pcd01(interval, stamps))
    assert found["1.1.1.1"].value(14) == ""
    assert found["1.2.1.1"].value(14) == "20260302101541.250+0000"


def test_r8034_body_site_of_the_state_comes_first(interval, stamps):
    state = replace(interval.intermittent[1].state, body_site=(CodedValue("460532"),))
    row = rows(render_pcd01(only(interval, Determination(state, 0)), stamps))["1.2.1.1"]
    assert row.value(20) == "460532"


@pytest.mark.parametrize(
    ("monitored", "activation", "text"),
    [
        ("All", "On", "90 - 100"),
        ("HiOff", "On", "> 90"),
        ("LoOff", "On", "< 100"),
        ("None", "On", ""),
        ("All", "Off", ""),
    ],
)
def test_r8026_limits_follow_the_condition(interval, stamps, monitored, activation, text):
    state = interval.mdib.states["ac.spo2.lo"]
    changed = with_state(interval, replace(state, monitored_alert_limits=monitored, activation_state=activation))
    assert rows(render_pcd01(changed, stamps))["1.1.1.1"].value(7) == text


def test_r8026_several_conditions_give_the_tightest_limits(interval, stamps):
    changed = with_descriptor(interval, "ac.pr", source=("m.pr", "m.spo2"))
    assert rows(render_pcd01(changed, stamps))["1.1.1.1"].value(7) == "90 - 100"
    state = interval.mdib.states["ac.pr"]
    tighter = replace(state, limits=replace(state.limits, lower=Decimal(92), upper=Decimal("1E+999")))
    assert rows(render_pcd01(with_state(changed, tighter), stamps))["1.1.1.1"].value(7) == "92 - 100"


def test_r8001_changed_demographics_are_corrections(interval, stamps):
    body = render_pcd01(replace(interval, corrected=frozenset({"weight", "sex"})), stamps)
    found = rows(body)
    assert [found[f"1.0.0.{k}"].value(11) for k in (1, 2, 3)] == ["F", "C", "C"]
    assert check(parse(body)) == []


def test_metric_without_type_is_told_by_its_handle(interval, stamps):
    body = render_pcd01(with_descriptor(interval, "m.spo2", type=None), stamps)
    assert rows(body)["1.1.1.1"].field(3) == "m.spo2^^L"
    assert check(parse(body)) == []


def test_metric_that_is_gone_or_no_metric_is_left_out(interval, stamps):
    ghost = replace(interval.intermittent[1].state, descriptor_handle="gone")
    device = replace(interval.intermittent[1].state, descriptor_handle="vmd.nibp")
    assert render_pcd01(only(interval, Determination(ghost, 0), Determination(device, 0)), stamps) is None


def test_numbers_beyond_reason_spoil_nothing_else(interval, stamps, association):
    data = replace(association.patient.core_data, weight=replace_value(association.patient.core_data.weight))
    patient = replace(association.patient, core_data=data, binding_start_time=10**18)
    huge = replace(
        interval.intermittent[1].state,
        metric_value=NumericMetricValue(value=Decimal("1E+5000"), quality=Quality("Vld")),
    )
    late = replace(interval.intermittent[2], time=10**18)
    changed = only(interval, Determination(huge, 0), late, continuous=interval.continuous.values())
    body = render_pcd01(replace(changed, association=replace(association, patient=patient)), stamps)
    found = rows(body)
    assert "1.2.1.1" not in found
    assert "1.0.0.2" not in found
    assert found["1.2.1.2"].value(14) == found["1.0.0.1"].value(14) == ""


def replace_value(measurement):
    return replace(measurement, measured_value=Decimal("1E+5000"))


def test_r8014_a_missing_number_is_told(interval, stamps):
    with pytest.raises(LookupError, match=r"m\.spo2"):
        render_pcd01(interval, without(stamps, "m.spo2"))


def without(stamps, handle):
    return replace(stamps, numbers={key: n for key, n in stamps.numbers.items() if key[1] != handle})


def test_r8014_numbered_lists_the_tree_in_document_order(mdib):
    pairs = list(numbered(mdib, "mds0"))
    assert pairs[:4] == [
        ("", "mds0"),
        ("mds0", "vmd.spo2"),
        ("vmd.spo2", "ch.spo2"),
        ("ch.spo2", "m.spo2"),
    ]
    assert ("mds0", "asy") not in pairs
    assert list(numbered(mdib, "no such")) == []


def test_interval_that_a_patient_change_cut_keeps_its_milliseconds(interval, stamps):
    body = render_pcd01(replace(interval, end=interval.end - 250), stamps)
    request = parse(body).first("OBR")
    assert (request.value(7), request.value(8)) == ("20260302101530+0000", "20260302101559.750+0000")
