"""Looking at a state folder, its log, its port and its host, for the doctor. Reads only, and makes nothing (A20).

Whatever cannot be looked at is `Skipped` with the reason.
"""

import os
import sqlite3
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import anyio

from pairing import keyring as keys
from pairing.certificate import CertificateUnreadable, expires_at
from pairing.desk import Desk
from pairing.log.checkpoint import Checkpoint
from pairing.log.codec import KINDS
from pairing.log.errors import LogError
from pairing.log.note import NoteUnusable
from pairing.log.sqlite import SqliteLog
from pairing.machine import descriptor_limit, disk_left
from pairing.settings import Settings, SettingsError, config_path, load
from pairing.settings.home import SHARED_TOKEN
from pairing.tokens import Keyring
from pairing.verification import verify
from projections.glance import flaws, reached
from projections.views import Views

from .anchoring import remembered
from .compose import LOG, VIEWS, clock, secret_tag, version
from .findings import Anchored, Answering, Facts, Seen, Skipped, Tls, Verified
from .occupant import occupant

_BATCH = 2_000
_WAIT_S = 3.0
_LATELY_MS = 7 * 86_400_000
_LIVE = b'{"ok":true,"status":"live"}'
_NO_LOG = Skipped("there is no log that can be read")
_NO_SETTINGS = Skipped("the settings are wrong")


class _Read(NamedTuple):
    """What the log was read for."""

    log: str
    seen: Seen | Skipped
    verified: Verified | Skipped
    anchored: Anchored | Skipped | None
    pending: int | Skipped
    under_old: int | Skipped
    overused: tuple[str, ...] | Skipped
    paused: tuple[str, ...] | Skipped


async def look(home: Path, env: Mapping[str, str], *, quick: bool) -> Facts:
    """Look at everything. `quick`: without verifying the log's rows."""
    settings, problems, token_good = _settings(home, env)
    keyring, key = _key(home, env)
    port = await anyio.to_thread.run_sync(_port, settings) if isinstance(settings, Settings) else _NO_SETTINGS
    tag: str | Skipped = Skipped("the shared secret or the gateway key cannot be read")
    if isinstance(settings, Settings) and keyring is not None and token_good:
        tag = secret_tag(settings, keyring)
    read = await _log(home / LOG, tag, quick=quick)
    return Facts(
        home=home,
        now=clock(),
        home_mode=_mode(home),
        token_mode=_mode(home / SHARED_TOKEN),
        key=key,
        settings=settings,
        problems=problems,
        config_mode=_mode(config_path(home)),
        log=read.log,
        seen=read.seen,
        verified=read.verified,
        anchored=read.anchored,
        views=await _views(home / VIEWS, read.seen, port),
        views_flaws=_flaws(home / VIEWS),
        port=port,
        descriptors=_told(descriptor_limit(), "this system does not tell the limit"),
        disk=_told(disk_left(home), "there is no folder to look at"),
        tls=_tls(settings),
        pending=read.pending,
        under_old=read.under_old,
        overused=read.overused,
        paused=read.paused,
    )


def _told(value: int | None, why: str) -> int | Skipped:
    return Skipped(why) if value is None else value


def _mode(path: Path) -> int | Skipped | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Skipped(f"{path} cannot be looked at: {error.strerror or error}")


def _settings(home: Path, env: Mapping[str, str]) -> tuple[Settings | Skipped, tuple[str, ...], bool]:
    """Return the settings, what is wrong with them, and whether the shared secret among them is the real one."""
    try:
        return load(home, env=env, flags={}), (), True
    except SettingsError as error:
        mine = tuple(str(problem) for problem in error.problems if problem.place != SHARED_TOKEN)
        if mine:
            return _NO_SETTINGS, mine, False
        held = tuple(str(problem) for problem in error.problems)
    # The token's file is at fault and nothing else: the other settings are looked at with a token in its place.
    settings = load(home, env=env, flags={"gateway.auth.token": "in-place-of-the-token-that-cannot-be-read"})
    mode = _mode(home / SHARED_TOKEN)
    return settings, () if isinstance(mode, int) and mode & 0o077 else held, False


def _key(home: Path, env: Mapping[str, str]) -> tuple[Keyring | None, str]:
    try:
        keyring = keys.load(home, env.get(keys.ENV))
    except keys.KeyUnusable as error:
        mode = _mode(home / keys.FILE)
        opened = not env.get(keys.ENV) and isinstance(mode, int) and bool(mode & 0o077)
        return None, "open" if opened else str(error)
    return keyring, "good" if keyring else "missing"


def _there(path: Path) -> bool:
    return os.path.lexists(path)


async def _log(path: Path, tag: str | Skipped, *, quick: bool) -> _Read:
    if not _there(path):
        return _Read("missing", _NO_LOG, _NO_LOG, _NO_LOG, _NO_LOG, _NO_LOG, _NO_LOG, _NO_LOG)
    try:
        log = await SqliteLog.open(path, readonly=True)
    except LogError as error:
        return _Read(str(error), _NO_LOG, _NO_LOG, _NO_LOG, _NO_LOG, _NO_LOG, _NO_LOG, _NO_LOG)
    try:
        seen, verified, anchored = await _rows(log, path, quick=quick)
    except LogError as error:
        return _Read(str(error), _NO_LOG, _NO_LOG, _NO_LOG, _NO_LOG, _NO_LOG, _NO_LOG, _NO_LOG)
    else:
        pending, under_old, overused = await _people(log, tag)
        paused = await _paused(log)
    finally:
        await log.close()
    return _Read("good", seen, verified, anchored, pending, under_old, overused, paused)


