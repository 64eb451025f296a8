"""The two ways to the log: the file of this state folder, or, where a gateway was named, that gateway.

Reading a log needs no gateway and disturbs none, so that on its own host the file is read itself.
"""

import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from .options import Reach
from .voice import Failure

if TYPE_CHECKING:
    from pairing.custody import Custody

_MANY = 20_000


class LogWay(Protocol):
    """A way to the methods `log.*`, and what to call the log in words."""

    path: str

    async def call(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call a method and return its result as JSON values."""


class Progress:
    """A line on a person's terminal that says how far long work is."""

    def __init__(self, doing: str) -> None:
        self._doing, self._shown = doing, sys.stderr.isatty()

    def __call__(self, reached: int, end: int) -> None:
        """Say it; little work is not worth saying."""
        if self._shown and end > _MANY:
            click.echo(f"\r{self._doing}: {reached} of {end}", err=True, nl=reached >= end)


class _Here:
    """The file of this state folder."""

    def __init__(self, custody: "Custody", progress: Progress) -> None:
        self.custody, self._progress, self.path = custody, progress, str(custody.path)

    async def call(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Do what the gateway's method does."""
        from pairing import log_methods
        from pairing.refusals import Reason, Refused

        given, custody = dict(params or {}), self.custody
        match method:
            case "log.status":
                return _plain(await custody.status())
            case "log.verify":
                if given and custody.notary is None:
                    raise _keyless(self.path)
                return _plain(await custody.verify(given.get("checkpoint"), self._progress))
        notary = custody.notary
        if notary is None:
            raise _keyless(self.path)
        match method:
            case "log.checkpoint":
                return _plain(log_methods.told(await notary.checkpoint(given.get("since"))))
            case "log.receipt":
                return _plain(await notary.receipt(given["position"]))
        raise Refused(Reason.UNKNOWN_METHOD, method=method)


class _There:
    """A gateway that somebody named."""

    def __init__(self, door: Any, path: str) -> None:
        self._door, self.path = door, path

    async def call(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask it."""
        if method in {"log.verify", "log.receipt", "log.export", "log.backup"}:
            await self._door.ask_for(("operator.admin",))
        found: dict[str, Any] = await self._door.call(method, params)
        return found


@asynccontextmanager
async def lent(reach: Reach, *, doing: str = "Working") -> AsyncIterator[_Here | _There]:
    """Lend the way to the log."""
    if not elsewhere(reach):
        async with here(doing) as way:
            yield way
        return
    from .door import open_door

    async with open_door(reach) as door:
        yield _There(door, f"the log of {reach.url or os.environ.get('PAIRING_GATEWAY_URL') or 'the remote gateway'}")


@asynccontextmanager
async def here(doing: str = "Working") -> AsyncIterator[_Here]:
    """Lend this state folder's own log. Raises `Failure` where there is none."""
    from pairing.refusals import Exit
    from pairing.settings.home import default_home

    from .compose import NoLog, open_custody
    from .logs import configure

    configure("error", "console")
    progress, home = Progress(doing), default_home(os.environ)
    try:
        async with open_custody(home, progress=progress) as custody:
            yield _Here(custody, progress)
    except NoLog:
        said = f"there is no log at {home / 'log.db'}"
        raise Failure(Exit.NOT_FOUND, "no-log", said, "Start the gateway once: pairing serve") from None


def elsewhere(reach: Reach) -> bool:
    """Say whether another gateway than this state folder's is meant. Settings that cannot be read mean none."""
    if reach.url or os.environ.get("PAIRING_GATEWAY_URL"):
        return True
    from pairing.settings import SettingsError, load
    from pairing.settings.home import default_home

    try:
        return load(default_home(os.environ), env=os.environ, flags={}).gateway.mode == "remote"
    except SettingsError:
        return False


async def anchored(door: "_Here | _There", note: str, vkey: str) -> dict[str, Any]:
    """Verify against a checkpoint that is signed with a key that somebody trusts, which only its own host can do."""
    from pairing.log import checkpoint
    from pairing.log.note import verifier
    from pairing.refusals import Exit
    from pairing.verification import verify

    if isinstance(door, _There):
        hint = "Leave --key out, or run it on the gateway's host."
        raise Failure(Exit.USAGE, "key-elsewhere", "a gateway trusts no key but its own", hint)
    anchor = checkpoint.opened(note, (verifier(vkey),))
    return _plain(await verify(door.custody.path, door.custody.events, anchor, door._progress))


def text_of(path: Path) -> str:
    """Read a small text file, or standard input for "-". Raises `Failure`."""
    from pairing.refusals import Exit

    try:
        return sys.stdin.read(65_536) if str(path) == "-" else path.read_text("utf-8")
    except FileNotFoundError:
        raise Failure(Exit.NOT_FOUND, "no-file", f"there is no file {path}", "Name the checkpoint that was kept.") from None
    except (OSError, UnicodeError) as error:
        raise Failure(Exit.BROKEN, "unreadable", f"{path} cannot be read: {error}", "See to the file, then try again.") from None


def _keyless(path: str) -> Failure:
    from pairing.refusals import Exit

    said = f"beside {path} is no gateway key to sign or to recognise signatures with"
    return Failure(Exit.BROKEN, "no-key", said, "Put the key back from its backup, or give --key VKEY to verify.")


def _plain(result: Any) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(result)
    return found
