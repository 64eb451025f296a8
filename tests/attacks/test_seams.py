"""Where one feature meets another: what neither gives alone, the two together must not give either."""

import anyio
import pytest
from msgspec.structs import replace

from pairing import ids
from pairing.commands import Remove
from pairing.events import HookRemoved, Meta, enrolment_stream, hook_stream
from pairing.log.codec import decode_meta, draft
from pairing.log.port import Slice
from pairing.setup_code import decode

READ, PAIR, WRITE, ADMIN = "operator.read", "operator.pairing", "operator.write", "operator.admin"
URL = "wss://gateway.example.net"
INVALID = "AUTH_BOOTSTRAP_TOKEN_INVALID"
DAY = 86_400_000


async def done(client, method, **params):
    answer = await client.call(method, params)
    assert answer.ok, (method, answer.error)
    return answer.payload


async def mint(client, **params):
    made = await done(client, "enroll.new", url=URL, **params)
    return decode(made["setupCode"]).bootstrap_token, made["enrolment"]["enrolmentId"]


def showing(token, *, role="operator", scopes=(READ,), **more):
    """How a device connects with a code, from afar."""
    return {"role": role, "scopes": scopes, "auth": {"bootstrapToken": token}, "remote": True, **more}


async def own_session(w, boss, *scopes):
    """A paired device, and its session by its own token: bound to it, where it is no admin."""
    device = w.device()
    token = (await w.grant(boss, device, scopes=scopes)).token
    return device, await w.session(device, token, scopes=scopes)


async def rejected(w, boss):
    """A device whose request was rejected, and where that is recorded."""
    device = w.device()
    request = await w.ask(device, scopes=(READ,))
    await done(boss, "device.pair.reject", requestId=request)
    (row,) = [r for r in await w.records("request.rejected") if r.stream == f"device:{device.device}"]
    return device, row


# --- undoing ---------------------------------------------------------------------------------------------------------


async def test_nobody_reopens_a_request_that_is_not_theirs_to_answer(world):
    """A8, A2: undoing a rejection asks who may, like any other verb; a session bound to its device may not for another's."""
    w = await world()
    boss = await w.admin()
    device, row = await rejected(w, boss)
    _, bound = await own_session(w, boss, PAIR)
    answer = await bound.call("history.undo", {"position": row.position, "apply": True})
    assert not answer.ok
    assert await boss.pending(device) == []
    assert (await done(boss, "history.undo", position=row.position, apply=True))["applied"]
    assert len(await boss.pending(device)) == 1


async def test_a_plan_of_undoing_tells_a_bound_session_nothing_of_others(world):
    """A8, N14: neither kinds nor positions nor ids of what happened to other devices, whichever event it asks about."""
    w = await world()
    boss = await w.admin()
    device, session = await own_session(w, boss, PAIR)
    other, _ = await own_session(w, boss, READ)
    await done(boss, "device.token.revoke", deviceId=other.device, role="operator")
    await done(boss, "device.pair.rename", deviceId=other.device, label="somebody else's")
    answers = set()
    for row in await w.records():
        if row.stream != f"device:{device.device}":
            for bulk in (False, True):
                answer = await session.call("history.undo", {"position": row.position, "bulk": bulk})
                assert not answer.ok, (row.kind, answer.payload)
                answers.add((answer.error["code"], answer.message))
    assert len(answers) == 1


async def test_one_operator_undoes_no_removal_of_what_takes_two_to_give(world):
    """A1, A19: where writing takes two approvals, it comes back by two, or by one administrator, and not by any operator."""
    w = await world()
    boss, device, clerk = await w.admin(), w.device(), w.device()
    await w.grant(boss, device, scopes=(WRITE,))
    await w.grant(boss, clerk, scopes=(PAIR, WRITE))
    await done(boss, "device.pair.remove", deviceId=device.device)
    (row,) = await w.records("device.removed")
    two = await world({"gateway.pairing.approval.votes": ["operator.write=2"]})
    session = await two.inside(clerk, scopes=(PAIR, WRITE), remote=True)
    for apply in (False, True):
        answer = await session.call("history.undo", {"position": row.position, "apply": apply})
        assert answer.error["details"]["missingScope"] == ADMIN, answer.payload
    one = await world()
    free = await one.inside(clerk, scopes=(PAIR, WRITE), remote=True)
    assert (await done(free, "history.undo", position=row.position, apply=True))["applied"]


