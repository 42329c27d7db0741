"""The guards of tests/conftest.py, each tried on a test that breaks its rule and on one that just keeps it."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

HEAD = """\
import asyncio, os, queue, threading, time
import pytest
"""


@pytest.fixture
def run(tmp_path):
    """Run a test file under a copy of the guards in a process of its own: its exit status and its output."""

    def run_file(body):
        (tmp_path / "conftest.py").write_text(CONFTEST.read_text() + "\nGRACE = 0.3\n")
        (tmp_path / "test_body.py").write_text(HEAD + body)
        (tmp_path / "pytest.ini").write_text(
            "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
        )
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:cov", "--import-mode=importlib"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout + done.stderr

    return run_file


def test_a_sleep_on_the_loop_fails(run):
    status, output = run("async def test_it():\n    time.sleep(0.01)\n")
    assert status == 1
    assert "Blocking call to time.sleep" in output
    assert "test_body.py:4" in output


def test_a_swallowed_complaint_fails_all_the_same(run):
    status, output = run(
        "async def test_it():\n"
        "    try:\n"
        "        time.sleep(0.01)\n"
        "    except Exception:\n"
        "        pass\n"
    )  # fmt: skip
    assert status == 1
    assert "the event loop was blocked: time.sleep called at" in output


def test_waiting_for_a_thread_on_the_loop_fails(run):
    status, output = run(
        "async def test_it():\n"
        "    gate = threading.Event()\n"
        "    thread = threading.Timer(0.2, gate.set)\n"
        "    thread.start()\n"
        "    try:\n"
        "        gate.wait(5)\n"
        "    finally:\n"
        "        await asyncio.to_thread(thread.join)\n"
    )
    assert status == 1
    assert "lock.acquire" in output


def test_sqlite_on_the_loop_fails(run):
    status, output = run(
        "import sqlite3\n"
        "async def test_it():\n"
        "    sqlite3.connect(':memory:').execute('select 1')\n"
    )  # fmt: skip
    assert status == 1
    assert "sqlite3.Connection.execute" in output


def test_a_file_touched_by_a_package_on_the_loop_fails(run):
    status, output = run(
        "from pathlib import Path\n"
        "from sdc_node import pki\n"
        "async def test_it(tmp_path):\n"
        "    pki.init(tmp_path / 'certs', {'node': 'consumer'})\n"
    )
    assert status == 1
    assert "the event loop was blocked: os." in output


def test_what_blocks_elsewhere_passes(run):
    status, output = run(
        "from sdc_node import pki\n"
        "from mdib_models.nomenclature import by_code\n"
        "def test_without_a_loop():\n"
        "    time.sleep(0.01)\n"
        "async def test_in_a_thread(tmp_path):\n"
        "    await asyncio.to_thread(time.sleep, 0.01)\n"
        "    await asyncio.to_thread(pki.init, tmp_path / 'certs', {'node': 'consumer'})\n"
        "async def test_own_files(tmp_path):\n"
        "    (tmp_path / 'note').write_text('x')\n"
        "    assert (tmp_path / 'note').read_text() == 'x'\n"
        "async def test_allowed():\n"
        "    assert by_code(147842)\n"
        "async def test_logging_from_a_package():\n"
        "    from sdc_node.timesync import TimeStatus, TimeWatch\n"
        "    TimeWatch(read=lambda: TimeStatus(False, None, 'nobody')).check()\n"
    )
    assert status == 0, output


LEAK = """\
def leave(name=None):
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait, args=(8,), daemon=True, name=name)
    thread.start()
    return gate
"""


def test_a_thread_left_behind_fails_and_is_named(run):
    status, output = run(LEAK + "def test_it():\n    leave('forgotten-worker')\n")
    assert status == 1
    assert "threads left behind: forgotten-worker" in output


def test_a_thread_left_behind_by_a_module_wide_fixture_fails(run):
    status, output = run(
        LEAK + "@pytest.fixture(scope='module')\n"
        "def device():\n    return leave('module-worker')\n"
        "def test_it(device):\n    pass\n"
    )
    assert status == 1
    assert output.count("threads left behind: module-worker") >= 1


def test_only_the_librarys_known_leak_is_forgiven(run):
    status, output = run(LEAK + "def test_it():\n    leave('Thread-7 (_read_queue)')\n")
    assert status == 0, output
    status, output = run(LEAK + "def test_it():\n    leave('Thread-7 (_read_queue) of mine')\n")
    assert status == 1


def test_threads_that_end_pass(run):
    status, output = run(
        LEAK + "def test_joined():\n"
        "    threading.Thread(target=time.sleep, args=(0.01,)).start()\n"
        "async def test_pool():\n"
        "    await asyncio.to_thread(time.sleep, 0.01)\n"
        "@pytest.fixture(scope='module')\n"
        "def device():\n"
        "    gate = leave()\n"
        "    yield gate\n"
        "    gate.set()\n"
        "def test_one(device):\n    pass\n"
        "def test_two(device):\n    pass\n"
    )
    assert status == 0, output
