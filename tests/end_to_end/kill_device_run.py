"""A node that follows two devices, of which one is killed and restarted again and again; and what is left of it."""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mdib_models.descriptors import MdsDescriptor
from mdib_models.wire.jsonl import Line, Opened, decode
from sdc_node import pki
from sdc_node.receivers.hl7 import Hl7Receiver
from tests.end_to_end.kill_processes import Process, becomes, node, until, ward
from tests.end_to_end.readback import Message, handles_of, pcd, stored

VICTIM, WITNESS = "monitor", "pump"
GRANTED = 3
"""Seconds that the victim grants a subscription for."""
WARM_UP, RESTARTS = 2, 20
STAY = 3
"""Each so-manieth time, the device lives until it has reported its readings, which it does once a second."""


class Kill(NamedTuple):
    """One kill of the device, in ms since the epoch: when, when /status first showed the loss, and live again."""

    at: int
    shown_lost: int
    shown_live: int
    sequence: str


class Resources(NamedTuple):
    """What a process holds."""

    threads: int
    descriptors: int


class Record(NamedTuple):
    """What the run left."""

    folder: Path
    victim: str
    witness: str
    kills: Sequence[Kill]
    before: Resources
    after: Resources
    status: int

    def lines(self) -> list[Line]:
        """The node's own log."""
        return [decode(line) for line in (self.folder / "reports.jsonl").read_bytes().splitlines()]

    def intervals(self) -> list[Message]:
        """The victim's PCD-01, told from the other's by the EquipmentIdentifier (OBX-18)."""
        opened = next(line for line in self.lines() if isinstance(line, Opened) and line.device == self.victim)
        (mds,) = (one for one in opened.mdib.children(None) if isinstance(one, MdsDescriptor))
        identifier = (mds.equipment_identifier or "").removeprefix("urn:uuid:")
        messages = pcd(stored(self.folder / "hl7"), 1)
        return [message for message in messages if message.equipment.split("^")[0] == identifier]

    def handles(self) -> Any:
        """From OBX-4 to the victim's metric handles."""
        return handles_of(self.folder / "node" / "state.sqlite", self.victim)


async def run(folder: Path) -> Record:
    """All of it. Everything that was started has ended when this returns."""
    pki.init(folder / "certs", {"node": "consumer", "device": "provider"})
    seed = random.SystemRandom().randrange(1, 1 << 30)
    receiver = Hl7Receiver(folder / "hl7")
    async with contextlib.AsyncExitStack() as started:
        await receiver.start()
        started.push_async_callback(receiver.stop)
        witness = ward(folder, [WITNESS], seed=seed, subscription=15)
        started.push_async_callback(witness.end)
        victim = ward(folder, [VICTIM], seed=seed, subscription=GRANTED)
        started.push_async_callback(victim.end)
        eprs = [(await appear(each))["epr"] for each in (victim, witness)]
        (folder / "node.toml").write_text(configuration(receiver.port, eprs))
        follower = node(folder, dies=False)
        started.push_async_callback(follower.end)
        port = (await follower.start())["port"]
        for epr in eprs:
            await becomes(port, epr, "live")
        kills: list[Kill] = []
        before = Resources(0, 0)
        for number in range(WARM_UP + RESTARTS):
            if number == WARM_UP:
                before = await held(follower.pid)
            victim = await killed_and_restarted(folder, victim, port, eprs[0], seed, kills, started)
            if number % STAY == 0:
                await until("readings", partial(reported, folder, kills[-1].sequence))
        after = await held(follower.pid)
        ended = await follower.stop()
    return Record(folder, eprs[0], eprs[1], kills, before, after, ended)


def configuration(hl7_port: int, eprs: Sequence[str]) -> str:
    only = ", ".join(f'"{epr}"' for epr in eprs)
    return f"""
[node]
directory = "node"
certs = "certs/node"
port = 0
require_time_sync = false
drain = 20.0

[consumer]
only = [{only}]
expires = 10

[[hl7]]
host = "127.0.0.1"
port = {hl7_port}
interval = 2.0
grace = 0.2

[jsonl]
path = "reports.jsonl"
waveforms = false
"""


async def appear(devices: Process) -> dict[str, Any]:
    """Start the one device of a ward."""
    if not devices.running:
        await devices.start()
    devices.go()
    (resident,) = await devices.line()
    found: dict[str, Any] = resident
    return found


async def killed_and_restarted(
    folder: Path,
    victim: Process,
    port: int,
    epr: str,
    seed: int,
    kills: list[Kill],
    started: contextlib.AsyncExitStack,
) -> Process:
    """Kill the device, see it lost, start it anew with the same EPR, see it live."""
    victim.kill()
    await victim.ended()
    following = ward(folder, [VICTIM], seed=seed, subscription=GRANTED)
    started.push_async_callback(following.end)
    shown_lost, _ = await asyncio.gather(becomes(port, epr, "lost"), following.start())
    resident = await appear(following)
    assert resident["epr"] == epr
    shown_live = await becomes(port, epr, "live")
    kills.append(Kill(round(victim.killed * 1000), shown_lost, shown_live, resident["sequence"]))
    return following


def reported(folder: Path, sequence: str) -> bool:
    """Whether the log holds readings of the device's life with this SequenceId."""
    lines = (folder / "reports.jsonl").read_bytes().splitlines()
    return any(b'"kind":"metric"' in line and sequence.encode() in line for line in lines)


async def held(pid: int) -> Resources:
    """The least that the process holds over a second: what is under way for a moment does not count."""
    samples = []
    for _ in range(10):
        samples.append(await asyncio.to_thread(_held, pid))
        await asyncio.sleep(0.1)
    return Resources(min(one.threads for one in samples), min(one.descriptors for one in samples))


def _held(pid: int) -> Resources:
    process = Path("/proc") / str(pid)
    return Resources(len(list((process / "task").iterdir())), len(list((process / "fd").iterdir())))
