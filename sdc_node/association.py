"""Whose data an MDS produces, and when nobody may say (SDPi R8102, R8111; decision 8 of the house)."""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from mdib_models.identity import Handle, MdsKey
from mdib_models.mirror import Mdib
from mdib_models.states import LocationContextState, PatientContextState
from mdib_models.updates import Association, ContextUpdate, DescriptionUpdate, ReportBatch

_Context = TypeVar("_Context", PatientContextState, LocationContextState)

NO_PATIENT = "no-associated-patient"
SEVERAL_PATIENTS = "several-associated-patients"
NOT_VALIDATED = "patient-not-validated"


def associate(mdib: Mdib, mds: Handle) -> Association:
    """The association of one MDS. Anything doubtful is nobody: a patient is never guessed.

    A context counts only if it is associated (`Assoc`) and names at least one validator (R8102); two associated
    patients on one MDS count as none, since BICEPS allows only one.
    """
    patients = _associated(mdib, mds, PatientContextState)
    locations = [place for place in _associated(mdib, mds, LocationContextState) if _is_validated(place)]
    reason = None
    patient = None
    if not patients:
        reason = NO_PATIENT
    elif len(patients) > 1:
        reason = SEVERAL_PATIENTS
    elif not _is_validated(patients[0]):
        reason = NOT_VALIDATED
    else:
        patient = patients[0]
    return Association(patient=patient, location=locations[0] if len(locations) == 1 else None, reason=reason)


class Associations:
    """The association of every MDS of every device, kept current batch by batch. Event loop only."""

    def __init__(self) -> None:
        self._by_device: dict[str, dict[MdsKey, Association]] = {}

    def of(self, batch: ReportBatch) -> Mapping[MdsKey, Association]:
        """The associations that hold after a batch. The mapping is never changed afterwards."""
        known = self._by_device.get(batch.device)
        if known is None or batch.replayed or any(map(_may_change, batch.updates)):
            before = known or {}
            known = {}
            for descriptor in batch.after.children(None):
                key = MdsKey(batch.device, descriptor.handle)
                known[key] = _since(associate(batch.after, descriptor.handle), before.get(key), batch.arrived)
            self._by_device[batch.device] = known
        return known


def _since(now: Association, before: Association | None, arrived: int) -> Association:
    """When the patient was bound; where the device does not say, when that was first seen, which is surely later."""
    if now.patient is None:
        return now
    since = now.patient.binding_start_time
    if since is None:
        since = before.since if before is not None and before.same_subject(now) else arrived
    return msgspec.structs.replace(now, since=since)


def _may_change(update: object) -> bool:
    return isinstance(update, ContextUpdate | DescriptionUpdate)


def _associated(mdib: Mdib, mds: Handle, kind: type[_Context]) -> list[_Context]:
    return [
        state
        for state in mdib.contexts.values()
        if isinstance(state, kind)
        and state.context_association == "Assoc"
        and mdib.mds_of(state.descriptor_handle) == mds
    ]


def _is_validated(state: PatientContextState | LocationContextState) -> bool:
    return any(not validator.is_empty for validator in state.validator)
