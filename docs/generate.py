"""Write docs/reference/ from the code, or with --check tell which pages the code has left behind."""
# ruff: noqa: INP001 - a script, run as one; docs/ is no package

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mdib_models import nomenclature
from sdc_node.config import Config

REFERENCE: Final = Path(__file__).parent / "reference"
NOTE: Final = "<!-- Written by `make docs` from the code: change the code, not this page. -->"

_WORDS: Final[Mapping[Any, str]] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
}

PARTITIONS: Final = {
    1: "devices and their parts",
    2: "measurements",
    3: "events",
    4: "units",
    7: "body sites",
    8: "communication infrastructure",
    128: "personal health: disease management",
    258: "settings",
}


def nomenclature_page() -> str:
    """What the code table holds, how far to trust it, and the former names that it still understands."""
    terms = nomenclature.terms()
    kinds = Counter(term.kind for term in terms)
    partitions = Counter(term.partition for term in terms)
    flags = Counter(flag for term in terms for flag in _flags(term.source))
    aliases = {name: term.refid for term in terms for name in nomenclature.former_names(term)}
    lines = [
        "# Reference: the code table",
        "",
        NOTE,
        "",
        f"`mdib_models/nomenclature/terms.csv` holds {len(terms)} terms of IEEE 11073-10101 (MDC).",
        "How it is looked up, and what it is not: [concepts/nomenclature](../concepts/nomenclature.md).",
        "",
        *_table(("kind", "terms"), sorted(kinds.items())),
        "",
        *_table(
            ("partition", "meaning", "terms"),
            [(number, PARTITIONS[number], count) for number, count in sorted(partitions.items())],
        ),
        "",
        "Flags in the `source` column: terms that were not approved when their source was written.",
        "",
        *_table(("flag", "terms"), sorted(flags.items())),
        "",
        "Former and rival names that `by_refid` understands:",
        "",
        *_table(("name", "leads to"), sorted(aliases.items())),
    ]
    return "\n".join(lines) + "\n"


def cli_page(app: typer.Typer | None = None, name: str = "sdc-node") -> str:
    """Every command with its arguments, options and defaults, in the order in which the program lists them."""
    if app is None:
        from sdc_node.cli import application

        app = application
    lines = ["# Reference: the command line", "", NOTE]
    for path, command in _commands(typer.main.get_command(app), name):
        usage = " ".join([path, "[OPTIONS]", *_arguments(command)])
        lines += ["", f"## {path}", "", (command.help or "").strip(), "", f"    {usage}"]
        rows = [_parameter(each) for each in command.params if each.name != "help"]
        if rows:
            lines += ["", *_table(("argument or option", "default", "meaning"), rows)]
    return "\n".join(lines) + "\n"


def settings_page(model: type[BaseModel] = Config) -> str:
    """Every section and key of node.toml with its type, default and meaning."""
    lines = ["# Reference: node.toml", "", NOTE, "", "`sdc-node config check --config FILE` tells what is wrong."]
    for title, section in _sections(model, ()):
        rows = [
            (f"`{key}`", _type(field), _default(field), _cell(field.description))
            for key, field in section.model_fields.items()
            if _section_of(field) is None
        ]
        lines += ["", f"## {title}", "", *_table(("key", "type", "default", "meaning"), rows)]
    return "\n".join(lines) + "\n"


PAGES: Mapping[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "nomenclature.md": nomenclature_page,
    "settings.md": settings_page,
}


def stale() -> list[str]:
    """The pages that differ from what the code says now."""
    return [name for name, page in PAGES.items() if _current(REFERENCE / name) != page()]


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        left_behind = stale()
        for name in left_behind:
            sys.stderr.write(f"docs/reference/{name} is out of date: run make docs\n")
        return 1 if left_behind else 0
    if arguments:
        sys.stderr.write("usage: docs/generate.py [--check]\n")
        return 2
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")
    return 0


def _flags(source: str) -> Iterator[str]:
    for word in source.replace("[", " ").replace("]", " ").replace(";", " ").split():
        if word.startswith("status="):
            yield word.removeprefix("status=")


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The leaves of typer's command tree with their full names; Any, for typer carries its own copy of click."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        if not child.hidden:
            yield from _commands(child, f"{path} {name}")


def _sections(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[str, type[BaseModel]]]:
    for key, field in model.model_fields.items():
        section = _section_of(field)
        if section is not None:
            name = ".".join((*path, key))
            yield f"[[{name}]]" if get_origin(field.annotation) is tuple else f"[{name}]", section
            yield from _sections(section, (*path, key))


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model that a field holds: itself, optionally, or as a list of them; None for a plain value."""
    for each in (field.annotation, *get_args(field.annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def _type(field: FieldInfo) -> str:
    annotation = field.annotation
    members = [each for each in get_args(annotation) if each not in {type(None), Ellipsis}]
    if get_origin(annotation) is tuple:
        return f"list of {_WORDS.get(members[0], str(members[0]))}"
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{each}`" for each in members)
    return _WORDS.get(members[0] if members else annotation, str(annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    return "" if value in (None, (), "") else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _arguments(command: Any) -> Iterator[str]:
    for each in command.params:
        if each.param_type_name == "argument":
            name = each.name.upper() + ("..." if each.nargs == -1 else "")
            yield name if each.required else f"[{name}]"


def _parameter(parameter: Any) -> tuple[str, str, str]:
    option = parameter.param_type_name == "option"
    names = ", ".join(f"`{each}`" for each in parameter.opts) if option else f"`{parameter.name.upper()}`"
    default = parameter.default
    shown = "required" if parameter.required else "" if default is None or callable(default) else f"`{default}`"
    return names, shown, _cell(parameter.help)


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|").replace("\n", " ")


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    body = [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *body]


def _current(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
