"""Devices listed by hand, for networks without multicast: asked at their address who they are (WS-Transfer Get)."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from types import MappingProxyType
from urllib.parse import urlsplit

import msgspec

from consumers.discovery.found import MEDICAL_DEVICE, Discovered, Event
from consumers.errors import ConsumerError
from consumers.library import Link, LinkSettings, Listener, TlsFactory

logger = logging.getLogger(__name__)


class StaticDevice(msgspec.Struct, frozen=True):
    """A device at `https://HOST:PORT/PATH`. With its `epr` it need not be asked before it is followed."""

    address: str
    epr: str | None = None


class StaticList:
    """A source of discovery that never uses multicast. Event loop only.

    A device that does not answer is asked again, after `first_retry` seconds and then ever less often, at most every
    `longest_retry`, until it has told its EPR. `problems()` says by address why one has not.
    """

    def __init__(
        self,
        devices: Sequence[StaticDevice],
        tls: TlsFactory | None,
        *,
        first_retry: float = 1.0,
        longest_retry: float = 60.0,
    ) -> None:
        self._problems: dict[str, str] = {}
        self._devices = tuple(devices)
        self._tls = tls
        self._first_retry = first_retry
        self._longest_retry = longest_retry
        self._most_waiting = 2 * len(self._devices)
        self._events: asyncio.Queue[Event | None] = asyncio.Queue(self._most_waiting + 1)  # and the end
        self._tasks: dict[StaticDevice, asyncio.Task[None]] = {}
        self._counts: Counter[str] = Counter()

    async def start(self) -> None:
        """Ask each device that has no EPR yet."""
        await self.probe()

    async def probe(self, epr: str | None = None) -> None:
        """Ask again, all or the one with `epr`; devices that are being asked already are left to it."""
        for device in self._devices:
            asked = self._tasks.get(device)
            if (asked is None or asked.done()) and epr in {None, device.epr}:
                self._tasks[device] = asyncio.create_task(self._ask(device))

    async def close(self) -> None:
        """Stop asking and end the stream."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._events.put_nowait(None)

    def counters(self) -> dict[str, int]:
        """Requests sent and failed, devices told of."""
        return dict(self._counts)

    def problems(self) -> Mapping[str, str]:
        """By address why a device has not told its EPR; read only."""
        return MappingProxyType(self._problems)

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Devices as they answer."""
        while (event := await self._events.get()) is not None:
            yield event

    async def _ask(self, device: StaticDevice) -> None:
        if device.epr is not None:
            self._tell(device, device.epr)
            return
        pause = self._first_retry
        while True:
            self._counts["asked"] += 1
            try:
                epr = await learn(device.address, self._tls)
            except ConsumerError as error:
                self._counts["failed"] += 1
                if self._problems.get(device.address) != str(error):
                    logger.warning("%s", error)
                self._problems[device.address] = str(error)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(self._longest_retry, pause * 2)
            else:
                self._problems.pop(device.address, None)
                self._tell(device, epr)
                return

    def _tell(self, device: StaticDevice, epr: str) -> None:
        if self._events.qsize() >= self._most_waiting:  # nobody reads, and each device is told of already
            self._counts["dropped_events"] += 1
            return
        self._counts["announcements"] += 1
        self._events.put_nowait(Discovered(epr, (MEDICAL_DEVICE,), (), (device.address,)))


async def learn(address: str, tls: TlsFactory | None, settings: LinkSettings | None = None) -> str:
    """The EPR of whoever answers at `address`. Raises ConsumerError. Plain HTTP shows no more than the question."""

    def ask() -> str:
        link = Link(address, tls if urlsplit(address).scheme != "http" else None, Listener(), settings)
        try:
            return link.learn()
        finally:
            link.close(unsubscribe=False)

    return await asyncio.to_thread(ask)