async def _rows(log: SqliteLog, path: Path, *, quick: bool) -> tuple[Seen, Verified | Skipped, Anchored | Skipped | None]:
    end = (await log.head()).position
    last = await log.scan(after=end - 1, limit=1) if end else ()
    time, wal = last[0].recorded_at if last else None, _size(Path(f"{path}-wal"))
    if quick:
        skipped = Skipped("--quick was given")
        return Seen(end, time, wal, await _unknown(log, end)), skipped, skipped
    anchor = _anchor(path.parent)
    held = anchor if isinstance(anchor, Checkpoint) else None
    found = await verify(path, log, held)
    first = found.faults[0].position if found.faults else None
    verified = Verified(found.rows, found.fault_count, first, found.structure)
    anchored = Anchored(found.anchor.size, found.anchor.why) if found.anchor else None
    return Seen(end, time, wal, found.unknown_kinds), verified, anchor if isinstance(anchor, Skipped) else anchored


def _anchor(home: Path) -> Checkpoint | Skipped | None:
    try:
        return remembered(home)
    except (NoteUnusable, OSError) as error:
        return Skipped(f"the last checkpoint cannot be read: {error}")


async def _unknown(log: SqliteLog, end: int) -> dict[str, int]:
    unknown: dict[str, int] = {}
    rows = 0
    while rows < end and (batch := await log.replay(after=rows, limit=min(_BATCH, end - rows))):
        rows = batch[-1].position
        for line in batch:
            if line.kind not in KINDS:
                unknown[line.kind] = unknown.get(line.kind, 0) + 1
    return unknown


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


async def _people(log: SqliteLog, tag: str | Skipped) -> tuple[int | Skipped, int | Skipped, tuple[str, ...] | Skipped]:
    """Count the open requests, and the tokens that rest on another secret than the one served under; on views in memory.

    Beside them: the setup codes that somebody has tried after their last use.
    """
    views = await Views.open(log, None)
    pending: int | Skipped = Skipped("the log's rows cannot be read")
    overused: tuple[str, ...] | Skipped = Skipped("the log's rows cannot be read")
    try:
        since = clock() - _LATELY_MS
        codes = (await views.enrolments()).rows
        overused = tuple(row.code for row in codes if row.overuses and row.issued_at >= since)
        pending = len((await views.pending()).rows)
        paired = (await views.paired()).rows
        served = (await Desk(log, version=version()).house()).secret or tag
    except LogError as error:
        return pending, Skipped(str(error).partition(" Try: ")[0]), overused
    finally:
        await views.close()
    if isinstance(served, Skipped):
        return pending, served, overused
    tokens = (token for row in paired for token in row.tokens if token.revoked_at is None and token.under is not None)
    return pending, sum(token.under != served for token in tokens), overused


async def _paused(log: SqliteLog) -> tuple[str, ...] | Skipped:
    """Return the webhooks that the gateway has given up on, each with why; not those that somebody paused on purpose."""
    views, desk = await Views.open(log, None), Desk(log, version=version())
    found = []
    try:
        for hook in await views.hooks():
            sending = (await desk.hook(hook)).sending
            if sending is not None and sending.paused not in {None, "asked"}:
                found.append(f"{hook} ({sending.error or sending.paused})")
    except LogError as error:
        return Skipped(str(error).partition(" Try: ")[0])
    finally:
        await views.close()
    return tuple(found)


async def _views(path: Path, seen: Seen | Skipped, port: Answering | Skipped) -> int | Skipped | None:
    """Return where the views stand; behind a running gateway they are given a few seconds to follow."""
    if isinstance(seen, Skipped):
        return seen
    position = _reached(path)
    running = isinstance(port, Answering) and port.what == "gateway"
    with anyio.move_on_after(_WAIT_S):
        while running and isinstance(position, int) and position < seen.position:
            await anyio.sleep(0.2)
            position = _reached(path)
    return position


def _reached(path: Path) -> int | Skipped | None:
    try:
        return reached(path)
    except sqlite3.Error as error:
        return Skipped(f"{path.name} cannot be read: {error}")


def _flaws(path: Path) -> tuple[str, ...] | Skipped:
    try:
        return flaws(path)
    except sqlite3.OperationalError as error:
        return Skipped(f"{path.name} cannot be opened: {error}")
    except sqlite3.Error as error:
        return (str(error),)


def _port(settings: Settings) -> Answering | Skipped:
    """Ask whatever listens on the gateway's port whether it is one."""
    import http.client
    import ssl

    gateway = settings.gateway
    if gateway.mode == "remote":
        return Skipped("this host talks to a gateway elsewhere (gateway.mode)")
    host = gateway.host if gateway.on_loopback else "127.0.0.1"
    connection = http.client.HTTPConnection(host, gateway.port, timeout=3)
    if gateway.tls.cert is not None:
        # Whose certificate it is does not matter here: nothing is sent that is worth hiding.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, gateway.port, timeout=3, context=context)
    try:
        connection.request("GET", "/healthz")
        live = connection.getresponse().read(1000) == _LIVE
    except ConnectionRefusedError:
        return Answering("nothing")
    except (OSError, http.client.HTTPException):
        live = False
    finally:
        connection.close()
    return Answering("gateway") if live else Answering("another", occupant(gateway.port))


def _tls(settings: Settings | Skipped) -> Tls | Skipped | None:
    if isinstance(settings, Skipped):
        return settings
    cert = settings.gateway.tls.cert
    if cert is None:
        return None
    try:
        return Tls(cert, expires_at(cert))
    except CertificateUnreadable as error:
        return Tls(cert, None, str(error).partition(" Try: ")[0])
