"""Which metric values are exported, and how they look in OBX-2, -5 and -7 (mapping sections 5.4 to 5.7)."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final, Literal

import msgspec

from mdib_models.descriptors import (
    EnumStringMetricDescriptor,
    LimitAlertConditionDescriptor,
    MetricDescriptor,
    NumericMetricDescriptor,
    StringMetricDescriptor,
)
from mdib_models.identity import Handle
from mdib_models.mirror import Mdib
from mdib_models.states import (
    LimitAlertConditionState,
    NumericMetricState,
    State,
    StringMetricState,
)
from sdc_node.hl7.build import leaf
from sdc_node.hl7.numeric import format_nm
from sdc_node.sinks.hl7v2.coded import cwe

ValueType = Literal["NM", "ST", "CWE"]

_CATEGORIES: Final = frozenset({"Msrmt", "Clc", "Set"})  # R8018
STATUS: Final[Mapping[str, str]] = {"Vld": "R", "Vldated": "F"}
"""The validities that are exported (R8017) and their OBX-11 (R8029, R8030)."""


class Shown(msgspec.Struct, frozen=True, gc=False):
    """A value as OBX-2, OBX-5 (escaped) and OBX-11 show it."""

    type: ValueType
    text: str
    status: str


def shown(descriptor: MetricDescriptor, state: State | None, *, production: bool) -> Shown | None:
    """The value of a metric, or None where it is not exported.

    Exported are valid (Vld, Vldated) numbers, strings and enumerations of the categories Msrmt, Clc and Set;
    demonstration and test values not where the message says ``production`` (MSH-11 P).
    """
    if not isinstance(state, NumericMetricState | StringMetricState) or state.metric_value is None:
        return None
    quality = state.metric_value.quality
    status = STATUS.get(quality.validity)
    if status is None or descriptor.metric_category not in _CATEGORIES:
        return None
    if production and quality.mode != "Real":
        return None
    value = state.metric_value.value
    if isinstance(value, Decimal) and isinstance(descriptor, NumericMetricDescriptor):
        return _number(value, descriptor, status)
    if isinstance(value, str) and value:
        if isinstance(descriptor, EnumStringMetricDescriptor):
            return _choice(value, descriptor, status)
        if isinstance(descriptor, StringMetricDescriptor):
            return Shown("ST", leaf(value), status)
    return None


def value_type(descriptor: MetricDescriptor) -> ValueType:
    """OBX-2 of a metric of which no value can be shown (R8010; sample arrays count as numbers)."""
    if isinstance(descriptor, EnumStringMetricDescriptor):
        return "CWE"
    return "ST" if isinstance(descriptor, StringMetricDescriptor) else "NM"


def limits_by_metric(mdib: Mdib) -> Mapping[Handle, str]:
    """OBX-7 (R8026) of each metric that is the source of limit conditions that are on.

    ``L - U``, ``> L`` or ``< U``; where several conditions watch a metric, their tightest limits.
    """
    lowers: dict[Handle, Decimal] = {}
    uppers: dict[Handle, Decimal] = {}
    for handle, descriptor in mdib.descriptors.items():
        state = mdib.states.get(handle)
        if not isinstance(descriptor, LimitAlertConditionDescriptor) or not isinstance(state, LimitAlertConditionState):
            continue
        if state.activation_state != "On":
            continue
        lower, upper = _monitored(state)
        for metric in descriptor.source:
            if lower is not None:
                lowers[metric] = max(lower, lowers.get(metric, lower))
            if upper is not None:
                uppers[metric] = min(upper, uppers.get(metric, upper))
    return {metric: _range(lowers.get(metric), uppers.get(metric)) for metric in lowers.keys() | uppers.keys()}


def _monitored(state: LimitAlertConditionState) -> tuple[Decimal | None, Decimal | None]:
    monitored = state.monitored_alert_limits
    lower = state.limits.lower if monitored in {"All", "HiOff"} else None
    upper = state.limits.upper if monitored in {"All", "LoOff"} else None
    return _writable(lower), _writable(upper)


def _writable(limit: Decimal | None) -> Decimal | None:
    """A limit, unless it is a number beyond all reason that has no NM form."""
    try:
        return limit if limit is not None and format_nm(limit) else None
    except ValueError:
        return None


def _range(lower: Decimal | None, upper: Decimal | None) -> str:
    if lower is not None and upper is not None:
        return f"{format_nm(lower)} - {format_nm(upper)}"
    if lower is not None:
        return f"> {format_nm(lower)}"
    return f"< {format_nm(upper)}" if upper is not None else ""


def _number(value: Decimal, descriptor: NumericMetricDescriptor, status: str) -> Shown | None:
    try:
        return Shown("NM", format_nm(value, descriptor.resolution), status)
    except ValueError:  # a number beyond all reason has no NM form
        return None


def _choice(value: str, descriptor: EnumStringMetricDescriptor, status: str) -> Shown:
    for allowed in descriptor.allowed_value:
        if allowed.value == value and allowed.type is not None:
            return Shown("CWE", cwe(allowed.type), status)
    return Shown("ST", leaf(value), status)
