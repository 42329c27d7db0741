"""WS-Discovery on the loopback interface, with a real provider that announces itself."""

import asyncio
from types import SimpleNamespace

import pytest
from lxml import etree

from consumers import identify
from consumers.discovery import ByeHeard, Discovered, adhoc, is_provider
from consumers.discovery.adhoc import EVENT_QUEUE, AdHoc, announcement
from consumers.discovery.found import MAX_ADDRESSES, MEDICAL_DEVICE, PROVIDER_SCOPE
from consumers.errors import DeviceNotFound, MulticastBlocked, PlaintextRefused

LOOPBACK = "127.0.0.1"


def service(epr="urn:uuid:1", types=(MEDICAL_DEVICE,), scopes=(), addresses=("https://x/1",)):
    return SimpleNamespace(
        epr=epr,
        types=[etree.QName(name) for name in types],
        scopes=SimpleNamespace(text=list(scopes)),
        x_addrs=list(addresses),
    )


def test_only_sdc_providers():
    assert is_provider([MEDICAL_DEVICE], [])
    assert is_provider([], [PROVIDER_SCOPE])
    assert not is_provider(["{urn:x}Printer"], ["sdc.ctxt.loc:/x"])
    assert announcement(service(types=["{urn:x}Printer"])) is None
    assert announcement(service(epr="")) is None
    assert announcement(service()).xaddrs == ("https://x/1",)


def test_announcements_are_bounded():
    made = announcement(service(addresses=[f"https://x/{n}" for n in range(99)], scopes=["sdc:" + "y" * 9999, "sdc:z"]))
    assert len(made.xaddrs) == MAX_ADDRESSES
    assert made.scopes == ("sdc:z",)
    assert announcement(service(epr="u" * 9999)) is None


async def test_provider_is_found_resolved_fetched_and_its_bye_heard(start_device, device_certs, tls):
    device = start_device(device_certs, interface=LOOPBACK)
    found = await identify.discover(LOOPBACK, 8, enough=lambda each: each.epr == device.epr)
    mine = next(each for each in found if each.epr == device.epr)
    assert mine.xaddrs == (device.address,)
    assert MEDICAL_DEVICE in mine.types
    assert any(scope.startswith("sdc.ctxt.loc:") for scope in mine.scopes)
    prefix = device.epr.removeprefix("urn:uuid:")[:12]
    assert (await identify.resolve(prefix, LOOPBACK, tls, 2)).epr == device.epr
    mirror = await identify.fetch(device.epr, LOOPBACK, tls, seconds=8)
    assert mirror.device == device.epr
    assert mirror.find("m.hr") is not None
    source = AdHoc(LOOPBACK)
    await source.start()
    await source.probe(device.epr)
    device.tell("stop")
    async with asyncio.timeout(10):
        events = [event async for event in _until_bye(source, device.epr)]
    await source.close()
    assert ByeHeard(device.epr) in events
    assert source.counters()["probes_sent"] == 1
    assert source.counters()["resolves_sent"] == 1


async def _until_bye(source, epr):
    async for event in source:
        yield event
        if event == ByeHeard(epr):
            return


async def test_unknown_device_is_told_in_one_line(tls):
    with pytest.raises(DeviceNotFound, match=r"no device 'zzz'.*name its address"):
        await identify.resolve("zzz", LOOPBACK, tls, 0.2)


async def test_ambiguous_prefix(monkeypatch, tls):
    async def two(*_args, **_kwargs):
        return [Discovered("urn:uuid:ab1"), Discovered("urn:uuid:ab2"), Discovered("urn:uuid:ab")]

    monkeypatch.setattr(identify, "discover", two)
    with pytest.raises(DeviceNotFound, match="fits 3 devices"):
        await identify.resolve("ab", LOOPBACK, tls)
    assert (await identify.resolve("urn:uuid:ab", LOOPBACK, tls)).epr == "urn:uuid:ab"
    assert (await identify.resolve("ab2", LOOPBACK, tls)).epr == "urn:uuid:ab2"


async def test_fetch_over_plain_http_has_to_be_allowed(start_device, tls):
    device = start_device()
    with pytest.raises(PlaintextRefused, match="allow_plaintext"):
        await identify.fetch(device.address, LOOPBACK, tls)
    mirror = await identify.fetch(device.address, LOOPBACK, None, allow_plaintext=lambda epr: epr == device.epr)
    assert mirror.device == device.epr


@pytest.mark.parametrize("interface", ["192.0.2.77", "no address"])
async def test_multicast_that_does_not_work_is_one_clear_line(interface):
    source = AdHoc(interface)
    with pytest.raises(MulticastBlocked) as caught:
        await source.start()
    text = str(caught.value)
    assert text.startswith(f"no multicast on {interface}")
    assert "https://HOST:PORT/PATH" in text
    assert "\n" not in text
    with pytest.raises(MulticastBlocked):
        await source.probe()
    await source.close()


async def test_multicast_that_does_not_come_back_is_blocked(monkeypatch):
    source = AdHoc(LOOPBACK)
    monkeypatch.setattr(adhoc, "_hears_itself", lambda _interface: False)
    with pytest.raises(MulticastBlocked):
        await source.start()
    await source.close()


async def test_flood_of_announcements_is_dropped_and_counted():
    source = AdHoc(LOOPBACK)
    for number in range(EVENT_QUEUE + 5):
        source._take(Discovered(f"urn:uuid:{number}"))
    source._take(None)
    assert source.counters()["dropped_queue_full"] == 5
    assert source.counters()["dropped_not_a_provider"] == 1
    await source.close()
