#!/usr/bin/env python
"""Damage logs, backups and exports at random, and see that all of it is found and none of it is served.

    scripts/campaign_flips.py [--rounds 100000] [--seed N] [--jobs 2]

Each round damages one small file once: a bit flipped, an end cut off, bytes, pages or rows exchanged, bytes or rows put in.
It must be refused, or found by verification (with the checkpoint that was kept, where an end went); what is neither must be
harmless: bytes that are part of no row, so that schema, every row, stream and command read exactly as before. Whatever was
damaged, no stream may give a row that was not written so. One that lost its last rows, or their place in an index, may end
early until that is found: counted apart. Prints how many were found by what, and exit 1 with the round where one was not.
"""

import argparse
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_history import history, records

from pairing.events import Meta
from pairing.log import copies, export, rows
from pairing.log.errors import LogError, StreamDamaged
from pairing.log.export import ExportUnusable, Reader
from pairing.log.file import create, opened, recognise
from pairing.log.sweep import sweep
from pairing.refusals import PairingError

ROWS = 60
_EVERY = "SELECT * FROM events ORDER BY position"
_NAMES = "SELECT id, name FROM streams ORDER BY id"
_SCHEMA = "SELECT type, name, sql FROM sqlite_schema ORDER BY name"


class Sound(NamedTuple):
    """The files before they are damaged, and all that they say."""

    log: bytes
    backup: bytes
    export: bytes
    says: tuple[Any, ...]
    streams: dict[str, Any]
    commands: dict[bytes, Any]
    anchor: tuple[bytes, bytes]


def main() -> int:
    arguments = argparse.ArgumentParser(description="random damage")
    arguments.add_argument("--rounds", type=int, default=100_000)
    arguments.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = arguments.parse_args()
    print(f"seed {given.seed}, {given.rounds} rounds")
    began = time.monotonic()
    counted, missed = campaign(given.rounds, given.seed, given.jobs)
    for (target, damage, outcome), count in sorted(counted.items()):
        print(f"{count:8}  {target:7} {damage:12} {outcome}")
    for line in missed[:20]:
        print(f"MISSED  {line}")
    print(f"{sum(counted.values())} rounds in {time.monotonic() - began:.0f} s, {len(missed)} missed")
    return bool(missed)


def campaign(rounds: int, seed: int, jobs: int = 1) -> tuple[Counter[tuple[str, str, str]], list[str]]:
    """Run so many rounds; return what happened how often, and every round that was missed."""
    parts = [range(start, min(start + 500, rounds)) for start in range(0, rounds, 500)]
    counted: Counter[tuple[str, str, str]] = Counter()
    missed: list[str] = []
    if jobs < 2:
        results = [part(seed, numbers) for numbers in parts]
    else:
        with ProcessPoolExecutor(jobs) as pool:
            results = list(pool.map(part, [seed] * len(parts), parts))
    for found, lost in results:
        counted += found
        missed += lost
    return counted, missed


def part(seed: int, numbers: range) -> tuple[Counter[tuple[str, str, str]], list[str]]:
    """Run some of the rounds. The files live in memory where the system has a file system for that."""
    memory = "/dev/shm"
    counted: Counter[tuple[str, str, str]] = Counter()
    missed: list[str] = []
    with tempfile.TemporaryDirectory(dir=memory if os.path.isdir(memory) else None) as folder:
        sound = prepare(Path(folder))
        for number in numbers:
            chance = random.Random(f"{seed} {number}")
            target = ("log", "log", "backup", "export")[number % 4]
            try:
                damage, outcome = ROUNDS[target](Path(folder), sound, chance)
            except Exception as error:
                damage, outcome = "any", f"CRASHED; {error!r}"
            counted[target, damage, outcome] += 1
            if outcome.split(";")[0] in MISSES:
                missed.append(f"round {number} of seed {seed}: {target}, {damage}: {outcome}")
    return counted, missed


MISSES = frozenset({"SERVED", "UNSEEN", "CRASHED"})


