"""May this connection in: the order of the rules, the reason given, and a trace that holds every comparison and no secret."""

import pytest
from msgspec.structs import replace

from pairing.device import INITIAL
from pairing.events import TokenIssued, TokenWidened
from pairing.refusals import Reason
from pairing.tokens import GatewayKey, Keyring
from pairing.verdict import PAIRING_REASONS, Presented, judge

DEVICE, OTHER = "d" * 64, "e" * 64
ADMIN, PAIRING, READ, WRITE = "operator.admin", "operator.pairing", "operator.read", "operator.write"
KEY = GatewayKey(b"k" * 32)
RING = Keyring(KEY)
SHARED = Presented(method="token")


@pytest.fixture
def judged(make):
    """Judge as the gateway does: what was presented is looked up first, then judged by name."""

    def verdict(
        story,
        *scopes,
        token=None,
        field="deviceToken",
        shared=Reason.TOKEN_MISMATCH,
        locked=False,
        role="operator",
        after=0,
        **wanted,
    ):
        state = getattr(story, "state", story)
        issue = RING.recognise(state, DEVICE, role, token) if token else None
        presented = Presented(shared=shared, candidate=field if token else None, issue=issue, locked=locked)
        return judge(state, presented, make.wanted(*scopes, role=role, **wanted), make.now + after)

    return verdict


@pytest.fixture
def device(paired, make):
    """A device that a person approved, and its token."""

    def build(*scopes, role="operator", **knock):
        story = paired(*scopes, role=role, **knock).given(replace(make.rotate(role=role), key=KEY.id))
        return story, KEY.token(DEVICE, role, story.grant.token(role).issue)

    return build


def rules(verdict):
    return [(step.rule, step.passed) for step in verdict.steps]


# --- with the device's token ---------------------------------------------------------------------------------------


def test_a_device_token_lets_its_device_in(device, judged):
    """AU-27: credential, then pairing, every rule passed."""
    story, token = device(READ)
    verdict = judged(story, READ, token=token)
    assert (verdict.method, verdict.reason, verdict.needs) == ("device-token", None, ())
    assert rules(verdict) == [
        ("shared-secret", False),
        ("token-attempts", True),
        ("token-current", True),
        ("token-live", True),
        ("token-scopes", True),
        ("metadata", True),
        ("role", True),
        ("scopes", True),
    ]


@pytest.mark.parametrize("field", ["deviceToken", "token"])
@pytest.mark.parametrize("scopes", [(READ,), (), ("operator.sessions.read",)])
def test_implied_scopes_and_either_field_are_fine(device, judged, field, scopes):
    """AU-33, protocol §4.5: write covers read; the token may come in either field."""
    story, token = device(WRITE)
    assert judged(story, *scopes, token=token, field=field).method == "device-token"


def test_another_devices_token_is_none(device, judged):
    """AU-29, T12: the same role and issue, derived for another device."""
    story, _ = device(READ)
    stolen = KEY.token(OTHER, "operator", story.grant.token("operator").issue)
    verdict = judged(story, READ, token=stolen)
    assert verdict.reason is Reason.DEVICE_TOKEN_MISMATCH
    assert rules(verdict)[-1] == ("token-current", False)


@pytest.mark.parametrize("scopes", [(WRITE,), (READ, ADMIN), ("node.exec",), ("foo",)])
@pytest.mark.parametrize("field", ["deviceToken", "token"])
def test_a_shortfall_of_scopes_is_not_a_bad_token(device, judged, scopes, field):
    """AU-31, 12.1: reported as what it is, so that no client throws a good token away; no pairing is asked for."""
    story, token = device(READ)
    verdict = judged(story, *scopes, token=token, field=field)
    assert (verdict.method, verdict.reason, verdict.needs) == (None, Reason.SCOPE_MISMATCH, ())
    assert rules(verdict)[-1] == ("token-scopes", False)
    assert verdict.steps[-1].found == READ


def test_tokens_are_per_role(device, judged):
    """AU-35: an operator's token presented as a node's."""
    story, token = device(READ)
    verdict = judged(story, token=token, role="node")
    assert verdict.reason is Reason.DEVICE_TOKEN_MISMATCH
    assert rules(verdict)[-1] == ("token-of-role", False)


