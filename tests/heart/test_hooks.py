"""A webhook is added, paused, resumed, replayed and removed: the decisions, without a log and without a network."""

from itertools import count

import pytest

from pairing.commands import AddHook, Caller, GiveUpHook, PauseHook, RemoveHook, ReplayHook, ResumeHook
from pairing.events import Actor, HookPaused, Unknown, kind_of
from pairing.hooks import LONGEST_URL, MOST, NO_HOOK, decide_hook, evolve_hook, url_flaw
from pairing.refusals import Reason, Refused
from pairing.tokens import GatewayKey

PAIRING, ADMIN = "operator.pairing", "operator.admin"
NUMBERS = count()


def caller(*scopes, ceiling=(), own=None):
    return Caller(actor=Actor(kind="device", id="op"), scopes=scopes, ceiling=ceiling, own=own)


ROOT = caller(ADMIN)
CLOCK = Caller(actor=Actor(kind="timer"), scopes=None)


def stamp(by=ROOT, now=1_000):
    return {"id": f"c-{next(NUMBERS)}", "now": now, "by": by, "hook": "h"}


def add(*kinds, full=False, **more):
    about = {"url": "https://example.org/in", "people": False, "key": "g", "after": 7}
    return AddHook(**stamp(**more), kinds=kinds, full=full, **about)


def give_up(why="failing"):
    return GiveUpHook(**stamp(CLOCK), why=why, undelivered=9, error="HTTP 500")


def after(*commands):
    state = NO_HOOK
    for command in commands:
        for event in decide_hook(state, command):
            state = evolve_hook(state, event)
    return state


def kinds(state, command):
    return [kind_of(event) for event in decide_hook(state, command)]


def refusal(state, command):
    with pytest.raises(Refused) as refused:
        decide_hook(state, command)
    return refused.value.reason


def test_a_hook_lives_from_its_adding_to_its_removal():
    state = after(add("token.*"))
    assert (state.sending.url, state.sending.after, state.sending.paused) == ("https://example.org/in", 7, None)
    assert kinds(state, RemoveHook(**stamp())) == ["hook.removed"]
    gone = after(add(), RemoveHook(**stamp()))
    assert gone.sending is None
    for command in (RemoveHook(**stamp()), PauseHook(**stamp()), ResumeHook(**stamp()), ReplayHook(**stamp(), after=0)):
        assert refusal(gone, command) is Reason.UNKNOWN_HOOK
        assert refusal(NO_HOOK, command) is Reason.UNKNOWN_HOOK
    assert kinds(gone, add()) == []


@pytest.mark.parametrize(
    "by", [caller(PAIRING), caller(PAIRING, ceiling=(ADMIN,)), CLOCK, caller(), caller(ADMIN, own="another")]
)
def test_only_an_administrator_says_where_events_are_sent(by):
    """A2, N14: not even what a local session is lent for judging others counts; who is not known to hold it may not."""
    state = after(add())
    commands = [
        add(by=by),
        RemoveHook(**stamp(by)),
        PauseHook(**stamp(by)),
        ResumeHook(**stamp(by)),
        ReplayHook(**stamp(by), after=0),
    ]
    assert {refusal(state, command) for command in commands} <= {Reason.MISSING_SCOPE, Reason.HOOK_DENIED}


def test_pausing_and_resuming_are_idempotent():
    state = after(add(), PauseHook(**stamp()))
    assert state.sending.paused == "asked"
    assert kinds(state, PauseHook(**stamp())) == []
    assert kinds(state, ResumeHook(**stamp())) == ["hook.resumed"]
    assert kinds(after(add()), ResumeHook(**stamp())) == []


def test_the_gateway_gives_up_without_anybodys_rights_and_only_once():
    """It ends sending and nothing else, so that it needs no authority; it never overrules a person's pause."""
    state = after(add())
    assert decide_hook(state, give_up()) == (HookPaused(at=1_000, why="failing", undelivered=9, error="HTTP 500"),)
    assert kinds(after(add(), give_up()), give_up()) == []
    assert kinds(after(add(), PauseHook(**stamp())), give_up()) == []
    assert kinds(NO_HOOK, give_up()) == []


def test_a_replay_begins_anew_and_resumes():
    state = after(add(), give_up(), ReplayHook(**stamp(), after=3))
    assert (state.sending.after, state.sending.turn, state.sending.paused, state.sending.error) == (3, 2, None, None)
    assert after(add(), give_up(), ResumeHook(**stamp())).sending.turn == 1


def test_there_is_an_end_to_how_many_there_are():
    with pytest.raises(Refused, match=str(MOST)):
        decide_hook(NO_HOOK, add(full=True))


def test_nothing_is_decided_behind_an_event_of_a_newer_version():
    """D3: unknown kinds are shown, never guessed at."""
    state = evolve_hook(after(add()), Unknown(kind="hook.split", raw=b"{}"))
    assert refusal(state, RemoveHook(**stamp())) is Reason.NEWER_WRITER


@pytest.mark.parametrize(
    ("named", "sent"),
    [
        ((), {"request.opened", "node.approved", "enrolment.issued"}),
        (("token.*",), {"token.issued"}),
        (("request.opened", "gateway.started"), {"request.opened", "gateway.started"}),
        (("request.open",), set()),
    ],
)
def test_which_events_a_hook_wants(named, sent):
    """N14: unless others are named, those of devices, nodes and setup codes; a family is named by its dot and star alone."""
    rows = {
        "request.opened": "device:d",
        "token.issued": "device:d",
        "node.approved": "node:d",
        "enrolment.issued": "enrolment:e",
        "gateway.started": "gateway",
        "hook.added": "hook:h",
    }
    sending = after(add(*named)).sending
    wanted = {kind for kind, stream in rows.items() if sending.wants(stream, kind)}
    assert wanted == (sent | {"token.issued"} if not named else sent)


@pytest.mark.parametrize(
    ("url", "flaw"),
    [
        ("https://example.org/in", None),
        ("https://example.org:8443/in/2", None),
        ("https://[2001:db8::1]/in", None),
        ("http://example.org/in", "plain"),
        ("ftp://example.org/in", "scheme"),
        ("example.org/in", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("https:///in", "host"),
        ("https://example.org:0/", "port"),
        ("https://example.org:99999/", "port"),
        ("https://example.org:x/", "port"),
        ("https://[::1/", "port"),
        ("https://user:password@example.org/", "user"),
        ("https://@example.org/", "user"),
        ("https://example.org/in?key=secret", "query"),
        ("https://example.org/in?", "query"),
        ("https://example.org/in#part", "fragment"),
        ("https://example.org/a b", "characters"),
        ("https://example.org\\@internal/", "characters"),
        ("https://exämple.org/", "characters"),
        ("https://example.org/\n", "characters"),
        ("https://example.org/" + "x" * LONGEST_URL, "long"),
    ],
)
def test_a_url_that_is_kept_for_ever_holds_no_secret(url, flaw):
    """L7: no user, no password, no query; and nothing that two parsers could read in two ways."""
    assert url_flaw(url, plain_allowed=False) == flaw


def test_plain_http_is_taken_only_where_it_was_allowed():
    assert url_flaw("http://127.0.0.1:9/in", plain_allowed=True) is None


def test_a_signing_secret_is_of_one_hook_and_one_gateway_alone():
    """T14: derived from the gateway's key and the hook's id; nothing else is equal to it."""
    key, other = GatewayKey(b"k" * 32), GatewayKey(b"o" * 32)
    assert len({key.hook_secret("a"), key.hook_secret("b"), other.hook_secret("a")}) == 3
    assert len(key.hook_secret("a")) == 32
