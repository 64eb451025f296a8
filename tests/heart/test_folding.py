"""What a state becomes: events that fit change what they concern, events that do not fit leave everything as it was."""

import pytest

from pairing.authority import ADMIN, PAIRING, READ
from pairing.commands import Standing
from pairing.device import INITIAL, digest
from pairing.events import HandoffClosed, RequestRefreshed, TokenIssued, TokenRevoked, TokenRotated, TokenWidened, kind_of
from pairing.evolve import evolve
from pairing.shortfall import covered_by
from pairing.standing import stands

DEVICE = "d" * 64
NOW = 1_777_000_000_000


def refreshed(request):
    return RequestRefreshed(
        at=9,
        request=request,
        platform="other",
        family=None,
        client_id=None,
        client_mode=None,
        silent=True,
        expires_at=99,
        seen="s",
        named="n",
        digest="d",
    )


def test_the_digest_of_a_request_is_for_ever():
    """R2, D10: an approval recorded today must name the same request in ten years."""
    shown = digest(request="r", key="k", roles=("operator",), scopes=(READ,), seen="s")
    assert shown == "c3a0f5798f4e4448ded0c4f1557c126b"


@pytest.mark.parametrize(
    "event",
    [
        refreshed("another"),
        TokenWidened(at=9, role="operator", issue="another", scopes=(ADMIN,), under=None),
        TokenWidened(at=9, role="node", issue="another", scopes=(ADMIN,), under=None),
        TokenRevoked(at=9, role="operator", issue="another"),
        TokenRevoked(at=9, role="node", issue="another"),
        TokenRotated(at=9, role="node", scopes=(ADMIN,), retires="another", issue="new", key="k", under=None),
    ],
    ids=lambda event: f"{kind_of(event)} {getattr(event, 'role', '')}",
)
def test_what_does_not_fit_changes_nothing(paired, make, event):
    """D2, V7: an event about another request, another generation or a role without a token."""
    story = paired(READ).given(make.knock(ADMIN, request="up"))
    assert evolve(story.state, event) == story.state
    assert evolve(INITIAL, event) == INITIAL


def test_a_token_without_a_grant_is_no_token():
    """A18: tokens live inside a grant."""
    event = TokenIssued(at=9, role="operator", scopes=(ADMIN,), issue="i", key="k", under=None)
    assert evolve(INITIAL, event) == INITIAL


def test_a_state_remembers_how_each_generation_ended(paired, make):
    """T17, V7: rotated, revoked, revoked and then rotated away, or ended with the device."""
    story = paired(READ).given(
        make.rotate(), make.revoke(), make.rotate(), make.knock(role="node", request="n"), make.approve("n")
    )
    make.now += 5
    story.given(make.revoke("node"), make.remove())
    assert [(old.role, old.how, old.at - make.now) for old in story.state.retired] == [
        ("operator", "rotated", -5),
        ("operator", "revoked", -5),
        ("node", "revoked", 0),
        ("operator", "removed", 0),
    ]


def test_a_request_of_another_key_covers_nothing(story, make):
    """N1: the same ask with another key is another ask."""
    story.given(make.knock(ADMIN, request="r"))
    assert covered_by(story.pending, make.wanted(READ))
    assert not covered_by(story.pending, make.wanted(READ, key="another"))
    assert not covered_by(story.pending, make.wanted(role="node"))
    story.when(make.knock(READ, key="another")).then("request.superseded", "request.opened")


def test_a_session_stands_while_what_it_rests_on_stands(paired, make):
    """V1, V2: one that logged in by device token ends with that generation, any other with its device."""
    story = paired(PAIRING)
    issue = story.grant.token("operator").issue
    by_token = Standing(device=DEVICE, role="operator", issue=issue)
    by_secret = Standing(device=DEVICE, role="operator", issue=None)
    assert not stands(INITIAL, by_token, NOW)
    assert not stands(INITIAL, by_secret, NOW)
    assert stands(story.state, by_token, NOW)
    assert stands(story.state, by_secret, NOW)
    assert not stands(story.state, Standing(device=DEVICE, role="node", issue=issue), NOW)
    for end in (make.rotate(), make.revoke()):
        ended = paired(PAIRING)
        mine = Standing(device=DEVICE, role="operator", issue=ended.grant.token("operator").issue)
        assert stands(ended.state, mine, NOW)
        ended.given(end)
        assert not stands(ended.state, mine, NOW)
    story.given(make.remove())
    assert not stands(story.state, by_token, NOW)
    assert not stands(story.state, by_secret, NOW)


def test_a_session_by_a_predecessor_stands_while_that_is_accepted(paired, make):
    """T1, V1: until the deadline, or until the window is closed; a session of an older generation does not."""
    story = paired(PAIRING)
    mine = Standing(device=DEVICE, role="operator", issue=story.grant.token("operator").issue)
    story.given(make.rotate(handoff=1_000))
    assert stands(story.state, mine, NOW + 1_000)
    assert not stands(story.state, mine, NOW + 1_001)
    closed = evolve(
        story.state,
        HandoffClosed(at=NOW, role="operator", retires=mine.issue, issue=story.grant.token("operator").issue, how="used"),
    )
    assert not stands(closed, mine, NOW)
    story.given(make.rotate(handoff=1_000))
    assert not stands(story.state, mine, NOW)
    other = HandoffClosed(at=NOW, role="operator", retires="another", issue="x", how="used")
    assert evolve(story.state, other) == story.state