def test_a_revoked_token_is_dead(device, judged, make):
    """AU-37: and the trace says since when."""
    story, token = device(READ)
    make.now += 7
    story.given(make.revoke())
    verdict = judged(story, READ, token=token)
    assert verdict.reason is Reason.DEVICE_TOKEN_MISMATCH
    assert (verdict.steps[-1].rule, verdict.steps[-1].found) == ("token-live", f"revoked at {make.now}")


def test_a_rotated_token_never_works_again(device, judged, make):
    """T1: not even for the scopes it had; the trace names both generations."""
    story, token = device(READ)
    old = story.grant.token("operator").issue
    story.given(make.rotate())
    verdict = judged(story, READ, token=token)
    assert verdict.reason is Reason.DEVICE_TOKEN_MISMATCH
    step = verdict.steps[-1]
    assert (step.rule, step.found, step.needed) == ("token-current", old, story.grant.token("operator").issue)


def test_a_removed_devices_token_is_dead(device, judged, make):
    """V7: also after the device has been paired again."""
    story, token = device(READ)
    story.given(make.remove())
    verdict = judged(story, READ, token=token)
    assert (verdict.reason, rules(verdict)[-1]) == (Reason.DEVICE_TOKEN_MISMATCH, ("paired", False))
    story.given(make.knock(READ, request="again"), make.approve("again"))
    assert judged(story, READ, token=token).reason is Reason.DEVICE_TOKEN_MISMATCH


def test_a_token_without_a_pairing_is_nothing(judged):
    """A15, A18."""
    verdict = judged(INITIAL, token="x" * 43)
    assert verdict.reason is Reason.DEVICE_TOKEN_MISMATCH
    assert rules(verdict)[-1] == ("paired", False)


def test_a_token_with_another_key_is_nothing(device, judged):
    """N1: the key that was proven must be the paired one."""
    story, token = device(READ)
    assert judged(story, READ, token=token, key="another").reason is Reason.DEVICE_TOKEN_MISMATCH


def test_a_token_right_on_another_platform_needs_approval(device, judged):
    """AU-41: the credential is fine; what is missing is the metadata approval."""
    story, token = device(READ)
    verdict = judged(story, READ, token=token, platform="darwin")
    assert (verdict.method, verdict.reason, verdict.needs) == ("device-token", Reason.METADATA_UPGRADE, ("metadata-upgrade",))
    step = next(step for step in verdict.steps if step.rule == "metadata")
    assert (step.passed, step.found, step.needed) == (False, "linux / -", "darwin / -")


@pytest.mark.parametrize("asks", [READ, ADMIN])
def test_a_token_outside_its_baseline_is_dead_as_a_whole(device, judged, make, asks):
    """TK-21, A16, A18: and the trace says why."""
    story, _ = device(READ)
    story.given(TokenIssued(at=make.now, role="operator", scopes=(ADMIN,), issue="forged", key=KEY.id, under=None))
    verdict = judged(story, asks, token=KEY.token(DEVICE, "operator", "forged"))
    assert verdict.reason is Reason.DEVICE_TOKEN_MISMATCH
    assert (verdict.steps[-1].rule, verdict.steps[-1].found) == ("token-live", f"outside the approved scopes: {ADMIN}")


def test_a_token_of_a_role_that_was_never_approved_lets_nobody_in(device, judged, make):
    """UP-25, A5: roles of tokens count only inside the approved roles; what is missing is the role, not the token."""
    story, _ = device(READ)
    story.given(TokenIssued(at=make.now, role="node", scopes=(), issue="smuggled", key=KEY.id, under=None))
    verdict = judged(story, token=KEY.token(DEVICE, "node", "smuggled"), role="node")
    assert (verdict.reason, verdict.needs) == (Reason.ROLE_UPGRADE, ("role-upgrade",))
    assert rules(verdict)[-2:] == [("role", False), ("scopes", True)]


