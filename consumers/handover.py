"""The bounded passage from a library thread to the event loop: a full one makes the thread wait, up to a deadline."""

import asyncio
import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Handover(Generic[T]):
    """A queue of at most `depth` items. `put` from any one thread, everything else on the event loop.

    Made on the loop that reads it. After `close()` nothing is taken and a waiting thread goes on at once.
    """

    def __init__(self, depth: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[tuple[T, bool]] = asyncio.Queue()
        self._room = threading.Semaphore(depth)
        self._closed = threading.Event()

    def put(self, item: T, deadline: float) -> bool:
        """Hand over, waiting for room for at most `deadline` seconds. False: not taken, and never will be."""
        if self._closed.is_set() or not self._room.acquire(timeout=deadline):
            return False
        return self._send(item, counted=True)

    def put_urgent(self, item: T) -> bool:
        """Hand over without room: for the few words about the passage itself (it overran, it ended)."""
        return self._send(item, counted=False)

    async def get(self) -> T:
        """The next item, in the order in which it was put."""
        item, counted = await self._items.get()
        if counted:
            self._room.release()
        return item

    def drain(self) -> list[T]:
        """All that is there now; makes room for as many."""
        items = []
        while not self._items.empty():
            item, counted = self._items.get_nowait()
            if counted:
                self._room.release()
            items.append(item)
        return items

    def close(self) -> None:
        """Take nothing any more and let the waiting thread go."""
        self._closed.set()
        self._room.release()

    def _send(self, item: T, *, counted: bool) -> bool:
        if self._closed.is_set():
            return False
        try:
            self._loop.call_soon_threadsafe(self._items.put_nowait, (item, counted))
        except RuntimeError:  # the loop was closed in between
            return False
        return True
