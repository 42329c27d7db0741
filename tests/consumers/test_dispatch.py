"""The dispatcher ends, is bounded and survives whatever a handler raises."""

import threading
from types import SimpleNamespace

import pytest
from sdc11073.dispatch import DispatchKey
from sdc11073.exceptions import InvalidActionError

from consumers.dispatch import EndingDispatcher

KEY = DispatchKey("urn:action", None)
REQUEST = SimpleNamespace(message_data=SimpleNamespace(action="urn:action", q_name=None))


def test_in_order_and_after_a_failure(tmp_path):
    seen, failed, done = [], [], threading.Event()
    dispatcher = EndingDispatcher("", depth=9, deadline=1.0, on_overrun=lambda: None, on_failure=failed.append)

    def handler(_request):
        seen.append(len(seen))
        if len(seen) == 2:
            raise KeyError("a name of a patient")
        if len(seen) == 3:
            done.set()

    dispatcher.register_post_handler(KEY, handler)
    for _ in range(3):
        assert dispatcher.on_post(REQUEST).serialize() == b""
    assert done.wait(5)
    assert (seen, failed) == ([0, 1, 2], ["KeyError"])
    assert dispatcher.end()


def test_full_queue_drops_tells_and_answers_as_always():
    overruns, going = [], threading.Event()
    dispatcher = EndingDispatcher(
        "", depth=1, deadline=0.05, on_overrun=lambda: overruns.append(1), on_failure=lambda _: None
    )
    dispatcher.register_post_handler(KEY, lambda _request: going.wait(5))
    for _ in range(4):
        assert dispatcher.on_post(REQUEST).serialize() == b""
    assert overruns
    threading.Timer(0.1, going.set).start()
    assert dispatcher.end()
    assert dispatcher.on_post(REQUEST).serialize() == b"", "after the end it is dropped"


def test_unknown_action_is_refused():
    dispatcher = EndingDispatcher("", depth=1, deadline=1, on_overrun=lambda: None, on_failure=lambda _: None)
    with pytest.raises(InvalidActionError):
        dispatcher.on_post(REQUEST)
    assert dispatcher.end()
