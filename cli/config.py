"""`pairing config`: show and change the settings of this state folder.

Talks to files only, never to a gateway; a secret is shown by its fingerprint unless `--reveal` asks for it.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import json_option
from .voice import Failure, Told, tell

if TYPE_CHECKING:
    from pairing.settings import Key, Settings


@click.group("config", invoke_without_command=True)
@click.pass_context
def config(context: click.Context) -> None:
    """Show and change the settings.

    Keys are dotted names like gateway.port. Exit codes: 0 done, 2 usage, 3 refused, 4 no such key.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@config.command("get")
@click.argument("key")
@click.option("--reveal", is_flag=True, help="Print a secret itself instead of its fingerprint.")
@json_option
def get_(key: str, reveal: bool, as_json: bool) -> None:
    """Print the value of KEY that holds here, file, environment and defaults taken together."""
    tell(_get(key, reveal), as_json)


@config.command("set")
@click.argument("key")
@click.argument("value")
@click.option("--json-value", is_flag=True, help="Read VALUE as JSON: numbers, true, false, lists.")
@json_option
def set_(key: str, value: str, json_value: bool, as_json: bool) -> None:
    """Set KEY to VALUE in the settings file, keeping its comments.

    VALUE "-" is read from standard input, or asked for on a terminal; a secret is taken in no other way. A list is written
    with commas.
    """
    tell(_set(key, value, json_value), as_json)


@config.command("unset")
@click.argument("key")
@json_option
def unset(key: str, as_json: bool) -> None:
    """Take KEY out of the settings file, so that its default holds."""
    tell(_unset(key), as_json)


