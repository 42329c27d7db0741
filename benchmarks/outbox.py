"""Group commit against one commit an item, on this disk: both measured in one run, three times each, in turn.

Method: an outbox file in a temporary folder, WAL and FULL as in the product, items of 5 kB, each in a put of its own.
`alone`: one producer waits for each commit. `together`: 50 producers wait, so that commits are shared. The median
rates and their ratio are printed. What counts is the ratio: the rates are this disk's.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from sdc_node.outbox import Item, Outbox, wall_clock

PRODUCERS = 50
ITEMS = 2_000
ROUNDS = 3
BODY = b"x" * 5_000


async def rate(outbox: Outbox, name: str, producers: int) -> float:
    """Puts a second."""

    async def produce(number: int) -> None:
        for index in range(ITEMS // producers):
            item = Item(
                id=f"{name}-{number}-{index}",
                destination="bench",
                lane="bulk",
                key=f"device-{number}",
                body=BODY,
                created=wall_clock(),
            )
            await outbox.put([item])

    began = time.perf_counter()
    await asyncio.gather(*(produce(number) for number in range(producers)))
    return ITEMS / (time.perf_counter() - began)


async def main() -> None:
    alone, together = [], []
    with tempfile.TemporaryDirectory() as folder:
        outbox = await Outbox.open(Path(folder) / "outbox.sqlite")
        for turn in range(ROUNDS):
            alone.append(await rate(outbox, f"alone-{turn}", 1))
            together.append(await rate(outbox, f"together-{turn}", PRODUCERS))
        await outbox.close()
    result = {
        "alone_per_s": round(statistics.median(alone)),
        "together_per_s": round(statistics.median(together)),
        "ratio": round(statistics.median(together) / statistics.median(alone), 2),
    }
    print(__doc__)
    print(f"{ROUNDS} rounds of {ITEMS} items, {PRODUCERS} producers together")
    print(msgspec.json.encode(result).decode() if "--json" in sys.argv else result)


if __name__ == "__main__":
    asyncio.run(main())
