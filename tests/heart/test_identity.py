"""Device identities: the published vectors, the forms a key may take, and the order in which a proof is judged."""

import base64
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.pretty import pretty_repr

from pairing.identity import SKEW_MS, Identity, Proof, b64url, check, device_id, public_key, unb64, verifies
from pairing.platforms import fold_case
from pairing.refusals import Reason

NONCE = "00000000-0000-4000-8000-000000000000"
SIGNED = 1_777_000_000_000
OURS = Identity(bytes(range(32)))
KEY = "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
DEVICE = "56475aa75463474c0285df5dbf2bcab73da651358839e9b77481b2eab107708c"
ORDER = 2**252 + 27742317777372353535851937790883648493
WYCHEPROOF = json.loads((Path(__file__).parents[1] / "golden" / "wycheproof_ed25519.json").read_text())["tests"]


def proof(version="v3", identity=OURS, **fields):
    made = Proof(
        **{
            "device": identity.device,
            "key": identity.key,
            "signature": "",
            "signed_at": SIGNED,
            "nonce": NONCE,
            "client_id": "cli",
            "client_mode": "cli",
            "role": "operator",
            "scopes": ("operator.pairing",),
            "token": "T",
            "platform": "linux",
            "family": None,
            **fields,
        }
    )
    return made if made.signature else replace(made, signature=identity.sign(made.payload(version)))


def judged(made, nonce=NONCE, now=SIGNED):
    return check(made, nonce=nonce, now=now)


# --- vectors -------------------------------------------------------------------------------------------------------

NODE = {"client_id": "node-host", "client_mode": "node", "role": "node", "scopes": (), "token": "", "platform": "Darwin"}
CLI_3 = "m6kYXClPve0oVkdUDVjJX-rAiL54aXqJoyLkfq2z-JlrBjddbdSgaajMlEKOntE3m5Rpcpp2a1dlap2wzkfwCQ"
CLI_2 = "gQTibOfVSVqvB6iMPbIvcld9Y_3UC3e03NZc2UOIkY47yJ54-RGoNdhMIPtw19T_oDjBEJ0xMN_okEIF4KByCQ"
NODE_3 = "x0pc5z_zyWkZswh8q5Y0M5xHlXjh1bQCOt5wUZk9XW_3XJ6NQ-GfBkoB64M_2fUuzkPOYz5bn3yv7D_-A8lSDg"


@pytest.mark.parametrize(
    ("version", "fields", "payload", "signature"),
    [
        ("v3", {}, f"v3|{DEVICE}|cli|cli|operator|operator.pairing|1777000000000|T|{NONCE}|linux|", CLI_3),
        ("v2", {}, f"v2|{DEVICE}|cli|cli|operator|operator.pairing|1777000000000|T|{NONCE}", CLI_2),
        ("v3", {**NODE, "family": " Mac "}, f"v3|{DEVICE}|node-host|node|node||1777000000000||{NONCE}|darwin|mac", NODE_3),
    ],
)
def test_payloads_and_signatures_are_those_of_the_protocol(version, fields, payload, signature):
    """ID-01, N2, protocol §3.3: the exact signed bytes, and signatures made by an independent library."""
    made = proof(version, **fields)
    assert made.payload(version) == payload.encode()
    assert made.signature == signature
    assert judged(made) is None


def test_a_key_gives_its_device_id():
    """N1, protocol §3.3: base64url of the raw key, lower-case hex of its SHA-256."""
    assert (OURS.key, OURS.device) == (KEY, DEVICE)
    assert device_id(OURS.raw_key) == DEVICE == hashlib.sha256(OURS.raw_key).hexdigest()


RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        b"",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        bytes.fromhex("72"),
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        bytes.fromhex("af82"),
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").digest(),
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]


@pytest.mark.parametrize(
    ("seed", "public", "message", "signature"), RFC_8032, ids=["test 1", "test 2", "test 3", "test sha(abc)"]
)
def test_signatures_are_those_of_the_standard(seed, public, message, signature):
    """RFC 8032 §7.1: seed gives key, message gives signature, and one changed bit anywhere gives no."""
    identity = Identity(bytes.fromhex(seed))
    assert identity.raw_key.hex() == public
    assert unb64(identity.sign(message)).hex() == signature
    key, good = bytes.fromhex(public), bytes.fromhex(signature)
    assert verifies(key, message, good)
    for place in range(0, 64, 7):
        bad = bytearray(good)
        bad[place] ^= 1
        assert not verifies(key, message, bytes(bad))
    assert not verifies(key, message + b"\0", good)
    assert not verifies(bytes(32), message, good)


@pytest.mark.parametrize("vector", WYCHEPROOF, ids=lambda vector: f"tc{vector['tcId']}")
def test_the_hard_vectors_are_judged_right(vector):
    """N2: truncated, padded, overflowing, malleable and overlapping signatures (Wycheproof) are refused, the good ones taken."""
    key, message, signature = (bytes.fromhex(vector[name]) for name in ("pk", "msg", "sig"))
    assert verifies(key, message, signature) is vector["valid"]


