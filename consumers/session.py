"""One provider, followed: discovered, connecting, subscribed, live, stale, lost. Holds the current mirror.

Event loop only; the library's blocking work runs in the threads it is given. Everything leaves as whole batches, in
order, through `emit`; when `emit` has to wait, so does the device, up to a deadline (house decision 5).
"""

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import msgspec

from consumers.discovery.found import MAX_ADDRESSES
from consumers.errors import ConsumerError, NotAProvider, PlaintextRefused, TimedOut
from consumers.handover import Handover
from consumers.library import Link, LinkSettings, Listener, TlsFactory
from consumers.tolerance import Pacing, fold_leniently
from mdib_models.identity import DeviceId
from mdib_models.mirror import Folded, Mdib, empty, link, snapshot
from mdib_models.updates import GapUpdate, LinkState, LinkUpdate, Report, ReportBatch

logger = logging.getLogger(__name__)

T = TypeVar("T")
Emit = Callable[[ReportBatch], Awaitable[None]]


class SessionSettings(msgspec.Struct, frozen=True):
    """How a session behaves; seconds. `depth` is how many reports may wait for the node."""

    link: LinkSettings = msgspec.field(default_factory=LinkSettings)
    depth: int = 128
    connect_timeout: float = 30.0
    first_retry: float = 1.0
    longest_retry: float = 30.0
    resync_pause: float = 1.0
    resync_window: float = 60.0
    resync_limit: int = 3


class Interrupted(msgspec.Struct, frozen=True):
    """The mirror needs a fresh snapshot."""

    reason: str


class Ended(msgspec.Struct, frozen=True):
    """The link is over."""

    reason: str


class _Lost(Exception):  # noqa: N818 - a way out of following a link
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Ear(Listener):
    """What the link's threads talk to. Drops reports while the session is stale, and tells of each overrun once.

    What `tolerated` says of is only counted: the reports around it are good.
    """

    def __init__(self, settings: SessionSettings, tolerated: Callable[[str], bool]) -> None:
        self.events: Handover[Report | Interrupted | Ended] = Handover(settings.depth)
        self.counts: Counter[str] = Counter()
        self._delay = settings.link.delay
        self._tolerated = tolerated
        self._deaf = False
        self._missed = False
        self._hearing = threading.Lock()

    def report(self, report: Report) -> None:
        with self._hearing:
            if self._deaf:
                self._missed = True
                self.counts["dropped_while_stale"] += 1
                return
        if not self.events.put(report, self._delay):
            with self._hearing:
                self.counts["dropped_overrun"] += 1
            self.interrupted("overrun")

    def interrupted(self, reason: str) -> None:
        with self._hearing:
            if self._deaf:
                self._missed = True
                return
            if self._tolerated(reason):
                self.counts[f"tolerated_{reason}"] += 1
                return
            self._deaf = True
        self.events.put_urgent(Interrupted(reason))

    def ended(self, reason: str) -> None:
        self.events.put_urgent(Ended(reason))

    def stop_listening(self) -> None:
        """Drop reports from now on."""
        with self._hearing:
            self._deaf = True

    def resume(self) -> bool:
        """Go on as if nothing had been; False, and still deaf, if something was missed meanwhile."""
        with self._hearing:
            self._deaf = self._missed
        return not self._deaf

    def listen(self) -> None:
        """Take reports from now on; what is still waiting belongs to the time before."""
        with self._hearing:
            for left in self.events.drain():
                if isinstance(left, Ended):
                    self.events.put_urgent(left)
                elif isinstance(left, Report):
                    self.counts["dropped_while_stale"] += 1
            self._deaf = self._missed = False


