"""The HL7 v2 sink: PCD-01 per MDS and interval, PCD-04 per alert occurrence, through the outbox to an MLLP receiver.

Ids are derived from what a message says, so that rendering it again after a crash makes the same id, and the outbox
keeps one of the two.
"""

import asyncio
import contextlib
import hashlib
import logging
import ssl
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from mdib_models.alerts import AlertOccurrence
from mdib_models.descriptors import Descriptor
from mdib_models.identity import DeviceId, Handle, MdsKey
from mdib_models.mirror import Mdib
from mdib_models.updates import ReportBatch
from sdc_node.database import DatabaseError
from sdc_node.delivery import Accepted, Delivery, Outcome, Policy, Refused, Retry, Send
from sdc_node.ledger import Ledger
from sdc_node.outbox import Item, Lane, Outbox, wall_clock
from sdc_node.owing import RETRY_SECONDS, Owing
from sdc_node.sinks.base import SinkError
from sdc_node.sinks.hl7v2.client import MllpClient, MllpError
from sdc_node.sinks.hl7v2.collector import BEFORE_ASSOCIATION, DROPS, Collector
from sdc_node.sinks.hl7v2.interval import Gateway, Interval, Numbers, Stamps
from sdc_node.sinks.hl7v2.render import numbered, render_pcd01, render_pcd04
from sdc_node.sinks.hl7v2.settings import Hl7Settings
from sdc_node.state import MetricKey, State

_LOG = logging.getLogger(__name__)
_MESSAGE_IDS = uuid.uuid5(uuid.NAMESPACE_OID, "1.3.6.1.4.1.19376.1.6.1.4.1")


