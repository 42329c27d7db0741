"""One connection to one device on sdc11073's own SdcConsumer, with the guards that the library needs.

Blocking; the session calls it in worker threads. A `Link` is used once: each reconnect makes a fresh one, and `close()`
leaves no thread and no descriptor behind. TLS is forced for https and never downgraded; there is no compression and no
Nagle stall; reader and factory are shared; renewals ask for what the subscription asked for.
"""

import logging
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import msgspec
from sdc11073 import observableproperties
from sdc11073.certloader import SSLContextContainer
from sdc11073.consumer.consumerimpl import SdcConsumer
from sdc11073.definitions_sdc import SdcV1Definitions
from sdc11073.xml_types import mex_types
from sdc11073.xml_types.actions import Actions

from consumers import quiet
from consumers.dispatch import EndingDispatcher
from consumers.errors import NotAProvider, PlaintextRefused, Unreachable, explain
from consumers.guards import Subscriptions, components
from consumers.notifications import Limits, NotificationServer
from consumers.translate import Untranslatable, mdib_of, report_of
from mdib_models.identity import DeviceId
from mdib_models.mirror import Mdib
from mdib_models.updates import Report, ReportKind

logger = logging.getLogger(__name__)

TlsFactory = Callable[[], tuple[ssl.SSLContext, ssl.SSLContext]]
"""Makes the client's and the server's context; called for each connect, so that certificates can be renewed."""

REPORT_SEQUENCE = "{urn:oid:1.3.6.1.4.1.19376.1.6.2.10.1.1.1}ReportSequence"
"""SOAP header of a notification, with @MessageNumber (SDPi R1030)."""

KINDS: dict[str, ReportKind] = {
    "episodic_metric_report": "metric",
    "waveform_report": "waveform",
    "episodic_alert_report": "alert",
    "episodic_context_report": "context",
    "episodic_component_report": "component",
    "episodic_operational_state_report": "operational",
    "description_modification_report": "description",
    "operation_invoked_report": "invoked",
    "system_error_report": "system-error",
}
"""The raw observables of SdcConsumer that are followed. Periodic reports repeat what these have said."""


ALL_ACTIONS = frozenset(Actions)


class LinkSettings(msgspec.Struct, frozen=True):
    """How a link behaves; seconds. `expiry` is what subscriptions ask for, the device may grant less.

    `delay` is decision 5's deadline: how long a report may wait for the node before the session goes stale. It has to
    stay safely below the device's own delivery timeout.
    """

    expiry: int = 60
    socket_timeout: int = 5
    delay: float = 2.0
    dispatch_depth: int = 64
    validate: bool = True
    limits: Limits = msgspec.field(default_factory=Limits)


class Listener:
    """What a link tells, in its own threads. This one listens to nothing; others override what they want to hear."""

    def report(self, report: Report) -> None:
        """A whole report, in order. May block for `LinkSettings.delay`: that is the back-pressure."""

    def interrupted(self, reason: str) -> None:
        """Something was not taken or not understood: the mirror needs a fresh snapshot."""

    def ended(self, reason: str) -> None:
        """The device ended a subscription, or a renewal failed: the link is over."""


