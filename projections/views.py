"""The views as the service asks them: each answer is given after catching up with the log, and says at which position.

Views find, streams decide. What they say can be lost and is built anew from the log; where no file can be written they live in
memory.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel
import structlog

from pairing.events import HookAdded, device_stream, enrolment_stream, hook_stream, node_stream
from pairing.listing import (
    Acted,
    Answer,
    Change,
    Crowd,
    Damage,
    Difference,
    DueRow,
    EnrolmentRow,
    Fate,
    Found,
    HandedOver,
    Issued,
    LockRow,
    Match,
    NodeAskedRow,
    NodeRow,
    PairedRow,
    PendingRow,
    Sought,
    Touched,
)
from pairing.log.port import EventLog, Mark
from pairing.reasons import fold

from . import answers, questions, shadow, trail
from .activity import Activity
from .expendable import busy, damaged
from .follow import Follower, Progress
from .spans import as_json
from .spans import at as place
from .store import Store

log = structlog.get_logger("pairing.views")

Rows: TypeAlias = list[tuple[Any, ...]]

_HOOK_ADDED = str(HookAdded.__struct_config__.tag)
MOST_MATCHES = 20
MOST_APPROVERS = 16
_SHORTEST_PREFIX = 4
_LAST_CHARACTER = "\U0010ffff"
# A writer that does not get on for this many waits for the lock is not waited for; nor is a file mended for ever.
_PATIENCE = 20
_REPAIRS = 3
_AT_ONCE = 1_000
_EVERYWHERE = 1 << 62


class Views:
    """A `Listing` on views.db, or in memory."""

    def __init__(self, source: EventLog, store: Store, activity: Activity | None) -> None:
        self._log = source
        self._store = store
        self._activity = activity
        self._mark: Mark | None = None
        self._lock = anyio.Lock()
        self._asked = 0
        self._served = 0
        self._waits = 0
        self._repairs = 0
        self.progress: Progress | None = None
        self.differences: int | None = None

    @classmethod
    async def open(cls, source: EventLog, path: Path | None, activity: Activity | None = None) -> "Views":
        """Open the views of a log; they follow it when asked. Where the file cannot be written, they are kept in memory."""
        return cls(source, await _open(path), activity)

    async def close(self) -> None:
        """Let go of the file. Log and activity are for their owner to close."""
        await self._store.close()

    # --- following ---------------------------------------------------------------------------------------------------

    async def catch_up(self, progress: Progress | None = None) -> int:
        """Follow the log to where it stands now, or later, and return that position. Callers at the same time share the way."""
        self._asked += 1
        ticket = self._asked
        async with self._lock:
            if self._served < ticket:
                everybody = self._asked
                await self._follow(progress)
                self._served = everybody
            return self._position()

    async def rebuild(self, progress: Progress | None = None) -> int:
        """Drop all that is known, follow the log from its beginning, and return the position reached."""
        async with self._lock:
            await self._reset()
            await self._follow(progress or self.progress)
            self.differences = None
            return self._position()

    async def verify(self) -> tuple[int, tuple[Difference, ...]]:
        """Build the views anew beside the file in use; return the position of the comparison, and what differs.

        Views in memory are this process's own and were built from the log as it began.
        """
        position = await self.catch_up()
        found: tuple[Difference, ...] = ()
        if self._store.path is not None:
            position, found = await shadow.compare(self._log, self._store.path, self.progress)
        self.differences = sum(difference.count for difference in found)
        return position, found

    async def forget(self, device: str) -> bool:
        """Follow the log to where a device is forgotten, and leave nothing of it in the files. May be repeated.

        False where another process would not let go of what it reads, so that bytes of it may still be in a `-wal` file.
        """
        await self.catch_up()
        async with self._lock:
            if self._store.path is not None:
                shadow.sweep(self._store.path)
            clean = await self._store.settle()
        return (await self._activity.forget(device) if self._activity is not None else True) and clean

    def _position(self) -> int:
        return self._mark.position if self._mark else 0

    async def _follow(self, progress: Progress | None) -> None:
        while await self._log.head() != self._mark:
            try:
                if self._store.replaced():
                    await self._use(await _open(self._store.path))
                self._mark = await Follower(self._log, self._store).follow(progress)
                self._waits = 0
            except sqlite3.Error as error:
                await self._mend(error)

    async def _reset(self) -> None:
        while True:
            try:
                async with self._store.writing():
                    await self._store.reset()
            except sqlite3.Error as error:
                await self._mend(error)
            else:
                self._mark = None
                return

    async def last(self, stream: str) -> tuple[int, int]:
        """Return the last version of a stream that was followed, and its position; it looks at no log and mends no file."""
        try:
            rows = await self._store.rows(questions.LAST, {"stream": stream})
        except sqlite3.Error:
            return (0, 0)
        return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)

    async def _mend(self, error: sqlite3.Error) -> None:
        """Do what helps against an error of the file: wait for another writer, begin a new file, or go on in memory."""
        path = self._store.path
        if path is None:
            raise error
        if busy(error) and self._waits < _PATIENCE:
            self._waits += 1
        elif damaged(error) and self._repairs < _REPAIRS:
            self._repairs += 1
            log.warning("views are damaged and are rebuilt", path=str(path), error=str(error))
            await self._use(await _open(path, self._store))
        else:
            await self._use(await _in_memory(path, error))

    async def _use(self, store: Store) -> None:
        old, self._store, self._mark = self._store, store, None
        await old.close()

    async def _ask(self, sql: str, at: int | None = None, **parameters: object) -> tuple[int, Rows]:
        """Return the rows of a statement and the position they are true at."""
        while True:
            now = await self.catch_up()
            position = now if at is None else max(0, min(at, now))
            store = self._store
            try:
                rows = await store.rows(sql, place(position, **parameters))
                reached = rows[0][0] if rows else (await store.mark()).position
            except sqlite3.Error as error:
                async with self._lock:
                    if store is self._store:
                        await self._mend(error)
                continue
            if reached >= position:
                return position, rows
            # Another process has begun the views anew and is not yet as far.
            self._mark = None

    # --- answers -----------------------------------------------------------------------------------------------------

    async def pending(self, *, device: str | None = None, at: int | None = None) -> Answer[PendingRow]:
        """Return open requests, newest first."""
        sql = questions.PENDING if device is None else questions.PENDING_OF
        position, rows = await self._ask(sql, at, stream=device_stream(device or ""))
        return Answer(position, tuple(answers.pending_row(row) for row in rows))

    async def paired(self, *, device: str | None = None, at: int | None = None) -> Answer[PairedRow]:
        """Return devices with a grant, newest approval first; for now, also when and from where each was last seen."""
        sql = questions.PAIRED if device is None else questions.PAIRED_OF
        position, rows = await self._ask(sql, at, stream=device_stream(device or ""))
        uses = await self._activity.uses(device) if self._activity is not None and at is None else {}
        found: list[PairedRow] = []
        for row in answers.paired_rows(rows):
            found.append(answers.seen(row, uses[row.device]) if row.device in uses else row)
            if len(found) % _AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()
        return Answer(position, tuple(found))

    async def node_requests(self, *, node: str | None = None, at: int | None = None) -> Answer[NodeAskedRow]:
        """Return open requests for nodes' surfaces, newest first."""
        sql = questions.NODE_REQUESTS if node is None else questions.NODE_REQUESTS_OF
        position, rows = await self._ask(sql, at, stream=node_stream(node or ""))
        return Answer(position, tuple(answers.node_asked_row(row) for row in rows))

    async def nodes(self, *, node: str | None = None, at: int | None = None) -> Answer[NodeRow]:
        """Return nodes whose surface is approved, newest approval first."""
        sql = questions.NODES if node is None else questions.NODES_OF
        position, rows = await self._ask(sql, at, stream=node_stream(node or ""))
        return Answer(position, tuple(answers.node_row(row) for row in rows))

    async def enrolments(self, *, code: str | None = None, at: int | None = None) -> Answer[EnrolmentRow]:
        """Return setup codes with who holds their uses, newest first."""
        sql = questions.ENROLMENTS if code is None else questions.ENROLMENTS_OF
        position, rows = await self._ask(sql, at, stream=enrolment_stream(code or ""))
        return Answer(position, tuple(answers.enrolment_rows(rows)))

    async def overdue_codes(self, now: int) -> tuple[str, ...]:
        """Return the setup codes that ran out before `now` (ms) without that being on record, the oldest first."""
        _, rows = await self._ask(questions.OVERDUE_CODES, now=now)
        return tuple(code for _, code in rows)

    async def node_of(self, request: str) -> str | None:
        """Return the node that a request for a surface was about, open or ended."""
        _, rows = await self._ask(questions.NODE_OF, request=request)
        return answers.node_of(rows[0][1]) if rows else None

    async def request(self, request: str) -> Fate | None:
        """Return what became of a request, or None where no such id was ever given."""
        _, rows = await self._ask(questions.FATE, request=request)
        return answers.fate(rows[0]) if rows else None

    async def matches(self, name: str, *, at: int | None = None) -> tuple[Match, ...]:
        """Return at most 20 devices that an id, the beginning of one (from 4 characters) or a label (in any case) can mean."""
        low = device_stream(name.lower())
        _, rows = await self._ask(
            questions.MATCHES,
            at,
            exact=low,
            low=low,
            high=low + _LAST_CHARACTER if len(name) >= _SHORTEST_PREFIX else low,
            folded=fold(name),
            most=MOST_MATCHES,
        )
        return tuple(answers.match(row) for row in rows)

    async def hooks(self) -> tuple[str, ...]:
        """Return the webhooks that were ever added, by id, in the order of their adding."""
        _, rows = await self._ask(questions.HOOKS, kind=_HOOK_ADDED)
        return tuple(stream.removeprefix(hook_stream("")) for _, stream in rows)

    async def overdue(self, now: int) -> tuple[tuple[str, str], ...]:
        """Return (device, request) of open requests whose expiry lies before `now` (ms), the oldest first."""
        _, rows = await self._ask(questions.OVERDUE, now=now)
        return tuple((answers.device_of(stream), request) for _, stream, request in rows)

    async def approvers(self, *, besides: str, under: str | None, skip: int = 0) -> tuple[str, ...]:
        """Return at most 16 devices, besides one, whose operator token covers approving, the latest first."""
        stream = device_stream(besides)
        _, rows = await self._ask(questions.APPROVERS, stream=stream, under=under, skip=skip, most=MOST_APPROVERS)
        return tuple(answers.device_of(stream) for _, stream in rows)

    async def locks(self, *, device: str | None = None, at: int | None = None) -> Answer[LockRow]:
        """Return the keys that are kept out, the latest lock first."""
        sql = questions.LOCKS if device is None else questions.LOCKS_OF
        position, rows = await self._ask(sql, at, stream=device_stream(device or ""))
        return Answer(position, tuple(answers.lock_row(row) for row in rows))

    async def locks_over(self, now: int, most: int) -> tuple[str, ...]:
        """Return up to so many devices whose lock has come to its end by `now` (ms), the oldest first."""
        _, rows = await self._ask(questions.LOCKS_OVER, now=now, most=most)
        return tuple(answers.device_of(row[1]) for row in rows)

    async def due(self, *, after: int, until: int, most: int, device: str | None = None) -> Answer[DueRow]:
        """Return up to so many tokens whose lifetime ends after a time and by another (ms), the next first."""
        sql, stream = (questions.DUE, "") if device is None else (questions.DUE_OF, device_stream(device))
        position, rows = await self._ask(sql, after=after, until=until, most=most, stream=stream)
        return Answer(position, tuple(answers.due_row(row) for row in rows))

    async def aged(self, role: str, before: int, *, after: int, until: int) -> Answer[DueRow]:
        """Return the live tokens of a role that were issued before a time (ms) and last changed in a range of positions."""
        position, rows = await self._ask(questions.AGED, role=role, before=before, after=after, until=until)
        return Answer(position, tuple(answers.due_row(row) for row in rows))

    async def handed_over(self) -> tuple[HandedOver, ...]:
        """Return the tokens whose predecessor was left a while and is not known to have ended, the soonest first."""
        _, rows = await self._ask(questions.HANDED_OVER)
        return tuple(HandedOver(answers.device_of(stream), *rest) for _, stream, *rest in rows)

    async def crowd(self, address: str | None) -> Crowd:
        """Count the open requests: from an address (None: from an unknown one), and in all."""
        _, rows = await self._ask(questions.CROWD, address=address)
        return Crowd(*rows[0][1:])

    async def events(self, sought: Sought, *, limit: int) -> Found:
        """Return where the events stand that are looked for, newest first; bounded work, so that there may be more below."""
        return await trail.find(self._ask, sought, limit)

    async def changes(self, positions: Sequence[int]) -> dict[int, tuple[Change, ...]]:
        """Return what each of these events changed."""
        return await trail.changes(self._ask, positions)

    async def called(self, devices: Iterable[str]) -> dict[str, str]:
        """Return what devices are called now."""
        _, rows = await self._ask(questions.CALLED, streams=as_json([device_stream(device) for device in devices]))
        return {answers.device_of(stream): name for _, stream, name in rows}

    async def acted(self, device: str, *, below: int | None = None) -> Acted:
        """Return where a device acted on others, before a position."""
        bound = _EVERYWHERE if below is None else below
        _, rows = await self._ask(questions.ACTED, below=bound, stream=device_stream(device), node=node_stream(device))
        return answers.acted(rows)

    async def streams_since(self, after: int) -> tuple[str, ...]:
        """Return the streams in which something was recorded after a position."""
        _, rows = await self._ask(questions.SINCE, after=after)
        return tuple(str(row[1]) for row in rows)

    async def damaged(self) -> tuple[Damage, ...]:
        """Return the rows of the log that cannot be read, in their order."""
        _, rows = await self._ask(questions.DAMAGED)
        return tuple(Damage(*row[1:]) for row in rows)

    async def position_at(self, time: int) -> int:
        """Return the last position recorded at or before a time (ms); 0 where the log begins later."""
        _, rows = await self._ask(questions.POSITION_AT, time=time)
        if not rows:
            _, rows = await self._ask(questions.POSITION_BY_LOOKING, time=time)
        return int(rows[0][1])

    async def issued(self, *, after: int, limit: int) -> tuple[Issued, ...]:
        """Return generations of all devices' tokens, dead ones too, in their order above a position."""
        _, rows = await self._ask(questions.ISSUED, after=after, most=limit)
        return tuple(Issued(position, answers.device_of(stream), role, issue) for _, position, stream, role, issue in rows)

    async def touched(self, *, start: int, end: int, after: int, limit: int) -> tuple[Touched, ...]:
        """Return the devices touched above `start` and up to `end`, by their first such position above `after`."""
        _, rows = await self._ask(questions.TOUCHED, start=start, end=end, after=max(start, after), most=limit)
        return tuple(Touched(position, answers.owner_of(stream)) for _, position, stream in rows)

    async def touched_by(self, kinds: Sequence[str], *, after: int, limit: int) -> tuple[Touched, ...]:
        """Return the devices that have events of some kinds above a position, with the latest of these, latest first."""
        _, rows = await self._ask(questions.TOUCHED_BY, kinds=as_json(list(kinds)), after=after, most=limit)
        return tuple(Touched(position, answers.device_of(stream)) for _, position, stream in rows)

    async def time_at(self, position: int) -> int | None:
        """Return when a position was recorded (ms); None where the log has no such position."""
        _, rows = await self._ask(questions.TIME_AT, place=position)
        return int(rows[0][1]) if rows else None

    async def position(self) -> int:
        """Return the position up to which the views have followed, after catching up."""
        return await self.catch_up()


async def _open(path: Path | None, instead_of: Store | None = None) -> Store:
    try:
        return await Store.open(path, instead_of)
    except (OSError, sqlite3.Error) as error:
        return await _in_memory(path, error)


async def _in_memory(path: Path | None, error: Exception) -> Store:
    log.warning("views cannot be written and are kept in memory", path=str(path), error=str(error))
    return await Store.open(None)
