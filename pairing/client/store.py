"""A device's own files: its key and the tokens that gateways gave it, 0600 in `<home>/identity`.

Replaced in one step, never read as empty when they are unreadable (D1). Tokens are kept by gateway, so that none is ever
shown to another.
"""

import os
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct, field

from pairing.identity import Identity, b64url, unb64
from pairing.settings.home import editing, ensure_folder, open_to_others, read_text, write_private
from pairing.settings.problems import SettingsError
from pairing.settings.secret import Secret

from .credentials import DeviceToken
from .errors import StoreUnusable

IDENTITY = "identity.json"
TOKENS = "device-auth.json"
_SEED_BYTES = 32


class _IdentityFile(Struct, frozen=True, rename="camel"):
    version: int
    device_id: str
    public_key: str
    seed: str
    created_at_ms: int


class _TokenEntry(Struct, frozen=True, rename="camel"):
    token: str
    role: str
    scopes: tuple[str, ...]
    updated_at_ms: int


class _TokenFile(Struct, frozen=True, rename="camel"):
    version: int
    device_id: str
    gateways: dict[str, dict[str, _TokenEntry]] = field(default_factory=dict)


S = TypeVar("S", bound=Struct)


class Store:
    """The device of one state folder. Nothing is made before `make` or `keep`."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "identity"
        self.identity_path = self.folder / IDENTITY
        self.tokens_path = self.folder / TOKENS

    def load(self) -> Identity | None:
        """Return the device's key, or None where none was made. Raises `StoreUnusable`."""
        file = self._read(self.identity_path, _IdentityFile)
        if file is None:
            return None
        seed = unb64(file.seed)
        if seed is None or len(seed) != _SEED_BYTES or Identity(seed).device != file.device_id:
            raise StoreUnusable(f"{self.identity_path} does not hold the key of the device it names; put it back from its backup")
        return Identity(seed)

    def make(self, now: int) -> Identity:
        """Return the device's key, made at `now` (ms) where there was none; of several processes the first one's wins."""
        self._ensure()
        with editing(self.folder):
            found = self.load()
            if found is None:
                found = Identity(os.urandom(_SEED_BYTES))
                self._write(self.identity_path, _IdentityFile(1, found.device, found.key, b64url(found.seed), now))
        return found

    def token(self, device: str, gateway: str, role: str) -> DeviceToken | None:
        """Return the token that a gateway gave this device for a role. A file of another device counts for nothing."""
        entry = self._tokens(device).gateways.get(gateway, {}).get(role)
        if entry is None:
            return None
        try:
            return DeviceToken(role, entry.scopes, Secret(entry.token))
        except ValueError as error:
            raise StoreUnusable(f"{self.tokens_path}: the token for {gateway} is none: {error}") from None

    def stranger(self, device: str) -> str | None:
        """Return the id of the other device that the token file belongs to, or None where it is this one's."""
        file = self._read(self.tokens_path, _TokenFile)
        return file.device_id if file is not None and file.device_id != device else None

    def keep(self, device: str, gateway: str, token: DeviceToken, now: int) -> bool:
        """Store a token; say whether it is another than before. A token file of another device is moved aside, not lost."""
        self._ensure()
        with editing(self.folder):
            before = self.token(device, gateway, token.role)
            if before == token:
                return False
            if other := self.stranger(device):
                self.tokens_path.rename(self.folder / f"device-auth.{other[:12]}.json")
            entry = _TokenEntry(token.secret.reveal(), token.role, token.scopes, now)
            gateways = dict(self._tokens(device).gateways)
            gateways[gateway] = {**gateways.get(gateway, {}), token.role: entry}
            self._write(self.tokens_path, _TokenFile(1, device, gateways))
        return before is None or before.secret != token.secret

    def forget(self, device: str, gateway: str, dead: DeviceToken) -> None:
        """Drop a token that its gateway no longer knows, unless another has taken its place since."""
        if not self.tokens_path.exists():
            return
        with editing(self.folder):
            if self.token(device, gateway, dead.role) != dead:
                return
            gateways = dict(self._tokens(device).gateways)
            gateways[gateway] = {role: kept for role, kept in gateways[gateway].items() if role != dead.role}
            self._write(self.tokens_path, _TokenFile(1, device, gateways))

    def _tokens(self, device: str) -> _TokenFile:
        file = self._read(self.tokens_path, _TokenFile)
        return file if file is not None and file.device_id == device else _TokenFile(1, device)

    def _ensure(self) -> None:
        try:
            ensure_folder(self.folder.parent)
            ensure_folder(self.folder)
        except SettingsError as error:
            raise StoreUnusable(str(error)) from None

    def _read(self, path: Path, shape: type[S]) -> S | None:
        try:
            found = read_text(path)
        except SettingsError as error:
            raise StoreUnusable(str(error)) from None
        if found is None:
            return None
        if found.mode & 0o077:
            raise StoreUnusable(f"{path} {open_to_others(path, found.mode)}")
        try:
            return msgspec.json.decode(found.text, type=shape)
        except (msgspec.MsgspecError, RecursionError):
            raise StoreUnusable(f"{path} is not what this version writes; it was left as it is") from None

    def _write(self, path: Path, file: Struct) -> None:
        try:
            write_private(path, msgspec.json.format(msgspec.json.encode(file), indent=2).decode() + "\n")
        except OSError as error:
            raise StoreUnusable(f"{path} cannot be written: {error.strerror or error}") from None
