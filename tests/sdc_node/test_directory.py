"""One node in one folder, and no stale lock after a kill."""

import subprocess
import sys
from pathlib import Path

import pytest

from sdc_node.directory import LOCK_NAME, DirectoryError, NodeDirectory

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from pathlib import Path
from sdc_node.directory import NodeDirectory
with NodeDirectory.open(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "node")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    with process:
        yield process
        process.kill()


def test_the_folder_is_made_private(tmp_path):
    with NodeDirectory.open(tmp_path / "a" / "node") as directory:
        assert directory.path.stat().st_mode & 0o777 == 0o700
        assert (directory.path / LOCK_NAME).stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_there_keeps_its_mode(tmp_path):
    folder = tmp_path / "node"
    folder.mkdir(mode=0o750)
    NodeDirectory.open(folder).close()
    assert folder.stat().st_mode & 0o777 == 0o750


def test_another_process_is_told_who_holds_it(tmp_path, holder):
    with pytest.raises(DirectoryError) as caught:
        NodeDirectory.open(tmp_path / "node")
    assert f"is in use by process {holder.pid};" in str(caught.value)
    assert str(tmp_path / "node") in str(caught.value)


def test_a_holder_that_ends_gives_it_up(tmp_path, holder):
    holder.communicate(timeout=30)
    NodeDirectory.open(tmp_path / "node").close()


def test_a_killed_holder_gives_it_up(tmp_path, holder):
    holder.kill()
    holder.wait(timeout=30)
    assert (tmp_path / "node" / LOCK_NAME).read_text() == f"{holder.pid}\n"
    with NodeDirectory.open(tmp_path / "node"):
        pass


def test_the_same_process_is_refused_too_and_close_may_come_twice(tmp_path):
    first = NodeDirectory.open(tmp_path)
    with pytest.raises(DirectoryError, match="is in use"):
        NodeDirectory.open(tmp_path)
    first.close()
    first.close()
    NodeDirectory.open(tmp_path).close()


def test_a_file_in_its_place_is_told(tmp_path):
    (tmp_path / "node").write_text("")
    with pytest.raises(DirectoryError, match="name a folder"):
        NodeDirectory.open(tmp_path / "node")


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("sdc_node.directory.fcntl.flock", flock)
    with pytest.raises(DirectoryError, match=r"cannot be locked \(Operation not supported\)"):
        NodeDirectory.open(tmp_path)
