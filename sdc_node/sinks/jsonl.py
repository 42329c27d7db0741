"""The recorded log: every report as one JSON line (decision 10 of the house), for replay, tests and support.

The file holds patient data: it is 0600, bounded, and rotated by size.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from mdib_models.identity import DeviceId
from mdib_models.updates import ReportBatch
from mdib_models.wire.jsonl import Opened, encode, lines_of
from sdc_node.sinks.base import SinkError


class JsonlSettings(BaseModel):
    """`[jsonl]` in node.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    path: Path = Field(description="the log's file; older ones get .1, .2, ... before the suffix")
    waveforms: bool = Field(default=True, description="record waveforms too (most of the volume)")
    max_megabytes: int = Field(default=512, ge=1, le=65_536, description="size at which a new file is begun")
    keep: int = Field(default=3, ge=1, le=1_000, description="how many files are kept, the current one included")


class JsonlSink:
    """Appends to one file. After each rotation a device begins with a whole MDIB again, so each file stands alone."""

    name = "jsonl"

    def __init__(self, settings: JsonlSettings) -> None:
        self._settings = settings
        self.wants_waveforms = settings.waveforms
        self._descriptor = -1
        self._size = 0
        self._opened: set[DeviceId] = set()
        self._counted: Counter[str] = Counter()

    async def start(self) -> None:
        """Open the file; one whose last line was cut off by a crash is put aside first. Raises SinkError."""
        try:
            await asyncio.to_thread(self._open)
            if await asyncio.to_thread(self._is_cut_off):
                await asyncio.to_thread(self._rotate)
        except OSError as error:
            raise SinkError(f"[jsonl] path {self._settings.path}: {error.strerror}; name a file in a folder") from None

    async def accept(self, batch: ReportBatch) -> None:
        """Write what the batch adds; returns when the system has it (not synced to disk). Raises OSError."""
        if self._size >= self._settings.max_megabytes * 1_000_000:
            await asyncio.to_thread(self._rotate)
        lines = list(lines_of(batch))
        if batch.report is not None and batch.device not in self._opened:
            # the file begins here: the mirror after the report says all that it said
            lines = [Opened(batch.device, batch.arrived, batch.after)]
        text = b"".join(encode(line) + b"\n" for line in lines)
        try:
            await asyncio.to_thread(self._write, text)
        except OSError:
            self._opened.discard(batch.device)  # what follows does not follow from what the file holds
            raise
        if any(isinstance(line, Opened) for line in lines):
            self._opened.add(batch.device)
        self._size += len(text)
        self._counted["lines"] += len(lines)
        self._counted["bytes"] += len(text)

    async def drain(self, seconds: float) -> None:
        """Nothing is held back."""

    async def stop(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            await asyncio.to_thread(os.close, descriptor)

    def counters(self) -> Mapping[str, int]:
        """Lines and bytes written, files rotated."""
        return self._counted

    def _open(self) -> None:
        self._descriptor = os.open(self._settings.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.fchmod(self._descriptor, 0o600)
        self._size = os.fstat(self._descriptor).st_size
        self._opened.clear()

    def _is_cut_off(self) -> bool:
        return bool(self._size) and os.pread(self._descriptor, 1, self._size - 1) != b"\n"

    def _write(self, text: bytes) -> None:
        try:
            while text:
                text = text[os.write(self._descriptor, text) :]
        except OSError:
            os.ftruncate(self._descriptor, self._size)  # no half of a line stays behind
            raise

    def _rotate(self) -> None:
        path = self._settings.path
        if self._descriptor >= 0:  # else the last try to rotate failed
            os.close(self._descriptor)
            self._descriptor = -1
        for number in range(self._settings.keep - 1, 0, -1):
            old = path if number == 1 else path.with_suffix(f".{number - 1}{path.suffix}")
            if old.exists():
                old.replace(path.with_suffix(f".{number}{path.suffix}"))
        if self._settings.keep == 1:
            path.unlink(missing_ok=True)
        self._counted["rotated"] += 1
        self._open()
