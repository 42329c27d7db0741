"""One SQLite file: a writer thread that commits for all who wait at once, and a reader thread beside it.

WAL with `synchronous=FULL`: what a commit has returned survives kill -9 and loss of power. One commit costs
one fsync however many writes it carries, so the writes of one turn of the event loop, and all that arrive
while a commit is running, share the next one.
"""

import contextlib
import logging
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from sdc_node.connection_thread import ConnectionThread, DatabaseError, Job

__all__ = ["Database", "DatabaseError"]

T = TypeVar("T")

CAPACITY: Final = 1024
"""Writes (and, apart, reads) that may wait; the next caller waits for a place."""
BUSY_SECONDS: Final = 5.0
"""How long a statement waits for another process that writes to the same file."""
FULL_CHECK_BYTES: Final = 64 * 1024 * 1024
"""Files up to this size are read through at open; damage in a larger one is told when it is met."""
JOURNAL_BYTES: Final = 64 * 1024 * 1024

_log = logging.getLogger(__name__)

# Results that speak of the file or the disk, not of the statement.
_STORAGE_CODES: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)


class Database:
    """A SQLite file of the node. Its methods belong to one event loop; `open` blocks, so call it in a thread
    (`await asyncio.to_thread(Database.open, path, migrations)`) when a loop is running.
    """

    def __init__(self, path: Path, writing: sqlite3.Connection, reading: sqlite3.Connection, capacity: int) -> None:
        self.path = path
        self._writer = ConnectionThread(path, "writer", writing, self._commit, capacity)
        self._reader = ConnectionThread(path, "reader", reading, self._query, capacity)

    @classmethod
    def open(cls, path: Path, migrations: Sequence[str], *, capacity: int = CAPACITY) -> "Database":
        """Open or make the file and bring its schema up to date.

        `migrations` are SQL scripts, each applied once, in its own transaction, in order; a released one
        is never edited, for the first is also the mark by which a file of another store is told apart.
        The file's mode becomes 0600. Raises DatabaseError.
        """
        path = Path(path)
        with contextlib.ExitStack() as undo:
            try:
                _make_private(path)
                writing = undo.enter_context(contextlib.closing(_connect(path, "rw")))
                _prepare(writing, path, migrations)
                reading = undo.enter_context(contextlib.closing(_connect(path, "ro")))
                reading.execute("PRAGMA query_only=ON")
            except (OSError, sqlite3.Error) as error:
                raise DatabaseError(_advice(path, error)) from error
            undo.pop_all()
        return cls(path, writing, reading, capacity)

    async def write(
        self,
        function: Callable[[sqlite3.Connection], T],
        *,
        committed: Callable[[T], None] | None = None,
    ) -> T:
        """Run `function` in the writer thread, in a savepoint of its own, and return after the commit.

        An exception of `function` rolls back only what it did and is raised here. When the disk or the
        file fails, all of the same commit get a DatabaseError and nothing of it is kept; later writes are
        tried afresh. `committed` is called with the result on the event loop, right before this returns,
        even when the waiting task has been cancelled: a write that was asked for is not taken back.
        """
        return await self._writer.submit(function, committed)

    async def read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run `function` in the reader thread on one snapshot that holds every write that has returned."""
        return await self._reader.submit(function)

    async def close(self) -> None:
        """Finish what waits and end both threads; a second call does nothing."""
        await self._reader.close()
        await self._writer.close()  # last: it folds the WAL into the file

    def _commit(self, connection: sqlite3.Connection, jobs: list[Job]) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                connection.execute("SAVEPOINT job")
                self._call(connection, job)
                if job.error is not None:
                    connection.execute("ROLLBACK TO job")
                connection.execute("RELEASE job")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            for job in jobs:
                job.error = job.error or DatabaseError(_advice(self.path, error))
            _roll_back(connection, self.path)

    def _query(self, connection: sqlite3.Connection, jobs: list[Job]) -> None:
        for job in jobs:
            try:
                connection.execute("BEGIN")
                self._call(connection, job)
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                job.error = job.error or DatabaseError(_advice(self.path, error))
                _roll_back(connection, self.path)

    def _call(self, connection: sqlite3.Connection, job: Job) -> None:
        try:
            job.result = job.function(connection)
        except sqlite3.Error as error:
            job.error = DatabaseError(_advice(self.path, error)) if _is_storage(error) else error
        except BaseException as error:  # noqa: BLE001  # the thread serves others: who waits gets it
            job.error = error


def _make_private(path: Path) -> None:
    """0600 whatever the umask says; SQLite gives -wal and -shm the mode of the file."""
    # No descriptor is opened on a file that exists: closing one would drop the POSIX locks that another
    # connection of this process holds on it.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    if not path.is_file():
        raise DatabaseError(f"{path}: not a file; name another path")
    path.chmod(0o600)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,  # opened here, then used by its own thread alone
    )
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    mark = zlib.crc32(" ".join(migrations[0].split()).encode()) & 0x7FFF_FFFF
    connection.execute("BEGIN")  # one view of all three, should another process be making the file just now
    (found,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    connection.execute("COMMIT")
    if found != mark and (found, version, tables) != (0, 0, 0):
        raise DatabaseError(f"{path}: a database of something else; move it away or name another path")
    if version > len(migrations):
        raise DatabaseError(
            f"{path}: schema version {version} is newer than {len(migrations)}, the newest known here; "
            "run the version of the node that wrote it, or move it away"
        )
    if path.stat().st_size <= FULL_CHECK_BYTES:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise DatabaseError(f"{path}: damaged; {_KEEP}")
    if _switch_to_wal(connection) != "wal":
        raise DatabaseError(f"{path}: this file system has no shared memory for WAL; use a local disk")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA journal_size_limit={JOURNAL_BYTES}")
    for number in range(version, len(migrations)):
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE; {migrations[number]};"
                f"PRAGMA application_id={mark}; PRAGMA user_version={number + 1}; COMMIT;"
            )
        except sqlite3.Error:
            _roll_back(connection, path)
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version <= number:  # else another process has just done the same
                raise


def _switch_to_wal(connection: sqlite3.Connection) -> str:
    """The mode that the file is in now. The busy timeout does not cover two processes that switch at once."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            mode: str = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return mode


def _roll_back(connection: sqlite3.Connection, path: Path) -> None:
    if not connection.in_transaction:  # SQLite rolls back by itself after some errors
        return
    try:
        connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        _log.error("%s", _advice(path, error))  # and the next BEGIN tells it to who waits


def _primary_code(error: sqlite3.Error) -> int:
    code: int | None = getattr(error, "sqlite_errorcode", None)  # absent where Python itself raised it
    return 0 if code is None else code & 0xFF


def _is_storage(error: sqlite3.Error) -> bool:
    return _primary_code(error) in _STORAGE_CODES


_KEEP: Final = "move it away, and keep it: it may hold what was never sent"


def _advice(path: Path, error: Exception) -> str:
    """One line: the file, what happened, what to do."""
    if isinstance(error, sqlite3.Error):
        match _primary_code(error):
            case sqlite3.SQLITE_NOTADB:
                return f"{path}: not a database of this node; {_KEEP}"
            case sqlite3.SQLITE_CORRUPT:
                return f"{path}: damaged ({error}); {_KEEP}"
            case sqlite3.SQLITE_FULL:
                return f"{path}: the disk is full; make room"
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return f"{path}: another process is writing to it; stop that one"
        return f"{path}: {error}; check the disk and the permissions"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{path}: {reason}; check the folder and the permissions"
