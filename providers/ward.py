"""A ward: many simulated devices in one process that share one WS-Discovery."""

import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Self

import msgspec
from sdc11073.wsdiscovery import WSDiscovery
from sdc11073.wsdiscovery.common import MULTICAST_IPV4_ADDRESS

from providers.profile import Profile, load
from providers.provider import SUBSCRIPTION_SECONDS, SimulatedDevice, TlsFactory
from providers.scenario import Scenario

MAX_DEVICES: Final = 500
"""In one process; each costs about 5 threads and 7 MB."""

_STOPPERS: Final = 16


class WardError(RuntimeError):
    """A ward that cannot be opened; the text is one line that says why."""


class Resident(msgspec.Struct, frozen=True, kw_only=True):
    """A device of the ward, as it can be found from outside."""

    epr: str
    profile: str
    index: int
    xaddrs: tuple[str, ...]


class Ward:
    """``count`` beds, each with one device of every profile; started once and stopped once.

    ``profiles`` are names, paths of MDIB files or Profiles. The EPRs depend on profile, bed and ``seed`` only, so a
    ward that was killed comes back with the same devices and new SequenceIds.
    """

    def __init__(
        self,
        profiles: Iterable[str | Profile],
        *,
        count: int = 1,
        seed: int = 0,
        interface: str = "127.0.0.1",
        tls: TlsFactory | None = None,
        scenario: Scenario | None = None,
        subscription_seconds: int = SUBSCRIPTION_SECONDS,
    ) -> None:
        self._profiles: Final = [p if isinstance(p, Profile) else load(p) for p in profiles]
        names = [profile.name for profile in self._profiles]
        if not names or len(set(names)) != len(names):
            raise WardError("a ward needs one profile at least, and each only once")
        if not 1 <= count * len(names) <= MAX_DEVICES:
            raise WardError(f"a ward has between 1 and {MAX_DEVICES} devices, not {count * len(names)}")
        self._count: Final = count
        self._seed: Final = seed
        self._interface: Final = interface
        self._tls: Final = tls
        self._scenario: Final = scenario
        self._subscription_seconds: Final = subscription_seconds
        self._discovery: Any = None
        self._devices: list[SimulatedDevice] = []

    @property
    def devices(self) -> tuple[Resident, ...]:
        """The devices that are running."""
        return tuple(Resident(epr=d.epr, profile=d.profile.name, index=d.index, xaddrs=d.xaddrs) for d in self._devices)

    def device(self, epr: str) -> SimulatedDevice:
        """The running device with this EPR; KeyError if there is none."""
        for device in self._devices:
            if device.epr == epr:
                return device
        raise KeyError(epr)

    def start(self) -> tuple[Resident, ...]:
        """Start discovery and all devices, or none: WardError if the interface cannot be used."""
        _check_interface(self._interface)
        self._discovery = WSDiscovery(self._interface)
        try:
            self._discovery.start()
            for index in range(self._count):
                for profile in self._profiles:
                    device = self._make(profile, index)
                    device.start()
                    self._devices.append(device)
        except BaseException:
            self.stop()
            raise
        return self.devices

    def stop(self) -> None:
        """Stop all devices (each says Bye) and discovery."""
        devices, self._devices = self._devices, []
        discovery, self._discovery = self._discovery, None
        try:
            if devices:
                with ThreadPoolExecutor(min(_STOPPERS, len(devices)), thread_name_prefix="ward-stop") as pool:
                    for stopped in [pool.submit(device.stop) for device in devices]:
                        stopped.result()
        finally:
            if discovery is not None:
                discovery.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _make(self, profile: Profile, index: int) -> SimulatedDevice:
        return SimulatedDevice(
            profile,
            discovery=self._discovery,
            index=index,
            seed=self._seed,
            tls=self._tls,
            scenario=self._scenario,
            subscription_seconds=self._subscription_seconds,
        )


def _check_interface(address: str) -> None:
    """Join WS-Discovery's multicast group on the interface and leave it again; WardError if that fails."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
            group = socket.inet_aton(MULTICAST_IPV4_ADDRESS) + socket.inet_aton(address)
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    except OSError as error:
        reason = error.strerror or error
        raise WardError(f"interface {address} cannot be used for discovery: {reason}") from error
