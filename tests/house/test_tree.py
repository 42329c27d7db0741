"""The tree of tests mirrors the tree of code, so that whoever reads one finds the other."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
PACKAGES = ("sdc_node", "consumers", "providers", "mdib_models")
ROOMS_OF_THEIR_OWN = {"house", "end_to_end", "interop", "data", "soak"}


def strays(root):
    """Each test file or folder under a package's tests that has no counterpart in the code, with the reason."""
    found = []
    for package in PACKAGES:
        for path in sorted((root / "tests" / package).rglob("*")):
            code = root / path.relative_to(root / "tests")
            if path.is_dir():
                if path.name not in {"data", "__pycache__"} and not code.is_dir() and any(path.rglob("test_*.py")):
                    found.append(f"{path.relative_to(root)}: there is no folder {code.relative_to(root)}")
            elif path.name.startswith("test_") and path.suffix == ".py" and not names_code(path, code.parent):
                found.append(f"{path.relative_to(root)}: names no module of {code.parent.relative_to(root)}")
    return found


def names_code(test, folder):
    """``test_a.py`` is about ``a.py`` or ``a/`` or the folder ``a`` it lies in; so is ``test_a_under_load.py``."""
    subject = test.stem.removeprefix("test_")
    modules = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    return any(subject == name or subject.startswith(f"{name}_") for name in {*modules, folder.name})


def test_tests_mirror_the_code():
    assert strays(ROOT) == []


def test_every_folder_of_code_has_tests():
    for package in PACKAGES:
        for marker in sorted((ROOT / package).rglob("__init__.py")):
            folder = marker.parent
            modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
            if modules:
                tests = TESTS / folder.relative_to(ROOT)
                beside = tests.parent.glob(f"test_{folder.name}*.py")
                assert any(tests.glob("test_*.py")) or any(beside), f"no tests for {folder.relative_to(ROOT)}/"


def test_no_test_folder_is_a_package():
    assert [path.relative_to(ROOT) for path in TESTS.rglob("__init__.py")] == []


def test_only_known_rooms_stand_beside_the_packages():
    rooms = {path.name for path in TESTS.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= {*PACKAGES, *ROOMS_OF_THEIR_OWN}


@pytest.mark.parametrize(
    ("test", "stray"),
    [
        ("sdc_node/test_outbox.py", False),
        ("sdc_node/test_outbox_under_kills.py", False),
        ("sdc_node/sinks/test_sinks.py", False),
        ("sdc_node/test_sinks.py", False),
        ("sdc_node/test_nothing.py", True),
        ("sdc_node/test_outboxes.py", True),
        ("sdc_node/nowhere/test_nowhere.py", True),
    ],
)
def test_a_stray_is_told_from_a_counterpart(tmp_path, test, stray):
    for file in ("sdc_node/__init__.py", "sdc_node/outbox.py", "sdc_node/sinks/__init__.py", f"tests/{test}"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("")
    assert bool(strays(tmp_path)) is stray
