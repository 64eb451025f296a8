"""The scope algebra and `may`, each answer compared with a second opinion written from the rules alone: sets and brute force.

`disagreements` takes the module under test, so that the same comparison can be held against deliberately broken copies.
"""

from itertools import chain, combinations, product, takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairing import authority
from pairing.commands import Caller
from pairing.events import Actor

KNOWN = {
    "operator.admin",
    "operator.approvals",
    "operator.pairing",
    "operator.questions",
    "operator.read",
    "operator.sessions.read",
    "operator.sessions.write",
    "operator.talk",
    "operator.talk.secrets",
    "operator.write",
}
JUNK = [
    "operator.made-up",
    "operator.admin.more",
    "operator.ADMIN",
    "operator.",
    "operator",
    "operatorx.read",
    "Operator.read",
    "operator.réad",
    "operator\u2024read",
    "node.exec",
    "node.",
    "nodex.exec",
    ".read",
    "admin",
    "*",
    "operator.*",
]
SPACED = [" operator.read ", "\toperator.admin\n", "operator. read", " ", ""]
WORDS = [*sorted(KNOWN), *JUNK, *SPACED]
ROLES = ["operator", "node", "nod", "operator.sessions", ""]
VERBS = [
    "read",
    "approve",
    "reject",
    "rename",
    "rotate",
    "revoke",
    "remove",
    "lock",
    "unlock",
    "approve-node",
    "remove-node",
    "hooks",
]
VERBS += ["break-glass", "forget", "enrol", "import", "restore", "undo"]

CONTAINED = {"approve", "rotate", "revoke", "remove", "lock", "unlock", "approve-node", "hooks", "break-glass", "forget", "enrol"}
CONTAINED |= {"import", "restore", "undo"}

# Protocol §7.2, as arrows: who holds the left holds the right. The rest follows by walking them to the end.
ARROWS = {
    ("operator.write", "operator.read"),
    ("operator.read", "operator.sessions.read"),
    ("operator.write", "operator.sessions.write"),
    ("operator.write", "operator.talk"),
}


def few(words, most):
    """Every choice of at most `most` words, in their order."""
    return list(chain.from_iterable(combinations(words, size) for size in range(most + 1)))


# --- the second opinion --------------------------------------------------------------------------------------------


def trimmed(words):
    seen = []
    for word in words:
        bare = word.strip()
        if bare != "" and bare not in seen:
            seen.append(bare)
    return seen


def in_namespace(role, scope):
    """A scope is a role's where the role and a dot come first and something follows; a bare prefix names nothing."""
    head, dot, tail = scope[: len(role)], scope[len(role) : len(role) + 1], scope[len(role) + 1 :]
    return head == role and dot == "." and tail != ""


def reach(words):
    """Everything that an operator with these scopes holds, of all words there are."""
    have = set(trimmed(words))
    everything = {bare for bare in trimmed(WORDS) if in_namespace("operator", bare)} if "operator.admin" in have else set()
    while more := {right for left, right in ARROWS if left in have} - have:
        have |= more
    return have | everything


def uncovered(role, allowed, wanted):
    have = reach(allowed) if role == "operator" else set(trimmed(allowed))
    return sorted(scope for scope in trimmed(wanted) if not (in_namespace(role, scope) and scope in have))


def token_form(words):
    """Protocol §7.3: only admin's read and write, and write's read, are written out."""
    have = set(trimmed(words))
    if "operator.admin" in have:
        have.add("operator.write")
    if "operator.write" in have:
        have.add("operator.read")
    return tuple(sorted(have))


