"""OBX rows that PCD-01 and PCD-04 share: devices, demographics, metrics (mapping sections 3.1 and 5.6)."""

from collections.abc import Iterator, Mapping
from typing import Final

from mdib_models.coding import Measurement
from mdib_models.descriptors import MetricDescriptor, NumericMetricDescriptor, VmdDescriptor
from mdib_models.identity import Handle
from mdib_models.mirror import Mdib
from mdib_models.states import NumericMetricState, State, StringMetricState
from mdib_models.updates import Association
from sdc_node.hl7.build import repetitions, segment
from sdc_node.hl7.dtm import format_dtm
from sdc_node.hl7.numeric import format_nm
from sdc_node.sinks.hl7v2.coded import cwe, cwe_or_handle
from sdc_node.sinks.hl7v2.containment import Path, device_path, dotted
from sdc_node.sinks.hl7v2.interval import Demographic, Numbers
from sdc_node.sinks.hl7v2.segments import entity, equipment_identifier, module_identifier
from sdc_node.sinks.hl7v2.values import Shown

Fields = dict[int, str]
"""The fields of one OBX by number; OBX-1 is filled in when the rows are in order."""

_METHODS: Final = {  # R8033
    ("Msrmt", "Auto"): "AMEAS^auto-measurement^MDC",
    ("Msrmt", "Man"): "MMEAS^manual-measurement^MDC",
    ("Clc", "Auto"): "ACALC^auto-calculation^MDC",
    ("Clc", "Man"): "MCALC^manual-calculation^MDC",
    ("Set", "Auto"): "ASET^auto-setting^MDC",
    ("Set", "Man"): "MSET^manual-setting^MDC",
}
_AVAILABILITY: Final = {"Cont": "69123^MDC_OBS_CTS^MDC", "Intr": "69124^MDC_OBS_NONCTS^MDC"}  # R8039
_SEX: Final = {"Unspec": "A", "M": "M", "F": "F", "Unkn": "U"}  # R8120
_HEIGHT: Final = (1, "68060^MDC_ATTR_PT_HEIGHT^MDC")
_WEIGHT: Final = (2, "68063^MDC_ATTR_PT_WEIGHT^MDC")
_SEX_ROW: Final = (3, "46098-0^Sex^https://loinc.org")


def device_rows(mdib: Mdib, chain: tuple[Handle, ...], numbers: Numbers) -> Iterator[tuple[Path, Fields]]:
    """One row for the MDS and each VMD and channel of a chain (R8011, R8012, R8028, R8117)."""
    for level, handle in enumerate(chain, start=1):
        descriptor = mdib.find(handle)
        path = device_path(chain[:level], numbers)
        fields = {
            3: cwe_or_handle(descriptor.type if descriptor is not None else None, handle),
            4: dotted(path),
            11: "X",
        }
        if level == 1:
            fields[18] = entity(equipment_identifier(mdib, handle))
        elif isinstance(descriptor, VmdDescriptor) and (module := module_identifier(descriptor)) is not None:
            fields[18] = entity(module)
        yield path, fields


def sex_row(association: Association, mds: Path, corrected: frozenset[Demographic]) -> Iterator[tuple[Path, Fields]]:
    """The patient's sex as an observation, where a valid context states it (R8120)."""
    context = association.patient
    if context is None or context.core_data is None or context.core_data.sex is None:
        return
    fields = {2: "ST", 5: _SEX[context.core_data.sex]}
    yield _demographic(mds, _SEX_ROW, fields, context.binding_start_time, corrected="sex" in corrected)


def size_rows(association: Association, mds: Path, corrected: frozenset[Demographic]) -> Iterator[tuple[Path, Fields]]:
    """The patient's height and weight, where a valid context states them (R8001, R8002)."""
    context = association.patient
    if context is None or context.core_data is None:
        return
    height, weight = context.core_data.height, context.core_data.weight
    if height is not None and (fields := _measurement(height)) is not None:
        yield _demographic(mds, _HEIGHT, fields, context.binding_start_time, corrected="height" in corrected)
    if weight is not None and (fields := _measurement(weight)) is not None:
        yield _demographic(mds, _WEIGHT, fields, context.binding_start_time, corrected="weight" in corrected)


def metric_fields(
    descriptor: MetricDescriptor,
    state: State | None,
    value: Shown | None,
    limits: Mapping[Handle, str],
    time: int | None,
) -> Fields:
    """All but OBX-1, -2 and -4 of a metric's row; ``time`` is shown for intermittent metrics only (R8031).

    Without a value to show, value and unit stay empty.
    """
    fields = {
        3: cwe_or_handle(descriptor.type, descriptor.handle),
        7: limits.get(descriptor.handle, ""),
        17: repetitions(
            (
                _METHODS.get((descriptor.metric_category, descriptor.derivation), ""),
                _AVAILABILITY[descriptor.metric_availability],
            )
        ),
        20: _site(descriptor, state),
    }
    if value is not None:
        fields |= {5: value.text, 11: value.status}
        if isinstance(descriptor, NumericMetricDescriptor):
            fields[6] = cwe(descriptor.unit)
    if descriptor.metric_availability == "Intr":
        fields[14] = moment(time)
    return fields


def moment(milliseconds: int | None) -> str:
    """OBX-14, or nothing for a moment that is not stated or has no DTM form (a device's year 10000)."""
    try:
        return format_dtm(milliseconds) if milliseconds is not None else ""
    except ValueError:
        return ""


def numbered(rows: Iterator[Fields] | list[Fields], first: int = 1) -> list[str]:
    """Write rows as OBX segments, counted from ``first``."""
    return [segment("OBX", {1: str(number)} | fields) for number, fields in enumerate(rows, start=first)]


def _site(descriptor: MetricDescriptor, state: State | None) -> str:
    of_state = state.body_site if isinstance(state, NumericMetricState | StringMetricState) else ()
    sites = of_state or descriptor.body_site
    return cwe(sites[0]) if sites else ""


def _measurement(measurement: Measurement) -> Fields | None:
    try:
        text = format_nm(measurement.measured_value)
    except ValueError:  # a number beyond all reason has no NM form
        return None
    return {2: "NM", 5: text, 6: cwe(measurement.measurement_unit)}


def _demographic(
    mds: Path, row: tuple[int, str], fields: Fields, bound: int | None, *, corrected: bool
) -> tuple[Path, Fields]:
    number, identifier = row
    path = (mds[0], 0, 0, number)
    return path, fields | {
        3: identifier,
        4: dotted(path),
        11: "C" if corrected else "F",
        14: moment(bound),
    }
