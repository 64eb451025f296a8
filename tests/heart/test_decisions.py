"""Decisions about one device: given what happened, when a command comes, then these events or this refusal."""

import msgspec
import pytest
from msgspec.structs import replace

from pairing.authority import ADMIN, OPERATOR_SCOPES, PAIRING, READ, WRITE
from pairing.device import digest
from pairing.events import TokenIssued, Unknown
from pairing.knocking import HOUR_MS
from pairing.refusals import Reason

TTL = 300_000
DEVICE = "d" * 64
MADE_UP = "operator.made-up"
TALK = "operator.talk"


# --- a device asks -------------------------------------------------------------------------------------------------


def test_a_stranger_is_noted_as_a_request_and_gets_nothing(story, make):
    """A15, PL-03: a fresh device with a good credential gets a request with everything a reviewer must see, and no grant."""
    (opened,) = story.when(make.knock(READ, request="r", family="Mac")).then("request.opened")
    assert (opened.request, opened.device, opened.key, opened.need) == ("r", DEVICE, "device-key", "not-paired")
    assert (opened.role, opened.roles, opened.scopes) == ("operator", ("operator",), (READ,))
    assert (opened.platform, opened.family, opened.client_id, opened.client_mode) == ("linux", "Mac", "cli", "cli")
    assert (opened.silent, opened.repair, opened.replaces, opened.expires_at) == (False, False, None, make.now + TTL)
    assert (opened.seen, opened.named, opened.at) == ("seen-1", "named-1", make.now)
    assert story.state.grant is None


def test_asked_scopes_are_trimmed_and_keep_their_order(story, make):
    """Protocol §5.4: scopes as sent, trimmed, without duplicates or blanks, order kept, and not normalised."""
    (opened,) = story.when(make.knock(f" {WRITE} ", READ, WRITE, " ", "")).then("request.opened")
    assert opened.scopes == (WRITE, READ)


def test_a_request_is_digested_over_what_a_reviewer_must_not_miss(story, make):
    """R2: the digest changes with id, key, roles, scopes and what was seen of the person, and with nothing else."""
    fixed = {"request": "r", "key": "k", "roles": ("operator",), "scopes": (READ,), "seen": "s"}
    others = [{"request": "q"}, {"key": "q"}, {"roles": ("operator", "node")}, {"scopes": (WRITE,)}, {"seen": "q"}]
    digests = {digest(**fixed), *(digest(**{**fixed, **other}) for other in others)}
    assert len(digests) == 6
    assert all(len(each) == 32 and set(each) <= set("0123456789abcdef") for each in digests)
    # The parts cannot run into each other.
    assert digest(**{**fixed, "scopes": ("a", "b")}) != digest(**{**fixed, "scopes": ("a,b",)})
    story.when(make.knock(READ, request="r"))
    shown = digest(request="r", key="device-key", roles=("operator",), scopes=(READ,), seen="seen-1")
    assert story.pending.digest == shown


def test_the_same_knock_again_changes_nothing(story, make):
    """R3, PD-03: a repeated request keeps its id, and a device that hammers writes nothing."""
    story.given(make.knock(READ, request="r")).when(make.knock(READ)).then()
    assert story.pending.request == "r"


@pytest.mark.parametrize(
    ("share", "refreshed"),
    [(0.24, False), (0.25, True), (0.9, True), (1.0, True)],
)
def test_a_retry_keeps_the_request_alive_and_in_its_place(story, make, share, refreshed):
    """R4, R12, 12.6: a retry gives a fresh life once a quarter of the advertised one has gone, and never a later place."""
    story.given(make.knock(READ, request="r"))
    make.now += int(TTL * share)
    story.when(make.knock(READ)).then(*(["request.refreshed"] if refreshed else []))
    assert story.pending.request == "r"
    assert story.pending.opened_at == make.now - int(TTL * share)
    assert story.pending.expires_at == (make.now + TTL if refreshed else story.pending.opened_at + TTL)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"platform": "darwin"}, "platform"),
        ({"family": "Mac"}, "family"),
        ({"client": ("tui", "cli")}, "client_id"),
        ({"client": ("cli", "ui")}, "client_mode"),
        ({"seen": "seen-2", "named": "named-2"}, "seen"),
    ],
)
def test_a_reviewer_sees_the_latest_description(story, make, change, field):
    """R3, PD-03: what a reviewer would see otherwise is refreshed under the same id, with a digest of its own if it counts."""
    story.given(make.knock(READ, request="r"))
    before = story.pending
    (event,) = story.when(make.knock(READ, **change)).then("request.refreshed")
    assert event.request == "r"
    assert getattr(story.pending, field) != getattr(before, field)
    assert (story.pending.digest != before.digest) == (field == "seen")
    assert (story.pending.scopes, story.pending.roles, story.pending.key) == (before.scopes, before.roles, before.key)


def test_a_retry_that_says_less_does_not_blank_the_request(story, make):
    """Protocol §5.5: missing values keep the old ones."""
    story.given(make.knock(READ, family="Mac")).when(make.knock(READ, platform=None, family=None, client=(None, None))).then()
    assert (story.pending.platform, story.pending.family, story.pending.client_id) == ("linux", "Mac", "cli")


def test_a_wider_ask_supersedes_and_merges(story, make):
    """PD-05, R3: a wider request ends the old one, names its successor, and asks for the union, old scopes first."""
    story.given(make.knock(READ, request="r"))
    make.now += 5
    ended, opened = story.when(make.knock(WRITE, request="s", platform=None)).then("request.superseded", "request.opened")
    assert (ended.request, ended.by) == ("r", "s")
    assert (opened.request, opened.replaces, opened.scopes) == ("s", "r", (READ, WRITE))
    assert opened.platform is None
    assert opened.expires_at == make.now + TTL
    assert story.state.ended("r").ending == "superseded"
    assert story.state.ended("r").by == "s"


def test_a_superseded_request_cannot_be_approved_and_says_what_replaced_it(story, make):
    """PD-09, R2, 12.8: the old id grants nothing; its refusal is the wire's word plus the successor."""
    story.given(make.knock(READ, request="r"), make.knock(WRITE, request="successor")).when(make.approve("r"))
    refusal = story.refused(Reason.UNKNOWN_REQUEST)
    assert refusal.details["outcome"] == "superseded"
    assert refusal.details["supersededBy"] == "successor"
    assert refusal.hint == "It was superseded by successor. See what is open: pairing devices list"
    assert story.state.grant is None


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ((WRITE,), (READ,)),
        ((WRITE,), (TALK, READ)),
        ((WRITE, READ), (READ, WRITE)),
        ((ADMIN,), (MADE_UP, WRITE)),
        ((READ,), ()),
        ((READ,), (f" {READ} ", "")),
    ],
)
def test_a_narrower_ask_keeps_the_id(story, make, first, then):
    """12.6, R3, V9-15 (PD-07 of the older version not copied): what is covered by the pending ask is the same ask."""
    story.given(make.knock(*first, request="r")).when(make.knock(*then)).then()
    assert story.pending.request == "r"
    assert story.pending.scopes == first


def test_one_of_several_merged_roles_keeps_the_id(story, make):
    """12.6: once roles are merged, a retry of either of them is the same request."""
    story.given(make.knock(READ, request="r"), make.knock(role="node", request="s"))
    assert story.pending.roles == ("operator", "node")
    assert story.pending.role == "node"
    story.when(make.knock(READ)).then()
    story.when(make.knock(role="node")).then()
    assert story.pending.request == "s"


def test_another_role_supersedes(story, make):
    """Protocol §5.5: a role that the pending request does not have is a wider ask."""
    story.given(make.knock(READ, request="r")).when(make.knock(role="node")).then("request.superseded", "request.opened")
    assert story.pending.roles == ("operator", "node")
    assert story.pending.scopes == (READ,)


def test_admin_does_not_cover_the_scopes_of_another_role(story, make):
    """A13: operator.admin in a pending request covers no node scope."""
    story.given(make.knock(ADMIN, request="r"), make.knock(role="node", request="s"))
    story.when(make.knock("node.exec", role="node")).then("request.superseded", "request.opened")


