"""The command line called in this process as a shell would: arguments in; status, output and seconds out."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from sdc_node import pki
from sdc_node.cli import main
from tests.sdc_node.simulated import issue_expired, simulated

SHOW_8_SECONDS = 5.0


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `sdc-node pki init` makes: a CA, a node and three devices."""
    folder = tmp_path_factory.mktemp("cli") / "certs"
    names = {"node": "consumer", "monitor": "provider", "ventilator": "provider", "pump": "provider"}
    pki.init(folder, names, days=2)
    return folder


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same from another CA."""
    folder = tmp_path_factory.mktemp("cli") / "strangers"
    pki.init(folder, {"node": "consumer"}, days=2)
    return folder


@pytest.fixture(scope="session")
def expired(certs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the right CA, and too old."""
    return issue_expired(certs, tmp_path_factory.mktemp("cli") / "expired")


@pytest.fixture(scope="session")
def pump(certs: Path) -> Iterator[SimpleNamespace]:
    """A pump over mutual TLS."""
    with simulated("pump", "--certs", certs / "pump") as (device,):
        yield device


@pytest.fixture(scope="session")
def plain_pump() -> Iterator[SimpleNamespace]:
    """A pump that offers plain HTTP only."""
    with simulated("pump") as (device,):
        yield device


@pytest.fixture
def sdc_node(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Callable[..., SimpleNamespace]]:
    """Runs `sdc-node ARGUMENTS` in `tmp_path`; gives `status`, `out`, `err` and `seconds`."""
    level = logging.getLogger().level
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("SDC_NODE_CERTS", raising=False)

    def run(*arguments: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["sdc-node", *map(str, arguments)])
        capsys.readouterr()
        begin = time.monotonic()
        with pytest.raises(SystemExit) as ended:
            main()
        seconds = time.monotonic() - begin
        out, err = capsys.readouterr()
        return SimpleNamespace(status=ended.value.code or 0, out=out, err=err, seconds=seconds)

    yield run
    logging.getLogger().setLevel(level)
    for name in ("sdc", "aiohttp", "uvicorn", "asyncio"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def told(sdc_node: Callable[..., SimpleNamespace]) -> Callable[..., str]:
    """Runs a command that must fail as Show 8 asks: `status`, one `error:` line with `says`, no traceback, in time."""

    def told(*arguments: object, status: int = 1, says: str) -> str:
        ended = sdc_node(*arguments)
        assert ended.status == status, ended
        assert "Traceback" not in ended.out + ended.err
        assert ended.seconds < SHOW_8_SECONDS
        (line,) = [each for each in ended.err.splitlines() if each.startswith("error: ")]
        assert says in line, line
        return line

    return told
