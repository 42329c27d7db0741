"""Show 5: kill -9 of the node at each forced point and at random; nothing owed is lost, nothing has a second id."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.end_to_end.kill_judge import Evidence, faults
from tests.end_to_end.kill_rounds import POINTS, killed_at, killed_at_random, last_life, site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

FORCED, RANDOM = 12, 8
PLANTED = (str(Path(__file__).with_name("kill_planted.py")),)


async def test_show_5_killed_at_each_point_and_at_random_nothing_owed_is_lost(tmp_path):
    chance = random.Random(11)
    rounds = [f"{point}:{nth}" for point in POINTS for nth in (1, chance.randint(2, 4), chance.randint(5, 12))]
    rounds += [""] * RANDOM
    chance.shuffle(rounds)
    assert len(rounds) == FORCED + RANDOM == 20
    async with site(tmp_path) as here:
        for fault in rounds:
            if fault:
                await killed_at(here, fault)
            else:
                await killed_at_random(here, chance)
        last = await last_life(here)
        evidence = await asyncio.to_thread(here.evidence)
    assert faults(evidence) == []
    assert [lane for lane in last["destinations"] if lane["waiting"] or lane["dead"]] == []
    assert last["failed"] == {}
    assert evidence.repeats >= 3, "at `sent` and `acknowledged` the receiver has what the node does not know of"
    assert_alerts_went_on(evidence)


def assert_alerts_went_on(evidence: Evidence) -> None:
    """There were alerts that outlived a node, and they have one event id."""
    phases = {name: [event.phase for _, event in told] for name, told in evidence.events.items()}
    disconnected = [told for name, told in phases.items() if name.startswith("ac.abp.disconnect.")]
    assert len(disconnected) == 1, "it began once, and lasts"
    assert disconnected[0].count("continue") >= 3
    others = [told for name, told in phases.items() if not name.startswith("ac.abp.disconnect.")]
    assert sum("continue" in told or "end" in told for told in others) >= 3


async def test_a_planted_deletion_before_the_acknowledgement_fails_the_same_check(tmp_path):
    async with site(tmp_path) as here:
        for fault in ("acknowledged:1", "acknowledged:4"):
            await killed_at(here, fault, PLANTED)
        await last_life(here, PLANTED)
        evidence = await asyncio.to_thread(here.evidence)
    found = [fault for fault in faults(evidence) if fault.startswith("lost: ")]
    assert 1 <= len(found) <= 8, "what each lane of each destination was deleting, in two lives"
