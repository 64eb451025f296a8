"""`pairing devices forget`: what points at a person leaves everything that is known of a device. It cannot be undone."""

import sys

import click

from .options import Reach, reaching
from .running import answer
from .voice import Failure, Told, plain


@click.command("forget", short_help="Erase a device's names, labels and addresses for good.")
@click.argument("device")
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept for ever, so it must not itself point at anybody.")
@click.option("--ticket", metavar="TEXT", help="A ticket's number, stored with the event.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@reaching
def forget(device: str, reason: str, ticket: str | None, yes: bool, reach: Reach) -> None:
    """Erase the names, labels, addresses and user agents of a DEVICE from the log, the views and the notes, for good.

    What happened stays on record, and the log still verifies; access is untouched: `pairing devices remove` ends that. Copies and
    backups made before are not reached, nor what webhooks have sent. A paired device brings its name again when it connects
    under another.
    """
    if not reason.strip():
        raise click.UsageError("--reason is blank.")
    if not yes:
        _confirm(device, reach)
    answer(lambda: _forget(reach, device, reason, ticket), reach.as_json)


def _confirm(device: str, reach: Reach) -> None:
    if reach.as_json or not sys.stdin.isatty():
        raise Failure(
            2, "usage", "refusing to erase what cannot be brought back without --yes", f"pairing devices show {plain(device)}"
        )
    click.confirm(f"Erase every name and address of {plain(device)} for good?", abort=True, err=True)


async def _forget(reach: Reach, name: str, reason: str, ticket: str | None) -> Told:
    from pairing.authority import ADMIN

    from .door import open_door
    from .naming import find_device
    from .receipts import recorded_as

    async with open_door(reach) as door:
        found = await find_device(door, name)
        await door.ask_for((ADMIN,))
        words = {"reason": reason} | ({} if ticket is None else {"ticket": ticket})
        result = await door.call("device.forget", {"deviceId": found.id, **words})
    rows, kept = result.get("rows", 0), result.get("kept", ())
    done = recorded_as(result, f"Forgot {found.id}: erased in {plain(rows)} rows", "Already forgotten")
    notes = []
    if kept:
        notes.append(f"At {len(kept)} positions it named other devices: those names stay, and the address it did so from.")
    if not result.get("scrubbed", True):
        again = f"pairing devices forget {found.id} --reason TEXT --yes"
        notes.append(f"Another process was reading: erased bytes may be left in a -wal file. Once it has ended, repeat: {again}")
    return Told(result, done, tuple(notes))
