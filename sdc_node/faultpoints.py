"""Named points where a test kills the node, as a power cut would.

`SDC_NODE_FAULTPOINT="name[:nth]"` makes the process kill itself with SIGKILL the nth time (default: the first)
that it reaches the point; without it `reach` does nothing. A name or count that cannot be right is an error
at import: a test that kills nothing would prove nothing.
"""

import os
import signal
from typing import Final, Literal, get_args

Point = Literal["rendered", "committed", "sent", "acknowledged"]
"""rendered: between render and commit · committed: between commit and send · sent: between send and
acknowledgement · acknowledged: between acknowledgement and delete."""

VARIABLE: Final = "SDC_NODE_FAULTPOINT"


class _Armed:
    def __init__(self, point: str, nth: int) -> None:
        self.point = point
        self.left = nth


def _parse(text: str) -> _Armed | None:
    if not text:
        return None
    point, _, nth = text.partition(":")
    if point not in get_args(Point) or not (nth or "1").isdecimal() or int(nth or "1") < 1:
        raise ValueError(
            f"{VARIABLE}={text!r}: give one of {', '.join(get_args(Point))}, and after a colon a count from 1"
        )
    return _Armed(point, int(nth or "1"))


_armed: Final = _parse(os.environ.get(VARIABLE, ""))


def reach(point: Point) -> None:
    """Die here if the environment asks for it; otherwise nothing."""
    if _armed is not None and _armed.point == point:
        _armed.left -= 1
        if _armed.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