@pytest.mark.parametrize(("first", "kept"), [(127, 128), (128, 1)])
def test_a_merged_request_stays_one_that_can_be_reviewed(story, make, first, kept):
    """N13, R10: beyond 128 scopes the asks are no longer merged; the latest stands alone."""
    story.given(make.knock(*(f"operator.x{number}" for number in range(first)), request="r"))
    story.when(make.knock("operator.another", request="s")).then("request.superseded", "request.opened")
    assert len(story.pending.scopes) == kept
    assert story.pending.scopes[-1] == "operator.another"


def test_an_expired_request_makes_room_for_a_new_one(story, make):
    """PD-11, R5: after its end an ask comes back under a new id, and the old one is recorded as expired, not superseded."""
    story.given(make.knock(ADMIN, request="r"))
    make.now += TTL + 1
    ended, opened = story.when(make.knock(READ, request="s")).then("request.expired", "request.opened")
    assert ended.request == "r"
    assert opened.replaces is None
    assert opened.scopes == (READ,)


def test_pending_requests_are_capped_for_newcomers_only(story, make):
    """12.7, R10: where the gateway is full, no new request is opened; those already in line keep theirs, and may widen it."""
    story.when(make.knock(READ, full=True)).refused(Reason.TOO_MANY_PENDING)
    assert story.state.pending is None
    story.given(make.knock(READ, request="r")).when(make.knock(READ, full=True)).then()
    story.when(make.knock(WRITE, full=True)).then("request.superseded", "request.opened")


def test_a_full_gateway_still_lets_in_whom_policy_lets_in(story, make):
    """R10, PL-01: a silent approval leaves nothing pending, so the cap does not stop it."""
    story.when(make.knock(READ, full=True, silence=make.silence())).then(
        "request.opened", "request.approved", "device.paired", "token.issued"
    )


# --- what is missing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("knock", "need"),
    [
        ({"scopes": (WRITE,)}, "scope-upgrade"),
        ({"role": "node"}, "role-upgrade"),
        ({"platform": "android"}, "metadata-upgrade"),
        ({"platform": None}, "metadata-upgrade"),
        ({"family": None}, "metadata-upgrade"),
        ({"scopes": (WRITE,), "platform": "android"}, "metadata-upgrade"),
        ({"role": "node", "scopes": ("node.exec",)}, "role-upgrade"),
    ],
)
def test_what_is_missing_is_named_in_the_order_of_the_checks(paired, make, knock, need):
    """UP-01, UP-09, UP-15: metadata before role before scope; a paired device's request is marked as a repair."""
    story = paired(READ, family="Mac")
    asked = {"scopes": (READ,), "family": "Mac", **knock}
    (opened,) = story.when(make.knock(*asked.pop("scopes"), **asked)).then("request.opened")
    assert (opened.need, opened.repair) == (need, True)


@pytest.mark.parametrize("platform", ["linux", " LINUX ", "\tLinux\n"])
def test_platform_is_compared_trimmed_and_in_lower_case(paired, make, platform):
    """UP-13: the same platform in another spelling needs no approval."""
    paired(READ).when(make.knock(READ, platform=platform)).then()


@pytest.mark.parametrize(
    ("one", "other"), [("darwin", "macOS"), ("macos", " Darwin"), ("win32", "Windows"), ("WINDOWS", "win32")]
)
def test_platform_aliases_are_the_same_platform(paired, make, one, other):
    """12.7, N5: darwin is macos, win32 is windows."""
    paired(READ, platform=one).when(make.knock(READ, platform=other)).then()


@pytest.mark.parametrize(("one", "other"), [("darwin", "win32"), ("linux", "l\u0131nux"), ("k", "\u212a")])
def test_other_letters_make_another_platform(paired, make, one, other):
    """ID-03, N5: only A to Z are folded; the Kelvin sign is no k and a dotless i no i."""
    paired(READ, platform=one).when(make.knock(READ, platform=other)).then("request.opened")


@pytest.mark.parametrize("stored", [None, "", "  "])
def test_metadata_that_was_never_stored_is_not_compared(paired, make, stored):
    """N5: a device that said nothing of its platform may say something now; the record keeps what was approved."""
    story = paired(READ, platform=stored).when(make.knock(READ, platform="linux", family="Mac"))
    story.then()
    assert story.grant.platform == stored


@pytest.mark.parametrize(
    ("has", "asks"),
    [((WRITE,), (READ,)), ((READ,), ()), ((ADMIN,), (MADE_UP, PAIRING)), ((WRITE,), (TALK, "operator.sessions.write"))],
)
def test_what_is_covered_needs_no_approval(paired, make, has, asks):
    """UP-03, UP-05, AU-33: implied scopes are held."""
    paired(*has).when(make.knock(*asks)).then()


def test_scopes_of_another_role_are_never_covered(paired, make):
    """A13: an operator's scopes do not cover what a node asks, not even admin; the reverse neither."""
    story = paired("node.exec", role="node")
    story.when(make.knock("node.exec", role="operator")).then("request.opened")
    assert story.state.pending.need == "role-upgrade"


def test_a_key_change_is_no_upgrade(paired, make):
    """N1: another key under the same id is not paired, whatever the record says."""
    story = paired(READ).when(make.knock(READ, key="other-key"))
    assert story.then("request.opened")[0].need == "not-paired"


def test_return_of_a_device_notes_its_new_name_and_nothing_else(paired, make):
    """UP-17, N5: name and client are overwritten on return, with absent ones too; access is as it was."""
    story = paired(READ)
    before = story.grant
    story.when(make.knock(READ, client=("tui", None), named="named-2")).then("device.described")
    assert (story.grant.client_id, story.grant.client_mode, story.grant.named) == ("tui", None, "named-2")
    assert (story.grant.roles, story.grant.scopes, story.grant.tokens) == (before.roles, before.scopes, before.tokens)
    story.when(make.knock(READ, client=("tui", None), named="named-2")).then()


def test_widening_keeps_what_the_token_has(paired, make):
    """A12: what is asked again within the baseline comes on top."""
    story = paired(READ, PAIRING, MADE_UP).given(make.rotate(scopes=(READ,)))
    story.when(make.knock(PAIRING)).then("token.widened")
    assert story.scopes() == (PAIRING, READ)


def test_a_pending_upgrade_changes_nothing_meanwhile(paired, make):
    """A12: while an upgrade waits, the earlier grant stays in force, no more and no less."""
    story = paired(READ)
    before = story.grant
    story.when(make.knock(ADMIN, request="up")).then("request.opened")
    assert story.grant == before
    story.when(make.knock(READ)).then()
    assert story.pending.request == "up"


def test_a_narrowed_token_covers_again_what_is_approved(paired, make):
    """TK-07, protocol §5.8: with the shared secret a token widens up to the approved baseline, and keeps its value."""
    story = paired(WRITE).given(make.rotate(scopes=()))
    issue = story.grant.token("operator").issue
    (event,) = story.when(make.knock(READ)).then("token.widened")
    assert (event.issue, event.scopes) == (issue, (READ,))
    story.when(make.knock(READ)).then()
    story.when(make.knock(ADMIN)).then("request.opened")
    assert story.scopes() == (READ,)


# --- silent approval -----------------------------------------------------------------------------------------------


def test_a_silent_approval_is_recorded_in_full(story, make):
    """PL-01, A19, N7: request, approval, pairing and token are events that say by which means, resting on the shared secret."""
    opened, approved, came, token = story.when(make.knock(READ, request="r", silence=make.silence())).then(
        "request.opened", "request.approved", "device.paired", "token.issued"
    )
    assert opened.silent
    assert (approved.request, approved.means, approved.digest) == ("r", "silent", opened.digest)
    assert (approved.roles, approved.scopes) == (("operator",), (READ,))
    assert (came.means, came.scopes, came.roles, came.request, came.key) == ("silent", (READ,), ("operator",), "r", "device-key")
    assert (token.scopes, token.under, token.key) == ((READ,), "S1", "gateway-key")
    assert story.state.pending is None


def test_nobody_is_let_in_silently_unless_policy_says_so(story, make):
    """A19: without a word of policy every request waits."""
    story.when(make.knock(READ)).then("request.opened")


@pytest.mark.parametrize("scopes", [(ADMIN,), (WRITE,), (READ, WRITE), (MADE_UP,)])
def test_silence_has_a_ceiling(story, make, scopes):
    """N7, 12.2: beyond the ceiling a person decides, and the request is not marked silent."""
    story.when(make.knock(*scopes, silence=make.silence(ceiling=(READ, PAIRING)))).then("request.opened")
    assert not story.pending.silent


