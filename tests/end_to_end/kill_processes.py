"""Processes that a test starts, waits for and kills: the node, and the ward that it follows."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
READY = 40.0
"""Seconds that a process may take to be ready, and to end, on a machine that is busy with other tests."""

T = TypeVar("T")


class Process:
    """One process: JSON lines from its standard output, its standard error in a file."""

    def __init__(
        self, log: Path, arguments: Sequence[str], environment: Mapping[str, str] | None = None, *, dies: bool = True
    ) -> None:
        """One that `dies` is not measured: what coverage has seen would die with it, after a start twice as long."""
        kept = {
            name: value for name, value in os.environ.items() if not (dies and name.startswith("COVERAGE_PROCESS_"))
        }
        self._log = log
        self._arguments = arguments
        self._environment = {**kept, "PYTHONPATH": str(ROOT), **(environment or {})}
        self._process: asyncio.subprocess.Process | None = None
        self.killed = 0.0
        """When `kill` was called, in seconds since the epoch."""

    @property
    def pid(self) -> int:
        return self._running().pid

    async def start(self) -> Any:
        """Its first line."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment,
            )
        return await self.line()

    async def line(self) -> Any:
        """Its next line; None where it has ended instead."""
        stdout = self._running().stdout
        assert stdout is not None
        line = await asyncio.wait_for(stdout.readline(), READY)
        return json.loads(line) if line else None

    def go(self) -> None:
        """Write a line to its standard input."""
        stdin = self._running().stdin
        assert stdin is not None
        stdin.write(b"go\n")

    def kill(self) -> None:
        self.killed = time.time()
        self._running().kill()

    async def ended(self) -> int:
        """Its exit status, a signal as a negative number."""
        await asyncio.wait_for(self._running().communicate(), READY)
        return self._running().returncode or 0

    async def stop(self) -> int:
        """Ask it to end, and wait until it has."""
        self._running().send_signal(signal.SIGTERM)
        return await self.ended()

    async def end(self) -> None:
        """Whatever state it is in."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.communicate()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def _running(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "not started"
        return self._process


def ward(
    folder: Path, profiles: Sequence[str], *, seed: int, subscription: int, scenario: Path | None = None
) -> Process:
    """Devices with the certificates in `folder/certs/device`; `start`, `go`, and `line` tells which they are."""
    options = ["--seed", str(seed), "--certs", str(folder / "certs" / "device"), "--subscription", str(subscription)]
    if scenario is not None:
        options += ["--scenario", str(scenario)]
    return Process(folder / "ward.log", ["-P", str(HERE / "kill_ward.py"), "--profiles", *profiles, *options])


def node(folder: Path, *, fault: str = "", entry: Sequence[str] = ("-m", "sdc_node"), dies: bool = True) -> Process:
    """The node of `folder/node.toml`; `start` returns its port."""
    arguments = ["-P", *entry, "run", "--config", str(folder / "node.toml"), "--json"]
    return Process(folder / "node.log", arguments, {"SDC_NODE_FAULTPOINT": fault}, dies=dies)


async def status(port: int) -> dict[str, Any]:
    """What the node says at /status."""
    timeout = aiohttp.ClientTimeout(total=10)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(f"http://127.0.0.1:{port}/status") as answer,
    ):
        found: dict[str, Any] = await answer.json()
        return found


async def becomes(port: int, epr: str, state: str) -> int:
    """When /status first says so."""
    deadline = time.monotonic() + READY
    while True:
        states = {device["device"]: device["state"] for device in (await status(port))["devices"]}
        if states.get(epr) == state:
            return time.time_ns() // 1_000_000
        assert time.monotonic() < deadline, f"{epr} is {states.get(epr)}, not {state}"
        await asyncio.sleep(0.05)


async def until(what: str, look: Callable[[], T], seconds: float = READY, *, every: float = 0.05) -> T:
    """Look again and again, in a thread, until there is something to see; fails after `seconds`, naming `what`."""
    deadline = time.monotonic() + seconds
    while True:
        if found := await asyncio.to_thread(look):
            return found
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}"
        await asyncio.sleep(every)
