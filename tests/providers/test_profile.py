import subprocess
import sys
from pathlib import Path

import pytest

from providers import profile
from providers.profile import PROFILES, ProfileError, load

MONITOR = profile.packaged_mdib("monitor")


@pytest.fixture
def mdib_file(tmp_path: Path) -> Path:
    path = tmp_path / "device.xml"
    path.write_bytes(MONITOR)
    return path


@pytest.mark.parametrize("name", PROFILES)
def test_a_packaged_profile_is_loaded_by_name(name: str):
    loaded = load(name)
    assert (loaded.name, loaded.passive) == (name, False)
    assert load(name) is loaded


def test_an_unknown_name_tells_which_there_are():
    with pytest.raises(ProfileError, match="unknown profile 'toaster': there are monitor, ventilator, pump"):
        load("toaster")


def test_a_file_gives_a_passive_profile(mdib_file: Path):
    loaded = load(str(mdib_file))
    assert (loaded.name, loaded.passive, loaded.reactions) == ("device", True, {})
    assert "ac.spo2.lo" in loaded.conditions()


def test_a_bare_mdib_is_as_good_as_a_response(mdib_file: Path):
    text = MONITOR.decode()
    start, end = text.index("<msg:Mdib "), text.index("</msg:GetMdibResponse>")
    head = text[text.index("<msg:GetMdibResponse") + len("<msg:GetMdibResponse") : start]
    namespaces = " ".join(part for part in head.split() if part.startswith("xmlns"))
    bare = text[start:end].replace("<msg:Mdib ", f"<msg:Mdib {namespaces} ", 1)
    mdib_file.write_text(bare, encoding="utf-8")
    assert load(mdib_file).conditions() == load("monitor").conditions()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b'Priority="Hi"', b'Priority="Huge"', "line 27: breaks the BICEPS schema"),
        (b'Handle="ac.hr.hi"', b'Handle="ac.hr.lo"', "handle 'ac.hr.lo' is taken by line 27"),
        (b"<pm:MdDescription>", b"<pm:MdDescription", "is not XML"),
        (b"msg:GetMdibResponse", b"msg:GetMdDescription", "not a GetMdibResponse"),
        (b'<?xml version="1.0" encoding="UTF-8"?>', b'<!DOCTYPE x [<!ENTITY a "b">]>', "document type"),
    ],
)
def test_an_unsound_file_is_refused_with_file_line_and_rule(mdib_file: Path, old: bytes, new: bytes, says: str):
    assert old in MONITOR
    mdib_file.write_bytes(MONITOR.replace(old, new))
    with pytest.raises(ProfileError) as raised:
        load(mdib_file)
    assert str(raised.value).startswith(str(mdib_file))
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_sdc11073_cannot_read_is_refused(mdib_file: Path):
    """In a process of its own: the consumer wing teaches the library to read such durations, where it is loaded."""
    mdib_file.write_bytes(MONITOR.replace(b'SelfCheckPeriod="PT5S"', b'SelfCheckPeriod="P1D"'))
    script = "import sys; from providers.profile import load; load(sys.argv[1])"
    ended = subprocess.run([sys.executable, "-c", script, str(mdib_file)], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert f"ProfileError: {mdib_file}" in ended.stderr
    assert "sdc11073 cannot serve this MDIB" in ended.stderr


def test_an_mdib_without_an_mds_is_refused(mdib_file: Path):
    start, end = MONITOR.index(b"<pm:Mds "), MONITOR.index(b"</pm:Mds>") + len(b"</pm:Mds>")
    mdib_file.write_bytes(MONITOR[:start] + MONITOR[end:])
    with pytest.raises(ProfileError, match="holds no MDS"):
        load(mdib_file)


def test_a_file_that_cannot_be_read_or_is_too_large(tmp_path: Path, mdib_file: Path, monkeypatch):
    with pytest.raises(ProfileError, match=r"missing\.xml: cannot be read: No such file"):
        load(tmp_path / "missing.xml")
    with pytest.raises(ProfileError, match="cannot be read: Is a directory"):
        load(str(tmp_path))
    monkeypatch.setattr(profile, "MAX_MDIB_BYTES", 10)
    with pytest.raises(ProfileError, match="larger than 10 bytes"):
        load(mdib_file)
