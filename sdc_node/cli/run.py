"""`sdc-node run` and `sdc-node config`."""

import asyncio
import logging
import os
import signal
import socket
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from sdc_node import node
from sdc_node.assembly import destination_tls, device_tls
from sdc_node.cli.output import FAILED, fail, print_json
from sdc_node.config import SAMPLE, Config, ConfigError, load

config = typer.Typer(help="Check a configuration, or print one to begin with.", no_args_is_help=True)

_Config = Annotated[Path, typer.Option("--config", help="The node's TOML file.")]
_Certs = Annotated[
    Path | None,
    typer.Option(help="Folder with userkey.pem, usercert.pem, cacert.pem; before SDC_NODE_CERTS and the file."),
]


def run(
    config: _Config = Path("node.toml"),
    certs: _Certs = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON line once the node runs.")] = False,
) -> None:
    """Run the node: follow devices and deliver to every destination, until stopped."""
    settings = load(config)
    logging.getLogger().setLevel(settings.node.log_level)
    for name in ("sdc", "aiohttp", "uvicorn", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)

    def started(port: int, waiting: str) -> None:
        if json:
            print_json({"port": port})
        else:
            does = waiting or "the node runs"
            print(f"{does}; its state is at http://127.0.0.1:{port}/status; Ctrl-C stops it", flush=True)

    asyncio.run(_run(settings, certs, started))


async def _run(settings: Config, certs: Path | None, started: node.Started) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await node.run(settings, certs, started, stop)


@config.callback()
def options() -> None:
    """Check a configuration, or print one to begin with."""


@config.command()
def sample() -> None:
    """Print a configuration to begin with."""
    print(SAMPLE, end="")


@config.command()
def check(
    config: _Config = Path("node.toml"),
    certs: _Certs = None,
    connect: Annotated[
        bool, typer.Option("--connect", help="Also try to connect to each destination (3 s each).")
    ] = False,
) -> None:
    """Tell whether a configuration can be used: keys, certificates, interface, folders, and receivers if asked."""
    settings = load(config)
    device_tls(settings, certs)
    destination_tls(settings, certs)
    try:
        node.check_interface(settings.consumer)
    except ConfigError as error:
        raise ConfigError(f"{config}: {error}") from None
    wrong = [*_folders(settings), *(_receivers(settings) if connect else ())]
    for line in wrong:
        fail(f"{config}: {line}")
    if wrong:
        raise typer.Exit(FAILED)
    print(f"{config} is right: {len(settings.hl7)} HL7 and {len(settings.fhir)} FHIR destinations")


def _folders(settings: Config) -> list[str]:
    wrong = [_folder("node.directory", settings.node.directory)]
    if settings.jsonl is not None:
        wrong.append(_file("jsonl.path", settings.jsonl.path))
    return [line for line in wrong if line]


def _folder(key: str, folder: Path) -> str:
    """What keeps the node from writing into the folder, or from making it; '' if nothing does."""
    if folder.is_dir():
        return "" if os.access(folder, os.W_OK | os.X_OK) else f"{key}: this user may not write to {folder}"
    if os.path.lexists(folder):
        return f"{key}: {folder} is not a folder"
    return _parent(key, folder)


def _file(key: str, path: Path) -> str:
    """What keeps the node from writing the file, and from putting a full one aside; '' if nothing does."""
    if path.is_dir():
        return f"{key}: {path} is a folder; name a file in it"
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        return f"{key}: this user may not write to {path}"
    return _parent(key, path)


def _parent(key: str, path: Path) -> str:
    if not path.parent.is_dir():
        return f"{key}: there is no folder {path.parent}"
    return "" if os.access(path.parent, os.W_OK | os.X_OK) else f"{key}: this user may not write to {path.parent}"


def _receivers(settings: Config) -> list[str]:
    wrong = []
    places = {f"hl7 {one.name}": (one.host, one.port) for one in settings.hl7}
    for fhir in settings.fhir:
        parts = urlsplit(fhir.base_url)
        places[f"fhir {fhir.name}"] = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    for name, (host, port) in places.items():
        try:
            socket.create_connection((host, port), timeout=3).close()
        except OSError as error:
            wrong.append(f"{name}: nothing answers at {host}:{port} ({error.strerror or error}); start the receiver")
        except ValueError as error:  # what the resolver does not even ask for
            wrong.append(f"{name}: its host is no host name ({error})")
    return wrong