def test_a_token_of_an_older_secret_is_dead(silently, judged, make):
    """T6: silently issued tokens die with the shared secret that vouched for them."""
    story = silently(READ).given(replace(make.rotate(), key=KEY.id))
    token = KEY.token(DEVICE, "operator", story.grant.token("operator").issue)
    assert judged(story, READ, token=token).reason is None
    verdict = judged(story, READ, token=token, under="S2")
    assert verdict.reason is Reason.DEVICE_TOKEN_MISMATCH
    assert verdict.steps[-1].found == "issued under an earlier shared secret"


@pytest.mark.parametrize("field", ["deviceToken", "token"])
def test_a_locked_out_address_is_not_listened_to(device, judged, field):
    """RL-01: while locked even the right token is not looked at."""
    story, token = device(READ)
    verdict = judged(story, READ, token=token, field=field, locked=True)
    assert (verdict.method, verdict.reason) == (None, Reason.RATE_LIMITED)
    assert rules(verdict)[-1] == ("token-attempts", False)


# --- whom to blame -------------------------------------------------------------------------------------------------

CLASSES = [Reason.TOKEN_MISMATCH, Reason.PASSWORD_MISSING, Reason.PASSWORD_MISMATCH, Reason.TOKEN_MISSING, Reason.RATE_LIMITED]


@pytest.mark.parametrize("shared", CLASSES)
def test_a_wrong_device_token_is_blamed_where_one_was_shown(device, judged, shared):
    """T10, AU-07: in the device token's own field."""
    story, _ = device(READ)
    assert judged(story, READ, token="x" * 43, shared=shared).reason is Reason.DEVICE_TOKEN_MISMATCH


@pytest.mark.parametrize("shared", CLASSES)
def test_the_shared_secret_is_blamed_where_that_was_meant(device, judged, shared):
    """T10, AU-39: whatever stood in auth.token was a wrong shared secret, or a bad token; the class that was used is blamed."""
    story, _ = device(READ)
    assert judged(story, READ, token="x" * 43, field="token", shared=shared).reason is shared
    assert judged(story, READ, shared=shared).reason is shared


def test_nothing_shown_at_all_is_authentication_required(judged):
    """Protocol §4.3: the last row."""
    verdict = judged(INITIAL, shared=None)
    assert (verdict.method, verdict.reason) == (None, Reason.AUTH_REQUIRED)


def test_a_blank_token_is_no_token(device, judged):
    """T3: presented and empty is a mismatch, not a way round."""
    story, _ = device(READ)
    presented = Presented(
        shared=Reason.TOKEN_MISSING, candidate="deviceToken", issue=RING.recognise(story.state, DEVICE, "operator", "")
    )
    assert presented.issue is None
    assert judged(story, READ, token=" ").reason is Reason.DEVICE_TOKEN_MISMATCH


def test_the_shared_secret_comes_first(device, judged, make):
    """Protocol §4.5: where it is right, the device token is not looked at, and its faults do not count."""
    story, _ = device(READ)
    for method in ("token", "password", "none"):
        presented = Presented(method=method, candidate="deviceToken", issue=None, locked=True)
        verdict = judge(story.state, presented, make.wanted(READ), make.now)
        assert (verdict.method, verdict.reason) == (method, None)
        assert rules(verdict)[0] == ("shared-secret", True)


# --- pairing, once the credential is right -------------------------------------------------------------------------


def test_a_right_secret_pairs_nobody(make):
    """A15."""
    verdict = judge(INITIAL, SHARED, make.wanted(READ), make.now)
    assert (verdict.method, verdict.reason, verdict.needs) == ("token", Reason.NOT_PAIRED, ("not-paired",))
    assert rules(verdict)[-1] == ("paired", False)


