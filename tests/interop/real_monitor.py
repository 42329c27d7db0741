"""Serve the MDIB of a real device by plain sdc11073, over TLS and over allowed plain HTTP, and count what arrives.

    python tests/interop/real_monitor.py ../shared/mdibs/monitor_70041.xml

Prints "n of n" for each way and exits with 1 where anything is missing. Not collected by pytest: the file is not ours.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.interop.bridge import Bridge, Device, eligible

SECONDS = 60.0


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("mdib", type=Path)
    mdib = parser.parse_args().mdib
    devices = [Device("tls", mdib), Device("plain", mdib, tls=False), Device("refused", mdib, tls=False, allowed=False)]
    ways = ("tls", "plain")
    with tempfile.TemporaryDirectory() as folder, Bridge(Path(folder), devices) as bridge:
        numbers = {handle for handle, metric in eligible(mdib).items() if metric.kind != "ST"}
        bridge.wait(lambda: all(came == of for came, of in map(bridge.bridged, ways)), SECONDS)
        bridge.wait(lambda: all(bridge.observed(way) >= numbers for way in ways), SECONDS / 2)
        missing = 0
        for way in ways:
            came, of = bridge.bridged(way)
            seen = len(bridge.observed(way) & numbers)
            foreign = {row.handle for row in bridge.shown(way)} - set(eligible(mdib))
            tell(f"{way}: {came} of {of} eligible metrics in PCD-01, {seen} of {len(numbers)} in FHIR")
            tell(f"  not eligible, and yet in PCD-01: {len(foreign)}")
            for text, found in (
                ("PID", {message.pid for message in bridge.pcd01(way)}),
                ("OBX-18 of the MDS", {message.equipment for message in bridge.pcd01(way)}),
            ):
                tell(f"  {text}: {', '.join(sorted(found))}")
            missing += (of - came) + (len(numbers) - seen) + len(foreign)
        refused = bridge.status()["devices"].get(bridge.epr("refused"), {})
        tell(f"not allowed: {refused.get('state')}, {refused.get('reason')}")
        tell(f"tracebacks in the node's log: {bridge.log().count('Traceback')}")
        return int(missing > 0 or refused.get("state") != "lost" or "Traceback" in bridge.log())


if __name__ == "__main__":
    sys.exit(main())
