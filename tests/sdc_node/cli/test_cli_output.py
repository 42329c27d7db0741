"""What all commands share: one line for each error, tables that fit, help, versions and completion."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

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
    name, address = "urn:uuid:" + "e" * 36, "https://127.0.0.1:65000/" + "0123456789abcdef" * 5
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


def test_what_others_say_cannot_steer_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    output.print_table(("a", "b"), [("\x1b[2J\x9b1m\u202e", "x" * 300)], empty="none")
    assert capsys.readouterr().out.splitlines()[1].split() == ["?[2J?1m?", "x" * 117 + "..."]
    output.print_text("a\x07\n  b\x00é")
    assert capsys.readouterr().out == "a?\n  b?é\n"
    output.fail("it said \x1b]0;x\x07")
    assert capsys.readouterr().err == "error: it said ?]0;x?\n"


INTERRUPT = """
import os, signal, sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
"""


@pytest.mark.parametrize(
    "entry", ["import sdc_node.cli", "import runpy; runpy.run_module('sdc_node', run_name='__main__')"]
)
def test_an_interrupt_while_it_loads_ends_it_without_a_traceback(entry):
    command = [sys.executable, "-P", "-c", INTERRUPT + entry]
    ended = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, b"", b"")  # a shell says 130


def test_loading_leaves_the_handlers_of_others_alone():
    own = "import signal; signal.signal(signal.SIGINT, own := lambda *_: None); import sdc_node.cli; "
    own += "assert signal.getsignal(signal.SIGINT) is own"
    none = "import signal, sdc_node.cli; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    for program in (own, none):
        subprocess.run([sys.executable, "-P", "-c", program], timeout=30, check=True)


@pytest.mark.parametrize("command", [("--version",), ("config", "sample"), ("pki", "init", "--help")])
def test_a_full_disk_under_the_output_is_one_line(command):
    with Path("/dev/full").open("wb") as full:
        argv = [sys.executable, "-P", "-m", "sdc_node", *command]
        ended = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (1, b"error: No space left on device\n")


def test_a_reader_that_left_is_told_nothing():
    reading, writing = os.pipe()
    os.close(reading)
    argv = [sys.executable, "-P", "-m", "sdc_node", "config", "sample"]
    ended = subprocess.run(argv, stdout=writing, stderr=subprocess.PIPE, timeout=30, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_an_error_of_the_system_names_the_file(monkeypatch, sdc_node):
    def fails(**_options):
        Path("none/x").read_text()

    monkeypatch.setattr(cli, "application", fails)
    ended = sdc_node()
    assert (ended.status, ended.err) == (1, "error: none/x: No such file or directory\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_end_the_wait(number):
    begin = time.monotonic()
    poke = threading.Timer(0.1, os.kill, (os.getpid(), number))
    poke.start()
    asyncio.run(asyncio.wait_for(output.until_stopped(), 10))
    poke.join()
    assert time.monotonic() - begin < 10