@pytest.mark.parametrize(
    ("wants", "needs"),
    [
        ({"scopes": (READ,)}, ()),
        ({"scopes": ()}, ()),
        ({"scopes": (WRITE,)}, ("scope-upgrade",)),
        ({"role": "node", "scopes": ()}, ("role-upgrade",)),
        ({"role": "node", "scopes": (READ,)}, ("role-upgrade", "scope-upgrade")),
        ({"platform": "darwin"}, ("metadata-upgrade",)),
        ({"family": "Mac"}, ()),
        ({"platform": None, "role": "node", "scopes": ("node.x",)}, ("metadata-upgrade", "role-upgrade", "scope-upgrade")),
        ({"key": "another"}, ("not-paired",)),
    ],
)
def test_what_is_missing_is_named_in_order(paired, make, wants, needs):
    """UP-03, UP-05, UP-09, UP-15, protocol §5.1: the reason is the first, the list has all."""
    wants = dict(wants)
    verdict = judge(paired(READ).state, SHARED, make.wanted(*wants.pop("scopes", (READ,)), **wants), make.now)
    assert verdict.needs == needs
    assert verdict.reason is (PAIRING_REASONS[needs[0]] if needs else None)
    assert all(step.passed for step in verdict.steps) == (not needs)


@pytest.mark.parametrize("end", ["revoke", "rotate"])
def test_a_device_without_a_live_token_has_no_role(paired, make, end):
    """A18, protocol §7.4: a revoked token leaves no role; a rotated one does."""
    story = paired(READ).given(getattr(make, end)())
    needs = judge(story.state, SHARED, make.wanted(READ), make.now).needs
    assert needs == (("role-upgrade",) if end == "revoke" else ())


def test_a_grant_without_tokens_refuses(paired, make):
    """A18: a record with no tokens is no way in."""
    story = paired(READ)
    bare = replace(story.state, grant=replace(story.grant, tokens=()))
    assert judge(bare, SHARED, make.wanted(READ), make.now).reason is Reason.ROLE_UPGRADE


def test_a_pending_request_counts_for_nothing(paired, make):
    """A12: what is asked is not what is held."""
    story = paired(READ).given(make.knock(ADMIN))
    assert judge(story.state, SHARED, make.wanted(READ), make.now).reason is None
    assert judge(story.state, SHARED, make.wanted(ADMIN), make.now).reason is Reason.SCOPE_UPGRADE


def test_judging_changes_nothing(device, judged):
    """T8, A20, T13: a mismatch, a probe or a hundred of them leave state and pairing as they were."""
    story, token = device(READ)
    before = story.state
    kept = replace(before)
    for shown in (token, "x" * 43, "", token[:-1]):
        for scopes in ((), (READ,), (ADMIN,)):
            first, second = (judged(story, *scopes, token=shown) for _ in range(2))
            assert first == second
    assert story.state is before
    assert before == kept
    assert judged(story, READ, token=token).reason is None


def test_a_trace_says_what_was_compared(device, judged, make):
    """L8: found beside needed, for every rule, in words an operator can read."""
    story, token = device(READ, PAIRING, family="Mac")
    issue = story.grant.token("operator").issue
    both = f"{PAIRING}, {READ}"
    good = judged(story, READ, PAIRING, token=token, family="Mac")
    assert [(step.rule, step.found, step.needed) for step in good.steps] == [
        ("shared-secret", "token_mismatch", ""),
        ("token-attempts", "free", ""),
        ("token-current", issue, issue),
        ("token-live", f"issued at {make.now}", ""),
        ("token-scopes", both, f"{READ}, {PAIRING}"),
        ("metadata", "linux / Mac", "linux / Mac"),
        ("role", "operator", "operator"),
        ("scopes", f"{READ}, {PAIRING}", f"{READ}, {PAIRING}"),
    ]
    assert judged(story, READ, token=token, locked=True).steps[-1].found == "locked out"
    assert judged(story, READ, token="x" * 43).steps[-1].found == "not the current one"
    assert judged(INITIAL, READ, token="x" * 43).steps[-1].found == "no grant for this key"
    assert judged(story, role="node", token="x" * 43).steps[-1].found == "none"
    story.given(make.knock(role="node", family="Mac", request="n"), make.approve("n"))
    steps = judge(story.state, SHARED, make.wanted(role="node", platform=None), make.now).steps
    assert [(step.rule, step.passed, step.found, step.needed) for step in steps] == [
        ("shared-secret", True, "right", ""),
        ("metadata", False, "linux / Mac", "- / -"),
        ("role", True, "operator, node", "node"),
        ("scopes", True, f"{READ}, {PAIRING}", "none"),
    ]