@pytest.mark.parametrize("way", ["history.undo", "history.restore"])
async def test_going_back_gives_no_token_to_who_had_outlived_it(world, way):
    """V7, R12: removed after its token had run out, it comes back as it was, and must ask for a new one."""
    w = await world({"gateway.tokens.operator.lifetime": "1m"})
    boss, device = await w.admin(), w.device()
    await w.grant(boss, device, scopes=(READ,))
    then = (await w.opened.log.head()).position
    w.clock.ahead += 120_000
    boss = await w.admin()
    await done(boss, "device.pair.remove", deviceId=device.device)
    (row,) = await w.records("device.removed")
    await done(boss, way, **({"position": row.position} if way == "history.undo" else {"to": then}), apply=True)
    assert (await boss.entry(device)).get("tokens", []) == []
    refused = await w.outside(device, remote=True, scopes=(READ,))
    assert refused.details["code"] == "PAIRING_REQUIRED"


async def test_nobody_slips_an_act_into_the_bulk_of_another(world):
    """A8, L2: a removal names what it began with: a removal of its own caller, or none."""
    w = await world()
    boss = await w.admin()
    device, bound = await own_session(w, boss, PAIR, READ)
    other, _ = await own_session(w, boss, READ)
    await done(boss, "device.pair.remove", deviceId=other.device)
    (row,) = await w.records("device.removed")
    line = {"deviceId": device.device, "digest": "0" * 32}
    for cause in (row.position, row.position - 1, 10**6, 2**70):
        answer = await bound.call("device.prune.apply", {"lines": [line], "cause": cause})
        assert "/cause" in answer.message, answer.payload


async def test_pruning_tells_a_bound_session_nothing_of_others(world):
    """A8: used, changed, or not there at all: the answer about any other device is the same."""
    w = await world()
    boss = await w.admin()
    _, bound = await own_session(w, boss, PAIR, READ)
    other, _session = await own_session(w, boss, READ)
    lines = [{"deviceId": device, "digest": "0" * 32} for device in (other.device, "e" * 64)]
    told = await done(bound, "device.prune.apply", lines=lines)
    assert len({(line["reason"], line["message"]) for line in told["refused"]}) == 1


async def test_a_cause_that_is_nowhere_is_no_bulk(world):
    """D1: acts that say they followed from a row which the log does not have are undone by themselves."""
    w = await world()
    boss, device = await w.admin(), w.device()
    await w.grant(boss, device, scopes=(READ,))
    await w.behind(Remove(device=device.device, **w.stamp(cause=10**9)))
    (row,) = await w.records("device.removed")
    assert (await done(boss, "history.undo", position=row.position, bulk=True, apply=True))["applied"]
    assert (await boss.entry(device))["deviceId"] == device.device


# --- keys of idempotency -----------------------------------------------------------------------------------------------


async def test_a_rotation_asked_again_is_answered_though_the_old_token_ends_before_the_handoff_would(world):
    """T5, T16: a device that rotates itself near the end of its token's life, and loses the answer, gets it again."""
    w = await world({"gateway.tokens.operator.lifetime": "1h"})
    boss = await w.admin()
    device, bound = await own_session(w, boss, PAIR)
    w.clock.ahead += 3_000_000
    params = {"deviceId": device.device, "role": "operator", "handoffMs": 3_600_000, "idempotencyKey": "once"}
    first = await done(bound, "device.token.rotate", **params)
    again = await done(bound, "device.token.rotate", **params)
    assert again["token"] == first["token"] is not None
    other = await bound.call("device.token.rotate", params | {"handoffMs": 0})
    assert "key" in other.message


# --- setup codes -----------------------------------------------------------------------------------------------------


async def test_a_code_dies_when_its_minter_is_narrowed(world):
    """V3: who may no longer give write, and could not mint such a code now, has none that still does."""
    w = await world()
    boss = await w.admin()
    minter = w.device()
    then = (await w.opened.log.head()).position
    session = await w.session(minter, (await w.grant(boss, minter, scopes=(ADMIN,))).token, scopes=(ADMIN,))
    token, _ = await mint(session, roles=["operator"], scopes=[WRITE], approves=True)
    assert then
    await done(boss, "device.token.rotate", deviceId=minter.device, role="operator", scopes=[READ])
    refused = await w.outside(w.device(), **showing(token, scopes=(WRITE,)))
    assert refused.details["code"] == INVALID


