"""The Sink interface: what the pipeline knows of a way out."""

from collections.abc import Mapping
from typing import Protocol

from mdib_models.updates import ReportBatch


class SinkError(Exception):
    """Why a sink could never work; one line that says what to do."""


class Sink(Protocol):
    """A way out of the node. All four verbs are called on the event loop, never two at once for one sink.

    `name` labels counters and log lines. A sink that does not want waveforms is never offered a batch of nothing else.
    """

    name: str
    wants_waveforms: bool

    async def start(self) -> None:
        """Begin: open what is needed. Raises SinkError where it could never work; an absent receiver is no reason."""

    async def accept(self, batch: ReportBatch) -> None:
        """Take one batch. Returns when all that this batch makes owed is committed.

        What it raises is counted as a failure of this sink and reported; the batch is not offered again.
        """

    async def drain(self, seconds: float) -> None:
        """Close what is open (intervals, buffers), commit it, and deliver for up to `seconds`; no batch follows."""

    async def stop(self) -> None:
        """Release everything. Called once, also after a failed start."""

    def counters(self) -> Mapping[str, int]:
        """Monotonic counters by name, without labels that could name a patient."""