def test_unknown_operator_scopes_are_within_a_full_ceiling(story, make):
    """PL-13: operator.made-up is storable and grants nothing; a ceiling with admin covers it."""
    story.when(make.knock(MADE_UP, silence=make.silence())).then(
        "request.opened", "request.approved", "device.paired", "token.issued"
    )


@pytest.mark.parametrize(
    ("role", "scope"), [("node", READ), ("operator", "foo"), ("operator", "node.exec"), ("node", "nodex.exec")]
)
def test_scopes_outside_the_role_are_never_silent(story, make, role, scope):
    """PL-11, A13: a request whose scope belongs to none of its roles stays pending, marked silent."""
    story.when(make.knock(scope, role=role, silence=make.silence())).then("request.opened")
    assert story.pending.silent
    story.when(make.approve(story.pending.request)).refused(Reason.INVALID_SCOPE, scope=scope)


def test_a_node_without_scopes_is_let_in_by_its_network(story, make):
    """CI-01, PL-17: approved by means trusted-cidr; the token of a node carries no scopes."""
    quiet = make.silence("not-paired", means="trusted-cidr", ceiling=())
    *_, came, token = story.when(make.knock(role="node", silence=quiet)).then(
        "request.opened", "request.approved", "device.paired", "token.issued"
    )
    assert came.means == "trusted-cidr"
    assert (token.role, token.scopes) == ("node", ())


def test_an_earlier_loud_request_spoils_silence(story, make):
    """CI-09, PL-12: a merged or repeated request is silent only if all earlier ones were."""
    story.given(make.knock(READ)).when(make.knock(role="node", silence=make.silence()))
    story.then("request.superseded", "request.opened")
    assert not story.pending.silent
    story.when(make.knock(role="node", silence=make.silence())).then()


def test_a_loud_retry_ends_silence(story, make):
    """Protocol §5.5: silent is old AND new."""
    story.given(make.knock("foo", silence=make.silence()))
    assert story.pending.silent
    story.when(make.knock("foo")).then("request.refreshed")
    assert not story.pending.silent
    story.when(make.knock("foo", silence=make.silence())).then()
    assert not story.pending.silent


def test_a_silent_request_that_waits_may_still_be_approved_silently_when_it_fits(story, make):
    """PL-11 then PL-01: two silent asks merge into one that fits, and it is granted as a whole."""
    quiet = make.silence()
    story.given(make.knock(READ, role="node", silence=quiet))
    story.when(make.knock(READ, silence=quiet)).then(
        "request.superseded", "request.opened", "request.approved", "device.paired", "token.issued", "token.issued"
    )
    assert story.grant.roles == ("node", "operator")
    assert (story.scopes("node"), story.scopes()) == ((), (READ,))


def test_a_silent_approval_that_would_not_let_the_device_in_is_none(story, make):
    """PL-11, A13: two silent asks, each with the other's scopes, fit together and still let neither in; a person decides."""
    quiet = make.silence()
    story.given(make.knock(READ, role="node", silence=quiet))
    story.when(make.knock("node.exec", silence=quiet)).then("request.superseded", "request.opened")
    story.when(make.knock("node.exec", silence=quiet)).then()
    assert story.state.grant is None


def test_merged_requests_count_as_a_whole_against_the_ceiling(story, make):
    """N7: a small ask cannot carry an earlier, larger one through."""
    story.given(make.knock(ADMIN, "foo", silence=make.silence(), request="r"))
    assert story.pending.silent
    story.when(make.knock(READ, role="node", silence=make.silence(ceiling=(READ,)), request="s"))
    story.then("request.superseded", "request.opened")
    assert story.state.grant is None


@pytest.mark.parametrize(("more", "silent"), [(28, True), (29, False)])
def test_nobody_collects_scopes_without_end_in_silence(silently, make, more, silent):
    """N7, N13: beyond 128 scopes in all a person looks at it."""
    story = silently(*(f"operator.x{number}" for number in range(100)))
    story.when(make.knock(*(f"operator.y{number}" for number in range(more)), silence=make.silence()))
    assert (story.state.pending is None) == silent
    assert len(story.grant.scopes) == (128 if silent else 100)


def test_a_scope_that_fits_no_role_spoils_the_whole_merged_request(story, make):
    """A13, PL-11: what is asked now would fit, but the request would carry the misfit into the record."""
    story.given(make.knock("foo", silence=make.silence()))
    story.when(make.knock(READ, silence=make.silence())).then("request.superseded", "request.opened")
    assert story.pending.scopes == ("foo", READ)
    assert story.state.grant is None


def test_a_live_token_gains_nothing_above_the_ceiling_through_an_earlier_ask(paired, make):
    """N7: what was asked while the ceiling was higher waits for a person, also where the device is already in."""
    story = paired(READ)
    story.when(make.knock(ADMIN, role="node", silence=make.silence())).then("request.opened")
    assert story.pending.silent
    story.when(make.knock("operator.talk", silence=make.silence(ceiling=(READ, "operator.talk"))))
    story.then("request.superseded", "request.opened")
    assert story.scopes() == (READ,)


def test_a_local_scope_upgrade_is_silent_up_to_the_ceiling(silently, make):
    """12.2, V9-05 (UP-01 of the older version not copied): with the right shared secret an upgrade is granted at once."""
    story = silently(READ)
    issue = story.grant.token("operator").issue
    *_, token = story.when(make.knock(WRITE, silence=make.silence())).then(
        "request.opened", "request.approved", "device.upgraded", "token.widened"
    )
    assert (token.issue, token.scopes) == (issue, (READ, WRITE))
    assert story.grant.scopes == (READ, WRITE)
    story.when(make.knock(ADMIN, silence=make.silence(ceiling=(READ, WRITE)))).then("request.opened")


def test_silent_metadata_approval_smuggles_no_scope(paired, make):
    """UP-19 not copied, A19: a need that policy does not name keeps the whole request with a person."""
    story = paired(READ)
    before = story.grant
    story.when(make.knock(ADMIN, platform="darwin", silence=make.silence("metadata-upgrade"))).then("request.opened")
    assert story.pending.need == "scope-upgrade"
    assert not story.pending.silent
    assert story.grant == before
    story.when(make.knock(READ, platform="darwin", silence=make.silence("metadata-upgrade"))).then()
    assert story.grant == before


def test_a_silent_role_upgrade_decides_on_one_fresh_record(silently, make):
    """UP-23, 12.2: role and scope are judged together; there is no second look at a stale copy."""
    story = silently(role="node")
    story.when(make.knock(READ, silence=make.silence("role-upgrade"))).then("request.opened")
    story.when(make.knock(READ, silence=make.silence())).then()
    assert story.state.pending is not None
    fresh = silently(role="node")
    fresh.when(make.knock(READ, silence=make.silence())).then(
        "request.opened", "request.approved", "device.upgraded", "token.issued"
    )
    assert fresh.grant.roles == ("node", "operator")
    fresh.when(make.knock(READ)).then()


def test_a_revoked_token_is_silently_replaced_within_the_ceiling(silently, make):
    """UP-11, V7: a local device whose only token is revoked gets another one, and the revoked one stays dead."""
    story = silently(READ).given(make.revoke())
    dead = story.grant.token("operator").issue
    *_, token = story.when(make.knock(READ, silence=make.silence())).then(
        "request.opened", "request.approved", "device.upgraded", "token.rotated"
    )
    assert (token.retires, token.scopes) == (dead, (READ,))
    assert story.live()
    assert story.grant.token("operator").issue != dead


def test_what_a_dead_token_would_bring_back_counts_against_the_ceiling(silently, make):
    """N7, A19: asking for nothing after a revocation would restore what the token had; above the ceiling a person decides."""
    story = silently(ADMIN).given(make.revoke())
    story.when(make.knock(silence=make.silence(ceiling=(READ,)))).then("request.opened")
    assert not story.live()
    story.when(make.knock(silence=make.silence())).then("request.approved", "device.upgraded", "token.rotated")
    assert story.scopes() == (ADMIN, READ, WRITE)


