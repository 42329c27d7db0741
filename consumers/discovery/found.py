"""What discovery tells, and what a source of discovery has to be."""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Protocol

import msgspec

MEDICAL_DEVICE = "{http://standards.ieee.org/downloads/11073/11073-20702-2016}MedicalDevice"
"""The type that an SDC provider announces (IEEE 11073-20702)."""

PROVIDER_SCOPE = "sdc.mds.pkp:1.2.840.10004.20701.1.1"
"""The scope of an SDC service provider (IEEE 11073-20701, SDPi TF-2 DEV-23)."""

MAX_ADDRESSES = 8
"""Transport addresses kept of one announcement; anybody on the network may send one."""


class Discovered(msgspec.Struct, frozen=True):
    """A device that announced itself or answered. Nothing of this is authenticated.

    `types` are qualified names `{namespace}local`, `xaddrs` transport addresses, both as they came.
    """

    epr: str
    types: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    xaddrs: tuple[str, ...] = ()


class ByeHeard(msgspec.Struct, frozen=True):
    """Somebody said that the device leaves. A reason to ask the device itself, never to believe it."""

    epr: str


Event = Discovered | ByeHeard


def is_provider(types: Iterable[str], scopes: Iterable[str]) -> bool:
    """Whether an announcement is that of an SDC provider: by its type, or by its scope."""
    return MEDICAL_DEVICE in types or any(scope.startswith(PROVIDER_SCOPE) for scope in scopes)


class Discovery(Protocol):
    """A source of devices. Event loop only.

    `start()` raises MulticastBlocked where it cannot work. `probe()` asks the network once, for a user or while a
    known device is lost; nothing asks periodically (SDPi R3001, R3002). Iteration ends with `close()`.
    """

    async def start(self) -> None:
        """Begin to listen, and ask once."""
        ...

    async def probe(self, epr: str | None = None) -> None:
        """Ask once for all devices, or for one."""
        ...

    async def close(self) -> None:
        """Stop listening; nothing of it is left running."""
        ...

    def counters(self) -> dict[str, int]:
        """What was seen and what was dropped, by reason."""
        ...

    def problems(self) -> Mapping[str, str]:
        """By address why a device that has to be there could not be asked who it is."""
        ...

    def __aiter__(self) -> AsyncIterator[Event]:
        """Events as they come."""
        ...
