"""The outbox against a model that is simple enough to be believed: lists and sets in memory."""

import asyncio
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sdc_node.outbox import DROPPED_FULL, LANES, Item, LaneCounts, Outbox

CAP = 120
DESTINATIONS = ("his", "fhir")

items = st.builds(
    Item,
    id=st.integers(0, 40).map(str),
    destination=st.sampled_from(DESTINATIONS),
    lane=st.sampled_from(LANES),
    key=st.sampled_from(["d1", "d2", "d3"]),
    body=st.integers(1, 50).map(lambda size: b"x" * size),
    created=st.integers(0, 10**6),
)


class OutboxMachine(RuleBasedStateMachine):
    """`waiting` in the order of arrival, each with the time from which it may be sent."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="sdc-outbox-"))
        self.runner = asyncio.Runner()
        self.now = 1000
        self.waiting = []  # [item, due]
        self.sent = set()
        self.dead = []
        self.dropped = Counter()

    @initialize()
    def open_it(self):
        path = self.folder / "outbox.db"
        self.outbox = self.runner.run(Outbox.open(path, cap=CAP, clock=lambda: self.now))

    def teardown(self):
        if hasattr(self, "outbox"):
            self.runner.run(self.outbox.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def heads(self, destination, lane):
        """(item, due) of the oldest of each key, in the order in which they should be sent."""
        oldest = {}
        for item, due in self.waiting:
            if (item.destination, item.lane) == (destination, lane):
                oldest.setdefault(item.key, (item, due))
        return sorted(oldest.values(), key=lambda found: found[1])  # stable: then by arrival

    def fetch(self, destination, lane, limit=100):
        return self.runner.run(self.outbox.head(destination, lane, self.now, limit))

    def some_head(self, data):
        heads = [head for place in self.places() for head in self.fetch(*place)]
        return data.draw(st.sampled_from(heads)) if heads else None

    @staticmethod
    def places():
        return [(destination, lane) for destination in DESTINATIONS for lane in LANES]

    def remove(self, item):
        self.waiting = [
            entry for entry in self.waiting if (entry[0].destination, entry[0].id) != (item.destination, item.id)
        ]

    @rule(batch=st.lists(items, max_size=6))
    def put(self, batch):
        known = {(item.destination, item.id) for item, _ in self.waiting}
        known |= self.sent | {(item.destination, item.id) for item in self.dead}
        fresh = []
        for item in batch:
            if (item.destination, item.id) not in known:
                known.add((item.destination, item.id))
                self.waiting.append((item, self.now))
                fresh.append(item)
        for destination in DESTINATIONS:
            self.fit(destination)
        left = {(item.destination, item.id) for item, _ in self.waiting}
        owed = tuple(item.id for item in fresh if (item.destination, item.id) in left)
        assert self.runner.run(self.outbox.put(batch)) == owed

    def fit(self, destination):
        while True:
            mine = [item for item, _ in self.waiting if item.destination == destination]
            if sum(len(item.body) for item in mine) <= CAP:
                return
            goes = next((item for item in mine if item.lane == "bulk"), mine[0])
            self.remove(goes)
            self.dropped[destination, goes.lane] += 1

    @rule(step=st.integers(0, 50))
    def time_passes(self, step):
        self.now += step

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def acknowledge(self, data):
        if (item := self.some_head(data)) is not None:
            self.runner.run(self.outbox.acknowledge(item))
            self.remove(item)
            self.sent.add((item.destination, item.id))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), delay=st.integers(0, 100))
    def postpone(self, data, delay):
        if (item := self.some_head(data)) is not None:
            self.runner.run(self.outbox.postpone(item, self.now + delay, "later"))
            self.waiting = [
                (other, self.now + delay if (other.destination, other.id) == (item.destination, item.id) else due)
                for other, due in self.waiting
            ]

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def bury(self, data):
        if (item := self.some_head(data)) is not None:
            self.runner.run(self.outbox.bury(item, "never"))
            self.remove(item)
            self.dead.append(item)
            self.fit_dead(item.destination)

    def fit_dead(self, destination):
        while True:
            mine = [item for item in self.dead if item.destination == destination]
            if sum(len(item.body) for item in mine) <= CAP:
                return
            self.dead.remove(mine[0])

    @rule()
    def restart(self):
        self.runner.run(self.outbox.close())
        self.open_it()

    @invariant()
    def the_same_heads_are_due(self):
        for place in self.places() if hasattr(self, "outbox") else ():
            expected = [item.id for item, due in self.heads(*place) if due <= self.now]
            assert [item.id for item in self.fetch(*place)] == expected

    @invariant()
    def the_same_is_counted(self):
        for destination, lane in self.places() if hasattr(self, "outbox") else ():
            counts = self.outbox.counts().get((destination, lane), LaneCounts())
            mine = [item for item, _ in self.waiting if (item.destination, item.lane) == (destination, lane)]
            assert counts.waiting == len(mine)
            assert counts.waiting_bytes == sum(len(item.body) for item in mine)
            assert counts.oldest_created == (mine[0].created if mine else None)
            assert counts.dropped.get(DROPPED_FULL, 0) == self.dropped[destination, lane]
            assert counts.dead == sum((item.destination, item.lane) == (destination, lane) for item in self.dead)
        if hasattr(self, "outbox"):
            assert sum(counts.sent for counts in self.outbox.counts().values()) == len(self.sent)


OutboxMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestOutboxAgainstModel = OutboxMachine.TestCase