def test_a_live_token_above_the_ceiling_is_kept_but_not_grown(paired, make):
    """N7: silence neither takes away what a person gave nor adds beyond its ceiling."""
    story = paired(PAIRING)
    quiet = make.silence(ceiling=(READ,))
    story.when(make.knock(READ, silence=quiet)).then("request.opened", "request.approved", "device.upgraded", "token.widened")
    assert story.scopes() == (PAIRING, READ)


def test_tokens_that_only_an_older_secret_vouched_for_are_dead(silently, make):
    """T6: after the shared secret has changed, a silently issued token needs a new approval and brings no scope back with it."""
    story = silently(ADMIN)
    assert story.live(under="S1")
    assert not story.live(under="S2")
    (opened,) = story.when(make.knock(READ, under="S2", request="r")).then("request.opened")
    assert opened.need == "role-upgrade"
    story.when(make.approve("r", under="S2")).then("request.approved", "device.upgraded", "token.rotated")
    assert story.scopes() == (READ,)
    assert story.grant.token("operator").under is None
    assert story.live(under="S3")


def test_a_new_secret_silently_vouches_for_what_is_asked_alone(silently, make):
    """T6, N7: the silent successor of a token of an older secret holds what was asked now, within the ceiling."""
    story = silently(ADMIN)
    quiet = make.silence(ceiling=(READ,))
    story.when(make.knock(READ, under="S2", silence=quiet)).then(
        "request.opened", "request.approved", "device.upgraded", "token.rotated"
    )
    assert story.scopes() == (READ,)
    assert not story.live(under="S1")
    assert story.live(under="S2")


def test_tokens_that_a_person_approved_outlive_the_shared_secret(paired, make):
    """T6: others do not die with it."""
    story = paired(READ)
    assert story.grant.token("operator").under is None
    story.when(make.knock(READ, under="S2")).then()


def test_a_persons_approval_frees_a_silent_token_from_the_secret(silently, make):
    """T6, T7: once an owner has approved it, the token no longer rests on the shared secret alone."""
    story = silently(READ).given(make.knock(WRITE, request="up"))
    story.when(make.approve("up")).then("request.approved", "device.upgraded", "token.widened")
    assert story.grant.token("operator").under is None
    assert story.live(under="S2")


# --- an operator approves ------------------------------------------------------------------------------------------


def test_an_approval_grants_exactly_the_request(story, make):
    """R2, T7: what was asked is what is granted, recorded with the digest of what was reviewed."""
    story.given(make.knock(f"{ADMIN}", MADE_UP, request="r", family="Mac"))
    shown = story.pending
    approved, came, token = story.when(make.approve("r", seen=shown.digest)).then(
        "request.approved", "device.paired", "token.issued"
    )
    assert (approved.digest, approved.means, approved.scopes) == (shown.digest, "owner", (ADMIN, MADE_UP))
    assert (came.scopes, came.platform, came.family, came.key) == ((ADMIN, MADE_UP), "linux", "Mac", shown.key)
    assert (came.client_id, came.client_mode, came.named, came.role) == ("cli", "cli", "named-1", "operator")
    assert token.scopes == (ADMIN, MADE_UP, READ, WRITE)
    assert story.state.pending is None
    assert story.grant.scopes == (ADMIN, MADE_UP)


def test_an_approval_of_what_was_not_shown_is_refused(story, make):
    """R2: with the digest of what was shown, a request that reads otherwise now is not approved, and stays."""
    story.given(make.knock(READ, request="r"))
    shown = story.pending.digest
    story.given(make.knock(READ, seen="another address", named="named-2"))
    refusal = story.when(make.approve("r", seen=shown)).refused(Reason.REQUEST_CHANGED, request="r")
    assert refusal.details.items() >= {"seen": shown, "now": story.pending.digest}.items()
    assert "r" in refusal.hint
    story.when(make.approve("r", seen=story.pending.digest)).then("request.approved", "device.paired", "token.issued")


@pytest.mark.parametrize(
    ("asked", "held", "missing"),
    [
        ((READ,), (PAIRING,), READ),
        ((ADMIN,), (PAIRING, READ, WRITE), ADMIN),
        ((WRITE, PAIRING), (PAIRING, READ), WRITE),
        ((MADE_UP,), (PAIRING, READ, WRITE), MADE_UP),
        ((WRITE, READ), (PAIRING,), READ),
    ],
)
def test_nobody_grants_what_they_do_not_hold(story, make, asked, held, missing):
    """A1, RP-15, RP-17: the first missing scope, in sorted order, is named; the request stays."""
    story.given(make.knock(*asked, request="r")).when(make.approve("r", make.caller(*held)))
    story.refused(Reason.MISSING_SCOPE, scope=missing)
    assert story.pending.request == "r"
    assert story.refusal.message == f"missing scope: {missing}"


@pytest.mark.parametrize(("asked", "held"), [((READ,), (PAIRING, WRITE)), ((TALK,), (PAIRING, WRITE)), ((), (PAIRING,))])
def test_implied_scopes_may_be_granted(story, make, asked, held):
    """A17: holding write is holding read; asking for nothing is covered."""
    story.given(make.knock(*asked, request="r")).when(make.approve("r", make.caller(*held)))
    story.then("request.approved", "device.paired", "token.issued")


def test_pairing_rights_are_needed_to_approve_anything(story, make):
    """A14, B6: every operator scope but pairing and admin approves nothing; neither does a caller nobody vouched for."""
    story.given(make.knock(request="r"))
    rest = make.caller(*(set(OPERATOR_SCOPES) - {ADMIN, PAIRING}))
    story.when(make.approve("r", rest)).refused(Reason.MISSING_SCOPE, scope=PAIRING)
    story.when(make.approve("r", make.nobody)).refused(Reason.APPROVAL_DENIED, rule="no-caller")
    story.when(make.approve("r", make.caller())).refused(Reason.MISSING_SCOPE, scope=PAIRING)


def test_a_lent_ceiling_gives_scopes_to_judge_with_but_no_pairing_rights(story, make):
    """12.3, N7: a local session approves up to its ceiling, if it may pair at all."""
    story.given(make.knock(ADMIN, request="r"))
    story.when(make.approve("r", make.caller(READ, ceiling=OPERATOR_SCOPES))).refused(Reason.MISSING_SCOPE, scope=PAIRING)
    story.when(make.approve("r", make.caller(PAIRING, ceiling=(WRITE,)))).refused(Reason.MISSING_SCOPE, scope=ADMIN)
    story.when(make.approve("r", make.host)).then("request.approved", "device.paired", "token.issued")


def test_a_bound_session_approves_its_own_requests_only(story, make):
    """RP-21, A8: a device session without admin is told no more than no about others."""
    story.given(make.knock(READ, request="r"))
    story.when(make.approve("r", make.caller(PAIRING, READ, own="e" * 64))).refused(Reason.APPROVAL_DENIED, rule="foreign")
    assert story.refusal.message == "device pairing approval denied"
    assert story.pending.request == "r"


def test_nobody_widens_themselves(paired, make):
    """RP-23, A21: approving one's own request is limited to the scopes already held."""
    story = paired(PAIRING, READ).given(make.knock(ADMIN, request="up"))
    own = make.caller(PAIRING, READ, own=DEVICE)
    story.when(make.approve("up", own)).refused(Reason.MISSING_SCOPE, scope=ADMIN)
    assert story.scopes() == (PAIRING, READ)


def test_an_admin_on_a_device_session_approves_others(story, make):
    """RP-25: a device session with admin is bound to no device."""
    story.given(make.knock(READ, request="r")).when(make.approve("r", make.caller(ADMIN)))
    story.then("request.approved", "device.paired", "token.issued")


@pytest.mark.parametrize("asked", [(), ("node.exec",)])
def test_a_node_is_approved_by_admins_only(story, make, asked):
    """12.4, V9-13 (RP-19, RP-47 of the older version not copied), A11: another role than operator needs admin."""
    story.given(make.knock(*asked, role="node", request="r"))
    everything_else = make.caller(*(set(OPERATOR_SCOPES) - {ADMIN}), "node.exec")
    story.when(make.approve("r", everything_else)).refused(Reason.APPROVAL_DENIED, rule="role")
    story.when(make.approve("r")).then("request.approved", "device.paired", "token.issued")
    assert story.scopes("node") == asked


