"""node.toml: what is wrong is told with file and key, and no value is ever quoted."""

import os
import tomllib
from pathlib import Path

import pytest

from sdc_node import config
from sdc_node.config import SAMPLE, Config, ConfigError, load
from sdc_node.sinks.console import ConsoleSettings
from sdc_node.sinks.fhir.settings import FhirSettings
from sdc_node.sinks.hl7v2.settings import Hl7Settings
from sdc_node.sinks.jsonl import JsonlSettings

NODE = '[node]\ndirectory = "node"\n'


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "node.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def told(write):
    """The lines that a text's errors are told in; each begins with the file."""

    def told(text, environ=None):
        path = write(text)
        with pytest.raises(ConfigError) as caught:
            load(path, environ or {})
        lines = str(caught.value).splitlines()
        assert all(line.startswith((f"{path}: ", "environment ")) for line in lines)
        return [line.removeprefix(f"{path}: ") for line in lines]

    return told


def test_the_sample_is_right(write):
    loaded = load(write(SAMPLE), {})
    assert loaded.node.require_time_sync
    assert [one.name for one in loaded.hl7] + [one.name for one in loaded.fhir] == ["hl7", "fhir"]
    assert loaded.jsonl is None
    assert loaded.console is None


def test_the_sample_covers_every_section_and_is_right_without_its_hashes(write):
    lines = [line.removeprefix("# ") if line.startswith(("# [", "# path", "# values", "# address")) else line
             for line in SAMPLE.splitlines()]  # fmt: skip
    text = "\n".join(lines)
    assert set(tomllib.loads(text)) == set(Config.model_fields)
    loaded = load(write(text), {})
    assert loaded.consumer.device[0].address == "https://10.0.0.5:6464/device"
    assert loaded.jsonl == JsonlSettings(path=write(text).parent / "reports.jsonl")
    assert loaded.console == ConsoleSettings(values=False)


def test_what_the_sample_shows_are_the_defaults(write):
    """A reader of the sample who leaves a line out gets what it says."""
    loaded = load(write(SAMPLE), {})
    assert loaded.node == config.NodeSettings(directory=loaded.node.directory, certs=loaded.node.certs)
    assert loaded.consumer == config.ConsumerSettings()
    assert loaded.hl7 == (Hl7Settings(host="127.0.0.1", port=2575),)
    assert loaded.fhir == (FhirSettings(base_url="http://127.0.0.1:8080"),)


def test_relative_paths_are_relative_to_the_file(write, tmp_path):
    loaded = load(
        write(
            '[node]\ndirectory = "d"\ncerts = "../c"\n[jsonl]\npath = "log/r.jsonl"\n'
            '[[hl7]]\nhost = "h"\nport = 1\ncerts = "hc"\n[[fhir]]\nbase_url = "http://h"\ncerts = "/fc"\n'
        ),
        {},
    )
    assert loaded.node.directory == tmp_path / "d"
    assert loaded.node.certs == tmp_path / "../c"
    assert loaded.jsonl.path == tmp_path / "log/r.jsonl"
    assert loaded.hl7[0].certs == tmp_path / "hc"
    assert loaded.fhir[0].certs == Path("/fc")


@pytest.mark.parametrize(
    ("text", "key", "known"),
    [
        (NODE + "prot = 1\n", "node.prot", set(config.NodeSettings.model_fields)),
        (NODE + "[consumer]\nx = 1\n", "consumer.x", set(config.ConsumerSettings.model_fields)),
        (
            NODE + '[[consumer.device]]\naddress = "https://h/p"\nport = 1\n',
            "consumer.device[0].port",
            {"address", "epr"},
        ),
        (NODE + '[[hl7]]\nhost = "h"\nport = 1\nnmae = "x"\n', "hl7[0].nmae", set(Hl7Settings.model_fields)),
        (NODE + '[[fhir]]\nbase_url = "http://h"\nurl = "x"\n', "fhir[0].url", set(FhirSettings.model_fields)),
        (NODE + '[jsonl]\npath = "p"\nkeeep = 1\n', "jsonl.keeep", set(JsonlSettings.model_fields)),
        (NODE + "[console]\nvalue = true\n", "console.value", set(ConsoleSettings.model_fields)),
        (NODE + "[hl8]\n", "hl8", set(Config.model_fields)),
    ],
)
def test_bad_input_an_unknown_key_is_told_with_the_known_ones(told, text, key, known):
    (line,) = told(text)
    assert line == f"{key}: unknown key; known here: {', '.join(sorted(known))}"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "node: missing"),
        ("[node]\n", "node.directory: missing"),
        ('node = "x"\n', "node: must be a section"),
        (NODE + 'port = "8075"\n', "node.port: Input should be a valid integer"),
        (NODE + "port = 65536\n", "node.port: Input should be less than or equal to 65535"),
        (NODE + 'require_time_sync = "yes"\n', "node.require_time_sync: Input should be a valid boolean"),
        (NODE + "certs = 1\n", "node.certs: must be a path, as text"),
        (NODE + "log_level = 1\n", "node.log_level: Input should be a valid string"),
        (NODE + "[[hl7]]\nport = 1\n", "hl7[0].host: missing"),
        (NODE + "[hl7]\nport = 1\n", "hl7: must be a list; sections of a list have double brackets, as [[hl7]]"),
        (NODE + '[[fhir]]\nbase_url = "ftp://h"\n', "fhir[0].base_url: String should match pattern"),
        (NODE + '[[consumer.device]]\naddress = "10.0.0.5"\n', "consumer.device[0].address: String should match"),
        (NODE + "[consumer]\nonly = [1]\n", "consumer.only[0]: Input should be a valid string"),
    ],
)
def test_bad_input_a_wrong_or_missing_value_is_told_with_its_key(told, text, line):
    (said,) = told(text)
    assert said.startswith(line)


