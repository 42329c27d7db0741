"""A sink's way into the outbox: what could not be committed is held, and goes first with the next try."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from sdc_node.database import DatabaseError
from sdc_node.faultpoints import reach
from sdc_node.ledger import Ledger
from sdc_node.outbox import Item, Outbox

HELD: Final = 10_000
"""Items that may be held while the disk refuses; past it the oldest bulk goes, then the oldest alert, both counted."""

RETRY_SECONDS: Final = 1.0
"""How soon a sink should come back while anything is held."""


class Owing:
    """Rendered items on their way to being owed. Event loop only; calls may overlap, order is kept per caller."""

    def __init__(self, outbox: Outbox, ledger: Ledger | None = None) -> None:
        self._outbox = outbox
        self._ledger = ledger
        self._held: list[Item] = []
        self.dropped: Counter[str] = Counter()

    @property
    def holds(self) -> bool:
        """Whether something waits for the disk."""
        return bool(self._held)

    async def put(self, items: Sequence[Item]) -> tuple[Item, ...]:
        """Commit what is held and `items`; those that are owed from now on.

        Raises DatabaseError where they could not be committed: they are held, and go first with the next call.
        """
        if not items and not self._held:
            return ()
        reach("rendered")
        together, self._held = [*self._held, *items], []
        try:
            owed = frozenset(await self._outbox.put(together, ledger=self._ledger))
        except DatabaseError:
            self._hold(together)
            raise
        return tuple(item for item in together if item.id in owed)

    def _hold(self, items: list[Item]) -> None:
        self._held = items + self._held
        while len(self._held) > HELD:
            oldest = next((at for at, item in enumerate(self._held) if item.lane == "bulk"), 0)
            self.dropped[f"not_committed_{self._held.pop(oldest).lane}"] += 1
