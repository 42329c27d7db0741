"""OBX-4 numbers and open alert occurrences survive a restart."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdc_node.database import DatabaseError
from sdc_node.state import State

DEVICE = "urn:uuid:1"


@asynccontextmanager
async def opened(path):
    state = await State.open(path)
    try:
        yield state
    finally:
        await state.close()


@pytest.fixture
async def state(tmp_path):
    async with opened(tmp_path / "state.db") as state:
        yield state


async def test_r8014_siblings_are_numbered_in_document_order(state):
    pairs = [("", "mds"), ("mds", "vmd_b"), ("mds", "vmd_a"), ("vmd_b", "ch"), ("ch", "m1"), ("ch", "m2")]
    assert await state.assign(DEVICE, pairs) == dict(zip(pairs, [1, 1, 2, 1, 1, 2], strict=True))


async def test_r8014_a_new_handle_gets_one_more_than_the_highest_of_its_siblings(state):
    await state.assign(DEVICE, [("ch", "a"), ("ch", "b")])
    numbers = await state.assign(DEVICE, [("ch", "new"), ("ch", "a"), ("other", "x"), ("ch", "b")])
    assert numbers == {("ch", "a"): 1, ("ch", "b"): 2, ("ch", "new"): 3, ("other", "x"): 1}


async def test_r8015_a_module_that_returns_finds_its_number_and_nobody_else_got_it(state):
    await state.assign(DEVICE, [("mds", "module_1"), ("mds", "module_2")])
    await state.assign(DEVICE, [("mds", "module_1"), ("mds", "module_3")])
    numbers = await state.assign(DEVICE, [("mds", "module_2"), ("mds", "module_4")])
    assert [numbers["mds", f"module_{n}"] for n in (1, 2, 3, 4)] == [1, 2, 3, 4]


async def test_metrics_right_under_an_mds_are_a_level_of_their_own_from_20(state):
    await state.assign(DEVICE, [("mds", "vmd_1")])
    await state.assign(DEVICE, [("mds", "metric_1"), ("mds", "metric_2")], first=20)
    await state.assign(DEVICE, [("mds", "vmd_2")])
    numbers = await state.assign(DEVICE, [("mds", "metric_3")], first=20)
    assert numbers == {
        ("mds", "vmd_1"): 1,
        ("mds", "vmd_2"): 2,
        ("mds", "metric_1"): 20,
        ("mds", "metric_2"): 21,
        ("mds", "metric_3"): 22,
    }


async def test_devices_do_not_share_numbers(state):
    await state.assign(DEVICE, [("mds", "a"), ("mds", "b")])
    assert await state.assign("urn:uuid:2", [("mds", "b")]) == {("mds", "b"): 1}
    assert await state.numbers("urn:uuid:3") == {}


async def test_numbers_survive_a_restart(tmp_path):
    async with opened(tmp_path / "state.db") as state:
        before = await state.assign(DEVICE, [("ch", "a"), ("ch", "b")])
    async with opened(tmp_path / "state.db") as state:
        assert await state.numbers(DEVICE) == before
        assert (await state.assign(DEVICE, [("ch", "c")]))["ch", "c"] == 3


async def test_what_is_known_is_read_from_memory(state):
    pairs = [("ch", "a")]
    numbers = await state.assign(DEVICE, pairs)
    await state.close()
    assert await state.assign(DEVICE, pairs) is numbers
    assert await state.numbers(DEVICE) is numbers
    with pytest.raises(DatabaseError, match="closed"):
        await state.assign(DEVICE, [("ch", "b")])
    assert await state.numbers(DEVICE) is numbers


async def test_assignments_at_the_same_time_give_no_number_twice(state):
    await asyncio.gather(*(state.assign(DEVICE, [("ch", f"m{n % 7}"), ("ch", f"n{n}")]) for n in range(20)))
    numbers = await state.numbers(DEVICE)
    assert sorted(numbers.values()) == list(range(1, 28))


async def test_numbers_cannot_be_changed_by_who_reads_them(state):
    numbers = await state.assign(DEVICE, [("ch", "a")])
    with pytest.raises(TypeError):
        numbers["ch", "a"] = 7


async def test_a_first_number_below_one_is_refused(state):
    with pytest.raises(ValueError, match="positive"):
        await state.assign(DEVICE, [("ch", "a")], first=0)


HANDLES = st.lists(st.sampled_from("abcdefgh"), unique=True)


@given(mdibs=st.lists(HANDLES, max_size=5))
def test_r8014_numbers_are_positive_unique_among_siblings_and_never_change(tmp_path_factory, mdibs):
    async def check():
        async with opened(tmp_path_factory.mktemp("state") / "state.db") as state:
            ever = {}
            for handles in mdibs:
                numbers = await state.assign(DEVICE, [("parent", handle) for handle in handles])
                assert {("parent", handle) for handle in handles} <= numbers.keys()
                assert ever.items() <= numbers.items()
                assert sorted(numbers.values()) == list(range(1, len(numbers) + 1))
                ever = dict(numbers)

    asyncio.run(check())


async def test_open_alerts_survive_a_restart_and_closed_ones_do_not(tmp_path):
    one, two, three = (DEVICE, "mds", "c1"), (DEVICE, "mds", "c2"), (DEVICE, "mds2", "c1")
    async with opened(tmp_path / "state.db") as state:
        assert state.open_alerts() == {}
        await state.save_alerts({one: b"1", two: b"2"})
        await state.save_alerts({one: b"1 again", three: b"3"}, closed=[two])
        expected = {one: b"1 again", three: b"3"}
        assert state.open_alerts() == expected
    async with opened(tmp_path / "state.db") as state:
        assert state.open_alerts() == expected


async def test_closing_an_alert_that_is_not_open_is_nothing(state):
    await state.save_alerts({}, closed=[(DEVICE, "mds", "c")])
    assert state.open_alerts() == {}


async def test_an_alert_is_either_open_or_closed(state):
    key = (DEVICE, "mds", "c")
    with pytest.raises(ValueError, match="either open or closed"):
        await state.save_alerts({key: b"1"}, closed=[key])
    assert state.open_alerts() == {}


async def test_open_alerts_is_a_copy(state):
    state.open_alerts()["x", "y", "z"] = b""
    assert state.open_alerts() == {}


async def test_a_corrupt_file_is_told_in_one_line(tmp_path):
    path = tmp_path / "state.db"
    path.write_bytes(b"no database" * 500)
    with pytest.raises(DatabaseError, match=r"state\.db: not a database of this node; move it away"):
        await State.open(path)


async def test_what_was_told_is_remembered_by_destination(tmp_path):
    state = await State.open(tmp_path / "state.sqlite")
    await state.save_told("hl7", {("device", "mds", "m.sys"): 1, ("device", "mds", "m.dia"): 2})
    await state.save_told("hl7", {("device", "mds", "m.sys"): 3})
    await state.close()
    state = await State.open(tmp_path / "state.sqlite")
    assert await state.told("hl7") == {("device", "mds", "m.sys"): 3, ("device", "mds", "m.dia"): 2}
    assert await state.told("other") == {}
    await state.close()
