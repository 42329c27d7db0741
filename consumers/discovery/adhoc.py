"""WS-Discovery ad hoc on one interface: sdc11073's WSDiscovery, wrapped for asyncio.

One instance serves a whole process. Hello, Bye, ProbeMatch and ResolveMatch arrive in the library's thread and leave as
an async stream. The library keeps announced services forever and its search sleeps, so neither is used.
"""

import asyncio
import secrets
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from sdc11073.definitions_sdc import SdcV1Definitions
from sdc11073.wsdiscovery.common import MULTICAST_IPV4_ADDRESS, MULTICAST_PORT
from sdc11073.wsdiscovery.wsdimpl import WSDiscovery

from consumers import quiet
from consumers.discovery.found import MAX_ADDRESSES, ByeHeard, Discovered, Event, is_provider
from consumers.errors import MulticastBlocked

EVENT_QUEUE = 1000
"""Announcements that may wait; more are dropped and counted (WS-Discovery is repeated by nature)."""

SELF_CHECK_SECONDS = 1.0
MAX_SCOPES = 64
MAX_URI = 2048


def static_hint(interface: str) -> str:
    """The one line that tells how to do without multicast."""
    return (
        f"no multicast on {interface}: list devices statically, in the config as "
        '[[consumer.device]] address = "https://HOST:PORT/PATH", or name the address in place of the EPR'
    )


class AdHoc:
    """Discovery on the interface that has the given IPv4 address. Event loop only."""

    def __init__(self, interface: str, *, port: int = MULTICAST_PORT) -> None:
        quiet.silence()
        self.interface = interface
        self._port = port
        self._wsd: Any = None
        self._events: asyncio.Queue[Event | None] = asyncio.Queue(EVENT_QUEUE)
        self._counts: Counter[str] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Listen and send the initial Probe. Raises MulticastBlocked with one line that says what to do."""
        self._loop = asyncio.get_running_loop()
        try:
            heard = await asyncio.to_thread(_hears_itself, self.interface)
            if not heard:
                raise MulticastBlocked(static_hint(self.interface))
            wsd = WSDiscovery(self.interface, multicast_port=self._port)
            await asyncio.to_thread(wsd.start)
        except OSError as error:
            raise MulticastBlocked(f"{static_hint(self.interface)} ({error.strerror or error})") from error
        self._wsd = wsd
        wsd.set_remote_service_hello_callback(self._callback(lambda _address, service: [service]))
        wsd.set_remote_service_resolve_match_callback(self._callback(lambda service: [service]))
        wsd.set_on_probe_matches_callback(self._callback(lambda services: services))
        wsd.set_remote_service_bye_callback(self._bye)
        await self.probe()

    async def probe(self, epr: str | None = None) -> None:
        """Send one Probe for SDC providers, or one Resolve for `epr`."""
        if self._wsd is None:
            raise MulticastBlocked(static_hint(self.interface))
        if epr is None:
            self._counts["probes_sent"] += 1
            self._wsd._send_probe(SdcV1Definitions.MedicalDeviceTypesFilter)  # noqa: SLF001  (search_services sleeps)
        else:
            self._counts["resolves_sent"] += 1
            self._wsd._send_resolve(epr)  # noqa: SLF001  (there is no public one)

    async def close(self) -> None:
        """Stop the library's three threads and end the stream."""
        wsd, self._wsd = self._wsd, None
        if wsd is not None:
            _send_what_waits(wsd)
            await asyncio.to_thread(wsd.stop)
        if self._events.full():
            self._events.get_nowait()
        self._events.put_nowait(None)

    def counters(self) -> dict[str, int]:
        """Probes sent, events seen, and what was dropped, by reason."""
        return dict(self._counts)

    def problems(self) -> Mapping[str, str]:
        """None: no device has to be there."""
        return {}

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Announcements of SDC providers, and Byes of anybody."""
        while (event := await self._events.get()) is not None:
            yield event

    def _callback(self, services_of: Callable[..., Sequence[Any]]) -> Callable[..., None]:
        def heard(*args: Any) -> None:
            for service in services_of(*args):
                self._hand_over(announcement(service))

        return heard

    def _bye(self, _address: Any, epr: str) -> None:
        self._hand_over(ByeHeard(epr))

    def _hand_over(self, event: Event | None) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        loop.call_soon_threadsafe(self._take, event)

    def _take(self, event: Event | None) -> None:
        if event is None:
            self._counts["dropped_not_a_provider"] += 1
        elif self._events.full():
            self._counts["dropped_queue_full"] += 1
        else:
            self._counts["byes" if isinstance(event, ByeHeard) else "announcements"] += 1
            self._events.put_nowait(event)


def announcement(service: Any) -> Discovered | None:
    """Our words for the library's Service; None where it is no SDC provider or cannot be one."""
    epr = service.epr or ""
    types = tuple(f"{{{name.namespace}}}{name.localname}" for name in service.types or ())
    scopes = tuple(str(scope) for scope in (service.scopes.text if service.scopes is not None else ()))
    scopes = tuple(scope for scope in scopes if len(scope) <= MAX_URI)[:MAX_SCOPES]
    if not epr or len(epr) > MAX_URI or not is_provider(types, scopes):
        return None
    xaddrs = tuple(address for address in service.x_addrs if len(address) <= MAX_URI)[:MAX_ADDRESSES]
    return Discovered(epr, types, scopes, xaddrs)


def _send_what_waits(wsd: Any) -> None:
    """Make the repeats of what was sent due now: the library's `stop` waits for them, up to three seconds."""
    for waiting in list(wsd._networking_thread._send_queue.queue):  # noqa: SLF001  (there is no public one)
        waiting.send_time = 0.0


def _hears_itself(interface: str) -> bool:
    """Whether a datagram to the discovery group comes back on this interface; on a port of its own, not 3702."""
    token = secrets.token_bytes(16)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth,
    ):
        ear.bind((MULTICAST_IPV4_ADDRESS, 0))
        group = struct.pack("4s4s", socket.inet_aton(MULTICAST_IPV4_ADDRESS), socket.inet_aton(interface))
        ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        ear.settimeout(SELF_CHECK_SECONDS)
        mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
        mouth.sendto(token, (MULTICAST_IPV4_ADDRESS, ear.getsockname()[1]))
        for _ in range(8):
            try:
                if ear.recv(64) == token:
                    return True
            except TimeoutError:
                return False
    return False