def prepare(folder: Path) -> Sound:
    """Write a log of legal events as one file, with its backup and its export."""
    path = folder / "sound.db"
    create(path)
    with closing(sqlite3.connect(path)) as database:
        keys: dict[str, int] = {}
        commands = list(_commands())
        copies._insert(database, commands, keys)
        database.commit()
        database.execute("PRAGMA journal_mode=DELETE")
    copies.back_up(path, folder / "backup.db")
    exported = b"".join(chunk.text for chunk in export.write(path, 1, ROWS))
    anchor = sweep(path, ROWS, anchor=ROWS).anchor
    assert anchor is not None
    with closing(opened(path, readonly=True)) as database:
        streams = {name: rows.stream(database, name, 0) for name in keys}
        ids = {bytes.fromhex(command.replace("-", "")) for _, command in commands}
        by_command = {key: rows.command(database, key) for key in ids}
        says = _says(database)
    return Sound(path.read_bytes(), (folder / "backup.db").read_bytes(), exported, says, streams, by_command, anchor)


def _commands() -> Any:
    import msgspec

    for record in records(history(6), ROWS):
        yield record, msgspec.json.decode(record.meta, type=Meta).command


def _says(database: sqlite3.Connection) -> tuple[Any, ...]:
    return tuple(database.execute(sql).fetchall() for sql in (_SCHEMA, _NAMES, _EVERY))


# --- the log and its backup ---


def damage_log(folder: Path, sound: Sound, chance: random.Random) -> tuple[str, str]:
    """Damage the log's file or its rows, and look at it as verification and decisions do."""
    path = folder / "damaged.db"
    how = chance.choices(("flip", "cut", "pages", "bytes", "rows"), (80, 4, 4, 4, 8))[0]
    if how == "rows":
        path.write_bytes(sound.log)
        how = _tamper(path, chance)
    else:
        path.write_bytes(_damaged(sound.log, how, chance))
    return how, _judged(path, sound)


def damage_backup(folder: Path, sound: Sound, chance: random.Random) -> tuple[str, str]:
    """Damage a backup, and bring it in: refused, or the same log."""
    source, into = folder / "damaged-backup", folder / "in"
    how = chance.choices(("flip", "cut", "pages", "bytes"), (85, 5, 5, 5))[0]
    source.write_bytes(_damaged(sound.backup, how, chance))
    try:
        copied = copies.bring_in(source, into)
    except PairingError as refused:
        return how, f"refused: {type(refused).__name__}"
    try:
        with closing(opened(into / copies.LOG, readonly=True)) as database:
            same = _says(database) == sound.says and copied.rows == ROWS
        return how, "harmless: every row reads the same" if same else "UNSEEN"
    finally:
        for file in into.iterdir():
            file.unlink()
        into.rmdir()


