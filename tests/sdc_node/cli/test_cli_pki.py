"""`sdc-node pki init`."""

import json

import pytest

from sdc_node.security import load


def test_it_makes_a_folder_for_each_participant(sdc_node, tmp_path):
    ended = sdc_node("pki", "init", "certs")
    assert ended.status == 0
    names = [line.split()[:3] for line in ended.out.splitlines()]
    assert names == [
        ["name", "role", "folder"],
        ["node", "consumer", "certs/node"],
        ["monitor", "provider", "certs/monitor"],
        ["ventilator", "provider", "certs/ventilator"],
        ["pump", "provider", "certs/pump"],
    ]
    for name in ("node", "monitor", "ventilator", "pump"):
        assert load(tmp_path / "certs" / name)


def test_names_hosts_and_json(sdc_node, tmp_path):
    ended = sdc_node(
        "pki", "init", "c", "--node", "n", "--device", "a", "--device", "b", "--host", "10.1.2.3", "--json"
    )
    assert json.loads(ended.out) == [
        {"name": "n", "role": "consumer", "folder": "c/n"},
        {"name": "a", "role": "provider", "folder": "c/a"},
        {"name": "b", "role": "provider", "folder": "c/b"},
    ]
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["a", "b", "ca", "n"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("full",), "full is there already, and not an empty folder: nothing is overwritten"),
        (("c", "--days", 0), "days must be 1 to 3650, not 0"),
        (("c", "--node", "a", "--device", "a"), "a: a node and a device of the same name; each needs its own"),
        (("c", "--device", "node"), "node: a node and a device of the same name"),
        (("c", "--device", "../x"), "cannot be a participant's name"),
        (("c", "--host", "a b"), "'a b' is neither a host name nor an IP address"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(told, tmp_path, arguments, says):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    told("pki", "init", *arguments, says=says)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]
