"""`sdc-node demo`: everything at once, on loopback."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table

from sdc_node.cli.output import FAILED, USAGE, fail
from sdc_node.demo import Counted, Demo, DemoError, first_examples, new_folder
from sdc_node.telemetry import Status

BANNER = "Simulated devices, marked as demonstration data. Clock check is off. Not for primary alarm display."
_PLAIN_EVERY = 5.0


def demo(
    for_: Annotated[
        float | None, typer.Option("--for", min=1, help="Seconds to run once all devices are live.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the summary to this file, as JSON.")] = None,
    directory: Annotated[Path, typer.Option("--dir", help="Where the run's folder is made.")] = Path("runs"),
    seed: Annotated[int | None, typer.Option(help="Makes the devices; by default each run has others.")] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser (there is no page yet).")] = False,
) -> None:
    """Run simulated devices, the node and both receivers on loopback, and show what flows.

    Exit status is not 0 if anything was lost or rejected, or if no device came.
    """
    del no_open
    if report is not None and not report.parent.is_dir():
        fail(f"--report {report}: there is no folder {report.parent}")
        raise typer.Exit(USAGE)
    if report is not None and report.is_dir():
        fail(f"--report {report} is a folder; name a file")
        raise typer.Exit(USAGE)
    console = Console(markup=False, emoji=False)  # what devices and receivers say is shown as it is
    console.print(BANNER, style="bold")
    try:
        counted = asyncio.run(_run(Demo(new_folder(directory), seed=seed), for_, console))
    except DemoError as error:
        fail(error)
        raise typer.Exit(FAILED) from None
    _print_summary(console, counted)
    written = report is None or _write(report, counted)
    if not (counted.good and written):
        raise typer.Exit(FAILED)


async def _run(demo: Demo, seconds: float | None, console: Console) -> Counted:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    stop = asyncio.create_task(stopped.wait(), name="stop")
    try:
        flow = asyncio.create_task(_flow(demo, seconds, console), name="flow")
        await asyncio.wait({flow, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not flow.done():
            flow.cancel()
        await asyncio.gather(flow, return_exceptions=True)
        console.print("stopping: the node drains, then devices and receivers end")
    finally:
        stop.cancel()
        await demo.stop()
    if not flow.cancelled() and (error := flow.exception()) is not None:
        raise error
    return await asyncio.to_thread(demo.counted)


async def _flow(demo: Demo, seconds: float | None, console: Console) -> None:
    began = time.monotonic()
    await demo.start(lambda text: console.print(f"{time.monotonic() - began:5.1f} s  {text}", highlight=False))
    console.print(f"run folder: {demo.folder}", soft_wrap=True, highlight=False)
    for kind, folder in (("hl7", demo.hl7_folder), ("fhir", demo.fhir_folder)):
        console.print(f"  sdc-node receive {kind} --dir {folder} --list", soft_wrap=True, highlight=False)
    await demo.all_live()
    console.print(f"{time.monotonic() - began:5.1f} s  all devices are live")
    end = None if seconds is None else time.monotonic() + seconds
    shown = False
    with _display(console) as show:
        async for status in demo.watch():
            show(status)
            if not shown and (examples := await asyncio.to_thread(first_examples, demo)) is not None:
                shown = True
                for title, text in zip(("One PCD-01", "One Observation"), examples, strict=True):
                    console.print(f"\n{title}:", style="bold")
                    console.print(text, highlight=False, soft_wrap=True)
            if end is not None and time.monotonic() >= end:
                return


@contextlib.contextmanager
def _display(console: Console) -> Iterator[Callable[[Status], None]]:
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            yield lambda status: live.update(_table(status))
        return
    last = 0.0

    def show(status: Status) -> None:
        nonlocal last
        if time.monotonic() - last >= _PLAIN_EVERY:
            last = time.monotonic()
            print(_line(status), flush=True)

    yield show


def _line(status: Status) -> str:
    live = sum(device.state == "live" for device in status.devices)
    sent = {f"{one.destination} {one.lane}": f"{one.sent} sent, {one.waiting} waiting" for one in status.destinations}
    lanes = "; ".join(f"{lane}: {text}" for lane, text in sent.items())
    received = status.received
    return (
        f"{datetime.now(UTC):%H:%M:%S}  {live} live  {received.get('MetricUpdate', 0)} metrics  "
        f"{received.get('waveform_samples', 0)} samples  {received.get('AlertUpdate', 0)} alert updates  "
        f"{status.open_alerts} open alerts  {lanes}"
    )


def _table(status: Status) -> RenderableType:
    table = Table(title="what flows", title_justify="left", box=None, pad_edge=False)
    for column in ("", "", "", ""):
        table.add_column(column)
    for device in status.devices:
        name = f"{device.model or 'device'} {device.device.removeprefix('urn:uuid:')[:8]}"
        table.add_row("device", name, device.state, device.reason)
    received = status.received
    table.add_row(
        "in",
        f"{received.get('MetricUpdate', 0)} metric updates",
        f"{received.get('AlertUpdate', 0)} alert updates",
        f"{received.get('waveform_samples', 0)} waveform samples",
    )
    for one in status.destinations:
        table.add_row(
            "out",
            f"{one.destination} {one.lane}",
            f"{one.sent} acknowledged",
            f"{one.waiting} waiting  {one.last_error or ''}",
        )
    dropped = ", ".join(f"{number} {reason}" for reason, number in status.dropped.items() if number)
    table.add_row("alerts", f"{status.open_alerts} open", "dropped", dropped or "nothing")
    return table


def _write(report: Path, counted: Counted) -> bool:
    try:
        report.write_bytes(msgspec.json.format(msgspec.json.encode(counted)) + b"\n")
    except OSError as error:
        fail(f"--report {report} cannot be written: {error.strerror}")
        return False
    return True


def _print_summary(console: Console, counted: Counted) -> None:
    hl7, fhir = counted.hl7, counted.fhir
    console.print("\nSummary", style="bold")
    console.print(f"  devices           {counted.devices}")
    console.print(f"  metric updates    {counted.metric_updates}")
    console.print(f"  waveform samples  {counted.waveform_samples}")
    console.print(f"  alert updates     {counted.alert_updates}")
    console.print(f"  PCD-01            {hl7['pcd01_sent']} sent, {hl7['pcd01_acked']} acknowledged")
    console.print(f"  PCD-04            {hl7['pcd04_sent']} sent, {hl7['pcd04_acked']} acknowledged")
    console.print(
        f"  FHIR              {fhir['sent']} sent, {fhir['accepted']} accepted, {fhir['rejected']} rejected, "
        f"{fhir['observations']} Observations"
    )
    for reason, number in counted.dropped.items():
        console.print(f"  dropped           {number} {reason}")
    console.print(f"  lost              {counted.lost}", style="" if counted.good else "bold red")
    sys.stdout.flush()
