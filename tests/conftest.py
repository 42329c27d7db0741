"""Guards that every test passes: the event loop is never blocked, and no thread is left behind."""

import re
import sys
import threading
import time
from collections.abc import Iterator

import blockbuster.blockbuster as detector
import pytest

PACKAGES = ["sdc_node", "consumers", "providers", "mdib_models"]

MAY_BLOCK = {
    # file, functions: why whatever happens below them may block
    ("mdib_models/nomenclature/__init__.py", "_table"): "reads the 140 kB code table once in a process",
    ("logging/__init__.py", "emit"): "a log line; here pytest's own handler writes it to its file",
    ("coverage/collector.py", "lock_data"): "coverage's own lock",
    ("sdc11073/provider/subscriptionmgr_async.py", "run"): "the library's own loop in its own thread, not ours",
}

LEAKED_BY_SDC11073 = {
    r"Thread-\d+ \(_read_queue\)": "its consumer's dispatcher never ends its thread (issue 519 of sdc11073)",
}

GRACE = 5.0  # seconds that threads told to stop may take to end


@pytest.fixture(autouse=True)
def loop_is_never_blocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A blocking call on an event loop raises where it stands, and fails the test even if that is swallowed.

    A test's own body may touch small files while its loop runs; the four packages may not.
    """
    seen: list[str] = []

    class BlockingError(detector.BlockingError):
        def __init__(self, function: str) -> None:
            super().__init__(function)
            seen.append(f"{function} called at {_place()}")

    monkeypatch.setattr(detector, "BlockingError", BlockingError)
    anywhere, in_packages = detector.BlockBuster(), detector.BlockBuster(scanned_modules=PACKAGES)
    watched = [
        (in_packages if name.startswith(("os.", "io.")) else anywhere).functions[name] for name in anywhere.functions
    ]
    for function in watched:
        for file, name in MAY_BLOCK:
            function.can_block_in(file, name)
        function.activate()
    try:
        yield
    finally:
        for function in watched:
            function.deactivate()
    if seen:
        pytest.fail("the event loop was blocked: " + "; ".join(dict.fromkeys(seen)), pytrace=False)


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    """What a test started has ended when it ends; module-wide fixtures are held to the same at their end."""
    yield from _no_new_thread()


@pytest.fixture(autouse=True, scope="module")
def no_thread_is_left_behind_by_a_module() -> Iterator[None]:
    yield from _no_new_thread()


def _no_new_thread() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + GRACE
    left = [thread for thread in threading.enumerate() if thread not in before and not _is_known_leak(thread)]
    for thread in left:
        thread.join(max(0.0, deadline - time.monotonic()))
    if names := sorted(thread.name for thread in left if thread.is_alive()):
        pytest.fail(f"threads left behind: {', '.join(names)}", pytrace=False)


def _is_known_leak(thread: threading.Thread) -> bool:
    return any(re.fullmatch(pattern, thread.name) for pattern in LEAKED_BY_SDC11073)


def _place() -> str:
    """Where the blocking call stands: the nearest frame outside the detector, and the nearest of our own."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename == detector.__file__:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