def opinion(verb, caller, device, access):
    """Allowed or not, by which rule, and what is missing: the rules in order, the first that speaks decides."""
    if caller.scopes is None:
        return (False, "no-caller", None)
    if set(caller.scopes).isdisjoint({"operator.pairing", "operator.admin"}):
        return (False, "no-pairing", "operator.pairing")
    if caller.own not in {None, device}:
        return (False, "foreign", None)
    if verb in {"read", "reject", "rename", "remove-node"}:
        return (True, "allowed", None)
    if verb not in CONTAINED:
        return (False, "unknown-verb", None)
    lent = [*caller.scopes, *(() if verb in {"approve-node", "hooks"} else caller.ceiling)]
    if verb in {"forget", "restore"} and "operator.admin" not in trimmed(lent):
        return (False, "scope", "operator.admin")
    answers = [
        (role == "operator" or "operator.admin" in trimmed(lent), uncovered(role, lent, scopes) if role == "operator" else [])
        for role, scopes in access
    ]
    good = list(takewhile(lambda answer: answer[0] and not answer[1], answers))
    if len(good) == len(answers):
        return (True, "contained", None)
    admin_enough, short = answers[len(good)]
    return (False, "scope", short[0]) if admin_enough else (False, "role", "operator.admin")


# --- the comparison ------------------------------------------------------------------------------------------------

SCOPE_LISTS = few(WORDS, 1) + few(
    ["operator.admin", "operator.read", "operator.write", " operator.talk", "node.exec", "node.", ""], 3
)
SMALL = few(["operator.admin", "operator.read", "operator.write", "operator.pairing", "operator.made-up", "node.exec"], 2)
HELD = [
    None,
    (),
    ("operator.pairing",),
    ("operator.admin",),
    (" operator.admin ",),
    (" operator.pairing",),
    ("operator.PAIRING",),
    ("operator.read", "operator.write"),
    ("operator.pairing", "operator.read"),
    ("operator.pairing", "operator.write"),
    ("operator.pairing", "node.exec"),
    ("operator.pairing", "operator.made-up", " operator.talk.secrets "),
    ("operator.pairing", "operator."),
    ("operator.pairing", " operator.admin "),
    ("operator.admin", "operator.pairing"),
    tuple(sorted(KNOWN - {"operator.admin"})),
]
CEILINGS = [(), ("operator.admin",), ("operator.read", " operator.talk"), ("operator.pairing",), ("node.exec",)]
ACCESS = [
    (),
    *[(("operator", scopes),) for scopes in SMALL],
    *[(("operator", (word,)),) for word in [*sorted(KNOWN), *JUNK, *SPACED]],
    *[(("node", scopes),) for scopes in [(), ("node.exec",), ("operator.read",)]],
    (("nod", ()),),
    (("", ()),),
    (("operator", ("operator.write", "operator.read")), ("node", ())),
    (("node", ()), ("operator", ("operator.admin",))),
    (("operator", ()), ("operator", ("operator.write",))),
]


def callers():
    for scopes, ceiling, own in product(HELD, CEILINGS, [None, "this", "that", ""]):
        yield Caller(actor=Actor(kind="device"), scopes=scopes, ceiling=ceiling, own=own)


