"""A provider that is not ours: sdc11073's own SdcProvider serving an MDIB file, in a process of its own.

Knows nothing of this project. Every metric that is no waveform gets values until the process is told to end; prints one
JSON line when it serves. A patient without any Validator is associated, as such devices do it.
"""

import argparse
import json
import os
import signal
import sys
import threading
import uuid
import warnings
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

from sdc11073.certloader import mk_ssl_contexts_from_folder  # noqa: E402
from sdc11073.definitions_sdc import SdcV1Definitions  # noqa: E402
from sdc11073.httpserver.httprequesthandler import DispatchingRequestHandler  # noqa: E402
from sdc11073.location import SdcLocation  # noqa: E402
from sdc11073.mdib.providermdib import ProviderMdib  # noqa: E402
from sdc11073.provider.providerimpl import SdcProvider  # noqa: E402
from sdc11073.wsdiscovery.wsdimpl import WSDiscovery  # noqa: E402
from sdc11073.xml_types import pm_qnames, pm_types  # noqa: E402
from sdc11073.xml_types.dpws_types import ThisDeviceType, ThisModelType  # noqa: E402

EVERY = 0.5
"""Seconds between two reports; intermittent metrics are determined at the start and then every RARELY reports."""

RARELY = 20

VALUED = {
    pm_qnames.NumericMetricDescriptor,
    pm_qnames.StringMetricDescriptor,
    pm_qnames.EnumStringMetricDescriptor,
}

DispatchingRequestHandler.disable_nagle_algorithm = True  # else each answer costs 40 ms


def write_values(mdib: ProviderMdib, turn: int) -> None:
    """Turn 0, 1, ...: a number is resolution x (100..999 by its handle + 0..9 by the turn); others follow likewise."""
    with mdib.metric_state_transaction() as transaction:
        for descriptor in mdib.descriptions.objects:
            rarely = (
                descriptor.NODETYPE in VALUED
                and descriptor.MetricAvailability == pm_types.MetricAvailability.INTERMITTENT
            )
            if descriptor.NODETYPE not in VALUED or (rarely and turn % RARELY):
                continue
            state = transaction.get_state(descriptor.Handle)
            if state.MetricValue is None:
                state.mk_metric_value()
            state.MetricValue.Value = value_of(descriptor, turn)
            state.MetricValue.MetricQuality.Validity = pm_types.MeasurementValidity.VALID


def value_of(descriptor: Any, turn: int) -> Decimal | str:
    if pm_qnames.EnumStringMetricDescriptor == descriptor.NODETYPE:
        return str(descriptor.AllowedValue[turn % len(descriptor.AllowedValue)].Value)
    if pm_qnames.StringMetricDescriptor == descriptor.NODETYPE:
        return f"{descriptor.Handle} {turn % 10}"
    return Decimal(descriptor.Resolution) * (100 + zlib.crc32(descriptor.Handle.encode()) % 900 + turn % 10)


def associate_patient(mdib: ProviderMdib) -> None:
    for descriptor in mdib.descriptions.NODETYPE.get(pm_qnames.PatientContextDescriptor, []):
        with mdib.context_state_transaction() as transaction:
            state = transaction.mk_context_state(descriptor.Handle, set_associated=True)
            state.CoreData.Familyname = "Unvouched"
            state.CoreData.Givenname = "Interop"
            state.Identification.append(
                pm_types.InstanceIdentifier(root="urn:oid:1.3.6.1.4.1.99999.9", extension_string="UV1")
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mdib", type=Path)
    parser.add_argument("--epr", type=uuid.UUID, required=True)
    parser.add_argument("--certs", type=Path)
    options = parser.parse_args()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    parent = os.getppid()
    mdib = ProviderMdib.from_mdib_file(str(options.mdib), protocol_definition=SdcV1Definitions)
    mdib.sequence_id = uuid.uuid4().urn
    discovery = WSDiscovery("127.0.0.1")
    discovery.start()
    provider = SdcProvider(
        discovery,
        ThisModelType(manufacturer="Example", manufacturer_url="", model_name="Interop", model_number="1"),
        ThisDeviceType(friendly_name="Interop", firmware_version="1", serial_number="1"),
        mdib,
        epr=options.epr,
        ssl_context_container=mk_ssl_contexts_from_folder(str(options.certs), cyphers_file=None)
        if options.certs
        else None,
    )
    provider.start_all(start_rtsample_loop=False)
    try:
        associate_patient(mdib)
        write_values(mdib, 0)
        provider.set_location(SdcLocation(fac="HOSP", poc="ICU", bed="7"))  # publishes, too
        sys.stdout.write(json.dumps({"epr": provider.epr_urn, "addresses": provider.get_xaddrs()}) + "\n")
        sys.stdout.flush()
        turn = 0
        while not stopping.wait(EVERY) and os.getppid() == parent:
            turn += 1
            write_values(mdib, turn)
    finally:
        provider.stop_all()
        discovery.stop()


if __name__ == "__main__":
    main()
