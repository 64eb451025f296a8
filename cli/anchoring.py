"""Checkpoints that the gateway writes by itself, and what a state folder remembers of the last one that was given out.

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
    """Write a checkpoint now and again, for as long as the gateway runs, where the settings name a file."""
    chosen = settings.gateway.log.checkpoint
    if chosen.file is None or custody is None or custody.notary is None:
        return
    while True:
        await once(custody.notary, chosen.file, settings.home)
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


def _read(file: Path) -> str | None:
    try:
        return file.read_text("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeError:
        raise NoteUnusable(f"{file} is no text") from None