@pytest.mark.parametrize("end", ["removed", "revoked", "compromised"])
async def test_a_code_dies_for_good_with_the_token_it_was_minted_by(world, end):
    """V3: pairing its minter again, or giving it another token, does not bring back what a thief may have minted."""
    w = await world()
    boss = await w.admin()
    minter = w.device()
    session = await w.session(minter, (await w.grant(boss, minter, scopes=(ADMIN,))).token, scopes=(ADMIN,))
    token, _ = await mint(session, roles=["operator"], scopes=[READ], approves=True, uses=3)
    await w.inside(w.device(), **showing(token))
    if end == "removed":
        await done(boss, "device.pair.remove", deviceId=minter.device)
        await w.grant(boss, minter, scopes=(ADMIN,))
    elif end == "revoked":
        await done(boss, "device.token.revoke", deviceId=minter.device, role="operator")
        await done(boss, "device.token.rotate", deviceId=minter.device, role="operator")
    else:
        await done(boss, "device.token.rotate", deviceId=minter.device, role="operator", compromised=True)
    refused = await w.outside(w.device(), **showing(token))
    assert refused.details["code"] == INVALID


async def test_a_code_survives_an_ordinary_rotation_of_its_minter(world):
    """V3: what goes on, goes on: nobody ended anything."""
    w = await world()
    boss = await w.admin()
    minter = w.device()
    session = await w.session(minter, (await w.grant(boss, minter, scopes=(ADMIN,))).token, scopes=(ADMIN,))
    token, _ = await mint(session, roles=["operator"], scopes=[READ], approves=True)
    await done(boss, "device.token.rotate", deviceId=minter.device, role="operator")
    await w.inside(w.device(), **showing(token))


async def test_a_code_dies_with_the_secret_that_its_minters_token_rests_on(world):
    """V3, T6: an operator whom the leaked secret alone let in leaves no code behind that outlives that secret."""
    w = await world({"gateway.auth.token": "the leaked secret"})
    device = w.device()
    first = await w.inside(device, auth={"token": "the leaked secret"}, scopes=(ADMIN,))
    session = await w.inside(device, auth={"deviceToken": first.token}, scopes=(ADMIN,))
    token, _ = await mint(session, roles=["operator"], scopes=[READ], approves=True)
    later = await world({"gateway.auth.token": "the next secret"})
    _ = later.device()
    refused = await later.outside(later.device(), **showing(token))
    assert refused.details["code"] == INVALID


async def test_a_code_hands_out_no_token_but_those_it_gave(world):
    """V7, B3: the node's token was rotated since; who comes for the operator's gets no newer one of the node with it."""
    w = await world()
    boss = await w.admin()
    token, _ = await mint(boss)
    device = w.device()
    first = await w.inside(device, **showing(token, role="node", scopes=()))
    assert [one["role"] for one in first.hello["auth"]["deviceTokens"]] == ["operator"]
    await done(boss, "device.token.rotate", deviceId=device.device, role="operator", compromised=True)
    again = await w.inside(device, **showing(token, role="node", scopes=()))
    assert not again.hello["auth"].get("deviceTokens")


async def test_a_narrow_code_is_no_way_to_a_wide_token(world):
    """B3: whoever has a device's key and a code for reading does not get the administrator's token that the device has."""
    w = await world()
    boss = await w.admin()
    device = w.device()
    await w.grant(boss, device, scopes=(ADMIN,))
    token, code = await mint(boss, roles=["operator"], scopes=[READ], approves=True)
    refused = await w.outside(device, **showing(token))
    assert refused.details["code"] == INVALID
    assert [row.kind for row in await w.opened.log.stream(enrolment_stream(code))] == ["enrolment.issued"]


async def test_who_was_removed_after_its_token_ran_out_is_not_let_in_by_an_older_code(world):
    """R9, V7: the removal counts, whatever had become of the token before."""
    w = await world({"gateway.tokens.operator.lifetime": "1m"})
    boss = await w.admin()
    device = w.device()
    await w.grant(boss, device, scopes=(READ,))
    token, _ = await mint(boss, roles=["operator"], scopes=[READ], approves=True, expiresInMs=DAY)
    w.clock.ahead += 120_000
    boss = await w.admin()
    await done(boss, "device.pair.remove", deviceId=device.device)
    refused = await w.outside(device, **showing(token))
    assert refused.details["code"] == INVALID


