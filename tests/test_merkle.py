"""The Merkle tree over the log: known roots and proofs, a second definition of each, and every forgery refused (L5)."""

import base64
import hashlib
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairing.log import checkpoint, merkle, note
from pairing.log.checkpoint import Checkpoint
from pairing.log.merkle import Growing, consistency, extends, includes, inclusion, leaf, node, root
from pairing.log.note import NoteUnusable
from pairing.tokens import GatewayKey, Keyring

# The inputs and results that implementations of Certificate Transparency share (RFC 6962 §2.1).
ENTRIES = tuple(bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
))  # fmt: skip
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
INCLUSION = {
    (0, 1): (),
    (0, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (5, 8): (
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 3): ("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",),
    (1, 5): (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
}
CONSISTENCY = {
    (1, 1): (),
    (1, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (6, 8): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 5): (
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
}
KEY = GatewayKey(bytes(range(32)))
NAME = "pairing/log/00112233"


def nodes_of(entries: tuple[bytes, ...]) -> merkle.Nodes:
    @cache
    def nodes(level: int, index: int) -> bytes:
        if level == 0:
            return leaf(entries[index])
        return node(nodes(level - 1, 2 * index), nodes(level - 1, 2 * index + 1))

    return nodes


def plain_root(entries: tuple[bytes, ...]) -> bytes:
    """The definition of RFC 6962 §2.1, word by word."""
    if not entries:
        return hashlib.sha256().digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = 1
    while 2 * k < len(entries):
        k *= 2
    return hashlib.sha256(b"\x01" + plain_root(entries[:k]) + plain_root(entries[k:])).digest()


def test_the_known_roots() -> None:
    """Every size of the shared inputs has the root that everybody gets."""
    growing = Growing()
    assert growing.root() == merkle.EMPTY_ROOT == root(0, nodes_of(()))
    for size, expected in enumerate(ROOTS, 1):
        growing.add(ENTRIES[size - 1 : size])
        assert growing.root().hex() == expected
        assert root(size, nodes_of(ENTRIES)).hex() == expected == plain_root(ENTRIES[:size]).hex()


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_the_known_inclusion_proofs(index: int, size: int) -> None:
    """Paths of single leaves, step by step."""
    proof = inclusion(index, size, nodes_of(ENTRIES))
    assert tuple(step.hex() for step in proof) == INCLUSION[index, size]
    assert includes(ENTRIES[index], index, size, proof, bytes.fromhex(ROOTS[size - 1]))


@pytest.mark.parametrize(("old", "size"), CONSISTENCY)
def test_the_known_consistency_proofs(old: int, size: int) -> None:
    """Proofs that a shorter log is the beginning of a longer one."""
    proof = consistency(old, size, nodes_of(ENTRIES))
    assert tuple(step.hex() for step in proof) == CONSISTENCY[old, size]
    assert extends(old, bytes.fromhex(ROOTS[old - 1]), size, bytes.fromhex(ROOTS[size - 1]), proof)


def test_every_proof_of_every_small_tree_holds_for_itself_alone() -> None:
    """All sizes to 40: each proof holds, and none for another leaf, another size, another root or with a step changed (L5)."""
    entries = tuple(bytes([n]) * 32 for n in range(40))
    nodes = nodes_of(entries)
    for size in range(1, 41):
        top = root(size, nodes)
        assert top == plain_root(entries[:size])
        for index in range(size):
            proof = inclusion(index, size, nodes)
            assert includes(entries[index], index, size, proof, top)
            assert not includes(entries[index - 1], index, size, proof, top) or size == 1
            assert not includes(entries[index], index, size, (*proof, top), top)
            assert not includes(entries[index], index, size, proof[:-1], top) or not proof
            assert not includes(entries[index], index + 1, size, proof, top)
            assert not includes(entries[index], index, size, proof, leaf(top))
        for old in range(1, size + 1):
            proof = consistency(old, size, nodes)
            before = root(old, nodes)
            assert extends(old, before, size, top, proof)
            assert not extends(old, leaf(before), size, top, proof)
            assert not extends(old, before, size, leaf(top), proof)
            if proof:
                assert not extends(old, before, size, top, proof[:-1])
                assert not extends(old, before, size, top, (*proof[:-1], leaf(proof[-1])))
            if old < size:
                assert not extends(old + 1, before, size, top, proof)
    assert extends(0, merkle.EMPTY_ROOT, 5, root(5, nodes), ())
    assert not extends(6, root(6, nodes), 5, root(5, nodes), ())


@given(st.integers(0, 700))
def test_growing_by_whole_subtrees_gives_the_same_root(size: int) -> None:
    """Complete subtrees of 256 first and single leaves after them: the root is that of single leaves alone."""
    entries = tuple(n.to_bytes(32, "big") for n in range(size))
    one, other = Growing(), Growing()
    one.add(entries)
    full = size // 256 * 256
    other.add_complete((merkle.complete([leaf(entry) for entry in entries[at : at + 256]]) for at in range(0, full, 256)), 256)
    other.add(entries[full:])
    assert (one.size, one.root()) == (other.size, other.root())


def made(size: int = 3) -> str:
    return checkpoint.sign(Checkpoint(NAME, size, b"r" * 32, b"c" * 32), KEY)


def test_a_checkpoint_is_these_lines() -> None:
    """Origin, size, root, chain, an empty line and the signature: the form of signed notes, with Ed25519."""
    lines = made().split("\n")
    assert lines[:5] == [NAME, "3", base64.b64encode(b"r" * 32).decode(), "chain " + (b"c" * 32).hex(), ""]
    who = checkpoint.verifier(KEY, NAME)
    name, shown = lines[5].removeprefix("\N{EM DASH} ").split(" ")
    blob = base64.b64decode(shown)
    assert (name, blob[:4], len(blob), lines[6:]) == (NAME, who.hash, 68, [""])
    assert who.hash == hashlib.sha256(NAME.encode() + b"\n\x01" + who.key).digest()[:4]
    assert note.verifier(str(who)) == who
    assert KEY.checkpoint_seed() not in (KEY.secret, bytes(32))


def test_a_known_key_reads_back() -> None:
    """The example of the note format's description: its verifier key and its signature hold here."""
    key = note.verifier("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    signature = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    signed = f"{text}\n\N{EM DASH} PeterNeumann {signature}\n"
    assert note.opened(signed, (key,)) == text
    with pytest.raises(NoteUnusable, match="does not fit"):
        note.opened(signed.replace("answer", "question"), (key,))


def test_whatever_is_changed_on_a_checkpoint_is_refused() -> None:
    """Each character of text and signature changed: no trusted signature, or none that fits (L5)."""
    trusted = (checkpoint.verifier(KEY, NAME),)
    sound = made()
    assert checkpoint.opened(sound, trusted).size == 3
    for at, character in enumerate(sound):
        changed = sound[:at] + ("1" if character != "1" else "2") + sound[at + 1 :]
        with pytest.raises(NoteUnusable):
            checkpoint.opened(changed, trusted)
    for end in range(len(sound)):
        with pytest.raises(NoteUnusable):
            checkpoint.opened(sound[:end], trusted)


def test_only_the_trusted_count() -> None:
    """Another gateway's signature is none; beside one that is trusted it does no harm; older keys of the gateway stay good."""
    other = GatewayKey(bytes(32))
    forged = checkpoint.sign(Checkpoint(NAME, 3, b"r" * 32, b"c" * 32), other)
    mine = checkpoint.verifiers(Keyring(KEY), NAME)
    with pytest.raises(NoteUnusable, match="no signature of a trusted key"):
        checkpoint.opened(forged, mine)
    both = made() + forged.rpartition("\n\n")[2]
    assert checkpoint.opened(both, mine).size == 3
    assert checkpoint.opened(forged, checkpoint.verifiers(Keyring(KEY, (other,)), NAME)).size == 3


@pytest.mark.parametrize("text", ["", "x\n", "a\n1\n\n", "a\n01\nAA==\nchain 00\n", "a\n-1\n\n\n", "a\n1\n!\nchain 00\n"])
def test_what_is_no_checkpoint_is_said_to_be_none(text: str) -> None:
    """D1: unreadable is never taken for empty."""
    with pytest.raises(NoteUnusable, match="no checkpoint"):
        checkpoint.parse(text)


@pytest.mark.parametrize("text", ["", "a+b", "a+00000000+AQ==", "a b+00000000+AQ==", str(checkpoint.verifier(KEY, NAME))[:-6]])
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    """A key that was cut or mistyped is told so, not used."""
    with pytest.raises(NoteUnusable, match="verifier key"):
        note.verifier(text)
