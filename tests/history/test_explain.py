"""Why a device is let in or not: every way in which client and gateway drift apart is named for what it is."""

from typing import Any

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.main import pairing
from pairing import explain, history, ids
from pairing.advice import Means
from pairing.commands import Approve, Ban, Caller, CloseHandoff, ExpireIdle, Knock, Lock, Rotate, Unlock
from pairing.decide import decide
from pairing.device import Device
from pairing.events import Actor, DeviceAbandoned, TokenImported, Unknown
from pairing.evolve import evolve, fold
from pairing.explain import Case
from pairing.history import read, world_at
from pairing.identity import b64url
from pairing.recognition import generations, recognise
from pairing.refusals import Reason
from pairing.tokens import GatewayKey, Keyring
from pairing.verdict import Presented, judge
from tests.history.pasts import DEVICES, HOST, KEYS, SCOPES, START, TTL, House, Past, pasts

OURS, OTHERS = DEVICES


async def explained(past: Past, *, now: int | None = None, by: Caller = HOST, **params: Any) -> dict[str, Any]:
    """Ask the service; the answer must hold no token, and its next step must be one that works."""
    under = past.secret
    async with House.of(past.records, now=past.now if now is None else now, under=under) as house:
        answer = await house.call("history.explain", by, **params)
    if token := params.get("token"):
        assert token not in str(answer)
    return answer


def words(answer: dict[str, Any]) -> str:
    return " ".join(answer["next"]["command"])


# --- the ways in which they part -------------------------------------------------------------------------------------


async def test_all_is_well() -> None:
    """The present token is let in, and nothing is advised."""
    past = Past().pair("operator.read")
    for params in ({"device": OURS}, {"device": OURS, "token": past.token()}, {"token": past.token()}):
        answer = await explained(past, **params)
        assert (answer["finding"], answer.get("reason"), answer.get("next")) == ("let-in", None, None)
        assert answer["token"]["fate"] == "current"
        assert all(step["passed"] for step in answer["steps"][1:])


async def test_superseded_by_a_rotation() -> None:
    """T1: the token is the one that was retired at this position, by this person; the next one comes with the shared secret."""
    past = Past().pair("operator.read")
    old = past.token()
    past.now += 1_000
    past.rotate()
    answer = await explained(past, device=OURS, token=old)
    assert answer["finding"] == "never-collected"
    assert (answer["reason"], answer["code"]) == ("device_token_mismatch", "AUTH_DEVICE_TOKEN_MISMATCH")
    assert answer["token"]["fate"] == "rotated"
    assert answer["parted"]["position"] == past.position
    assert answer["parted"]["by"] == {"kind": "local", "id": "1000"}
    assert words(answer) == "pairing connect --role operator --scope operator.read --token -"
    assert (answer["next"]["where"], answer["next"]["tried"]) == ("device", True)


async def test_superseded_and_seen_since() -> None:
    """A device that has been inside since was given the next token: it uses an old copy."""
    past = Past().pair("operator.read")
    old = past.token()
    past.rotate()
    events = read(past.of())
    shown = explain.Shown(kind="own", device=OURS, generation=recognise(KEYS, OURS, generations(events), old))

    def finding(**more: Any) -> str:
        presented = Presented(candidate="deviceToken", issue=shown.generation.issue if shown.generation else None)
        return explain.explain(case(past, shown=shown, presented=presented, **more), MEANS).finding

    assert finding(seen_known=True, seen_at=past.now + 1) == "superseded"
    assert finding() == "superseded"
    assert finding(seen_known=True, seen_at=past.now - 1) == "never-collected"


async def test_of_a_timeline_that_a_restore_left() -> None:
    """T12: a token that began in a stretch which a restore has left is named so, with the event that ended it."""
    past = Past()
    past.now += 1_000
    past.pair("operator.read")
    old = past.token()
    gone = DeviceAbandoned(at=past.now, to=0, epoch=1, roles=("operator",), issues=("issue-2.operator",))
    past.take(gone)
    answer = await explained(past, device=OURS, token=old)
    assert (answer["finding"], answer["reason"], answer["token"]["fate"]) == ("abandoned", "timeline_left", "abandoned")
    assert answer["parted"]["kind"] == "device.abandoned"
    assert answer["next"]["where"] == "device"


