"""One moment of the whole node, gathered from its parts."""

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from consumers.fleet import Fleet
from mdib_models.coding import text_of
from mdib_models.descriptors import MdsDescriptor
from mdib_models.identity import DeviceId
from mdib_models.mirror import Mdib
from sdc_node.delivery import Delivery
from sdc_node.outbox import LaneCounts, Outbox
from sdc_node.pipeline import Pipeline
from sdc_node.sinks.base import Sink
from sdc_node.telemetry import DestinationStatus, DeviceStatus, Status
from sdc_node.timesync import TimeWatch

_LOG = logging.getLogger(__name__)


class StatusBoard:
    """Knows where every number is kept. Event loop only, but for `write`."""

    def __init__(
        self, sinks: Sequence[Sink], pipeline: Pipeline, fleet: Fleet, outbox: Outbox, clock: TimeWatch
    ) -> None:
        self._sinks = sinks
        self._pipeline = pipeline
        self._fleet = fleet
        self._outbox = outbox
        self._clock = clock
        self._since: dict[DeviceId, int] = {}
        self.following = False

    def linked(self, device: DeviceId, since: int) -> None:
        """A device's link changed at `since` (ms)."""
        self._since[device] = since

    def status(self) -> Status:
        """Everything that can be counted, now."""
        not_ready = []
        clock = self._clock.status  # first: it asks where nobody has yet
        if not self._clock.ready:
            not_ready.append(f"no time service: {clock.detail}")
        elif not self.following:
            not_ready.append("devices are not followed yet")
        return Status(
            ready=not not_ready,
            not_ready=not_ready,
            clock=clock.detail,
            devices=[
                DeviceStatus(device, _model(session.mirror), session.state, session.reason, self._since.get(device, 0))
                for device, session in self._fleet.sessions.items()
            ],
            received=dict(self._pipeline.received),
            sinks={sink.name: dict(sink.counters()) for sink in self._sinks},
            dropped=self._dropped(),
            failed=self._failed(),
            destinations=[status for sink in self._sinks for status in self._destinations(sink)],
            open_alerts=self._pipeline.open_alerts(),
            problems=self._fleet.problems(),
        )

    def write(self, path: Path) -> None:
        """Leave the last status in a file (0600), whole or not at all; where the disk refuses it, that is logged."""
        content = msgspec.json.format(msgspec.json.encode(self.status()))
        written = path.with_name(f"{path.name}.new")
        try:
            descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            written.replace(path)
        except OSError as error:
            _LOG.error("the last status cannot be left in %s: %s", path, error.strerror)
            with contextlib.suppress(OSError):  # told above
                written.unlink(missing_ok=True)

    def _failed(self) -> dict[str, int]:
        pipeline = self._pipeline
        alerts = {"not-told": pipeline.not_told.total(), "not-saved": pipeline.not_saved, "not-read": pipeline.not_read}
        return dict(pipeline.failed) | {f"alerts: {name}": number for name, number in alerts.items() if number}

    def _dropped(self) -> dict[str, int]:
        dropped: Counter[str] = Counter()
        for name, lane in self._pipeline.lanes().items():
            dropped.update({f"{name}: {reason}": number for reason, number in lane.dropped.items()})
        for name, number in self._fleet.counters().items():
            if "dropped" in name:
                dropped[f"devices: {name}"] += number
        for (destination, queue), counts in self._outbox.counts().items():
            dropped.update({f"{destination} {queue}: {why}": number for why, number in counts.dropped.items()})
        for sink in self._sinks:
            own = {n.removeprefix("dropped_"): v for n, v in sink.counters().items() if n.startswith("dropped_")}
            dropped.update({f"{sink.name}: {name}": number for name, number in own.items()})
        return dict(dropped)

    def _destinations(self, sink: Sink) -> Sequence[DestinationStatus]:
        deliveries: Sequence[Delivery] = getattr(sink, "deliveries", ())
        counts = self._outbox.counts()
        return [_destination(delivery, counts.get((sink.name, delivery.lane), LaneCounts())) for delivery in deliveries]


def _model(mdib: Mdib) -> str:
    """The model name of a device's first MDS, else what type it says it is."""
    mds = next(mdib.children(None), None)
    if not isinstance(mds, MdsDescriptor):
        return ""
    names = mds.meta_data.model_name if mds.meta_data is not None else ()
    return text_of(names) or (mds.type.text() if mds.type is not None else None) or ""


def _destination(delivery: Delivery, counts: LaneCounts) -> DestinationStatus:
    return DestinationStatus(
        destination=delivery.destination,
        lane=delivery.lane,
        waiting=counts.waiting,
        waiting_bytes=counts.waiting_bytes,
        oldest=counts.oldest_created,
        sent=counts.sent,
        dead=counts.dead,
        last_error=delivery.counts.last_error,
    )
