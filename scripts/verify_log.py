#!/usr/bin/env python3
"""Check what came out of a pairing log, with the Python standard library alone and none of the service's own code.

    scripts/verify_log.py export FILE [--checkpoint NOTE] [--key VKEY]
    scripts/verify_log.py receipt FILE --key VKEY
    scripts/verify_log.py checkpoint NOTE --key VKEY [--since OLDER --proof BASE64 ...]

The formats are described in docs/log.md. Exit 0: it holds. Exit 1: it does not; the first thing that is wrong is named, with its
line or position. What could not be checked is said. Signatures are Ed25519, worked out from RFC 8032 with plain
integers: slow, some milliseconds each, but it signs nothing, so it has no secret to leak by its timing.
"""

import argparse
import base64
import binascii
import hashlib
import json
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

GENESIS = hashlib.sha256(b"pairing log genesis 1\n").digest()


class Wrong(Exception):
    """What does not hold, and where."""


# --- the chain ---


def sha256(data: bytes) -> bytes:
    """Return SHA-256."""
    return hashlib.sha256(data).digest()


def row_hash(row: dict[str, Any], previous: bytes) -> bytes:
    """Return the hash of a row that follows `previous`."""
    texts = [row["stream"].encode(), row["kind"].encode(), row["meta"].encode(), row["body"].encode()]
    texts.append(bytes.fromhex(row["personal_hash"] or ""))
    numbers = b"".join(row[name].to_bytes(8, "big", signed=True) for name in ("position", "version", "recorded_at"))
    lengths = b"".join(len(text).to_bytes(4, "big") for text in texts)
    return sha256(b"pairing log row 1\n" + previous + numbers + lengths + b"".join(texts))


# --- the Merkle tree (RFC 6962, RFC 9162) ---