def test_merged_roles_are_approved_together(story, make):
    """RP-27, A13: one token a role, each with the scopes of its namespace alone."""
    story.given(make.knock(READ, request="r"), make.knock(role="node", request="s"))
    story.when(make.approve("s")).then("request.approved", "device.paired", "token.issued", "token.issued")
    assert story.grant.roles == ("operator", "node")
    assert [(token.role, token.scopes) for token in story.grant.tokens] == [("node", ()), ("operator", (READ,))]
    assert len({token.issue for token in story.grant.tokens}) == 2


def test_an_approved_upgrade_merges(paired, make):
    """12.5, RP-29, V9-22 (UP-21 of the older version not copied): the token gains, keeps its value, and stays live."""
    story = paired(PAIRING)
    before = story.grant.token("operator")
    make.now += 10
    story.given(make.knock(WRITE, request="up"))
    *_, upgraded, token = story.when(make.approve("up")).then("request.approved", "device.upgraded", "token.widened")
    assert (upgraded.scopes, upgraded.roles) == ((PAIRING, WRITE), ("operator",))
    assert (token.issue, token.scopes) == (before.issue, (PAIRING, READ, WRITE))
    assert story.grant.token("operator").created_at == before.created_at
    assert (story.grant.created_at, story.grant.approved_at) == (make.now - 10, make.now)


def test_an_approver_must_hold_what_the_upgraded_token_will_hold(paired, make):
    """A1, A9: merging a small ask into a large token is granting the large one."""
    story = paired(ADMIN).given(make.knock(READ, platform="darwin", request="up"))
    story.when(make.approve("up", make.caller(PAIRING, READ))).refused(Reason.MISSING_SCOPE, scope=ADMIN)


def test_approved_metadata_is_the_new_truth(paired, make):
    """AU-41, UP-15: after a metadata approval the device is compared with what was approved; access is as it was."""
    story = paired(READ).given(make.knock(READ, platform="darwin", family="Mac", request="up"))
    story.when(make.approve("up")).then("request.approved", "device.upgraded")
    assert (story.grant.platform, story.grant.family) == ("darwin", "Mac")
    assert story.scopes() == (READ,)
    story.when(make.knock(READ, platform="macos", family="mac")).then()
    story.when(make.knock(READ, platform="linux")).then("request.opened")


def test_a_second_role_leaves_the_first_alone(paired, make):
    """A12, UP-07 by a person: the operator token is untouched, the record's latest role is the new one."""
    story = paired(READ)
    operator = story.grant.token("operator")
    story.given(make.knock(role="node", request="up"))
    story.when(make.approve("up")).then("request.approved", "device.upgraded", "token.issued")
    assert (story.grant.roles, story.grant.role) == (("operator", "node"), "node")
    assert story.grant.token("operator") == operator


def test_a_repair_that_asks_nothing_keeps_what_was_held(paired, make):
    """RP-49, A10, A9: the new token holds what the old one had; whoever approves must hold that."""
    story = paired(ADMIN).given(make.revoke(), make.knock(request="up"))
    assert story.pending.need == "role-upgrade"
    story.when(make.approve("up", make.caller(PAIRING, READ))).refused(Reason.MISSING_SCOPE, scope=ADMIN)
    story.when(make.approve("up")).then("request.approved", "device.upgraded", "token.rotated")
    assert story.scopes() == (ADMIN, READ, WRITE)
    assert story.grant.scopes == (ADMIN,)


def test_a_repair_that_asks_something_gets_that_alone(paired, make):
    """A1, A9, V7: a dead token comes back with what was asked, and of the baseline no more is left than somebody looked at."""
    story = paired(ADMIN).given(make.revoke(), make.knock(READ, request="up"))
    story.when(make.approve("up", make.caller(PAIRING, READ))).then("request.approved", "device.upgraded", "token.rotated")
    assert (story.scopes(), story.grant.scopes) == ((READ,), (READ,))
    story.when(make.knock(ADMIN)).then("request.opened")
    assert story.scopes() == (READ,)


def test_a_repair_of_one_role_leaves_the_baseline_of_the_other(paired, make):
    """A12, V7: what comes back from the dead is narrowed; the role that was alive all the time is not."""
    story = paired("node.exec", "node.read", role="node").given(make.knock(ADMIN, request="up"), make.approve("up"))
    story.given(make.revoke("node"), make.knock("node.exec", role="node", request="again"), make.approve("again"))
    assert story.grant.scopes == ("node.exec", ADMIN)
    assert story.scopes() == (ADMIN, READ, WRITE)


def test_a_token_narrowed_to_nothing_comes_back_with_nothing(paired, make):
    """A10: what a token had is what it had, also when that was nothing; the baseline is not a substitute."""
    story = paired(ADMIN).given(make.rotate(scopes=()), make.revoke(), make.knock(request="up"))
    story.when(make.approve("up", make.caller(PAIRING))).then("request.approved", "device.upgraded", "token.rotated")
    assert story.scopes() == ()


def test_a_repair_never_brings_back_what_is_outside_the_baseline(paired, make):
    """A18, TK-21: of a token that does not fit its record only the part that fits comes back."""
    story = paired(READ)
    story.given(TokenIssued(at=make.now, role="operator", scopes=(ADMIN, READ), issue="forged", key="gateway-key", under=None))
    assert not story.live()
    story.given(make.knock(request="up")).when(make.approve("up", make.caller(PAIRING, READ)))
    story.then("request.approved", "device.upgraded", "token.rotated")
    assert story.scopes() == (READ,)


def test_a_role_approved_without_a_token_gets_the_baseline_of_that_role(paired, make):
    """Protocol §6.4: no token of the role yet and nothing asked gives what the record has for the role."""
    story = paired(READ, WRITE)
    story.state = replace(story.state, grant=replace(story.grant, tokens=()))
    story.given(make.knock(request="up")).when(make.approve("up")).then("request.approved", "device.upgraded", "token.issued")
    assert story.scopes() == (READ, WRITE)


# --- the second answer ---------------------------------------------------------------------------------------------


def test_the_second_approver_learns_of_the_first(paired, make):
    """R6: the same answer again changes nothing and is no error, also for somebody who could not have given it."""
    story = paired(ADMIN)
    story.when(make.approve("first")).then()
    story.when(make.approve("first", make.pairer)).then()


@pytest.mark.parametrize("end", ["rejected", "expired", "superseded", "withdrawn"])
def test_an_approval_that_comes_too_late_is_told_what_happened(story, make, end):
    """R5, R6, R9, 12.8: only the first answer counts; the late one is refused in the wire's words and told the truth."""
    story.given(make.knock(READ, request="r"))
    if end == "rejected":
        story.given(make.reject("r"))
    elif end == "superseded":
        story.given(make.knock(WRITE, request="s"))
    elif end == "expired":
        make.now += TTL + 1
        story.given(make.expire("r"))
    else:
        story.given(make.approve("r"), make.knock(WRITE, request="r2"), make.remove())
    refusal = story.when(make.approve("r2" if end == "withdrawn" else "r")).refused(Reason.UNKNOWN_REQUEST)
    assert refusal.message == "unknown requestId"
    assert refusal.details["outcome"] == end
    assert end in refusal.hint
    assert story.state.grant is None


def test_a_rejection_of_what_was_approved_is_refused(paired, make):
    """R6: a different second answer is told the first."""
    refusal = paired(READ).when(make.reject("first")).refused(Reason.UNKNOWN_REQUEST)
    assert refusal.details["outcome"] == "approved"


@pytest.mark.parametrize("verb", ["approve", "reject"])
def test_an_id_that_never_was_is_unknown(story, make, verb):
    """Protocol §6.4: unknown requestId, and where to look."""
    refusal = story.when(getattr(make, verb)("nothing")).refused(Reason.UNKNOWN_REQUEST)
    assert refusal.details == {}
    assert "devices list" in refusal.hint


def test_who_asks_is_judged_before_what_exists(story, make):
    """A8, A14: without rights nobody learns which ids exist."""
    story.when(make.approve("nothing", make.nobody)).refused(Reason.APPROVAL_DENIED)
    story.when(make.approve("nothing", make.caller(PAIRING, own="e" * 64))).refused(Reason.APPROVAL_DENIED)
    story.when(make.reject("nothing", make.caller(PAIRING, own="e" * 64))).refused(Reason.REJECTION_DENIED)
    story.when(make.remove(make.caller(PAIRING, own="e" * 64))).refused(Reason.REMOVAL_DENIED)


