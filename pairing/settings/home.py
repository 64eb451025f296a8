"""The state folder: where it is, who may look into it, and the shared token made at first start.

Creates what is missing; never replaces what is there, and never takes unreadable for empty (D1).
"""

import contextlib
import os
import secrets
import shlex
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from .problems import Problem, SettingsError
from .secret import Secret

CONFIG = "config.toml"
SHARED_TOKEN = "shared-token"  # noqa: S105  the name of the file

_OWN = frozenset({CONFIG, SHARED_TOKEN, "log.db", "gateway-key"})


class FileText(Struct, frozen=True):
    """The text of a file and its permission bits."""

    text: str
    mode: int


def default_home(env: Mapping[str, str]) -> Path:
    """Return the state folder: `PAIRING_HOME`, else `~/.pairing`; absolute. Raises SettingsError without a home folder."""
    try:
        chosen = env.get("PAIRING_HOME")
        folder = Path(chosen).expanduser() if chosen else Path(env.get("HOME") or Path.home()) / ".pairing"
    except RuntimeError:
        raise _unusable("the home folder is unknown; set PAIRING_HOME to a folder for the state") from None
    return folder.absolute()


def config_path(home: Path) -> Path:
    """Return where the settings file of a state folder is, whether or not it exists."""
    return home / CONFIG


def ensure_home(home: Path) -> None:
    """Make the state folder (0700) and in it the random shared token (0600), unless they are there already.

    Any number of processes may do this at once: all end with the same token. A folder that others can enter is
    closed to them if it is empty or plainly ours. Raises SettingsError for everything else.
    """
    ensure_folder(home)
    token = home / SHARED_TOKEN
    if not os.path.lexists(token):
        _create_once(token, secrets.token_urlsafe(32) + "\n")
    read_shared_token(home)


def ensure_folder(home: Path) -> None:
    """Make the state folder, 0700; raises SettingsError when it is not usable or not safe."""
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            home.mkdir(mode=0o700)
        entries = set(os.listdir(home))
        if home.stat().st_mode & 0o077:
            _close(home, entries)
    except OSError as error:
        raise _unusable(f"the state folder {home} cannot be used: {_reason(error)}") from None


def _close(home: Path, entries: set[str]) -> None:
    # A mistaken PAIRING_HOME (/tmp, a home folder) must not lock its other users out.
    if entries and not entries & _OWN:
        command = f"chmod 700 {shlex.quote(str(home))}"
        raise _unusable(
            f"{home} is open to other users and holds files of others; set PAIRING_HOME to a folder of its own, or run: {command}"
        )
    home.chmod(0o700)


def read_shared_token(home: Path) -> Secret | None:
    """Return the generated shared token, or None where none was made; raises SettingsError if it is not usable."""
    path = home / SHARED_TOKEN
    found = read_text(path)
    if found is None:
        return None
    if found.mode & 0o077:
        raise _unusable(open_to_others(path, found.mode), path)
    try:
        return Secret(found.text)
    except ValueError as error:
        raise _unusable(f"{path} does not hold a token: {error}; put it back, or delete the file", path) from None


def open_to_others(path: Path, mode: int) -> str:
    """Say that a file with a secret has permission bits for others, and the command that takes them away."""
    return f"holds a secret and is open to other users (mode {mode:04o}); run: chmod 600 {shlex.quote(str(path))}"


def read_text(path: Path) -> FileText | None:
    """Read a regular UTF-8 file, or return None where there is none; anything in between raises SettingsError (D1)."""
    try:
        octets, mode = _read(path)
    except FileNotFoundError:
        if not os.path.lexists(path):
            return None
        raise _unusable(f"{path} is a link to nothing", path) from None
    except OSError as error:
        raise _unusable(f"{path} cannot be read: {_reason(error)}", path) from None
    try:
        return FileText(octets.decode("utf-8-sig"), mode)
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise SettingsError([Problem("", "not UTF-8 text", path.name, line)]) from None


def _read(path: Path) -> tuple[bytes, int]:
    # Without O_NONBLOCK a pipe in the file's place would hold the start up for ever.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise OSError("it is a special file")
        return file.read(), stat.S_IMODE(mode)


@contextlib.contextmanager
def editing(home: Path) -> Iterator[None]:
    """Make one process at a time read, change and write the settings file of an existing state folder."""
    import fcntl

    descriptor = os.open(home, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, 0600, durable when this returns; a link stays and its target is replaced."""
    target = Path(os.path.realpath(path))
    draft = _draft(target, text)
    try:
        os.replace(draft, target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _create_once(path: Path, text: str) -> None:
    # A link appears with its whole content or not at all, and the first of several processes wins.
    try:
        draft = _draft(path, text)
        try:
            os.link(draft, path)
        finally:
            draft.unlink()
        _sync_folder(path.parent)
    except FileExistsError:
        return
    except OSError as error:
        raise _unusable(f"{path} cannot be made: {_reason(error)}", path) from None


def _draft(path: Path, text: str) -> Path:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return draft


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _unusable(text: str, path: Path | None = None) -> SettingsError:
    return SettingsError([Problem("", text, "" if path is None else path.name)])
