"""The folder that a node keeps everything in, and the lock that keeps it to one node."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

LOCK_NAME: Final = "lock"
_PID_BYTES: Final = 32


class DirectoryError(Exception):
    """The folder cannot be made, entered or locked; one line that names it and what to do."""


class NodeDirectory:
    """An exclusively locked folder, until `close` or the end of the process, kill -9 included."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def open(cls, path: Path) -> "NodeDirectory":
        """Make the folder (0700, as far as it is not there yet) and lock it. Raises DirectoryError."""
        path = Path(path)
        try:
            _make(path)
            descriptor = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DirectoryError(f"{path}: {error.strerror}; name a folder that this user may write to") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(descriptor, 0o600)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError as error:
            holder = os.pread(descriptor, _PID_BYTES, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise DirectoryError(
                f"{path} is in use by process {holder or '(just starting)'}; stop it or name another folder"
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise DirectoryError(f"{path}: cannot be locked ({error.strerror}); use a local disk") from error
        return cls(path, descriptor)

    def close(self) -> None:
        """Give the folder up; a second call does nothing."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                os.ftruncate(descriptor, 0)
            finally:
                os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _make(path: Path) -> None:
    """A folder that is there keeps its mode: what the node writes into it is 0600 by itself."""
    if path.is_dir():
        return
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
