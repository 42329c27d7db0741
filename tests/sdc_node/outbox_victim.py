"""The process that `test_outbox_kill.py` kills: a small sink, the outbox, the ledger and a sender.

Arguments: the node's folder, the receiver's port, the first serial and the number of items to put ("0" only
drains), and `honest` or `planted`: the planted one deletes before it has sent. Prints nothing, exits 0 when
all that waited has been acknowledged.
"""

import asyncio
import sys
from pathlib import Path

from sdc_node import faultpoints
from sdc_node.delivery import Accepted, Delivery, Policy, Retry
from sdc_node.directory import DirectoryError, NodeDirectory
from sdc_node.ledger import Ledger
from sdc_node.outbox import Item, Outbox

DEVICES = 3
BATCH = 4
DESTINATION = "his"


def item(serial):
    """The same bytes under the same id whenever it is rendered."""
    body = f"item {serial} ".encode() * 40
    lane = "alert" if serial % 5 == 0 else "bulk"
    return Item(
        id=f"id{serial}",
        destination=DESTINATION,
        lane=lane,
        key=f"device{serial % DEVICES}",
        body=body,
        created=serial,
    )


class Client:
    """One connection, one outstanding: `id body-in-hex` out, `id` back."""

    def __init__(self, port):
        self.port = port
        self.streams = None

    async def send(self, one):
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        writer.write(f"{one.id} {one.key}/{one.lane} {one.body.hex()}\n".encode())
        await writer.drain()
        faultpoints.reach("sent")
        answer = await reader.readline()
        return Accepted() if answer.decode().strip() == one.id else Retry("not our answer")

    async def close(self):
        if self.streams is not None:
            self.streams[1].close()
            await self.streams[1].wait_closed()


def planted(outbox, send, all_owed):
    async def delete_then_send(one):
        await all_owed.wait()
        await outbox.acknowledge(one)
        faultpoints.reach("acknowledged")
        return await send(one)

    return delete_then_send


async def main(directory, port, first, number, mode):
    outbox = await Outbox.open(directory.path / "outbox.db")
    ledger = await asyncio.to_thread(Ledger, directory.path / "owed")
    clients = [Client(port), Client(port)]
    policy = Policy(first=0.01, longest=0.05)
    deliveries = []
    all_owed = asyncio.Event()
    for lane, client in zip(("alert", "bulk"), clients, strict=True):
        send = client.send if mode == "honest" else planted(outbox, client.send, all_owed)
        deliveries.append(Delivery(outbox, DESTINATION, lane, send, policy))
        deliveries[-1].start()
    again = max(0, first - number)  # what the last life rendered is rendered again: the ids are the same
    for start in range(again, first + number, BATCH):
        faultpoints.reach("rendered")
        await outbox.put([item(serial) for serial in range(start, start + BATCH)], ledger=ledger)
    all_owed.set()
    for delivery in deliveries:
        if not await delivery.stop(drain=30):
            raise SystemExit("not drained")
    for client in clients:
        await client.close()
    ledger.close()
    await outbox.close()


if __name__ == "__main__":
    folder, port, first, number, mode = sys.argv[1:]
    try:
        with NodeDirectory.open(Path(folder)) as directory:
            asyncio.run(main(directory, int(port), int(first), int(number), mode))
    except DirectoryError as error:
        sys.exit(str(error))
