"""Many devices, and what they leave behind: nothing."""

import asyncio
import gc
import threading
from pathlib import Path

import msgspec
import pytest

from consumers.discovery import Discovered
from consumers.discovery.static import StaticDevice, StaticList
from consumers.errors import MulticastBlocked
from consumers.fleet import Fleet

from .conftest import Announcer, Ca, Watch, eventually, links, settings, tls_from


async def test_two_devices_in_one_stream(start_device, device_certs, follow):
    first, second = start_device(device_certs), start_device(device_certs)
    fleet, watch, _ = await follow(first.found, second.found)
    live = set()
    while len(live) < 2:
        batch = await watch.until(lambda each: "live" in [update.state for update in links(each)])
        live.add(batch.device)
    assert live == {first.epr, second.epr}
    await first.do("metric", "m.hr", "61")
    assert (await watch.value("m.hr", "61")).device == first.epr
    await second.do("metric", "m.hr", "62")
    assert (await watch.value("m.hr", "62")).device == second.epr
    counters = fleet.counters()
    assert (counters["devices"], counters["state_live"], counters["snapshots"]) == (2, 2, 2)


async def test_plain_http_device_is_refused(start_device, follow):
    device = start_device()
    fleet, watch, _ = await follow(device.found)
    lost = await watch.state("lost")
    assert "plain HTTP only" in lost.reason
    assert "allow_plaintext" in lost.reason
    assert "connects" not in fleet.counters(), "nothing was sent to it"


async def test_https_address_that_answers_in_plain_is_never_downgraded(start_device, follow):
    device = start_device()
    address = device.address.replace("http:", "https:")
    fleet, watch, _ = await follow(Discovered(device.epr, xaddrs=(address,)), allow_plaintext=lambda _epr: True)
    assert "plain HTTP" in (await watch.state("lost")).reason
    assert fleet.sessions[device.epr].state == "lost"


async def test_device_of_another_ca_is_refused(start_device, follow, ca: Ca, other_ca: Ca):
    device = start_device(other_ca.issue("stranger", trust=ca))
    _, watch, _ = await follow(device.found)
    assert "not from our CA" in (await watch.state("lost")).reason


async def test_device_with_an_expired_certificate_is_refused(start_device, follow, ca: Ca):
    device = start_device(ca.issue("old-device", days=-1))
    _, watch, _ = await follow(device.found)
    assert "has expired" in (await watch.state("lost")).reason


@pytest.mark.parametrize("days", [5, -1])
async def test_device_that_refuses_our_certificate_says_why(start_device, device_certs, follow, ca, other_ca, days):
    issuer = other_ca if days > 0 else ca
    node = tls_from(issuer.issue(f"node{days}", days=days, trust=ca))
    device = start_device(device_certs)
    _, watch, _ = await follow(device.found, tls=node)
    reason = (await watch.state("lost")).reason
    assert ("our certificate" in reason) or ("does not trust" in reason)


async def test_nobody_at_the_address(follow, unused_tcp_port):
    found = Discovered("urn:uuid:1", xaddrs=(f"https://127.0.0.1:{unused_tcp_port}/x",))
    fleet, watch, announcer = await follow(found)
    assert "connection refused" in (await watch.state("lost")).reason
    await eventually(lambda: fleet.counters()["connects"] >= 3)
    assert announcer.probes >= 1
    assert fleet.counters()["queued"] == 0, "a retry that fails in the same way says nothing"


async def test_silent_peer_is_given_up_in_time(follow, silent_peer):
    short = settings(socket_timeout=1)
    _, watch, _ = await follow(Discovered("urn:uuid:1", xaddrs=(silent_peer,)), fleet_settings=short)
    assert "did not answer in time" in (await watch.state("lost", seconds=4)).reason


async def test_close_interrupts_a_connect(tls, silent_peer):
    announcer = Announcer()
    fleet = Fleet([announcer], tls, settings())
    await fleet.start()
    announcer.say(Discovered("urn:uuid:1", xaddrs=(silent_peer,)))
    await Watch(fleet).state("connecting")
    async with asyncio.timeout(7):
        await fleet.close()
        await fleet.close()


async def test_accept_and_the_limit_of_devices(follow):
    small = msgspec.structs.replace(settings(), devices=2)
    found = [Discovered(f"urn:uuid:{number}", xaddrs=("nonsense",)) for number in range(4)]
    fleet, watch, announcer = await follow(
        *found[:2], fleet_settings=small, accept=lambda each: each.epr != "urn:uuid:3"
    )
    await watch.state("lost")
    await watch.state("lost")
    announcer.say(found[3])
    announcer.say(found[2])
    await watch.until(lambda batch: batch.device == "urn:uuid:2")
    counters = fleet.counters()
    assert (counters["not_accepted"], counters["given_up"], counters["devices"]) == (1, 1, 2)


async def test_iteration_ends_with_close(tls):
    fleet = Fleet([Announcer()], tls, msgspec.structs.replace(settings(), queue=2))
    await fleet.start()
    reading = asyncio.create_task(_read(fleet))
    await fleet.close()
    async with asyncio.timeout(2):
        assert await reading == []


async def _read(fleet):
    return [batch async for batch in fleet]


class Blocked(Announcer):
    async def start(self) -> None:
        raise MulticastBlocked("no multicast here")


async def test_blocked_multicast_is_told_unless_another_source_works(tls, caplog):
    fleet = Fleet([Blocked()], tls)
    with pytest.raises(MulticastBlocked, match="no multicast here"):
        await fleet.start()
    await fleet.close()
    async with Fleet([Blocked(), Announcer()], tls) as working:
        assert working.counters()["multicast_blocked"] == 1
    assert "no multicast here" in caplog.text


async def test_listed_device_that_never_answers_is_told_as_a_problem(start_device, device_certs, tls, unused_tcp_port):
    address = f"https://127.0.0.1:{unused_tcp_port}/x"
    device = start_device(device_certs)
    static = StaticList([StaticDevice(address), StaticDevice(device.address)], tls, first_retry=0.05)
    async with Fleet([Announcer(), static], tls, settings()) as fleet:
        await Watch(fleet).state("live")
        await eventually(lambda: address in fleet.problems())
        assert set(fleet.problems()) == {address}
        assert "connection refused" in fleet.problems()[address]


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_twenty_restarts_leave_threads_and_descriptors_as_they_were(start_device, device_certs, follow):
    device = start_device(device_certs, duration=2)
    epr = device.epr
    fleet, watch, announcer = await follow(device.found)
    await watch.state("live")
    await device.do("metric", "m.hr", "1")
    await watch.value("m.hr", "1")
    await asyncio.sleep(0.2)
    before = None
    for round_ in range(21):
        if round_ == 1:
            before = _threads_and_descriptors()
        await asyncio.to_thread(device.kill)
        device = start_device(device_certs, epr=epr, duration=2)
        announcer.say(device.found)
        await watch.state("live", seconds=8)
        await device.do("metric", "m.hr", "1")
        await watch.value("m.hr", "1")
    await eventually(lambda: _threads_and_descriptors() == before)
    assert fleet.counters()["losses"] == 21


def _threads_and_descriptors() -> tuple[list[str], int]:
    gc.collect()
    pools = ("sdc-device", "asyncio")  # grow to their bound and stay
    names = sorted(thread.name for thread in threading.enumerate() if not thread.name.startswith(pools))
    return names, sum(1 for link in Path("/proc/self/fd").iterdir() if _kind(link) == "socket")


def _kind(link: Path) -> str:
    try:
        return str(link.readlink()).split(":")[0]
    except OSError:
        return "gone"
