"""What all commands share in telling: errors in one line, tables, JSON, and waiting for the end."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from consumers.errors import ConsumerError
from providers.profile import ProfileError
from providers.scenario import ScenarioError
from providers.ward import WardError
from sdc_node.config import ConfigError
from sdc_node.database import DatabaseError
from sdc_node.directory import DirectoryError
from sdc_node.pki import PkiError
from sdc_node.receivers.fhir import FhirReceiverError
from sdc_node.receivers.fhir_listing import StoreError
from sdc_node.security import SecurityError
from sdc_node.sinks.base import SinkError
from sdc_node.telemetry import TelemetryError

USAGE = 2
"""Exit status where what was typed or configured is wrong."""
FAILED = 1
"""Exit status where the world is."""

MAX_CELL = 120
"""Characters of one cell of a table."""

_JSON = msgspec.json.Encoder(decimal_format="number")
_WRONG_INPUT = (ConfigError, ProfileError, ScenarioError)
EXPECTED = (
    *_WRONG_INPUT,
    ConsumerError,
    DatabaseError,
    DirectoryError,
    FhirReceiverError,
    PkiError,
    SecurityError,
    SinkError,
    StoreError,
    TelemetryError,
    WardError,
)


def fail(error: object) -> None:
    """Say what is wrong on standard error."""
    for line in str(error).splitlines():
        print(f"error: {printable(line)}", file=sys.stderr)


def printable(text: str) -> str:
    """One line of what a device or a sender said, unable to steer the terminal: '?' for every control character."""
    return "".join(character if character.isprintable() else "?" for character in text)


def status_of(error: Exception) -> int:
    """The exit status an error asks for."""
    return USAGE if isinstance(error, _WRONG_INPUT) else FAILED


def print_json(value: Any) -> None:
    """One JSON value on one line; numbers keep their digits."""
    sys.stdout.write(_JSON.encode(value).decode() + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """A table that fits the terminal, or a sentence where there is nothing to list. Cells end at MAX_CELL."""
    if not rows:
        print(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, overflow="fold")  # what it names can be copied in one piece
    for row in rows:
        table.add_row(*(_cell(text) for text in row))
    Console(markup=False, emoji=False).print(table)  # what devices and senders say is shown as it is


def print_text(text: str) -> None:
    """Lines of what a device or a sender said."""
    for line in text.splitlines():
        print(printable(line))


def _cell(text: str) -> str:
    return printable(text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 3]}...")


async def until_stopped() -> None:
    """Return on SIGINT or SIGTERM."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()
