"""What is found in the files of a gateway by who may read them all: no secret, and of who was forgotten nothing at all."""

import json

from pairing.setup_code import decode

READ, PAIR, ADMIN = "operator.read", "operator.pairing", "operator.admin"
URL = "wss://gateway.example.net"


async def done(client, method, **params):
    answer = await client.call(method, params)
    assert answer.ok, (method, answer.error)
    return answer.payload


def held(home, words):
    """Which words stand in which files below a folder."""
    files = [path for path in home.rglob("*") if path.is_file()]
    return sorted({(path.name, word) for path in files for word in words if word.encode() in path.read_bytes()})


async def test_no_file_holds_a_secret_that_was_handed_out(world, tmp_path):
    """T14, L7, B2: neither log, views, notes, backups nor outbox hold a token, a setup code, or a webhook's secret."""
    w = await world()
    boss = await w.admin()
    device = w.device()
    token = (await w.grant(boss, device, scopes=(PAIR,))).token
    session = await w.session(device, token, scopes=(PAIR,))
    params = {"deviceId": device.device, "role": "operator", "handoffMs": 1000, "idempotencyKey": "a key of mine"}
    turned = (await done(session, "device.token.rotate", **params))["token"]
    made = await done(boss, "enroll.new", url=URL, roles=["operator"], scopes=[READ], approves=True)
    code = decode(made["setupCode"]).bootstrap_token
    guest = await w.inside(w.device(), scopes=(READ,), auth={"bootstrapToken": code}, remote=True)
    hook = await done(boss, "hooks.add", url="https://hooks.example.invalid/in", people=True)
    node = await done(boss, "node.pair.request", nodeId=device.device, commands=["system.run"])
    approved = await done(boss, "node.pair.approve", requestId=node["request"]["requestId"])
    w.clock.ahead += 2_000
    await w.outside(device, auth={"token": token, "deviceToken": token}, remote=True)
    await done(boss, "history.explain", token=token)
    await done(boss, "log.backup")
    export = await done(boss, "log.export")
    secrets = [
        token,
        turned,
        code,
        made["setupCode"],
        guest.token,
        hook["secret"],
        approved["node"]["token"],
        "example-shared-token",
    ]
    found = held(tmp_path, [*secrets, "a key of mine"])
    assert [one for one in found if one[0] not in {"gateway.toml", "config.json"}] == []
    assert not [secret for secret in secrets if secret in json.dumps(export)]


async def test_who_is_forgotten_is_in_no_file(world, tmp_path):
    """L6: not in the outbox of a webhook, the notes of who was refused, the write-ahead files, nor in a page of the export."""
    w = await world()
    boss, person = await w.admin(), w.device()
    shown = {"displayName": "Zaphod of the files", "version": "1.0"}
    far = {"headers": {"X-Forwarded-For": "203.0.113.44"}, "client": shown}
    await done(boss, "hooks.add", url="https://hooks.example.invalid/in", people=True)
    await w.grant(boss, person, scopes=(READ,), **far)
    await done(boss, "device.pair.rename", deviceId=person.device, label="label of Zaphod")
    await w.outside(person, auth={"token": "wrong"}, **far)
    await done(boss, "device.lock", deviceId=person.device, message="gone")
    await done(boss, "device.pair.remove", deviceId=person.device)
    words = ["Zaphod of the files", "label of Zaphod", "203.0.113.44"]
    assert held(tmp_path, words)
    for _ in range(2):
        forgotten = await done(boss, "device.forget", deviceId=person.device, reason="asked to")
    assert forgotten["scrubbed"]
    assert not [word for word in words if word in json.dumps(await done(boss, "log.export"))]
    assert held(tmp_path, words) == []
