"""Parts put into sdc11073's SdcConsumer, because the library's own are unbounded, leak or tell too much."""

import http.client
import socket
import ssl
import threading
import time
from functools import cache
from typing import Any, cast

from sdc11073.consumer.consumerimpl import SdcConsumerComponents, default_components_factory
from sdc11073.consumer.subscription import ConsumerSubscription, ConsumerSubscriptionManager
from sdc11073.definitions_sdc import SdcV1Definitions
from sdc11073.loghelper import get_logger_adapter
from sdc11073.pysoap.msgfactory import MessageFactory
from sdc11073.pysoap.msgreader import MessageReader
from sdc11073.pysoap.soapclient import SoapClient

from consumers.dispatch import EndingDispatcher
from consumers.errors import NotAProvider

MAX_RESPONSE = 32 * 1024 * 1024
"""Bytes of one response (a GetMdib of a large device is about 1 MB)."""


class QuietReader(MessageReader):
    """The library's reader, which here writes no body to a log or into an error. May be shared by threads."""

    _validating = threading.Lock()

    def _validate_node(self, node: Any) -> None:
        if not self._validate:
            return
        with self._validating:  # lxml's error log of a schema is not made for two threads
            valid = self._xml_schema.validate(node)
        if not valid:
            raise NotAProvider("a message breaks the BICEPS or DPWS schema")


@cache
def shared_reader(validate: bool) -> QuietReader:
    """The one reader of this process: its schema costs 2 MB and 8 ms."""
    return QuietReader(SdcV1Definitions, _schemas(), get_logger_adapter("sdc.reader"), validate=validate)


@cache
def shared_factory() -> MessageFactory:
    """The one message factory of this process; what we send is not validated again."""
    return MessageFactory(SdcV1Definitions, _schemas(), get_logger_adapter("sdc.factory"), validate=False)


def _schemas() -> list[Any]:
    handlers = default_components_factory().service_handlers
    return list({spec.namespace: spec for handler in handlers for spec in handler.additional_namespaces}.values())


class _BoundedResponse(http.client.HTTPResponse):
    def begin(self) -> None:
        super().begin()
        if self.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise http.client.HTTPException("compressed although nobody asked for it")

    def read(self, amt: int | None = None) -> bytes:
        body = super().read(MAX_RESPONSE + 1 if amt is None else min(amt, MAX_RESPONSE + 1))
        if len(body) > MAX_RESPONSE:
            raise http.client.HTTPException("response too large")
        return body


class _Http(http.client.HTTPConnection):
    response_class = _BoundedResponse

    def connect(self) -> None:
        super().connect()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class _Https(_Http):
    """TLS as the standard library does it, except that a handshake can be stopped from another thread."""

    def __init__(self, netloc: str, timeout: float, context: ssl.SSLContext) -> None:
        super().__init__(netloc, timeout=timeout)
        self._tls = context

    def connect(self) -> None:
        super().connect()
        secured = self._tls.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
        self.sock = secured
        try:
            secured.do_handshake()
        except BaseException:
            self.close()
            raise


class BoundedSoapClient(SoapClient):
    """The library's SOAP client with bounded, uncompressed responses, and a way to be stopped from another thread."""

    def _mk_http_connection(self) -> Any:
        if self._ssl_context is None:
            return _Http(self._netloc, timeout=self._socket_timeout)
        return _Https(self._netloc, self._socket_timeout, self._ssl_context)

    def connect(self) -> None:
        """Connect anew; no connection is left open that nobody knows of (the library would forget it)."""
        library: Any = super()
        library.close()
        try:
            library.connect()
        except BaseException:
            library.close()
            raise

    def abort(self) -> None:
        """Make a request that is under way fail at once."""
        connection = self.sock
        if connection is not None:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                self._log.debug("the connection was closed already")


