"""Checkpoints: a signed word that the log had this many rows and this root. Kept elsewhere, one shows a cut-off end.

The form is that of https://c2sp.org/tlog-checkpoint. Pure; when one is made and where it is kept is for others to say.
"""

import base64
import binascii

from msgspec import Struct

from pairing.tokens import GatewayKey, Keyring

from . import note
from .note import NoteUnusable, Verifier

_CHAIN = "chain "


class Checkpoint(Struct, frozen=True):
    """The first `size` rows of the log `origin`: their Merkle root, and the hash of the last of them (`chain`)."""

    origin: str
    size: int
    root: bytes
    chain: bytes

    def text(self) -> str:
        """Return the lines that are signed: origin, size, root in base64, and `chain` with the last row's hash in hex."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n{_CHAIN}{self.chain.hex()}\n"


def origin(first: bytes) -> str:
    """Return the name of a log for ever: from the hash of its first row, which no two logs share."""
    return f"pairing/log/{first.hex()[:16]}"


def verifier(key: GatewayKey, name: str) -> Verifier:
    """Return by what the checkpoints of a gateway key are known."""
    return note.signer(name, key.checkpoint_seed())


def verifiers(keyring: Keyring, name: str) -> tuple[Verifier, ...]:
    """Return by what the checkpoints of a gateway are known: its present key first, then the older ones."""
    return tuple(verifier(key, name) for key in (keyring.current, *keyring.older))


def sign(checkpoint: Checkpoint, key: GatewayKey) -> str:
    """Return a checkpoint as a signed note, in the name of its origin."""
    return note.sign(checkpoint.text(), checkpoint.origin, key.checkpoint_seed())


def parse(text: str) -> Checkpoint:
    """Read the text of a note as a checkpoint; further lines are passed over. Raises `NoteUnusable`."""
    lines = text.split("\n")
    if (
        len(lines) < 4
        or not lines[0]
        or not (lines[1] == "0" or (lines[1].isascii() and lines[1].isdigit() and lines[1][0] != "0"))
    ):
        raise NoteUnusable("it is no checkpoint: origin, number of rows and root must be its first lines")
    try:
        root = base64.b64decode(lines[2], validate=True)
        chain = next(bytes.fromhex(line.removeprefix(_CHAIN)) for line in lines[3:] if line.startswith(_CHAIN))
    except (binascii.Error, ValueError, StopIteration):
        raise NoteUnusable("it is no checkpoint of a pairing log: its root or its chain line is missing or wrong") from None
    if len(root) != 32 or len(chain) != 32 or len(lines[1]) > 18:
        raise NoteUnusable("it is no checkpoint of a pairing log: its root or its chain line has another length")
    return Checkpoint(lines[0], int(lines[1]), root, chain)


def opened(text: str, trusted: tuple[Verifier, ...]) -> Checkpoint:
    """Read a signed checkpoint that one of the trusted has signed. Raises `NoteUnusable`."""
    return parse(note.opened(text, trusted))


def unjudged(text: str) -> Checkpoint:
    """Read what a checkpoint claims, to learn whose it is; nobody has vouched for it yet. Raises `NoteUnusable`."""
    return parse(note.split(text)[0])
