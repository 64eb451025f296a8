"""What happened, in a line that a person can read and nobody can forge."""

from pathlib import Path

import msgspec
import pytest

from pairing.events import (
    Actor,
    DeviceRemoved,
    DeviceRenamed,
    Meta,
    RequestApproved,
    RequestExpired,
    TokenRotated,
    Unknown,
    device_stream,
    node_stream,
)
from pairing.log.codec import KINDS, decode
from pairing.log.port import Line
from pairing.sentences import actor, device, sentence, subject, words

GOLDEN = Path(__file__).parent.parent / "golden" / "events"
LAPTOP, PHONE = "3f2a9c11" + "0" * 56, "77aa01bc" + "1" * 56
NAMES = {LAPTOP: "alice's laptop", PHONE: "phone"}
BY_PHONE = Meta(actor=Actor("device", PHONE), command="c")
APPROVED = {"at": 1, "request": "r1", "digest": "d", "roles": ("operator",), "scopes": ("operator.read",)}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_that_was_ever_stored_is_one_line(kind):
    """L2: the sentence of every golden event, with and without who did it, is one printable line and no bare repr."""
    event = decode(Line(1, device_stream(LAPTOP), 1, kind, _body(kind)))
    for meta in (BY_PHONE, None):
        said = sentence(device_stream(LAPTOP), event, meta, NAMES.get)
        assert said.isprintable()
        assert said == said.strip().rstrip(".")
        assert type(event).__name__ not in said
        assert "None" not in said


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            RequestApproved(means="owner", **APPROVED),
            '"alice\'s laptop" (3f2a9c11) was approved by "phone" (77aa01bc) as operator with operator.read',
        ),
        (
            RequestApproved(means="silent", **APPROVED),
            '"alice\'s laptop" (3f2a9c11) was approved without asking anybody, being local and knowing the shared secret, '
            "as operator with operator.read",
        ),
        (RequestExpired(at=1, request="r1"), 'nobody answered request r1 of "alice\'s laptop" (3f2a9c11) in time'),
        (DeviceRemoved(at=1, roles=(), issues=()), '"alice\'s laptop" (3f2a9c11) was removed by "phone" (77aa01bc)'),
        (DeviceRenamed(at=1, labelled=None), '"alice\'s laptop" (3f2a9c11) lost its label by "phone" (77aa01bc)'),
        (
            TokenRotated(at=1, role="operator", scopes=(), retires="a", issue="b", key="k", under=None),
            'the operator token of "alice\'s laptop" (3f2a9c11) was replaced by "phone" (77aa01bc); the new one is for nothing',
        ),
        (
            Unknown(kind="device.teleported", raw=b"{}"),
            '"alice\'s laptop" (3f2a9c11): device.teleported, which a newer version recorded',
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_a_sentence_says_who_did_what_to_whom(event, said):
    """L2: actor, act and target are all in it."""
    assert sentence(device_stream(LAPTOP), event, BY_PHONE, NAMES.get) == said


def test_a_name_cannot_pass_for_a_sentence():
    """A device chooses its name: it stays in its quotes, on its line, left to right, and beside the id that is truly its own."""
    forged = 'x" was removed by local user 0\n\u202e"'
    said = device(LAPTOP, lambda _: forged)
    assert said.count('"') == 2
    assert said.isprintable()
    assert said.endswith("(3f2a9c11)")
    assert len(device(LAPTOP, lambda _: "n" * 1000)) < 100
    assert words(["operator.read\n"]).isprintable()


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (device_stream(PHONE), '"phone" (77aa01bc)'),
        (node_stream(PHONE), '"phone" (77aa01bc)'),
        (device_stream("e" * 64), "device eeeeeeee"),
        (node_stream("e" * 64), "node eeeeeeee"),
        ("gateway", "the gateway"),
        ("enrolment:42", "setup code 42"),
    ],
)
def test_whom_a_stream_is_about(stream, said):
    """Nothing that has no name goes without one."""
    assert subject(stream, NAMES.get) == said


@pytest.mark.parametrize(
    ("who", "said"),
    [
        (Actor("device", PHONE), '"phone" (77aa01bc)'),
        (Actor("shared-secret"), "a holder of the shared secret"),
        (Actor("shared-secret", PHONE), '"phone" (77aa01bc) by the shared secret'),
        (Actor("local", "1000"), "local user 1000"),
        (Actor("timer"), "the clock"),
        (Actor("policy"), "the policy"),
    ],
)
def test_who_acted(who, said):
    """L2: every kind of actor has words."""
    assert actor(who, NAMES.get) == said


def _body(kind):
    return msgspec.json.encode(msgspec.json.decode((GOLDEN / f"{kind}.json").read_bytes())["body"])
