"""Every method, asked by everybody: who is answered, what is told of others, and that a denied call leaves nothing behind.

A method that is not in the table fails the first test: whoever adds one says here who may call it.
"""

import json
from dataclasses import dataclass, field

import pytest

from pairing.events import device_stream
from pairing.log.codec import decode_meta
from pairing.methods import METHODS
from pairing.setup_code import decode

READ, PAIR, WRITE, ADMIN = "operator.read", "operator.pairing", "operator.write", "operator.admin"
URL = "wss://gateway.example.net"
ABSENT = {
    "device": "e" * 64,
    "request": "00000000-0000-4000-8000-000000000000",
    "surface": "00000000-0000-4000-8000-000000000001",
    "label": "nobody at all",
    "code": "f" * 32,
    "hook": "f" * 16,
    "reference": "zzzz-zzzz",
    "command": "019dc000-0000-7000-8000-000000000000",
}


@dataclass
class Prey:
    """What belongs to somebody else: by names that parameters use, and everything of theirs that no answer may tell."""

    named: dict[str, str]
    secrets: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)


# Who may call it at all, by what it takes: nothing, a scope, or administration. Then parameters about somebody else's things.
# `{device}` and the others are filled in with theirs, or with what is nobody's.
ANY, READS, PAIRS, ADMINS, NODES = "any", "read", "pairing", "admin", "node"
TABLE = {
    "health": (ANY, {}),
    "status": (READS, {}),
    "system-presence": (READS, {}),
    "node.list": (READS, {}),
    "config.get": (READS, {}),
    "device.pair.list": (PAIRS, {}),
    "device.list": (PAIRS, {"device": "{device}"}),
    "device.pair.find": (PAIRS, {"requestId": "{request}"}),
    "device.watch": (PAIRS, {"from": 0, "limit": 500, "device": "{device}"}),
    "device.who": (PAIRS, {"device": "{label}"}),
    "device.due": (PAIRS, {}),
    "device.prune.plan": (PAIRS, {"idleMs": 60_000}),
    "contact.find": (PAIRS, {"reference": "{reference}"}),
    "contact.list": (PAIRS, {"device": "{device}"}),
    "audit.list": (PAIRS, {"device": "{device}", "refusals": True}),
    "audit.follow": (PAIRS, {"from": 0, "actor": "{device}"}),
    "history.at": (PAIRS, {"device": "{device}"}),
    "history.could": (PAIRS, {"device": "{label}", "role": "operator"}),
    "history.diff": (PAIRS, {"from": 1, "device": "{device}"}),
    "history.story": (PAIRS, {"device": "{device}", "steps": True}),
    "history.explain": (PAIRS, {"device": "{device}"}),
    "blast.find": (PAIRS, {"what": "{device}"}),
    "log.status": (PAIRS, {}),
    "log.checkpoint": (PAIRS, {}),
    "node.pair.list": (PAIRS, {}),
    "node.pair.verify": (PAIRS, {"nodeId": "{device}", "token": "a guess"}),
    "enroll.list": (PAIRS, {"all": True}),
    "enroll.show": (PAIRS, {"enrolmentId": "{code}"}),
    "enroll.new": (PAIRS, {"url": URL, "roles": ["operator"], "scopes": [READ]}),
    "enroll.revoke": (PAIRS, {"enrolmentId": "{code}"}),
    "device.pair.rename": (PAIRS, {"deviceId": "{device}", "label": "mine now"}),
    "device.token.rotate": (PAIRS, {"deviceId": "{device}", "role": "operator", "idempotencyKey": "k"}),
    "device.token.revoke": (PAIRS, {"deviceId": "{device}", "role": "operator"}),
    "device.pair.remove": (PAIRS, {"deviceId": "{device}"}),
    "device.prune.apply": (PAIRS, {"lines": [{"deviceId": "{device}", "digest": "0" * 32}]}),
    "device.lock": (PAIRS, {"deviceId": "{device}"}),
    "device.unlock": (PAIRS, {"deviceId": "{device}"}),
    "device.forget": (PAIRS, {"deviceId": "{device}", "reason": "curiosity"}),
    "history.undo": (PAIRS, {"commandId": "{command}", "apply": True}),
    "history.restore": (PAIRS, {"to": 1, "deviceId": "{device}", "apply": True}),
    "node.pair.request": (PAIRS, {"nodeId": "{device}"}),
    "node.pair.approve": (PAIRS, {"requestId": "{surface}"}),
    "node.pair.reject": (PAIRS, {"requestId": "{surface}"}),
    "node.pair.remove": (PAIRS, {"nodeId": "{device}"}),
    "node.rename": (PAIRS, {"nodeId": "{device}", "displayName": "mine now"}),
    "device.pair.approve": (PAIRS, {"requestId": "{request}"}),
    "device.pair.reject": (PAIRS, {"requestId": "{request}", "ban": True}),
    "device.pair.setupCode": (ADMINS, {"publicUrl": URL}),
    "device.pair.setupStatus": (ADMINS, {"setupId": "{code}"}),
    "hooks.add": (ADMINS, {"url": "https://hooks.example.net/mine"}),
    "hooks.list": (ADMINS, {}),
    "hooks.pause": (ADMINS, {"hookId": "{hook}"}),
    "hooks.resume": (ADMINS, {"hookId": "{hook}"}),
    "hooks.replay": (ADMINS, {"hookId": "{hook}", "from": 0}),
    "hooks.remove": (ADMINS, {"hookId": "{hook}"}),
    "rehearse.run": (ADMINS, {"settings": {}}),
    "log.verify": (ADMINS, {}),
    "log.receipt": (ADMINS, {"position": 1}),
    "log.export": (ADMINS, {}),
    "log.backup": (ADMINS, {}),
    "views.verify": (ADMINS, {}),
    "views.rebuild": (ADMINS, {}),
    "skills.bins": (NODES, {}),
    "node.event": (NODES, {}),
}
# What the protocol tells every reader of who is there; what these hold beyond that is not looked at here.
WHO_IS_HERE = {"system-presence", "node.list"}
# Operators with pairing rights and no more, by the gateway's secret: what they may do to a device that holds more than they.
PAIRER_MAY_NOT = {
    *("enroll.new", "enroll.revoke", "device.token.rotate", "device.token.revoke", "device.pair.remove", "device.lock"),
    *("device.unlock", "device.forget", "history.undo", "history.restore", "node.pair.approve", "device.pair.approve"),
    *("device.pair.reject",),
}
READERS = {"reader": (READ,), "writer": (READ, WRITE, "operator.approvals")}
DENIED = ("missing scope", "denied", "unauthorized role", "unknown deviceId", "unknown requestId", "unknown reference", "unknown")


