"""The documentation is held to the code: pages written from it are current, names in it exist, links lead somewhere."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from pydantic import BaseModel, Field

from sdc_node import config

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
PAGES += sorted(DOCS.rglob("*.md"))
PACKAGES = ("sdc_node", "consumers", "providers", "mdib_models")
NO_VARIABLES = {"SDC_NODE_DEMO"}  # the demo's sending application, MSH-3


def identity(page):
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reference_pages_say_what_the_code_says(generate):
    assert generate.stale() == []


def test_the_check_tells_a_stale_page_by_its_name(generate, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(generate, "REFERENCE", tmp_path)
    assert generate.main(["--check"]) == 1
    assert "docs/reference/nomenclature.md is out of date: run make docs" in capsys.readouterr().err
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    assert generate.main(["--wrong"]) == 2


def test_the_generator_runs_as_make_docs_runs_it():
    done = subprocess.run([sys.executable, "-P", DOCS / "generate.py", "--check"], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 0


def test_a_command_line_becomes_a_page(generate):
    app, group = typer.Typer(), typer.Typer()
    app.add_typer(group, name="pki")

    @group.command()
    def init(
        directory: Annotated[str, typer.Argument(help="Where to.")],
        days: Annotated[int, typer.Option(help="How long.")] = 365,
    ):
        """Make certificates."""

    @app.command()
    def run(config: Annotated[str, typer.Option("--config", "-c", help="This | that.")]):
        """Run the node."""

    @app.command(hidden=True)
    def secret(): ...

    page = generate.cli_page(app)
    assert "## sdc-node pki init\n\nMake certificates.\n\n    sdc-node pki init [OPTIONS] DIRECTORY\n" in page
    assert "| `DIRECTORY` | required | Where to. |" in page
    assert "| `--days` | `365` | How long. |" in page
    assert r"| `--config`, `-c` | required | This \| that. |" in page
    assert "secret" not in page


def test_settings_become_a_page(generate):
    class Destination(BaseModel):
        host: str = Field(description="this | that")
        kind: Literal["a", "b"] = Field(default="a", description="which")

    class Log(BaseModel):
        path: Path | None = Field(default=None, description="where")
        parts: tuple[str, ...] = Field(default=(), description="what")
        on: bool = Field(default=True, description="whether")

    class Config(BaseModel):
        destination: tuple[Destination, ...] = ()
        log: Log | None = None

    page = generate.settings_page(Config)
    assert "## [[destination]]\n" in page
    assert "## [log]\n" in page
    assert r"| `host` | text | required | this \| that |" in page
    assert "| `kind` | `a`, `b` | `a` | which |" in page
    assert "| `path` | path |  | where |" in page
    assert "| `parts` | list of text |  | what |" in page
    assert "| `on` | true or false | `true` | whether |" in page


def test_every_setting_is_documented(generate):
    page = (DOCS / "reference" / "settings.md").read_text()
    for title, section in generate._sections(config.Config, ()):
        assert f"## {title}\n" in page
        for key, field in section.model_fields.items():
            assert field.description or generate._section_of(field), f"{title} {key} has no description"


def test_every_sink_is_documented():
    page = (DOCS / "reference" / "sinks.md").read_text()
    folder = ROOT / "sdc_node" / "sinks"
    sinks = {path.stem for path in folder.iterdir() if not path.name.startswith(("_", "base."))}
    assert set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == sinks


def test_every_profile_is_documented():
    page = (DOCS / "reference" / "profiles.md").read_text()
    profiles = {path.stem for path in (ROOT / "providers" / "profiles").glob("*.xml")}
    assert set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == profiles


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        assert re.match(r"https?://|mailto:", target) or (page.parent / target).exists(), f"{target} is not there"


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_make_words_are_chores(page):
    chores = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^ {4})make ([a-z]+)", page.read_text(), re.MULTILINE)) <= chores


def test_every_environment_variable_is_documented():
    page = (DOCS / "reference" / "environment.md").read_text()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for name in set(re.findall(r"\bSDC_NODE_[A-Z]+\b", file.read_text())) - NO_VARIABLES:
                assert f"`{name}`" in page, f"{name} of {file.relative_to(ROOT)} is not documented"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_no_page_names_a_path_of_somebodys_machine(page):
    assert not re.search(r"(?<![\w.])/(?:home|Users|work|root)/", page.read_text())


def test_constraints_hold_versions_only():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line), line
