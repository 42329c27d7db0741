"""What happened: one `Report` in, one `ReportBatch` out, and the updates a batch consists of."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import msgspec

from mdib_models.descriptors import Descriptor, MetricDescriptor
from mdib_models.identity import DeviceId, Handle, MdibVersionGroup, MdsKey
from mdib_models.states import (
    AlertState,
    ComponentState,
    ContextState,
    LocationContextState,
    NonWaveformMetricState,
    OperationState,
    PatientContextState,
    RealTimeSampleArrayMetricState,
    State,
)

if TYPE_CHECKING:
    from mdib_models.alerts import AlertOccurrence
    from mdib_models.mirror import Mdib

ReportKind = Literal[
    "metric",
    "waveform",
    "alert",
    "context",
    "component",
    "operational",
    "description",
    "invoked",
    "system-error",
]
LinkState = Literal["discovered", "connecting", "subscribed", "live", "stale", "lost"]
Modification = Literal["Crt", "Upt", "Del"]
InvocationState = Literal["Wait", "Start", "Cnclld", "CnclldMan", "Fin", "FinMod", "Fail"]


class DescriptionPart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One part of a DescriptionModificationReport: descriptors (with their parent) and their states."""

    modification: Modification
    descriptors: tuple[Descriptor, ...]
    states: tuple[State, ...] = ()


class Invocation(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One step of an operation's execution (OperationInvokedReport)."""

    operation_handle: Handle
    transaction_id: int
    state: InvocationState
    operation_target: Handle | None = None
    error: str | None = None
    error_message: str | None = None


class Report(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag=True, tag_field="@type"):
    """One report as it came, in our words. `arrived` is the consumer's time in ms since the epoch.

    `number` is sdpi:ReportSequence/@MessageNumber where the provider sends it (SDPi R1030).
    """

    kind: ReportKind
    version: MdibVersionGroup
    arrived: int
    states: tuple[State, ...] = ()
    description: tuple[DescriptionPart, ...] = ()
    invocations: tuple[Invocation, ...] = ()
    number: int | None = None


class _Update(msgspec.Struct, frozen=True, gc=False, tag=True, tag_field="@type", omit_defaults=True):
    pass


class MetricUpdate(_Update, frozen=True, gc=False, omit_defaults=True, tag=True):
    """A metric other than a waveform has a new state."""

    mds: Handle
    state: NonWaveformMetricState


class WaveformChunk(_Update, frozen=True, gc=False, omit_defaults=True, tag=True):
    """The next samples of a waveform."""

    mds: Handle
    state: RealTimeSampleArrayMetricState


class AlertUpdate(_Update, frozen=True, gc=False, omit_defaults=True, tag=True):
    """An alert system, condition or signal has a new state."""

    mds: Handle
    state: AlertState


class ContextUpdate(_Update, frozen=True, gc=False, omit_defaults=True, tag=True):
    """A context state came or changed."""

    mds: Handle
    state: ContextState


class ComponentUpdate(_Update, frozen=True, gc=False, omit_defaults=True, tag=True):
    """An MDS, VMD, channel, clock, battery, SCO or system context has a new state."""

    mds: Handle
    state: ComponentState


class OperationUpdate(_Update, frozen=True, gc=False, omit_defaults=True, tag=True):
    """An operation may or may not be used now (`state`), or one was invoked (`invocation`)."""

    mds: Handle
    state: OperationState | None = None
    invocation: Invocation | None = None


class DescriptionUpdate(_Update, frozen=True, gc=False, omit_defaults=True, tag=True):
    """A descriptor was created, changed or deleted; for `Del`, `descriptor` is what it was."""

    mds: Handle
    modification: Modification
    descriptor: Descriptor


class LinkUpdate(_Update, frozen=True, gc=False, omit_defaults=True, tag=True):
    """The session's named state changed. Unless it is live, nothing in the mirror may be shown as current."""

    state: LinkState
    reason: str
    previous: LinkState | None = None


class GapUpdate(_Update, frozen=True, gc=False, omit_defaults=True, tag=True):
    """Something between two versions was not seen (`reason`); what follows is a fresh snapshot."""

    reason: str
    after: MdibVersionGroup | None = None
    before: MdibVersionGroup | None = None


Update = (
    MetricUpdate
    | WaveformChunk
    | AlertUpdate
    | ContextUpdate
    | ComponentUpdate
    | OperationUpdate
    | DescriptionUpdate
    | LinkUpdate
    | GapUpdate
)


class Association(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Whose data an MDS produces. `patient` and `location` are set only where SDPi R8102 lets a gateway use them.

    `since` (ms) is when the patient was bound by the device's word, else when the binding was first seen. `reason`
    says why there is no patient: a word that names no one.
    """

    patient: PatientContextState | None = None
    location: LocationContextState | None = None
    reason: str | None = None
    since: int | None = None

    def same_subject(self, other: "Association") -> bool:
        """Whether data under the two may go into one message: the same person by the same identifiers, or nobody twice.

        A corrected name or weight of the same patient is the same subject; another context state is not.
        """
        one, two = self.patient, other.patient
        if one is None or two is None:
            return one is two
        return (one.handle, one.identification, one.binding_start_time) == (
            two.handle,
            two.identification,
            two.binding_start_time,
        )

    def may_carry(self, descriptor: MetricDescriptor, determined: int | None) -> bool:
        """Whether a value may go out under the patient.

        What was measured (`determined`, the device's time in ms) before the patient was associated was measured on
        somebody else; a setting stays in force. A value without a time is believed.
        """
        if self.patient is None or self.since is None or determined is None:
            return True
        return descriptor.metric_category in {"Set", "Preset"} or determined >= self.since


class ReportBatch(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One whole report, with the mirror before and after it: all that a sink may look at.

    `report` is what was folded, None for a snapshot (`replayed` is then true) and for what comes from no device.
    `associations` and `occurrences` are empty until the pipeline has filled them.
    """

    device: DeviceId
    before: "Mdib"
    after: "Mdib"
    updates: tuple[Update, ...]
    arrived: int
    report: Report | None = None
    replayed: bool = False
    associations: Mapping[MdsKey, Association] = msgspec.field(default_factory=dict)
    occurrences: tuple["AlertOccurrence", ...] = ()
