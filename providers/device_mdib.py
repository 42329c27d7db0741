"""The MDIB of one simulated device: made from its profile, then written in whole transactions.

Who calls must be the only writer; sdc11073 sends a report at the end of every transaction and waits for the
subscribers' answers.
"""

import math
import uuid
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from lxml import etree
from sdc11073.xml_types import pm_qnames, pm_types

from providers import alarm_panel, patient
from providers.alarm_panel import AlertState, Condition, ConditionState, SignalState
from providers.profile import Profile, Reading, Waveform, read_library_mdib
from providers.signals import Influences, is_active

_PM: Final = "{http://standards.ieee.org/downloads/11073/11073-10207-2017/participant}"
_SDPI: Final = f"{{{patient.SDPI_NAMESPACE}}}"
_NAMESPACE: Final = uuid.UUID("5d0c1a52-0f6b-4a83-9c3e-0a6d6f2c4b17")
"""Root of the demo devices' name-based identifiers."""

MAX_CHUNK: Final = 1.0
"""Seconds of samples in one report at most; after a longer stall the older ones are left out."""


def endpoint(profile: str, index: int, seed: int) -> uuid.UUID:
    """The EPR of this instance of a profile: the same after every restart."""
    return uuid.uuid5(_NAMESPACE, f"{profile}:{index}:{seed}")


