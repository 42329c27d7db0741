"""Many sessions, and one `async for batch in fleet`."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, Self

import msgspec

from consumers.discovery.found import ByeHeard, Discovered, Discovery
from consumers.errors import MulticastBlocked
from consumers.library import TlsFactory
from consumers.session import Session, SessionSettings
from mdib_models.identity import DeviceId
from mdib_models.updates import ReportBatch

logger = logging.getLogger(__name__)


class FleetSettings(msgspec.Struct, frozen=True):
    """How a fleet behaves. `queue` bounds the batches that wait for the reader; a full one delays the devices.

    `connects` is how many devices are connected to at a time, `probe_pause` the least seconds between two Probes while
    a known device is lost (nothing is asked while none is: SDPi R3001).
    """

    session: SessionSettings = msgspec.field(default_factory=SessionSettings)
    queue: int = 256
    connects: int = 4
    devices: int = 100
    probe_pause: float = 10.0


class Fleet:
    """All devices that discovery finds and `accept` takes. Event loop only; an async context manager.

    `tls` makes the two contexts of each connect; None where only plain HTTP is spoken. A device is followed over plain
    HTTP only if `allow_plaintext` says so for its EPR. Iterate once; iteration ends with `close()`.
    """

    def __init__(
        self,
        discovery: Sequence[Discovery],
        tls: TlsFactory | None,
        settings: FleetSettings | None = None,
        *,
        accept: Callable[[Discovered], bool] = lambda _found: True,
        allow_plaintext: Callable[[str], bool] = lambda _epr: False,
    ) -> None:
        self._discovery = tuple(discovery)
        self._tls = tls
        self._settings = settings or FleetSettings()
        self._accept = accept
        self._allow_plaintext = allow_plaintext
        self._queue: asyncio.Queue[ReportBatch | None] = asyncio.Queue(self._settings.queue)
        self._sessions: dict[DeviceId, Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._following: dict[DeviceId, asyncio.Task[None]] = {}
        self._threads = ThreadPoolExecutor(self._settings.connects + 4, thread_name_prefix="sdc-device")
        self._may_connect = asyncio.Semaphore(self._settings.connects)
        self._counts: Counter[str] = Counter()
        self._probed = -1e9
        self._probing: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def sessions(self) -> Mapping[DeviceId, Session]:
        """The sessions by device; read only."""
        return MappingProxyType(self._sessions)

    def problems(self) -> dict[str, str]:
        """By address why a device listed by hand has not yet told who it is; such a device has no session."""
        return {address: reason for source in self._discovery for address, reason in source.problems().items()}

    async def start(self) -> None:
        """Start discovery. Raises MulticastBlocked where no source of devices works."""
        blocked: MulticastBlocked | None = None
        for source in self._discovery:
            try:
                await source.start()
            except MulticastBlocked as error:
                logger.warning("%s", error)
                self._counts["multicast_blocked"] += 1
                blocked = error
            else:
                self._spawn(self._listen(source))
        if blocked is not None and not self._tasks:
            raise blocked

    async def close(self) -> None:
        """Unsubscribe everywhere and stop; no thread, task or descriptor is left."""
        if self._closed:
            return
        self._closed = True
        tasks = list(self._tasks) + ([self._probing] if self._probing is not None else [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for source in self._discovery:
            await source.close()
        self._threads.shutdown(wait=False)  # all work has ended; the threads see that and go
        while self._queue.full():
            self._queue.get_nowait()
            self._counts["dropped_at_close"] += 1
        self._queue.put_nowait(None)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[ReportBatch]:
        """Batches of all devices; those of one device in order."""
        while (batch := await self._queue.get()) is not None:
            yield batch

    async def probe(self) -> None:
        """Ask the network once, on a user's action (SDPi R3002)."""
        self._probed = time.monotonic()
        for source in self._discovery:
            try:
                await source.probe()
            except MulticastBlocked:
                self._counts["probes_blocked"] += 1

    def counters(self) -> dict[str, int]:
        """Everything counted here, in discovery and in all sessions, summed over devices."""
        total = Counter(self._counts)
        total["devices"] = len(self._sessions)
        total["queued"] = self._queue.qsize()
        for session in self._sessions.values():
            total.update(session.counters())
            total[f"state_{session.state}"] += 1
        for source in self._discovery:
            total.update({f"discovery_{name}": count for name, count in source.counters().items()})
        return dict(total)

    async def _listen(self, source: Discovery) -> None:
        async for event in source:
            if isinstance(event, ByeHeard):
                session = self._sessions.get(DeviceId(event.epr))
                if session is not None:
                    session.bye_heard()
            else:
                self._found(event)

    def _found(self, found: Discovered) -> None:
        device = DeviceId(found.epr)
        session = self._sessions.get(device)
        if session is None:
            if not self._accept(found):
                self._counts["not_accepted"] += 1
                return
            if len(self._sessions) >= self._settings.devices and not self._make_room():
                self._counts["refused_too_many_devices"] += 1
                return
            session = self._sessions[device] = Session(
                device,
                self._queue.put,
                tls=self._tls,
                threads=self._threads,
                settings=self._settings.session,
                allow_plaintext=self._allow_plaintext,
                ask=self._ask,
                may_connect=self._may_connect,
            )
            session.announced(found.xaddrs)
            self._following[device] = self._spawn(session.run())
        else:
            session.announced(found.xaddrs)

    def _make_room(self) -> bool:
        """Give up a device that was announced and never could be connected to; anybody may announce anything."""
        for device, session in self._sessions.items():
            if session.state == "lost" and not session.mirror.descriptors:
                del self._sessions[device]
                self._following.pop(device).cancel()
                self._counts["given_up"] += 1
                return True
        return False

    def _ask(self) -> None:
        """A known device is lost: ask the network, but not more often than `probe_pause`."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.ensure_future(self._ask_soon())

    async def _ask_soon(self) -> None:
        await asyncio.sleep(max(0.0, self._probed + self._settings.probe_pause - time.monotonic()))
        if any(session.state == "lost" for session in self._sessions.values()):
            await self.probe()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._counts["failed_tasks"] += 1
            logger.error("a session or discovery ended by %s", type(error).__name__)
