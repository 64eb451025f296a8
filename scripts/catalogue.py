"""Writes docs/events.md, docs/methods.md and docs/refusals.md from the code that owns them. With --check it only compares."""

import sys
import types
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec import inspect as shape

from pairing import methods
from pairing.events import AnyEvent, Meta, Personal
from pairing.refusals import SAYINGS, Exit, Reason
from pairing.service import AnyParams
from pairing.shapes import NoParams

DOCS = Path(__file__).resolve().parent.parent / "docs"


def first_line(owner: Any) -> str:
    """Return the docstring of a class or function as one paragraph."""
    return " ".join(((owner.__doc__ or "").strip().split("\n\n")[0]).split())


def type_name(kind: shape.Type) -> str:
    """Return a JSON-minded name of a field's type."""
    match kind:
        case shape.StrType():
            return "text"
        case shape.IntType():
            return "integer"
        case shape.BoolType():
            return "true/false"
        case shape.NoneType():
            return "null"
        case shape.LiteralType(values=values):
            return " or ".join(f"`{value}`" for value in values)
        case shape.VarTupleType(item_type=item) | shape.ListType(item_type=item):
            return f"list of {type_name(item)}"
        case shape.DictType(key_type=key, value_type=value):
            return f"map of {type_name(key)} to {type_name(value)}"
        case shape.UnionType(types=options):
            return " or ".join(type_name(option) for option in options)
        case shape.StructType(cls=cls):
            return f"{cls.__name__}"
        case _:
            return "any"


def fields(cls: type[msgspec.Struct], *, skip: tuple[str, ...] = ()) -> list[str]:
    """Return one table row for each field of a Struct."""
    info = shape.type_info(cls)
    assert isinstance(info, shape.StructType)
    rows = [f"| `{f.encode_name}` | {type_name(f.type)} | {'' if f.required else 'optional'} |" for f in info.fields]
    return [row for row, f in zip(rows, info.fields, strict=True) if f.name not in skip]


def events() -> str:
    """Return the event catalogue."""
    lines = [
        "# Events",
        "",
        "Everything that ever happened is one of these, in `log.db`, one row each, in the order of `position`. The bytes are",
        "JSON and never rewritten: a kind gains fields with defaults, anything else is a new kind. No event holds a secret.",
        "",
        "Every body has `kind` and `at` (ms since the epoch, the time of the command). Beside it stand `meta` (who and how) and,",
        "for kinds marked *personal*, what points at a person, which alone can be erased.",
        "",
    ]
    for event in get_args(AnyEvent):
        tag = event.__struct_config__.tag
        lines += [f"## `{tag}`{' (personal)' if event.PERSONAL else ''}", "", first_line(event), ""]
        rows = fields(event, skip=("at",))
        lines += ["| field | type | |", "| --- | --- | --- |", *rows, ""] if rows else []
    for title, cls in (("Meta", Meta), ("Personal", Personal)):
        lines += [f"## {title}", "", first_line(cls), "", "| field | type | |", "| --- | --- | --- |", *fields(cls), ""]
    return "\n".join(lines)


def method_table() -> str:
    """Return the table of methods."""
    lines = [
        "# Methods",
        "",
        "What a session may call over the WebSocket, and the command line on the log itself. The scope is the one the session",
        "must hold to call at all; what it may grant or end is judged besides, on the state at commit.",
        "",
    ]
    for method in methods.METHODS.values():
        run: types.FunctionType = method.run  # type: ignore[assignment]
        needs = f"scope `{method.scope}`" if method.scope else "no scope"
        lines += [f"## `{method.name}`", "", f"{first_line(run)} Roles: {', '.join(method.roles)}; {needs}.", ""]
        rows = [] if method.params in {AnyParams, NoParams} else fields(method.params)
        lines += ["| parameter | type | |", "| --- | --- | --- |", *rows, ""] if rows else []
    return "\n".join(lines)


def refusals() -> str:
    """Return every refusal with what it says."""
    lines = [
        "# Refusals and exit codes",
        "",
        "Every way in which the answer is no. `code` and `details.code` are the wire's, the exit code is the command line's.",
        "",
        "| reason | code | details.code | message | exit |",
        "| --- | --- | --- | --- | --- |",
    ]
    for reason in Reason:
        saying = SAYINGS[reason]
        lines.append(f"| `{reason.value}` | {saying.code} | {saying.detail or '-'} | {saying.message} | {saying.exit} |")
    lines += ["", "## Exit codes", "", "| code | meaning |", "| --- | --- |"]
    meanings = {
        "OK": "done, or nothing had to be done",
        "FAILED": "nothing was done: a preview, or a failure of no other kind",
        "USAGE": "the command was not understood",
        "REFUSED": "refused, or waiting for approval; also settings that are wrong",
        "NOT_FOUND": "no such device, request, key or log",
        "AMBIGUOUS": "the name means several devices; nothing was changed",
        "UNREACHABLE": "no gateway answered in time",
        "BROKEN": "something is broken: the log, a file, the program",
    }
    lines += [f"| {getattr(Exit, name)} | {meaning} |" for name, meaning in meanings.items()]
    return "\n".join([*lines, ""])


PAGES = {"events.md": events, "methods.md": method_table, "refusals.md": refusals}


def stale() -> list[str]:
    """Return the pages that do not say what the code says."""
    return [name for name, page in PAGES.items() if not (DOCS / name).exists() or (DOCS / name).read_text() != page()]


def main() -> int:
    """Write the pages, or with --check name those that are stale."""
    if "--check" in sys.argv:
        found = stale()
        print("\n".join(f"stale: docs/{name}; run scripts/catalogue.py" for name in found) or "catalogue is current")
        return bool(found)
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
