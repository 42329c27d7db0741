"""`sdc-node simulate`: simulated devices on the network."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from providers import scenario as scenarios
from providers.provider import TlsContexts
from providers.ward import Ward
from sdc_node.cli.output import print_json, until_stopped
from sdc_node.security import choose_folder, load


def simulate(
    profile: Annotated[list[str], typer.Argument(help="monitor, ventilator, pump, or the path of an MDIB file.")],
    count: Annotated[int, typer.Option(min=1, help="Devices of each profile.")] = 1,
    scenario: Annotated[
        Path | None, typer.Option(help="TOML timeline of events; 'demo' is the one that comes with it.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Makes signals, patients and EPRs; the same seed makes the same.")] = 0,
    interface: Annotated[str, typer.Option(help="IPv4 address of the interface to use.")] = "127.0.0.1",
    certs: Annotated[
        Path | None,
        typer.Option(help="Folder with userkey.pem, usercert.pem, cacert.pem; else SDC_NODE_CERTS; else plain HTTP."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON line when all devices run.")] = False,
) -> None:
    """Run simulated SDC providers until stopped. All of their data is marked as demonstration."""
    folder = choose_folder(certs, None)

    def contexts() -> TlsContexts:
        assert folder is not None  # noqa: S101 - only passed where there is one
        loaded = load(folder)
        return TlsContexts(client_context=loaded.client, server_context=loaded.server)

    timeline = None
    if scenario is not None:
        timeline = scenarios.demo() if str(scenario) == "demo" else scenarios.read(scenario)
    tls = contexts if folder is not None else None
    ward = Ward(profile, count=count, seed=seed, interface=interface, tls=tls, scenario=timeline)
    if folder is None:
        print("no certificates: plain HTTP, which consumers refuse unless they are told not to", file=sys.stderr)
    else:
        load(folder)
    with ward:
        residents = ward.devices
        if json:
            print_json(residents)
        else:
            for one in residents:
                print("\n  ".join((f"{one.epr}  {one.profile}", *one.xaddrs)))
            print(f"{len(residents)} devices are running; Ctrl-C stops them", flush=True)
        asyncio.run(until_stopped())