class Link:
    """One SdcConsumer from connect to close. `tls` None means plain HTTP, which the caller has to have allowed."""

    def __init__(
        self, address: str, tls: TlsFactory | None, listener: Listener, settings: LinkSettings | None = None
    ) -> None:
        quiet.silence()
        self.address = check_address(address, tls)
        self.settings = settings or LinkSettings()
        self.epr = ""
        self.counts: Counter[str] = Counter()
        self._listener = listener
        self._tls = tls
        self._consumer: Any = None
        self._server: NotificationServer | None = None
        self._dispatcher: EndingDispatcher | None = None
        self._numbers: dict[str, int] = {}
        self._closing = False

    def learn(self) -> str:
        """Only ask who is there (WS-Transfer Get): the EPR. Raises ConsumerError."""
        try:
            consumer, _context = self._build()
            metadata = mex_types.Metadata.from_node(consumer.transfer_get().p_msg.body_node)
            self.epr = _epr_of(metadata, self.address)
        except Exception as error:
            raise explain(error, self.address) from error
        return self.epr

    def open(self, *, subscribe: bool = True) -> str:
        """Connect, subscribe to everything and check that all of it was granted; the device's EPR.

        Without `subscribe` it only connects, for one GetMdib.

        Raises ConsumerError. Reports may arrive before this returns. Call `close()` in any case.
        """
        try:
            consumer, context = self._build()
            server = self._server = NotificationServer(
                _interface_towards(self.address),
                context,
                on_invalid=partial(self._interrupt, "unreadable"),
                limits=self.settings.limits,
            )
            for observable, kind in KINDS.items():
                observableproperties.strongbind(consumer, **{observable: partial(self._on_report, kind)})
            consumer.start_all(not_subscribed_actions=() if subscribe else ALL_ACTIONS, shared_http_server=server)
            self.epr = _epr_of(consumer.host_description, self.address)
            if not subscribe:
                return self.epr
            self._check_subscribed()
            observableproperties.strongbind(consumer, is_connected=self._on_connected)
        except Exception as error:
            raise explain(error, self.address) from error
        if not consumer.is_connected:
            raise Unreachable(f"{self.address} ended the subscription at once")
        return self.epr

    def get_mdib(self) -> Mdib:
        """GetMdib. Raises ConsumerError."""
        try:
            answer = self._consumer.get_service_client.get_mdib()
            return mdib_of(DeviceId(self.epr), answer)
        except Untranslatable as error:
            raise NotAProvider(f"{self.address} sent an MDIB that cannot be read: {error}") from error
        except Exception as error:
            raise explain(error, self.address) from error

    def seconds_left(self) -> float:
        """Until the first of the subscriptions expires, by the last renewal that the device confirmed."""
        ends = [subscription.valid_until for subscription in self._subscriptions()]
        return min(ends) - time.monotonic() if ends else 0.0

    def granted(self) -> float:
        """The shortest expiry that the device granted, in seconds."""
        return min((float(each.granted_expires) for each in self._subscriptions()), default=0.0)

    def check(self) -> bool:
        """Ask the device itself whether it still serves us, by renewing now. `ended` is told if it does not."""
        granted = [each.renew() for each in self._subscriptions()]
        return bool(granted) and all(seconds > 0 for seconds in granted)

    def abort(self) -> None:
        """Make requests that are under way fail at once; from any thread."""
        consumer = self._consumer
        for client in list(consumer._soap_clients.values()) if consumer is not None else ():  # noqa: SLF001
            client.abort()

    def close(self, *, unsubscribe: bool) -> None:
        """Stop everything. `unsubscribe` only where the device is believed to be there. Never raises."""
        self._closing = True
        if self._dispatcher is not None and not self._dispatcher.end():
            self.counts["threads_left"] += 1
        if self._consumer is not None:
            try:
                self._consumer.stop_all(unsubscribe=unsubscribe)
            except Exception as error:  # noqa: BLE001 - closing goes on whatever the library meets
                logger.debug("closing %s: %s", self.address, type(error).__name__)
            self._consumer = None
        if self._server is not None:
            self._server.close()
            self.counts.update(self._server.counts)
            self._server = None

    def _build(self) -> tuple[Any, ssl.SSLContext | None]:
        contexts = self._tls() if self._tls is not None else None
        self._dispatcher = EndingDispatcher(
            "",
            depth=self.settings.dispatch_depth,
            deadline=self.settings.delay,
            on_overrun=partial(self._interrupt, "overrun"),
            on_failure=lambda _name: self._interrupt("unreadable"),
        )
        consumer = SdcConsumer(
            self.address,
            SdcV1Definitions,
            SSLContextContainer(*contexts) if contexts is not None else None,
            validate=self.settings.validate,
            components=components(self._dispatcher, self.settings.expiry),
            socket_timeout=self.settings.socket_timeout,
            force_ssl_connect=contexts is not None,
        )
        consumer.set_used_compression()
        self._consumer = consumer
        return consumer, contexts[1] if contexts is not None else None

    def _subscriptions(self) -> list[Any]:
        consumer = self._consumer
        manager = consumer.subscription_mgr if consumer is not None else None
        return manager.current() if isinstance(manager, Subscriptions) else []

    def _check_subscribed(self) -> None:
        subscriptions = self._subscriptions()
        refused = [each.short_filter_string for each in subscriptions if not each.is_subscribed]
        if refused or not subscriptions or not self._consumer.all_subscribed:
            raise NotAProvider(f"{self.address} refused to report {', '.join(refused) or 'anything'}")

    def _on_report(self, kind: ReportKind, message: Any) -> None:
        if self._closing:
            return
        try:
            report = report_of(kind, message, time.time_ns() // 1_000_000, self._number(message))
        except Untranslatable as error:
            logger.info("%s: a %s report cannot be read: %s", self.epr or self.address, kind, error)
            self._interrupt("unreadable")
            return
        self._listener.report(report)

    def _number(self, message: Any) -> int | None:
        """The ReportSequence number where the fold may use it: if one subscription carries all reports of states.

        Numbers count per subscription (SDPi R0800), the fold knows one row of them.
        """
        node = message.p_msg.header_node.find(REPORT_SEQUENCE)
        if node is None or message.action == Actions.OperationInvokedReport:
            return None
        carriers = [each for each in self._subscriptions() if each.filter_text != Actions.OperationInvokedReport]
        number = node.get("MessageNumber", "")
        return int(number) if len(carriers) == 1 and number.isdecimal() else None

    def _on_connected(self, connected: bool) -> None:
        if connected or self._closing:
            return
        ended = self._consumer is not None and self._consumer.subscription_mgr.ended_by_device
        self._listener.ended("the device ended the subscription" if ended else "the device did not renew")

    def _interrupt(self, reason: str) -> None:
        self.counts[reason] += 1
        if not self._closing:
            self._listener.interrupted(reason)


def check_address(address: str, tls: TlsFactory | None) -> str:
    """The address, if it may be used. Raises PlaintextRefused or NotAProvider."""
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname or len(address) > 2048:
        raise NotAProvider(f"{address[:80]!r} is no address; it looks like https://HOST:PORT/PATH")
    if parts.scheme == "https" and tls is None:
        raise NotAProvider(f"{address} needs certificates (userkey.pem, usercert.pem, cacert.pem)")
    if parts.scheme == "http" and tls is not None:
        raise PlaintextRefused(f"{address} is plain HTTP; list its EPR under allow_plaintext to follow it anyway")
    return address


def _interface_towards(address: str) -> str:
    """The own IP address that packets to the device leave from; nothing is sent."""
    parts = urlsplit(address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((parts.hostname, parts.port or 443))
        return str(probe.getsockname()[0])


def _epr_of(metadata: Any, address: str) -> str:
    relationship = metadata.relationship
    host = relationship.Host if relationship is not None else None
    references = host.EndpointReference if host is not None else None
    reference = references[0] if isinstance(references, list) and references else references
    if not reference or not reference.Address:
        raise NotAProvider(f"{address} does not tell its EPR; it is no SDC provider")
    return str(reference.Address)
