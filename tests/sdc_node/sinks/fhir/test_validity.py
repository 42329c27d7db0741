"""fhir_mapping 1.5, row by row, written out here once more from the table."""

import pytest

from sdc_node.sinks.fhir.validity import TABLE, judged

DAR = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
STATUS = "http://terminology.hl7.org/CodeSystem/measurement-status"
V3 = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"

ROWS = [
    # validity, security, status, interpretation with a value, reason without one
    ("Vld", "RELIABLE", "final", None, "unknown"),
    ("Vldated", "HRELIABLE", "final", (STATUS, "validated-data"), "unknown"),
    ("Ong", None, "preliminary", (STATUS, "msmt-ongoing"), "temp-unknown"),
    ("Qst", "UNCERTREL", "final", (STATUS, "questionable"), "unknown"),
    ("Calib", "UNCERTREL", "preliminary", (STATUS, "calibration-ongoing"), "temp-unknown"),
    ("Oflw", None, "final", (V3, ">"), "error"),
    ("Uflw", None, "final", (V3, "<"), "error"),
]
NEVER_SHOWN = [("Inv", "UNRELIABLE", "error"), ("NA", None, "not-performed")]


def codes(concepts):
    return [(one["coding"][0]["system"], one["coding"][0]["code"]) for one in concepts]


@pytest.mark.parametrize(("validity", "security", "status", "interpretation", "absent"), ROWS)
def test_a_row_with_and_without_a_value(validity, security, status, interpretation, absent):
    value = {"valueQuantity": {"value": 5}}
    shown, missing = judged(validity, value), judged(validity, None)
    for found in (shown, missing):
        assert [one["code"] for one in found["meta"]["security"]] == ([security] if security else [])
        assert found["status"] == status
    assert shown["valueQuantity"]["value"] == 5
    assert "dataAbsentReason" not in shown
    assert codes(shown.get("interpretation", [])) == ([interpretation] if interpretation else [])
    assert "valueQuantity" not in missing
    assert "interpretation" not in missing
    assert codes([missing["dataAbsentReason"]]) == [(DAR, absent)]


@pytest.mark.parametrize(("validity", "security", "absent"), NEVER_SHOWN)
@pytest.mark.parametrize("value", [None, {"valueQuantity": {"value": 5}}])
def test_a_value_that_must_not_be_shown_is_dropped(validity, security, absent, value):
    found = judged(validity, value)
    assert [one["code"] for one in found["meta"]["security"]] == ([security] if security else [])
    assert found["status"] == "final"
    assert codes([found["dataAbsentReason"]]) == [(DAR, absent)]
    assert not found.keys() & {"valueQuantity", "interpretation"}


@pytest.mark.parametrize(("validity", "comparator"), [("Oflw", ">"), ("Uflw", "<")])
def test_out_of_range_numbers_carry_a_comparator_and_texts_none(validity, comparator):
    assert judged(validity, {"valueQuantity": {"value": 5}})["valueQuantity"]["comparator"] == comparator
    assert judged(validity, {"valueString": "x"})["valueString"] == "x"
    assert "comparator" not in judged("Vld", {"valueQuantity": {"value": 5}})["valueQuantity"]


def test_every_validity_of_biceps_has_a_row():
    assert {row[0] for row in ROWS} | {row[0] for row in NEVER_SHOWN} == set(TABLE)
