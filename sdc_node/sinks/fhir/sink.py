"""The FHIR R4 sink: the device tree on change, Observations by period, alerts at once, through the outbox.

Identifiers and bundle ids are derived from what is said, so that rendering again after a crash makes the same ones.
"""

import asyncio
import contextlib
import logging
import ssl
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from mdib_models.alerts import AlertOccurrence
from mdib_models.identity import DeviceId, MdsKey
from mdib_models.mirror import Mdib
from mdib_models.states import BatteryState, ClockState, LimitAlertConditionState
from mdib_models.updates import (
    AlertUpdate,
    Association,
    ComponentUpdate,
    DescriptionUpdate,
    MetricUpdate,
    ReportBatch,
    Update,
)
from sdc_node.delivery import Accepted, Delivery, Outcome, Policy, Refused, Retry, Send
from sdc_node.ledger import Ledger
from sdc_node.outbox import LANES, Item, Lane, Outbox, wall_clock
from sdc_node.owing import RETRY_SECONDS, Owing
from sdc_node.sinks.fhir.client import FhirClient, count_entries
from sdc_node.sinks.fhir.render import (
    Message,
    Rendered,
    Stamps,
    render_alert,
    render_gone,
    render_observations,
    render_tree,
)
from sdc_node.sinks.fhir.sample import Waiting
from sdc_node.sinks.fhir.sampler import Sampler
from sdc_node.sinks.fhir.settings import FhirSettings

_LOG = logging.getLogger(__name__)


class _SentTree(msgspec.Struct, frozen=True):
    digest: str
    association: Association


