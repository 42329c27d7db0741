"""The durable queue: order, identity, caps, dead letters, waking up."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from sdc_node.database import DatabaseError
from sdc_node.ledger import Ledger
from sdc_node.outbox import DROPPED_DEAD, DROPPED_FULL, Item, LaneCounts, Outbox

HIS = "his"
LATER = 10**15


class Clock:
    """Milliseconds that pass only when told to."""

    def __init__(self, now=1_000_000):
        self.now = now

    def __call__(self):
        return self.now


@asynccontextmanager
async def opened(path, **options):
    outbox = await Outbox.open(path, **options)
    try:
        yield outbox
    finally:
        await outbox.close()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def outbox(tmp_path, clock):
    async with opened(tmp_path / "outbox.db", clock=clock) as outbox:
        yield outbox


def item(id_, *, key="device-1", lane="bulk", destination=HIS, body=b"body", created=1):
    return Item(id=id_, destination=destination, lane=lane, key=key, body=body, created=created)


async def heads(outbox, lane="bulk", destination=HIS, now=LATER, limit=100):
    return [found.id for found in await outbox.head(destination, lane, now, limit)]


async def test_put_tells_what_is_newly_owed(outbox):
    assert await outbox.put([item("a"), item("b"), item("a")]) == ("a", "b")
    assert await outbox.put([item("b"), item("c")]) == ("c",)
    assert await outbox.put([]) == ()


async def test_an_id_is_of_its_destination(outbox):
    assert await outbox.put([item("a"), item("a", destination="fhir")]) == ("a", "a")


async def test_an_item_comes_out_as_it_went_in(outbox):
    one = item("a", body=b"\x0b\x00\xff", created=123456789)
    await outbox.put([one])
    assert await outbox.head(HIS, "bulk", LATER, 1) == (one,)


async def test_only_the_oldest_of_a_key_is_a_head(outbox):
    await outbox.put([item("a1"), item("a2"), item("b1", key="device-2"), item("c1", lane="alert")])
    assert await heads(outbox) == ["a1", "b1"]
    assert await heads(outbox, "alert") == ["c1"]
    assert await heads(outbox, limit=1) == ["a1"]


async def test_acknowledging_a_head_brings_the_next(outbox):
    await outbox.put([item(name) for name in ("a1", "a2", "a3")])
    sent = []
    while found := await outbox.head(HIS, "bulk", LATER, 10):
        sent += [one.id for one in found]
        await outbox.acknowledge(found[0])
    assert sent == ["a1", "a2", "a3"]


async def test_what_was_put_first_goes_first_across_keys(outbox, clock):
    for name in ("a", "b", "c"):
        await outbox.put([item(name, key=f"device-{name}", created=99 - ord(name))])
        clock.now += 1
    assert await heads(outbox) == ["a", "b", "c"]


async def test_what_was_sent_is_not_owed_again_within_the_retention(outbox, clock):
    one = item("a")
    await outbox.put([one])
    await outbox.acknowledge(one)
    clock.now += 7 * 24 * 3600 * 1000 - 1
    assert await outbox.put([one]) == ()
    clock.now += 2
    other = item("b")
    await outbox.put([other])
    await outbox.acknowledge(other)  # and forgets what is too old
    assert await outbox.put([one]) == ("a",)


async def test_the_sent_log_holds_no_bodies(tmp_path):
    path = tmp_path / "outbox.db"
    async with opened(path) as outbox:
        await outbox.put([item("a", body=b"PATIENT" * 1000)])
        await outbox.acknowledge(item("a"))
        columns = await outbox._database.read(lambda c: c.execute("SELECT * FROM sent").fetchall())
    assert [row[1:4] for row in columns] == [(HIS, "bulk", "a")]
    assert all(isinstance(number, int) for number in columns[0][4:])


async def test_a_postponed_head_holds_its_key_back_and_no_other(outbox, clock):
    first = item("a1")
    await outbox.put([first, item("a2"), item("b1", key="device-2")])
    await outbox.postpone(first, clock.now + 500, "no answer")
    assert await heads(outbox, now=clock.now + 499) == ["b1"]
    found = await outbox.head(HIS, "bulk", clock.now + 500, 10)
    assert [(one.id, one.tries, one.refusals) for one in found] == [("b1", 0, 0), ("a1", 1, 0)]


async def test_refusals_are_counted_apart_from_tries(outbox, clock):
    one = item("a")
    await outbox.put([one])
    await outbox.postpone(one, clock.now, "no answer")
    await outbox.postpone(one, clock.now, "CE", refused=True)
    (found,) = await outbox.head(HIS, "bulk", LATER, 1)
    assert (found.tries, found.refusals) == (2, 1)


async def test_a_clock_that_was_set_back_does_not_hold_an_item_until_it_catches_up(outbox, clock):
    one = item("a")
    await outbox.put([one])
    await outbox.postpone(one, clock.now + 1000, "no answer")
    assert await heads(outbox, now=clock.now) == []
    clock.now -= 3600_000
    assert await heads(outbox, now=clock.now) == ["a"]
    await asyncio.wait_for(outbox.wait(HIS, "bulk"), 5)


async def test_a_dead_letter_is_kept_and_does_not_block_its_key(outbox, clock):
    poison = item("a1", body=b"poison", created=5)
    await outbox.put([poison, item("a2")])
    await outbox.postpone(poison, clock.now, "CE", refused=True)
    await outbox.bury(poison, "CR: type unknown")
    assert await heads(outbox) == ["a2"]
    (letter,) = await outbox.dead_letters(HIS)
    assert (letter.reason, letter.buried) == ("CR: type unknown", clock.now)
    assert (letter.item.body, letter.item.created, letter.item.tries, letter.item.refusals) == (b"poison", 5, 1, 1)
    assert await outbox.dead_letters("fhir") == ()
    assert await outbox.put([poison]) == ()


async def test_the_newest_dead_letters_are_listed_oldest_first(outbox):
    for name in "abcd":
        await outbox.put([item(name)])
        await outbox.bury(item(name), "no")
    assert [letter.item.id for letter in await outbox.dead_letters(HIS, limit=2)] == ["c", "d"]


async def test_settling_what_no_longer_waits_changes_nothing(outbox, clock):
    one = item("a")
    await outbox.put([one])
    await outbox.acknowledge(one)
    await outbox.acknowledge(one)
    await outbox.postpone(one, clock.now, "late")
    await outbox.bury(one, "late")
    assert await outbox.dead_letters(HIS) == ()
    assert outbox.counts()[HIS, "bulk"] == LaneCounts(sent=1)


async def test_counts_follow_every_change_and_a_restart(tmp_path, clock):
    path = tmp_path / "outbox.db"
    async with opened(path, clock=clock) as outbox:
        assert outbox.counts() == {}
        items = [item(name, body=b"12345", created=number) for number, name in enumerate("abcd")]
        await outbox.put([*items, item("x", lane="alert", destination="fhir", created=9)])
        assert outbox.counts()[HIS, "bulk"] == LaneCounts(waiting=4, waiting_bytes=20, oldest_created=0)
        await outbox.acknowledge(items[0])
        await outbox.bury(items[1], "no")
        counts = outbox.counts()
        assert counts[HIS, "bulk"] == LaneCounts(waiting=2, waiting_bytes=10, oldest_created=2, sent=1, dead=1)
        assert counts["fhir", "alert"] == LaneCounts(waiting=1, waiting_bytes=4, oldest_created=9)
    async with opened(path) as outbox:
        assert {key: value for key, value in outbox.counts().items() if value != LaneCounts()} == {
            key: value for key, value in counts.items() if value != LaneCounts()
        }


async def test_past_the_cap_the_oldest_bulk_goes_and_alerts_stay(tmp_path):
    async with opened(tmp_path / "outbox.db", cap=40) as outbox:
        await outbox.put([item("alert", lane="alert", body=b"x" * 10)])
        await outbox.put([item(f"b{n}", key=f"device-{n % 2}", body=b"x" * 10) for n in range(3)])
        assert await outbox.put([item("b3", body=b"x" * 10), item("b4", body=b"x" * 10)]) == ("b3", "b4")
        assert await heads(outbox, "alert") == ["alert"]
        assert await heads(outbox) == ["b2", "b3"]
        assert outbox.counts()[HIS, "bulk"].dropped == {DROPPED_FULL: 2}
        assert outbox.counts()[HIS, "bulk"].waiting_bytes == 30
        assert outbox.counts()[HIS, "alert"] == LaneCounts(waiting=1, waiting_bytes=10, oldest_created=1)


async def test_alerts_alone_beyond_the_cap_lose_their_oldest_and_bulk_is_not_owed(tmp_path):
    async with opened(tmp_path / "outbox.db", cap=20) as outbox:
        await outbox.put([item("bulk", body=b"x" * 10)])
        owed = await outbox.put([item(f"a{n}", lane="alert", body=b"x" * 10) for n in range(3)])
        assert owed == ("a1", "a2")
        assert await outbox.put([item("late", body=b"x")]) == ()
        assert await heads(outbox) == []
        assert await heads(outbox, "alert") == ["a1"]
        counts = outbox.counts()
        assert counts[HIS, "alert"].dropped == {DROPPED_FULL: 1}
        assert counts[HIS, "bulk"].dropped == {DROPPED_FULL: 2}


async def test_an_item_larger_than_the_cap_is_dropped_and_not_owed(tmp_path):
    async with opened(tmp_path / "outbox.db", cap=20) as outbox:
        assert await outbox.put([item("huge", body=b"x" * 21)]) == ()
        assert outbox.counts()[HIS, "bulk"] == LaneCounts(dropped={DROPPED_FULL: 1})


async def test_caps_are_of_a_destination(tmp_path):
    async with opened(tmp_path / "outbox.db", cap=100, caps={HIS: 10}) as outbox:
        both = [item("a", body=b"x" * 20), item("b", destination="fhir", body=b"x" * 20)]
        assert await outbox.put(both) == ("b",)


async def test_dead_letters_are_capped_too(tmp_path):
    async with opened(tmp_path / "outbox.db", cap=25) as outbox:
        for name in ("a", "b", "c"):
            await outbox.put([item(name, body=b"x" * 10)])
            await outbox.bury(item(name), "no")
        assert [letter.item.id for letter in await outbox.dead_letters(HIS)] == ["b", "c"]
        assert outbox.counts()[HIS, "bulk"] == LaneCounts(dead=2, dropped={DROPPED_DEAD: 1})


async def test_wait_returns_at_once_when_something_is_due(outbox):
    await outbox.put([item("a")])
    await asyncio.wait_for(outbox.wait(HIS, "bulk"), 5)


async def test_wait_wakes_on_a_put_to_its_lane_and_no_other(outbox):
    waiting = asyncio.create_task(outbox.wait(HIS, "bulk"))
    await outbox.put([item("a", lane="alert"), item("b", destination="fhir")])
    for _ in range(3):  # whatever it was woken for, it has read the file and found nothing
        await outbox.head(HIS, "bulk", LATER, 1)
    assert not waiting.done()
    await outbox.put([item("c")])
    await asyncio.wait_for(waiting, 5)


async def test_wait_wakes_when_the_next_is_due(tmp_path):
    async with opened(tmp_path / "outbox.db") as outbox:
        one = item("a")
        await outbox.put([one])
        due = outbox._clock() + 50
        await outbox.postpone(one, due, "no answer")
        await asyncio.wait_for(outbox.wait(HIS, "bulk"), 5)
        assert outbox._clock() >= due


async def test_the_ledger_gets_what_is_owed_after_the_commit(tmp_path, outbox):
    ledger = await asyncio.to_thread(Ledger, tmp_path / "owed")
    await outbox.put([item("a"), item("b")], ledger=ledger)
    await outbox.put([item("b"), item("c")], ledger=ledger)
    ledger.close()
    assert (tmp_path / "owed").read_text() == "a\nb\nc\n"


async def test_a_lane_that_is_none_is_refused_and_nothing_of_the_put_is_kept(outbox):
    with pytest.raises(Exception, match="CHECK constraint failed"):
        await outbox.put([item("a"), item("b", lane="express")])
    assert await heads(outbox) == []


async def test_puts_of_one_moment_share_a_commit(outbox):
    seen = []
    await outbox._database.write(lambda connection: connection.set_trace_callback(seen.append))
    seen.clear()
    await asyncio.gather(*(outbox.put([item(f"i{n}", key=f"device-{n}")]) for n in range(50)))
    assert seen.count("BEGIN IMMEDIATE") == 1
    assert outbox.counts()[HIS, "bulk"].waiting == 50


async def test_finding_heads_does_not_read_the_whole_queue(outbox):
    plan = await outbox._database.read(
        lambda connection: connection.execute(
            "EXPLAIN QUERY PLAN SELECT id FROM item WHERE head = 1 AND destination = ? AND lane = ? "
            "AND (due <= ? OR since > ?) ORDER BY due, seq LIMIT ?",
            (HIS, "bulk", 1, 1, 1),
        ).fetchall()
    )
    assert [step[3] for step in plan] == ["SEARCH item USING INDEX item_head (destination=? AND lane=?)"]


async def test_a_corrupt_file_is_told_in_one_line(tmp_path):
    path = tmp_path / "outbox.db"
    path.write_bytes(b"\0" * 5000)
    with pytest.raises(DatabaseError) as caught:
        await Outbox.open(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_file_whose_counts_cannot_be_read_is_closed_again(tmp_path, monkeypatch):
    def broken(_):
        raise DatabaseError("damaged")

    monkeypatch.setattr("sdc_node.outbox_rows.count_all", broken)
    with pytest.raises(DatabaseError, match="damaged"):
        await Outbox.open(tmp_path / "outbox.db")  # and the guard finds no thread of it
