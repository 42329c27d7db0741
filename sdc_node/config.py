"""node.toml: strict settings, told in full when they are wrong, with overrides from the environment.

`SDC_NODE__SECTION__KEY=value` overrides a key of a section that is no list; the value is TOML, or else a text.
"""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sdc_node.sinks.console import ConsoleSettings
from sdc_node.sinks.fhir.settings import FhirSettings
from sdc_node.sinks.hl7v2.settings import Hl7Settings
from sdc_node.sinks.jsonl import JsonlSettings

_PREFIX = "SDC_NODE__"
_Port = Annotated[int, Field(ge=0, le=65_535)]


class ConfigError(Exception):
    """The configuration cannot be used: one line for each thing that is wrong, naming file and key."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NodeSettings(_Section):
    """`[node]`."""

    directory: Path = Field(description="folder for state and outbox; made 0700 if missing, used by one node at a time")
    certs: Path | None = Field(
        default=None,
        description="folder with userkey.pem, usercert.pem, cacert.pem for SDC; SDC_NODE_CERTS or --certs go first",
    )
    port: _Port = Field(default=8075, description="port of /health, /ready, /metrics and /status on 127.0.0.1; 0: any")
    require_time_sync: bool = Field(
        default=True, description="not ready until this host's clock is known to be synchronised (SDPi R1540)"
    )
    max_clock_error: float = Field(default=0.5, gt=0, description="seconds of clock error above which it is not")
    drain: float = Field(default=5.0, ge=0, le=300, description="seconds to go on delivering when stopped")
    lane_capacity: int = Field(default=2_000, ge=10, le=1_000_000, description="batches that may wait for one sink")
    outbox_megabytes: int = Field(
        default=512, ge=1, description="bytes that may wait for one destination before its oldest bulk is dropped"
    )
    ledger: bool = Field(
        default=False, description="write each owed id to ledger.txt in the directory (for tests and the demo)"
    )
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="what is logged")


class StaticDevice(_Section):
    """One of `[[consumer.device]]`: a device that discovery does not find."""

    address: str = Field(pattern=r"^https?://[^\s/]+", description="the device's XAddr, as https://host:port/path")
    epr: str | None = Field(default=None, description="its EPR, if known; else the device is asked")


class ConsumerSettings(_Section):
    """`[consumer]`."""

    interface: str = Field(default="127.0.0.1", description="IPv4 address of the interface to the devices")
    discover: bool = Field(default=True, description="find devices by WS-Discovery multicast")
    device: tuple[StaticDevice, ...] = Field(default=(), description="devices to follow without discovery")
    only: tuple[str, ...] = Field(default=(), description="EPRs to follow; empty: every provider that is found")
    allow_plaintext: tuple[str, ...] = Field(
        default=(), description="EPRs of devices that may be followed over plain HTTP; all others need TLS"
    )
    expires: int = Field(default=60, ge=10, le=3_600, description="subscription time to ask for, in seconds")
    connects: int = Field(default=4, ge=1, le=64, description="devices that are connected to at the same time")
    max_devices: int = Field(default=100, ge=1, le=1_000, description="devices to follow; more are refused and counted")
    deadline: float = Field(
        default=4.0, gt=0, le=60, description="seconds a device's report may be held before the session goes stale"
    )

    @field_validator("interface")
    @classmethod
    def _is_address(cls, interface: str) -> str:
        try:
            ipaddress.IPv4Address(interface)
        except ValueError:
            raise ValueError("must be the IPv4 address of an interface, as 10.0.0.5, not its name") from None
        return interface

    @model_validator(mode="before")
    @classmethod
    def _tuples(cls, data: Any) -> Any:
        return _lists_to_tuples(data)


class Config(_Section):
    """All of node.toml."""

    node: NodeSettings
    consumer: ConsumerSettings = Field(default_factory=ConsumerSettings)
    hl7: tuple[Hl7Settings, ...] = Field(default=(), description="HL7 v2 destinations")
    fhir: tuple[FhirSettings, ...] = Field(default=(), description="FHIR destinations")
    jsonl: JsonlSettings | None = Field(default=None, description="the recorded log; absent: none")
    console: ConsoleSettings | None = Field(default=None, description="lines on standard output; absent: none")

    @model_validator(mode="before")
    @classmethod
    def _tuples(cls, data: Any) -> Any:
        return _lists_to_tuples(data)

    @model_validator(mode="after")
    def _names_differ(self) -> "Config":
        names = [destination.name for destination in self.hl7] + [destination.name for destination in self.fhir]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"destinations must have different names: {', '.join(twice)}")
        return self


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Read, override, check. Relative paths in the file are relative to its folder. Raises ConfigError."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; `sdc-node config sample` prints one to begin with") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    overridden = _override(data, environ)
    try:
        config = Config.model_validate(_with_paths(data, path.parent))
    except ValidationError as error:
        lines = [f"{overridden.get(detail['loc'][:2], path)}: {_line(detail)}" for detail in error.errors()]
        raise ConfigError("\n".join(lines)) from None
    return config


_SHAPES = {
    "model_type": "must be a section",
    "tuple_type": "must be a list; sections of a list have double brackets, as [[hl7]]",
    "is_instance_of": "must be a path, as text",
}
"""What pydantic tells in Python's words."""


