"""From a thread to the loop, bounded."""

import asyncio
import time

from consumers.handover import Handover


async def test_order_is_kept_and_a_full_one_delays():
    passage = Handover[int](2)

    def fill() -> list[bool]:
        return [passage.put(number, 5.0) for number in range(5)]

    filling = asyncio.create_task(asyncio.to_thread(fill))
    assert [await passage.get() for _ in range(5)] == [0, 1, 2, 3, 4]
    assert await filling == [True] * 5


async def test_past_the_deadline_nothing_is_taken():
    passage = Handover[int](1)
    assert await asyncio.to_thread(passage.put, 1, 0.1)
    started = time.monotonic()
    assert not await asyncio.to_thread(passage.put, 2, 0.1)
    assert 0.05 < time.monotonic() - started < 2.0
    assert passage.put_urgent(3)
    await asyncio.sleep(0)
    assert passage.drain() == [1, 3]
    assert await asyncio.to_thread(passage.put, 4, 0.1), "draining made room"


async def test_close_lets_a_waiting_thread_go():
    passage = Handover[int](1)
    assert await asyncio.to_thread(passage.put, 1, 0.1)
    waiting = asyncio.create_task(asyncio.to_thread(passage.put, 2, 30.0))
    await asyncio.sleep(0.05)
    passage.close()
    async with asyncio.timeout(5):
        assert await waiting is False
    assert not passage.put_urgent(3)
    assert not passage.put(3, 1.0)


def test_closed_loop_takes_nothing():
    async def make() -> Handover[int]:
        return Handover(1)

    with asyncio.Runner() as runner:
        passage = runner.run(make())
    assert not passage.put(1, 0.1)
