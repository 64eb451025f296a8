"""What one peer can make the gateway keep, write or print."""

import json

import pytest
import structlog
from structlog.testing import capture_logs

from cli import logs
from pairing.gateway import admission


async def test_a_device_that_renames_itself_at_every_login_does_not_fill_the_log(world, monkeypatch):
    """R10, N13: what is written on a device's word is bounded in a minute; it is let in all the same."""
    monkeypatch.setattr(admission, "WRITES", 5)
    w = await world()
    boss, device = await w.admin(), w.device()
    token = (await w.grant(boss, device)).token
    before = (await w.opened.log.head()).position
    for number in range(12):
        await w.session(device, token, client={"displayName": f"name {number}"})
    assert (await w.opened.log.head()).position - before <= 5


async def test_a_device_that_waits_does_not_fill_the_log_either(world, monkeypatch):
    """R10: a request refreshed under ever new names costs a bounded number of rows, and stays the same request."""
    monkeypatch.setattr(admission, "WRITES", 5)
    w = await world()
    device = w.device()
    requests = {await w.ask(device, client={"displayName": f"name {number}"}) for number in range(12)}
    assert len(requests) == 1
    assert len(await w.records()) <= 5


async def test_a_request_cannot_be_grown_until_nobody_can_read_it(world):
    """R10: scopes merged from one ask to the next stay few enough to be reviewed."""
    w = await world()
    boss, device = await w.admin(), w.device()
    for number in range(6):
        await w.ask(device, scopes=tuple(f"operator.made-up-{number}-{n}" for n in range(60)))
    (entry,) = await boss.pending(device)
    assert len(entry["scopes"]) <= 128


@pytest.mark.parametrize(
    "change",
    [
        {"displayName": "x" * 257},
        {"platform": "x" * 257},
        {"deviceFamily": "x" * 257},
        {"version": "x" * 257},
    ],
)
async def test_a_name_is_no_novel(world, change):
    """N13: what a device says of itself is short, or it is told so and nothing is stored."""
    w = await world()
    refused = await w.outside(w.device(), remote=True, client=change)
    assert "must NOT have more than 256 characters" in refused.message
    assert not await w.records()


async def test_scopes_are_counted_before_anything_is_stored(world):
    """N13: more scopes than there can be are no request."""
    w = await world()
    refused = await w.outside(w.device(), remote=True, scopes=tuple(f"operator.{n}" for n in range(65)))
    assert "must NOT have more than 64 items" in refused.message
    assert not await w.records()


async def test_reasons_are_words_not_files(world):
    """N13: a person's reason is kept for ever, so it is short."""
    w = await world()
    boss, device = await w.admin(), w.device()
    request = await w.ask(device)
    for field in ("reason", "ticket"):
        answer = await boss.call("device.pair.reject", {"requestId": request, field: "x" * 1001})
        assert "must NOT have more than 1000 characters" in answer.message
    assert not await w.records("request.rejected")


async def test_log_lines_say_nothing_that_a_peer_made_up(world):
    """L7: a method's name with line breaks and terminal commands in it draws nothing on the operator's screen."""
    w = await world()
    session = await w.inside(w.device(), scopes=("operator.read",))
    evil = "\x1b]0;owned\x07\n2026-01-01 [info] connected" + "x" * 10_000
    with capture_logs() as lines:
        await session.raw(json.dumps({"type": "req", "id": "1", "method": evil}))
    assert lines
    assert all(len(str(line)) < 500 and "\x1b" not in str(line) and "owned" not in str(line) for line in lines)


async def test_deep_nesting_anywhere_is_only_a_bad_frame(world):
    """N13: ten thousand brackets before login, in params, and in an id after it, cost nothing but an answer."""
    w = await world()
    deep = "[" * 10_000 + "]" * 10_000
    stranger = await w.socket()
    await stranger.recv()
    await stranger.send(f'{{"type":"req","id":"1","method":"connect","params":{{"minProtocol":{deep}}}}}')
    assert (await w.outcome(stranger)).code in {1000, 1008}
    session = await w.inside(w.device(), scopes=("operator.pairing",))
    await session.socket.send(f'{{"type":"req","id":"1","method":"device.pair.list","params":{{"x":{deep}}}}}')
    assert (await session.call("health")).ok


async def test_a_probe_of_a_paired_device_asks_for_nothing(world):
    """A20: looking with wider scopes than were approved neither opens a request nor widens anything, near or far."""
    w = await world()
    boss, device = await w.admin(), w.device()
    await w.grant(boss, device, scopes=("operator.read",))
    before = (await w.opened.log.head()).position
    for remote in (True, False):
        probe = {"id": "openclaw-probe", "mode": "probe"}
        refused = await w.outside(device, remote=remote, client=probe, scopes=("operator.admin",))
        assert refused.details["code"] == "PAIRING_REQUIRED"
        await w.inside(device, remote=remote, client=probe, scopes=("operator.read",))
    assert (await w.opened.log.head()).position == before


async def test_a_host_with_a_whole_ipv6_network_is_one_source(world):
    """R10, N8: an address of its own for every request is no way past the cap on an address."""
    w = await world({"gateway.trustedProxies": ["127.0.0.1"], "gateway.pairing.maxPendingPerAddress": 3})
    for number in range(1, 4):
        await w.ask(w.device(), remote=False, via=f"2001:db8:1:1::{number:x}")
    assert "too many pending" in (await w.outside(w.device(), via="2001:db8:1:1:ffff::4")).message
    await w.ask(w.device(), remote=False, via="2001:db8:1:2::1")


async def test_what_a_log_line_quotes_draws_nothing_on_a_terminal(capsys, monkeypatch):
    """L7: control characters are replaced in whatever the operator's log shows."""
    structlog.reset_defaults()
    try:
        logs.configure("info", "console")
        structlog.get_logger("x").info("refused", error="\x1b[2J\n[info] connected \u202egnp")
        shown = capsys.readouterr().err
    finally:
        structlog.reset_defaults()
    assert "connected" in shown
    assert shown.count("\n") == 1
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown


async def test_one_device_does_not_take_every_place(world):
    """N12: a paired device that connects over and over is turned away while there is still room for the operator."""
    w = await world({"gateway.maxConnections": 6})
    device = w.device()
    for _ in range(3):
        await w.inside(device)
    assert (await w.outside(device)).error["code"] == "UNAVAILABLE"
    await w.admin()
