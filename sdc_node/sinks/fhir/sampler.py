"""Chooses which metric values become Observations (`fhir_mapping` 7). No I/O and no clock; times in ms."""

from collections import deque

from mdib_models.descriptors import MetricDescriptor
from mdib_models.identity import Handle, MdsKey
from mdib_models.states import DistributionSampleArrayMetricState
from mdib_models.updates import Association, LinkUpdate, MetricUpdate, ReportBatch
from sdc_node.sinks.fhir.observation import Sample
from sdc_node.sinks.fhir.sample import Waiting

INTERMITTENT_CAP = 5_000
"""Intermittent values that wait for the next round; at the cap the round comes early, so that none is dropped."""


class Sampler:
    """Continuous metrics give their latest new value each `period`, all others each value. Event loop only."""

    def __init__(self, *, period: int) -> None:
        self._period = period
        self._latest: dict[tuple[MdsKey, Handle], Waiting] = {}
        self._each: deque[Waiting] = deque()
        self._told: dict[tuple[MdsKey, Handle], tuple[str, int]] = {}
        self._next: int | None = None

    def accept(self, batch: ReportBatch) -> None:
        """Take a batch in. A value whose device is no longer live is kept with the time at which it was true."""
        for update in batch.updates:
            if isinstance(update, LinkUpdate) and update.state == "lost":
                self._told = {at: told for at, told in self._told.items() if at[0].device != batch.device}
            if not isinstance(update, MetricUpdate) or isinstance(update.state, DistributionSampleArrayMetricState):
                continue
            descriptor = batch.after.find(update.state.descriptor_handle)
            if not isinstance(descriptor, MetricDescriptor) or update.state.metric_value is None:
                continue
            key = MdsKey(batch.device, update.mds)
            determined = update.state.metric_value.determination_time
            association = batch.associations.get(key, Association())
            if not association.may_carry(descriptor, determined):  # measured on somebody else: nobody's, then
                association = Association(location=association.location, reason="measured-before-association")
            time = batch.arrived if determined is None else determined
            sample = Waiting(
                key=key,
                sample=Sample(update.state, time, batch.arrived),
                mdib=batch.after,
                association=association,
            )
            self._file(sample, continuous=descriptor.metric_availability == "Cont")
            if self._next is None:
                self._next = batch.arrived + self._period

    def next_due(self) -> int | None:
        """When the next round is due, or None where nothing waits."""
        if len(self._each) >= INTERMITTENT_CAP:
            return 0
        return self._next

    def take(self, now: int) -> list[Waiting]:
        """The round's samples, and begin the next round."""
        samples = [*self._each, *self._latest.values()]
        self._each.clear()
        self._latest.clear()
        self._next = now + self._period
        return samples

    def _file(self, sample: Waiting, *, continuous: bool) -> None:
        at = (sample.key, sample.sample.state.descriptor_handle)
        version = (sample.mdib.version.sequence_id, sample.sample.state.state_version)
        if self._told.get(at) == version:  # a snapshot repeats what was told
            return
        self._told[at] = version
        if not continuous:
            self._each.append(sample)
            return
        before = self._latest.get(at)
        if before is not None and before.association != sample.association:
            self._each.append(before)  # what was the former patient's is told as the former patient's
        self._latest[at] = sample
