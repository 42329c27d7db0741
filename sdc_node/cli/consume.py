"""`sdc-node discover`, `inspect`, `watch`: each opens its own SDC connection."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

import typer

from consumers import identify
from consumers.discovery import Discovered
from consumers.discovery.static import StaticDevice, StaticList
from consumers.errors import DeviceNotFound, PlaintextRefused
from consumers.fleet import Fleet
from consumers.library import TlsFactory
from mdib_models.coding import CodedValue, text_of
from mdib_models.descriptors import Descriptor, EnumStringMetricDescriptor, MetricDescriptor
from mdib_models.mirror import Mdib
from mdib_models.nomenclature import by_code
from mdib_models.states import (
    AlertConditionState,
    AlertSignalState,
    NumericMetricValue,
    SampleArrayValue,
    State,
    StringMetricValue,
)
from mdib_models.updates import ReportBatch
from mdib_models.wire.jsonl import encode, lines_of
from sdc_node.cli.output import print_json, printable, until_stopped
from sdc_node.security import choose_folder, load
from sdc_node.sinks.console import describe

_Interface = Annotated[str, typer.Option(help="IPv4 address of the interface to use.")]
_Timeout = Annotated[float, typer.Option(min=0.5, max=600, help="Seconds to wait for answers.")]
_Certs = Annotated[
    Path | None, typer.Option(help="Folder with userkey.pem, usercert.pem, cacert.pem; else SDC_NODE_CERTS.")
]
_Plain = Annotated[
    bool, typer.Option("--allow-plaintext", help="Talk to this device over plain HTTP if it offers no TLS.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Device = Annotated[str, typer.Argument(help="An EPR, a unique prefix of one, or an address https://HOST:PORT/PATH.")]


def discover(interface: _Interface = "127.0.0.1", timeout: _Timeout = 3.0, json: _Json = False) -> None:
    """List the SDC providers that answer on an interface (WS-Discovery Probe)."""
    found = asyncio.run(identify.discover(interface, timeout))
    if json:
        print_json(found)
        return
    if not found:
        print(f"nobody answered on {interface} within {timeout:g} s")
    for one in found:
        print(printable("  ".join((one.epr, *_places(one)))))
        for address in one.xaddrs:
            print(f"  {printable(address)}")  # on a line of its own, so that it can be copied


def inspect(
    device: _Device,
    interface: _Interface = "127.0.0.1",
    timeout: _Timeout = 5.0,
    certs: _Certs = None,
    allow_plaintext: _Plain = False,
    json: _Json = False,
) -> None:
    """Show a device's MDIB as a tree, with values. It may name the patient: mind who looks."""
    tls = _tls(certs)
    with _telling_of(device):
        mdib = asyncio.run(
            identify.fetch(device, interface, tls, seconds=timeout, allow_plaintext=lambda _: allow_plaintext)
        )
    if json:
        print_json(mdib)
        return
    print(f"{mdib.device}  MDIB version {mdib.version.mdib_version}  {mdib.version.sequence_id}")
    for depth, descriptor in mdib.walk():
        print(printable(_tree_line(mdib, depth, descriptor)[:160]))


def watch(
    device: _Device,
    interface: _Interface = "127.0.0.1",
    timeout: _Timeout = 5.0,
    certs: _Certs = None,
    allow_plaintext: _Plain = False,
    for_: Annotated[float | None, typer.Option("--for", min=1, help="Seconds to watch; else until stopped.")] = None,
    json: _Json = False,
) -> None:
    """Follow a device and print its values, alerts and link as they change. With --json: the recorded log's lines."""
    tls = _tls(certs)
    with contextlib.suppress(KeyboardInterrupt), _telling_of(device):
        target = asyncio.run(identify.resolve(device, interface, tls, timeout))
        asyncio.run(_watch(target, interface, tls, allow_plaintext=allow_plaintext, seconds=for_, json=json))


