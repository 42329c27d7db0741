"""The console sink: one line for each thing a person watching would want to know, and no patient in any of them."""

import sys
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

from pydantic import BaseModel, ConfigDict, Field

from mdib_models.states import NumericMetricValue, StringMetricValue
from mdib_models.updates import GapUpdate, LinkUpdate, MetricUpdate, ReportBatch


class ConsoleSettings(BaseModel):
    """`[console]` in node.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    values: bool = Field(default=False, description="print metric values too, not only links and alerts")


class ConsoleSink:
    """Prints links, gaps and alerts as they happen, and metric values where asked."""

    name = "console"
    wants_waveforms = False

    def __init__(self, settings: ConsoleSettings, stream: TextIO | None = None) -> None:
        self._settings = settings
        self._stream = stream
        self._counted: Counter[str] = Counter()

    async def start(self) -> None:
        """Nothing to open."""

    async def accept(self, batch: ReportBatch) -> None:
        """Print what the batch says."""
        for line in describe(batch, values=self._settings.values):
            moment = datetime.fromtimestamp(batch.arrived / 1000, UTC).strftime("%H:%M:%S")
            print(f"{moment} {line}", file=self._stream or sys.stdout, flush=True)
            self._counted["lines"] += 1

    async def drain(self, seconds: float) -> None:
        """Nothing is held back."""

    async def stop(self) -> None:
        """Nothing to close."""

    def counters(self) -> Mapping[str, int]:
        """Lines printed."""
        return self._counted


def describe(batch: ReportBatch, *, values: bool) -> list[str]:
    """What a batch says, in short lines without a patient."""
    device = batch.device.removeprefix("urn:uuid:")[:8]
    lines = []
    for update in batch.updates:
        if isinstance(update, LinkUpdate):
            lines.append(f"{device} {update.state}: {update.reason}")
        elif isinstance(update, GapUpdate):
            lines.append(f"{device} gap: {update.reason}")
        elif values and isinstance(update, MetricUpdate):
            value = update.state.metric_value
            if isinstance(value, NumericMetricValue | StringMetricValue):
                lines.append(f"{device} {update.state.descriptor_handle} = {value.value} {value.quality.validity}")
    lines += [
        f"{device} alert {told.key.condition} {told.phase} ({told.snapshot.state}, priority {told.snapshot.priority})"
        for told in batch.occurrences
    ]
    return lines