def test_a_signature_has_one_form():
    """RFC 8032 §8.4: adding the group order to S gives no second signature for the same message."""
    signature = unb64(OURS.sign(b"message"))
    assert verifies(OURS.raw_key, b"message", signature)
    again = int.from_bytes(signature[32:], "little") + ORDER
    assert not verifies(OURS.raw_key, b"message", signature[:32] + again.to_bytes(32, "little"))


@pytest.mark.parametrize("point", ["00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f", "ed" + "ff" * 30 + "7f"])
def test_keys_of_small_order_prove_nothing(point):
    """N1: under such a key one signature would fit every message."""
    key = bytes.fromhex(point)
    for r in (key, bytes([1]) + bytes(31)):
        assert not verifies(key, b"any", r + bytes(32))


# --- forms of keys -------------------------------------------------------------------------------------------------


def pem(raw, prefix="302a300506032b6570032100", line="\n"):
    body = base64.b64encode(bytes.fromhex(prefix) + raw).decode()
    return f"-----BEGIN PUBLIC KEY-----{line}{body}{line}-----END PUBLIC KEY-----{line}"


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        KEY + "=",
        base64.b64encode(OURS.raw_key).decode(),
        base64.b64encode(OURS.raw_key).decode().rstrip("="),
        f"  {KEY}\n",
        pem(OURS.raw_key),
        pem(OURS.raw_key, line="\r\n"),
        pem(OURS.raw_key, line=""),
        "\n " + pem(OURS.raw_key),
    ],
)
def test_every_form_of_a_key_is_the_same_key(text):
    """ID-23: base64url, standard base64, padded or not, and SPKI PEM give the same raw key and the same device."""
    assert public_key(text) == OURS.raw_key
    assert judged(proof(key=text)) is None
    assert b64url(public_key(text)) == KEY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        KEY[:-2],
        KEY + "AAAA",
        KEY.replace("A", "!", 1),
        KEY[:20] + " " + KEY[20:],
        KEY[:20] + "=" + KEY[20:],
        "é" * 43,
        "\ud800" * 43,
        pem(OURS.raw_key, prefix=""),
        pem(OURS.raw_key, prefix="302a300506032b656e032100"),
        pem(OURS.raw_key[:-1]),
        pem(OURS.raw_key + b"\0"),
        "-----BEGIN PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY-----" * 2400,
        "-----BEGIN PUBLIC KEY-----\n" + "A" * 60_000 + "\n-----END PUBLIC KEY-----",
    ],
)
def test_what_is_no_key_is_no_key(text):
    """Protocol §3.4, N13: an undecodable key is an identity mismatch, never an exception, and never slow."""
    assert public_key(text) is None
    assert judged(proof(key=text)) is Reason.DEVICE_ID_MISMATCH


def test_an_id_in_upper_case_is_another_id():
    """ID-07: compared exactly."""
    assert judged(proof(device=DEVICE.upper())) is Reason.DEVICE_ID_MISMATCH
    assert judged(proof(device=f" {DEVICE}")) is Reason.DEVICE_ID_MISMATCH


# --- what a signature covers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"signed_at": SIGNED + 1},
        {"client_id": "other"},
        {"client_mode": "other"},
        {"role": "node"},
        {"scopes": ()},
        {"scopes": ("operator.pairing", "operator.admin")},
        {"scopes": ("operator.pairing ",)},
        {"token": "T "},
        {"token": ""},
        {"platform": "darwin"},
        {"platform": None},
        {"family": "mac"},
    ],
)
def test_whatever_is_signed_cannot_be_changed_afterwards(change):
    """N2, ID-17, ID-19: nonce, time, token, role, scopes, client and platform are covered as they were sent."""
    made = proof()
    assert judged(replace(made, **change)) is Reason.SIGNATURE_INVALID


def test_scopes_are_signed_in_the_order_sent():
    """ID-17."""
    made = proof(scopes=("b", "a"))
    assert judged(made) is None
    assert judged(replace(made, scopes=("a", "b"))) is Reason.SIGNATURE_INVALID


def test_a_proof_is_for_one_key():
    """N1: another device's signature over the same words is no proof."""
    other = Identity(b"x" * 32)
    made = proof()
    assert judged(replace(made, signature=other.sign(made.payload("v3")))) is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_both_payload_versions_are_taken(version):
    """Protocol §3.2: v3 first, then v2, which does not cover the platform."""
    made = proof(version)
    assert judged(made) is None
    assert (judged(replace(made, platform="other")) is None) == (version == "v2")


def test_a_standard_base64_signature_is_taken():
    """Protocol §3.1: base64url or standard base64, padded or not."""
    made = proof()
    raw = unb64(made.signature)
    for text in (base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()):
        assert judged(replace(made, signature=text)) is None


