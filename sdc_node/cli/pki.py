"""`sdc-node pki`: certificates for trying out."""

from pathlib import Path
from typing import Annotated

import typer

from sdc_node import pki as authority
from sdc_node.cli.output import print_json, print_table

pki = typer.Typer(help="Make certificates with the SDC key purposes.", no_args_is_help=True)


@pki.callback()
def options() -> None:
    """Make certificates with the SDC key purposes."""


@pki.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Folder to make; must not hold anything yet.")],
    node: Annotated[list[str] | None, typer.Option(help="Name of a consumer (a node); may be repeated.")] = None,
    device: Annotated[list[str] | None, typer.Option(help="Name of a provider (a device); may be repeated.")] = None,
    host: Annotated[
        list[str] | None, typer.Option(help="Host name or address in the certificates; may be repeated.")
    ] = None,
    days: Annotated[int, typer.Option(help="Days until they expire.")] = 365,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a CA and one folder per participant with userkey.pem, usercert.pem and cacert.pem."""
    consumers, providers = node or ["node"], device or ["monitor", "ventilator", "pump"]
    if both := sorted({*consumers} & {*providers}):
        raise authority.PkiError(f"{', '.join(both)}: a node and a device of the same name; each needs its own")
    names: dict[str, authority.Role] = dict.fromkeys(consumers, "consumer")
    names |= dict.fromkeys(providers, "provider")
    made = authority.init(directory, names, host or authority.LOOPBACK, days)
    if json:
        print_json([{"name": one.name, "role": one.role, "folder": str(one.folder)} for one in made])
        return
    print_table(("name", "role", "folder"), [(one.name, one.role, str(one.folder)) for one in made], empty="none")