class DeviceMdib:
    """The MDIB of one instance. ``library`` is sdc11073's ProviderMdib; its SequenceId is new each time."""

    def __init__(self, profile: Profile, epr: uuid.UUID) -> None:
        self.profile: Final = profile
        content = profile.mdib if profile.passive else _personal(profile.mdib, epr)
        self.library: Final = read_library_mdib(content, profile.name)
        self._complete()
        self._descriptors: Final = self.library.descriptions.handle
        self._sent: dict[str, AlertState] = {}
        self._next_sample: dict[str, int] = {}

    # ------------------------------------------------------------ what it describes

    def handles(self, node_type: Any) -> tuple[str, ...]:
        """The handles of all descriptors of this BICEPS type."""
        return tuple(d.Handle for d in self.library.descriptions.NODETYPE.get(node_type, []))

    def conditions(self) -> list[Condition]:
        """The alert conditions with their signals, for the alarm panel."""
        found = []
        for node_type in (pm_qnames.AlertConditionDescriptor, pm_qnames.LimitAlertConditionDescriptor):
            for handle in self.handles(node_type):
                descriptor = self._descriptors.get_one(handle)
                found.append(
                    Condition(
                        handle=handle,
                        system=descriptor.parent_handle,
                        technical=descriptor.Kind != pm_types.AlertConditionKind.PHYSIOLOGICAL,
                        signals=self._signals(handle),
                    )
                )
        return found

    def alert_systems(self) -> dict[str, float]:
        """The alert systems that check themselves, with their SelfCheckPeriod in seconds."""
        systems = (self._descriptors.get_one(h) for h in self.handles(pm_qnames.AlertSystemDescriptor))
        return {s.Handle: float(s.SelfCheckPeriod) for s in systems if s.SelfCheckPeriod}

    def beyond_limits(self) -> dict[str, bool]:
        """For each limit condition, whether the value of its source lies beyond the monitored limits now.

        A source without a valid value is within them: what is not known raises no limit alarm.
        """
        return {h: self._is_beyond(h) for h in self.handles(pm_qnames.LimitAlertConditionDescriptor)}

    # ------------------------------------------------------------ what it reports

    def write_readings(self, readings: Iterable[Reading], t: float, seed: int, influences: Influences) -> None:
        """Report these metrics as determined at ``t``, in one transaction."""
        with self.library.metric_state_transaction(set_determination_time=False) as transaction:
            for reading in readings:
                state = transaction.get_state(reading.handle)
                value = reading.value(t, seed, influences)
                _set_value(state, self._as_value(reading.handle, value), t)

    def stamp_settings(self, t: float) -> None:
        """Give the values that the MDIB file brought along (settings) the time ``t``."""
        with self.library.metric_state_transaction(set_determination_time=False) as transaction:
            for state in list(self.library.states.objects):
                sampled = state.is_realtime_sample_array_metric_state
                if state.is_metric_state and not sampled and state.MetricValue is not None:
                    transaction.get_state(state.DescriptorHandle).MetricValue.DeterminationTime = t

    def write_samples(self, waveforms: Iterable[Waveform], t: float, seed: int, influences: Influences) -> int:
        """Report the samples since the last call up to ``t``, in one transaction. Returns how many there were."""
        written = 0
        with self.library.rt_sample_state_transaction() as transaction:
            for waveform in waveforms:
                state = transaction.get_state(waveform.handle)
                state.MetricValue = self._chunk(waveform, t, seed, influences)
                written += len(state.MetricValue.Samples)
        return written

    def write_alerts(self, states: Mapping[str, AlertState]) -> tuple[str, ...]:
        """Report those of the alert states that differ from the last call, in one transaction; their handles."""
        changed = {handle: state for handle, state in states.items() if self._sent.get(handle) != state}
        if changed:
            with self.library.alert_state_transaction() as transaction:
                for handle, wanted in changed.items():
                    _set_alert(transaction.get_state(handle), wanted)
            self._sent.update(changed)
        return tuple(changed)

    def write_self_check(self, systems: Iterable[str], t: float) -> None:
        """Report that these alert systems have checked themselves at ``t``."""
        with self.library.alert_state_transaction() as transaction:
            for handle in systems:
                state = transaction.get_state(handle)
                state.LastSelfCheck = t
                state.SelfCheckCount = (state.SelfCheckCount or 0) + 1

    def write_components(self, runtime: float) -> None:
        """Report the clocks (sdc11073 fills in DateAndTime) and the batteries after ``runtime`` seconds."""
        clocks, batteries = self.handles(pm_qnames.ClockDescriptor), self.handles(pm_qnames.BatteryDescriptor)
        if not clocks and not batteries:
            return
        with self.library.component_state_transaction() as transaction:
            for handle in clocks:
                transaction.get_state(handle)
            for handle in batteries:
                self._discharge(transaction.get_state(handle), handle, runtime)

    def associate(self, location: Any, who: patient.Patient | None) -> None:
        """Associate location and patient where the MDIB has a context for them."""
        for handle in self.handles(pm_qnames.LocationContextDescriptor):
            patient.associate_location(self.library, handle, location)
        self.change_patient(who)

    def change_patient(self, who: patient.Patient | None) -> None:
        """Associate this patient, or nobody, instead of the present one."""
        for handle in self.handles(pm_qnames.PatientContextDescriptor):
            patient.associate_patient(self.library, handle, who)
            patient.forget_old(self.library, handle)

    # ------------------------------------------------------------ within

    def _complete(self) -> None:
        """Settle what sdc11073 leaves at its own initial values."""
        vis, on = pm_types.AlertSignalManifestation.VIS, pm_types.AlertActivation.ON
        for state in self.library.states.objects:
            if state.is_operational_state:
                state.OperatingMode = pm_types.OperatingMode.DISABLED
            elif state.is_alert_system and not self.profile.passive:
                state.SystemSignalActivation.append(pm_types.SystemSignalActivation(vis, on))

    def _signals(self, condition: str) -> tuple[alarm_panel.Signal, ...]:
        signals = (self._descriptors.get_one(h) for h in self.handles(pm_qnames.AlertSignalDescriptor))
        return tuple(
            alarm_panel.Signal(
                handle=signal.Handle,
                audible=signal.Manifestation == pm_types.AlertSignalManifestation.AUD,
                latching=bool(signal.Latching),
                acknowledgeable=bool(signal.AcknowledgementSupported),
            )
            for signal in signals
            if signal.ConditionSignaled == condition
        )

    def _is_beyond(self, condition: str) -> bool:
        state = self.library.states.descriptor_handle.get_one(condition)
        sources = self._descriptors.get_one(condition).Source
        source = str(sources[0]) if sources else None
        metric = source and self.library.states.descriptor_handle.get_one(source, allow_none=True)
        if not metric or metric.MetricValue is None or metric.MetricValue.Value is None:
            return False
        value, monitored = metric.MetricValue.Value, state.MonitoredAlertLimits
        limits, kinds = state.Limits, pm_types.AlertConditionMonitoredLimits
        low = monitored in (kinds.ALL_ON, kinds.HIGH_OFF) and limits.Lower is not None and value < limits.Lower
        high = monitored in (kinds.ALL_ON, kinds.LOW_OFF) and limits.Upper is not None and value > limits.Upper
        return bool(low or high)

    def _as_value(self, handle: str, value: float | str | None) -> Decimal | str | None:
        return value if value is None or isinstance(value, str) else self._quantize(handle, value)

    def _quantize(self, handle: str, value: float) -> Decimal:
        """The value as a whole number of Resolutions, within the TechnicalRange (its first, if any)."""
        descriptor = self._descriptors.get_one(handle)
        number = round(value / float(descriptor.Resolution)) * descriptor.Resolution
        for technical in descriptor.TechnicalRange[:1]:
            number = max(technical.Lower, min(technical.Upper, number))
        return Decimal(number)

    def _chunk(self, waveform: Waveform, t: float, seed: int, influences: Influences) -> Any:
        period = float(self._descriptors.get_one(waveform.handle).SamplePeriod)
        last = math.floor(t / period)
        longest = max(1, round(MAX_CHUNK / period))
        first = max(self._next_sample.get(waveform.handle, last), last - longest + 1)
        self._next_sample[waveform.handle] = last + 1
        value = pm_types.SampleArrayValue()
        value.DeterminationTime = first * period
        if waveform.lost_by is not None and is_active(influences, waveform.lost_by):
            value.MetricQuality = _quality(valid=False)
            value.Samples = []
            return value
        value.Samples = [
            self._quantize(waveform.handle, waveform.sample(number * period, seed, influences))
            for number in range(first, last + 1)
        ]
        return value

    def _discharge(self, state: Any, handle: str, runtime: float) -> None:
        full = self._descriptors.get_one(handle).CapacityFullCharge
        if full is None or state.CapacityRemaining is None:
            return
        left = max(0.05, 0.95 - runtime / 36_000.0)
        state.CapacityRemaining.MeasuredValue = (full.MeasuredValue * Decimal(str(round(left, 3)))).normalize()


