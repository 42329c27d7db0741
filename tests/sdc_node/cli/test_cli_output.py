"""What all commands share: one line for each error, tables that fit, help, versions and completion."""

import asyncio
import os
import re
import signal
import threading
import time

import pytest
import typer
from typer.testing import CliRunner

import sdc_node as package
from consumers.errors import ConsumerError
from sdc_node import cli
from sdc_node.cli import application, output
from sdc_node.config import ConfigError
from sdc_node.telemetry import TelemetryError

COMMANDS = {
    ("demo",): ("--for", "--report", "--dir", "--seed", "--no-open"),
    ("run",): ("--config", "--certs", "--json"),
    ("config",): ("check", "sample"),
    ("config", "check"): ("--config", "--certs", "--connect"),
    ("config", "sample"): (),
    ("simulate",): ("profile", "--count", "--scenario", "--seed", "--interface", "--certs", "--json"),
    ("discover",): ("--interface", "--timeout", "--json"),
    ("inspect",): ("device", "--interface", "--timeout", "--certs", "--allow-plaintext", "--json"),
    ("watch",): ("device", "--interface", "--timeout", "--certs", "--allow-plaintext", "--for", "--json"),
    ("receive",): ("hl7", "fhir"),
    ("receive", "hl7"): ("--dir", "--port", "--host", "--tls", "--certs", "--list", "--show", "--json"),
    ("receive", "fhir"): ("--dir", "--port", "--host", "--tls", "--certs", "--list", "--show", "--json"),
    ("pki",): ("init",),
    ("pki", "init"): ("directory", "--node", "--device", "--host", "--days", "--json"),
}


def commands(group, path=()):
    for name, command in group.commands.items():
        yield (*path, name)
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


def test_every_command_is_known_here():
    assert set(commands(typer.main.get_command(application))) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_each_command_names_its_options_and_fits(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    told = CliRunner().invoke(application, [*command, "--help"], prog_name="sdc-node")
    assert told.exit_code == 0
    assert told.stdout.startswith(f"Usage: sdc-node {' '.join(command)}")
    for option in COMMANDS[command]:
        assert re.search(rf"(^|[\s{{]){re.escape(option)}\b", told.stdout), option
    assert max(map(len, told.stdout.splitlines())) <= 100


def test_version_and_help_without_arguments(sdc_node):
    assert sdc_node("--version").out == f"{package.__version__}\n"
    for group in ((), ("config",), ("receive",), ("pki",)):
        ended = sdc_node(*group)
        assert ended.status == 2
        assert "Usage: sdc-node" in ended.out + ended.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_offered_and_knows_the_commands(shell):
    environment = {"_SDC_NODE_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "sdc-node re", "COMP_CWORD": "1"}
    environment |= {"COMP_WORDS": "sdc-node re", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    told = CliRunner().invoke(application, prog_name="sdc-node", env=environment)
    assert "receive" in told.stdout
    assert "simulate" not in told.stdout
    script = CliRunner().invoke(application, prog_name="sdc-node", env={"_SDC_NODE_COMPLETE": f"source_{shell}"})
    assert "sdc-node" in script.stdout


def test_an_expected_error_is_one_line_each_and_a_status(monkeypatch, sdc_node):
    for error, status in ((ConfigError("a\nb"), 2), (ConsumerError("a\nb"), 1), (TelemetryError("a\nb"), 1)):

        def fails(error=error, **_options):
            raise error

        monkeypatch.setattr(cli, "application", fails)
        ended = sdc_node()
        assert (ended.status, ended.err) == (status, "error: a\nerror: b\n")


def test_an_interrupt_is_130_and_anything_else_is_not_hidden(monkeypatch, sdc_node):
    def interrupted(**_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "application", interrupted)
    assert sdc_node().status == 130
    monkeypatch.setattr(cli, "application", lambda **_options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_a_table_fits_and_loses_nothing(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    name, address = "urn:uuid:" + "e" * 36, "https://127.0.0.1:65000/" + "0123456789abcdef" * 6
    output.print_table(("EPR", "address", "location"), [(name, address, "HOSPITAL/ICU")], empty="none")
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[1].startswith(name)
    assert "…" not in text
    assert "".join(line[45:].strip().split(" ")[0] for line in lines[1:]) == address
    output.print_table(("EPR",), [], empty="nobody answered")
    assert capsys.readouterr().out == "nobody answered\n"


def test_what_others_say_is_shown_as_it_is(capsys):
    """A sender that writes `[/]` neither styles a table nor ends the command."""
    output.print_table(("a", "b"), [("[bold]x[/bold]", "[/nothing] :smile:")], empty="none")
    assert capsys.readouterr().out.splitlines()[1].split("  ") == ["[bold]x[/bold]", "[/nothing] :smile:"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_end_the_wait(number):
    begin = time.monotonic()
    poke = threading.Timer(0.1, os.kill, (os.getpid(), number))
    poke.start()
    asyncio.run(asyncio.wait_for(output.until_stopped(), 10))
    poke.join()
    assert time.monotonic() - begin < 10
