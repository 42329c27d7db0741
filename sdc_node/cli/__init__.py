"""The command line: parses, calls, prints. Nothing else lives here."""
# ruff: noqa: E402 - Ctrl-C comes before the imports

import signal
import threading

_LOADING = (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
)
if _LOADING:  # what follows takes half a second, in which Ctrl-C ends the process instead of some module's import
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import logging
import os
import sys
from typing import Annotated

import typer

import sdc_node
from sdc_node.cli import consume, demo, pki, receive, run, simulate
from sdc_node.cli.output import EXPECTED, FAILED, fail, status_of

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
    try:
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        try:
            application(prog_name="sdc-node")
        finally:
            sys.stdout.flush()  # here, where it can be told that the output cannot be written
    except EXPECTED as error:
        fail(error)
        sys.exit(status_of(error))
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # who reads no further wants to hear no more
            fail(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error)
        _drop_output()
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(130)


def _drop_output() -> None:
    """What standard output did not take is not tried again when the process ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if _LOADING:
    signal.signal(signal.SIGINT, signal.default_int_handler)

__all__ = ["application", "main"]
