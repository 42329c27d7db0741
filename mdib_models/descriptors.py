"""Descriptors: what a device says it is and can report (BICEPS MdDescription), flat, with a pointer to the parent.

Fields carry BICEPS's names in snake case; defaults are BICEPS's implied values. Durations are seconds.
`extensions` keeps what no field speaks of.
"""

from decimal import Decimal
from typing import Literal

import msgspec

from mdib_models.coding import (
    AllowedValue,
    CodedValue,
    InstanceIdentifier,
    LocalizedText,
    Measurement,
    Range,
    Relation,
    Unknown,
)
from mdib_models.identity import Handle

SafetyClassification = Literal["Inf", "MedA", "MedB", "MedC"]
MetricCategory = Literal["Unspec", "Msrmt", "Clc", "Set", "Preset", "Rcmm"]
MetricAvailability = Literal["Intr", "Cont"]
DerivationMethod = Literal["Auto", "Man"]
AlertKind = Literal["Phy", "Tec", "Oth"]
AlertPriority = Literal["None", "Lo", "Me", "Hi"]
Manifestation = Literal["Aud", "Vis", "Tan", "Oth"]


class Udi(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Unique device identification: DeviceIdentifier is the UDI-DI, HumanReadableForm the carrier's text."""

    device_identifier: str
    human_readable_form: str
    issuer: InstanceIdentifier
    jurisdiction: InstanceIdentifier | None = None


class MetaData(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """pm:MetaData of an MDS."""

    udi: tuple[Udi, ...] = ()
    lot_number: str | None = None
    manufacturer: tuple[LocalizedText, ...] = ()
    manufacture_date: str | None = None
    expiration_date: str | None = None
    model_name: tuple[LocalizedText, ...] = ()
    model_number: str | None = None
    serial_number: tuple[str, ...] = ()


class ProductionSpecification(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One revision or number of a component (SDPi R0008)."""

    spec_type: CodedValue
    production_spec: str
    component_id: InstanceIdentifier | None = None


class _Descriptor(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="@type"):
    handle: Handle
    parent: Handle | None = None
    descriptor_version: int = 0
    safety_classification: SafetyClassification = "Inf"
    type: CodedValue | None = None
    extensions: tuple[Unknown, ...] = ()


class _Component(_Descriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    production_specification: tuple[ProductionSpecification, ...] = ()


class MdsDescriptor(_Component, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """A medical device system. `equipment_identifier` is sdpi:EquipmentIdentifier (SDPi R0014 to R0018)."""

    meta_data: MetaData | None = None
    equipment_identifier: str | None = None
    approved_jurisdictions: Unknown | None = None


class VmdDescriptor(_Component, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """A virtual medical device: a module or a function group."""

    equipment_identifier: str | None = None
    approved_jurisdictions: Unknown | None = None


class ChannelDescriptor(_Component, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """A group of metrics and alerts."""


class ScoDescriptor(_Component, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """Service control object: holds operations."""


class ClockDescriptor(_Component, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """The clock of an MDS. `resolution` in seconds."""

    time_protocol: tuple[CodedValue, ...] = ()
    resolution: float | None = None


class BatteryDescriptor(_Component, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """A battery."""

    capacity_full_charge: Measurement | None = None
    capacity_specified: Measurement | None = None
    voltage_specified: Measurement | None = None


class SystemContextDescriptor(_Component, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """Holds the context descriptors of an MDS."""


class PatientContextDescriptor(_Descriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """Whom the MDS may be associated with."""


class LocationContextDescriptor(_Descriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """Where the MDS may be."""


class EnsembleContextDescriptor(_Descriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """The ensemble the MDS may be a part of."""


class WorkflowContextDescriptor(_Descriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """The order or procedure the MDS may serve."""


class OperatorContextDescriptor(_Descriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """Who may operate the MDS."""


class MeansContextDescriptor(_Descriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """Means the MDS may use."""


class _MetricDescriptor(_Descriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    unit: CodedValue
    metric_category: MetricCategory
    metric_availability: MetricAvailability
    derivation_method: DerivationMethod | None = None
    body_site: tuple[CodedValue, ...] = ()
    relation: tuple[Relation, ...] = ()
    max_measurement_time: float | None = None
    max_delay_time: float | None = None
    determination_period: float | None = None
    life_time_period: float | None = None
    activation_duration: float | None = None

    @property
    def derivation(self) -> DerivationMethod:
        """How values come about: BICEPS implies Man for settings and presets, Auto for the rest."""
        if self.derivation_method is not None:
            return self.derivation_method
        return "Man" if self.metric_category in {"Set", "Preset"} else "Auto"


class NumericMetricDescriptor(_MetricDescriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """A metric whose value is a number."""

    resolution: Decimal
    averaging_period: float | None = None
    technical_range: tuple[Range, ...] = ()


class StringMetricDescriptor(_MetricDescriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """A metric whose value is a text."""


class EnumStringMetricDescriptor(_MetricDescriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """A metric whose value is one of `allowed_value`."""

    allowed_value: tuple[AllowedValue, ...] = ()


class RealTimeSampleArrayMetricDescriptor(
    _MetricDescriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True
):
    """A waveform. `sample_period` in seconds."""

    resolution: Decimal
    sample_period: float
    technical_range: tuple[Range, ...] = ()


class DistributionSampleArrayMetricDescriptor(
    _MetricDescriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True
):
    """Samples over a domain other than time, such as frequency."""

    resolution: Decimal
    domain_unit: CodedValue
    distribution_range: Range
    technical_range: tuple[Range, ...] = ()


class AlertSystemDescriptor(_Descriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """Owner of conditions and signals. `self_check_period` in seconds."""

    max_physiological_parallel_alarms: int | None = None
    max_technical_parallel_alarms: int | None = None
    self_check_period: float | None = None


class AlertConditionDescriptor(_Descriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """What may go wrong. `source` are handles, the first that resolves counts."""

    kind: AlertKind
    priority: AlertPriority
    source: tuple[Handle, ...] = ()
    cause_info: tuple[Unknown, ...] = ()
    default_condition_generation_delay: float = 0.0
    can_escalate: str | None = None
    can_deescalate: str | None = None


class LimitAlertConditionDescriptor(
    AlertConditionDescriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True
):
    """A condition that is present while its source is beyond limits."""

    max_limits: Range
    auto_limit_supported: bool = False


class AlertSignalDescriptor(_Descriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """How a condition makes itself noticed."""

    condition_signaled: Handle | None = None
    manifestation: Manifestation
    latching: bool
    default_signal_generation_delay: float = 0.0
    min_signal_generation_delay: float | None = None
    max_signal_generation_delay: float | None = None
    signal_delegation_supported: bool = False
    acknowledgement_supported: bool = False
    acknowledge_timeout: float | None = None


class _OperationDescriptor(_Descriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    operation_target: Handle
    max_time_to_finish: float | None = None
    invocation_effective_timeout: float | None = None
    retriggerable: bool = True
    access_level: str = "Usr"


class SetValueOperationDescriptor(
    _OperationDescriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True
):
    """Sets a number."""


class SetStringOperationDescriptor(
    _OperationDescriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True
):
    """Sets a text."""

    max_length: int | None = None


class ActivateArgument(msgspec.Struct, frozen=True, gc=False):
    """One argument of an activate operation; `arg` is the qualified name of its type."""

    arg_name: CodedValue
    arg: str


class _SetStateOperationDescriptor(_OperationDescriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    modifiable_data: tuple[str, ...] = ()


class ActivateOperationDescriptor(
    _SetStateOperationDescriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True
):
    """Starts something."""

    argument: tuple[ActivateArgument, ...] = ()


class SetContextStateOperationDescriptor(
    _SetStateOperationDescriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True
):
    """Sets context states."""


class SetMetricStateOperationDescriptor(
    _SetStateOperationDescriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True
):
    """Sets metric states."""


class SetComponentStateOperationDescriptor(
    _SetStateOperationDescriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True
):
    """Sets component states."""


class SetAlertStateOperationDescriptor(
    _SetStateOperationDescriptor, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True
):
    """Sets alert states."""


MetricDescriptor = (
    NumericMetricDescriptor
    | StringMetricDescriptor
    | EnumStringMetricDescriptor
    | RealTimeSampleArrayMetricDescriptor
    | DistributionSampleArrayMetricDescriptor
)
ContextDescriptor = (
    PatientContextDescriptor
    | LocationContextDescriptor
    | EnsembleContextDescriptor
    | WorkflowContextDescriptor
    | OperatorContextDescriptor
    | MeansContextDescriptor
)
ConditionDescriptor = AlertConditionDescriptor | LimitAlertConditionDescriptor
AlertDescriptor = AlertSystemDescriptor | ConditionDescriptor | AlertSignalDescriptor
OperationDescriptor = (
    SetValueOperationDescriptor
    | SetStringOperationDescriptor
    | ActivateOperationDescriptor
    | SetContextStateOperationDescriptor
    | SetMetricStateOperationDescriptor
    | SetComponentStateOperationDescriptor
    | SetAlertStateOperationDescriptor
)
ComponentDescriptor = (
    MdsDescriptor
    | VmdDescriptor
    | ChannelDescriptor
    | ScoDescriptor
    | ClockDescriptor
    | BatteryDescriptor
    | SystemContextDescriptor
)
Descriptor = ComponentDescriptor | ContextDescriptor | MetricDescriptor | AlertDescriptor | OperationDescriptor
