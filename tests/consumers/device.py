"""A plain sdc11073 provider in a process of its own, told what to do by JSON lines on stdin.

Answers each line with one JSON line. Run with the EPR, an MDIB file, and optionally a certificate folder; the discovery
is a fake one unless an interface is named.
"""

import argparse
import json
import sys
import time
import uuid
import warnings
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

warnings.simplefilter("ignore")

from sdc11073.certloader import mk_ssl_contexts_from_folder  # noqa: E402
from sdc11073.definitions_sdc import SdcV1Definitions  # noqa: E402
from sdc11073.httpserver.httprequesthandler import DispatchingRequestHandler  # noqa: E402
from sdc11073.location import SdcLocation  # noqa: E402
from sdc11073.mdib.descriptorcontainers import NumericMetricDescriptorContainer  # noqa: E402
from sdc11073.mdib.providermdib import ProviderMdib  # noqa: E402
from sdc11073.provider.providerimpl import SdcProvider  # noqa: E402
from sdc11073.wsdiscovery.wsdimpl import WSDiscovery  # noqa: E402
from sdc11073.xml_types import pm_types  # noqa: E402
from sdc11073.xml_types.dpws_types import ThisDeviceType, ThisModelType  # noqa: E402

DispatchingRequestHandler.disable_nagle_algorithm = True


class Device:
    def __init__(self, options: argparse.Namespace) -> None:
        self.mdib = ProviderMdib.from_mdib_file(str(options.mdib), protocol_definition=SdcV1Definitions)
        self.mdib.sequence_id = uuid.uuid4().urn
        silent = SimpleNamespace(
            active_address="127.0.0.1", publish_service=lambda *_: None, clear_service=lambda *_: None
        )
        self.discovery = WSDiscovery(options.interface) if options.interface else None
        if self.discovery is not None:
            self.discovery.start()
        self.provider = SdcProvider(
            self.discovery or silent,
            ThisModelType(manufacturer="Example", manufacturer_url="", model_name="Watcher", model_number="1"),
            ThisDeviceType(friendly_name="Watcher", firmware_version="1", serial_number="1"),
            self.mdib,
            epr=uuid.UUID(options.epr),
            ssl_context_container=mk_ssl_contexts_from_folder(str(options.certs), cyphers_file=None)
            if options.certs
            else None,
            max_subscription_duration=options.duration,
            socket_timeout=options.timeout,
        )
        self.provider.start_all(start_rtsample_loop=False)
        if self.discovery is not None:
            self.provider.set_location(SdcLocation(fac="HOSP", poc="ICU", bed="7"))

    def do_metric(self, handle: str, value: str) -> None:
        with self.mdib.metric_state_transaction() as transaction:
            state = transaction.get_state(handle)
            if state.MetricValue is None:
                state.mk_metric_value()
            state.MetricValue.Value = Decimal(value)
            state.MetricValue.MetricQuality.Validity = pm_types.MeasurementValidity.VALID

    def do_flood(self, count: int) -> None:
        for value in range(count):
            self.do_metric("m.hr", str(value))

    def do_wave(self, samples: list[str]) -> None:
        with self.mdib.rt_sample_state_transaction() as transaction:
            state = transaction.get_state("m.wave")
            state.MetricValue.Samples = [Decimal(sample) for sample in samples]
            state.MetricValue.DeterminationTime = time.time()

    def do_alert(self, present: bool) -> None:
        with self.mdib.alert_state_transaction() as transaction:
            transaction.get_state("ac.off").Presence = present

    def do_component(self) -> None:
        with self.mdib.component_state_transaction() as transaction:
            transaction.get_state("vmd0").OperatingHours = 5

    def do_operational(self) -> None:
        with self.mdib.operational_state_transaction() as transaction:
            transaction.get_state("op.string").OperatingMode = pm_types.OperatingMode.ENABLED

    def do_patient(self, name: str) -> None:
        with self.mdib.context_state_transaction() as transaction:
            state = transaction.mk_context_state("pc0", set_associated=True)
            state.CoreData.Familyname = name

    def do_describe(self, handle: str) -> None:
        descriptor = NumericMetricDescriptorContainer(handle, "ch0")
        descriptor.Unit = pm_types.CodedValue("262656")
        descriptor.Type = pm_types.CodedValue("77")
        descriptor.Resolution = Decimal(1)
        with self.mdib.descriptor_transaction() as transaction:
            transaction.add_descriptor(descriptor)
            transaction.add_state(self.mdib.data_model.mk_state_container(descriptor))

    def do_undescribe(self, handle: str) -> None:
        with self.mdib.descriptor_transaction() as transaction:
            transaction.remove_descriptor(handle)

    def do_sequence(self) -> None:
        self.mdib.sequence_id = uuid.uuid4().urn

    def do_skip_version(self, handle: str) -> None:
        self.mdib.states.descriptor_handle.get_one(handle).StateVersion += 5

    def do_stop(self) -> None:
        self.provider.stop_all()
        if self.discovery is not None:
            self.discovery.stop()

    def serve(self) -> None:
        self.say({"addresses": self.provider.get_xaddrs(), "epr": self.provider.epr_urn})
        for line in sys.stdin:
            name, *arguments = json.loads(line)
            started = time.monotonic()
            try:
                getattr(self, f"do_{name}")(*arguments)
                self.say({"done": name, "seconds": time.monotonic() - started})
            except Exception as error:  # noqa: BLE001
                self.say({"failed": name, "why": repr(error)})
            if name == "stop":
                return
        self.do_stop()

    @staticmethod
    def say(answer: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epr", required=True)
    parser.add_argument("--mdib", type=Path, required=True)
    parser.add_argument("--certs", type=Path)
    parser.add_argument("--interface")
    parser.add_argument("--duration", type=int, default=15)
    parser.add_argument("--timeout", type=float, default=10)
    Device(parser.parse_args()).serve()


if __name__ == "__main__":
    main()