# --- reject, expire, remove ----------------------------------------------------------------------------------------


def test_a_rejection_ends_the_request_and_needs_no_scope(story, make):
    """RP-31, 12.10: pairing rights suffice; the same answer again is no error; the grant is untouched."""
    story.given(make.knock(ADMIN, request="r"))
    shown = story.pending.digest
    (event,) = story.when(make.reject("r", make.pairer)).then("request.rejected")
    assert (event.request, event.digest) == ("r", shown)
    assert story.state.pending is None
    story.when(make.reject("r", make.pairer)).then()


def test_a_bound_session_rejects_its_own_requests_only(paired, make):
    """RP-33, A8."""
    story = paired(PAIRING).given(make.knock(ADMIN, request="up"))
    story.when(make.reject("up", make.caller(PAIRING, own="e" * 64))).refused(Reason.REJECTION_DENIED)
    story.when(make.reject("up", make.caller(READ))).refused(Reason.REJECTION_DENIED)
    story.when(make.reject("up", make.nobody)).refused(Reason.REJECTION_DENIED)
    story.when(make.reject("up", make.caller(PAIRING, own=DEVICE))).then("request.rejected")


def test_a_rejected_upgrade_leaves_the_grant(paired, make):
    """A12: no means that nothing changes."""
    story = paired(READ)
    before = story.grant
    story.given(make.knock(ADMIN, request="up"), make.reject("up"))
    assert story.grant == before


@pytest.mark.parametrize("late", [0, 1])
def test_expiry_is_judged_at_the_decision(story, make, late):
    """R7, R12: at its last millisecond a request can be answered, one later it cannot, whether or not a timer has run."""
    story.given(make.knock(READ, request="r"))
    make.now = story.pending.expires_at + late
    if late:
        refusal = story.when(make.approve("r")).refused(Reason.UNKNOWN_REQUEST)
        assert refusal.details == {"outcome": "expired", "at": make.now - 1}
        story.when(make.reject("r")).refused(Reason.UNKNOWN_REQUEST)
        story.when(make.expire("r")).then("request.expired")
        story.when(make.expire("r")).then()
    else:
        story.when(make.expire("r")).then()
        story.when(make.approve("r")).then("request.approved", "device.paired", "token.issued")


def test_a_timer_for_another_request_does_nothing(story, make):
    """R5: a late timer of a superseded request does not end its successor."""
    story.given(make.knock(READ, request="r"))
    make.now += TTL + 1
    story.when(make.expire("q")).then()
    assert story.pending.request == "r"


def test_removal_ends_everything_at_once(paired, make):
    """R9, RP-41, V7: grant, tokens and the open request end together; the stale approval cannot recreate the device."""
    story = paired(READ).given(make.knock(ADMIN, request="up"))
    issue = story.grant.token("operator").issue
    ended, removed = story.when(make.remove()).then("request.withdrawn", "device.removed")
    assert (ended.request, removed.roles, removed.issues) == ("up", ("operator",), (issue,))
    assert story.state.grant is None
    assert story.state.pending is None
    story.when(make.approve("up")).refused(Reason.UNKNOWN_REQUEST)
    story.when(make.approve("first")).then()
    assert story.state.grant is None
    story.when(make.reject("up")).then()


def test_removing_who_is_not_there_is_refused(story, make):
    """Protocol §6.5: unknown deviceId, also where only a request is open."""
    story.when(make.remove()).refused(Reason.UNKNOWN_DEVICE)
    story.given(make.knock(READ)).when(make.remove()).refused(Reason.UNKNOWN_DEVICE)
    story.when(make.remove(make.nobody)).refused(Reason.REMOVAL_DENIED)


@pytest.mark.parametrize(
    ("has", "held", "rule"),
    [
        ((ADMIN,), (PAIRING,), "scope"),
        ((WRITE,), (PAIRING, READ), "scope"),
        ((READ,), (READ, WRITE), "no-pairing"),
    ],
)
def test_removal_needs_what_the_device_holds(paired, make, has, held, rule):
    """12.4 (RP-45 of the older version not copied), A6: low scope cannot remove high scope."""
    story = paired(*has).when(make.remove(make.caller(*held)))
    story.refused(Reason.REMOVAL_DENIED, rule=rule)
    assert story.live()


def test_a_removal_is_judged_by_the_baseline_not_by_a_narrowed_token(paired, make):
    """A6: narrowing or revoking the token first does not make an admin's device anybody's to remove."""
    story = paired(ADMIN).given(make.rotate(scopes=()), make.revoke())
    story.when(make.remove(make.caller(PAIRING, READ, WRITE))).refused(Reason.REMOVAL_DENIED)
    story.when(make.remove(make.host)).then("device.removed")


def test_removing_another_role_needs_admin(paired, make):
    """12.4, V9-27, A7: a device with a node role cannot remove itself without admin; others cannot be removed by it at all."""
    story = paired(PAIRING).given(make.knock(role="node", request="up"), make.approve("up"))
    story.when(make.remove(make.caller(PAIRING, own=DEVICE))).refused(Reason.REMOVAL_DENIED, rule="role")
    story.when(make.remove(make.caller(PAIRING, own="e" * 64))).refused(Reason.REMOVAL_DENIED, rule="foreign")
    story.when(make.remove()).then("device.removed")


def test_a_device_may_remove_itself(paired, make):
    """A7: within its own scopes."""
    paired(PAIRING, READ).when(make.remove(make.caller(PAIRING, READ, own=DEVICE))).then("device.removed")


def test_a_removed_device_starts_from_nothing(paired, make):
    """V7, A15: it must ask again; the new grant has new generations and nothing of the old one."""
    story = paired(ADMIN)
    old = story.grant.token("operator").issue
    (opened,) = story.given(make.remove()).when(make.knock(request="again")).then("request.opened")
    assert (opened.need, opened.repair) == ("not-paired", False)
    story.given(make.approve("again"))
    assert story.grant.scopes == ()
    assert story.scopes() == ()
    assert story.grant.token("operator").issue != old
    assert [retired.issue for retired in story.state.retired] == [old]


# --- rename --------------------------------------------------------------------------------------------------------


def test_a_label_is_an_event_once(paired, make):
    """D11: the same label again is nothing; taking it away is an event."""
    story = paired(READ).given(make.rename("tag-1"))
    story.when(make.rename("tag-1")).then()
    story.when(make.rename(None)).then("device.renamed")
    assert story.state.labelled is None


def test_a_rename_needs_pairing_rights_and_a_device(paired, story, make):
    """A7, V9-28: a bound session renames itself only."""
    story.when(make.rename("tag")).refused(Reason.UNKNOWN_DEVICE)
    named = paired(ADMIN)
    named.when(make.rename("tag", make.caller(READ))).refused(Reason.RENAME_DENIED, rule="no-pairing")
    named.when(make.rename("tag", make.caller(PAIRING, own="e" * 64))).refused(Reason.RENAME_DENIED, rule="foreign")
    named.when(make.rename("tag", make.caller(PAIRING, own=DEVICE))).then("device.renamed")
    named.when(make.rename("tag-2", make.pairer)).then("device.renamed")


# --- rotate and revoke ---------------------------------------------------------------------------------------------


def test_a_rotation_retires_one_generation_and_issues_the_next(paired, make):
    """TK-01, T1, T2: in one event; creation time and scopes kept, the old one remembered as rotated."""
    story = paired(READ)
    old = story.grant.token("operator")
    make.now += 10
    (event,) = story.when(make.rotate()).then("token.rotated")
    new = story.grant.token("operator")
    assert (event.retires, event.issue, event.scopes) == (old.issue, new.issue, (READ,))
    assert (new.created_at, new.rotated_at, new.issued_at) == (old.created_at, make.now, make.now)
    assert [(retired.issue, retired.how) for retired in story.state.retired] == [(old.issue, "rotated")]


def test_every_rotation_is_a_new_generation(paired, make):
    """T2: rotation is not idempotent by state; each command makes its own generation."""
    story = paired(READ).given(make.rotate(), make.rotate(), make.rotate())
    assert len({story.grant.token("operator").issue, *(retired.issue for retired in story.state.retired)}) == 4


