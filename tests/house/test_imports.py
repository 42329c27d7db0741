"""The import contracts of pyproject.toml are kept, and each of them catches a violation planted for it."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("sdc_node", "consumers", "providers", "mdib_models")
LINT = Path(sys.executable).with_name("lint-imports")

CONTRACTS = {
    contract["id"]: contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}

PLANTS = {
    # contract: (file, an import that it must not have)
    "floor": [
        ("mdib_models/__init__.py", "import sdc_node"),
        ("mdib_models/coding.py", "import asyncio"),
        ("mdib_models/wire/__init__.py", "import sdc11073"),
    ],
    "consumer-wing": [
        ("consumers/__init__.py", "import providers"),
        ("consumers/__init__.py", "import sqlite3"),
        ("consumers/discovery/__init__.py", "import sdc_node"),
    ],
    "provider-wing": [
        ("providers/__init__.py", "import consumers"),
        ("providers/signals.py", "import fastapi"),
    ],
    "out-of-the-node": [
        ("sdc_node/sinks/base.py", "import consumers"),
        ("sdc_node/hl7/message.py", "import sdc11073"),
        ("sdc_node/pipeline.py", "import sdc_node.config"),
        ("sdc_node/sinks/hl7v2/client.py", "import sdc_node.node"),
    ],
    "hl7-pure": [
        ("sdc_node/hl7/mllp.py", "import socket"),
        ("sdc_node/hl7/message.py", "import sdc_node.outbox"),
    ],
    "render-pure": [
        ("sdc_node/sinks/hl7v2/render.py", "import time"),
        ("sdc_node/sinks/fhir/render.py", "import uuid"),
        ("sdc_node/sinks/fhir/render.py", "import sdc_node.state"),
        ("sdc_node/sinks/hl7v2/render.py", "import sdc_node.sinks.hl7v2.client"),
    ],
    "sinks-strangers": [
        ("sdc_node/sinks/hl7v2/client.py", "import sdc_node.sinks.fhir.client"),
        ("sdc_node/sinks/fhir/render.py", "import sdc_node.sinks.hl7v2.render"),
    ],
    "renderers-protected": [
        ("sdc_node/pipeline.py", "import sdc_node.sinks.fhir.render"),
        ("sdc_node/receivers/hl7.py", "import sdc_node.sinks.hl7v2.render"),
    ],
}


def lint(directory, *options):
    done = subprocess.run(
        [LINT, "--no-cache", *options],
        cwd=directory,
        env={**os.environ, "COLUMNS": "200", "PYTHONPATH": str(directory), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path):
    """The four packages and the contracts in a folder where they may be spoilt."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_all_contracts_are_kept():
    status, output = lint(ROOT)
    assert status == 0, output
    for name in CONTRACTS.values():
        assert f"{name} KEPT" in output


def test_every_contract_has_a_violation_planted_here():
    assert set(PLANTS) == set(CONTRACTS)


@pytest.mark.parametrize(
    ("contract", "file", "line"),
    [(contract, *plant) for contract, plants in PLANTS.items() for plant in plants],
)
def test_a_planted_violation_is_caught(copy, contract, file, line):
    spoilt = copy / file
    spoilt.write_text(f"{spoilt.read_text()}\n{line}\n")
    status, output = lint(copy, "--contract", contract)
    assert status == 1, output
    assert f"{CONTRACTS[contract]} BROKEN" in output
    assert file.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".") in output