def filled(params, names):
    text = json.dumps(params)
    for name, value in names.items():
        text = text.replace("{" + name + "}", value)
    return json.loads(text)


@pytest.fixture
async def house(world):
    """A gateway with somebody else's things on it, and one session of every class."""
    w = await world()
    boss = await w.admin()
    prey = w.device()
    shown = {"displayName": "Prey of the story", "deviceFamily": "Preyphone"}
    far = {"headers": {"X-Forwarded-For": "203.0.113.66"}}
    session = await w.grant(boss, prey, scopes=(ADMIN,), client=shown, **far)
    other = await w.ask(prey, role="node", scopes=(), client=shown, **far)
    refused = await w.outside(prey, auth={"token": "wrong"}, remote=True)
    await ok(boss, "device.pair.rename", deviceId=prey.device, label="label of the prey")
    asked = await ok(boss, "node.pair.request", nodeId=prey.device, commands=["system.run"], displayName="prey's own node")
    made = await ok(boss, "enroll.new", url=URL, label="code of the prey")
    hook = await ok(boss, "hooks.add", url="https://hooks.example.net/prey")
    paired = next(row for row in await w.records("device.paired") if row.stream == device_stream(prey.device))
    kept = Prey(
        named={
            "device": prey.device,
            "request": other,
            "surface": asked["request"]["requestId"],
            "label": "label of the prey",
            "code": made["enrolment"]["enrolmentId"],
            "hook": hook["hookId"],
            "reference": refused.details["reference"],
            "command": decode_meta(paired).command,
        },
        secrets=[
            session.token,
            decode(made["setupCode"]).bootstrap_token,
            made["setupCode"],
            hook["secret"],
            "example-shared-token",
        ],
        marks=["Prey of the story", "Preyphone", "prey's own node", "203.0.113.66", "code of the prey", "hooks.example.net/prey"],
    )
    kept.secrets += [(w.rules.home / name).read_text().strip() for name in ("gateway.key",) if (w.rules.home / name).exists()]
    return w, boss, kept


async def ok(client, method, **params):
    answer = await client.call(method, params)
    assert answer.ok, (method, answer.error)
    return answer.payload


async def by_token(w, boss, *scopes, role="operator"):
    device = w.device()
    token = (await w.grant(boss, device, role=role, scopes=scopes)).token
    return device, await w.session(device, token, role=role, scopes=scopes)


def told(answer):
    return json.dumps([answer.payload, answer.error])


def leaks(answer, prey, params):
    """What an answer tells of somebody else, besides what the question said."""
    text, question = told(answer), json.dumps(params)
    marks = [*prey.named.values(), *prey.marks]
    return [mark for mark in marks if mark in text and mark not in question]