@pytest.mark.parametrize(
    ("has", "to", "then"),
    [
        ((ADMIN,), (READ,), (READ,)),
        ((ADMIN,), (), ()),
        ((ADMIN,), (WRITE,), (READ, WRITE)),
        ((WRITE,), (TALK,), (TALK,)),
        ((READ,), (f" {READ} ", ""), (READ,)),
    ],
)
def test_a_rotation_may_narrow(paired, make, has, to, then):
    """TK-07: given scopes replace the token's, normalised; the baseline stays."""
    story = paired(*has).given(make.rotate(scopes=to))
    assert (story.scopes(), story.grant.scopes) == (then, has)


@pytest.mark.parametrize(
    ("has", "to"), [((READ,), (WRITE,)), ((READ,), (ADMIN,)), ((), (READ,)), ((ADMIN,), ("node.exec",)), ((ADMIN,), ("x",))]
)
def test_a_rotation_stays_within_the_baseline(paired, make, has, to):
    """A4, TK-25: beyond what was approved for the device it is denied, also for admins, and the old token still works."""
    story = paired(*has)
    before = story.grant
    story.when(make.rotate(scopes=to)).refused(Reason.ROTATION_DENIED)
    assert story.grant == before


@pytest.mark.parametrize("role", ["node", "", "Operator", "admin"])
def test_a_rotation_yields_no_role_that_was_not_approved(paired, make, role):
    """A5."""
    paired(ADMIN).when(make.rotate(role=role)).refused(Reason.ROTATION_DENIED)


@pytest.mark.parametrize("scopes", [None, (), (PAIRING,)])
def test_a_rotation_needs_what_it_gives_and_what_it_ends(paired, make, scopes):
    """A3, A6 (TK-09 with them: narrowing an admin's token is disabling it): pairing rights alone do not touch it."""
    story = paired(ADMIN)
    story.when(make.rotate(scopes=scopes, by=make.pairer)).refused(Reason.ROTATION_DENIED, rule="scope")
    story.when(make.rotate(scopes=scopes, by=make.host)).then("token.rotated")


def test_rotating_a_narrowed_token_needs_what_it_holds(paired, make):
    """A6: a live token ends as what it is, not as what it might have been."""
    story = paired(ADMIN).given(make.rotate(scopes=(PAIRING,)))
    story.when(make.rotate(by=make.pairer)).then("token.rotated")
    assert story.scopes() == (PAIRING,)


def test_reviving_a_token_needs_what_becomes_reachable_with_it(paired, make):
    """A3, A6, TK-14: a revoked token that comes back, however narrow, makes the whole baseline reachable again."""
    story = paired(ADMIN).given(make.revoke())
    for scopes in (None, (), (PAIRING,)):
        story.when(make.rotate(scopes=scopes, by=make.pairer)).refused(Reason.ROTATION_DENIED, rule="scope")
    assert not story.live()
    story.when(make.rotate(scopes=(PAIRING,), by=make.host)).then("token.rotated")
    assert story.live()
    assert [retired.how for retired in story.state.retired] == ["revoked"]


def test_a_role_without_a_token_gets_its_first_by_rotation(paired, make):
    """Protocol §6.6: the role must be approved but need not have a token."""
    story = paired(READ, WRITE)
    story.state = replace(story.state, grant=replace(story.grant, tokens=()))
    story.when(make.rotate()).then("token.issued")
    assert story.scopes() == (READ, WRITE)


@pytest.mark.parametrize("verb", ["rotate", "revoke"])
def test_tokens_of_others_are_out_of_reach(paired, make, verb):
    """TK-05, A7: a device session without admin acts on its own device only."""
    reason = Reason.ROTATION_DENIED if verb == "rotate" else Reason.REVOCATION_DENIED
    story = paired(READ)
    act = getattr(make, verb)
    story.when(act(by=make.caller(PAIRING, READ, own="e" * 64))).refused(reason, rule="foreign")
    story.when(act(by=make.caller(READ))).refused(reason, rule="no-pairing")
    story.when(act(by=make.nobody)).refused(reason, rule="no-caller")
    story.when(act(by=make.caller(PAIRING, READ, own=DEVICE))).then("token.rotated" if verb == "rotate" else "token.revoked")


@pytest.mark.parametrize("verb", ["rotate", "revoke"])
def test_a_nodes_token_is_an_admins_matter(paired, make, verb):
    """12.4 (TK-17 of the older version not copied), A6: also where the token carries no scope."""
    story = paired(role="node")
    act = getattr(make, verb)
    denied = Reason.ROTATION_DENIED if verb == "rotate" else Reason.REVOCATION_DENIED
    story.when(act(role="node", by=make.caller(*(set(OPERATOR_SCOPES) - {ADMIN})))).refused(denied, rule="role")
    story.when(act(role="node")).then(f"token.{verb}d" if verb == "revoke" else "token.rotated")


def test_rotation_leaves_a_secrets_child_the_secrets_child(silently, make):
    """T6: rotating does not launder a token that only the shared secret vouched for."""
    story = silently(PAIRING).given(make.rotate(by=make.caller(PAIRING, own=DEVICE)))
    assert story.live(under="S1")
    assert not story.live(under="S2")


def test_rotating_one_role_leaves_the_other(paired, make):
    """TK-15, T12: tokens are per role."""
    story = paired(READ).given(make.knock(role="node", request="up"), make.approve("up"))
    operator = story.grant.token("operator")
    story.given(make.rotate(role="node"), make.revoke(role="node"))
    assert story.grant.token("operator") == operator


def test_a_revoked_token_stays_dead(paired, make):
    """TK-13, V7: revoking again is recorded again; the token has no successor until somebody makes one."""
    story = paired(READ)
    issue = story.grant.token("operator").issue
    story.when(make.revoke()).then("token.revoked")
    make.now += 10
    (event,) = story.when(make.revoke()).then("token.revoked")
    assert (event.issue, story.grant.token("operator").revoked_at) == (issue, make.now)
    assert not story.live()
    (opened,) = story.when(make.knock()).then("request.opened")
    assert opened.need == "role-upgrade"


@pytest.mark.parametrize(("has", "held"), [((ADMIN,), (PAIRING, WRITE)), ((WRITE,), (PAIRING, READ))])
def test_revoking_needs_what_the_token_holds(paired, make, has, held):
    """A6."""
    story = paired(*has).when(make.revoke(by=make.caller(*held)))
    story.refused(Reason.REVOCATION_DENIED, rule="scope")
    assert story.live()


def test_what_has_no_token_cannot_be_revoked(story, paired, make):
    """Protocol §6.6: all the same refusal."""
    story.when(make.revoke()).refused(Reason.REVOCATION_DENIED)
    paired(READ).when(make.revoke(role="node")).refused(Reason.REVOCATION_DENIED)
    story.when(make.rotate()).refused(Reason.ROTATION_DENIED)


# --- forgetting ----------------------------------------------------------------------------------------------------


def test_forgetting_is_on_record_before_anything_is_erased(paired, make):
    """L1, L6: the fact says how many rows had something to erase; access is what it was, and the label may be given anew."""
    story = paired(READ, PAIRING).given(make.rename("tag")).when(make.forget(rows=5))
    story.then("device.forgotten")
    assert story.events[0].rows == 5
    assert story.live()
    assert story.state.labelled is None
    story.when(make.rename("tag")).then("device.renamed")


def test_a_device_that_is_gone_can_still_be_forgotten(paired, make):
    """L6: erasure is asked for by people who have left. Nothing left to erase is nothing, an id never heard of is unknown."""
    story = paired(READ).given(make.remove())
    story.when(make.forget()).then("device.forgotten")
    story.when(make.forget(rows=0)).then()


def test_an_unknown_device_cannot_be_forgotten(story, make):
    """D3: a typing error is not taken for an erasure."""
    story.when(make.forget()).refused(Reason.UNKNOWN_DEVICE)


@pytest.mark.parametrize("held", [(PAIRING,), (PAIRING, "operator.write", READ), ()])
def test_forgetting_needs_admin(paired, make, held):
    """A6, L6: what cannot be undone is not for who may merely pair, also where the device holds nothing more than they do."""
    story = paired(READ, PAIRING)
    story.when(make.forget(by=make.caller(*held))).refused(Reason.FORGETTING_DENIED)
    story.when(make.forget(by=make.nobody)).refused(Reason.FORGETTING_DENIED)
    story.when(make.forget(by=make.host)).then("device.forgotten")