@pytest.mark.parametrize("signature", ["A" * 86, "", "x", "é" * 86, "\ud800", CLI_3 + "AA", CLI_3[:-4], "A" * 100_000])
def test_what_is_no_signature_is_refused(signature):
    """ID-05: zero bytes, other lengths and other letters."""
    made = replace(proof(), signature=signature)
    assert judged(made) is Reason.SIGNATURE_INVALID


# --- normalised fields ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "signed"),
    [
        ("  Linux ", "linux"),
        ("\tDARWIN\n", "darwin"),
        (None, ""),
        ("", ""),
        ("Straße", "straße"),
        ("\u0130stanbul", "\u0130stanbul"),
        ("\u212aelvin", "\u212aelvin"),
        ("ÄÖÜ", "ÄÖÜ"),
        ("a b", "a b"),
    ],
)
def test_only_a_to_z_are_folded(sent, signed):
    """ID-03, protocol §3.2: trimmed, then A to Z alone; other letters have lower cases too, but not for signatures."""
    assert fold_case(sent) == signed
    assert proof(platform=sent, family=sent).payload("v3").decode().endswith(f"|{signed}|{signed}")
    assert judged(proof(platform=sent, family=sent)) is None


def test_every_ascii_letter_is_folded_and_nothing_else():
    """ID-03: the whole table."""
    assert "".join(fold_case(chr(code)) or chr(code) for code in range(33, 127)) == "".join(
        chr(code + 32) if 65 <= code <= 90 else chr(code) for code in range(33, 127)
    )


# --- order and bounds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("off", "reason"),
    [
        (0, None),
        (118_000, None),
        (-118_000, None),
        (120_000, None),
        (-120_000, None),
        (120_001, Reason.SIGNATURE_STALE),
        (-120_001, Reason.SIGNATURE_STALE),
        (121_000, Reason.SIGNATURE_STALE),
        (10**18, Reason.SIGNATURE_STALE),
        (-(10**18), Reason.SIGNATURE_STALE),
    ],
)
def test_clocks_may_differ_by_two_minutes(off, reason):
    """ID-09, ID-11, N4: by the server's clock, both ways, the last millisecond included."""
    assert SKEW_MS == 120_000
    assert judged(proof(), now=SIGNED + off) is reason


@pytest.mark.parametrize(
    ("sent", "reason"), [("", Reason.NONCE_MISSING), ("  ", Reason.NONCE_MISSING), ("other", Reason.NONCE_MISMATCH)]
)
def test_a_nonce_is_this_sockets(sent, reason):
    """ID-13, N3."""
    assert judged(proof(nonce=sent)) is reason


def test_a_nonce_may_be_padded():
    """Protocol §3.2: the trimmed nonce is signed and compared."""
    assert judged(proof(nonce=f" {NONCE} ")) is None


def test_a_blank_challenge_admits_nobody():
    """N3: also where a server were to challenge with nothing."""
    assert judged(proof(nonce=""), nonce="") is Reason.NONCE_MISSING


def test_faults_are_named_in_the_order_of_the_checks():
    """Protocol §3.4: identity, age, nonce missing, nonce of another socket, signature."""
    wrong = replace(proof(), device="0" * 64, signed_at=0, nonce=" ", signature="x")
    order = []
    for fixed in ({}, {"device": DEVICE}, {"signed_at": SIGNED}, {"nonce": "other"}, {"nonce": NONCE}, {"signature": CLI_3}):
        wrong = replace(wrong, **fixed)
        order.append(judged(wrong))
    assert order == [
        Reason.DEVICE_ID_MISMATCH,
        Reason.SIGNATURE_STALE,
        Reason.NONCE_MISSING,
        Reason.NONCE_MISMATCH,
        Reason.SIGNATURE_INVALID,
        None,
    ]


nasty = st.one_of(
    st.text(max_size=40),
    st.text(alphabet=st.characters(categories=["Cs"]), min_size=1, max_size=4),
    st.sampled_from(["", KEY, NONCE, "x" * 50_000, "\ud800", "\0", "|", "=" * 90, pem(OURS.raw_key)]),
)


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(st.data())
def test_nothing_that_is_sent_raises(data):
    """N13: surrogates, nulls, separators and long fields are judged, not crashed on."""
    texts = ["key", "signature", "nonce", "client_id", "client_mode", "role", "token", "platform", "family"]
    sent = {name: data.draw(nasty, label=name) for name in texts if data.draw(st.booleans())}
    sent["scopes"] = tuple(data.draw(st.lists(nasty, max_size=3)))
    made = proof(**sent)
    expected = {None, *(reason for reason in Reason if reason.value.startswith("device-"))}
    assert judged(made, nonce=made.nonce.strip() or NONCE) in expected
    assert judged(replace(made, signed_at=data.draw(st.integers())), nonce=NONCE) in expected


def test_a_seed_shows_nowhere():
    """L7: printing an identity, also by a pretty printer, shows the device alone."""
    for shown in (repr(OURS), str(OURS), f"{OURS}", pretty_repr(OURS), repr([OURS])):
        assert OURS.device in shown
        assert repr(OURS.seed) not in shown
        assert "\\x01\\x02" not in shown
