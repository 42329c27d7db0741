"""The sender's loop: order, patience, dead letters, stopping."""

import asyncio
import logging
from collections import defaultdict
from contextlib import asynccontextmanager

import pytest

from sdc_node.database import DatabaseError
from sdc_node.delivery import Accepted, Delivery, Policy, Refused, Retry
from sdc_node.outbox import Item, LaneCounts, Outbox

HIS = "his"
QUICK = Policy(first=0.01, factor=2, longest=0.04, patience=5)


class Receiver:
    """Answers each id by its script, then accepts; remembers what it was given, in order."""

    def __init__(self, **scripts):
        self.scripts = {id_: list(script) for id_, script in scripts.items()}
        self.given = []
        self.arrived = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.at_once = 0

    async def __call__(self, item):
        self.at_once += 1
        assert self.at_once == 1, "one outstanding per connection"
        try:
            self.given.append((item.id, item.body))
            self.arrived.set()
            await self.open.wait()
            script = self.scripts.get(item.id)
            answer = script.pop(0) if script else Accepted()
            if isinstance(answer, BaseException):
                raise answer
            return answer
        finally:
            self.at_once -= 1

    @property
    def ids(self):
        return [id_ for id_, _ in self.given]


def item(id_, *, key="device-1", lane="bulk"):
    return Item(id=id_, destination=HIS, lane=lane, key=key, body=f"body of {id_}".encode(), created=1)


@pytest.fixture
async def outbox(tmp_path):
    outbox = await Outbox.open(tmp_path / "outbox.db")
    yield outbox
    await outbox.close()


@asynccontextmanager
async def sending(outbox, receiver, policy=QUICK, **options):
    delivery = Delivery(outbox, HIS, "bulk", receiver, policy, **options)
    delivery.start()
    try:
        yield delivery
    finally:
        await delivery.stop()


async def emptied(delivery):
    assert await asyncio.wait_for(delivery.stop(drain=20), 30)


async def test_sends_what_waits_and_what_comes(outbox):
    receiver = Receiver()
    await outbox.put([item("a")])
    async with sending(outbox, receiver) as delivery:
        await asyncio.wait_for(receiver.arrived.wait(), 5)
        await outbox.put([item("b"), item("c", key="device-2"), item("alert", lane="alert")])
        await emptied(delivery)
        assert receiver.ids[0] == "a"
        assert sorted(receiver.ids) == ["a", "b", "c"]
        assert (delivery.counts.sent, delivery.counts.last_error) == (3, None)
        assert delivery.counts.last_success is not None
    assert outbox.counts()[HIS, "bulk"] == LaneCounts(sent=3)


async def test_an_unreachable_receiver_is_tried_for_ever_with_identical_bytes(outbox, caplog):
    caplog.set_level(logging.INFO)
    failures = [Retry("refused"), TimeoutError(), ConnectionRefusedError(111, "Connection refused")] * 4
    receiver = Receiver(a=failures)
    await outbox.put([item("a"), item("b")])
    async with sending(outbox, receiver) as delivery:
        await emptied(delivery)
        assert receiver.given == [("a", b"body of a")] * 13 + [("b", b"body of b")]
        assert delivery.counts.retried == 12
        assert delivery.counts.refused == 0
    assert [record.message for record in caplog.records if record.name == "sdc_node.delivery"] == [
        "his (bulk): refused; trying again",
        "his (bulk): answers again after 13 tries",
    ]


async def test_not_accepted_three_times_is_a_dead_letter_and_its_key_goes_on(outbox):
    receiver = Receiver(a=[Retry("CE: OBX-3", "not accepted")] * 3)
    await outbox.put([item("a"), item("b")])
    async with sending(outbox, receiver) as delivery:
        await emptied(delivery)
        assert receiver.ids == ["a", "a", "a", "b"]
        assert (delivery.counts.sent, delivery.counts.retried, delivery.counts.refused) == (1, 2, 1)
    (letter,) = await outbox.dead_letters(HIS)
    assert (letter.item.id, letter.reason) == ("a", "CE: OBX-3 (3 times)")


async def test_not_accepted_does_not_hold_up_other_keys(outbox):
    receiver = Receiver(a1=[Retry("CE", "not accepted")])
    await outbox.put([item("a1"), item("a2"), item("b1", key="device-2")])
    async with sending(outbox, receiver) as delivery:
        await emptied(delivery)
    assert receiver.ids == ["a1", "b1", "a1", "a2"]


async def test_silence_between_refusals_does_not_reset_or_raise_their_count(outbox):
    ce, silent = Retry("CE", "not accepted"), Retry("no answer")
    receiver = Receiver(a=[ce, silent, silent, silent, ce, silent, ce])
    await outbox.put([item("a")])
    async with sending(outbox, receiver) as delivery:
        await emptied(delivery)
    assert len(receiver.given) == 7
    assert len(await outbox.dead_letters(HIS)) == 1


async def test_refused_is_a_dead_letter_at_once(outbox, caplog):
    receiver = Receiver(a=[Refused("CR: version")])
    await outbox.put([item("a"), item("b")])
    async with sending(outbox, receiver) as delivery:
        await emptied(delivery)
        assert receiver.ids == ["a", "b"]
        assert (delivery.counts.refused, delivery.counts.sent) == (1, 1)
    assert [letter.reason for letter in await outbox.dead_letters(HIS)] == ["CR: version"]
    assert "his (bulk): a is a dead letter: CR: version" in caplog.text


