"""Signed notes: a text that anybody can read, and below it lines by which anybody can tell who stands for it.

The form is that of https://c2sp.org/signed-note with Ed25519 (algorithm 1). Pure; what a note says is for others to know.
"""

import base64
import binascii
from hashlib import sha256

from msgspec import Struct
from nacl.signing import SigningKey

from pairing.identity import verifies
from pairing.refusals import PairingError

_ED25519 = b"\x01"
_DASH = "\N{EM DASH} "


class NoteUnusable(PairingError):
    """A text is no signed note, or nobody who is trusted has signed it."""


class Verifier(Struct, frozen=True):
    """A name and the public key behind it, such as `pairing/log/0f3a+1b2c3d4e+AZ…` writes them down."""

    name: str
    key: bytes

    @property
    def hash(self) -> bytes:
        """The four bytes by which a signature names its key."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.key).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.hash.hex()}+{base64.b64encode(_ED25519 + self.key).decode()}"


def verifier(text: str) -> Verifier:
    """Read a verifier key, `<name>+<hash>+<key>`. Raises `NoteUnusable`."""
    name, _, rest = text.strip().partition("+")
    shown, _, encoded = rest.partition("+")
    key = _unb64(encoded)
    if not _nameable(name) or key is None or len(key) != 33 or key[:1] != _ED25519:
        raise NoteUnusable("that is no verifier key: it must be <name>+<8 hex digits>+<base64 of an Ed25519 key>")
    found = Verifier(name, key[1:])
    if found.hash.hex() != shown:
        raise NoteUnusable(f"the verifier key of {name} is damaged: its hash is {found.hash.hex()}, not what it says")
    return found


def signer(name: str, seed: bytes) -> Verifier:
    """Return by what the signatures of a seed are known."""
    return Verifier(name, bytes(SigningKey(seed).verify_key))


def sign(text: str, name: str, seed: bytes) -> str:
    """Return the note: a text that ends with a newline, signed with the Ed25519 key of a 32-byte seed."""
    signature = SigningKey(seed).sign(text.encode()).signature
    return f"{text}\n{_DASH}{name} {base64.b64encode(signer(name, seed).hash + signature).decode()}\n"


def opened(note: str, trusted: tuple[Verifier, ...]) -> str:
    """Return the text of a note that one of the trusted has signed. Raises `NoteUnusable`.

    Signatures of others are passed over; a wrong one in a trusted name and hash condemns the note.
    """
    text, lines = split(note)
    known = {(one.name, one.hash): one for one in trusted}
    good = False
    for name, blob in lines:
        who = known.get((name, blob[:4]))
        if who is None:
            continue
        if not verifies(who.key, text.encode(), blob[4:]):
            raise NoteUnusable(f"the signature of {name} does not fit: the note was changed")
        good = True
    if not good:
        names = ", ".join(str(one) for one in trusted) or "nobody"
        raise NoteUnusable(f"no signature of a trusted key is on it (trusted: {names})")
    return text


def split(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Return the text of a note, unjudged, and its signatures as (name, key hash and signature). Raises `NoteUnusable`."""
    head, found, tail = note.rpartition("\n\n")
    if not found or not tail.endswith("\n") or any(ord(c) < 32 and c != "\n" for c in note):
        raise NoteUnusable("it is no signed note: a text, an empty line and lines of signatures")
    lines = []
    for line in tail[:-1].split("\n"):
        name, _, encoded = line.removeprefix(_DASH).partition(" ")
        blob = _unb64(encoded)
        if not line.startswith(_DASH) or not _nameable(name) or blob is None or len(blob) < 5:
            raise NoteUnusable("it is no signed note: a line below the empty one is no signature")
        lines.append((name, blob))
    return head + "\n", lines


def _nameable(name: str) -> bool:
    return bool(name) and name.isprintable() and not any(c.isspace() or c == "+" for c in name)


def _unb64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
