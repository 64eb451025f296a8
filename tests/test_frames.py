"""The wire's frames: what is read, what is written, and that nothing a peer sends can raise."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from pairing.gateway.frames import (
    EventFrame,
    Malformed,
    Request,
    Response,
    StateVersion,
    broadcast,
    challenge,
    event,
    parse_request,
    response_error,
    response_ok,
)
from pairing.gateway.transport import cut

# Integers that every JSON reader agrees on, and no lone surrogates: what JSON can carry from one program to another.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def malformed(data: str | bytes) -> Malformed:
    found = parse_request(data)
    assert isinstance(found, Malformed)
    return found


def test_a_request_is_read_from_text_and_from_binary() -> None:
    """A binary message with the same JSON bytes is accepted too (protocol §1.1)."""
    text = '{"type":"req","id":"7","method":"device.pair.list","params":{"a":1}}'
    for data in (text, text.encode()):
        request = parse_request(data)
        assert isinstance(request, Request)
        assert (request.id, request.method) == ("7", "device.pair.list")
        assert isinstance(request.params, Raw)
        assert msgspec.json.decode(request.params) == {"a": 1}


def test_params_may_be_absent_and_newer_keys_are_let_through() -> None:
    """Requests of newer clients may carry traceparent and expectedProfileId (protocol §1.2)."""
    request = parse_request('{"type":"req","id":"7","method":"health","traceparent":"00-a","expectedProfileId":"p"}')
    assert isinstance(request, Request)
    assert request.params is UNSET


@pytest.mark.parametrize(
    "data",
    ["hello", "", "{", "\ufeff{}", "NaN", '{"a":1} {}', b"\xff", b'{"type":"req","id":"1","method":"x","params":{"a":"\xff"}}'],
)
def test_what_is_not_json_is_told_apart(data: str | bytes) -> None:
    """FR-03: a message that is not JSON is no malformed request; it gets an empty close, or none at all."""
    assert malformed(data).fault == "not-json"


@pytest.mark.parametrize(
    ("data", "problems", "echo"),
    [
        ("[]", "must be object", b'"invalid"'),
        ("null", "must be object", b'"invalid"'),
        ('"x"', "must be object", b'"invalid"'),
        ('{"type":"req","method":"x"}', "must have required property 'id'", b'"invalid"'),
        ('{"type":"req","id":"","method":"x"}', "at /id: must NOT have fewer than 1 characters", b'""'),
        ('{"type":"req","id":"7","method":""}', "at /method: must NOT have fewer than 1 characters", b'"7"'),
        ('{"type":"req","id":{"a":[1]},"method":"x"}', "at /id: must be string", b'{"a":[1]}'),
        ('{"type":"req","id":null,"method":"x"}', "at /id: must be string", b'"invalid"'),
        ('{"type":"req","id":false,"method":"x"}', "at /id: must be string", b"false"),
        ('{"type":"event","id":"1","method":"x"}', "at /type: must be equal to constant", b'"1"'),
        ('{"type":"req","id":"1","method":"x","y":1}', "at root: unexpected property 'y'", b'"1"'),
        (
            '{"type":"req","id":7,"methd":"x"}',
            "must have required property 'method'; at root: unexpected property 'methd'; at /id: must be string",
            b"7",
        ),
    ],
)
def test_a_malformed_request_is_explained_and_its_id_echoed(data: str, problems: str, echo: bytes) -> None:
    """FR-05, FR-25: every departure from the schema is named, and the id, of any JSON type, comes back."""
    found = malformed(data)
    assert found == Malformed("not-a-request", problems, Raw(echo))
    answer = json.loads(response_error(found.id, "INVALID_REQUEST", f"invalid request frame: {found.problems}"))
    assert answer["id"] == json.loads(echo)


def test_nesting_deeper_than_the_stack_is_survived() -> None:
    """N13: 64 KiB of brackets are refused like any other nonsense, wherever they stand."""
    deep = "[" * 30_000 + "]" * 30_000
    for data in (deep, f'{{"id":{deep}}}', f'{{"type":"req","id":"1","method":"x","params":{deep}}}'):
        assert malformed(data).fault == "not-json"


def test_an_id_nested_as_deep_as_can_be_read_can_be_echoed() -> None:
    """What was read can be answered: an echo is copied, never encoded again."""
    for depth in range(0, 1200, 7):
        found = malformed('{"id":' + "[" * depth + "]" * depth + ',"type":"req"}')
        assert response_error(found.id, "INVALID_REQUEST", "x").startswith(b'{"type":"res","id":')


def test_a_flood_of_unknown_keys_is_not_sent_back_whole() -> None:
    """N13: the explanation of a frame of 64 KiB stays small, however many keys are wrong and however long they are."""
    many = {f"k{n}": 1 for n in range(5000)}
    long = {"k" * 60_000: 1}
    for sent in (many, long):
        assert len(malformed(json.dumps(sent)).problems) < 4096


@given(st.text() | st.binary() | JSON.map(json.dumps))
def test_nothing_that_is_sent_raises(data: str | bytes) -> None:
    """Reading is total: a message is a request or it is malformed."""
    assert isinstance(parse_request(data), Request | Malformed)


@given(JSON.filter(lambda sent: sent is not None), st.dictionaries(st.sampled_from(["type", "id", "method", "x"]), JSON))
def test_every_malformed_object_is_explained(value: Any, sent: dict[str, Any]) -> None:
    """The explanation never says less than what is wrong: it has words of the protocol for every failure."""
    found = parse_request(json.dumps(sent | {"method": value}))
    if isinstance(found, Malformed):
        assert found.fault == "not-a-request"
        assert found.problems not in ("", "must fit the schema")


@given(TEXT.filter(bool), TEXT.filter(bool), JSON)
def test_a_request_survives_the_wire(id: str, method: str, params: Any) -> None:
    """Parsing what was encoded gives back what was meant."""
    sent = Request("req", id, method, Raw(msgspec.json.encode(params)))
    request = parse_request(msgspec.json.encode(sent))
    assert isinstance(request, Request)
    assert (request.id, request.method, request.params) == (id, method, sent.params)


@given(TEXT, JSON)
def test_a_response_survives_the_wire(id: str, payload: Any) -> None:
    """Parsing what was encoded gives back what was meant, in exactly the keys of protocol §1.3."""
    ok = response_ok(id, payload)
    assert json.loads(ok) == {"type": "res", "id": id, "ok": True, "payload": payload}
    assert msgspec.json.decode(ok, type=Response) == Response(id, True, payload)


def test_a_success_has_no_error_key_and_a_failure_no_payload() -> None:
    """HE-03: `error` is absent on success, for clients drop a response whose error is null."""
    assert response_ok("1", {}) == b'{"type":"res","id":"1","ok":true,"payload":{}}'
    assert response_ok("1") == b'{"type":"res","id":"1","ok":true}'
    assert (
        response_error("1", "NOT_PAIRED", "no")
        == b'{"type":"res","id":"1","ok":false,"error":{"code":"NOT_PAIRED","message":"no"}}'
    )


def test_a_failure_says_when_to_try_again_only_where_that_is_known() -> None:
    """Optional keys of an error are absent, never null (protocol §1.2)."""
    sent = json.loads(response_error("1", "UNAVAILABLE", "soon", {"reason": "x"}, retryable=True, retry_after_ms=0))
    assert sent["error"] == {
        "code": "UNAVAILABLE",
        "message": "soon",
        "details": {"reason": "x"},
        "retryable": True,
        "retryAfterMs": 0,
    }


def test_the_challenge_is_an_event_without_seq() -> None:
    """FR-01: the first frame holds the nonce and the gateway's time, and nothing else."""
    assert json.loads(challenge("n", 5)) == {"type": "event", "event": "connect.challenge", "payload": {"nonce": "n", "ts": 5}}


@given(TEXT.filter(bool), JSON, st.integers(1, 2**53), st.none() | st.builds(StateVersion, st.integers(0, 9), st.integers(0, 9)))
def test_a_broadcast_is_the_event_with_a_number_for_each_connection(
    name: str, payload: Any, seq: int, version: StateVersion | None
) -> None:
    """FR-37: what is encoded once for all is, number by number, what would have been encoded for each."""
    once = broadcast(name, payload, version)
    assert once.numbered(seq) == event(name, payload, seq, version)
    assert msgspec.json.decode(once.numbered(seq), type=EventFrame).seq == seq


@given(st.text())
@settings(max_examples=200)
def test_a_close_reason_is_cut_at_a_character(text: str) -> None:
    """Every close reason fits 120 bytes of UTF-8 and loses no more than it must (protocol §1.4)."""
    whole = text.encode(errors="replace")
    told = cut(text).encode()
    assert whole.startswith(told)
    assert len(told) <= 120
    assert told == whole or len(whole) > 120 >= len(told) > 116


def test_a_long_reason_of_wide_characters_is_cut_between_them() -> None:
    """A character that would be cut in two is left out."""
    assert cut("a" + "é" * 80) == "a" + "é" * 59
    assert cut("é" * 80) == "é" * 60
