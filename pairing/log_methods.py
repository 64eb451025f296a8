"""The methods about the log itself: their parameters, their answers, and what they do. They read and copy; none appends.

Rows are everybody's history, names and addresses included: whoever reads them needs operator.admin (A2).
"""

import base64
from typing import Annotated, Any

import msgspec
from msgspec import Struct

from .authority import ADMIN, PAIRING
from .custody import Custody, Page, Status
from .log.receipt import Receipt
from .notary import Notary, Signed
from .refusals import Reason, Refused
from .service import Call, Method, Params, Service
from .shapes import NoParams
from .verification import Verification

Note = Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]


class LogVerifyParams(Params, frozen=True, kw_only=True):
    """`checkpoint` is one that this gateway has signed before: with it a cut-off end shows."""

    checkpoint: Note | None = None


class LogCheckpointParams(Params, frozen=True, kw_only=True):
    """`since` is an older checkpoint, to be shown to be the beginning of the new one."""

    since: Note | None = None


class LogReceiptParams(Params, frozen=True, kw_only=True):
    """One event by its position."""

    position: Annotated[int, msgspec.Meta(ge=1, le=2**53)]


class LogExportParams(Params, frozen=True, kw_only=True):
    """Rows above a position, at most so many; an answer may hold fewer."""

    after: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 500


class LogCheckpoint(Struct, frozen=True, rename="camel"):
    """A checkpoint: the signed `note` to keep elsewhere. `root` in base64; `since` and `proof` where an older one was given."""

    note: str
    origin: str
    size: int
    root: str
    hash: str
    since: int | None
    proof: tuple[str, ...]


class LogBackup(Struct, frozen=True, rename="camel"):
    """A backup that was checked whole, at a path of the gateway's own host."""

    path: str
    position: int
    hash: str
    rows: int


async def log_status(call: Call[NoParams]) -> Status:
    """Say how far the log goes, and by which keys its checkpoints are known."""
    return await _custody(call.service).status()


async def log_verify(call: Call[LogVerifyParams]) -> Verification:
    """Check every row and what it is stored in; what is wrong is in the answer, with what could not be checked (L5, L10)."""
    return await _custody(call.service).verify(call.params.checkpoint)


async def log_checkpoint(call: Call[LogCheckpointParams]) -> LogCheckpoint:
    """Sign for the log as it stands: size and Merkle root, to be kept elsewhere."""
    return told(await _notary(call.service).checkpoint(call.params.since))


def told(signed: Signed) -> LogCheckpoint:
    """Return a checkpoint as it is answered."""
    found = signed.checkpoint
    proof = tuple(base64.b64encode(step).decode() for step in signed.proof)
    root = base64.b64encode(found.root).decode()
    return LogCheckpoint(signed.note, found.origin, found.size, root, found.chain.hex(), signed.since, proof)


async def log_receipt(call: Call[LogReceiptParams]) -> Receipt:
    """Prove one event offline: its row without what points at a person, its audit path, and a checkpoint."""
    return await _notary(call.service).receipt(call.params.position)


async def log_export(call: Call[LogExportParams]) -> Page:
    """Give rows as lines of an export, page by page."""
    return await _custody(call.service).page(call.params.after, call.params.limit)


async def log_backup(call: Call[NoParams]) -> LogBackup:
    """Copy the log while it is being written, check the copy whole, and keep it in `backups` of the gateway's state folder."""
    copied = await _custody(call.service).back_up()
    return LogBackup(str(copied.path), copied.mark.position, copied.mark.hash.hex(), copied.rows)


def _custody(service: Service) -> Custody:
    if service.custody is None:
        raise Refused(Reason.NO_LOG_FILE)
    return service.custody


def _notary(service: Service) -> Notary:
    notary = _custody(service).notary
    if notary is None:
        raise Refused(Reason.NO_LOG_FILE)
    return notary


METHODS: tuple[Method[Any], ...] = (
    Method("log.status", NoParams, log_status, PAIRING),
    Method("log.checkpoint", LogCheckpointParams, log_checkpoint, PAIRING),
    Method("log.verify", LogVerifyParams, log_verify, ADMIN, waits=True),
    Method("log.receipt", LogReceiptParams, log_receipt, ADMIN),
    Method("log.export", LogExportParams, log_export, ADMIN),
    Method("log.backup", NoParams, log_backup, ADMIN, waits=True),
)
