"""kill -9 at every point, and at random: nothing owed is lost, nothing goes out under a second id.

The receiver lives in the test, over loopback; the victim in a process of its own (`outbox_victim.py`).
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sdc_node.directory import DirectoryError, NodeDirectory
from sdc_node.ledger import lost, read_ledger
from sdc_node.outbox import Outbox

ROOT = Path(__file__).parents[2]
VICTIM = Path(__file__).with_name("outbox_victim.py")
ITEMS = 16  # a life
POINTS = ("rendered", "committed", "sent", "acknowledged")


class Receiver:
    """Stores whatever comes, answers with its id, and may kill who sent it."""

    def __init__(self):
        self.stored = []  # (id, key and lane, body) in the order of arrival
        self.kill_after = None
        self.victim = None
        self.port = 0

    @asynccontextmanager
    async def serving(self):
        server = await asyncio.start_server(self.converse, "127.0.0.1", 0, limit=1 << 20)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def converse(self, reader, writer):
        try:
            while (line := await reader.readline()).endswith(b"\n"):
                id_, place, body = line.decode().split()
                self.stored.append((id_, place, body))
                if self.kill_after is not None:
                    self.kill_after -= 1
                    if self.kill_after == 0:
                        self.victim.kill()
                writer.write(f"{id_}\n".encode())
                await writer.drain()
        except ConnectionError:
            pass  # that is what a killed sender looks like
        finally:
            writer.close()

    @property
    def ids(self):
        return {id_ for id_, _, _ in self.stored}


async def live(folder, receiver, first, *, number=ITEMS, mode="honest", fault="", kill_after=None):
    """One life of the victim; its exit status, or the negative signal."""
    environment = {**os.environ, "SDC_NODE_FAULTPOINT": fault, "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, str(VICTIM), str(folder), str(receiver.port), str(first), str(number), mode]
    receiver.kill_after = kill_after
    receiver.victim = await asyncio.to_thread(subprocess.Popen, arguments, env=environment)
    try:
        return await asyncio.to_thread(receiver.victim.wait, 60)
    finally:
        receiver.victim.kill()
        await asyncio.to_thread(receiver.victim.wait, 60)
        receiver.kill_after = None


def owed_and_lost(folder, receiver):
    """The one check, for the honest and for the planted."""
    ledger = folder / "owed"
    return set(read_ledger(ledger)), lost([ledger], receiver.ids)


async def test_killed_at_each_point_and_at_random_nothing_owed_is_lost(tmp_path):
    folder = tmp_path / "node"
    chance = random.Random(5)
    faults = [(f"{point}:{nth}", None) for point in POINTS for nth in (1, chance.randint(2, 4))]
    rounds = [*faults, *(("", chance.randint(1, ITEMS)) for _ in range(4))]
    async with Receiver().serving() as receiver:
        for life, (fault, kill_after) in enumerate(rounds):
            status = await live(folder, receiver, life * ITEMS, fault=fault, kill_after=kill_after)
            assert status == -signal.SIGKILL, (fault, kill_after)
        assert await live(folder, receiver, len(rounds) * ITEMS, fault="", number=ITEMS) == 0
        owed, missing = await asyncio.to_thread(owed_and_lost, folder, receiver)
        assert missing == set()
        assert len(owed) > len(rounds)
        bodies = defaultdict(set)
        for id_, _, body in receiver.stored:
            bodies[id_].add(body)
        assert all(len(found) == 1 for found in bodies.values()), "resent with identical bytes"
        contents = Counter(body for found in bodies.values() for body in found)
        assert set(contents.values()) == {1}, "nothing under a second id"
        assert len(receiver.stored) - len(bodies) <= len(rounds) * 2, "only what a kill cut off came twice"
        order = defaultdict(list)
        for id_, place in dict.fromkeys((id_, place) for id_, place, _ in receiver.stored):
            order[place].append(int(id_.removeprefix("id")))
        assert all(serials == sorted(serials) for serials in order.values()), "in order per device and lane"
    outbox = await Outbox.open(folder / "outbox.db")
    counts = outbox.counts()
    await outbox.close()
    assert sum(lane.waiting + lane.dead for lane in counts.values()) == 0


async def test_a_planted_deletion_before_the_acknowledgement_is_caught(tmp_path):
    folder = tmp_path / "node"
    async with Receiver().serving() as receiver:
        assert await live(folder, receiver, 0, mode="planted", fault="acknowledged:1") == -signal.SIGKILL
        assert await live(folder, receiver, 0, number=0, mode="planted") == 0
        owed, missing = await asyncio.to_thread(owed_and_lost, folder, receiver)
    assert len(owed) == ITEMS
    assert 1 <= len(missing) <= 2  # what each lane was deleting


async def test_a_second_process_in_the_folder_is_refused_while_the_first_lives(tmp_path):
    folder = tmp_path / "node"
    async with Receiver().serving() as receiver:
        directory = await asyncio.to_thread(NodeDirectory.open, folder)
        try:
            assert await live(folder, receiver, 0) == 1
            with pytest.raises(DirectoryError):
                await asyncio.to_thread(NodeDirectory.open, folder)
        finally:
            await asyncio.to_thread(directory.close)
        assert receiver.stored == []
        assert await live(folder, receiver, 0) == 0
        assert len(receiver.stored) == ITEMS
