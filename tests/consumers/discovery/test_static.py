"""Devices listed by hand."""

import asyncio

import pytest

from consumers.discovery import Discovered
from consumers.discovery.static import StaticDevice, StaticList, learn
from consumers.errors import CertificateRefused, NotAProvider, PlaintextRefused, Unreachable
from consumers.library import Link, Listener


async def test_listed_device_tells_its_epr_and_is_followed(start_device, device_certs, tls, follow):
    device = start_device(device_certs)
    fleet, watch, _ = await follow(sources=[StaticList([StaticDevice(device.address)], tls)])
    await watch.state("live")
    assert set(fleet.sessions) == {device.epr}
    assert fleet.counters()["discovery_asked"] == 1


async def test_with_its_epr_it_is_not_asked(tls):
    source = StaticList([StaticDevice("https://192.0.2.1:1/x", "urn:uuid:1")], tls)
    await source.start()
    event = await anext(source.__aiter__())
    assert (event.epr, event.xaddrs) == ("urn:uuid:1", ("https://192.0.2.1:1/x",))
    assert "asked" not in source.counters()
    await source.probe("urn:uuid:other")
    await source.close()


async def test_silent_device_is_asked_again_until_it_answers(start_device, tls, unused_tcp_port):
    address = f"https://127.0.0.1:{unused_tcp_port}/x"
    source = StaticList([StaticDevice(address)], tls, first_retry=0.05, longest_retry=0.1)
    await source.start()
    async with asyncio.timeout(5):
        while source.counters().get("failed", 0) < 3:  # noqa: ASYNC110 - a counter tells nobody
            await asyncio.sleep(0.02)
    assert "connection refused" in source.problems()[address]
    await source.probe()
    await source.close()
    assert [event async for event in source] == []


async def test_learn_over_plain_and_tls(start_device, device_certs, tls):
    plain, secured = start_device(), start_device(device_certs)
    assert await learn(plain.address, tls) == plain.epr
    assert await learn(secured.address, tls) == secured.epr


async def test_learn_says_what_is_wrong(start_device, device_certs, tls, tls_of, ca, other_ca, unused_tcp_port):
    plain, secured = start_device(), start_device(device_certs)
    with pytest.raises(PlaintextRefused, match="plain HTTP"):
        await learn(plain.address.replace("http:", "https:"), tls)
    with pytest.raises(CertificateRefused, match="not from our CA"):
        await learn(secured.address, tls_of(ca.issue("n1", trust=other_ca)))
    with pytest.raises(Unreachable, match="connection refused"):
        await learn(f"https://127.0.0.1:{unused_tcp_port}/", tls)
    with pytest.raises(NotAProvider, match="looks like https"):
        await learn("ftp://somewhere/x", tls)
    with pytest.raises(NotAProvider, match="needs certificates"):
        await learn(secured.address, None)


async def test_web_server_that_is_no_device(tls):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NotAProvider, match="does not answer like an SDC provider"):
            await learn(f"http://127.0.0.1:{port}/", None)


def test_plain_address_with_tls_is_refused(tls):
    with pytest.raises(PlaintextRefused):
        Link("http://127.0.0.1:1/x", tls, Listener())


def test_discovered_is_a_value():
    assert Discovered("a") == Discovered("a")


async def test_where_nobody_reads_announcements_are_bounded_and_counted():
    listed = StaticList([StaticDevice("https://127.0.0.1:1/x", "urn:uuid:1")], None)
    for _ in range(4):
        await listed.start()
        await asyncio.gather(*listed._tasks.values())
    await listed.close()
    assert listed.counters() == {"announcements": 2, "dropped_events": 2}
