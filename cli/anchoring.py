"""Checkpoints that the gateway writes and posts by itself, and what a state folder remembers of the last one that was given out.

One that the log does not continue is never written over: it is the evidence.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import structlog

from pairing.log import checkpoint
from pairing.log.checkpoint import Checkpoint
from pairing.log.errors import LogEmpty
from pairing.log.note import NoteUnusable
from pairing.refusals import PairingError, Refused
from pairing.settings.home import write_private

if TYPE_CHECKING:
    from pairing.custody import Custody
    from pairing.notary import Notary
    from pairing.settings import Settings

LAST = "last-checkpoint"
log = structlog.get_logger("pairing.checkpoint")


def remember(home: Path, note: str) -> None:
    """Keep the last checkpoint that was given out. Here it shows accidents alone: who can cut the log can cut this."""
    write_private(home / LAST, note)


def remembered(home: Path) -> Checkpoint | None:
    """Return what was last given out of a state folder's log, None where nothing was. Raises `NoteUnusable`, OSError."""
    try:
        return checkpoint.unjudged((home / LAST).read_text("utf-8"))
    except FileNotFoundError:
        return None
    except UnicodeError:
        raise NoteUnusable(f"{home / LAST} is no text") from None


async def keep(settings: "Settings", custody: "Custody | None") -> None:
    """Write and post a checkpoint now and again, for as long as the gateway runs, where the settings name a file or a URL."""
    chosen = settings.gateway.log.checkpoint
    if custody is None or custody.notary is None or (chosen.file is None and chosen.url is None):
        return
    while True:
        if chosen.file is not None:
            await once(custody.notary, chosen.file, settings.home)
        if chosen.url is not None:
            await posted(custody.notary, chosen.url, settings)
        await anyio.sleep(chosen.every_ms / 1000)


async def once(notary: "Notary", file: Path, home: Path) -> None:
    """Write a checkpoint that continues the one in the file, or say why not."""
    try:
        old = await anyio.to_thread.run_sync(_read, file)
        signed = await notary.checkpoint(old)
        if old is None or signed.since != signed.checkpoint.size:
            await anyio.to_thread.run_sync(write_private, file, signed.note)
            await anyio.to_thread.run_sync(remember, home, signed.note)
            log.info("checkpoint written", path=str(file), size=signed.checkpoint.size)
    except LogEmpty:
        return
    except (Refused, PairingError, OSError) as error:
        log.error("checkpoint not written", path=str(file), error=str(error))


async def posted(notary: "Notary", url: str, settings: "Settings") -> None:
    """Post a checkpoint that continues the last one that was given out, or say why not; the next turn tries again."""
    try:
        signed = await notary.checkpoint(await anyio.to_thread.run_sync(_read, settings.home / LAST))
        rules = settings.gateway.hooks
        error = await post(url, signed.note, rules.timeout_ms, private_allowed=rules.allow_private)
        if error is None:
            await anyio.to_thread.run_sync(remember, settings.home, signed.note)
            log.info("checkpoint posted", url=url, size=signed.checkpoint.size)
            return
    except LogEmpty:
        return
    except (Refused, PairingError, OSError) as failed:
        error = str(failed)
    log.error("checkpoint not posted", url=url, error=error)


async def post(url: str, note: str, timeout_ms: int, *, private_allowed: bool) -> str | None:
    """Send a signed note to a URL, as text; return why it was not taken, None where it was."""
    from urllib.parse import urlsplit

    from pairing.gateway.post import outward, send

    from .compose import clock, version

    seconds = timeout_ms / 1000
    async with outward(f"pairing/{version()}", "text/plain; charset=utf-8", seconds) as client:
        body, to = note.encode(), urlsplit(url)
        outcome = await send(client, to, body, {}, now=clock(), timeout_s=seconds, private_allowed=private_allowed)
    return None if outcome.what == "delivered" else outcome.error


def _read(file: Path) -> str | None:
    try:
        return file.read_text("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeError:
        raise NoteUnusable(f"{file} is no text") from None