async def test_locked() -> None:
    """A lock keeps out whatever is shown; who set it, and the command that ends it."""
    past = Past().pair("operator.read")
    past.do(Lock(**past.base(), terms=Ban()))
    answer = await explained(past, device=OURS, token=past.token())
    assert (answer["finding"], answer["reason"]) == ("locked", "device-locked")
    assert answer["parted"]["kind"] == "device.locked"
    assert words(answer) == f"pairing devices unlock {OURS[:12]}"


async def test_a_lock_that_is_over_keeps_nobody_out() -> None:
    """R12: an advertised end is the enforced one, recorded or not."""
    past = Past().pair("operator.read")
    past.do(Lock(**past.base(), terms=Ban(until=past.now + 1_000)))
    assert (await explained(past, device=OURS))["finding"] == "locked"
    assert (await explained(past, device=OURS, now=past.now + 1_000))["finding"] == "let-in"


async def test_expired() -> None:
    """A token past its lifetime, before anybody has recorded that; and one that was ended for want of use."""
    past = Past().pair("operator.read")
    past.rotate(lifetimes=(("operator", 10_000),))
    late = past.now + 10_001
    answer = await explained(past, device=OURS, token=past.token(), now=late)
    assert (answer["finding"], answer["reason"]) == ("expired", "device_token_expired")
    assert words(answer) == f"pairing devices rotate --device {OURS[:12]} --role operator"
    token = past.device().token("operator")
    assert token is not None
    past.do(ExpireIdle(**past.base(), role="operator", issue=token.issue, since=past.now))
    idle = await explained(past, device=OURS)
    assert (idle["finding"], idle["parted"]["kind"]) == ("expired", "token.expired")


async def test_a_token_that_was_left_for_a_while() -> None:
    """T1: the predecessor is let in until its time is up, or its successor was used."""
    past = Past().pair("operator.read")
    old = past.token()
    past.rotate(handoff=10_000, longest=60_000)
    inside = await explained(past, device=OURS, token=old)
    assert (inside["finding"], inside["token"]["fate"]) == ("let-in", "handed-over")
    late = await explained(past, device=OURS, token=old, now=past.now + 10_001)
    assert (late["finding"], late["reason"]) == ("handoff-over", "device_token_mismatch")
    token = past.device().token("operator")
    assert token is not None
    past.do(CloseHandoff(**past.base(), role="operator", issue=token.issue, used=True))
    closed = await explained(past, device=OURS, token=old)
    assert closed["finding"] in {"superseded", "never-collected"}
    assert closed["parted"]["kind"] == "handoff.closed"


async def test_a_token_that_was_brought_along_and_lost() -> None:
    """L9: what another gateway made cannot be handed out again; only a new one helps."""
    past = Past().pair("operator.read")
    theirs = "t" * 43
    token = past.device().token("operator")
    assert token is not None
    fields = {"at": past.now, "role": "operator", "scopes": token.scopes, "key": token.key, "created_at": past.now}
    proof = KEYS.current.proof("device", OURS, "operator", theirs)
    past.take(TokenImported(**fields, issue="theirs", proof=proof, rotated_at=None, revoked_at=None))  # type: ignore[arg-type]
    assert (await explained(past, device=OURS, token=theirs))["finding"] == "let-in"
    lost = await explained(past, device=OURS, token="x" * 43)
    assert words(lost) == f"pairing devices rotate --device {OURS[:12]} --role operator"


async def test_revoked() -> None:
    """Who revoked it, where; if it is to come back, a rotation brings it back."""
    past = Past().pair("operator.read")
    old = past.token()
    past.revoke()
    for params in ({"token": old}, {"device": OURS}, {"device": OURS, "token": old}):
        answer = await explained(past, **params)
        assert (answer["finding"], answer["token"]["fate"]) == ("revoked", "revoked")
        assert answer["parted"]["kind"] == "token.revoked"
        assert words(answer) == f"pairing devices rotate --device {OURS[:12]} --role operator"
        assert answer["next"]["where"] == "here"


