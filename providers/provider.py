"""One simulated device: an sdc11073 SdcProvider whose metrics, waveforms and alerts follow a profile's signals."""

import logging
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from sdc11073.certloader import SSLContextContainer
from sdc11073.httpserver.httprequesthandler import DispatchingRequestHandler
from sdc11073.provider import SdcProvider
from sdc11073.xml_types.dpws_types import ThisDeviceType, ThisModelType

from providers import patient
from providers.alarm_panel import AlarmPanel, Priority
from providers.device_mdib import DeviceMdib, endpoint
from providers.profile import Profile
from providers.scenario import Scenario, Step
from providers.signals import Influence

logger = logging.getLogger(__name__)

SUBSCRIPTION_SECONDS: Final = 15
"""How long a subscription is granted by default; sdc11073 waits 1.2 times as long for a subscriber's answer."""

TICK: Final = 0.2
"""Seconds between two waveform reports, and the grain of scenarios."""

SERVER_SECONDS: Final = 10.0
"""How long the HTTP server may take to start."""

PROMPT_SECONDS: Final = 10.0
"""Metrics determined at least this often are reported anew when a technical alert comes or goes."""

COMPONENT_SECONDS: Final = 10.0
_QUEUE: Final = 100


class TlsContexts(msgspec.Struct, frozen=True):
    """The two contexts of a participant, which is TLS client (notifications) and server."""

    client_context: ssl.SSLContext
    server_context: ssl.SSLContext


TlsFactory = Callable[[], TlsContexts]
"""Called once per start, so that renewed certificates are taken up."""