async def test_a_sender_that_fails_on_an_item_still_owes_it_and_lets_others_pass(outbox, caplog):
    receiver = Receiver(a=[KeyError("Jane Doe")] * 5)
    await outbox.put([item("a"), item("b", key="device-2")])
    async with sending(outbox, receiver) as delivery:
        await asyncio.wait_for(receiver.arrived.wait(), 5)
        await emptied(delivery)
        assert (delivery.counts.sent, delivery.counts.retried, delivery.counts.refused) == (2, 5, 0)
    assert not await outbox.dead_letters(HIS)
    assert receiver.ids.index("b") < 5
    assert "his (bulk): the sender failed on a: KeyError in " in caplog.text
    assert "Receiver.__call__, line " in caplog.text
    assert "Doe" not in caplog.text


async def test_a_send_without_end_is_cut_off(outbox):
    receiver = Receiver()
    receiver.open.clear()
    await outbox.put([item("a")])
    policy = Policy(first=0.01, longest=0.01, patience=0.05)
    async with sending(outbox, receiver, policy) as delivery:
        await asyncio.wait_for(receiver.arrived.wait(), 5)
        receiver.arrived.clear()
        await asyncio.wait_for(receiver.arrived.wait(), 5)  # the second attempt: the first was cut off
        assert delivery.counts.last_error == "TimeoutError: no answer"
        receiver.open.set()
        await emptied(delivery)


async def test_order_is_kept_per_key_whatever_happens(outbox):
    receiver = Receiver(
        a1=[Retry("CE", "not accepted")], b2=[Retry("no answer")] * 3, a3=[Refused("CR")], c1=[OSError()]
    )
    await outbox.put([item(f"{key}{number}", key=key) for number in range(5) for key in "abc"])
    async with sending(outbox, receiver) as delivery:
        await emptied(delivery)
    order = defaultdict(list)
    for id_ in dict.fromkeys(receiver.ids):
        order[id_[0]].append(id_)
    assert order == {key: [f"{key}{number}" for number in range(5)] for key in "abc"}


async def test_a_receivers_wish_to_wait_is_kept_but_bounded(outbox):
    policy = Policy(first=0.01, longest=0.02)
    delivery = Delivery(outbox, HIS, "bulk", Receiver(), policy)
    assert delivery._next_pause(1, 0.1) == 0.1
    assert delivery._next_pause(1, 86_400) == 0.2
    assert delivery._next_pause(1, -5) <= 0.01


async def test_a_file_that_fails_is_waited_for_and_nothing_is_lost(outbox, monkeypatch):
    receiver = Receiver()
    acknowledge, failures = outbox.acknowledge, [DatabaseError("outbox.db: the disk is full")] * 2

    async def failing(one):
        if failures:
            raise failures.pop()
        await acknowledge(one)

    monkeypatch.setattr(outbox, "acknowledge", failing)
    await outbox.put([item("a"), item("b")])
    async with sending(outbox, receiver) as delivery:
        await emptied(delivery)
        assert receiver.ids == ["a", "a", "a", "b"]
        assert (delivery.counts.sent, delivery.counts.retried) == (2, 2)


async def test_an_error_that_nobody_foresaw_does_not_end_the_lane(outbox, monkeypatch, caplog):
    head, failures = outbox.head, [RuntimeError("Jane Doe")]

    async def failing(*arguments):
        if failures:
            raise failures.pop()
        return await head(*arguments)

    monkeypatch.setattr(outbox, "head", failing)
    await outbox.put([item("a")])
    async with sending(outbox, Receiver()) as delivery:
        await emptied(delivery)
    assert "his (bulk): the sender failed: RuntimeError in " in caplog.text
    assert "Doe" not in caplog.text


async def test_stopping_ends_at_the_deadline_and_what_was_cut_off_waits(outbox):
    receiver = Receiver()
    receiver.open.clear()
    await outbox.put([item("a"), item("b")])
    async with sending(outbox, receiver) as delivery:
        await asyncio.wait_for(receiver.arrived.wait(), 5)
        assert await delivery.stop(drain=0.05) is False
    assert outbox.counts()[HIS, "bulk"].waiting == 2
    receiver.open.set()
    async with sending(outbox, receiver) as delivery:
        await emptied(delivery)
    assert receiver.ids == ["a", "a", "b"]


async def test_stopping_an_idle_or_unstarted_sender_is_immediate(outbox):
    async with sending(outbox, Receiver()) as delivery:
        assert await asyncio.wait_for(delivery.stop(drain=60), 5) is True
        assert await delivery.stop() is True
    assert await Delivery(outbox, HIS, "bulk", Receiver()).stop(drain=60) is True


async def test_starts_once(outbox):
    async with sending(outbox, Receiver()) as delivery:
        with pytest.raises(RuntimeError, match="starts once"):
            delivery.start()


def test_pauses_grow_to_a_bound_and_jitter_only_shortens():
    policy = Policy(first=1, factor=2, longest=60, jitter=0.5)
    assert [policy.pause(failures, 0) for failures in (1, 2, 3, 6, 7, 10**6)] == [1, 2, 4, 32, 60, 60]
    assert policy.pause(7, 1) == 30


@pytest.mark.parametrize(
    "bad",
    [
        {"first": 0},
        {"first": 2, "longest": 1},
        {"factor": 0.5},
        {"jitter": 1.5},
        {"refusals": 0},
        {"batch": 0},
        {"patience": 0},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(bad):
    with pytest.raises(ValueError, match=r"needs|at least"):
        Policy(**bad)