def test_the_table_knows_every_method():
    """A2: nothing can be called that nobody has thought about here."""
    assert set(TABLE) == set(METHODS)


@pytest.mark.parametrize("who", ["node", "nothing", "reader", "writer"])
async def test_who_may_not_manage_is_told_nothing_and_changes_nothing(house, who):
    """A2, B6, L4: without pairing rights every method but the readers' is denied, and a denied call leaves no event."""
    w, boss, prey = house
    if who == "node":
        device, session = await by_token(w, boss, role="node")
    elif who == "nothing":
        device, session = None, await w.inside(None, remote=True, scopes=(ADMIN,))
    else:
        device, session = await by_token(w, boss, *READERS[who])
    token = session.hello["auth"].get("deviceToken")
    for number, (method, (needs, params)) in enumerate(TABLE.items(), start=1):
        if number % 8 == 0:
            # Who calls in vain again and again is disconnected.
            again = {"role": "node" if who == "node" else "operator", "scopes": READERS.get(who, ())}
            session = await (w.session(device, token, **again) if device else w.inside(None, remote=True, scopes=(ADMIN,)))
        params = filled(params, prey.named)
        # Answered after whatever connecting itself has recorded.
        await session.call("health")
        before = (await w.opened.log.head()).position
        answer = await session.call(method, params)
        assert (await w.opened.log.head()).position == before, method
        open_to = {ANY} | ({NODES} if who == "node" else set()) | ({READS} if who in {"reader", "writer"} else set())
        assert answer.ok is (needs in open_to), (method, answer.error, answer.payload)
        assert not [secret for secret in prey.secrets if secret in told(answer)], method
        if method not in WHO_IS_HERE:
            assert not leaks(answer, prey, params), (method, leaks(answer, prey, params))


@pytest.mark.parametrize("scopes", [(PAIR,), (PAIR, READ, WRITE, "operator.approvals", "operator.talk.secrets")])
async def test_a_session_bound_to_its_device_learns_and_changes_nothing_of_others(house, scopes):
    """A7, A8, N14, L4: whatever it asks about somebody else, the answer is that to a question about nobody."""
    w, boss, prey = house
    _, session = await by_token(w, boss, *scopes)
    before = (await w.opened.log.head()).position
    for method, (needs, params) in TABLE.items():
        theirs, nobodys = (filled(params, names) for names in (prey.named, ABSENT))
        answer = await session.call(method, theirs)
        if needs in {ADMINS, NODES}:
            assert not answer.ok, method
        if needs == READS:
            continue
        assert not leaks(answer, prey, theirs), (method, leaks(answer, prey, theirs), answer.payload)
        assert not [secret for secret in prey.secrets if secret in told(answer)], method
        if theirs != nobodys and needs == PAIRS:
            absent = await session.call(method, nobodys)
            same = told(absent)
            for name, value in ABSENT.items():
                same = same.replace(value, prey.named[name])
            assert _timeless(told(answer)) == _timeless(same), method
    assert (await w.opened.log.head()).position == before


def _timeless(text):
    return "".join("0" if letter.isdigit() else letter for letter in text)


async def test_pairing_rights_alone_do_nothing_to_who_holds_more(house):
    """A1, A6, L4: an operator with pairing rights alone reads, answers with no, renames; the rest leaves nothing behind."""
    w, boss, prey = house
    session = await w.grant(boss, w.device(), scopes=(PAIR,))
    for method, (needs, params) in TABLE.items():
        params = filled(params, prey.named)
        # Answered after whatever connecting itself has recorded.
        await session.call("health")
        before = (await w.opened.log.head()).position
        answer = await session.call(method, params)
        if needs in {READS, ADMINS, NODES} or method in PAIRER_MAY_NOT:
            assert not answer.ok, (method, answer.payload)
            assert any(word in answer.message for word in DENIED), (method, answer.message)
            assert (await w.opened.log.head()).position == before, method
        assert not [secret for secret in prey.secrets if secret in told(answer)], method


async def test_no_answer_to_an_administrator_holds_anybody_elses_secret(house):
    """T4, L7: not even to who may do everything; what was handed out once is not handed out again."""
    _, boss, prey = house
    late = {
        "device.pair.remove",
        "device.prune.apply",
        "device.forget",
        "history.restore",
        "history.undo",
        "views.rebuild",
        "device.lock",
    }
    for method, (_, params) in sorted(TABLE.items(), key=lambda one: one[0] in late):
        answer = await boss.call(method, filled(params, prey.named))
        assert not [secret for secret in prey.secrets if secret in told(answer)], method
        assert "missing scope" not in answer.message, method