class Hl7Sink:
    """One destination with two lanes: alerts never wait behind bulk data."""

    wants_waveforms = False

    def __init__(
        self,
        settings: Hl7Settings,
        *,
        outbox: Outbox,
        state: State,
        tls: ssl.SSLContext | None = None,
        ledger: Ledger | None = None,
        now: Callable[[], int] = wall_clock,
    ) -> None:
        if settings.tls and tls is None:
            raise SinkError(f"[[hl7]] {settings.name}: tls needs certificates")  # never in the clear instead
        self.name = settings.name
        self._settings = settings
        self._owing = Owing(outbox, ledger)
        self._state = state
        self._told: dict[MetricKey, int] = {}
        self._now = now
        self._gateway = gateway_of(settings)
        self._collector = Collector(
            period=round(settings.interval * 1000),
            grace=round(settings.grace * 1000),
            max_clock_offset=round(settings.max_clock_offset * 1000),
        )
        self._numbers: dict[DeviceId, Numbers] = {}
        self._numbered: dict[DeviceId, Mapping[Handle, Descriptor]] = {}
        self._tick: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stopping = False
        self._clients: dict[Lane, MllpClient] = {
            "alert": _client(settings, settings.pcd04_timeout, tls),
            "bulk": _client(settings, settings.pcd01_timeout, tls),
        }
        policy = Policy(first=settings.retry_first, longest=max(settings.retry_first, settings.retry_max))
        self.deliveries = [
            Delivery(outbox, self.name, lane, _sender(client), policy) for lane, client in self._clients.items()
        ]
        self._counted: Counter[str] = Counter()

    async def start(self) -> None:
        """Begin to deliver what the outbox holds, and to close intervals in time."""
        told = await self._state.told(self.name)
        self._collector.remember(
            {(MdsKey(DeviceId(device), mds), handle): time for (device, mds, handle), time in told.items()}
        )
        for delivery in self.deliveries:
            delivery.start()
        self._tick = asyncio.create_task(self._close_intervals(), name=f"sink-{self.name}-intervals")

    async def accept(self, batch: ReportBatch) -> None:
        """Collect metrics; render and commit what the batch closes and tells."""
        if self._numbered.get(batch.device) is not batch.after.descriptors:
            await self._number(batch.after)
        intervals = self._collector.accept(batch)
        items = self._pcd01(intervals)
        for occurrence in batch.occurrences:
            items += self._pcd04(occurrence, batch)
        await self._owe(items, intervals)
        self._wake.set()

    async def drain(self, seconds: float) -> None:
        """Close the running intervals, commit them, and send for up to `seconds`."""
        await self._stop_tick()
        intervals = self._collector.drain(self._now())
        await self._owe(self._pcd01(intervals), intervals)
        await asyncio.gather(*(delivery.stop(seconds) for delivery in self.deliveries))

    async def stop(self) -> None:
        """End the connections. What is not acknowledged stays in the outbox."""
        await self._stop_tick()
        await asyncio.gather(*(delivery.stop() for delivery in self.deliveries))
        for client in self._clients.values():
            await client.close()

    def counters(self) -> Mapping[str, int]:
        """Rendered messages by kind, and values that did not make it into an interval, by reason."""
        collected = self._collector.counters.items()
        held = {f"dropped_{name}": number for name, number in self._owing.dropped.items()}
        return {**self._counted, **held, **{f"dropped_{name}" if name in DROPS else name: n for name, n in collected}}

    async def _close_intervals(self) -> None:
        while not self._stopping:
            due = self._collector.next_due()
            self._wake.clear()
            pause = None if due is None else max(0.0, (due - self._now()) / 1000)
            if self._owing.holds:
                pause = RETRY_SECONDS if pause is None else min(pause, RETRY_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            try:
                intervals = self._collector.due(self._now())
                await self._owe(self._pcd01(intervals), intervals)
            except Exception as error:  # noqa: BLE001 - the next interval must still be closed
                self._counted["failed_intervals"] += 1
                _LOG.error("%s: an interval could not be committed: %s", self.name, type(error).__name__)

    async def _stop_tick(self) -> None:
        """Let the tick finish what it is committing: a cancelled commit would be owed and not counted."""
        if self._tick is not None:
            self._stopping = True
            self._wake.set()
            await self._tick
            self._tick = None

    async def _number(self, mdib: Mdib) -> None:
        pairs = [pair for mds in mdib.children(None) for pair in numbered(mdib, mds.handle)]
        self._numbers[mdib.device] = await self._state.assign(mdib.device, pairs)
        self._numbered[mdib.device] = mdib.descriptors

    def _pcd01(self, intervals: Sequence[Interval]) -> list[Item]:
        items = []
        for interval in intervals:
            control_id = _hash("pcd01", interval.key.device, interval.key.mds, *_said(interval))
            stamps = self._stamps(interval.key.device, control_id, order_id=self._order_id(interval))
            try:
                body = render_pcd01(interval, stamps)
            except Exception as error:  # noqa: BLE001 - the other intervals must still go
                self._not_rendered("pcd01", error)
                continue
            if body is None:
                self._counted["empty_intervals"] += 1
                continue
            self._counted["pcd01_rendered"] += 1
            items.append(self._item(control_id, "bulk", interval.key.device, body, stamps.built))
        return items

    def _pcd04(self, occurrence: AlertOccurrence, batch: ReportBatch) -> list[Item]:
        said = msgspec.json.encode(occurrence.snapshot).decode()
        parts = (
            occurrence.id,
            *msgspec.structs.astuple(occurrence.key),
            str(occurrence.number),
            occurrence.phase,
            said,
        )
        stamps = self._stamps(
            occurrence.key.device,
            _hash("pcd04", *parts),
            message_id=str(uuid.uuid5(_MESSAGE_IDS, "\x1f".join(parts))),
        )
        # a condition that is gone from the MDIB is told of from the mirror in which it still was
        mdib = batch.after if occurrence.key.condition in batch.after.descriptors else batch.before
        key = MdsKey(occurrence.key.device, occurrence.key.mds)
        now = batch.associations.get(key)
        is_theirs = now is not None and now.same_subject(occurrence.association)
        corrected = self._collector.corrected(key) if is_theirs else frozenset()
        try:
            body = render_pcd04(occurrence, mdib, stamps, corrected=corrected)
        except Exception as error:  # noqa: BLE001 - the rest of the batch must still go
            self._not_rendered("pcd04", error)
            return []
        self._counted["pcd04_rendered"] += 1
        return [self._item(stamps.control_id, "alert", occurrence.key.device, body, stamps.built)]

    def _not_rendered(self, kind: str, error: Exception) -> None:
        self._counted[f"dropped_{kind}_not_rendered"] += 1
        _LOG.error("%s: a %s could not be rendered: %s", self.name, kind, type(error).__name__)

    def _stamps(self, device: DeviceId, control_id: str, *, order_id: str = "", message_id: str = "") -> Stamps:
        return Stamps(
            control_id=control_id,
            built=self._now(),
            gateway=self._gateway,
            numbers=self._numbers[device],
            order_id=order_id,
            message_id=message_id,
        )

    def _order_id(self, interval: Interval) -> str:
        number = self._numbers[interval.key.device][("", interval.key.mds)]
        device = _hash(interval.key.device)[:8]
        beside = "-0" if interval.association.reason == BEFORE_ASSOCIATION else ""
        return f"{self._settings.eui64}-{device}-{interval.start}-{number}{beside}"

    def _item(self, control_id: str, lane: Lane, device: DeviceId, body: bytes, created: int) -> Item:
        return Item(id=control_id, destination=self.name, lane=lane, key=device, body=body, created=created)

    async def _owe(self, items: Sequence[Item], intervals: Sequence[Interval]) -> None:
        for interval in intervals:
            for one in interval.intermittent:
                self._told[interval.key.device, interval.key.mds, one.state.descriptor_handle] = one.time
        await self._owing.put(items)
        told, self._told = self._told, {}
        if told:  # now that it is owed; what is held for the disk is noted when it goes
            try:
                await self._state.save_told(self.name, told)
            except DatabaseError:
                self._told = told | self._told
                raise


def gateway_of(settings: Hl7Settings) -> Gateway:
    """Who we say we are, as the renderers want it."""
    return Gateway(
        application=settings.application,
        eui64=settings.eui64,
        facility=settings.facility,
        receiving_application=settings.receiving_application,
        receiving_facility=settings.receiving_facility,
        country=settings.country,
        patient_class=settings.patient_class,
    )


def _sender(client: MllpClient) -> Send:
    async def send(item: Item) -> Outcome:
        try:
            ack = await client.send(item.body, item.id)
        except MllpError as error:
            return Retry(str(error))
        if ack.code in {"CA", "AA"}:
            return Accepted()
        if ack.code in {"CR", "AR"}:
            return Refused(f"{ack.code} {ack.text}".strip())
        return Retry(f"{ack.code} {ack.text}".strip(), "unreachable" if ack.receiver_failed else "not accepted")

    return send


def _client(settings: Hl7Settings, timeout: float, tls: ssl.SSLContext | None) -> MllpClient:
    return MllpClient(settings.host, settings.port, ssl=tls, timeout=timeout)


def _said(interval: Interval) -> Sequence[str]:
    """What tells an interval from every other one, also where this host's clock was set back in between."""
    determinations = (*interval.continuous.values(), *interval.intermittent)
    values = (f"{one.state.descriptor_handle}={one.state.state_version}" for one in determinations)
    return str(interval.start), str(interval.end), interval.mdib.version.sequence_id, *values


def _hash(*parts: str) -> str:
    """MSH-10: 20 hex digits (80 bits), since some receivers keep no more than 20 characters of it."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:20].upper()