async def test_device_removed() -> None:
    """It is gone, since when and by whom; it must ask anew."""
    past = Past().pair("operator.read")
    old = past.token()
    past.remove()
    answer = await explained(past, device=OURS, token=old)
    assert (answer["finding"], answer["token"]["fate"]) == ("removed", "removed")
    assert answer["parted"]["kind"] == "device.removed"
    assert words(answer).startswith("pairing connect --role operator")
    assert answer["next"]["then"] == "An operator then approves it; see: pairing devices list"


async def test_removed_and_paired_anew() -> None:
    """V7: the token of an earlier pairing stays dead."""
    past = Past().pair("operator.read")
    old = past.token()
    past.remove()
    past.pair("operator.read")
    answer = await explained(past, device=OURS, token=old)
    assert answer["finding"] == "paired-anew"
    assert answer["parted"]["kind"] == "device.removed"
    assert answer["next"]["where"] == "device"


async def test_another_devices_token() -> None:
    """T12: whose it is, also where nobody said which device to look at."""
    past = Past().pair("operator.read").pair("operator.write", device=OTHERS)
    answer = await explained(past, device=OURS, token=past.token(OTHERS))
    assert answer["finding"] == "other-device"
    assert (answer["token"]["deviceId"], answer["token"]["fate"]) == (OTHERS, "current")
    assert answer["token"]["searched"] == 3
    alone = await explained(past, token=past.token(OTHERS))
    assert (alone["finding"], alone["deviceId"]) == ("let-in", OTHERS)


async def test_another_roles_token() -> None:
    """T12: a node's token is no operator's."""
    past = Past().pair("operator.read").pair(role="node")
    answer = await explained(past, device=OURS, role="operator", token=past.token(role="node"))
    assert (answer["finding"], answer["token"]["role"]) == ("other-role", "node")
    assert (await explained(past, token=past.token(role="node")))["finding"] == "let-in"


async def test_the_token_that_a_nodes_approval_gave() -> None:
    """A node's own token is for asking whether a node is approved, and lets nobody in."""
    past = Past().pair(role="node").surface("camera.snap")
    approval = past.nodes[OURS].approval
    assert approval is not None
    answer = await explained(past, device=OURS, token=KEYS.current.node_token(OURS, approval.issue))
    assert answer["finding"] == "node-token"


async def test_another_gateways_token() -> None:
    """T12: it has the form of a token and is none of all that this log ever issued; how many were compared is said."""
    past = Past().pair("operator.read").pair("operator.write", device=OTHERS)
    token = GatewayKey(b"o" * 32).token(OURS, "operator", "issue-1.operator")
    for params in ({"device": OURS}, {}):
        answer = await explained(past, token=token, **params)
        assert (answer["finding"], answer["token"]["what"]) == ("foreign", "foreign")
        assert answer["token"]["searched"] >= 2


@pytest.mark.parametrize("token", ["hunter2", "A" * 42, "A" * 44, "ü" * 43, "*" * 43])
async def test_never_issued(token: str) -> None:
    """What has not even the form of a token was never one."""
    past = Past().pair("operator.read")
    assert (await explained(past, device=OURS, token=token))["finding"] == "never-issued"
    assert (await explained(past, token=token))["finding"] == "never-issued"


async def test_the_shared_secret_in_a_device_tokens_place() -> None:
    """T10: the gateway's own secret is no device token; shown as what it is, it lets the device in."""
    past = Past()
    past.swap_secret(KEYS.current.tag("shared-secret", "token", "the shared secret"))
    past.pair("operator.read")
    answer = await explained(past, device=OURS, token="the shared secret")
    assert answer["finding"] == "shared-secret"
    assert words(answer).endswith("--token -")


async def test_a_token_under_an_older_secret() -> None:
    """T6: what the shared secret alone vouched for died with it, at the event that changed it."""
    past = Past().swap_secret("S1")
    from pairing.commands import Silence

    past.knock("operator.read", silence=Silence("silent", ("not-paired",), ("operator.read",)))
    token = past.token()
    past.swap_secret("S2")
    answer = await explained(past, device=OURS, token=token)
    assert answer["finding"] == "secret-changed"
    assert answer["parted"]["kind"] == "policy.changed"


