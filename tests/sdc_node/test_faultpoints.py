"""The points die when they are told to, and only then."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
from sdc_node import faultpoints
for number in range(3):
    faultpoints.reach("rendered")
    print(number, flush=True)
    faultpoints.reach("sent")
"""


def run(value):
    environment = {name: text for name, text in os.environ.items() if name != "SDC_NODE_FAULTPOINT"}
    if value is not None:
        environment["SDC_NODE_FAULTPOINT"] = value
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("value", "printed", "status"),
    [
        (None, "0\n1\n2\n", 0),
        ("", "0\n1\n2\n", 0),
        ("rendered", "", -signal.SIGKILL),
        ("sent", "0\n", -signal.SIGKILL),
        ("rendered:3", "0\n1\n", -signal.SIGKILL),
        ("sent:4", "0\n1\n2\n", 0),
        ("acknowledged", "0\n1\n2\n", 0),
    ],
)
def test_dies_at_the_nth_time(value, printed, status):
    done = run(value)
    assert (done.stdout, done.returncode) == (printed, status)


@pytest.mark.parametrize("value", ["elsewhere", "sent:x", "sent:0", "sent:-1"])
def test_what_would_kill_nothing_is_an_error(value):
    done = run(value)
    assert done.returncode == 1
    assert f"SDC_NODE_FAULTPOINT={value!r}: give one of rendered, committed" in done.stderr
