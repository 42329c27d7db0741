"""The node with a fault planted: it forgets an item before the receiver has acknowledged it."""

from sdc_node import faultpoints
from sdc_node.cli import main
from sdc_node.delivery import Delivery, Outcome
from sdc_node.outbox import Item

_honest = Delivery._attempt


async def _forget_then_send(self: Delivery, item: Item) -> Outcome:
    await self._outbox.acknowledge(item)
    faultpoints.reach("acknowledged")
    return await _honest(self, item)


if __name__ == "__main__":
    Delivery._attempt = _forget_then_send
    main()
