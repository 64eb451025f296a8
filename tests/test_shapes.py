"""Params of methods: what fits is decoded in one go, what does not is explained from the type itself."""

import json
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from pairing.shapes import BadParams, Name, NoParams, decode_params, explain


class Inner(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    on: bool
    full_name: Name | UnsetType = UNSET


class Sample(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    device_id: Name
    count: Annotated[int, Meta(ge=1, le=9)] = 1
    label: Annotated[str, Meta(min_length=2, max_length=4)] | None = None
    kind: Literal["a", "b"] = "a"
    scopes: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=3)] | UnsetType = UNSET
    inner: Inner | UnsetType = UNSET
    flags: dict[Name, bool] | UnsetType = UNSET
    share: float = 0.0
    more: Any = UNSET


def refusal(sent: object) -> str:
    with pytest.raises(BadParams) as caught:
        decode_params("sample.do", Sample, Raw(json.dumps(sent).encode()))
    assert caught.value.__context__ is None
    return caught.value.problems


@pytest.mark.parametrize(
    ("sent", "problems"),
    [
        ([], "must be object"),
        ({}, "must have required property 'deviceId'"),
        ({"deviceId": ""}, "at /deviceId: must NOT have fewer than 1 characters"),
        ({"deviceId": 5}, "at /deviceId: must be string"),
        ({"deviceId": "d", "x": 1, "y": 2}, "at root: unexpected property 'x'; at root: unexpected property 'y'"),
        ({"deviceId": "d", "count": 0}, "at /count: must be >= 1"),
        ({"deviceId": "d", "count": 10}, "at /count: must be <= 9"),
        ({"deviceId": "d", "count": 1.5}, "at /count: must be integer"),
        ({"deviceId": "d", "count": True}, "at /count: must be integer"),
        ({"deviceId": "d", "label": "abcde"}, "at /label: must NOT have more than 4 characters"),
        ({"deviceId": "d", "label": 1}, "at /label: must be string"),
        ({"deviceId": "d", "kind": "c"}, "at /kind: must be equal to one of the allowed values"),
        ({"deviceId": "d", "scopes": "s"}, "at /scopes: must be array"),
        ({"deviceId": "d", "scopes": []}, "at /scopes: must NOT have fewer than 1 items"),
        ({"deviceId": "d", "scopes": ["a", ""]}, "at /scopes/1: must NOT have fewer than 1 characters"),
        ({"deviceId": "d", "scopes": None}, "at /scopes: must be array"),
        ({"deviceId": "d", "inner": {}}, "at /inner: must have required property 'on'"),
        ({"deviceId": "d", "inner": {"on": 1, "z": 0}}, "at /inner: unexpected property 'z'; at /inner/on: must be boolean"),
        ({"deviceId": "d", "flags": {"a/b~": 1}}, "at /flags/a~1b~0: must be boolean"),
        ({"deviceId": "d", "share": "x"}, "at /share: must be number"),
        ({"count": 0, "kind": 1}, "must have required property 'deviceId'; at /count: must be >= 1; "
         "at /kind: must be equal to one of the allowed values"),
    ],
)  # fmt: skip
def test_every_violation_is_named(sent: object, problems: str) -> None:
    """The list of a refusal has one entry for each violation, in the protocol's words (§1.4)."""
    assert refusal(sent) == problems


def test_the_message_names_the_method() -> None:
    """A refusal reads `invalid <method> params: <list>` (protocol §1.5)."""
    with pytest.raises(BadParams, match=r"^invalid sample\.do params: must be object$"):
        decode_params("sample.do", Sample, Raw(b"[]"))


def test_absent_and_null_params_are_an_empty_object() -> None:
    """A method without params may be called with none, null or `{}` (protocol §6.1)."""
    for raw in (UNSET, None, Raw(b"{}"), Raw(b"null"), Raw(b" null")):
        assert decode_params("m", NoParams, raw) == NoParams()
    with pytest.raises(BadParams, match="must have required property 'deviceId'"):
        decode_params("m", Sample, UNSET)


def test_values_are_never_shown() -> None:
    """L7: an explanation names keys only, because a value may be a secret, and carries no exception that has one."""
    secret = "s3cret-value"
    for sent in (secret, [secret], {"kind": secret}, {"count": secret}, {"deviceId": [secret]}, {"share": secret}):
        assert secret not in refusal(sent)
    with pytest.raises(BadParams) as caught:
        decode_params("m", Sample, Raw(json.dumps({"x": 1, "kind": secret}).encode()), forgiving=lambda sent: True)
    assert caught.value.__context__ is None


def test_unknown_keys_are_dropped_only_where_somebody_forgives_them() -> None:
    """Forgiveness covers unknown keys on every level, nothing else."""
    sent = {"deviceId": "d", "x": 1, "inner": {"on": True, "z": 0}, "more": {"kept": 1}}
    raw = Raw(json.dumps(sent).encode())
    found = decode_params("m", Sample, raw, forgiving=lambda sent: "x" in sent)
    assert found == Sample("d", inner=Inner(True), more={"kept": 1})
    with pytest.raises(BadParams, match="unexpected property 'x'"):
        decode_params("m", Sample, raw, forgiving=lambda sent: False)
    with pytest.raises(BadParams, match=r"^invalid m params: must have required property 'deviceId'$"):
        decode_params("m", Sample, Raw(b'{"x":1}'), forgiving=lambda sent: True)


def test_params_that_cannot_be_read_are_refused() -> None:
    """N13: nesting beyond the stack, numbers beyond all range and bad UTF-8 are refused, never raised."""
    for text in (
        b'{"more":1e999}',
        b'{"count":' + b"9" * 9_000 + b"}",
        b"[" * 40_000,
        b'{"more":' + b"[" * 40_000 + b"]" * 40_000 + b"}",
        b'{"deviceId":"\xff"}',
    ):
        with pytest.raises(BadParams, match="must be readable JSON"):
            decode_params("m", Sample, Raw(text))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("ab", max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["on", "fullName", "z", ""]), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["deviceId", "count", "label", "kind", "scopes", "inner", "flags", "share", "more", "x"]


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES) | VALUES)
def test_decoding_and_explaining_agree(sent: Any) -> None:
    """What decodes has no violation, and what does not decode has one that is named."""
    raw = Raw(msgspec.json.encode(sent))
    try:
        msgspec.json.decode(raw, type=Sample)
        fits = True
    except msgspec.ValidationError:
        fits = False
    assert (explain(Sample, msgspec.json.decode(raw)) == "must fit the schema") == fits