def _damaged(data: bytes, how: str, chance: random.Random) -> bytes:
    made = bytearray(data)
    match how:
        case "flip":
            made[chance.randrange(len(made))] ^= 1 << chance.randrange(8)
        case "cut":
            del made[chance.randrange(len(made)) :]
        case "pages":
            one, other = chance.sample(range(len(made) // 4096), 2)
            a, b = slice(one * 4096, one * 4096 + 4096), slice(other * 4096, other * 4096 + 4096)
            made[a], made[b] = made[b], made[a]
        case _:
            at = chance.randrange(len(made))
            made[at:at] = chance.randbytes(chance.randrange(1, 5000))
    return bytes(made)


def _tamper(path: Path, chance: random.Random) -> str:
    """Do to rows what no honest program can: without triggers, and put them back."""
    how = chance.choice(("row lost", "end lost", "row altered", "rows swapped", "row put in", "command"))
    with closing(sqlite3.connect(path)) as database:
        guards = database.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in guards:
            database.execute(f"DROP TRIGGER {name}")
        for sql in _statements(how, chance):
            database.execute(sql)
        for _, text in guards:
            database.execute(text)
        database.commit()
    return how


def _statements(how: str, chance: random.Random) -> list[str]:
    one, other = chance.sample(range(1, ROWS), 2)
    change = chance.choice(
        ("kind = kind || 'x'", "recorded_at = recorded_at + 1", "meta = meta || ' '", "version = version + 900")
    )
    match how:
        case "row lost":
            return [f"DELETE FROM events WHERE position = {one}"]
        case "end lost":
            return [f"DELETE FROM events WHERE position >= {one + 1}"]
        case "row altered":
            return [f"UPDATE events SET {change} WHERE position = {one}"]
        case "rows swapped":
            moves = ((1000, one), (one, other), (other, 1000))
            return [f"UPDATE events SET position = {to} WHERE position = {at}" for to, at in moves]
        case "row put in":
            later = [f"UPDATE events SET position = position + 1 WHERE position = {at}" for at in range(ROWS, one, -1)]
            what = "stream, version + 500, kind, recorded_at, command, meta, body, personal, personal_hash, hash"
            return [*later, f"INSERT INTO events SELECT {one + 1}, {what} FROM events WHERE position = {one}"]
        case _:
            return [f"UPDATE events SET command = randomblob(16) WHERE position = {one}"]


def _judged(path: Path, sound: Sound) -> str:
    try:
        recognise(path)
    except LogError as refused:
        return f"refused: {type(refused).__name__}"
    with closing(opened(path, readonly=True)) as database:
        served, less = _served(database, sound)
        return served or _verified(path, database, sound) + less


def _verified(path: Path, database: sqlite3.Connection, sound: Sound) -> str:
    try:
        if rows.examine(database):
            return "found: storage"
        head = rows.head(database).position
        swept = sweep(path, head, anchor=min(head, ROWS) or None)
    except (LogError, sqlite3.Error):
        return "found: unreadable"
    if swept.faults:
        return "found: chain"
    if head != ROWS or swept.anchor != sound.anchor:
        return "found: checkpoint"
    return "harmless: every row reads the same" if _says(database) == sound.says and _found(database, sound) else "UNSEEN"


def _served(database: sqlite3.Connection, sound: Sound) -> tuple[str, str]:
    """Say whether any stream or command reads otherwise than it was written, and what reads as less, without a word."""
    less = ""
    for what, read, written in _reads(database, sound):
        if read != written[: len(read)]:
            return "SERVED", ""
        if len(read) < len(written):
            less = less or f"; until then a {what} ended early"
    return "", less


def _reads(database: sqlite3.Connection, sound: Sound) -> Iterator[tuple[str, tuple[Any, ...], tuple[Any, ...]]]:
    """Yield what is read of each stream and command, and what was written, but for those that are refused."""
    for name, written in sound.streams.items():
        with suppress(StreamDamaged, sqlite3.Error):
            yield "stream", rows.stream(database, name, 0), written
    for key, written in sound.commands.items():
        with suppress(StreamDamaged, sqlite3.Error):
            yield "command", rows.command(database, key), written


def _found(database: sqlite3.Connection, sound: Sound) -> bool:
    return all(rows.stream(database, name, 0) == written for name, written in sound.streams.items()) and all(
        rows.command(database, key) == written for key, written in sound.commands.items()
    )


# --- an export ---


def damage_export(folder: Path, sound: Sound, chance: random.Random) -> tuple[str, str]:
    """Damage an export: every byte of it counts."""
    how = chance.choices(("flip", "cut", "bytes", "lines lost", "lines swapped", "lines put in"), (80, 4, 4, 4, 4, 4))[0]
    if how.startswith("lines"):
        lines = sound.export.splitlines(keepends=True)
        one, other = chance.sample(range(len(lines)), 2)
        match how:
            case "lines lost":
                del lines[one]
            case "lines swapped":
                lines[one], lines[other] = lines[other], lines[one]
            case _:
                lines.insert(other, lines[one])
        data = b"".join(lines)
    else:
        data = _damaged(sound.export, how, chance)
    if data == sound.export:
        return how, "harmless: nothing changed"
    try:
        for _ in Reader(BytesIO(data)).rows():
            pass
    except ExportUnusable:
        return how, "refused: ExportUnusable"
    return how, "UNSEEN"


ROUNDS = {"log": damage_log, "backup": damage_backup, "export": damage_export}

if __name__ == "__main__":
    sys.exit(main())