def disagreements(module):
    """Yield every question on which `module` and the second opinion differ."""

    def differs(got, expected, *question):
        if got != expected:
            yield (question, got, expected)

    yield from differs(set(module.OPERATOR_SCOPES), KNOWN, "vocabulary")
    yield from differs(len(module.OPERATOR_SCOPES), len(KNOWN), "vocabulary")
    yield from differs(set(module.ROLES), {"operator", "node"}, "roles")
    names = (module.ADMIN, module.PAIRING, module.READ, module.WRITE, module.OPERATOR, module.NODE)
    yield from differs(
        names, ("operator.admin", "operator.pairing", "operator.read", "operator.write", "operator", "node"), "names"
    )
    for words in [*SCOPE_LISTS, ("b", "a", "b ", " a")]:
        yield from differs(module.tidy(words), tuple(trimmed(words)), "tidy", words)
        yield from differs(module.tidy(word for word in words), tuple(trimmed(words)), "tidy once", words)
        yield from differs(module.normalise(words), token_form(words), "normalise", words)
        for role in ROLES:
            kept = tuple(word for word in trimmed(words) if in_namespace(role, word))
            yield from differs(module.of_role(words, role), kept, "of_role", words, role)
    for word, role in product([*WORDS, "operator.sessions.read", "nod.x"], ROLES):
        yield from differs(module.belongs(word, role), in_namespace(role, word), "belongs", word, role)
    for role, allowed, wanted in product(ROLES[:3], SCOPE_LISTS, SCOPE_LISTS):
        short = uncovered(role, allowed, wanted)
        yield from differs(module.missing(role, allowed, wanted), short[0] if short else None, "missing", role, allowed, wanted)
    for role, allowed, wanted in product(ROLES[:3], SMALL, SMALL):
        yield from differs(
            module.covers(role, iter(allowed), iter(wanted)),
            not uncovered(role, allowed, wanted),
            "covers",
            role,
            allowed,
            wanted,
        )
    for caller, access in product(callers(), ACCESS):
        target = module.Target("this", access)
        for verb in [*VERBS, "launch", ""]:
            ruling = module.may(verb, caller, target)
            got = (ruling.allowed, ruling.rule, ruling.scope)
            yield from differs(got, opinion(verb, caller, "this", access), verb, caller, access)
    for method, device, scopes in product(
        ["device-token", "bootstrap-token", "token", "password", "none"], [None, "this"], HELD[1:]
    ):
        bound = device if method in {"device-token", "bootstrap-token"} and "operator.admin" not in scopes else None
        got = module.bound_device(method=method, device=device, scopes=scopes)
        yield from differs(got, bound, "bound_device", method, device, scopes)


# --- the tests -----------------------------------------------------------------------------------------------------


def test_authority_and_the_second_opinion_never_differ():
    """A1, A3, A6-A9, A13, A14, A17: every verb by caller by target and every pair of scope lists, known words and junk."""
    assert next(disagreements(authority), None) is None


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("own", [None, "this"])
def test_absent_scopes_fail_closed(verb, own):
    """A2: where nobody established the caller's scopes, the answer is no, whatever ceiling is lent."""
    caller = Caller(actor=Actor(kind="local"), scopes=None, ceiling=authority.OPERATOR_SCOPES, own=own)
    assert not authority.may(verb, caller, authority.Target("this")).allowed


def test_what_authority_does_not_know_it_refuses():
    """A2: there is no default other than no, also for a verb that somebody invents."""
    caller = Caller(actor=Actor(kind="local"), scopes=("operator.admin",))
    assert not authority.may("bless", caller, authority.Target("this")).allowed


words = st.one_of(st.sampled_from(WORDS), st.text(max_size=6).map(lambda tail: "operator." + tail), st.text(max_size=8))
lists = st.lists(words, max_size=5).map(tuple)


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(st.sampled_from(["operator", "node"]), lists, lists, lists)
def test_containment_is_an_order(role, one, two, three):
    """A17: containment is transitive, reflexive within a namespace, grows with what is held, and normalising changes nothing."""
    covers, normalise = authority.covers, authority.normalise
    mine = authority.of_role(one, role)
    assert covers(role, mine, mine)
    if covers(role, one, two) and covers(role, two, three):
        assert covers(role, one, three)
    if covers(role, one, two):
        assert covers(role, (*one, *three), two)
        assert covers(role, reversed(one), reversed(two))
        assert covers(role, one, normalise(two)) or role != "operator"
    assert normalise(normalise(one)) == normalise(one)
    assert covers("operator", normalise(one), two) == covers("operator", one, two)
    assert covers(role, (), two) == (not authority.tidy(two))
    assert covers(role, one, ())


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(lists, lists, st.sampled_from(VERBS), lists)
def test_more_scopes_never_allow_less(held, more, verb, touched):
    """A1, A6: a caller who may, may still with more; what may be done to more may be done to less."""
    caller = Caller(actor=Actor(kind="local"), scopes=held)
    target = authority.Target("this", (("operator", touched),))
    if authority.may(verb, caller, target).allowed:
        wider = Caller(actor=Actor(kind="local"), scopes=(*held, *more))
        assert authority.may(verb, wider, target).allowed
        assert authority.may(verb, caller, authority.Target("this", (("operator", touched[1:]),))).allowed
