"""A device of one's own: its files, its key, and the login that stands for it. The way in for whoever writes a device."""

import socket
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pairing.settings.secret import Secret

from .credentials import Credentials
from .handshake import here
from .session import Login
from .store import Store

# Ids and modes of protocol §2.2: the roles differ in what a gateway lets be silent.
_CLIENTS = {"operator": ("cli", "cli"), "node": ("node-host", "node")}


def as_device(
    home: Path,
    *,
    role: str = "node",
    scopes: tuple[str, ...] = (),
    name: str | None = None,
    token: str | None = None,
    password: str | None = None,
    pin: str | None = None,
) -> Login:
    """Return the login of the device whose files are in the folder `home`, made at the first call.

    `name` is what it calls itself, this host's name unless given; `token` and `password` are the gateway's shared secret, needed
    once at most: afterwards the device has a token of its own. `pin` is the fingerprint of the gateway's certificate. Raises
    `StoreUnusable`, and ValueError for a secret that is none or a role that a client cannot have.
    """
    if role not in _CLIENTS:
        raise ValueError(f"a role is {' or '.join(_CLIENTS)}, not {role!r}")
    store = Store(home)
    identity = store.load() or store.make(time.time_ns() // 1_000_000)
    client_id, mode = _CLIENTS[role]
    return Login(
        client=here(client_id, mode, version=_version(), name=name or socket.gethostname() or None),
        credentials=Credentials(Secret(token) if token else None, Secret(password) if password else None),
        identity=identity,
        store=store,
        role=role,
        scopes=scopes,
        exact=bool(scopes),
        pin=pin,
    )


def _version() -> str:
    try:
        return version("pairing-gateway")
    except PackageNotFoundError:
        return "0"