class Session:
    """Follows one device until `run()` is cancelled, which closes its link."""

    def __init__(
        self,
        device: DeviceId,
        emit: Emit,
        *,
        tls: TlsFactory | None,
        threads: ThreadPoolExecutor,
        settings: SessionSettings | None = None,
        allow_plaintext: Callable[[str], bool] = lambda _epr: False,
        ask: Callable[[], None] = lambda: None,
        may_connect: asyncio.Semaphore | None = None,
    ) -> None:
        self.device = device
        self.state: LinkState = "discovered"
        self.reason = "announced"
        self.mirror: Mdib = empty(device)
        self.counts: Counter[str] = Counter()
        self.settings = settings or SessionSettings()
        self._emit = emit
        self._tls = tls
        self._threads = threads
        self._allow_plaintext = allow_plaintext
        self._ask = ask
        self._may_connect = may_connect or asyncio.Semaphore(1)
        self._addresses: list[str] = []
        self._news = asyncio.Event()
        self._link: Link | None = None
        self._ear: _Ear | None = None
        self._pacing = self._new_pacing()
        self._behind: int | None = None
        self._checking: asyncio.Task[bool] | None = None
        self._checked = -1e9
        self._closing: set[asyncio.Future[None]] = set()

    def counters(self) -> Counter[str]:
        """Everything counted here so far, the present connection's ear included."""
        total = self.counts.copy()
        if self._ear is not None:
            total.update(dict(self._ear.counts))  # copied at once: threads count in it
        return total

    @property
    def violating(self) -> frozenset[str]:
        """The rules that the device keeps breaking and is followed in spite of."""
        return self._pacing.violating

    def announced(self, addresses: tuple[str, ...]) -> None:
        """Somebody said where the device is. Believed only when the device has proved it, and only when needed."""
        for address in addresses:
            if address not in self._addresses:
                self._addresses.insert(min(1, len(self._addresses)), address)
        del self._addresses[MAX_ADDRESSES:]
        self._news.set()

    def bye_heard(self) -> None:
        """Somebody said that the device left: ask the device itself, at most every five seconds."""
        self.counts["byes"] += 1
        link = self._link
        if link is None or time.monotonic() - self._checked < 5.0:
            return
        self._checked = time.monotonic()
        self._checking = asyncio.ensure_future(self._in_thread(link.check, link.abort))

    async def run(self) -> None:
        """Connect, follow, and again, until cancelled."""
        await self._say("discovered", self.reason)
        failures = 0
        try:
            while True:
                try:
                    await self._attempt()
                    failures = 0
                except _Lost as lost:
                    failures = 0
                    self.counts["losses"] += 1
                    await self._say("lost", lost.reason)
                    await self._close_link(unsubscribe=False)
                except ConsumerError as error:
                    failures += 1
                    await self._give_up(str(error))
                except Exception as error:  # noqa: BLE001 - one device's data must not end its session for good
                    failures += 1
                    self.counts["failures"] += 1
                    logger.error("%s: %s in %s", self.device, type(error).__name__, _place(error))  # noqa: TRY400
                    await self._give_up(f"this node failed ({type(error).__name__})")
                await self._pause(failures)
        finally:
            await self._close_link(unsubscribe=True)
            if self._closing:
                await asyncio.wait(self._closing)

    async def _give_up(self, reason: str) -> None:
        await self._close_link(unsubscribe=False)
        if (self.state, self.reason) != ("lost", reason):
            await self._say("lost", reason)

    async def _attempt(self) -> None:
        if self.state != "lost":
            await self._say("connecting", "device was found")
        self._news.clear()
        async with self._may_connect:
            link = await self._connect()
        await self._say("subscribed", f"all reports, for {link.granted():g} s at a time")
        reason = "first contact" if not self.mirror.descriptors else "device is back"
        await self._take_snapshot(link, reason)
        while True:
            await self._next(link)

    async def _connect(self) -> Link:
        error: ConsumerError = NotAProvider("the device announced no address that could be used")
        for address in self._usable():
            self.counts["connects"] += 1
            self._pacing = self._new_pacing()
            ear = self._ear = _Ear(self.settings, self._pacing.marked)
            tls = None if address.startswith("http:") else self._tls
            try:
                link = self._link = Link(address, tls, ear, self.settings.link)
                epr = await self._in_thread(link.open, link.abort, self.settings.connect_timeout)
                if epr != self.device:
                    raise NotAProvider(f"another device answers at {address}")
            except ConsumerError as failed:
                error = failed
                await self._close_link(unsubscribe=False)
                continue
            self._addresses.remove(address)
            self._addresses.insert(0, address)
            return link
        raise error

    def _usable(self) -> list[str]:
        """Addresses to try, TLS first. Raises PlaintextRefused where there is only plain HTTP and it is not allowed."""
        secure = [address for address in self._addresses if address.startswith("https:")]
        plain = [address for address in self._addresses if address.startswith("http:")]
        if secure or not plain:
            return secure
        if not self._allow_plaintext(self.device):
            raise PlaintextRefused(
                f"{self.device} offers plain HTTP only; list its EPR under allow_plaintext to follow it anyway"
            )
        return plain

    async def _next(self, link: Link) -> None:
        ear = self._ear
        left = link.seconds_left()
        if left <= 0 or ear is None:
            raise _Lost("the device did not confirm the subscription before it expired")
        try:
            async with asyncio.timeout(left):
                event = await ear.events.get()
        except TimeoutError:
            return
        if isinstance(event, Report):
            await self._take(event, link)
        elif isinstance(event, Interrupted):
            await self._interrupted(event.reason, link)
        else:
            raise _Lost(event.reason)

    async def _take(self, report: Report, link: Link) -> None:
        self.counts["reports"] += 1
        same_sequence = report.version.same_sequence(self.mirror.version)
        if self._behind is not None and same_sequence:
            if report.version.mdib_version <= self._behind:
                self.counts["dropped_before_snapshot"] += 1
                return
            self._behind = None
        result = fold_leniently(self.mirror, report, self._pacing.tolerates)
        if not isinstance(result, Folded):
            await self._resync(result.reason, link)
            return
        self.counts["version_gaps"] += result.gap
        self.counts.update(f"violation_{violation.kind}" for violation in result.violations)
        if result.mdib is not self.mirror or result.batch.updates:
            self.mirror = result.mdib
            await self._emit(result.batch)

    async def _interrupted(self, reason: str, link: Link) -> None:
        if self._pacing.tolerates(reason) and self._ear is not None and self._ear.resume():
            self.counts[f"tolerated_{reason}"] += 1
            return
        await self._resync(reason, link)

    async def _resync(self, reason: str, link: Link) -> None:
        """Go stale, say so, and take a fresh snapshot, paced."""
        self.counts[f"resyncs_{reason}"] += 1
        if self._ear is not None:
            self._ear.stop_listening()
        await self._say("stale", reason)
        wait = min(self._pacing.wait(reason), max(0.0, link.seconds_left()))
        await asyncio.sleep(wait)
        await self._take_snapshot(link, reason)

    async def _take_snapshot(self, link: Link, reason: str) -> None:
        """GetMdib. Reports that arrive meanwhile wait; those that the snapshot holds already are dropped."""
        if self._ear is not None and self.state == "stale":
            self._ear.listen()
        try:
            fresh = await self._in_thread(link.get_mdib, link.abort, self.settings.connect_timeout)
        except ConsumerError as error:
            raise _Lost(str(error)) from error
        before, self.mirror = self.mirror, fresh
        if not fresh.version.same_sequence(before.version):
            self._pacing.forgive()
        self._behind = fresh.version.mdib_version
        self.counts["snapshots"] += 1
        gap = GapUpdate(reason, after=before.version, before=fresh.version) if before.descriptors else None
        await self._emit(snapshot(before, fresh, _now(), gap))
        marked = f"; violating: {', '.join(sorted(self.violating))}" if self.violating else ""
        await self._say("live", f"snapshot taken: {reason}{marked}")

    async def _say(self, state: LinkState, reason: str) -> None:
        previous = None if (self.state, state) == ("discovered", "discovered") else self.state
        self.state, self.reason = state, reason
        logger.info("%s: %s (%s)", self.device, state, reason)
        await self._emit(link(self.mirror, LinkUpdate(state, reason, previous), _now()))

    async def _pause(self, failures: int) -> None:
        """Let time pass before the next attempt, or until the device is heard of."""
        self._ask()
        longest = min(self.settings.longest_retry, self.settings.first_retry * 2 ** min(failures, 10))
        await asyncio.sleep(self.settings.first_retry / 4)  # a flood of announcements makes no flood of attempts
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest * random.uniform(0.5, 1.0)):
                await self._news.wait()

    async def _in_thread(self, work: Callable[[], T], abort: Callable[[], None], seconds: float | None = None) -> T:
        """Blocking work in a thread. When it takes too long or we are cancelled, it is made to fail and waited for."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(future)
        except (TimeoutError, asyncio.CancelledError) as early:
            while not future.done():
                abort()
                await asyncio.wait([future], timeout=0.2)
            failed = None if future.cancelled() else future.exception()
            if isinstance(early, TimeoutError):
                raise TimedOut(f"the device did not answer within {seconds:g} s") from failed
            raise

    async def _close_link(self, *, unsubscribe: bool) -> None:
        """Close what there is; it is closed to the end even if we are cancelled meanwhile."""
        ear, self._ear = self._ear, None
        link, self._link = self._link, None
        checking, self._checking = self._checking, None
        if ear is not None:
            ear.events.close()
            self.counts.update(ear.counts)
        if link is not None:
            closing = asyncio.ensure_future(self._shut(link, checking, unsubscribe))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            await asyncio.shield(closing)

    async def _shut(self, link: Link, checking: "asyncio.Task[bool] | None", unsubscribe: bool) -> None:
        if not unsubscribe or checking is not None:
            link.abort()
        if checking is not None:
            await asyncio.gather(checking, return_exceptions=True)
        close = partial(link.close, unsubscribe=unsubscribe)
        await asyncio.get_running_loop().run_in_executor(self._threads, close)
        self.counts.update(link.counts)

    def _new_pacing(self) -> Pacing:
        settings = self.settings
        return Pacing(pause=settings.resync_pause, window=settings.resync_window, limit=settings.resync_limit)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _place(error: BaseException) -> str:
    """Where an error was raised, without its text, which may hold data, and without reading source files."""
    deepest = error.__traceback__
    while deepest is not None and deepest.tb_next is not None:
        deepest = deepest.tb_next
    return "?" if deepest is None else f"{deepest.tb_frame.f_code.co_qualname}:{deepest.tb_lineno}"