class Subscription(ConsumerSubscription):
    """Renews for what was asked at first (the library asks for an hour) and knows its end by a steady clock.

    `valid_until` is in `time.monotonic()` seconds, counted from before the request.
    """

    valid_until = 0.0
    expiry = 60

    @property
    def filter_text(self) -> str:
        """The actions subscribed to, separated by blanks."""
        return str(self._filter_text)

    def subscribe(self, expires: float = 60, any_elements: Any = None, any_attributes: Any = None) -> None:
        """Subscribe; whether it was granted shows in `is_subscribed`."""
        started = time.monotonic()
        super().subscribe(min(expires, self.expiry), any_elements, any_attributes)
        if self.is_subscribed:
            self.valid_until = started + float(self.granted_expires)

    def renew(self, expires: float | None = None) -> float:
        """Renew; returns the granted seconds, 0 where the device refused or did not answer."""
        started = time.monotonic()
        granted = float(super().renew(int(expires or self.requested_expires)))
        if granted > 0:
            self.valid_until = started + granted
        return granted


class Subscriptions(ConsumerSubscriptionManager):
    """Renews each subscription when half of its granted time is over, and stops at once when told to."""

    def __init__(self, *args: Any, expiry: int = 60, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._expiry = expiry
        self.ended_by_device = False
        self._stopping = threading.Event()
        self._made = 0

    def mk_subscription(self, dpws_hosted: Any, filter_type: Any) -> Subscription:
        """A subscription with notification paths of its own."""
        self._made += 1
        base = self._notification_url.rstrip("/")
        subscription = Subscription(
            self._msg_factory,
            self._data_model,
            self._get_soap_client_func,
            dpws_hosted,
            filter_type,
            f"{base}/subscr{self._made}",
            f"{base}/subscr{self._made}_e",
            self.log_prefix,
        )
        subscription.expiry = self._expiry
        with self._subscriptions_lock:
            self.subscriptions[filter_type.text] = subscription
        return subscription

    def run(self) -> None:
        """The thread: looks four times a second."""
        while not self._stopping.wait(0.25):
            for subscription in self.current():
                left = subscription.valid_until - time.monotonic()
                if subscription.is_subscribed and left <= subscription.granted_expires / 2:
                    subscription.renew()

    def on_subscription_end(self, request_data: Any) -> Any:
        """Note that the device said so, before the library tells of the lost subscription."""
        self.ended_by_device = True
        return super().on_subscription_end(request_data)

    def current(self) -> list[Subscription]:
        """All subscriptions of this consumer."""
        with self._subscriptions_lock:
            return [each for each in self.subscriptions.values() if isinstance(each, Subscription)]

    def stop(self) -> None:
        """Stop the thread, waiting for a renewal under way."""
        self._stopping.set()
        if self.is_alive():
            self.join()
        with self._subscriptions_lock:
            self.subscriptions.clear()


def components(dispatcher: EndingDispatcher, expiry: int) -> SdcConsumerComponents:
    """What one SdcConsumer is built from; `expiry` in seconds is what subscriptions ask for.

    It copies this deeply, so shared things stand behind functions.
    """
    parts: Any = default_components_factory()  # classes are asked for, functions serve
    parts.msg_reader_class = _reader_class
    parts.msg_factory_class = _factory_class
    parts.action_dispatcher_class = _given(dispatcher)
    parts.soap_client_class = BoundedSoapClient
    parts.subscription_manager_class = _expiring(expiry)
    return cast("SdcConsumerComponents", parts)


def _reader_class(_definitions: Any, _schemas: Any, _logger: Any, validate: bool = True) -> QuietReader:
    return shared_reader(validate)


def _factory_class(_definitions: Any, _schemas: Any, _logger: Any, validate: bool = True) -> MessageFactory:  # noqa: ARG001
    return shared_factory()


def _given(dispatcher: EndingDispatcher) -> Any:
    def make(_log_prefix: str) -> EndingDispatcher:
        return dispatcher

    return make


def _expiring(expiry: int) -> Any:
    def make(*args: Any, **kwargs: Any) -> Subscriptions:
        return Subscriptions(*args, expiry=expiry, **kwargs)

    return make
