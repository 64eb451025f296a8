"""Where the gateway's keys live: one 0600 file beside the log, or the environment. Never in the log, a backup or an export.

An unreadable key file is never taken for a missing one, and a log that has been signed for is never given a new key unasked.
"""

import os
import stat
from pathlib import Path

from .identity import b64url, unb64
from .refusals import PairingError
from .tokens import KEY_BYTES, GatewayKey, Keyring

FILE = "gateway-key"
ENV = "PAIRING_GATEWAY_KEY"
_PREFIX = "pairing-gateway-key-v1:"


class KeyUnusable(PairingError):
    """The gateway key is missing, unreadable, open to others or not a key. Its text never shows it."""


def load(home: Path, env: str | None = None) -> Keyring | None:
    """Return the keys of a state folder, or None where it has none yet. Raises `KeyUnusable`.

    `env` is the value of PAIRING_GATEWAY_KEY: as many keys as lines, the present one first, like the file.
    """
    if env:
        return _parse(env, ENV)
    return read(home / FILE) if os.path.lexists(home / FILE) else None


def read(path: Path) -> Keyring:
    """Read a key file. Raises `KeyUnusable`, also where it is not there."""
    try:
        mode = path.stat().st_mode
        text = path.read_text("ascii")
    except (OSError, UnicodeError) as error:
        kind = error.__class__.__name__
        raise KeyUnusable(f"{path} cannot be read ({kind}). Give it back to this user: chmod 600 {path}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise KeyUnusable(f"{path} can be read by others. Close it: chmod 600 {path}")
    return _parse(text, str(path))


def create(home: Path) -> Keyring:
    """Make the key file, or return the one that another process made first. The folder must exist."""
    path = home / FILE
    # Not the process id: two containers on one volume have the same, and would write into each other's key.
    draft = home / f".{FILE}.{os.urandom(8).hex()}"
    line = f"{_PREFIX}{b64url(os.urandom(KEY_BYTES))}\n"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    keyring = load(home)
    if keyring is None:
        raise KeyUnusable(f"{path} vanished while it was made. Start again.")
    return keyring


def text(keyring: Keyring) -> str:
    """Return keys as their file holds them, one a line, the present one first. It is all secret."""
    return "".join(f"{_PREFIX}{b64url(key.secret)}\n" for key in (keyring.current, *keyring.older))


def _parse(text: str, where: str) -> Keyring:
    keys = [_key(line.strip(), number, where) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not keys:
        raise KeyUnusable(f"{where} is empty. Put the gateway's key back from its backup; without it every token is void.")
    return Keyring(keys[0], tuple(keys[1:]))


def _key(line: str, number: int, where: str) -> GatewayKey:
    raw = unb64(line.removeprefix(_PREFIX)) if line.startswith(_PREFIX) else None
    if raw is None or len(raw) != KEY_BYTES:
        raise KeyUnusable(f"{where}, line {number}, is not a gateway key. Put the file back from its backup.")
    return GatewayKey(raw)
