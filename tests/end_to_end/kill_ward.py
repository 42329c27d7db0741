"""A ward in a process of its own, for tests that kill it or what follows it.

Prints one JSON line when its imports are done, waits for a line on standard input, starts, and prints one JSON line
with its devices. Ends, without a word to anybody, when standard input does, so that no test leaves it behind; a device
that should be missed is killed.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")  # sdc11073 warns of its own modules; standard error is for what goes wrong

from providers import scenario  # noqa: E402
from providers.provider import TlsContexts  # noqa: E402
from providers.ward import Ward  # noqa: E402
from sdc_node.security import load  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--profiles", nargs="+", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--certs", type=Path, required=True)
    parser.add_argument("--subscription", type=int, required=True)
    parser.add_argument("--scenario", type=Path)
    options = parser.parse_args()
    say({"imported": True})
    if not sys.stdin.readline():
        return
    ward = Ward(
        options.profiles,
        seed=options.seed,
        tls=lambda: contexts(options.certs),
        scenario=scenario.read(options.scenario) if options.scenario else None,
        subscription_seconds=options.subscription,
    )
    with ward:
        say([{"epr": one.epr, "sequence": ward.device(one.epr).sequence_id} for one in ward.devices])
        sys.stdin.read()


def contexts(folder: Path) -> TlsContexts:
    loaded = load(folder)
    return TlsContexts(client_context=loaded.client, server_context=loaded.server)


def say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
