"""From file, environment and flags to one `Settings`: the later layer wins, and every problem is reported at once.

Reads the settings file and the shared token; writes nothing.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from . import lines
from .home import SHARED_TOKEN, FileText, config_path, default_home, open_to_others, read_shared_token, read_text
from .keys import KEYS, SECTIONS, Gateway, Key, Log, Settings, assemble
from .problems import Problem, SettingsError, UnfitValueError, described, did_you_mean

_BARE = re.compile(r"[A-Za-z0-9_-]+")


class Found(Struct, frozen=True):
    """A typed value, its source, and its line if that is a file."""

    value: Any
    source: str
    line: int | None = None


class Layer(Struct):
    """What one place says: good values by dotted name, problems, and warnings about what was ignored."""

    found: dict[str, Found] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def load(
    home: Path | None = None,
    *,
    env: Mapping[str, str],
    flags: Mapping[str, object],
    serving: bool = False,
) -> Settings:
    """Return the settings of a state folder (default: `default_home(env)`), with environment and flags applied.

    `flags` maps dotted names to raw values; None means not given. An empty variable counts as not set. With `serving`,
    settings that are fine one by one but cannot be served together are problems too. Raises SettingsError with all
    problems, KeyError for a flag of an unknown name.
    """
    folder = (home or default_home(env)).absolute()
    layers = [_file_layer(folder), _env_layer(env), _flag_layer(flags)]
    found: dict[str, Found] = {}
    for layer in layers:
        found |= layer.found
    problems = [problem for layer in layers for problem in layer.problems]
    problems += _generated(folder, found)
    if problems:
        raise SettingsError(problems)
    warnings = [warning for layer in layers for warning in layer.warnings]
    settings = _settings(folder, found, warnings)
    if serving and (clashes := conflicts(settings)):
        raise SettingsError(clashes)
    return settings


def load_file(path: Path) -> Settings:
    """Return the settings that one file alone would give, defaults beside it. Raises SettingsError; a missing file is one too."""
    file = read_text(path)
    if file is None:
        raise SettingsError([Problem("", f"there is no {path}")])
    layer = _file(file, path.absolute())
    if layer.problems:
        raise SettingsError(layer.problems)
    return _settings(path.absolute().parent, layer.found, layer.warnings)


def examine(text: str, path: Path) -> Layer:
    """Judge the text of a settings file at `path`: its good values, all of its problems, its warnings."""
    layer = Layer()
    try:
        document = tomllib.loads(text)
        leaves = list(_leaves(document, ()))
        located = lines.locate(text)
    except tomllib.TOMLDecodeError as error:
        layer.problems.append(_broken(error, text, path))
    except (RecursionError, ValueError):
        layer.problems.append(Problem("", "not usable TOML: nested too deeply, or a number too long", path.name))
    else:
        for key_path, raw in leaves:
            _judge_entry(layer, key_path, raw, path, located)
    return layer


def conflicts(settings: Settings) -> tuple[Problem, ...]:
    """Return what keeps these settings from being served, though each is fine by itself."""
    return tuple(Problem(name, f"{name} {text} ({settings.source(name)})") for name, text in _clashes(settings.gateway))


def _clashes(gateway: Gateway) -> Iterator[tuple[str, str]]:
    auth, tls = gateway.auth, gateway.tls
    if gateway.mode == "remote":
        yield "gateway.mode", 'is "remote": this host talks to a gateway, it runs none'
    if auth.mode == "password" and auth.password is None:
        yield "gateway.auth.mode", 'is "password", which needs gateway.auth.password'
    if auth.mode == "none" and not gateway.on_loopback:
        yield "gateway.auth.mode", 'is "none", which is accepted with gateway.bind "loopback" only'
    if tls.key and not tls.cert:
        yield "gateway.tls.cert", "is missing: gateway.tls.key needs it"
    if tls.cert and not tls.key:
        yield "gateway.tls.key", "is missing: gateway.tls.cert needs it"


def _file_layer(folder: Path) -> Layer:
    path = config_path(folder)
    try:
        file = read_text(path)
    except SettingsError as error:
        return Layer(problems=list(error.problems))
    return Layer() if file is None else _file(file, path)


def _file(file: FileText, path: Path) -> Layer:
    layer = examine(file.text, path)
    if file.mode & 0o022:
        layer.warnings.append(f"{path} can be changed by other users (mode {file.mode:04o})")
    secret = next((name for name in layer.found if KEYS[name].secret), None)
    if secret is not None and file.mode & 0o077:
        layer.problems.append(Problem(secret, open_to_others(path, file.mode), path.name, layer.found[secret].line))
    return layer


def _env_layer(env: Mapping[str, str]) -> Layer:
    layer = Layer()
    for key in KEYS.values():
        name = key.setting.env
        if name is not None and (text := env.get(name)):
            _judge_text(layer, key, text, name, f"env {name}")
    return layer


def _flag_layer(flags: Mapping[str, object]) -> Layer:
    layer = Layer()
    for name, raw in flags.items():
        key = KEYS[name]
        flag = key.setting.flag or f"--{name}"
        if isinstance(raw, str):
            _judge_text(layer, key, raw, flag, f"flag {flag}")
        elif raw is not None:
            listed = list(raw) if isinstance(raw, tuple) else raw
            _judge(layer, key, listed, f"flag {flag}", Path.cwd(), [Problem(name, "", flag)])
    return layer


def _judge_text(layer: Layer, key: Key, text: str, place: str, source: str) -> None:
    where = Problem(key.name, "", place)
    try:
        raw = key.setting.kind.from_text(text)
    except UnfitValueError as unfit:
        layer.problems.append(_problem(where, unfit.faults[0].text))
    else:
        _judge(layer, key, raw, source, Path.cwd(), [where])


def _judge_entry(layer: Layer, path: tuple[str, ...], raw: object, file: Path, located: dict[lines.Path, int]) -> None:
    name, line = _dotted(path), located.get(path)
    key = KEYS.get(name)
    if key is not None:
        elements = [located.get((*path, index), line) for index in range(len(raw) if isinstance(raw, list) else 0)]
        places = [Problem(name, "", file.name, at) for at in (line, *elements)]
        _judge(layer, key, raw, f"file {file}:{line}", file.parent, places)
    elif path in SECTIONS:
        text = f"{name} must be a table, not {described(raw)}"
        layer.problems.append(Problem(name, text, file.name, line))
    else:
        hint = did_you_mean(".".join(path), KEYS)
        layer.problems.append(Problem(name, f"unknown key {name}{hint}", file.name, line))


def _judge(layer: Layer, key: Key, raw: object, source: str, base: Path, places: list[Problem]) -> None:
    """Read one raw value; `places` says where it stands, and after that where each of its elements does."""
    try:
        value = key.setting.kind.read(raw)
    except UnfitValueError as unfit:
        for fault in unfit.faults:
            at = places[0 if fault.index is None or len(places) == 1 else fault.index + 1]
            problem = _problem(at, fault.text, "" if fault.index is None else f"[{fault.index}]")
            if fault.mild:
                layer.warnings.append(f"{problem}; ignored, because a limit is never off")
            else:
                layer.problems.append(problem)
    else:
        layer.found[key.name] = Found(base / value if isinstance(value, Path) else value, source, places[0].line)


def _problem(place: Problem, text: str, element: str = "") -> Problem:
    return Problem(place.key, f"{place.key}{element} {text}", place.place, place.line)


def _leaves(table: dict[str, Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield every path that is a setting, and every path that is none, with its raw value."""
    for name, raw in table.items():
        path = (*above, name)
        is_setting = _dotted(path) in KEYS
        if isinstance(raw, dict) and not is_setting and (raw or path in SECTIONS):
            yield from _leaves(raw, path)
        else:
            yield path, raw