class FhirSink:
    """One destination with two lanes: alerts never wait behind bulk data."""

    wants_waveforms = False

    def __init__(
        self,
        settings: FhirSettings,
        *,
        outbox: Outbox,
        tls: ssl.SSLContext | None = None,
        ledger: Ledger | None = None,
        now: Callable[[], int] = wall_clock,
    ) -> None:
        self.name = settings.name
        self._namespace = settings.namespace
        self._owing = Owing(outbox, ledger)
        self._now = now
        self._counted: Counter[str] = Counter()
        self._sampler = Sampler(period=round(settings.interval * 1000))
        self._sent_trees: dict[MdsKey, _SentTree] = {}
        self._tick: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stopping = False
        context = tls if settings.base_url.startswith("https:") else None
        self._clients: dict[Lane, FhirClient] = {
            lane: FhirClient(settings.base_url, ssl=context, timeout=settings.timeout) for lane in LANES
        }
        policy = Policy(first=settings.retry_first, longest=max(settings.retry_first, settings.retry_max))
        self.deliveries = [
            Delivery(outbox, self.name, lane, _sender(client, self._counted_entries), policy)
            for lane, client in self._clients.items()
        ]

    async def start(self) -> None:
        """Begin to deliver what the outbox holds, and to sample."""
        for delivery in self.deliveries:
            delivery.start()
        self._tick = asyncio.create_task(self._sample(), name=f"sink-{self.name}-samples")

    async def accept(self, batch: ReportBatch) -> None:
        """Commit the device tree where it changed and alerts at once; keep metric values for their round."""
        self._sampler.accept(batch)
        self._wake.set()
        items, trees = self._trees(batch)
        for key in trees:  # unknown until it is committed
            self._sent_trees.pop(key, None)
        for occurrence in batch.occurrences:
            items += self._alert(occurrence, batch)
        await self._owe(items)
        self._sent_trees |= trees

    async def drain(self, seconds: float) -> None:
        """Commit the running round, and send for up to `seconds`."""
        await self._stop_tick()
        await self._owe(self._observations(self._sampler.take(self._now())))
        await asyncio.gather(*(delivery.stop(seconds) for delivery in self.deliveries))

    async def stop(self) -> None:
        """End the connections. What is not acknowledged stays in the outbox."""
        await self._stop_tick()
        await asyncio.gather(*(delivery.stop() for delivery in self.deliveries))
        for client in self._clients.values():
            await client.close()

    def counters(self) -> Mapping[str, int]:
        """Rendered resources by kind, and entries by what the server said of them."""
        return {**self._counted, **{f"dropped_{name}": number for name, number in self._owing.dropped.items()}}

    async def _sample(self) -> None:
        while not self._stopping:
            due = self._sampler.next_due()
            self._wake.clear()
            pause = None if due is None else max(0.0, (due - self._now()) / 1000)
            if self._owing.holds:
                pause = RETRY_SECONDS if pause is None else min(pause, RETRY_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            due = self._sampler.next_due()
            is_due = due is not None and due <= self._now()
            if not is_due and not self._owing.holds:
                continue
            try:
                await self._owe(self._observations(self._sampler.take(self._now())) if is_due else [])
            except Exception as error:  # noqa: BLE001 - the next round must still come
                self._counted["failed_rounds"] += 1
                _LOG.error("%s: a round of Observations could not be committed: %s", self.name, type(error).__name__)

    async def _stop_tick(self) -> None:
        """Let the tick finish what it is committing: a cancelled commit would be owed and not counted."""
        if self._tick is not None:
            self._stopping = True
            self._wake.set()
            await self._tick
            self._tick = None

    def _trees(self, batch: ReportBatch) -> tuple[list[Item], dict[MdsKey, _SentTree]]:
        """The tree of each MDS that is not on the server as it is now, and what is on it once that is committed."""
        items, trees = self._gone(batch), {}
        for key, association in batch.associations.items():
            known = self._sent_trees.get(key)
            if (
                known is not None
                and known.association is association
                and not any(_may_change_tree(update, batch.before) for update in batch.updates)
            ):
                continue
            tree = render_tree(batch.after, key.mds, association, self._stamps())
            if known is None or known.digest != tree.digest:
                self._counted["trees_rendered"] += 1
                items += self._items("bulk", batch.device, tree.messages)
            trees[key] = _SentTree(tree.digest, association)
        return items, trees

    def _gone(self, batch: ReportBatch) -> list[Item]:
        """What turns off the Devices and DeviceMetrics of what the device no longer has."""
        if not any(isinstance(update, DescriptionUpdate) for update in batch.updates):
            return []
        for handle in batch.before.descriptors.keys() - batch.after.descriptors.keys():
            self._sent_trees.pop(MdsKey(batch.device, handle), None)  # an MDS that comes back must be turned on
        messages = render_gone(batch.before, batch.after, self._stamps())
        self._counted["gone_rendered"] += sum(message.entries for message in messages)
        return self._items("bulk", batch.device, messages)

    def _observations(self, samples: Sequence[Waiting]) -> list[Item]:
        """Batches of those who share MDS, patient and mirror: alarm flags and version are those of their moment."""
        alike: dict[tuple[MdsKey, int, int], list[Waiting]] = {}
        for sample in samples:
            alike.setdefault((sample.key, id(sample.association), id(sample.mdib)), []).append(sample)
        items = []
        for (key, _, _), group in alike.items():
            last = group[-1]
            try:
                rendered = render_observations(
                    last.mdib, key.mds, [one.sample for one in group], last.association, self._stamps()
                )
            except Exception as error:  # noqa: BLE001 - the other devices' must still go
                self._not_rendered("observations", len(group), error)
                continue
            items += self._take(rendered, "bulk", key.device, "observations")
        return items

    def _alert(self, occurrence: AlertOccurrence, batch: ReportBatch) -> list[Item]:
        # a condition that is gone from the MDIB is told of from the mirror in which it still was
        mdib = batch.after if occurrence.key.condition in batch.after.descriptors else batch.before
        try:
            rendered = render_alert(mdib, occurrence, self._stamps())
        except Exception as error:  # noqa: BLE001 - the rest of the batch must still go
            self._not_rendered("alerts", 1, error)
            return []
        return self._take(rendered, "alert", batch.device, "alerts")

    def _not_rendered(self, kind: str, number: int, error: Exception) -> None:
        self._counted[f"dropped_{kind}_not_rendered"] += number
        _LOG.error("%s: %d %s could not be rendered: %s", self.name, number, kind, type(error).__name__)

    def _take(self, rendered: Rendered, lane: Lane, device: DeviceId, kind: str) -> list[Item]:
        self._counted[f"{kind}_rendered"] += sum(message.entries for message in rendered.messages)
        for reason, number in rendered.skipped.items():
            self._counted[f"dropped_{kind}_{reason}"] += number
        return self._items(lane, device, rendered.messages)

    def _items(self, lane: Lane, device: DeviceId, messages: Sequence[Message]) -> list[Item]:
        created = self._now()
        return [
            Item(id=one.id, destination=self.name, lane=lane, key=device, body=one.body, created=created)
            for one in messages
        ]

    def _stamps(self) -> Stamps:
        return Stamps(built=self._now(), namespace=self._namespace)

    async def _owe(self, items: Sequence[Item]) -> None:
        owed = await self._owing.put(items)
        self._counted["entries_owed"] += sum(count_entries(item.body) for item in owed)

    def _counted_entries(self, accepted: int, rejected: int) -> None:
        self._counted["entries_accepted"] += accepted
        self._counted["entries_rejected"] += rejected


def _may_change_tree(update: Update, before: Mdib) -> bool:
    """Whether an update speaks of something that the tree tells: not of the time of a clock or a metric's value."""
    match update:
        case DescriptionUpdate():
            return True
        case ComponentUpdate(state=ClockState() as clock):
            old = before.states.get(clock.descriptor_handle)
            return not isinstance(old, ClockState) or _clock(old) != _clock(clock)
        case ComponentUpdate(state=state):
            return not isinstance(state, BatteryState)
        case MetricUpdate(state=metric):
            old = before.states.get(metric.descriptor_handle)
            return _metric(old) != _metric(metric)
        case AlertUpdate(state=LimitAlertConditionState() as limit):
            old = before.states.get(limit.descriptor_handle)
            return not isinstance(old, LimitAlertConditionState) or old.limits != limit.limits
    return False


def _metric(state: object) -> tuple[object, ...]:
    told = ("activation_state", "physical_connector", "physiological_range")
    return tuple(getattr(state, name, None) for name in told)


def _clock(state: ClockState) -> tuple[object, ...]:
    return state.activation_state, state.remote_sync, state.accuracy, state.active_sync_protocol


def _sender(client: FhirClient, count: Callable[[int, int], None]) -> Send:
    async def send(item: Item) -> Outcome:
        response = await client.send(item.body)
        if response.verdict == "retryable":
            # 200 and 409 speak of the bundle; 408, 429, 5xx and silence of the server, which is tried for ever
            if response.status in {200, 409}:
                return Retry(response.reason, "not accepted", response.retry_after or 0.0)
            return Retry(response.reason, after=response.retry_after or 0.0)
        accepted = sum(entry.verdict == "accepted" for entry in response.entries)
        count(accepted, len(response.entries) - accepted)
        return Accepted() if response.verdict == "accepted" else Refused(response.reason)

    return send