def leaf(entry: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(b"\0" + entry)


def node(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return sha256(b"\1" + left + right)


class Tree:
    """A Merkle root over leaves that come one by one."""

    def __init__(self) -> None:
        self.size = 0
        self.peaks: list[bytes] = []

    def add(self, entry: bytes) -> None:
        """Append a leaf."""
        found, merges = leaf(entry), self.size + 1
        while merges % 2 == 0:
            found, merges = node(self.peaks.pop(), found), merges // 2
        self.peaks.append(found)
        self.size += 1

    def root(self) -> bytes:
        """Return the root."""
        if not self.peaks:
            return sha256(b"")
        found = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            found = node(peak, found)
        return found


def included(entry: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Say whether an entry is the leaf at `index` (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    at, last, found = index, size - 1, leaf(entry)
    for step in proof:
        if last == 0:
            return False
        if at % 2 or at == last:
            found = node(step, found)
            while at % 2 == 0 and at:
                at, last = at // 2, last // 2
        else:
            found = node(found, step)
        at, last = at // 2, last // 2
    return last == 0 and found == root


def extends(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Say whether one tree is the beginning of another (RFC 9162 section 2.1.4.2)."""
    if old == size:
        return not proof and old_root == root
    if not 0 < old < size or not proof:
        return False
    steps = list(proof)
    if old & (old - 1) == 0:
        steps.insert(0, old_root)
    at, last = old - 1, size - 1
    while at % 2:
        at, last = at // 2, last // 2
    before = after = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if at % 2 or at == last:
            before, after = node(step, before), node(step, after)
            while at % 2 == 0 and at:
                at, last = at // 2, last // 2
        else:
            after = node(after, step)
        at, last = at // 2, last // 2
    return last == 0 and before == old_root and after == root


# --- Ed25519 (RFC 8032 section 5.1 and 6) ---

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
Point = tuple[int, int, int, int]


def plus(a: Point, b: Point) -> Point:
    """Add two points in extended coordinates."""
    e = (a[1] - a[0]) * (b[1] - b[0]) % P
    f = (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    left, minus, add, right = f - e, h - g, h + g, f + e
    return left * minus % P, add * right % P, minus * add % P, left * right % P


def times(number: int, point: Point) -> Point:
    """Multiply a point by a number."""
    found: Point = (0, 1, 1, 0)
    while number:
        if number & 1:
            found = plus(found, point)
        point, number = plus(point, point), number >> 1
    return found


def same(a: Point, b: Point) -> bool:
    """Say whether two points are the same."""
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0


def point(data: bytes) -> Point | None:
    """Read a point from its 32 bytes; None where they are none, or are not written as they must be."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if square == 0:
        return None if sign else (0, y, 1, 0)
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P:
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def signed(key: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether an Ed25519 signature holds."""
    if len(key) != 32 or len(signature) != 64:
        return False
    who, r, s = point(key), point(signature[:32]), int.from_bytes(signature[32:], "little")
    if who is None or r is None or s >= ORDER or BASE is None or same(times(8, who), (0, 1, 1, 0)):
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % ORDER
    return same(times(s, BASE), plus(r, times(h, who)))


# --- signed notes and checkpoints (c2sp.org/signed-note, c2sp.org/tlog-checkpoint) ---


def unb64(text: str, what: str) -> bytes:
    """Decode base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Wrong(f"{what} is no base64") from None


def opened(note: str, vkey: str) -> str:
    """Return the text of a note that the owner of a verifier key has signed."""
    name, _, rest = vkey.strip().partition("+")
    shown, _, encoded = rest.partition("+")
    key = unb64(encoded, "the verifier key")
    if len(key) != 33 or key[0] != 1 or sha256(name.encode() + b"\n" + key)[:4].hex() != shown:
        raise Wrong("the verifier key is not one: <name>+<8 hex digits>+<base64 of an Ed25519 key>")
    head, found, tail = note.rpartition("\n\n")
    if not found or not tail.endswith("\n"):
        raise Wrong("the checkpoint is no signed note")
    text, good = head + "\n", False
    for line in tail[:-1].split("\n"):
        who, _, blob64 = line.removeprefix("\N{EM DASH} ").partition(" ")
        blob = unb64(blob64, "a signature")
        if line.startswith("\N{EM DASH} ") and who == name and blob[:4].hex() == shown:
            if not signed(key[1:], text.encode(), blob[4:]):
                raise Wrong("the signature of the checkpoint does not fit")
            good = True
    if not good:
        raise Wrong(f"nobody signed the checkpoint with the key {shown} of {name}")
    return text


def checkpoint(note: str, vkey: str | None) -> tuple[str, int, bytes, bytes]:
    """Return origin, size, root and the last row's hash of a checkpoint, its signature checked where there is a key."""
    text = opened(note, vkey) if vkey else note.rpartition("\n\n")[0] + "\n"
    lines = text.split("\n")
    chain = [line.removeprefix("chain ") for line in lines[3:] if line.startswith("chain ")]
    try:
        return lines[0], int(lines[1]), unb64(lines[2], "the root"), bytes.fromhex(chain[0])
    except (IndexError, ValueError):
        raise Wrong("the checkpoint lacks a line") from None


# --- what is checked ---


def check_export(file: BinaryIO, anchor: tuple[str, int, bytes, bytes] | None) -> str:
    """Check an export line by line; return what to say about it."""
    digest, tree = hashlib.sha256(), Tree()
    header, _ = read(file, 1, digest)
    if header.get("format") != "pairing-log-export" or header.get("version") != 1:
        raise Wrong("line 1: it is no pairing-log-export of version 1")
    first, last, previous = header["first"], header["last"], bytes.fromhex(header["previous"])
    if first == 1 and previous != GENESIS:
        raise Wrong("line 1: the hash before the first row is not that of genesis")
    versions: dict[str, int] = {}
    time, begin, rows = None, "", 0
    for position in range(first, last + 1):
        row, number = read(file, position - first + 2, digest)
        try:
            previous, rows = check_row(row, position, previous, versions, time, f"line {number}"), rows + 1
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise Wrong(f"line {number}: it is no row ({type(error).__name__})") from None
        time = row["recorded_at"]
        tree.add(previous)
        begin = begin or row["hash"]
        if anchor is not None and position == anchor[1] and first == 1 and (tree.root(), previous) != anchor[2:]:
            raise Wrong(f"the first {position} rows are not those that the checkpoint was signed for")
    covered = digest.hexdigest()
    trailer, number = read(file, last - first + 3, digest)
    head = {"position": last, "hash": previous.hex()}
    root = base64.b64encode(tree.root()).decode() if first == 1 else None
    if trailer != {"rows": rows, "head": head, "root": root, "sha256": covered} or file.read(1):
        raise Wrong(f"line {number}: the trailer is not that of the lines before it")
    return f"{rows} rows hold, from {first} to {last}{judged(anchor, begin, first, last)}"


def judged(anchor: tuple[str, int, bytes, bytes] | None, begin: str, first: int, last: int) -> str:
    """Say what the checkpoint adds, or that there is none."""
    if anchor is None:
        return "; not checked: whether rows are missing after them (that needs --checkpoint)"
    if first != 1:
        return "; not checked: the checkpoint, as the first row is not in it"
    if anchor[0] != f"pairing/log/{begin[:16]}":
        raise Wrong(f"the checkpoint is of another log: {anchor[0]}")
    if anchor[1] > last:
        raise Wrong(f"the rows end at {last}, but {anchor[1]} were signed for: the end was cut off")
    return f", and the checkpoint of {anchor[1]} rows is theirs"


def check_row(
    row: dict[str, Any], position: int, previous: bytes, versions: dict[str, int], time: int | None, where: str
) -> bytes:
    """Check one row against the one before it, and return its hash."""
    if row["position"] != position:
        raise Wrong(f"{where}: position {row['position']} stands where position {position} belongs")
    if row_hash(row, previous).hex() != row["hash"]:
        raise Wrong(f"{where}: the row at position {position} is not what its hash stands for")
    personal = row["personal"]
    if personal is not None and sha256(b"pairing log personal 1\n" + personal.encode()).hex() != row["personal_hash"]:
        raise Wrong(f"{where}: the personal part at position {position} does not fit its hash")
    stream, version = row["stream"], row["version"]
    if stream in versions and version != versions[stream] + 1:
        raise Wrong(f"{where}: version {version} of {stream} follows version {versions[stream]}")
    versions[stream] = version
    if time is not None and row["recorded_at"] < time:
        raise Wrong(f"{where}: its time lies before that of the row before it")
    command = json.loads(row["meta"]).get("command", row["command"])
    if command != row["command"]:
        raise Wrong(f"{where}: its command is not the one that its meta names")
    return bytes.fromhex(row["hash"])


def read(file: BinaryIO, number: int, digest: Any) -> tuple[dict[str, Any], int]:
    """Read one line of JSON."""
    line = file.readline()
    digest.update(line)
    try:
        found = json.loads(line)
        if not line.endswith(b"\n") or not isinstance(found, dict):
            raise ValueError
    except (ValueError, RecursionError):
        raise Wrong(f"line {number}: it is no line of an export") from None
    return found, number


def check_receipt(text: str, vkey: str) -> str:
    """Check a receipt; return what to say about it."""
    try:
        found = json.loads(text)
        row, proof = found["row"], [unb64(step, "a step of the proof") for step in found["proof"]]
        if (found["format"], found["version"]) != ("pairing-log-receipt", 1):
            raise ValueError
        digest = row_hash(row, bytes.fromhex(row["previous"]))
        note = found["checkpoint"]
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise Wrong(f"it is no receipt ({type(error).__name__})") from None
    origin, size, root, _ = checkpoint(note, vkey)
    if digest.hex() != row["hash"]:
        raise Wrong("the row is not what its hash stands for")
    if not included(digest, row["position"] - 1, size, proof, root):
        raise Wrong("the proof does not lead from the row to the checkpoint's root")
    return f"{row['kind']} of {row['stream']} is row {row['position']} of {size} of {origin}"


def check_checkpoint(given: argparse.Namespace) -> str:
    """Check a checkpoint, and an older one as its beginning; return what to say about it."""
    origin, size, root, _ = checkpoint(text_of(given.note), given.key)
    if given.since is None:
        return f"{size} rows of {origin} were signed for"
    older, old, old_root, _ = checkpoint(text_of(given.since), given.key)
    proof = [unb64(step, "a step of the proof") for step in given.proof]
    if older != origin or not extends(old, old_root, size, root, proof):
        raise Wrong(f"the checkpoint of {old} rows is not shown to be the beginning of that of {size}")
    return f"the checkpoint of {old} rows is the beginning of that of {size}"


def text_of(path: str) -> str:
    """Read a text file."""
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def main() -> int:
    """Check what is named, and say what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    kinds = parser.add_subparsers(dest="what", required=True)
    export = kinds.add_parser("export")
    export.add_argument("file")
    export.add_argument("--checkpoint")
    export.add_argument("--key")
    receipt = kinds.add_parser("receipt")
    receipt.add_argument("file")
    receipt.add_argument("--key", required=True)
    note = kinds.add_parser("checkpoint")
    note.add_argument("note")
    note.add_argument("--key", required=True)
    note.add_argument("--since")
    note.add_argument("--proof", nargs="*", default=[])
    given = parser.parse_args()
    try:
        match given.what:
            case "export":
                anchor = checkpoint(text_of(given.checkpoint), given.key) if given.checkpoint else None
                with open(given.file, "rb") as file:
                    print(check_export(file, anchor))
                if anchor and not given.key:
                    print("not checked: who signed the checkpoint (that needs --key)")
            case "receipt":
                print(check_receipt(text_of(given.file), given.key))
            case _:
                print(check_checkpoint(given))
    except Wrong as wrong:
        print(f"it does not hold: {wrong}", file=sys.stderr)
        return 1
    except (OSError, UnicodeError) as error:
        print(f"it cannot be read: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