async def test_scope_shortfall() -> None:
    """The token is good and covers less than was asked; nothing but asking gives more."""
    past = Past().pair("operator.read")
    answer = await explained(past, device=OURS, token=past.token(), scopes=["operator.write"])
    assert (answer["finding"], answer["reason"]) == ("scope-shortfall", "scope_mismatch")
    assert answer["steps"][-1]["rule"] == "token-scopes"
    assert words(answer) == "pairing connect --role operator --scope operator.write --token -"
    assert "approves it" in answer["next"]["then"]


async def test_a_pending_upgrade() -> None:
    """A12: it waits; the one command is the approval of exactly that request, by somebody who may."""
    past = Past().pair("operator.read")
    past.knock("operator.write")
    request = past.device().pending
    assert request is not None
    params: dict[str, Any] = {"device": OURS, "scopes": ["operator.write"], "token": past.token()}
    answer = await explained(past, **params)
    assert words(answer) == f"pairing devices approve {request.request}"
    assert answer["next"]["where"] == "here"
    pairer = Caller(actor=Actor("device", OTHERS), scopes=("operator.pairing",))
    assert (await explained(past, by=pairer, **params))["next"]["where"] == "gateway-host"


async def test_an_expired_ask() -> None:
    """L9: what can no longer be approved is not advised to be."""
    past = Past()
    past.knock("operator.read")
    request = past.device().pending
    assert request is not None
    waiting = await explained(past, device=OURS)
    assert (waiting["finding"], words(waiting)) == ("waiting", f"pairing devices approve {request.request}")
    late = await explained(past, now=START + TTL + 1, device=OURS)
    assert (late["finding"], late["next"]["where"]) == ("ask-expired", "device")
    past.now += TTL + 1
    past.expire()
    assert (await explained(past, device=OURS))["finding"] == "ask-expired"


async def test_a_rejected_ask() -> None:
    """Somebody said no; it may ask again."""
    past = Past()
    past.knock("operator.read")
    past.reject()
    answer = await explained(past, device=OURS)
    assert (answer["finding"], answer["parted"]["kind"]) == ("rejected", "request.rejected")


async def test_an_ask_that_can_never_be_granted() -> None:
    """L9: where nothing would help, nothing is advised."""
    past = Past()
    past.knock("node.exec")
    assert "next" not in await explained(past, device=OURS)


@pytest.mark.parametrize(
    ("reason", "finding"),
    [
        (Reason.SIGNATURE_STALE, "clock"),
        (Reason.SIGNATURE_INVALID, "proof"),
        (Reason.RATE_LIMITED, "attempts"),
    ],
)
def test_what_was_refused_before_anything_was_judged(reason: Reason, finding: str) -> None:
    """N4: a clock that is off, a wrong proof and too many attempts are not put down to the pairing."""
    past = Past().pair("operator.read")
    found = explain.explain(case(past, reason=reason), MEANS)
    assert found.finding == finding
    assert found.next is not None
    assert found.next.where == "device"


def test_an_event_of_a_newer_version() -> None:
    """D3: nobody is let in past what is not understood, and nothing can be decided that would help."""
    past = Past().pair("operator.read")
    unknown = history.Happened(
        99, f"device:{OURS}", past.now, Unknown(kind="device.teleported", raw=b"{}"), read(past.records)[0].meta
    )
    one = case(past)
    found = explain.explain(
        explain.Case(**{f: getattr(one, f) for f in one.__struct_fields__} | {"past": (*one.past, unknown)}), MEANS
    )
    assert (found.finding, found.reason, found.next) == ("newer-version", Reason.NEWER_WRITER, None)
    assert found.parted == unknown


# --- laws ------------------------------------------------------------------------------------------------------------

MEANS = Means(caller=HOST, host=HOST, id=ids.uuid7(START), issue="tried", request="tried", key=KEYS.current.id, ttl=TTL)


def case(past: Past, **more: Any) -> Case:
    token = past.device().token("operator")
    presented = Presented(candidate="deviceToken", issue=token.issue if token else None)
    wanted = past.wanted("operator.read")
    return Case(**({"device": OURS, "past": read(past.of()), "presented": presented, "wanted": wanted, "now": past.now} | more))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(past=pasts(), data=st.data())