async def _watch(
    target: Discovered,
    interface: str,
    tls: TlsFactory | None,
    *,
    allow_plaintext: bool,
    seconds: float | None,
    json: bool,
) -> None:
    await identify.fetch(target, interface, tls, allow_plaintext=lambda _: allow_plaintext)  # its errors are clearer
    source = StaticList([StaticDevice(address, target.epr) for address in target.xaddrs[:1]], tls)
    fleet = Fleet([source], tls, allow_plaintext=lambda _: allow_plaintext)
    async with fleet:
        printing = asyncio.create_task(_print(fleet, json=json))
        waiting = asyncio.create_task(until_stopped())
        await asyncio.wait({printing, waiting}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
    await printing


async def _print(fleet: Fleet, *, json: bool) -> None:
    async for batch in fleet:
        if json:
            for line in lines_of(batch):
                print(encode(line).decode(), flush=True)
        else:
            _print_batch(batch)


def _print_batch(batch: ReportBatch) -> None:
    moment = time.strftime("%H:%M:%S", time.localtime(batch.arrived / 1000))
    for line in describe(batch, values=True):
        print(f"{moment} {printable(line)}", flush=True)


@contextlib.contextmanager
def _telling_of(device: str) -> Iterator[None]:
    """Refuses what can be no address before anybody is asked; plain HTTP is allowed by an option here."""
    try:
        parts = urlsplit(device)
        _ = parts.port, (parts.hostname or "").encode("idna")
    except ValueError:
        raise DeviceNotFound(f"{device!r} is no address; it looks like https://HOST:PORT/PATH") from None
    try:
        yield
    except PlaintextRefused as error:
        refusal, setting, _ = str(error).partition("; list its EPR under allow_plaintext")
        told = f"{refusal}; give --allow-plaintext to talk to it anyway" if setting else refusal
        raise PlaintextRefused(told) from None


def _tls(certs: Path | None) -> TlsFactory | None:
    folder = choose_folder(certs, None)
    if folder is None:
        return None
    loaded = load(folder)
    return lambda: (loaded.client, loaded.server)


def _places(found: Discovered) -> list[str]:
    """Its locations as facility/building/floor/point of care/room/bed, as far as it tells them."""
    scopes = [scope.partition("?")[2] for scope in found.scopes if scope.startswith("sdc.ctxt.loc:")]
    return ["/".join(value for _, value in parse_qsl(scope)) for scope in scopes]


def _tree_line(mdib: Mdib, depth: int, descriptor: Descriptor) -> str:
    kind = type(descriptor).__name__.removesuffix("Descriptor")
    state = mdib.states.get(descriptor.handle)
    parts = [f"{'  ' * depth}{descriptor.handle}", kind, _name(descriptor.type)]
    parts += [_value(descriptor, state)] if state is not None else []
    contexts = [one for one in mdib.contexts.values() if one.descriptor_handle == descriptor.handle]
    parts += [f"[{one.handle} {one.context_association}]" for one in contexts]
    return "  ".join(part for part in parts if part)


def _name(code: CodedValue | None) -> str:
    if code is None:
        return ""
    term = by_code(code.code) if code.is_mdc else None
    return f"{code.code} {(term.refid if term is not None else '') or text_of(code.concept_description) or ''}".rstrip()


def _value(descriptor: Descriptor, state: State) -> str:
    if isinstance(state, AlertConditionState):
        return "PRESENT" if state.presence else "absent"
    if isinstance(state, AlertSignalState):
        return f"{state.activation_state}/{state.presence}"
    value = getattr(state, "metric_value", None)
    if isinstance(value, SampleArrayValue):
        return f"{value.count} samples"
    if isinstance(value, NumericMetricValue | StringMetricValue) and isinstance(descriptor, MetricDescriptor):
        unit = "" if isinstance(descriptor, EnumStringMetricDescriptor) else _unit(descriptor.unit)
        shown = "" if value.value is None else str(value.value)
        return f"= {shown} {unit}".rstrip() + f" ({value.quality.validity})"
    return ""


def _unit(unit: CodedValue) -> str:
    term = by_code(unit.code, "unit") if unit.is_mdc else None
    return term.ucum[0] if term is not None and term.ucum else text_of(unit.concept_description) or unit.code