def _line(detail: Any) -> str:
    """One pydantic error as `key: what is wrong`, never quoting a value that could be a secret."""
    key = ""
    for step in detail["loc"]:
        key += f"[{step}]" if isinstance(step, int) else f".{step}" if key else str(step)
    kind = detail["type"]
    if kind == "extra_forbidden":
        return f"{key}: unknown key; known here: {', '.join(_known(detail['loc'][:-1]))}"
    if kind == "missing":
        return f"{key}: missing"
    message = _SHAPES.get(kind) or detail["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message


def _known(path: tuple[Any, ...]) -> list[str]:
    sections: dict[tuple[str, ...], type[BaseModel]] = {
        (): Config,
        ("node",): NodeSettings,
        ("consumer",): ConsumerSettings,
        ("consumer", "device"): StaticDevice,
        ("hl7",): Hl7Settings,
        ("fhir",): FhirSettings,
        ("jsonl",): JsonlSettings,
        ("console",): ConsoleSettings,
    }
    model = sections.get(tuple(step for step in path if isinstance(step, str)))
    return sorted(model.model_fields) if model is not None else []


def _override(data: dict[str, Any], environ: Mapping[str, str]) -> dict[tuple[int | str, ...], str]:
    """Put the variables in; gives back which of them each key came from."""
    came: dict[tuple[int | str, ...], str] = {}
    for name, text in sorted(environ.items()):
        if not name.startswith(_PREFIX):
            continue
        section, _, key = name.removeprefix(_PREFIX).lower().partition("__")
        if not key or not isinstance(data.get(section, {}), dict):
            raise ConfigError(f"environment {name}: names no key of a section; use {_PREFIX}SECTION__KEY")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        data.setdefault(section, {})[key] = value
        came[section, key] = f"environment {name}"
    return came


_PATHS = {("node", "directory"), ("node", "certs"), ("hl7", "certs"), ("fhir", "certs"), ("jsonl", "path")}


def _with_paths(data: dict[str, Any], base: Path) -> dict[str, Any]:
    """Texts that are paths become paths, relative ones under the file's folder."""
    for section, key in _PATHS:
        holders = data.get(section)
        for holder in holders if isinstance(holders, list) else [holders]:
            if isinstance(holder, dict) and isinstance(holder.get(key), str):
                holder[key] = base / holder[key]
    return data


def _lists_to_tuples(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}


SAMPLE = """\
# node.toml - `sdc-node config check --config node.toml` tells whether it is right.
# Every key is described in docs/reference/settings.md. Relative paths are relative to this file.

[node]
directory = "node"              # state and outbox; one node at a time
certs = "certs/node"            # userkey.pem, usercert.pem, cacert.pem (`sdc-node pki init certs`)
port = 8075                     # /health, /ready, /metrics on 127.0.0.1
require_time_sync = true        # not ready until the clock is known to be good (SDPi R1540)

[consumer]
interface = "127.0.0.1"         # the address of the interface to the devices
discover = true                 # WS-Discovery; where multicast is blocked, list devices instead:
# [[consumer.device]]
# address = "https://10.0.0.5:6464/device"

[[hl7]]
name = "hl7"
host = "127.0.0.1"
port = 2575
interval = 30.0                 # seconds between PCD-01 messages of one MDS
application = "SDC_NODE"
eui64 = "0000000000000000"      # your gateway's EUI-64

[[fhir]]
name = "fhir"
base_url = "http://127.0.0.1:8080"
interval = 60.0                 # seconds between Observations of one metric

# [jsonl]
# path = "reports.jsonl"        # every report as it came; holds patient data

# [console]
# values = false
"""
