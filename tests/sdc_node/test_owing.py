"""What could not be committed is held, in order and bounded, and goes first with the next try."""

import pytest

from sdc_node import owing as module
from sdc_node.database import DatabaseError
from sdc_node.outbox import Item
from sdc_node.owing import Owing


class Disk:
    """An outbox whose disk can be full."""

    def __init__(self):
        self.full = False
        self.taken = []

    async def put(self, items, *, ledger=None):
        if self.full:
            raise DatabaseError("the disk is full")
        new = [item for item in items if item not in self.taken]
        self.taken += new
        return tuple(item.id for item in new)


def item(number, lane="bulk"):
    return Item(id=str(number), destination="there", lane=lane, key="device", body=b"", created=number)


async def test_it_tells_what_is_owed_from_now_on():
    owing = Owing(Disk())
    assert await owing.put([]) == ()
    assert await owing.put([item(1), item(2)]) == (item(1), item(2))
    assert await owing.put([item(2), item(3)]) == (item(3),)


async def test_what_could_not_be_committed_goes_first_with_the_next_try():
    disk = Disk()
    owing = Owing(disk)
    disk.full = True
    for number in (1, 2):
        with pytest.raises(DatabaseError):
            await owing.put([item(number)])
    assert owing.holds
    disk.full = False
    assert await owing.put([item(3)]) == (item(1), item(2), item(3))
    assert not owing.holds
    assert disk.taken == [item(1), item(2), item(3)]


async def test_past_the_bound_the_oldest_bulk_goes_first_and_is_counted(monkeypatch):
    monkeypatch.setattr(module, "HELD", 2)
    disk = Disk()
    owing = Owing(disk)
    disk.full = True
    with pytest.raises(DatabaseError):
        await owing.put([item(1, "alert"), item(2), item(3, "alert"), item(4, "alert")])
    assert owing.dropped == {"not_committed_bulk": 1, "not_committed_alert": 1}
    disk.full = False
    assert await owing.put([]) == (item(3, "alert"), item(4, "alert"))
