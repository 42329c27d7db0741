"""One file, one writer with group commit, one reader; and every way in which the file can be unusable."""

import asyncio
import contextlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from sdc_node.database import Database, DatabaseError

NOTES = ("CREATE TABLE note (text TEXT NOT NULL UNIQUE)",)
BUSY_TEXT = "another process is writing"


def insert(text):
    return lambda connection: connection.execute("INSERT INTO note VALUES (?)", (text,)).rowcount


def texts(connection):
    return [text for (text,) in connection.execute("SELECT text FROM note ORDER BY rowid")]


async def opened(path, migrations=NOTES, **options):
    return await asyncio.to_thread(lambda: Database.open(path, migrations, **options))


@pytest.fixture
async def db(tmp_path):
    database = await opened(tmp_path / "notes.db")
    yield database
    await database.close()


def db_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("sdc-db-")]


async def traced_commits(db):
    """The list that every COMMIT of the writer is appended to."""
    seen = []
    await db.write(lambda connection: connection.set_trace_callback(seen.append))
    seen.clear()
    return seen


async def test_what_a_write_returned_a_read_finds(db):
    assert await db.write(insert("a")) == 1
    assert await db.read(texts) == ["a"]


async def test_fifty_writers_share_one_commit(db):
    seen = await traced_commits(db)
    await asyncio.gather(*(db.write(insert(f"n{number}")) for number in range(50)))
    # The trace itself began inside a commit, whose end may be the first thing it saw.
    assert seen.count("BEGIN IMMEDIATE") == 1
    assert len(await db.read(texts)) == 50


async def test_writes_one_after_another_commit_one_by_one(db):
    seen = await traced_commits(db)
    for number in range(5):
        await db.write(insert(f"n{number}"))
    assert seen.count("BEGIN IMMEDIATE") == 5


async def test_no_future_resolves_before_its_commit(db):
    order = []
    await db.write(lambda connection: connection.set_trace_callback(order.append))
    order.clear()
    await db.write(insert("a"), committed=lambda _: order.append("told"))
    assert order.index("told") > order.index("COMMIT")


async def test_a_failing_write_rolls_back_only_itself(db):
    def half(connection):
        insert("half")(connection)
        raise LookupError("second half")

    results = await asyncio.gather(db.write(insert("a")), db.write(half), db.write(insert("b")), return_exceptions=True)
    assert [type(result) for result in results] == [int, LookupError, int]
    assert await db.read(texts) == ["a", "b"]


async def test_a_broken_constraint_is_the_callers_own_error(db):
    await db.write(insert("a"))
    with pytest.raises(sqlite3.IntegrityError):
        await db.write(insert("a"))


async def test_stop_iteration_does_not_hang_the_caller(db):
    def stop(_):
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(db.write(stop), 5)


async def test_a_function_that_ends_the_transaction_is_told_and_the_next_write_works(db):
    with pytest.raises(DatabaseError, match="savepoint"):
        await db.write(lambda connection: connection.execute("COMMIT"))
    assert await db.write(insert("after")) == 1


async def test_the_reader_cannot_write(db):
    with pytest.raises(DatabaseError, match="readonly"):
        await db.read(insert("a"))
    assert await db.read(texts) == []


async def test_a_read_that_ends_its_transaction_is_told_and_the_next_read_works(db):
    with pytest.raises(DatabaseError):
        await db.read(lambda connection: connection.execute("COMMIT"))
    assert await db.read(texts) == []


async def test_a_cancelled_caller_does_not_take_its_write_back(db):
    told = []
    task = asyncio.create_task(db.write(insert("a"), committed=told.append))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await db.write(lambda _: None)
    assert await db.read(texts) == ["a"]
    assert told == [1]


async def test_an_error_while_telling_reaches_the_caller(db):
    with pytest.raises(ZeroDivisionError):
        await db.write(insert("a"), committed=lambda result: result / 0)


async def test_the_queue_is_bounded(tmp_path):
    db = await opened(tmp_path / "notes.db", capacity=2)
    gate = threading.Event()
    try:
        tasks = [asyncio.create_task(db.write(lambda _: gate.wait(30)))]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(db.write(insert(f"n{number}"))) for number in range(5)]
        await asyncio.sleep(0)
        assert len(db._writer._gathering) + len(db._writer._waiting) <= 2
        gate.set()
        await asyncio.gather(*tasks)
        assert len(await db.read(texts)) == 5
    finally:
        gate.set()
        await db.close()


