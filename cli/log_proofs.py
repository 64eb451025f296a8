"""`pairing log checkpoint`, `receipt` and `key`: signed words about the log, to be kept where this host cannot reach them."""

import os
from pathlib import Path
from typing import Any

import click

from .options import Reach, reaching
from .running import answer
from .voice import Failure, Told, fields, plain

_out = click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help='Where to write it; "-" is standard output.')


@click.command("checkpoint", short_help="Sign for the log as it stands.")
@_out
@click.option(
    "--since", type=click.Path(path_type=Path), metavar="FILE", help="An older checkpoint, to be shown to be its beginning."
)
@click.option("--post", metavar="URL", help="Send it there, as text; to any address, being named here.")
@reaching
def checkpoint(out: Path | None, since: Path | None, post: str | None, reach: Reach) -> None:
    """Sign for the log as it stands: how many rows, and their Merkle root.

    Keep it on another host: with it `pairing log verify --checkpoint FILE` finds a cut-off end. A FILE that exists is replaced
    only by a checkpoint that continues it.
    """
    answer(lambda: _checkpoint(reach, out, since, post), reach.as_json)


@click.command("receipt", short_help="Prove one event to somebody without the log.")
@click.argument("position", type=click.IntRange(min=1))
@_out
@reaching
def receipt(position: int, out: Path | None, reach: Reach) -> None:
    """Prove the event at POSITION to somebody who has not got the log.

    A receipt holds the event without what points at a person, its path to the Merkle root, and a checkpoint. Anybody can check
    it with `scripts/verify_log.py receipt FILE --key VKEY`.
    """
    answer(lambda: _receipt(reach, position, out), reach.as_json)


@click.command("key", short_help="Print the public keys of its checkpoints.")
@reaching
def key(reach: Reach) -> None:
    """Print the verifier keys of this log's checkpoints, the present one first. They are public."""
    answer(lambda: _key(reach), reach.as_json)


async def _checkpoint(reach: Reach, out: Path | None, since: Path | None, url: str | None) -> Told:
    from .log_door import lent, text_of

    _fit(url)

    before = None if since is None else text_of(since)
    if before is None and out is not None and _replaces(out):
        before = text_of(out)
    async with lent(reach, doing="Hashing") as door:
        found = await door.call("log.checkpoint", {} if before is None else {"since": before})
    if url is not None:
        await _post(reach, url, found["note"])
        found["posted"] = url
    if out is not None or url is not None:
        _give_out(reach, found["note"])
    if url is not None and out is None:
        return Told(found, f"Posted the checkpoint of {found['size']} rows to {url}")
    if out is None or not _file(out):
        return Told(found, found["note"].rstrip("\n"), () if out else ("Keep it elsewhere: --out FILE writes it to one.",))
    _write(out, found["note"])
    rows = [("rows", str(found["size"])), ("root", found["root"]), ("origin", plain(found["origin"], 200))]
    if found["since"] is not None:
        rows.append(("continues", f"the checkpoint of {found['since']} rows"))
    return Told({**found, "path": str(out)}, f"Wrote {out}\n{fields(rows)}", ("Keep a copy on another host.",))


def _fit(url: str | None) -> None:
    from pairing.hooks import url_flaw

    if url is not None and (flaw := url_flaw(url, plain_allowed=True)) is not None:
        raise click.UsageError(f"--post: {plain(url, 200)} is no URL to post to ({flaw}). Give https://HOST/PATH.")


async def _post(reach: Reach, url: str, note: str) -> None:
    from pairing.refusals import Exit

    from .anchoring import post

    error = await post(url, note, reach.timeout_ms, private_allowed=True)
    if error is not None:
        hint = "Nothing was changed. Try again, or write it to a file: pairing log checkpoint --out FILE"
        raise Failure(Exit.UNREACHABLE, "not-posted", f"the checkpoint was not taken by {url}: {error}", hint)


async def _receipt(reach: Reach, position: int, out: Path | None) -> Told:
    import json

    from .log_door import lent

    async with lent(reach, doing="Hashing") as door:
        found = await door.call("log.receipt", {"position": position})
    text = json.dumps(found, indent=2) + "\n"
    if out is None or not _file(out):
        return Told(found, text.rstrip("\n"))
    _write(out, text)
    said = f"Wrote {out}\n{fields([('event', _event(found)), ('checkpoint', _claim(found['checkpoint']))])}"
    return Told({"path": str(out), "receipt": found}, said, (f"Check it: scripts/verify_log.py receipt {out} --key VKEY",))


async def _key(reach: Reach) -> Told:
    from pairing.log.errors import LogEmpty

    from .log_door import lent

    async with lent(reach) as door:
        found = await door.call("log.status")
    if not found["position"]:
        raise LogEmpty
    return Told({"origin": found["origin"], "verifiers": found["verifiers"]}, "\n".join(found["verifiers"]))


def _event(found: dict[str, Any]) -> str:
    row = found["row"]
    return f"{plain(row['kind'])} of {plain(row['stream'], 128)} at position {row['position']}"


def _claim(note: str) -> str:
    origin, size = note.split("\n")[:2]
    return f"{size} rows of {plain(origin, 200)}"


def _file(out: Path | None) -> bool:
    return out is not None and str(out) != "-"


def _give_out(reach: Reach, note: str) -> None:
    """Remember in this state folder what was given out of its own log."""
    from pairing.settings.home import default_home

    from .anchoring import remember
    from .log_door import elsewhere

    if not elsewhere(reach):
        remember(default_home(os.environ), note)


def _replaces(out: Path) -> bool:
    return _file(out) and out.exists()


def _write(out: Path, text: str) -> None:
    from pairing.settings.home import write_private

    write_private(out, text)
