"""One-shot questions, for the command line: who is there, which device is meant, and what is in it."""

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

from consumers.discovery.adhoc import AdHoc
from consumers.discovery.found import ByeHeard, Discovered
from consumers.discovery.static import learn
from consumers.errors import ConsumerError, DeviceNotFound, PlaintextRefused, Unreachable
from consumers.library import Link, LinkSettings, Listener, TlsFactory
from mdib_models.mirror import Mdib

DEFAULT_SECONDS = 5.0
"""Seconds; senders delay their first datagram by up to half a second, and repeat it (SOAP-over-UDP)."""
SETTLE_SECONDS = 1.5
"""How long to wait for a second device that fits, once one has answered: both delays and a repeat."""


async def discover(
    interface: str,
    seconds: float = DEFAULT_SECONDS,
    *,
    enough: Callable[[Discovered], bool] = lambda _found: False,
    fits: Callable[[Discovered], bool] = lambda _found: False,
) -> list[Discovered]:
    """SDC providers that answer on `interface` within `seconds`, by EPR.

    It ends at once where one is `enough`, and SETTLE_SECONDS after the first that `fits`. Raises MulticastBlocked.
    """
    found: dict[str, Discovered] = {}
    source = AdHoc(interface)
    await source.start()
    try:
        async with asyncio.timeout(seconds) as limit:
            async for event in source:
                if isinstance(event, ByeHeard):
                    continue
                merged = _merge(found.get(event.epr), event)
                found[event.epr] = merged
                if merged.xaddrs and enough(merged):
                    break
                if merged.xaddrs and fits(merged):
                    settled = asyncio.get_running_loop().time() + SETTLE_SECONDS
                    limit.reschedule(min(settled, limit.when() or settled))
    except TimeoutError:
        pass
    finally:
        await source.close()
    return [found[epr] for epr in sorted(found)]


async def resolve(device: str, interface: str, tls: TlsFactory | None, seconds: float = DEFAULT_SECONDS) -> Discovered:
    """The device that a user means by an EPR, a unique prefix of one, or an address. Raises ConsumerError."""
    if urlsplit(device).scheme in {"http", "https"}:
        return Discovered(await learn(device, tls), xaddrs=(device,))
    found = await discover(
        interface, seconds, enough=lambda each: each.epr == device, fits=lambda each: _fits(each.epr, device)
    )
    exact = [each for each in found if each.epr == device]
    fitting = exact or [each for each in found if _fits(each.epr, device)]
    if len(fitting) > 1:
        raise DeviceNotFound(f"{device!r} fits {len(fitting)} devices: {', '.join(each.epr for each in fitting[:5])}")
    if not fitting:
        heard = f"{len(found)} others answered" if found else "nobody answered on " + interface
        raise DeviceNotFound(
            f"no device {device!r} ({heard}); where multicast is blocked, name its address https://HOST:PORT/PATH"
        )
    return fitting[0]


async def fetch(
    device: str | Discovered,
    interface: str,
    tls: TlsFactory | None,
    *,
    seconds: float = DEFAULT_SECONDS,
    allow_plaintext: Callable[[str], bool] = lambda _epr: False,
    settings: LinkSettings | None = None,
) -> Mdib:
    """The MDIB of one device, by a single GetMdib without a subscription. Raises ConsumerError."""
    target = device if isinstance(device, Discovered) else await resolve(device, interface, tls, seconds)
    failed: ConsumerError = Unreachable(f"{target.epr} told no address")
    for address in sorted(target.xaddrs, key=lambda each: urlsplit(each).scheme != "https"):
        plain = urlsplit(address).scheme == "http"
        if plain and not allow_plaintext(target.epr):
            failed = PlaintextRefused(
                f"{target.epr} offers plain HTTP only; list its EPR under allow_plaintext to follow it anyway"
            )
            continue
        try:
            return await asyncio.to_thread(_get_mdib, address, None if plain else tls, settings)
        except ConsumerError as error:
            failed = error
    raise failed


def _get_mdib(address: str, tls: TlsFactory | None, settings: LinkSettings | None) -> Mdib:
    link = Link(address, tls, Listener(), settings)
    try:
        link.open(subscribe=False)
        return link.get_mdib()
    finally:
        link.close(unsubscribe=False)


def _fits(epr: str, prefix: str) -> bool:
    return bool(prefix) and (epr.startswith(prefix) or epr.removeprefix("urn:uuid:").startswith(prefix))


def _merge(known: Discovered | None, new: Discovered) -> Discovered:
    if known is None:
        return new
    return msgspec.structs.replace(
        new,
        types=new.types or known.types,
        scopes=new.scopes or known.scopes,
        xaddrs=tuple(dict.fromkeys(new.xaddrs + known.xaddrs)),
    )
