"""The library's request dispatcher with an end: a bounded queue and a thread that stops when it is told to.

sdc11073's own (`DispatchKeyRegistryDeferred`) never ends its thread, and each reconnect leaves one behind.
"""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from sdc11073.consumer.request_handler_deferred import EmptyResponse
from sdc11073.dispatch.dispatchkey import RequestDispatcher
from sdc11073.exceptions import InvalidActionError
from sdc11073.pysoap.soapenvelope import Fault, faultcodeEnum

logger = logging.getLogger(__name__)


class EndingDispatcher(RequestDispatcher):
    """Answers a notification before it is processed, as the library does, and processes them one by one, in order.

    `on_post` waits at most `deadline` seconds for room; then the notification is dropped, `on_overrun` is told and the
    device is answered as always (a device may end a subscription after one refused delivery). `on_failure` is told
    the name of the exception that a handler raised. Both are called in library threads.
    """

    def __init__(
        self,
        log_prefix: str,
        *,
        depth: int,
        deadline: float,
        on_overrun: Callable[[], None],
        on_failure: Callable[[str], None],
    ) -> None:
        super().__init__(log_prefix)
        self._deadline = deadline
        self._on_overrun = on_overrun
        self._on_failure = on_failure
        self._queue: queue.Queue[tuple[Callable[[Any], Any], Any] | None] = queue.Queue(depth)
        self._ending = threading.Event()
        self._worker = threading.Thread(target=self._run, name="sdc-notifications", daemon=True)
        self._worker.start()

    def on_post(self, request_data: Any) -> EmptyResponse:
        """Queue a notification. Raises InvalidActionError for an action that nobody subscribed to."""
        handler: Any = self._get_post_handler(request_data)
        if handler is None:
            fault = Fault()
            fault.Code.Value = faultcodeEnum.SENDER
            fault.add_reason_text("invalid action")
            raise InvalidActionError(fault)
        if not self._ending.is_set():
            try:
                self._queue.put((handler, request_data), timeout=self._deadline)
            except queue.Full:
                self._on_overrun()
        return EmptyResponse()

    def end(self, timeout: float = 5.0) -> bool:
        """Drop what waits and stop the thread. True once it has stopped."""
        self._ending.set()
        while True:
            try:
                self._queue.put_nowait(None)
                break
            except queue.Full:
                try:
                    self._queue.get_nowait()
                except queue.Empty:
                    continue
        self._worker.join(timeout)
        return not self._worker.is_alive()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._ending.is_set():
                continue
            handler, request = item
            try:
                handler(request)
            except Exception as error:  # noqa: BLE001 - whatever a body makes the library raise, the thread goes on
                logger.debug("a notification could not be processed: %s", type(error).__name__)
                self._on_failure(type(error).__name__)
