"""Scopes, roles and ids that look like others, or almost are."""

import pytest

from cli.voice import plain

LOOKALIKES = (
    "operator.admin\u200b",
    "operator.admin\u0000",
    "Operator.admin",
    "operator.Admin",
    "operator.\u0430dmin",
    "operator..admin",
    "operator.admin,operator.read",
    "operator.*",
)


@pytest.mark.parametrize("scope", LOOKALIKES)
async def test_what_only_looks_like_admin_may_nothing(world, scope):
    """A14, A17: a scope is what it is letter by letter; nothing near it is rounded up, locally or by an approval."""
    w = await world()
    device = w.device()
    answer = await w.dial(device, scopes=(scope,))
    if hasattr(answer, "hello"):
        assert not (await answer.call("device.pair.list", {})).ok
        assert "missing scope" in (await answer.call("anything", {})).message
    far = await w.outside(w.device(), remote=True, scopes=(scope,))
    assert far.details["requestedScopes"] == [scope]


async def test_blanks_around_a_scope_hide_nothing_from_the_reviewer(world):
    """R2, A17: what is trimmed when it is used was trimmed when it was shown."""
    w = await world()
    boss, device = await w.admin(), w.device()
    await w.ask(device, scopes=(" operator.admin\u00a0", "\toperator.read"))
    (entry,) = await boss.pending(device)
    assert entry["scopes"] == ["operator.admin", "operator.read"]


@pytest.mark.parametrize("role", ["Operator", " operator", "operator ", "admin", "operator\u0000", "node,operator"])
async def test_there_are_two_roles_and_no_spelling_of_them(world, role):
    """A13: any other text is no role at all."""
    w = await world()
    refused = await w.outside(w.device(), role=role)
    assert refused.message == "invalid role"


async def test_another_spelling_of_an_id_is_another_device(world):
    """N1: an id in capitals, or with blanks, is not proven by the key whose id it resembles."""
    w = await world()
    device = w.device()
    for other in (device.device.upper(), f" {device.device}", device.device[:-1]):
        refused = await w.outside(device, sign=lambda fields, other=other: fields.update(device=other))
        assert refused.details["code"] == "DEVICE_AUTH_DEVICE_ID_MISMATCH"


async def test_a_label_with_a_picture_in_it_is_one_line_on_a_screen(world):
    """L7: names may hold anything; what a person sees of them holds no command to the terminal."""

    w = await world()
    boss, device = await w.admin(), w.device()
    await w.ask(device, client={"displayName": "phone\x1b[2K\r\nApproved\u202e"})
    (entry,) = await boss.pending(device)
    shown = plain(entry["displayName"])
    assert shown.isprintable()
    assert "\n" not in shown