async def test_close_finishes_what_waits_and_leaves_no_thread(tmp_path):
    db = await opened(tmp_path / "notes.db")
    assert sorted(db_threads()) == ["sdc-db-notes-reader", "sdc-db-notes-writer"]
    tasks = [asyncio.create_task(db.write(insert(f"n{number}"))) for number in range(10)]
    await asyncio.sleep(0)
    await db.close()
    await db.close()
    assert db_threads() == []
    assert await asyncio.gather(*tasks) == [1] * 10
    assert not (tmp_path / "notes.db-wal").exists()
    with pytest.raises(DatabaseError, match="closed"):
        await db.write(insert("late"))
    with pytest.raises(DatabaseError, match="closed"):
        await db.read(texts)


def test_a_loop_that_ends_under_a_write_leaves_the_file_usable(tmp_path, caplog):
    path = tmp_path / "notes.db"
    db = Database.open(path, NOTES)
    gate = threading.Event()

    def slow(connection):
        gate.wait(30)
        return insert("slow")(connection)

    async def abandon():
        task = asyncio.create_task(db.write(slow))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(abandon())
    gate.set()
    asyncio.run(db.close())
    assert "nobody waits any more for 1 results" in caplog.text
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert texts(connection) == ["slow"]


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
async def test_files_are_private_whatever_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        db = await opened(tmp_path / "notes.db")
        await db.write(insert("a"))
    finally:
        os.umask(before)
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    await db.close()
    assert modes == {"notes.db": 0o600, "notes.db-wal": 0o600, "notes.db-shm": 0o600}


async def test_a_file_that_was_open_to_others_is_closed_to_them(tmp_path):
    path = tmp_path / "notes.db"
    await (await opened(path)).close()
    path.chmod(0o644)
    await (await opened(path)).close()
    assert path.stat().st_mode & 0o777 == 0o600


async def test_settings_that_the_promise_rests_on(db):
    def pragma(connection):
        return [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "user_version")
        ]

    assert await db.write(pragma) == ["wal", 2, 1, 1]


async def test_migrations_are_applied_once_and_in_order(tmp_path):
    path = tmp_path / "notes.db"
    await (await opened(path)).close()
    more = (*NOTES, "ALTER TABLE note ADD COLUMN at INTEGER; INSERT INTO note VALUES ('two', 2)")
    for _ in range(2):
        db = await opened(path, more)
        assert await db.read(texts) == ["two"]
        assert await db.read(lambda c: c.execute("PRAGMA user_version").fetchone()) == (2,)
        await db.close()


async def test_a_failing_migration_leaves_the_version_before(tmp_path):
    path = tmp_path / "notes.db"
    await (await opened(path)).close()
    with pytest.raises(DatabaseError, match="nowhere"):
        await opened(path, (*NOTES, "CREATE TABLE other (x); INSERT INTO nowhere VALUES (1)"))
    db = await opened(path)
    assert await db.read(lambda c: c.execute("SELECT name FROM sqlite_schema WHERE name='other'").fetchall()) == []
    await db.close()


async def test_two_openers_of_a_new_file_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "notes.db"
    databases = await asyncio.gather(*(opened(path) for _ in range(4)))
    try:
        for number, db in enumerate(databases):
            await db.write(insert(f"n{number}"))
        assert len(await databases[0].read(texts)) == 4
    finally:
        for db in databases:
            await db.close()


async def refusal(path, migrations=NOTES):
    with pytest.raises(DatabaseError) as caught:
        await opened(path, migrations)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(path))
    assert db_threads() == []
    return text


async def test_a_newer_file_is_refused(tmp_path):
    path = tmp_path / "notes.db"
    await (await opened(path, (*NOTES, "CREATE TABLE second (x)"))).close()
    assert "schema version 2 is newer than 1" in await refusal(path)


async def test_a_file_of_garbage_is_refused_and_kept(tmp_path):
    path = tmp_path / "notes.db"
    path.write_bytes(b"garbage\n" * 1000)
    assert "not a database of this node; move it away" in await refusal(path)
    assert path.read_bytes() == b"garbage\n" * 1000


async def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "notes.db"
    db = await opened(path)
    await asyncio.gather(*(db.write(insert(f"{number:0100}")) for number in range(500)))
    await db.close()
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 6] = os.urandom(4096 * 4)
    path.write_bytes(content)
    assert "damaged" in await refusal(path)


