"""Tokens and tags: derived from the gateway's key, recognised in constant time, and shown nowhere."""

import hmac
import json
from itertools import combinations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.pretty import pretty_repr

from pairing import tokens
from pairing.device import INITIAL
from pairing.settings import Secret
from pairing.tokens import KEY_BYTES, TOKEN_LENGTH, GatewayKey, Keyring

DEVICE, OTHER = "d" * 64, "e" * 64
KEY, OLDER, FOREIGN = GatewayKey(b"k" * 32), GatewayKey(b"o" * 32), GatewayKey(b"f" * 32)
RING = Keyring(KEY, (OLDER,))
text = st.text(max_size=12)


@pytest.fixture
def live(paired, make):
    """A paired operator whose token derives from the present gateway key."""

    def build(*scopes, key=KEY):
        story = paired(*scopes)
        story.given(replace(make.rotate(), key=key.id))
        return story

    return build


# --- deriving ------------------------------------------------------------------------------------------------------


def test_a_token_is_43_letters_and_256_bits():
    """T3: base64url without padding of one HMAC-SHA-256."""
    token = KEY.token(DEVICE, "operator", "i1")
    assert (KEY_BYTES, TOKEN_LENGTH, len(token)) == (32, 43, 43)
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert token == KEY.token(DEVICE, "operator", "i1")


def test_the_derivation_is_for_ever():
    """D10: the bytes under the HMAC are fixed; a change would kill every token in use."""
    parts = [b"pairing token v1", DEVICE.encode(), b"operator", b"i1"]
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    assert tokens.b64url(hmac.digest(KEY.secret, message, "sha256")) == KEY.token(DEVICE, "operator", "i1")


def test_every_part_makes_another_token():
    """T12: device, role, issue and gateway key."""
    made = {
        KEY.token(DEVICE, "operator", "i1"),
        KEY.token(OTHER, "operator", "i1"),
        KEY.token(DEVICE, "node", "i1"),
        KEY.token(DEVICE, "operator", "i2"),
        FOREIGN.token(DEVICE, "operator", "i1"),
    }
    assert len(made) == 5


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(st.tuples(text, text, text), st.tuples(text, text, text))
def test_parts_cannot_run_into_each_other(one, other):
    """T12: parts are prefixed by their length, so that only equal parts give equal tokens."""
    assert (KEY.token(*one) == KEY.token(*other)) == (one == other)


def test_moving_a_letter_between_parts_makes_another_token():
    """T12: the same letters in all, cut elsewhere."""
    letters = "abcdef"
    cuts = [(letters[:i], letters[i:j], letters[j:]) for i, j in combinations(range(7), 2)]
    assert len({KEY.token(*cut) for cut in cuts}) == len(cuts)


# --- recognising ---------------------------------------------------------------------------------------------------


def token_of(story, role="operator", key=KEY, device=DEVICE):
    return key.token(device, role, story.grant.token(role).issue)


def test_the_present_token_is_recognised_and_handed_to_its_device_alone(live):
    """AU-27, T4: for its device and role it is the one; hello gives the same again."""
    story = live("operator.read")
    token = token_of(story)
    issue = story.grant.token("operator").issue
    assert RING.recognise(story.state, DEVICE, "operator", token) == issue
    assert RING.token_of(story.state, DEVICE, "operator") == token
    assert RING.token_of(story.state, OTHER, "operator") != token
    assert RING.token_of(story.state, DEVICE, "node") is None
    assert RING.token_of(INITIAL, DEVICE, "operator") is None


def test_a_token_is_nothing_to_another_device_role_or_gateway(live):
    """AU-29, AU-35, T12."""
    story = live("operator.read")
    token = token_of(story)
    assert RING.recognise(story.state, OTHER, "operator", token) is None
    assert RING.recognise(story.state, DEVICE, "node", token) is None
    assert Keyring(FOREIGN).recognise(story.state, DEVICE, "operator", token) is None
    assert RING.recognise(INITIAL, DEVICE, "operator", token) is None


@pytest.mark.parametrize("end", ["rotate", "revoke", "remove"])
def test_a_dead_token_is_known_by_name_but_never_current(live, make, end):
    """T1, V7: which generation it was can still be said; it is not the one that is current, and is not handed out."""
    story = live("operator.read")
    token, issue = token_of(story), story.grant.token("operator").issue
    story.given(getattr(make, end)())
    assert RING.recognise(story.state, DEVICE, "operator", token) == issue
    assert not story.live() or story.grant.token("operator").issue != issue
    assert RING.token_of(story.state, DEVICE, "operator") != token


def test_tokens_of_an_older_gateway_key_hold_until_they_are_rotated(live, make):
    """T12, D10: the event names the key; the present one makes the next token."""
    story = live("operator.read", key=OLDER)
    token = token_of(story, key=OLDER)
    assert RING.recognise(story.state, DEVICE, "operator", token) == story.grant.token("operator").issue
    assert RING.token_of(story.state, DEVICE, "operator") == token
    assert Keyring(KEY).recognise(story.state, DEVICE, "operator", token) is None
    assert Keyring(KEY).token_of(story.state, DEVICE, "operator") is None


