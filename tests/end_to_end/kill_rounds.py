"""A node with real devices and receivers that is killed again and again, and restarted on the same folder."""

import asyncio
import json
import random
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sdc_node import pki
from sdc_node.ledger import read_ledger
from sdc_node.receivers.fhir import FhirReceiver
from sdc_node.receivers.hl7 import Hl7Receiver
from tests.end_to_end.kill_judge import Evidence, collect
from tests.end_to_end.kill_processes import becomes, node, until, ward

POINTS = ("rendered", "committed", "sent", "acknowledged")
PROFILES = ("monitor", "pump")
LOAD = """\
# Alerts that start, change and end all the time, some of them during any restart.
step = [
    { at = 0.6, event = "desaturation", device = "monitor", repeat_every = 9.0 },
    { at = 5.1, event = "recover", device = "monitor", repeat_every = 9.0 },
    { at = 0.9, event = "priority", condition = "ac.spo2.lo", to = "Hi", device = "monitor", repeat_every = 1.4 },
    { at = 1.6, event = "priority", condition = "ac.spo2.lo", to = "Lo", device = "monitor", repeat_every = 1.4 },
    { at = 1.0, event = "lead_off", device = "monitor", repeat_every = 2.6 },
    { at = 2.2, event = "lead_on", device = "monitor", repeat_every = 2.6 },
    { at = 0.5, event = "abp_disconnect", device = "monitor" },
    { at = 1.3, event = "occlusion", device = "pump", repeat_every = 3.4 },
    { at = 2.3, event = "clear_occlusion", device = "pump", repeat_every = 3.4 },
    { at = 3.5, event = "latch_reset", device = "pump", repeat_every = 3.4 },
]
"""


class Site:
    """A folder with certificates and the configuration of nodes that follow these devices."""

    def __init__(self, folder: Path, eprs: Sequence[str]) -> None:
        self.folder = folder
        self.eprs = eprs

    def owed(self) -> int:
        """How many ids the ledger holds."""
        ledger = self.folder / "node" / "ledger.txt"
        return len(read_ledger(ledger)) if ledger.exists() else 0

    def evidence(self) -> Evidence:
        return collect(self.folder / "node", self.folder / "hl7", self.folder / "fhir")


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    """Receivers in this process, devices in one of their own, and a configuration for nodes; all ended afterwards."""
    await asyncio.to_thread(pki.init, folder / "certs", {"node": "consumer", "device": "provider"})
    (folder / "load.toml").write_text(LOAD)
    hl7 = Hl7Receiver(folder / "hl7")
    fhir = FhirReceiver(folder / "fhir", "127.0.0.1", 0)
    seed = random.SystemRandom().randrange(1, 1 << 30)  # nobody else's devices are these
    devices = ward(folder, PROFILES, seed=seed, subscription=15, scenario=folder / "load.toml")
    await hl7.start()
    try:
        async with fhir:
            try:
                assert await devices.start() == {"imported": True}
                devices.go()
                eprs = [one["epr"] for one in await devices.line()]
                (folder / "node.toml").write_text(configuration(hl7.port, fhir.base_url, eprs))
                yield Site(folder, eprs)
            finally:
                await devices.end()
    finally:
        await hl7.stop()


def configuration(hl7_port: int, fhir_url: str, eprs: Sequence[str]) -> str:
    """Short intervals, so that there is always something under way."""
    only = ", ".join(f'"{epr}"' for epr in eprs)
    return f"""
[node]
directory = "node"
certs = "certs/node"
port = 0
require_time_sync = false
drain = 20.0
ledger = true

[consumer]
only = [{only}]

[[hl7]]
host = "127.0.0.1"
port = {hl7_port}
interval = 1.0
grace = 0.2
retry_first = 0.2

[[fhir]]
base_url = "{fhir_url}"
interval = 2.0
retry_first = 0.2
"""


async def killed_at(site: Site, fault: str, entry: Sequence[str] = ("-m", "sdc_node")) -> None:
    """One life of the node, which ends where `fault` says."""
    life = node(site.folder, fault=fault, entry=entry)
    try:
        await life.start()
        assert await life.ended() == -signal.SIGKILL, f"{fault}: see {site.folder}"
    finally:
        await life.end()


async def killed_at_random(site: Site, chance: random.Random) -> None:
    """One life of the node, which ends at any moment after something was owed."""
    life = node(site.folder)
    before = await asyncio.to_thread(site.owed)
    more = chance.randint(0, 12)
    try:
        await life.start()
        await until(f"{more} more to be owed", lambda: site.owed() >= before + more)
        await asyncio.sleep(chance.uniform(0, 0.4))  # the moment is the point, not the wait
        life.kill()
        assert await life.ended() == -signal.SIGKILL
    finally:
        await life.end()


async def last_life(site: Site, entry: Sequence[str] = ("-m", "sdc_node")) -> dict[str, Any]:
    """A node that lives until it has followed all devices for a while, and is stopped; its last status."""
    life = node(site.folder, entry=entry, dies=False)
    try:
        port = (await life.start())["port"]
        for epr in site.eprs:
            await becomes(port, epr, "live")
        before = await asyncio.to_thread(site.owed)
        await until("a round of everything", lambda: site.owed() >= before + 8)
        assert await life.stop() == 0
    finally:
        await life.end()
    last: dict[str, Any] = json.loads((site.folder / "node" / "status.json").read_text())
    return last