async def test_damage_met_while_running_is_told_and_the_node_goes_on(tmp_path, monkeypatch):
    path = tmp_path / "notes.db"
    db = await opened(path)
    await asyncio.gather(*(db.write(insert(f"{number:0100}")) for number in range(500)))
    await db.close()
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 6] = b"\xff" * (4096 * 4)
    path.write_bytes(content)
    monkeypatch.setattr("sdc_node.database.FULL_CHECK_BYTES", 0)
    db = await opened(path)
    with pytest.raises(DatabaseError, match="damaged"):
        await db.read(texts)
    assert await db.read(lambda _: "still here") == "still here"
    await db.close()


def make_foreign(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE bookmarks (url)")


async def test_a_foreign_database_is_refused(tmp_path):
    path = tmp_path / "notes.db"
    await asyncio.to_thread(make_foreign, path)
    assert "a database of something else" in await refusal(path)


async def test_a_database_of_another_store_of_ours_is_refused(tmp_path):
    path = tmp_path / "notes.db"
    await (await opened(path)).close()
    assert "a database of something else" in await refusal(path, ("CREATE TABLE other (x)",))


async def test_a_folder_in_its_place_is_refused(tmp_path):
    (tmp_path / "notes.db").mkdir()
    assert "not a file" in await refusal(tmp_path / "notes.db")


async def test_a_missing_folder_is_refused(tmp_path):
    assert "No such file or directory" in await refusal(tmp_path / "nowhere" / "notes.db")


async def test_a_full_disk_fails_the_write_and_room_heals_it(db):
    await db.write(lambda connection: connection.execute("PRAGMA max_page_count=8").fetchone())
    with pytest.raises(DatabaseError, match="disk is full; make room"):
        await db.write(insert("x" * 100_000))
    await db.write(lambda connection: connection.execute("PRAGMA max_page_count=100000").fetchone())
    assert await db.write(insert("y" * 100_000)) == 1


async def test_a_file_that_another_process_holds_is_told(db, monkeypatch):
    other = await asyncio.to_thread(sqlite3.connect, db.path, isolation_level=None, check_same_thread=False)
    await db.write(lambda connection: connection.execute("PRAGMA busy_timeout=10").fetchone())
    await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
    results = await asyncio.gather(db.write(insert("a")), db.write(insert("b")), return_exceptions=True)
    assert [BUSY_TEXT in str(result) for result in results] == [True, True]
    await asyncio.to_thread(other.execute, "ROLLBACK")
    await asyncio.to_thread(other.close)
    assert await db.write(insert("a")) == 1


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_new_file_that_another_process_holds_is_told(tmp_path, monkeypatch, lock):
    monkeypatch.setattr("sdc_node.database.BUSY_SECONDS", 0.05)
    path = tmp_path / "notes.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"BEGIN {lock}")
        with pytest.raises(DatabaseError, match=BUSY_TEXT):
            Database.open(path, NOTES)


def test_a_file_system_without_wal_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("sdc_node.database._switch_to_wal", lambda _: "delete")
    with pytest.raises(DatabaseError, match="use a local disk"):
        Database.open(tmp_path / "notes.db", NOTES)


async def test_a_turn_that_fails_in_a_way_nobody_foresaw_hangs_nobody(db, monkeypatch):
    def out_of_memory(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(db._writer, "_turn", out_of_memory)
        with pytest.raises(MemoryError):
            await asyncio.wait_for(db.write(insert("a")), 5)
    assert await db.write(insert("a")) == 1


def test_an_error_at_commit_fails_all_who_share_it_and_the_next_commit_works(tmp_path):
    """The limit on file size makes the real write() of the commit fail, in a process of its own."""
    program = """
        import asyncio, resource, sys
        from pathlib import Path
        from sdc_node.database import Database, DatabaseError

        def insert(text):
            return lambda connection: connection.execute("INSERT INTO note VALUES (?)", (text,)).rowcount

        async def main(path):
            db = await asyncio.to_thread(Database.open, path, ("CREATE TABLE note (text TEXT UNIQUE)",))
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
            writes = [db.write(insert(f"{number}" * 50_000)) for number in range(3)]
            for result in await asyncio.gather(*writes, return_exceptions=True):
                print(type(result).__name__, str(result).startswith(str(path)))
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            await db.write(insert("after"))
            print(await db.read(lambda connection: connection.execute("SELECT text FROM note").fetchall()))
            await db.close()

        asyncio.run(main(Path(sys.argv[1])))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "notes.db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
        preexec_fn=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    assert run.stderr == ""
    assert run.stdout.splitlines() == ["DatabaseError True"] * 3 + ["[('after',)]"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
