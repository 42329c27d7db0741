"""States: what a device reports of each descriptor (BICEPS MdState).

Fields carry BICEPS's names in snake case; defaults are BICEPS's implied values. Times are milliseconds since the Unix
epoch (pm:Timestamp), durations are seconds. A state says by itself which descriptor it belongs to.
"""

from array import array
from decimal import Decimal
from typing import Literal

import msgspec

from mdib_models.coding import (
    CodedValue,
    InstanceIdentifier,
    Measurement,
    PhysicalConnectorInfo,
    Range,
    Unknown,
)
from mdib_models.descriptors import AlertPriority, Manifestation
from mdib_models.identity import Handle

Validity = Literal["Vld", "Vldated", "Ong", "Qst", "Calib", "Inv", "Oflw", "Uflw", "NA"]
GenerationMode = Literal["Real", "Test", "Demo"]
ComponentActivation = Literal["On", "NotRdy", "StndBy", "Off", "Shtdn", "Fail"]
AlertActivation = Literal["On", "Off", "Psd"]
SignalPresence = Literal["On", "Off", "Latch", "Ack"]
MdsOperatingMode = Literal["Nml", "Dmo", "Srv", "Mtn"]
OperatingMode = Literal["Dis", "En", "NA"]
ContextAssociation = Literal["No", "Pre", "Assoc", "Dis"]
MonitoredLimits = Literal["All", "LoOff", "HiOff", "None"]
Sex = Literal["Unspec", "M", "F", "Unkn"]
Gender = Literal["Male", "Female", "Other", "Unknown"]


