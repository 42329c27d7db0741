"""From settings to parts: which sinks there are, how devices are found and followed. The explicit list of sinks."""

import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path

from consumers.discovery import Discovered, Discovery
from consumers.discovery.adhoc import AdHoc
from consumers.discovery.static import StaticDevice, StaticList
from consumers.fleet import Fleet, FleetSettings
from consumers.library import LinkSettings, TlsFactory
from consumers.session import SessionSettings
from sdc_node.config import Config
from sdc_node.ledger import Ledger
from sdc_node.outbox import Outbox
from sdc_node.security import SecurityError, choose_folder, load
from sdc_node.sinks.base import Sink
from sdc_node.sinks.console import ConsoleSink
from sdc_node.sinks.fhir.sink import FhirSink
from sdc_node.sinks.hl7v2.sink import Hl7Sink
from sdc_node.sinks.jsonl import JsonlSink
from sdc_node.state import State

Contexts = Mapping[str, ssl.SSLContext]
"""Client contexts of destinations that speak TLS, by destination."""


def device_tls(config: Config, certs: Path | None) -> TlsFactory | None:
    """Makes the contexts for devices anew at each connect; None where there are no certificates. Reads files."""
    folder = choose_folder(certs, config.node.certs)
    if folder is None:
        return None

    def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
        loaded = load(folder)
        return loaded.client, loaded.server

    contexts()
    return contexts


def destination_tls(config: Config, certs: Path | None) -> Contexts:
    """The contexts of the destinations that need one. Raises SecurityError; reads files."""
    own = choose_folder(certs, config.node.certs)
    folders = {hl7.name: hl7.certs or own for hl7 in config.hl7 if hl7.tls}
    for name, folder in folders.items():
        if folder is None:  # without a context the messages would go in the clear
            raise SecurityError(f"[[hl7]] {name}: tls needs certificates; set certs there or in [node]")
    folders |= {fhir.name: fhir.certs or own for fhir in config.fhir if fhir.base_url.startswith("https:")}
    return {name: load(folder).client for name, folder in folders.items() if folder is not None}


def sinks_of(config: Config, contexts: Contexts, outbox: Outbox, state: State, ledger: Ledger | None) -> Sequence[Sink]:
    """Every sink that the configuration asks for."""
    sinks: list[Sink] = [
        Hl7Sink(hl7, outbox=outbox, state=state, tls=contexts.get(hl7.name), ledger=ledger) for hl7 in config.hl7
    ]
    sinks += [FhirSink(fhir, outbox=outbox, tls=contexts.get(fhir.name), ledger=ledger) for fhir in config.fhir]
    if config.jsonl is not None:
        sinks.append(JsonlSink(config.jsonl))
    if config.console is not None:
        sinks.append(ConsoleSink(config.console))
    return sinks


def fleet_of(config: Config, tls: TlsFactory | None) -> Fleet:
    """How devices are found, chosen and followed."""
    consumer = config.consumer
    discovery: list[Discovery] = []
    if consumer.discover:
        discovery.append(AdHoc(consumer.interface))
    if consumer.device:
        discovery.append(StaticList([StaticDevice(one.address, one.epr) for one in consumer.device], tls))
    only, plain = frozenset(consumer.only), frozenset(consumer.allow_plaintext)

    def accept(found: Discovered) -> bool:
        return not only or found.epr in only

    link = LinkSettings(expiry=consumer.expires, delay=consumer.deadline)
    settings = FleetSettings(
        session=SessionSettings(link=link), connects=consumer.connects, devices=consumer.max_devices
    )
    return Fleet(discovery, tls, settings, accept=accept, allow_plaintext=plain.__contains__)
