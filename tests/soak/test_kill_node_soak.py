"""Show 5 at length: 100 kills of the node, another sequence of them each time."""

import asyncio
import random

import pytest

from tests.end_to_end.kill_judge import faults
from tests.end_to_end.kill_rounds import POINTS, killed_at, killed_at_random, last_life, site

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

ROUNDS = 100


async def test_show_5_killed_100_times_nothing_owed_is_lost(tmp_path):
    seed = random.SystemRandom().randrange(1 << 30)
    print(f"the kills are those of random.Random({seed})")  # noqa: T201 - pytest shows it where the test fails
    chance = random.Random(seed)
    async with site(tmp_path) as here:
        for _ in range(ROUNDS):
            if chance.random() < 0.6:
                await killed_at(here, f"{chance.choice(POINTS)}:{chance.randint(1, 16)}")
            else:
                await killed_at_random(here, chance)
        last = await last_life(here)
        evidence = await asyncio.to_thread(here.evidence)
    assert faults(evidence) == []
    assert [lane for lane in last["destinations"] if lane["waiting"] or lane["dead"]] == []
    assert evidence.repeats >= ROUNDS // 10
    assert len(evidence.owed) > 5 * ROUNDS
