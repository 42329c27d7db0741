"""What a simulated device is: its MDIB, the signals behind its metrics and how events act on it."""

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import msgspec
from lxml import etree
from sdc11073.definitions_sdc import SdcV1Definitions
from sdc11073.mdib import ProviderMdib
from sdc11073.schema_resolver import mk_schema_validator

from providers.signals import Influences, Signal

PROFILES: Final = ("monitor", "ventilator", "pump")
"""The devices that come with the package."""

MAX_MDIB_BYTES: Final = 16 * 1024 * 1024

_HELPER: Final = SdcV1Definitions.data_model.ns_helper
_MSG: Final = _HELPER.MSG.namespace
_PM: Final = _HELPER.PM.namespace


class ProfileError(ValueError):
    """A profile that cannot be had; the text is one line that says why."""


ReadingFunction = Callable[[float, int, Influences], float | str | None]
"""A pure function of (time, seed, influences): a number, a text, or None where nothing can be determined."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A metric that is determined every ``every`` seconds.

    A number is rounded to the descriptor's Resolution; None leaves the metric without a value and with Validity
    ``Inv``.
    """

    handle: str
    value: ReadingFunction
    every: float = 1.0


class Waveform(msgspec.Struct, frozen=True, kw_only=True):
    """A real-time sample array; its samples are invalid while the influence ``lost_by`` is active."""

    handle: str
    sample: Signal
    lost_by: str | None = None


class Reaction(msgspec.Struct, frozen=True, kw_only=True):
    """What an event does: it begins (or ends) an influence; the alert condition, if one is named, is present
    as long as the influence is active. Limit conditions need no reaction, they follow their metric.
    """

    influence: str
    begins: bool
    condition: str | None = None


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of device. A passive one (from an MDIB file) has no readings, waveforms or reactions."""

    name: str
    title: str
    mdib: bytes
    readings: tuple[Reading, ...] = ()
    waveforms: tuple[Waveform, ...] = ()
    reactions: Mapping[str, Reaction] = {}

    @property
    def passive(self) -> bool:
        """Whether it only serves its MDIB."""
        return not self.readings

    def conditions(self) -> tuple[str, ...]:
        """The handles of the alert conditions that the MDIB describes."""
        found = etree.fromstring(self.mdib).iterfind(f".//{{{_PM}}}AlertCondition")
        return tuple(condition.get("Handle", "") for condition in found)


def episode(influence: str, begin: str, end: str, condition: str | None = None) -> dict[str, Reaction]:
    """The pair of events that begins and ends an influence."""
    return {
        begin: Reaction(influence=influence, begins=True, condition=condition),
        end: Reaction(influence=influence, begins=False, condition=condition),
    }


def packaged_mdib(name: str) -> bytes:
    """The MDIB file that comes with a packaged profile."""
    return files("providers.profiles").joinpath(f"{name}.xml").read_bytes()


def load(name_or_path: str | Path) -> Profile:
    """The packaged profile of this name, or a passive one for the MDIB file at this path.

    The file is a GetMdibResponse or a msg:Mdib. ProfileError for an unknown name, and for a file that cannot be
    read, is not XML, breaks the BICEPS schema, repeats a handle or holds no MDS.
    """
    if str(name_or_path) in PROFILES:
        return _packaged(str(name_or_path))
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and not path.suffix and not path.exists():
        raise ProfileError(f"unknown profile {name_or_path!r}: there are {', '.join(PROFILES)}, or give an MDIB file")
    mdib = check_mdib(_read(path), str(path))
    read_library_mdib(mdib, str(path))
    return Profile(name=path.stem, title=path.stem, mdib=mdib)


def check_mdib(content: bytes, source: str) -> bytes:
    """The MDIB as a GetMdibResponse; ProfileError, naming ``source`` and the line, if it is not a sound one."""
    root = _parse(content, source)
    if root.tag == f"{{{_MSG}}}Mdib":
        root = _as_response(root)
    if root.tag != f"{{{_MSG}}}GetMdibResponse":
        raise ProfileError(f"{source}: the root is {root.tag}, not a GetMdibResponse or msg:Mdib")
    schema = _schema()
    if not schema.validate(root):
        log: Any = schema.error_log
        raise ProfileError(f"{source}, line {log[0].line}: breaks the BICEPS schema: {log[0].message}")
    if root.find(f".//{{{_PM}}}Mds") is None:
        raise ProfileError(f"{source}: holds no MDS")
    _check_handles(root, source)
    return etree.tostring(root)


def read_library_mdib(mdib: bytes, source: str) -> Any:
    """The MDIB as sdc11073's ProviderMdib, with a new SequenceId.

    ProfileError if it cannot serve what the schema allows (its duration parser, for one, knows only ``PT...``).
    """
    try:
        return ProviderMdib.from_string(mdib)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ProfileError(f"{source}: sdc11073 cannot serve this MDIB: {reason}") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_MDIB_BYTES + 1)
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) > MAX_MDIB_BYTES:
        raise ProfileError(f"{path}: larger than {MAX_MDIB_BYTES} bytes")
    return content


def _parse(content: bytes, source: str) -> etree._Element:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise ProfileError(f"{source}, line {error.lineno}: is not XML: {error.msg}") from error
    tree: Any = root.getroottree()
    if tree.docinfo.doctype:
        raise ProfileError(f"{source}: has a document type declaration, which an MDIB must not")
    return root


def _as_response(mdib: etree._Element) -> etree._Element:
    response = etree.Element(f"{{{_MSG}}}GetMdibResponse", nsmap={"msg": _MSG})
    for name in ("MdibVersion", "SequenceId", "InstanceId"):
        if name in mdib.attrib:
            response.set(name, mdib.attrib[name])
    response.append(mdib)
    return response


def _check_handles(root: etree._Element, source: str) -> None:
    seen: dict[str, Any] = {}
    for element in root.iterfind(f".//{{{_PM}}}MdDescription//*[@Handle]"):
        handle = element.get("Handle", "")
        if handle in seen:
            raise ProfileError(
                f"{source}, line {element.sourceline}: handle {handle!r} is taken by line {seen[handle]}"
            )
        seen[handle] = element.sourceline


@cache
def _schema() -> etree.XMLSchema:
    return mk_schema_validator([entry.value for entry in _HELPER.prefix_enum], _HELPER)


@cache
def _packaged(name: str) -> Profile:
    module = importlib.import_module(f"providers.profiles.{name}")
    profile: Profile = module.PROFILE
    check_mdib(profile.mdib, f"{name}.xml")
    return profile