@pytest.mark.parametrize(
    "shown",
    ["", " ", "é" * 43, "x" * 43, "x" * 44, "\ud800" * 43, "\0" * 43, "A" * 200_000, "null", "***", "<redacted>", "[REDACTED]"],
)
def test_what_is_no_token_matches_nothing_and_breaks_nothing(live, shown):
    """TK-23, T3, T15: blanks, letters of more bytes, surrogates, placeholders."""
    story = live("operator.read")
    assert RING.recognise(story.state, DEVICE, "operator", shown) is None
    assert RING.recognise(story.state, DEVICE, "operator", token_of(story)) is not None


@pytest.mark.parametrize(
    "change", [str.swapcase, str.strip, lambda t: t + "=", lambda t: " " + t, lambda t: t[:-1], lambda t: t[::-1]]
)
def test_only_the_exact_token_matches(live, change):
    """T3."""
    story = live("operator.read")
    token = token_of(story)
    assert (RING.recognise(story.state, DEVICE, "operator", change(token)) is not None) == (change(token) == token)


def test_tokens_and_secrets_are_compared_in_constant_time(live, monkeypatch):
    """T3: every comparison of a secret goes through compare_digest, over equal lengths of bytes."""
    seen = []
    real = hmac.compare_digest

    def watched(one, other):
        seen.append((one, other))
        return real(one, other)

    monkeypatch.setattr(tokens.hmac, "compare_digest", watched)
    story = live("operator.read")
    assert RING.recognise(story.state, DEVICE, "operator", token_of(story)) is not None
    assert RING.recognise(story.state, DEVICE, "operator", "x" * 43) is None
    assert Secret("right").matches("right")
    assert not Secret("wrong one").matches("right")
    assert len(seen) >= 4
    assert all(isinstance(side, bytes) for pair in seen for side in pair)
    assert {len(side) for pair in seen[-2:] for side in pair} == {32}


# --- shared secrets and tags ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "configured", "same"),
    [
        ("s", "s", True),
        (" s\n", "s", True),
        ("s", " s ", True),
        ("s", "S", False),
        ("s", "ss", False),
        ("", "s", False),
        ("\t", "s", False),
        ("\ud800", "s", False),
        ("é", "e\u0301", False),
        ("é", "é", True),
        ("s" * 100_000, "s", False),
    ],
)
def test_blank_never_matches(given_, configured, same):
    """T3: trimmed, then compared; nothing equals nothing is still no."""
    assert Secret(configured).matches(given_) is same


tagged = st.one_of(st.none(), st.text(max_size=6), st.sampled_from(["0", "1", "\ud800"]))


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(st.lists(tagged, max_size=3), st.lists(tagged, max_size=3))
def test_tags_are_equal_for_equal_parts_alone(one, other):
    """L6: absent and empty are two things, and no part runs into the next."""
    assert (KEY.tag("seen", *one) == KEY.tag("seen", *other)) == (one == other)


def test_a_tag_tells_nothing_without_the_key():
    """L6, T14: another purpose or another gateway gives another tag of 16 hex characters."""
    tags = {KEY.tag("seen", "Alice"), KEY.tag("label", "Alice"), FOREIGN.tag("seen", "Alice"), KEY.tag("seen", "Alic", "e")}
    assert len(tags) == 4
    assert all(len(tag) == 16 and set(tag) <= set("0123456789abcdef") for tag in tags)


def test_tokens_tags_and_key_ids_are_separate():
    """T14: what events carry (ids and tags) is no prefix of what opens doors."""
    token = KEY.token("", "", "")
    raw = tokens.hmac.digest(KEY.secret, b"", "sha256").hex()
    assert KEY.id != KEY.tag("", "")
    assert len({KEY.id, FOREIGN.id, OLDER.id}) == 3
    assert KEY.id not in raw
    assert not token.startswith(KEY.id)


def test_a_ring_finds_its_keys():
    """T12: present and older ones by their public name; nothing else."""
    assert (RING.find(KEY.id), RING.find(OLDER.id), RING.find(FOREIGN.id), RING.find("")) == (KEY, OLDER, None, None)


def test_a_key_shows_nowhere():
    """L7, T14: printing a key or a ring, also by a pretty printer or inside an error, shows ids alone."""
    secret = GatewayKey(b"super-secret-gateway-key-32bytes")
    ring = Keyring(secret, (secret,))
    for shown in (repr(secret), f"{ring}", pretty_repr(secret), pretty_repr(ring), str(ValueError(ring)), repr({"ring": [ring]})):
        assert secret.id in shown
        assert "super-secret" not in shown


def test_a_state_holds_no_token(live):
    """T14, T4: neither the state nor its events, written out, hold the token or anything it derives from."""
    story = live("operator.read")
    token = token_of(story)
    written = json.dumps([msgspec.to_builtins(event) for event in story.history]) + json.dumps(msgspec.to_builtins(story.state))
    assert token not in written
    assert KEY.secret.hex() not in written
    assert KEY.secret.decode() not in written
