"""Measurement validity in FHIR: the table of fhir_mapping 1.5, row by row. Pure."""

from collections.abc import Mapping

import msgspec

from mdib_models.states import Validity
from sdc_node.sinks.fhir.terms import (
    ACT_REASON,
    DATA_ABSENT,
    INTERPRETATION,
    MEASUREMENT_STATUS,
    OBSERVATION_VALUE,
    Json,
    coded,
)

HTEST = {"system": ACT_REASON, "code": "HTEST"}
"""Marks data that is of no patient: demonstration, test, service."""


class Row(msgspec.Struct, frozen=True):
    """One row: what a validity becomes with a value, and without one.

    `interpretation` is (system, code) beside a value; `absent` the dataAbsentReason where there is none; `keeps`
    whether a value that is there may be shown; `comparator` that of its Quantity.
    """

    status: str
    absent: str
    security: str | None = None
    interpretation: tuple[str, str] | None = None
    keeps: bool = True
    comparator: str | None = None


TABLE: Mapping[Validity, Row] = {
    "Vld": Row("final", "unknown", "RELIABLE"),
    "Vldated": Row("final", "unknown", "HRELIABLE", (MEASUREMENT_STATUS, "validated-data")),
    "Ong": Row("preliminary", "temp-unknown", None, (MEASUREMENT_STATUS, "msmt-ongoing")),
    "Qst": Row("final", "unknown", "UNCERTREL", (MEASUREMENT_STATUS, "questionable")),
    "Calib": Row("preliminary", "temp-unknown", "UNCERTREL", (MEASUREMENT_STATUS, "calibration-ongoing")),
    "Inv": Row("final", "error", "UNRELIABLE", keeps=False),
    "Oflw": Row("final", "error", None, (INTERPRETATION, ">"), comparator=">"),
    "Uflw": Row("final", "error", None, (INTERPRETATION, "<"), comparator="<"),
    "NA": Row("final", "not-performed", keeps=False),
}


def judged(validity: Validity, value: Json | None) -> Json:
    """The elements that a validity decides: status, value[x] or dataAbsentReason, interpretation, meta.security.

    `value` is `{"value[x]": ...}`, or None where the device sent none. Interpretation and dataAbsentReason exclude each
    other. `meta` holds security only; the caller adds the rest.
    """
    row = TABLE[validity]
    security = [{"system": OBSERVATION_VALUE, "code": row.security}] if row.security else []
    found: Json = {"meta": {"security": security}, "status": row.status}
    if value is None or not row.keeps:
        return found | {"dataAbsentReason": coded(DATA_ABSENT, row.absent)}
    if row.comparator is not None and "valueQuantity" in value:
        quantity = value["valueQuantity"]
        value = {"valueQuantity": {"value": quantity["value"], "comparator": row.comparator, **quantity}}
    found |= value
    if row.interpretation is not None:
        found["interpretation"] = [coded(*row.interpretation)]
    return found
