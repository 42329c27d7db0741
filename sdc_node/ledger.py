"""A list of what is owed, kept apart from the outbox, so that a test can prove the outbox wrong."""

import asyncio
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

_TAIL: Final = 4096


class Ledger:
    """One id a line, appended after the outbox's commit has returned.

    Every id in it is owed; what a receiver has not stored in the end is lost. It survives kill -9, not loss
    of power: nothing is synced, for the node's own promise is the outbox's.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the file (0600); a line that a killed process left unfinished is cut off. Raises
        OSError.
        """
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(self._descriptor, 0o600)
            _cut_unfinished(self._descriptor)
        except OSError:
            os.close(self._descriptor)
            raise

    async def append(self, ids: Sequence[str]) -> None:
        """One write() for all of them, away from the event loop. Raises ValueError, OSError."""
        if any(not one or "\n" in one for one in ids):
            raise ValueError("a ledger's id is a line: not empty, without a line end")
        if ids:
            await asyncio.to_thread(self._write, "".join(f"{one}\n" for one in ids).encode())

    def close(self) -> None:
        """Once, after the last append has returned."""
        os.close(self._descriptor)

    def _write(self, lines: bytes) -> None:
        while lines:  # a nearly full disk takes a part
            lines = lines[os.write(self._descriptor, lines) :]


def read_ledger(path: Path) -> tuple[str, ...]:
    """The ids in the order they became owed; an unfinished last line is none."""
    *lines, _unfinished = path.read_text().split("\n")
    return tuple(lines)


def lost(ledgers: Iterable[Path], stored: Iterable[str]) -> frozenset[str]:
    """Ids that were owed and that no receiver stored: what must be empty."""
    owed = {one for ledger in ledgers for one in read_ledger(ledger)}
    return frozenset(owed.difference(stored))


def _cut_unfinished(descriptor: int) -> None:
    end = size = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - _TAIL)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(descriptor, end)
