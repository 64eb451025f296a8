"""The composition root: which log, which views, which keys. Nothing else chooses implementations.

`open_service` is the local door's way in; `serve` adds a gateway on top. It never makes a state folder or a log by itself.
"""

import os
import platform
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pairing import keyring as keys
from pairing.authority import OPERATOR_SCOPES
from pairing.certificate import CertificateUnreadable, expires_at
from pairing.commands import Caller
from pairing.custody import Custody
from pairing.desk import Desk
from pairing.events import Actor
from pairing.following import Following
from pairing.log.sqlite import SqliteLog
from pairing.machine import Machine, descriptors_left, disk_left
from pairing.notary import Notary
from pairing.reach import Reach
from pairing.refusals import PairingError
from pairing.service import Nobody, Service, Sessions
from pairing.settings import KEYS, Settings, config_path, policy_digest
from pairing.settings.kinds import plain
from pairing.tokens import Keyring
from projections.activity import Activity
from projections.follow import Progress
from projections.merkle import MerkleTree
from projections.outbox import FileOutbox
from projections.views import Views

if TYPE_CHECKING:
    pass

LOG, VIEWS, ACTIVITY, MERKLE, HOOKS = "log.db", "views.db", "activity.db", "merkle.db", "hooks.db"


class NoLog(PairingError):
    """There is no log in this state folder, and looking for one never makes one."""

    def __init__(self, home: Path) -> None:
        self.home = home
        super().__init__(f"there is no log in {home}; starting the gateway once makes it. Try: pairing serve")


class KeyLost(PairingError):
    """The log speaks of tokens, but the key they derive from is not here."""

    def __init__(self, home: Path) -> None:
        super().__init__(
            f"{home / LOG} holds events, but {home / keys.FILE} is missing. Put the key back from its backup; without it "
            f"every device must collect a new token. Try: pairing serve --new-key"
        )


@dataclass(frozen=True)
class Opened:
    """A service and what it is made of."""

    service: Service
    log: SqliteLog
    views: Views
    activity: Activity


def version() -> str:
    """Return the version of the installed distribution."""
    return metadata.version("pairing-gateway")


def clock() -> int:
    """Return the time in ms since the epoch."""
    return time.time_ns() // 1_000_000


def secret_tag(settings: Settings, keyring: Keyring) -> str:
    """Return the keyed tag of the present shared secret, by which tokens that rest on an older one are known (T6)."""
    secret = settings.gateway.auth.secret
    return keyring.current.tag("shared-secret", settings.gateway.auth.mode, secret.reveal() if secret else None)


def admitting(settings: Settings) -> dict[str, str]:
    """Return the settings that decide who gets in, as JSON texts by dotted name; none of them is a secret."""
    return {name: _json(settings, name) for name, key in KEYS.items() if key.setting.admits}


def shown(settings: Settings) -> dict[str, Any]:
    """Return the settings as the file would nest them, without the secrets."""
    tree: dict[str, Any] = {}
    for name, key in KEYS.items():
        if not key.secret:
            *sections, last = name.split(".")
            table = tree
            for section in sections:
                table = table.setdefault(section, {})
            if (value := settings.value(name)) is not None:
                table[last] = plain(value)
    return tree


def _json(settings: Settings, name: str) -> str:
    return msgspec.json.encode(plain(settings.value(name))).decode()


def machine(settings: Settings) -> Machine:
    """Look at what the host has left for the gateway of these settings; a certificate that cannot be read has no end."""
    ends = None
    if settings.gateway.tls.cert is not None:
        with suppress(CertificateUnreadable):
            ends = expires_at(settings.gateway.tls.cert)
    return Machine(
        descriptors=descriptors_left(),
        disk=disk_left(settings.home),
        log_there=(settings.home / LOG).exists(),
        certificate_ends=ends,
    )


def local_caller() -> Caller:
    """Return who works on the log directly: the owner of the state folder, by uid, with every operator scope."""
    return Caller(actor=Actor("local", str(os.getuid())), scopes=OPERATOR_SCOPES, method="local", origin="local")


@asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[Service]:
    """Open the service of a state folder for the local door. Raises `NoLog`, `KeyLost`, `KeyUnusable`, `LogError`."""
    if not (settings.home / LOG).exists():
        raise NoLog(settings.home)
    async with open_all(settings) as opened:
        # Which secret a gateway serves under is for the log to say: this command's own environment may name another one.
        house = await opened.service.desk.house()
        under = opened.service.desk.guards.under = house.secret or opened.service.under
        yield replace(opened.service, under=under)


@asynccontextmanager
async def open_all(
    settings: Settings,
    *,
    sessions: Sessions | None = None,
    new_key: bool = False,
    env: Mapping[str, str] = os.environ,
) -> AsyncIterator[Opened]:
    """Open log, keys, views and activity of a state folder, and close them in order."""
    home = settings.home
    log = await SqliteLog.open(home / LOG)
    try:
        keyring = keys.load(home, env.get(keys.ENV))
        if keyring is None:
            if (await log.head()).position and not new_key:
                raise KeyLost(home)
            keyring = keys.create(home)
        activity = await Activity.open(home / ACTIVITY)
        try:
            views, outbox = await Views.open(log, home / VIEWS, activity), FileOutbox(home / HOOKS)
            try:
                async with _custody(home, log, keyring) as custody:
                    service = _service(settings, log, views, keyring, sessions)
                    service = replace(service, notes=activity, custody=custody, outbox=outbox)
                    yield Opened(service, log, views, activity)
            finally:
                await outbox.close()
                await views.close()
        finally:
            await activity.close()
    finally:
        await log.close()


@asynccontextmanager
async def open_custody(
    home: Path, *, progress: Progress | None = None, env: Mapping[str, str] = os.environ
) -> AsyncIterator[Custody]:
    """Open a state folder's log to be read and copied, beside a gateway or without one.

    Nothing is made but, where something is signed, the tree over the log; without a gateway key nothing can be signed.
    Raises `NoLog`, `KeyUnusable`, `LogError`.
    """
    if not _there(home / LOG):
        raise NoLog(home)
    log = await SqliteLog.open(home / LOG, readonly=True)
    try:
        async with _custody(home, log, keys.load(home, env.get(keys.ENV)), progress) as custody:
            yield custody
    finally:
        await log.close()


def _there(path: Path) -> bool:
    return os.path.lexists(path)


@asynccontextmanager
async def _custody(
    home: Path, log: SqliteLog, keyring: Keyring | None, progress: Progress | None = None
) -> AsyncIterator[Custody]:
    tree = MerkleTree(log, home / MERKLE, progress)
    try:
        yield Custody(home / LOG, log, Notary(log, keyring, tree) if keyring else None)
    finally:
        await tree.close()


def _service(settings: Settings, log: SqliteLog, views: Views, keyring: Keyring, sessions: Sessions | None) -> Service:
    desk = Desk(log, version=version(), policy=policy_digest(settings))
    desk.guards.under = secret_tag(settings, keyring)
    desk.heed(views)
    desk.guards.approvers = views if settings.gateway.pairing.keep_last_operator else None
    return Service(
        desk=desk,
        views=views,
        following=Following(log),
        keyring=keyring,
        clock=clock,
        version=version(),
        under=desk.guards.under,
        lifetimes=settings.gateway.tokens.lifetimes,
        idle=settings.gateway.tokens.idle,
        longest_handoff=settings.gateway.pairing.max_handoff_ms,
        terms=settings.gateway.pairing.approval.terms,
        sessions=Nobody() if sessions is None else sessions,
        started_at=clock(),
        host=platform.node(),
        private_hooks=settings.gateway.hooks.allow_private,
        config_path=str(config_path(settings.home)),
        config=shown(settings),
        reach=reach(settings),
    )


def reach(settings: Settings) -> Reach:
    """Return where devices reach the gateway, as far as the settings say."""
    gateway = settings.gateway
    return Reach(gateway.public_url, gateway.host, gateway.port, gateway.tls.cert is not None, gateway.auth.mode)