class Quality(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """pm:MetricQuality. `qi` is the quality indicator in 0..1."""

    validity: Validity
    mode: GenerationMode = "Real"
    qi: Decimal = Decimal(1)


class ApplyAnnotation(msgspec.Struct, frozen=True, gc=False):
    """Which sample an annotation speaks of."""

    annotation_index: int
    sample_index: int


class _Value(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    quality: Quality
    determination_time: int | None = None
    start_time: int | None = None
    stop_time: int | None = None
    annotation: tuple[Unknown, ...] = ()
    extensions: tuple[Unknown, ...] = ()


class NumericMetricValue(_Value, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A number with the digits the device sent."""

    value: Decimal | None = None


class StringMetricValue(_Value, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A text."""

    value: str | None = None


class SampleArrayValue(_Value, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Samples as the text that came (decimals separated by blanks); numbers are made when somebody asks."""

    samples: str = ""
    apply_annotation: tuple[ApplyAnnotation, ...] = ()

    def numbers(self) -> "array[float]":
        """The samples as doubles. Raises ValueError where the text holds something else."""
        return array("d", map(float, self.samples.split()))

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(self.samples.split())


class _State(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="@type"):
    descriptor_handle: Handle
    descriptor_version: int = 0
    state_version: int = 0
    extensions: tuple[Unknown, ...] = ()

    @property
    def key(self) -> Handle:
        """What the mirror files this state under: its descriptor's handle, for context states their own."""
        return self.descriptor_handle


class _MetricState(_State, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    body_site: tuple[CodedValue, ...] = ()
    physical_connector: PhysicalConnectorInfo | None = None
    activation_state: ComponentActivation = "On"
    active_determination_period: float | None = None
    life_time_period: float | None = None


class NumericMetricState(_MetricState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """State of a numeric metric; no value means that there is none yet."""

    metric_value: NumericMetricValue | None = None
    physiological_range: tuple[Range, ...] = ()
    active_averaging_period: float | None = None


class StringMetricState(_MetricState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """State of a string metric."""

    metric_value: StringMetricValue | None = None


class EnumStringMetricState(StringMetricState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """State of an enumeration; the value is one of the descriptor's allowed values."""


class RealTimeSampleArrayMetricState(_MetricState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """One report's worth of a waveform; DeterminationTime is that of the first sample."""

    metric_value: SampleArrayValue | None = None
    physiological_range: tuple[Range, ...] = ()


class DistributionSampleArrayMetricState(
    _MetricState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True
):
    """State of a distribution."""

    metric_value: SampleArrayValue | None = None
    physiological_range: tuple[Range, ...] = ()


class _ComponentState(_State, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    calibration_info: Unknown | None = None
    next_calibration: Unknown | None = None
    physical_connector: PhysicalConnectorInfo | None = None
    activation_state: ComponentActivation = "On"
    operating_hours: int | None = None
    operating_cycles: int | None = None


class MdsState(_ComponentState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """State of an MDS; an operating mode other than Nml marks its data as not for care (SDPi R8118)."""

    operating_mode: MdsOperatingMode = "Nml"
    lang: str = "en"
    operating_jurisdiction: Unknown | None = None


class VmdState(_ComponentState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """State of a VMD."""

    operating_jurisdiction: Unknown | None = None


class ChannelState(_ComponentState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """State of a channel."""


class ScoState(_ComponentState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """State of an SCO."""

    invocation_requested: tuple[Handle, ...] = ()
    invocation_required: tuple[Handle, ...] = ()
    operation_group: tuple[Unknown, ...] = ()


class SystemContextState(_ComponentState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """State of a system context."""


class ClockState(_ComponentState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """State of a clock. `accuracy` is in seconds (SDPi R1531), `date_and_time` the device's own time."""

    active_sync_protocol: CodedValue | None = None
    reference_source: tuple[str, ...] = ()
    date_and_time: int | None = None
    remote_sync: bool
    accuracy: Decimal | None = None
    last_set: int | None = None
    time_zone: str | None = None
    critical_use: bool = False


class BatteryState(_ComponentState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """State of a battery."""

    charge_status: Literal["Ful", "ChB", "DisChB", "DEB"] | None = None
    charge_cycles: int | None = None
    capacity_remaining: Measurement | None = None
    voltage: Measurement | None = None
    current: Measurement | None = None
    temperature: Measurement | None = None
    remaining_battery_time: Measurement | None = None


class SystemSignalActivation(msgspec.Struct, frozen=True, gc=False):
    """Whether a manifestation is on for a whole alert system."""

    manifestation: Manifestation
    state: AlertActivation


class _AlertState(_State, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    activation_state: AlertActivation


class AlertSystemState(_AlertState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """State of an alert system; its self check is the watchdog (IEEE 11073-10702 draft)."""

    system_signal_activation: tuple[SystemSignalActivation, ...] = ()
    last_self_check: int | None = None
    self_check_count: int | None = None
    present_physiological_alarm_conditions: tuple[Handle, ...] = ()
    present_technical_alarm_conditions: tuple[Handle, ...] = ()


class AlertConditionState(_AlertState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """State of a condition; DeterminationTime moves only when Presence changes."""

    actual_condition_generation_delay: float | None = None
    actual_priority: AlertPriority | None = None
    rank: int | None = None
    presence: bool = False
    determination_time: int | None = None


class LimitAlertConditionState(AlertConditionState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """State of a limit condition with the limits in force."""

    limits: Range
    monitored_alert_limits: MonitoredLimits = "All"
    auto_limit_activation_state: AlertActivation | None = None


class AlertSignalState(_AlertState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """State of a signal; an absent presence means Off."""

    presence: SignalPresence = "Off"
    location: Literal["Loc", "Rem"] = "Loc"
    slot: int | None = None
    actual_signal_generation_delay: float | None = None


class _OperationState(_State, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    operating_mode: OperatingMode


class SetValueOperationState(_OperationState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """State of a set value operation."""

    allowed_range: tuple[Range, ...] = ()


class SetStringOperationState(_OperationState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """State of a set string operation."""

    allowed_values: tuple[str, ...] = ()


class ActivateOperationState(_OperationState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """State of an activate operation."""


class SetContextStateOperationState(_OperationState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """State of a set context state operation."""


class SetMetricStateOperationState(_OperationState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """State of a set metric state operation."""


class SetComponentStateOperationState(
    _OperationState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True
):
    """State of a set component state operation."""


class SetAlertStateOperationState(_OperationState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """State of a set alert state operation."""


class BaseDemographics(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A person's name."""

    givenname: str | None = None
    middlename: tuple[str, ...] = ()
    familyname: str | None = None
    birthname: str | None = None
    title: str | None = None


class PersonReference(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A person by identifiers and, perhaps, name."""

    identification: tuple[InstanceIdentifier, ...] = ()
    name: BaseDemographics | None = None


class PatientDemographics(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """pm:PatientDemographicsCoreData, neonatal fields included.

    `date_of_birth` keeps the XSD text (date, dateTime, gYearMonth or gYear). `sex` is biological; `gender` is the
    administrative sdpi:Gender extension (SDPi R0012).
    """

    givenname: str | None = None
    middlename: tuple[str, ...] = ()
    familyname: str | None = None
    birthname: str | None = None
    title: str | None = None
    sex: Sex | None = None
    gender: Gender | None = None
    patient_type: str | None = None
    date_of_birth: str | None = None
    height: Measurement | None = None
    weight: Measurement | None = None
    race: CodedValue | None = None
    gestational_age: Measurement | None = None
    birth_length: Measurement | None = None
    birth_weight: Measurement | None = None
    head_circumference: Measurement | None = None
    mother: PersonReference | None = None
    extensions: tuple[Unknown, ...] = ()


class LocationDetail(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """pm:LocationDetail: point of care, room, bed, facility, building, floor."""

    po_c: str | None = None
    room: str | None = None
    bed: str | None = None
    facility: str | None = None
    building: str | None = None
    floor: str | None = None


class _ContextState(_State, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    handle: Handle
    category: CodedValue | None = None
    context_association: ContextAssociation = "No"
    binding_mdib_version: int | None = None
    unbinding_mdib_version: int | None = None
    binding_start_time: int | None = None
    binding_end_time: int | None = None
    validator: tuple[InstanceIdentifier, ...] = ()
    identification: tuple[InstanceIdentifier, ...] = ()

    @property
    def key(self) -> Handle:
        """Context states are many to one descriptor: filed under their own handle."""
        return self.handle


class PatientContextState(_ContextState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """A patient, past, present or announced."""

    core_data: PatientDemographics | None = None


class LocationContextState(_ContextState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """A place."""

    location_detail: LocationDetail | None = None


class EnsembleContextState(_ContextState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """An ensemble."""


class WorkflowContextState(_ContextState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """An order or procedure; its detail stays raw until a later issue needs it."""

    workflow_detail: Unknown | None = None


class OperatorContextState(_ContextState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """Who operates the device."""

    operator_details: BaseDemographics | None = None


class MeansContextState(_ContextState, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True):
    """A means in use."""


NonWaveformMetricState = (
    NumericMetricState | StringMetricState | EnumStringMetricState | DistributionSampleArrayMetricState
)
MetricState = NonWaveformMetricState | RealTimeSampleArrayMetricState
ComponentState = MdsState | VmdState | ChannelState | ScoState | SystemContextState | ClockState | BatteryState
ConditionState = AlertConditionState | LimitAlertConditionState
AlertState = AlertSystemState | ConditionState | AlertSignalState
OperationState = (
    SetValueOperationState
    | SetStringOperationState
    | ActivateOperationState
    | SetContextStateOperationState
    | SetMetricStateOperationState
    | SetComponentStateOperationState
    | SetAlertStateOperationState
)
ContextState = (
    PatientContextState
    | LocationContextState
    | EnsembleContextState
    | WorkflowContextState
    | OperatorContextState
    | MeansContextState
)
SingleState = MetricState | ComponentState | AlertState | OperationState
State = SingleState | ContextState