def test_everything_wrong_is_told_at_once(told):
    lines = told('[node]\nport = -1\nfoo = 2\n[[hl7]]\nhost = ""\n')
    assert [line.partition(":")[0] for line in lines] == [
        "node.directory",
        "node.port",
        "node.foo",
        "hl7[0].host",
        "hl7[0].port",
    ]


@pytest.mark.parametrize("text", ["[node\n", NODE + "port = \n", NODE + NODE])
def test_bad_input_no_toml_is_told_with_its_line(told, text):
    (line,) = told(text)
    assert "(at line " in line


def test_bad_input_a_file_that_is_not_there_or_no_text(told, tmp_path):
    assert told(b"\xff\xfe") == ["not UTF-8 text"]
    with pytest.raises(ConfigError, match=r"none\.toml: No such file or directory; `sdc-node config sample`"):
        load(tmp_path / "none.toml", {})
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path, {})


def test_destinations_of_one_name_are_told(told):
    two = '[[hl7]]\nhost = "h"\nport = 1\nname = "a"\n[[fhir]]\nbase_url = "http://h"\nname = "a"\n'
    assert told(NODE + two) == ["destinations must have different names: a"]


def test_no_value_is_quoted(told):
    """A value may be a secret, or a patient's."""
    text = '[node]\ndirectory = "n"\nlog_level = "hunter2"\nport = "hunter2"\ncerts = 2222\n'
    text += '[[hl7]]\nhost = "h"\nport = 1\neui64 = "hunter2"\nname = "HUNTER2 hunter2"\n'
    said = "\n".join(told(text, {"SDC_NODE__NODE__DRAIN": "hunter2"}))
    assert "node.log_level" in said
    assert "node.drain" in said
    assert "hl7[0].eui64" in said
    assert "hunter2" not in said.lower()
    assert "2222" not in said


def test_the_environment_overrides(write):
    environ = {
        "SDC_NODE__NODE__PORT": "9",
        "SDC_NODE__NODE__DIRECTORY": "other",
        "SDC_NODE__NODE__REQUIRE_TIME_SYNC": "false",
        "SDC_NODE__CONSUMER__ONLY": '["urn:uuid:1"]',
        "SDC_NODE__CONSOLE__VALUES": "true",
        "SDC_NODE_CERTS": "not ours",
        "PATH": "/bin",
    }
    path = write(NODE + "port = 8\n")
    loaded = load(path, environ)
    assert (loaded.node.port, loaded.node.directory) == (9, path.parent / "other")
    assert not loaded.node.require_time_sync
    assert loaded.consumer.only == ("urn:uuid:1",)
    assert loaded.console == ConsoleSettings(values=True)


def test_the_process_environment_is_the_default(write, monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ)  # the very mapping that `load` was defined with
    monkeypatch.setenv("SDC_NODE__NODE__PORT", "17")
    assert load(write(NODE)).node.port == 17


@pytest.mark.parametrize("name", ["SDC_NODE__NODE", "SDC_NODE__", "SDC_NODE__HL7__PORT", "SDC_NODE__FHIR__NAME"])
def test_an_override_that_names_no_key_of_a_section_is_told(told, name):
    text = NODE + '[[hl7]]\nhost = "h"\nport = 1\n[[fhir]]\nbase_url = "http://h"\n'
    assert told(text, {name: "1"}) == [f"environment {name}: names no key of a section; use SDC_NODE__SECTION__KEY"]


def test_an_override_is_checked_like_the_file(told):
    name = "SDC_NODE__NODE__PORT"
    assert told(NODE, {name: "many"}) == [f"environment {name}: node.port: Input should be a valid integer"]
    (line,) = told(NODE, {"SDC_NODE__NODE__PROT": "1"})
    assert line.startswith("environment SDC_NODE__NODE__PROT: node.prot: unknown key; known here: certs, ")