class SimulatedDevice:
    """A device that can be started once and stopped once; a restart is a new instance with the same arguments,
    which has the same EPR and a new SequenceId.

    ``index`` is its bed: devices of one bed share patient and location. ``discovery`` is a started
    sdc11073 WSDiscovery or anything with ``active_address``, ``publish_service`` and ``clear_service``.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        discovery: Any,
        index: int = 0,
        seed: int = 0,
        tls: TlsFactory | None = None,
        scenario: Scenario | None = None,
        subscription_seconds: int = SUBSCRIPTION_SECONDS,
    ) -> None:
        self.profile: Final = profile
        self.index: Final = index
        self._epr: Final = endpoint(profile.name, index, seed)
        self._seed: Final = seed + index
        self._patient_seed: Final = seed
        self._discovery = discovery
        self._tls = tls
        self._scenario = scenario or Scenario()
        self._subscription_seconds = subscription_seconds
        self._mdib = DeviceMdib(profile, self._epr)
        self._panel = AlarmPanel(self._mdib.conditions())
        self._influences: dict[str, Influence] = {}
        self._patient_changes = 0
        self._asked: queue.Queue[Step] = queue.Queue(_QUEUE)
        self._due: dict[str, float] = {}
        self._provider: Any = None
        self._stopping = threading.Event()
        self._ticker = threading.Thread(target=self._run, name=f"sim-{profile.name}-{index}", daemon=True)
        self.failures = 0
        """Ticks that raised; each is logged."""

    @property
    def epr(self) -> str:
        """The endpoint reference address, ``urn:uuid:...``."""
        return self._epr.urn

    @property
    def sequence_id(self) -> str:
        """The SequenceId of this run."""
        return str(self._mdib.library.sequence_id)

    @property
    def xaddrs(self) -> tuple[str, ...]:
        """The transport addresses; empty before :meth:`start`."""
        return tuple(self._provider.get_xaddrs()) if self._provider is not None else ()

    def start(self) -> None:
        """Serve on a port of the OS's choice, say Hello and begin to tick. OSError if the address is not ours."""
        DispatchingRequestHandler.disable_nagle_algorithm = True  # else headers and body cost 40 ms each time
        try:
            with socket.create_server((self._discovery.active_address, 0)):
                pass  # sdc11073's server thread would die of an address that is not ours, and start() wait in vain
            self._initialise()
            self._provider = self._make_provider()
            self._provider.set_used_compression()
            self._provider.start_all(start_rtsample_loop=False, http_server_start_timeout=SERVER_SECONDS)
            self._provider.publish()
            self._ticker.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all subscriptions, say Bye and leave no thread behind."""
        self._stopping.set()
        if self._ticker.is_alive():
            self._ticker.join()  # bounded by sdc11073's socket timeout
        if self._provider is None:
            return
        provider, self._provider = self._provider, None
        provider.stop_all(send_subscription_end=True)
        loop = provider._soap_client_pool.async_loop_subscr_mgr.loop  # noqa: SLF001 - sdc11073 leaves it open
        if not loop.is_running():
            loop.close()

    def trigger(self, step: Step) -> None:
        """Do what the step says at the next tick, whatever its ``at``. queue.Full if too many are waiting."""
        self._asked.put_nowait(step)

    # ------------------------------------------------------------ start

    def _initialise(self) -> None:
        if self.profile.passive:
            return
        now = time.time()
        self._mdib.associate(patient.demo_location(self.index), self._patient())
        self._mdib.stamp_settings(now)
        self._mdib.write_readings(self.profile.readings, now, self._seed, {})
        self._due = {reading.handle: reading.every for reading in self.profile.readings}
        self._panel.observe(self._mdib.beyond_limits())
        self._mdib.write_alerts(self._panel.states())

    def _patient(self) -> patient.Patient:
        return patient.demo_patient(self._patient_seed, self.index, self._patient_changes)

    def _make_provider(self) -> Any:
        serial = f"DEMO-{self._epr.hex[:8].upper()}"
        tls = self._tls() if self._tls is not None else None
        return SdcProvider(
            self._discovery,
            ThisModelType("SDC Node Demo Devices", "about:blank", self.profile.title, "1", "about:blank"),
            ThisDeviceType(f"{self.profile.title} {self.index + 1}", "0.1.0", serial),
            self._mdib.library,
            epr=self._epr,
            ssl_context_container=SSLContextContainer(tls.client_context, tls.server_context) if tls else None,
            max_subscription_duration=self._subscription_seconds,
            log_prefix=f"{self.profile.name}{self.index} ",
        )

    # ------------------------------------------------------------ ticking, in a thread of its own

    def _run(self) -> None:
        started = time.monotonic()
        before = -TICK
        while not self._stopping.wait(max(0.0, before + TICK - (time.monotonic() - started))):
            elapsed = time.monotonic() - started
            try:
                self._tick(before, elapsed)
            except Exception as error:  # noqa: BLE001 - one bad tick must not end the device
                self.failures += 1
                logger.error("%s: tick failed: %s", self.epr, type(error).__name__)  # noqa: TRY400 - no PHI
            before = elapsed

    def _tick(self, before: float, elapsed: float) -> None:
        if self.profile.passive:
            self._report_upkeep(elapsed)
            return
        now = time.time()
        happening = self._asked_steps() + self._scenario.between(before, elapsed, self.profile.name)
        for step in happening:
            self._apply(step, now)
        if self.profile.waveforms:
            self._mdib.write_samples(self.profile.waveforms, now, self._seed, self._influences)
        readings = [r for r in self.profile.readings if self._is_due(r.handle, r.every, elapsed)]
        if readings:
            self._mdib.write_readings(readings, now, self._seed, self._influences)
            self._panel.observe(self._mdib.beyond_limits())
        if readings or happening:
            self._mdib.write_alerts(self._panel.states())
        self._report_upkeep(elapsed)

    def _report_upkeep(self, elapsed: float) -> None:
        checked = [h for h, every in self._mdib.alert_systems().items() if self._is_due(h, every, elapsed)]
        if checked:
            self._mdib.write_self_check(checked, time.time())
        if self._is_due("components", COMPONENT_SECONDS, elapsed):
            self._mdib.write_components(elapsed)

    def _is_due(self, what: str, every: float, elapsed: float) -> bool:
        """Whether ``every`` seconds have passed since it was due last; it keeps its rhythm over late ticks."""
        due = self._due.get(what, 0.0)
        if elapsed < due:
            return False
        self._due[what] = max(due + every, elapsed - elapsed % every)
        return True

    def _asked_steps(self) -> list[Step]:
        return [self._asked.get_nowait() for _ in range(self._asked.qsize())]

    # ------------------------------------------------------------ events

    def _apply(self, step: Step, now: float) -> None:
        if step.event in self.profile.reactions:
            self._react(step.event, now)
        elif step.event == "patient_change":
            self._patient_changes += 1
            self._mdib.change_patient(self._patient())
        elif step.event == "patient_leave":
            self._mdib.change_patient(None)
        elif step.condition is None or step.condition in self._panel.conditions:
            self._apply_to_alarms(step)

    def _apply_to_alarms(self, step: Step) -> None:
        match step.event:
            case "audio_pause":
                self._panel.pause_audio(step.condition)
            case "audio_on":
                self._panel.resume_audio()
            case "acknowledge":
                self._panel.acknowledge(step.condition)
            case "latch_reset":
                self._panel.reset_latches(step.condition)
            case "priority" if step.condition is not None:
                self._panel.set_priority(step.condition, _priority(step.to))

    def _react(self, event: str, now: float) -> None:
        reaction = self.profile.reactions[event]
        influence = self._influences.get(reaction.influence)
        if reaction.begins:
            influence = Influence(since=now) if influence is None else influence.begin(now)
        elif influence is not None:
            influence = influence.end(now)
        if influence is not None:
            self._influences[reaction.influence] = influence
        if reaction.condition is not None:
            # the metrics that it concerns are reported first: BICEPS wants the value before the alert
            concerned = [r for r in self.profile.readings if r.every <= PROMPT_SECONDS]
            self._mdib.write_readings(concerned, now, self._seed, self._influences)
            self._panel.observe({reaction.condition: reaction.begins})


def _priority(text: str | None) -> Priority | None:
    match text:
        case "Lo" | "Me" | "Hi" | "None":
            return text
        case _:
            return None