# --- explaining ------------------------------------------------------------------------------------------------------


async def test_explaining_is_no_place_to_guess_the_shared_secret(world):
    """N9: a paired device that tries secrets learns nothing: there is no limit to how often it may ask."""
    w = await world()
    boss = await w.admin()
    _, bound = await own_session(w, boss, PAIR, READ)
    right = await done(bound, "history.explain", token="example-shared-token")
    wrong = await done(bound, "history.explain", token="another-shared-token")
    assert right == wrong | {"position": right["position"]}
    assert (await done(boss, "history.explain", token="example-shared-token"))["finding"] == "shared-secret"


async def test_a_bound_session_is_not_told_from_where_others_acted(world, elsewhere):
    """A8, N14: whatever it reads of its own device, the operator's address is not in it."""
    w = await world()
    boss = await w.admin()
    device, bound = await own_session(w, boss, PAIR)
    clerk = w.device()
    await w.grant(boss, clerk, scopes=(ADMIN,))
    far = await w.inside(clerk, scopes=(ADMIN,), source=elsewhere["198.51.100.9"])
    await done(far, "device.pair.rename", deviceId=device.device, label="a label")
    (rename,) = await w.records("device.renamed")
    assert b"198.51.100.9" in rename.personal
    for method, params in {
        "device.watch": {"from": 0},
        "history.story": {"device": device.device},
        "history.could": {"device": device.device, "role": "operator", "scope": PAIR},
        "history.diff": {"from": 1, "to": rename.position},
        "history.explain": {"device": device.device},
        "device.who": {"device": device.device},
        "audit.list": {},
    }.items():
        answer = await bound.call(method, params)
        assert answer.ok, (method, answer.error)
        assert "198.51.100.9" not in str(answer.payload), (method, answer.payload)


# --- what rests on something else, and what cannot be read -------------------------------------------------------------


@pytest.mark.parametrize("end", ["device.lock", "device.pair.remove"])
async def test_a_nodes_token_is_worth_nothing_once_its_device_is_out(world, end):
    """V3: whoever asks whether it is good hears no from the same step on; an unlocking gives it back, a new pairing does not."""
    w = await world()
    boss, device = await w.admin(), w.device()
    # Once it is answered, it has asked for itself.
    await (await w.grant(boss, device, role="node", scopes=())).call("health")
    asked = await done(boss, "node.pair.request", nodeId=device.device, commands=["camera.snap"])
    node = (await done(boss, "node.pair.approve", requestId=asked["request"]["requestId"]))["node"]
    about = {"nodeId": device.device, "token": node["token"]}
    assert (await done(boss, "node.pair.verify", **about))["ok"]
    await done(boss, end, deviceId=device.device)
    assert not (await done(boss, "node.pair.verify", **about))["ok"]
    if end == "device.lock":
        await done(boss, "device.unlock", deviceId=device.device)
    else:
        await w.grant(boss, device, role="node", scopes=())
    assert (await done(boss, "node.pair.verify", **about))["ok"] is (end == "device.lock")


async def soon(fact):
    """Say whether something comes true within five seconds."""
    for _ in range(500):
        if fact():
            return True
        await anyio.sleep(0.01)
    return False


async def test_a_webhook_that_a_newer_version_has_changed_sends_nothing(world):
    """D3: it may have been ended, or told to keep names to itself: what cannot be read is not taken for a yes."""
    w = await world()
    boss = await w.admin()
    hook = (await done(boss, "hooks.add", url="https://hooks.example.invalid/in"))["hookId"]
    assert await soon(lambda: hook in w.gateway.courier._rounds)
    rows = await w.opened.log.stream(hook_stream(hook))
    meta = Meta(actor=decode_meta(rows[0]).actor, command=ids.uuid7(w.clock()))
    drafted = replace(draft(HookRemoved(at=w.clock()), meta), kind="hook.narrowed", body=b'{"kind":"hook.narrowed","at":1}')
    await w.opened.log.append([Slice(hook_stream(hook), len(rows), (drafted,))], command=meta.command, now=w.clock())
    assert await soon(lambda: hook not in w.gateway.courier._rounds)