def test_the_gateway_and_the_explanation_agree(past: Past, data: st.DataObject) -> None:
    """On every contact, whatever it shows and wants; a device that is let in needs no advice, and advice that is given works."""
    state = past.device()
    role = data.draw(st.sampled_from(("operator", "node")))
    scopes = tuple(data.draw(st.lists(st.sampled_from(SCOPES), max_size=2)))
    wanted = past.wanted(*scopes, role=role, platform=data.draw(st.sampled_from(("linux", "windows"))))
    held = generations(read(past.of()))
    shown = data.draw(st.sampled_from([None, "nothing", *held]))
    if shown is None:
        presented = Presented(method="token")
    elif shown == "nothing":
        presented = Presented(shared=Reason.TOKEN_MISSING)
    else:
        token = KEYS.current.token(OURS, shown.role, shown.issue)
        presented = Presented(
            shared=Reason.TOKEN_MISSING, candidate="deviceToken", issue=KEYS.recognise(state, OURS, role, token)
        )
    own = explain.Shown(kind="own", device=OURS, generation=shown) if isinstance(shown, type(held[0]) if held else int) else None
    found = explain.explain(
        Case(device=OURS, past=read(past.of()), presented=presented, wanted=wanted, now=past.now, shown=own), MEANS
    )
    assert found.reason is judge(state, presented, wanted, past.now).reason
    assert (found.finding == "let-in") is (found.reason is None)
    if found.next is not None:
        works(past, wanted, found.next)


def works(past: Past, wanted: Any, step: Any) -> None:
    """Run an advised step for real, as its words say; then an approval where it says so; then the device is let in."""
    understood(step.command)
    state, more = past.device(), {"id": ids.uuid7(past.now), "now": past.now, "by": HOST, "device": OURS}
    match step.command[1:3]:
        case ("devices", "approve"):
            approve = Approve(**more, request=step.command[3], issue="a", key="k", under=wanted.under)
            state = fold(state, decide(state, approve))
        case ("devices", "unlock"):
            assert judge(state, Presented(method="token"), wanted, past.now).reason is Reason.DEVICE_LOCKED
            state = fold(state, decide(state, Unlock(**more)))
            assert state.lock is None
            return
        case ("devices", "rotate"):
            state = fold(state, decide(state, Rotate(**more, role=step.command[6], scopes=None, issue="a", key="k")))
        case _:
            knock = Knock(
                **more,
                wanted=wanted,
                client_id=None,
                client_mode=None,
                request="r",
                issue="a",
                key="k",
                seen="",
                named="",
                ttl=TTL,
            )
            state = fold(state, decide(state, knock))
            if "approves" in step.then:
                assert state.pending is not None
                approve = Approve(**more, request=state.pending.request, issue="b", key="k", under=wanted.under)
                state = fold(state, decide(state, approve))
    assert judge(state, Presented(method="token"), wanted, past.now).reason is None


def understood(words: tuple[str, ...]) -> None:
    """The command line takes a command with exactly these words; it is not run."""
    command: click.Command = pairing
    name, *rest = words
    while isinstance(command, click.Group):
        name, *rest = rest
        found = command.get_command(click.Context(command), name)
        assert found is not None, words
        command = found
    command.make_context(name, list(rest))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(pasts())
def test_every_token_is_known_for_what_it_is(past: Past) -> None:
    """T17: exactly one generation of each role is current at most, and the event that ended each other one is named."""
    events = read(past.of())
    held = generations(events)
    state = world_at(events).device
    for one in held:
        token = KEYS.current.token(OURS, one.role, one.issue)
        assert recognise(KEYS, OURS, held, token) == one
        assert recognise(Keyring(GatewayKey(b"o" * 32)), OURS, held, token) is None
        current = state.token(one.role)
        alive = current is not None and current.issue == one.issue and not current.dead
        assert (one.how == "current") is alive
        if one.ended is not None:
            before = world_at(events, one.ended.position - 1).device
            assert one.issue in accepted(before, one.role)
            assert one.issue not in accepted(evolve(before, one.ended.event), one.role)  # type: ignore[arg-type]
    assert b64url(b"x" * 32) not in str(held)


def accepted(state: Device, role: str) -> set[str]:
    """The generations that a state lets in: the present one, and the one that is handed over."""
    token = state.token(role)
    if token is None or token.dead:
        return set()
    return {token.issue} | ({token.handoff.issue} if token.handoff else set())