def _personal(mdib: bytes, epr: uuid.UUID) -> bytes:
    """The MDIB with the identifiers of this instance: EquipmentIdentifier (R0014-R0018) and serial number."""
    root = etree.fromstring(mdib)
    for identifier in root.iter(f"{_SDPI}EquipmentIdentifier"):
        owner = next(ancestor for ancestor in identifier.iterancestors() if "Handle" in ancestor.attrib)
        identifier.text = uuid.uuid5(epr, owner.get("Handle", "")).urn
    serial = f"DEMO-{epr.hex[:8].upper()}"
    for element in root.iter(f"{_PM}SerialNumber", f"{_PM}HumanReadableForm"):
        element.text = (element.text or "").replace("DEMO-0000", serial)
    return etree.tostring(root)


def _quality(*, valid: bool) -> Any:
    quality = pm_types.MetricQuality()
    kinds = pm_types.MeasurementValidity
    quality.Validity = kinds.VALID if valid else kinds.INVALID
    return quality


def _set_value(state: Any, value: Decimal | str | None, t: float) -> None:
    if state.MetricValue is None:
        state.mk_metric_value()
    state.MetricValue.Value = value
    state.MetricValue.DeterminationTime = t
    state.MetricValue.MetricQuality = _quality(valid=value is not None)


def _set_alert(state: Any, wanted: AlertState) -> None:
    if isinstance(wanted, ConditionState):
        state.Presence = wanted.present
        state.ActualPriority = wanted.priority and pm_types.AlertConditionPriority(wanted.priority)
    elif isinstance(wanted, SignalState):
        state.ActivationState = pm_types.AlertActivation(wanted.activation)
        state.Presence = pm_types.AlertSignalPresence(wanted.presence)
    else:
        state.PresentPhysiologicalAlarmConditions = list(wanted.physiological)
        state.PresentTechnicalAlarmConditions = list(wanted.technical)
        for signal in state.SystemSignalActivation:
            if signal.Manifestation == pm_types.AlertSignalManifestation.AUD:
                signal.State = pm_types.AlertActivation(wanted.audio)