# --- what nobody foresaw -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["knock", "approve", "reject", "expire", "remove", "rename", "rotate", "revoke", "forget"])
def test_no_decision_follows_an_event_of_a_newer_version(paired, make, command):
    """D3: a stream with an unknown event refuses every command and names the kind."""
    story = paired(ADMIN).given(Unknown(kind="device.quarantined", raw=b"{}"))
    arguments = {"approve": ("first",), "reject": ("first",), "expire": ("first",), "rename": ("tag",)}.get(command, ())
    refusal = story.when(getattr(make, command)(*arguments)).refused(Reason.NEWER_WRITER)
    assert refusal.details == {"kind": "device.quarantined"}


def test_what_a_state_remembers_is_bounded(paired, make):
    """N13: a device that is rotated and asks for ever costs bounded memory; the log remembers the rest."""
    story = paired(PAIRING)
    for number in range(80):
        story.given(make.rotate(), make.knock(ADMIN, request=f"r{number}"), make.reject(f"r{number}"))
    assert (len(story.state.retired), len(story.state.closed)) == (32, 32)
    assert story.state.retired[-1].issue != story.grant.token("operator").issue
    assert story.state.ended("r79") is not None
    assert story.state.ended("r1") is None


def test_events_carry_no_personal_words_in_their_bodies(paired, make):
    """L6: names, labels and addresses travel beside the event."""
    story = paired(READ).given(make.rename("tag"), make.knock(READ, client=("tui", "x"), named="n2"), make.remove())
    allowed = {"seen", "named", "labelled"}
    for event in story.history:
        fields = set(msgspec.to_builtins(event))
        assert not fields & {"name", "label", "address", "agent", "ip", "display_name"}, fields - allowed


# --- a token is handed over ----------------------------------------------------------------------------------------


def test_a_handoff_leaves_the_predecessor_until_its_successor_is_used(paired, make):
    """T1: a declared window names its end, and the first use of the successor is the end."""
    story = paired(READ)
    before = story.grant.token("operator").issue
    (rotated,) = story.when(make.rotate(handoff=600_000)).then("token.rotated")
    assert (rotated.handoff_until, rotated.compromised) == (make.now + 600_000, False)
    after = story.grant.token("operator")
    assert (after.handoff.issue, story.state.retired) == (before, ())
    (closed,) = story.when(make.closehandoff(after.issue, used=True)).then("handoff.closed")
    assert (closed.retires, closed.issue, closed.how) == (before, after.issue, "used")
    assert story.grant.token("operator").handoff is None
    assert [(old.issue, old.how) for old in story.state.retired] == [(before, "rotated")]
    story.when(make.closehandoff(after.issue, used=True)).then()


def test_a_handoff_ends_at_its_deadline_and_not_before(paired, make):
    """T1: the timer records the end once the time has passed; a timer that is early records nothing."""
    story = paired(READ).given(make.rotate(handoff=1_000))
    issue = story.grant.token("operator").issue
    make.now += 1_000
    story.when(make.closehandoff(issue, used=False)).then()
    make.now += 1
    (closed,) = story.when(make.closehandoff(issue, used=False)).then("handoff.closed")
    assert closed.how == "expired"


def test_only_the_last_generation_is_ever_handed_over(paired, make):
    """T1, T2: a second rotation ends the first one's window, whether or not it opens one of its own."""
    for handoff in (0, 500):
        story = paired(READ)
        first = story.grant.token("operator").issue
        story.given(make.rotate(handoff=1_000))
        second = story.grant.token("operator").issue
        story.given(make.rotate(handoff=handoff))
        left = story.grant.token("operator").handoff
        assert (left.issue if left else None) == (second if handoff else None)
        assert [old.issue for old in story.state.retired] == [first] + ([] if handoff else [second])


def test_revocation_removal_and_compromise_leave_nothing(paired, make):
    """T1: each ends the window at once, and a rotation for compromise opens none."""
    for end in (make.revoke(), make.rotate(compromised=True, handoff=1_000), make.remove()):
        story = paired(READ)
        first = story.grant.token("operator").issue
        story.given(make.rotate(handoff=1_000), end)
        token = story.state.token("operator")
        assert token is None or token.handoff is None
        assert first in {old.issue for old in story.state.retired}
    (rotated,) = paired(READ).when(make.rotate(compromised=True)).then("token.rotated")
    assert (rotated.handoff_until, rotated.compromised) == (None, True)


def test_a_lock_ends_what_is_left_and_unlocking_does_not_bring_it_back(paired, make):
    """T1: the predecessor of a device that was locked is dead, whatever becomes of the lock."""
    story = paired(READ).given(make.rotate(handoff=1_000))
    *_, closed = story.when(make.lock()).then("device.locked", "handoff.closed")
    assert closed.how == "locked"
    story.given(make.unlock())
    assert story.grant.token("operator").handoff is None


def test_a_handoff_does_not_outlive_the_token_that_is_left(paired, make):
    """T1: a lifetime that ends sooner ends it."""
    make.lifetimes = (("operator", 500),)
    (rotated,) = paired(READ).when(make.rotate(handoff=1_000)).then("token.rotated")
    assert rotated.handoff_until == make.now + 499
    story = paired(READ)
    make.now += 500
    (rotated,) = story.when(make.rotate(handoff=1_000)).then("token.rotated")
    assert rotated.handoff_until is None


def test_a_dead_token_is_not_handed_over(paired, make):
    """T1, V7: rotating a revoked token gives the device a new one and never brings the old one back."""
    story = paired(READ).given(make.revoke())
    (rotated,) = story.when(make.rotate(handoff=1_000)).then("token.rotated")
    assert rotated.handoff_until is None
    assert story.grant.token("operator").handoff is None


def test_a_handoff_is_bounded_by_policy(paired, make):
    """T1: the longest window is a setting; who may not rotate is not told it."""
    story = paired(READ)
    story.when(make.rotate(handoff=1_001, longest=1_000)).refused(Reason.HANDOFF_TOO_LONG, longest=1_000)
    story.when(make.rotate(handoff=1_001, longest=1_000, by=make.pairer)).refused(Reason.ROTATION_DENIED)
    story.when(make.rotate(handoff=1_000, longest=1_000)).then("token.rotated")


def test_a_device_that_opens_one_request_after_another_is_told_to_wait(story, make):
    """R10: so many within an hour may come to nothing; what is open stays open, a retry of it counts as none, and time heals."""

    def storm(number):
        return replace(make.knock(f"operator.x{number}", request=f"r{number}"), most=3)

    for number in range(4):
        story.given(storm(number))
    story.when(storm(4)).refused(Reason.TOO_MANY_REQUESTS)
    assert story.pending.request == "r3"
    make.now += TTL // 2
    story.when(replace(make.knock("operator.x3"), most=3)).then("request.refreshed")
    make.now += HOUR_MS
    story.when(storm(5)).then("request.expired", "request.opened")


def test_requests_that_were_approved_and_silent_ones_are_no_storm(story, make):
    """R10, PL-01: only what came to nothing counts; who is let in may ask for more, and the own host goes on being let in."""
    for number in range(5):
        story.given(replace(make.knock(f"operator.x{number}", request=f"r{number}"), most=2), make.approve(f"r{number}"))
    for number in range(5, 8):
        story.given(replace(make.knock(f"operator.x{number}", silence=make.silence()), most=2))
    other = type(story)()
    for number in range(3):
        other.given(replace(make.knock(f"operator.x{number}", request=f"r{number}"), most=3), make.reject(f"r{number}"))
    other.when(replace(make.knock(READ), most=3)).refused(Reason.TOO_MANY_REQUESTS)
    other.when(replace(make.knock(READ, silence=make.silence()), most=3)).then(
        "request.opened", "request.approved", "device.paired", "token.issued"
    )


@pytest.mark.parametrize("tokens", [None, ()])
def test_what_was_removed_here_is_not_brought_again_whether_or_not_it_had_a_token(story, make, tokens):
    """V7, R9: another store still has it; that somebody took it away here counts, also of a device without a token."""
    story.given(make.importdevice(tokens=tokens), make.remove())
    story.when(make.importdevice(tokens=tokens)).refused(Reason.REMOVED_HERE)