@config.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Print every key with its value and where that came from."""
    tell(_list(), as_json)


@config.command("path")
@json_option
def path(as_json: bool) -> None:
    """Print where the settings file is, or would be."""
    tell(_path(), as_json)


def _get(name: str, reveal: bool) -> Told:
    key, settings = _known(name), _settings()
    row = _row(settings, key, reveal)
    if settings.value(key.name) is None:
        return Told({**row}, notes=(f"{name} is not set",))
    hidden = key.secret and not reveal
    return Told({**row}, f"{_cell(row)}, {row['source']}" if hidden else _cell(row))


def _list() -> Told:
    from pairing.settings import KEYS

    settings = _settings()
    rows = [_row(settings, key, reveal=False) for key in KEYS.values()]
    document = {"home": str(settings.home), "settings": rows, "warnings": list(settings.warnings)}
    cells = [(str(row["key"]), _cell(row) or "(not set)", str(row["source"])) for row in rows]
    widths = [min(max(len(line[column]) for line in cells), most) for column, most in ((0, 80), (1, 40))]
    text = "\n".join(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {source}" for key, value, source in cells)
    return Told(document, text, settings.warnings)


def _path() -> Told:
    path = str(_file())
    return Told({"path": path}, path)


def _set(name: str, value: str, json_value: bool) -> Told:
    from pairing.settings.edit import with_value

    key = _known(name)
    if key.secret and value != "-":
        hint = f"pairing config set {name} -   reads it from standard input, or asks for it"
        raise _refused("secret-in-argument", f"{name} is a secret: other users of this host can read arguments.", hint)
    raw = _raw(key, _typed_in(key) if value == "-" else value, json_value)
    changed = _edit(lambda text: with_value(text, key.path, raw))
    said = "Set" if changed else "Already set"
    shown = "" if key.secret else f" = {_text(raw)}"
    return Told(
        {"key": name, "path": str(_file()), "changed": changed},
        f"{said}: {name}{shown}   ({_file()})",
        _remarks(key) if changed else (),
    )


def _unset(name: str) -> Told:
    from pairing.settings import KEYS
    from pairing.settings.edit import without

    try:
        changed = _edit(lambda text: without(text, tuple(name.split("."))))
    except KeyError:
        _known(name)
        return Told(
            {"key": name, "path": str(_file()), "changed": False},
            f"Nothing to do: {name} is not in {_file()}",
        )
    remarks = _remarks(KEYS[name]) if name in KEYS else ()
    return Told({"key": name, "path": str(_file()), "changed": changed}, f"Unset: {name}   ({_file()})", remarks)


def _known(name: str) -> "Key":
    from pairing.refusals import Exit
    from pairing.settings import KEYS
    from pairing.settings.problems import did_you_mean

    if name in KEYS:
        return KEYS[name]
    message = f"There is no setting {name}{did_you_mean(name, KEYS)}"
    raise Failure(Exit.NOT_FOUND, "unknown-key", message, "pairing config list   names every key")


def _settings() -> "Settings":
    from pairing.settings import load

    return load(env=os.environ, flags={})


def _file() -> Path:
    from pairing.settings import config_path, default_home

    return config_path(default_home(os.environ))


def _raw(key: "Key", text: str, json_value: bool) -> object:
    """Return the value to write, having made sure that it fits its key."""
    from pairing.settings.problems import UnfitValueError

    kind = key.setting.kind
    try:
        raw = json.loads(text) if json_value else kind.from_text(text)
        value = kind.read(raw)
    except UnfitValueError as unfit:
        message = "\n".join(f"{key.name} {fault.text}" for fault in unfit.faults)
        raise _refused("unfit-value", message, f"{key.name} is {kind.expects}") from None
    except (ValueError, RecursionError):
        raise _refused("unfit-value", f"{key.name}: the value is not JSON", "texts need quotes: '\"lan\"'") from None
    if key.secret:
        return value.reveal()
    # The file is read from its own folder, whichever folder this command is run in.
    return str(Path.cwd() / value) if isinstance(value, Path) else raw


def _typed_in(key: "Key") -> str:
    if sys.stdin.isatty():
        return str(click.prompt(key.name, hide_input=key.secret, confirmation_prompt=key.secret, err=True))
    try:
        return sys.stdin.read()
    except UnicodeDecodeError:
        raise _refused("unfit-value", f"{key.name}: standard input is not text", "write the value as UTF-8") from None


def _edit(change: Callable[[str], str]) -> bool:
    """Apply a change to the text of the settings file under its lock; say whether anything became different."""
    from pairing.settings.home import editing, ensure_folder, read_text, write_private
    from pairing.settings.load import examine

    path = _file()
    if not os.path.lexists(path):
        # A change that cannot be made to an empty file must not leave a folder behind.
        change("")
    ensure_folder(path.parent)
    with editing(path.parent):
        file = read_text(path)
        before = "" if file is None else file.text
        broken = [problem for problem in examine(before, path).problems if not problem.key]
        if broken:
            raise _refused("broken-file", "\n".join(map(str, broken)), f"edit {path} by hand; it was left as it is")
        after = change(before)
        if after != before or (file is not None and file.mode & 0o077):
            write_private(path, after)
    return after != before


def _remarks(key: "Key") -> tuple[str, ...]:
    """Say what keeps a change from having its effect."""
    from pairing.settings import SettingsError, conflicts

    remarks = []
    variable = key.setting.env
    if variable and os.environ.get(variable):
        remarks.append(f"{variable} in the environment still overrides {key.name}")
    try:
        remarks += [f"not ready to serve: {problem}" for problem in conflicts(_settings())]
    except SettingsError as error:
        remarks += [f"still wrong: {problem}" for problem in error.problems]
    return (*remarks, "A running gateway takes it up at its next start.")


def _row(settings: "Settings", key: "Key", reveal: bool) -> dict[str, object]:
    from pairing.settings.kinds import plain

    value, source = settings.value(key.name), settings.source(key.name)
    if not key.secret:
        return {"key": key.name, "value": plain(value), "source": source}
    fingerprint = None if value is None else value.fingerprint()
    row = {"key": key.name, "secret": True, "fingerprint": fingerprint, "source": source}
    return row | ({"value": None if value is None else value.reveal()} if reveal else {})


def _cell(row: dict[str, Any]) -> str:
    if "value" in row:
        return _text(row["value"])
    return f"fingerprint {row['fingerprint']}" if row["fingerprint"] else ""


def _text(value: object) -> str:
    """Return a plain value as `config set` takes it."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list():
            return ",".join(str(item) for item in value)
        case _:
            return str(value)


def _refused(reason: str, message: str, hint: str) -> Failure:
    from pairing.refusals import Exit

    return Failure(Exit.REFUSED, reason, message, hint)