def test_a_trace_holds_no_secret(device, judged, make):
    """L7, T14: whatever was shown, right or wrong, is in no step of any verdict."""
    story, token = device(READ)
    wrong = "wrong-token-that-somebody-typed-in-here-43c"
    for shown in (token, wrong):
        for state in (story.state, INITIAL):
            for role in ("operator", "node"):
                for field in ("token", "deviceToken"):
                    verdict = judged(state, ADMIN, token=shown, field=field, role=role)
                    assert token not in repr(verdict)
                    assert wrong not in repr(verdict)
                    assert verdict.steps
                    assert all(step.rule and step.found for step in verdict.steps)


# --- a token that is handed over -----------------------------------------------------------------------------------


@pytest.fixture
def handed_over(device, make):
    """A device whose token was rotated with a window of a second, and both its tokens."""

    def build(*scopes, into=None):
        story, old = device(*scopes)
        story.given(replace(make.rotate(scopes=into, handoff=1_000), key=KEY.id))
        return story, old, KEY.token(DEVICE, "operator", story.grant.token("operator").issue)

    return build


def test_during_a_handoff_both_tokens_are_accepted_and_the_trace_says_which(handed_over, judged):
    """T1: the rule that let the predecessor in is named, with its end."""
    story, old, new = handed_over(READ)
    token = story.grant.token("operator")
    verdict = judged(story, READ, token=old, after=1_000)
    assert (verdict.method, verdict.issue) == ("device-token", token.handoff.issue)
    assert ("handoff", True) in rules(verdict)
    assert str(token.handoff.until) in next(step.found for step in verdict.steps if step.rule == "handoff")
    verdict = judged(story, READ, token=new)
    assert (verdict.method, verdict.issue) == ("device-token", token.issue)
    assert "handoff" not in dict(rules(verdict))


def test_after_its_deadline_the_predecessor_is_refused_though_nobody_recorded_the_end(handed_over, judged):
    """T1: the deadline is judged, not waited for."""
    story, old, new = handed_over(READ)
    verdict = judged(story, READ, token=old, after=1_001)
    assert (verdict.reason, verdict.issue) == (Reason.DEVICE_TOKEN_MISMATCH, None)
    assert ("handoff", False) in rules(verdict)
    assert judged(story, READ, token=new, after=1_001).reason is None


def test_a_predecessor_is_no_wider_than_either_generation(handed_over, judged):
    """A3, T1: a narrowing holds for it at once, and a widening is not for it."""
    story, old, _ = handed_over(ADMIN, into=(READ,))
    assert judged(story, WRITE, token=old).reason is Reason.SCOPE_MISMATCH
    assert judged(story, READ, token=old).reason is None
    story, old, new = handed_over(ADMIN, into=(READ,))
    issue = story.grant.token("operator").issue
    story.given(TokenWidened(at=1, role="operator", issue=issue, scopes=(READ, PAIRING), under=None))
    assert judged(story, PAIRING, token=new).reason is None
    narrow = replace(story.grant.token("operator"), handoff=replace(story.grant.token("operator").handoff, scopes=(READ,)))
    story.state = replace(story.state, grant=replace(story.grant, tokens=(narrow,)))
    assert judged(story, PAIRING, token=old).reason is Reason.SCOPE_MISMATCH


def test_an_upgrade_or_another_secret_kill_a_predecessor_like_its_successor(handed_over, judged, silently, make):
    """T6: what rests on an older shared secret alone is dead, handed over or not."""
    story = silently(READ)
    story.given(replace(make.rotate(), key=KEY.id))
    old = KEY.token(DEVICE, "operator", story.grant.token("operator").issue)
    story.given(replace(make.rotate(handoff=1_000), key=KEY.id))
    assert judged(story, READ, token=old).reason is None
    assert judged(story, READ, token=old, under="S2").reason is Reason.DEVICE_TOKEN_MISMATCH
