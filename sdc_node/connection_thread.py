"""A thread that owns one SQLite connection, and the queue between it and the event loop."""

import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_log = logging.getLogger(__name__)


class DatabaseError(Exception):
    """The file cannot be opened, read or written; one line that names the file and what to do."""


class Job:
    """A function on its way to a thread's connection, and its result on the way back."""

    __slots__ = ("committed", "error", "function", "future", "result")

    def __init__(
        self,
        function: Callable[[sqlite3.Connection], Any],
        committed: Callable[[Any], None] | None,
        future: "asyncio.Future[Any]",
    ) -> None:
        self.function = function
        self.committed = committed
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None

    def resolve(self) -> None:
        """On the event loop: tell who waits."""
        if self.error is None and self.committed is not None:
            try:
                self.committed(self.result)
            except Exception as error:  # noqa: BLE001  # who waits must hear of it, whatever it is
                self.error = error
        if self.future.done():  # the waiting task was cancelled
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            # A future refuses StopIteration, and who waits would wait for ever.
            wrapped = isinstance(self.error, StopIteration)
            self.future.set_exception(RuntimeError("StopIteration") if wrapped else self.error)


class ConnectionThread:
    """One connection owned by one thread; `turn` runs there with all jobs that wait."""

    def __init__(
        self,
        path: Path,
        role: str,
        connection: sqlite3.Connection,
        turn: Callable[[sqlite3.Connection, list[Job]], None],
        capacity: int,
    ) -> None:
        self._path = path
        self._connection = connection
        self._turn = turn
        self._slots = asyncio.Semaphore(capacity)
        self._gathering: list[Job] = []  # of this turn of the event loop; only the loop touches it
        self._waiting: deque[Job] = deque()
        self._ready = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"sdc-db-{path.stem}-{role}", daemon=True)
        self._thread.start()

    async def submit(
        self, function: Callable[[sqlite3.Connection], T], committed: Callable[[T], None] | None = None
    ) -> T:
        await self._slots.acquire()
        if self._closing:
            self._slots.release()
            raise DatabaseError(f"{self._path}: closed; open it again")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if not self._gathering:
            loop.call_soon(self._hand_over)
        self._gathering.append(Job(function, committed, future))
        return await future

    async def close(self) -> None:
        """Finish what waits, close the connection, end the thread."""
        self._hand_over()
        with self._ready:
            self._closing = True
            self._ready.notify()
        await asyncio.to_thread(self._thread.join)

    def _hand_over(self) -> None:
        jobs, self._gathering = self._gathering, []
        if jobs:
            with self._ready:
                self._waiting.extend(jobs)
                self._ready.notify()

    def _run(self) -> None:
        with contextlib.closing(self._connection):
            while jobs := self._take():
                try:
                    self._turn(self._connection, jobs)
                except BaseException as error:  # noqa: BLE001  # out of memory, say: nobody may wait for ever
                    for job in jobs:
                        job.error = job.error or error
                self._give_back(jobs)

    def _take(self) -> list[Job]:
        with self._ready:
            while not self._waiting and not self._closing:
                self._ready.wait()
            jobs = list(self._waiting)
            self._waiting.clear()
            return jobs

    def _give_back(self, jobs: list[Job]) -> None:
        loop = jobs[0].future.get_loop()
        try:
            loop.call_soon_threadsafe(self._resolve, jobs)
        except RuntimeError:  # the loop was closed under its own tasks
            _log.warning("%s: nobody waits any more for %d results", self._thread.name, len(jobs))

    def _resolve(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._slots.release()
            job.resolve()
