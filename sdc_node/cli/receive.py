"""`sdc-node receive`: receivers for trying out, which check, keep and list what came."""

import asyncio
import errno
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from sdc_node.cli.output import FAILED, USAGE, fail, print_json, print_table, print_text, until_stopped
from sdc_node.receivers import fhir_listing, hl7_store
from sdc_node.receivers.fhir import FhirReceiver
from sdc_node.receivers.hl7 import Hl7Receiver
from sdc_node.security import SecurityError, choose_folder, load

receive = typer.Typer(help="Receive, check, keep and list HL7 v2 messages or FHIR resources.", no_args_is_help=True)

_Directory = Annotated[Path, typer.Option("--dir", help="Folder of the store; made if missing.")]
_Host = Annotated[str, typer.Option(help="Address to listen on.")]
_Port = Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0: any.")]
_Tls = Annotated[bool, typer.Option("--tls", help="Speak TLS, with mutual authentication.")]
_Certs = Annotated[
    Path | None, typer.Option(help="Folder with userkey.pem, usercert.pem, cacert.pem; else SDC_NODE_CERTS.")
]
_List = Annotated[bool, typer.Option("--list", help="List what is stored, and leave.")]
_Show = Annotated[str | None, typer.Option(help="Show one of what is stored, and leave.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@receive.callback()
def options() -> None:
    """Receive, check, keep and list HL7 v2 messages or FHIR resources."""


@receive.command()
def hl7(
    directory: _Directory = Path("received/hl7"),
    port: _Port = 2575,
    host: _Host = "127.0.0.1",
    tls: _Tls = False,
    certs: _Certs = None,
    list_: _List = False,
    show: _Show = None,
    json: _Json = False,
) -> None:
    """Receive PCD-01 and PCD-04 over MLLP: accept or refuse each, and keep it."""
    _check_folder(directory)
    if show is not None:
        try:
            print(hl7_store.show_message(directory, show))
        except LookupError as error:
            fail(error.args[0])
            raise typer.Exit(FAILED) from None
        return
    if list_:
        messages = hl7_store.list_messages(directory)
        if json:
            print_json(messages)
            return
        rows = [
            (str(one.id), _clock(one.received), one.kind, one.control_id, one.verdict, str(one.repeats), one.reason)
            for one in messages
        ]
        columns = ("id", "received", "kind", "control id", "answer", "repeats", "reason")
        print_table(columns, rows, empty="nothing has come yet")
        return
    asyncio.run(_receive_hl7(Hl7Receiver(directory, host, port, _context(tls, certs)), json=json, port=port))


@receive.command()
def fhir(
    directory: _Directory = Path("received/fhir"),
    port: _Port = 8080,
    host: _Host = "127.0.0.1",
    tls: _Tls = False,
    certs: _Certs = None,
    list_: _List = False,
    show: _Show = None,
    json: _Json = False,
) -> None:
    """Receive FHIR R4 resources over HTTP: accept or refuse each, and keep it."""
    _check_folder(directory)
    if show is not None:
        print_text(fhir_listing.show_resource(directory, show))
        return
    if list_:
        resources = fhir_listing.list_resources(directory)
        if json:
            print_json(resources)
            return
        rows = [(one.ref, str(one.version), _clock(one.stored_ms), one.title) for one in resources]
        print_table(("resource", "version", "stored", "title"), rows, empty="nothing has come yet")
        return
    asyncio.run(_receive_fhir(FhirReceiver(directory, host, port, _context(tls, certs)), json=json))


async def _receive_hl7(receiver: Hl7Receiver, *, json: bool, port: int) -> None:
    try:
        await receiver.start()
    except OSError as error:
        if error.filename is not None:
            fail(f"{receiver.directory}: {error.strerror}; name a folder that this user may write to")
        else:
            reason = "it is in use" if error.errno == errno.EADDRINUSE else error.strerror
            fail(f"port {port} on {receiver.host} cannot be used: {reason}")
        raise typer.Exit(FAILED) from None
    try:
        await _serve(f"mllp://{receiver.host}:{receiver.port}", json=json)
    finally:
        await receiver.stop()


async def _receive_fhir(receiver: FhirReceiver, *, json: bool) -> None:
    await receiver.start()
    try:
        await _serve(receiver.base_url, json=json)
    finally:
        await receiver.stop()


async def _serve(address: str, *, json: bool) -> None:
    if json:
        print_json({"address": address, "port": int(address.rpartition(":")[2])})
    else:
        print(f"listening on {address}; Ctrl-C stops", flush=True)
    await until_stopped()


def _check_folder(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        fail(f"--dir {directory} is a file; name the folder of a store, or one to make")
        raise typer.Exit(USAGE)


def _context(tls: bool, certs: Path | None) -> ssl.SSLContext | None:
    if not tls:
        return None
    folder = choose_folder(certs, None)
    if folder is None:
        raise SecurityError("--tls needs certificates: give --certs DIR or set SDC_NODE_CERTS")
    return load(folder).server


def _clock(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
