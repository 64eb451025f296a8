"""Decoding by type, and saying in the protocol's words what is wrong with what did not fit (protocol §1.4).

Owns strict decoding of closed objects and the list of problems, both derived from the Struct itself. The list is only made
once a decoding has failed. It names keys, never values: a value may be somebody's secret.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct, UnsetType
from msgspec import inspect as shape

T = TypeVar("T", bound=Struct)

Name: TypeAlias = Annotated[str, Meta(min_length=1)]
"""A string that is not empty."""

UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What decoding may raise: a bad byte, a bad shape, or nesting deeper than the stack."""

_EMPTY: Final = b"{}"
_LISTED: Final = 32
_KEY_CHARS: Final = 64
_CONSTANT: Final = "must be equal to constant"
_CHOICE: Final = "must be equal to one of the allowed values"


class NoParams(Struct, frozen=True, forbid_unknown_fields=True):
    """The params of a method that takes none."""


class BadParams(Exception):
    """The params of a method do not fit. `problems` is the bare list; the text is the wire's message."""

    def __init__(self, method: str, problems: str) -> None:
        self.method = method
        self.problems = problems
        super().__init__(f"invalid {method} params: {problems}")


def decode_params(
    method: str, kind: type[T], raw: Raw | UnsetType | None, *, forgiving: Callable[[dict[str, Any]], bool] | None = None
) -> T:
    """Decode the params of a request into their Struct; absent or null ones count as `{}`.

    `forgiving` is asked, only after the strict decoding failed, whether unknown keys are to be dropped. Raises BadParams.
    """
    try:
        decoded: T = _decoder(kind).decode(raw or _EMPTY)
        return decoded
    except UNREADABLE:
        pass
    try:
        sent = msgspec.json.decode(raw or _EMPTY)
    except UNREADABLE:
        raise BadParams(method, "must be readable JSON") from None
    if sent is None:
        return decode_params(method, kind, None)
    if forgiving is not None and isinstance(sent, dict) and forgiving(sent):
        sent = _known(_shape(kind), sent)
        with suppress(*UNREADABLE):
            return msgspec.convert(sent, kind)
    # Raised outside the handlers, so that no chained exception carries a value along.
    raise BadParams(method, explain(kind, sent))


def explain(kind: type[Struct], sent: object) -> str:
    """List how a decoded value departs from a Struct, at most 32 entries, joined by `; ` (protocol §1.4)."""
    found = islice(_problems_of(_shape(kind), sent, ""), _LISTED)
    return "; ".join(found) or "must fit the schema"


def _problems_of(kind: shape.Type, sent: object, at: str) -> Iterator[str]:
    match kind:
        case shape.StructType():
            yield from _object(kind, sent, at)
        case shape.DictType():
            yield from _map(kind, sent, at)
        case shape.VarTupleType() | shape.ListType():
            yield from _array(kind, sent, at)
        case shape.UnionType():
            yield from _union(kind, sent, at)
        case shape.StrType():
            yield from _said(at, _string(kind, sent))
        case shape.IntType() | shape.FloatType():
            yield from _said(at, _number(kind, sent))
        case shape.BoolType():
            yield from _said(at, [] if isinstance(sent, bool) else ["must be boolean"])
        case shape.NoneType():
            yield from _said(at, [] if sent is None else ["must be null"])
        case shape.LiteralType():
            allowed = any(type(sent) is type(value) and sent == value for value in kind.values)
            yield from _said(at, [] if allowed else [_CONSTANT if len(kind.values) == 1 else _CHOICE])


def _object(kind: shape.StructType, sent: object, at: str) -> Iterator[str]:
    if not isinstance(sent, dict):
        yield from _said(at, ["must be object"])
        return
    known = {field.encode_name: field for field in kind.fields}
    lacking = (name for name, field in known.items() if field.required and name not in sent)
    yield from _said(at, (f"must have required property '{name}'" for name in lacking))
    if kind.forbid_unknown_fields:
        unknown = (key for key in sent if key not in known)
        yield from _said(at or "root", (f"unexpected property '{key[:_KEY_CHARS]}'" for key in unknown))
    for name, field in known.items():
        if name in sent:
            yield from _problems_of(field.type, sent[name], _under(at, name))


def _map(kind: shape.DictType, sent: object, at: str) -> Iterator[str]:
    if not isinstance(sent, dict):
        yield from _said(at, ["must be object"])
        return
    for key, value in sent.items():
        yield from _problems_of(kind.key_type, key, _under(at, key))
        yield from _problems_of(kind.value_type, value, _under(at, key))


def _array(kind: shape.VarTupleType | shape.ListType, sent: object, at: str) -> Iterator[str]:
    if not isinstance(sent, list):
        yield from _said(at, ["must be array"])
        return
    yield from _said(at, _length(kind, len(sent), "items"))
    for index, item in enumerate(sent):
        yield from _problems_of(kind.item_type, item, _under(at, str(index)))


def _union(kind: shape.UnionType, sent: object, at: str) -> Iterator[str]:
    kinds = (each for each in kind.types if not isinstance(each, shape.NoneType))
    tried = [list(islice(_problems_of(each, sent, at), _LISTED)) for each in kinds]
    if all(tried) and not (sent is None and kind.includes_none):
        yield from tried[0]


def _string(kind: shape.StrType, sent: object) -> Iterator[str]:
    if isinstance(sent, str):
        return _length(kind, len(sent), "characters")
    return iter(["must be string"])


def _number(kind: shape.IntType | shape.FloatType, sent: object) -> Iterator[str]:
    whole = isinstance(kind, shape.IntType)
    if not isinstance(sent, int if whole else (int, float)) or isinstance(sent, bool):
        yield "must be integer" if whole else "must be number"
        return
    if kind.ge is not None and sent < kind.ge:
        yield f"must be >= {kind.ge}"
    if kind.le is not None and sent > kind.le:
        yield f"must be <= {kind.le}"


def _length(kind: shape.StrType | shape.VarTupleType | shape.ListType, length: int, unit: str) -> Iterator[str]:
    if kind.min_length is not None and length < kind.min_length:
        yield f"must NOT have fewer than {kind.min_length} {unit}"
    if kind.max_length is not None and length > kind.max_length:
        yield f"must NOT have more than {kind.max_length} {unit}"


def _said(at: str, texts: Iterable[str]) -> Iterator[str]:
    prefix = f"at {at}: " if at else ""
    return (prefix + text for text in texts)


def _under(at: str, key: str) -> str:
    return f"{at}/{key[:_KEY_CHARS].replace('~', '~0').replace('/', '~1')}"


def _known(kind: shape.Type, sent: object) -> object:
    if not isinstance(kind, shape.StructType) or not isinstance(sent, dict):
        return sent
    return {f.encode_name: _known(f.type, sent[f.encode_name]) for f in kind.fields if f.encode_name in sent}


@lru_cache
def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(kind)


@lru_cache
def _shape(kind: type[Struct]) -> shape.Type:
    return shape.type_info(kind)
