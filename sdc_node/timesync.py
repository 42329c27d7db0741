"""Whether a time service keeps this host's clock, asked of the kernel; nothing goes over the network.

SDPi R1540: no system function until a time service was found. R1530: once it was, its loss stops nothing,
the clock runs on and the question is asked again. R1534: the loss is logged.
"""

import asyncio
import ctypes
import logging
import os
import sys
from collections.abc import Callable
from typing import Final

import msgspec

_LOG: Final = logging.getLogger(__name__)

_STA_UNSYNC: Final = 0x0040  # <sys/timex.h>, adjtimex(2)
_STATE_ERROR: Final = 5  # TIME_ERROR: "the system clock is not synchronized"


class TimeStatus(msgspec.Struct, frozen=True):
    """What is known of this host's clock.

    ``accuracy_ms`` is the largest error that the time service admits, rounded up, None where nobody says.
    """

    synchronised: bool
    accuracy_ms: int | None
    detail: str


class _Timex(ctypes.Structure):
    """``struct timex`` of adjtimex(2), to the end of its reserved words."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", ctypes.c_long * 2),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long),
        ("jitcnt", ctypes.c_long),
        ("calcnt", ctypes.c_long),
        ("errcnt", ctypes.c_long),
        ("stbcnt", ctypes.c_long),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    )


def kernel_clock() -> TimeStatus:
    """What the kernel knows: adjtimex(2), reading only, at once. Where it cannot tell: not synchronised."""
    if not sys.platform.startswith("linux"):
        return TimeStatus(synchronised=False, accuracy_ms=None, detail=f"{sys.platform} does not tell")
    timex = _Timex()
    adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    adjtimex.argtypes = (ctypes.POINTER(_Timex),)
    state = adjtimex(ctypes.byref(timex))
    if state < 0:
        reason = os.strerror(ctypes.get_errno())
        return TimeStatus(synchronised=False, accuracy_ms=None, detail=f"the kernel does not tell: {reason}")
    return judge(state, timex.status, timex.maxerror)


def judge(state: int, status: int, maxerror_us: int) -> TimeStatus:
    """Read adjtimex's answer: its return value, status bits and maximum error in microseconds."""
    accuracy_ms = -(-maxerror_us // 1000)
    if state == _STATE_ERROR or status & _STA_UNSYNC:
        return TimeStatus(
            synchronised=False,
            accuracy_ms=None,
            detail="no time service keeps this clock (kernel: unsynchronised)",
        )
    detail = f"kept by a time service, at most {accuracy_ms} ms off"
    return TimeStatus(synchronised=True, accuracy_ms=accuracy_ms, detail=detail)


class TimeWatch:
    """Asks again and again, remembers whether a time service was ever found, and logs each change.

    ``required`` False is for demos: ready from the start, whatever the clock says. ``limit_ms`` is the least
    accuracy that counts as found (R1533); None leaves that to the kernel.
    """

    def __init__(
        self,
        *,
        required: bool = True,
        limit_ms: int | None = None,
        interval: float = 10.0,
        read: Callable[[], TimeStatus] = kernel_clock,
    ) -> None:
        self._required = required
        self._limit_ms = limit_ms
        self._interval = interval
        self._read = read
        self._found = False
        self._status: TimeStatus | None = None

    @property
    def ready(self) -> bool:
        """True from the moment a time service was found (R1540, R1530); always where none is required."""
        return self._found or not self._required

    @property
    def status(self) -> TimeStatus:
        """The latest answer; asks if nobody has yet."""
        return self._status or self.check()

    def check(self) -> TimeStatus:
        """Ask now."""
        before, status = self._status, self._within_limit(self._read())
        self._status = status
        self._found = self._found or status.synchronised
        if before is None or before.synchronised != status.synchronised:
            level = logging.INFO if status.synchronised else logging.WARNING
            _LOG.log(level, "time service: %s", status.detail)
        return status

    async def run(self) -> None:
        """Check every ``interval`` seconds until cancelled."""
        while True:
            self.check()
            await asyncio.sleep(self._interval)

    def _within_limit(self, status: TimeStatus) -> TimeStatus:
        limit, accuracy = self._limit_ms, status.accuracy_ms
        if limit is None or not status.synchronised or (accuracy is not None and accuracy <= limit):
            return status
        detail = f"{status.detail}, {limit} ms are demanded"
        return TimeStatus(synchronised=False, accuracy_ms=accuracy, detail=detail)
