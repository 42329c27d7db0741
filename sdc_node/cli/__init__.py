"""The command line: parses, calls, prints. Nothing else lives here."""

import logging
import sys
from typing import Annotated

import typer

import sdc_node
from sdc_node.cli import consume, demo, pki, receive, run, simulate
from sdc_node.cli.output import EXPECTED, fail, status_of

application = typer.Typer(
    name="sdc-node",
    help="Connects IEEE 11073 SDC medical devices to hospital systems. Not a medical device; not for primary alarms.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
application.command()(demo.demo)
application.command()(run.run)
application.add_typer(run.config, name="config")
application.command()(simulate.simulate)
application.command()(consume.discover)
application.command()(consume.inspect)
application.command()(consume.watch)
application.add_typer(receive.receive, name="receive")
application.add_typer(pki.pki, name="pki")


def _print_version(value: bool) -> None:
    if value:
        print(sdc_node.__version__)
        raise typer.Exit


@application.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Connects IEEE 11073 SDC medical devices to hospital systems. Not a medical device; not for primary alarms."""


def main() -> None:
    """Run the command line. Expected errors are one line each on standard error, without a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        application(prog_name="sdc-node")
    except EXPECTED as error:
        fail(error)
        sys.exit(status_of(error))
    except KeyboardInterrupt:
        sys.exit(130)


__all__ = ["application", "main"]