def _dotted(path: tuple[str, ...]) -> str:
    # A part that TOML would have to quote is shown quoted: it is not the name that it looks like.
    return ".".join(part if _BARE.fullmatch(part) else json.dumps(part) for part in path)


def _broken(error: tomllib.TOMLDecodeError, text: str, path: Path) -> Problem:
    at = re.search(r" \(at line (\d+), column \d+\)$", str(error))
    line = int(at[1]) if at else text.count("\n") + 1
    what = re.sub(r" \(at .*\)$", "", str(error))
    return Problem("", f"not TOML: {what}", path.name, line)


def _generated(folder: Path, found: dict[str, Found]) -> tuple[Problem, ...]:
    """Fill in the generated token where no other is configured, and report it if it is not usable."""
    mode = found.get("gateway.mode")
    # The token of the gateway on this host is nothing that a gateway elsewhere should ever see.
    if "gateway.auth.token" in found or (mode is not None and mode.value == "remote"):
        return ()
    try:
        token = read_shared_token(folder)
    except SettingsError as error:
        return error.problems
    if token is not None:
        found["gateway.auth.token"] = Found(token, f"generated {folder / SHARED_TOKEN}")
    return ()


def _settings(folder: Path, found: dict[str, Found], warnings: list[str]) -> Settings:
    values = {name: item.value for name, item in found.items()}
    if "gateway.auth.mode" not in values and "gateway.auth.password" in values:
        values["gateway.auth.mode"] = "password"
    return Settings(
        gateway=assemble(Gateway, values, ("gateway",)),
        log=assemble(Log, values, ("log",)),
        home=folder,
        sources={name: found[name].source if name in found else "default" for name in KEYS},
        warnings=(*warnings, *_dangers(values)),
    )


def _dangers(values: Mapping[str, Any]) -> Iterator[str]:
    for name in ("gateway.nodes.pairing.autoApproveCidrs", "gateway.trustedProxies"):
        if any(network.prefixlen == 0 for network in values.get(name, ())):
            yield f"{name} holds every address there is"
    if "*" in values.get("gateway.controlUi.allowedOrigins", ()):
        yield "gateway.controlUi.allowedOrigins admits every page that a browser has open"
    for name, value in values.items():
        if ".dangerously" in name and value:
            yield f"{name} is on"
