"""What is owed, kept apart from the outbox."""

import asyncio

import pytest

from sdc_node.ledger import Ledger, lost, read_ledger


async def test_appends_one_id_a_line_in_a_private_file(tmp_path):
    path = tmp_path / "owed"
    ledger = await asyncio.to_thread(Ledger, path)
    await ledger.append(("a", "b"))
    await ledger.append(())
    await ledger.append(("c",))
    ledger.close()
    assert path.read_text() == "a\nb\nc\n"
    assert path.stat().st_mode & 0o777 == 0o600


async def test_goes_on_where_the_last_process_ended(tmp_path):
    for name in ("a", "b"):
        ledger = await asyncio.to_thread(Ledger, tmp_path / "owed")
        await ledger.append((name,))
        ledger.close()
    assert (tmp_path / "owed").read_text() == "a\nb\n"


@pytest.mark.parametrize("tail", ["torn", "t" * 10_000])
@pytest.mark.parametrize("whole", ["", "a\nb\n"])
def test_an_unfinished_line_is_cut_off(tmp_path, whole, tail):
    path = tmp_path / "owed"
    path.write_text(whole + tail)
    assert read_ledger(path) == tuple(whole.split())
    Ledger(path).close()
    assert path.read_text() == whole


@pytest.mark.parametrize("bad", ["", "a\nb"])
async def test_an_id_that_is_no_line_is_refused(tmp_path, bad):
    ledger = await asyncio.to_thread(Ledger, tmp_path / "owed")
    with pytest.raises(ValueError, match="is a line"):
        await ledger.append(("ok", bad))
    ledger.close()
    assert (tmp_path / "owed").read_text() == ""


def test_a_folder_in_its_place_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="Is a directory"):
        Ledger(tmp_path)


def test_lost_is_owed_and_not_stored(tmp_path):
    (tmp_path / "one").write_text("a\nb\n")
    (tmp_path / "two").write_text("c\n")
    both = [tmp_path / "one", tmp_path / "two"]
    assert lost(both, ["a", "c", "never owed"]) == {"b"}
    assert lost(both, ["a", "b", "c"]) == frozenset()
