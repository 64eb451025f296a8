"""Somebody far away asks; somebody on the gateway's host answers, both with OpenClaw's own client."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.interop.conftest import Client, Gateway, Ran

pytestmark = pytest.mark.interop

PAIRED = ["request.opened", "request.approved", "device.paired", "token.issued"]
WIDENED = ["request.opened", "request.approved", "device.upgraded", "token.widened"]
EVERYTHING = {f"operator.{name}" for name in ("admin", "read", "write", "approvals", "pairing", "talk.secrets")}


def asked(refused: Ran) -> str:
    """Return the request's id out of what the refused client printed."""
    assert refused.code == 1, refused
    assert refused.out == ""
    found = re.search(r"gateway connect failed: GatewayClientRequestError: .* \(requestId: (\S+)\)", refused.err)
    assert found is not None, refused.err
    return found[1]


def paired(operator: Client, far: Client) -> str:
    """Let a far client ask for `operator.pairing`, approve it, and return its device id."""
    request = asked(far("devices", "list"))
    assert operator("devices", "approve", request).code == 0
    assert far("devices", "list").code == 0
    return far.device


def test_wide_access_is_asked_previewed_and_approved(gateway: Gateway, far: int, openclaw: Callable[..., Client]) -> None:
    """A request for everything is shown before it is granted, and the host's client can grant it (CL-04, CL-08, CL-09; the
    original's client cannot: it holds only `operator.pairing` there)."""
    operator, phone = openclaw("operator", gateway.port), openclaw("phone", far)
    refused = phone("gateway", "call", "no.such")
    request = asked(refused)
    assert "device pairing required" in refused.err
    assert f"gateway closed (1008): pairing required: device is not approved yet (requestId: {request})" in refused.err
    assert gateway.story(phone.device) == ["request.opened"]

    shown = operator("devices", "list")
    assert shown.code == 0
    row = shown.row(request)
    assert row["Device"] == phone.device
    assert row["Approved"] == "none"
    assert row["Status"] == "newpairing"
    assert "operator.admin" in row["Requested"]

    preview = operator("devices", "approve")
    assert preview.code == 1
    assert preview.out.startswith(f"Selected pending device request {request}\n")
    assert f"openclaw devices approve {request}" in preview.err
    assert gateway.story(phone.device) == ["request.opened"], "a preview approves nothing"

    approved = operator("devices", "approve", request)
    assert (approved.code, approved.out) == (0, f"Approved {phone.device} ({request})\n")
    assert gateway.story(phone.device) == PAIRED
    fact = gateway.last(phone.device, "request.approved")
    assert (fact.body["request"], fact.body["means"]) == (request, "owner")
    assert set(fact.body["scopes"]) == EVERYTHING
    assert fact.meta["actor"]["kind"] == "shared-secret"

    assert "unknown method: no.such" in phone("gateway", "call", "no.such").err, "it is in"
    phone.token = None
    listed = phone("devices", "list", "--json").json()["paired"]
    assert {phone.device, operator.device} <= {entry["deviceId"] for entry in listed}, "and its own token carries the access"
    assert gateway.story(phone.device) == PAIRED


def test_a_preview_in_json_says_what_kind_of_request_it_is(gateway: Gateway, far: int, openclaw: Callable[..., Client]) -> None:
    """What our lists carry is enough for the client to tell a new pairing from a scope upgrade (CL-07, CL-09, UP-01)."""
    operator, phone = openclaw("operator", gateway.port), openclaw("phone", far)
    first = asked(phone("devices", "list"))
    preview = operator("devices", "approve", "--latest", "--json")
    assert preview.code == 1
    said = _document(preview)
    assert said["selected"]["requestId"] == first
    assert said["approvalState"]["kind"] == "new-pairing"
    assert said["approvalState"]["approved"] is None
    approved = operator("devices", "approve", first, "--json").json()
    assert approved["requestId"] == first
    assert approved["device"]["deviceId"] == phone.device
    assert not {"approvedScopes", "token"} & set(approved["device"])

    refused = phone("gateway", "call", "health")
    second = asked(refused)
    assert "scope upgrade pending approval" in refused.err
    assert operator("devices", "list").row(second)["Status"] == "scopeupgrade,repair"
    state = _document(operator("devices", "approve", "--latest", "--json"))["approvalState"]
    assert state["kind"] == "scope-upgrade"
    assert state["approved"] == {"roles": ["operator"], "scopes": ["operator.pairing"]}
    assert operator("devices", "approve", second).code == 0
    assert phone("gateway", "call", "health", "--json").json()["ok"] is True
    assert phone("devices", "list").code == 0, "an approved upgrade adds to what there was"
    assert gateway.story(phone.device) == PAIRED + WIDENED


def test_a_rejected_request_is_over(gateway: Gateway, far: int, openclaw: Callable[..., Client]) -> None:
    """No ends the request; asking again is a new one, and the old id can no longer be approved (RP-30)."""
    operator, stranger = openclaw("operator", gateway.port), openclaw("stranger", far)
    first = asked(stranger("devices", "list"))
    assert asked(stranger("devices", "list")) == first, "asking again while it waits is the same request"
    said = operator("devices", "reject", first)
    assert (said.code, said.out) == (0, f"Rejected {stranger.device}\n")
    assert gateway.story(stranger.device) == ["request.opened", "request.rejected"]
    late = operator("devices", "approve", first)
    assert late.code == 1
    assert "GatewayClientRequestError: " in late.err
    second = asked(stranger("devices", "list"))
    assert second != first
    answer = operator("devices", "reject", second, "--json").json()
    assert answer == {"requestId": second, "deviceId": stranger.device}
    assert gateway.story(stranger.device) == ["request.opened", "request.rejected"] * 2


def test_an_id_that_nobody_gave_is_unknown(gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """The client gets the protocol's own words and fails (CL-11)."""
    operator = openclaw("operator", gateway.port)
    for verb in ("approve", "reject"):
        refused = operator("devices", verb, "nope")
        assert refused.code == 1
        assert "GatewayClientRequestError: unknown requestId" in refused.err


def test_a_removed_device_is_out_at_once(gateway: Gateway, far: int, openclaw: Callable[..., Client]) -> None:
    """Removal ends the grant and its token; the device forgets the token and has to ask anew (CL-13, CL-42, AU-29)."""
    operator, phone = openclaw("operator", gateway.port), openclaw("phone", far)
    device = paired(operator, phone)
    removed = operator("devices", "remove", device)
    assert (removed.code, removed.out) == (0, f"Removed {device}\n")
    assert gateway.story(device) == [*PAIRED, "device.removed"]
    again = operator("devices", "remove", device)
    assert again.code == 1
    assert "GatewayClientRequestError: unknown deviceId" in again.err

    shared, phone.token = phone.token, None
    _turned_away(phone)
    phone.token = shared
    asked(phone("devices", "list"))
    assert gateway.story(device) == [*PAIRED, "device.removed", "request.opened"]


def test_a_rotated_token_is_dead_and_the_next_one_comes_with_the_shared_secret(
    gateway: Gateway, far: int, openclaw: Callable[..., Client]
) -> None:
    """Rotation kills the old value and hands the new one to nobody but its device (CL-14, TK-01, TK-03)."""
    operator, phone = openclaw("operator", gateway.port), openclaw("phone", far)
    device = paired(operator, phone)
    old = phone.stored()
    rotated = operator("devices", "rotate", "--device", device, "--role", "operator").json()
    assert (rotated["deviceId"], rotated["role"], rotated["scopes"]) == (device, "operator", ["operator.pairing"])
    assert "token" not in rotated
    assert gateway.story(device) == [*PAIRED, "token.rotated"]

    shared, phone.token = phone.token, None
    _turned_away(phone)
    phone.token = shared
    assert phone("devices", "list").code == 0
    new = phone.stored()
    assert old is not None
    assert new is not None
    assert new["token"] != old["token"]
    phone.token = None
    assert phone("devices", "list").code == 0
    assert gateway.story(device) == [*PAIRED, "token.rotated"], "the new one was issued by the rotation, not by fetching it"


def test_a_narrowing_rotation_of_wide_access_is_the_hosts_right(
    gateway: Gateway, far: int, openclaw: Callable[..., Client]
) -> None:
    """The host's client may rotate what is wider than itself, also to less (CL-15 is the original's refusal of this)."""
    operator, phone = openclaw("operator", gateway.port), openclaw("phone", far)
    request = asked(phone("gateway", "call", "no.such"))
    assert operator("devices", "approve", request).code == 0
    rotate = ("devices", "rotate", "--device", phone.device, "--role", "operator", "--json")
    assert "operator.admin" in operator(*rotate).json()["scopes"]
    assert operator(*rotate, "--scope", "operator.read").json()["scopes"] == ["operator.read"]
    assert gateway.story(phone.device) == [*PAIRED, "token.rotated", "token.rotated"]
    refused = operator("devices", "rotate", "--device", phone.device, "--role", "node")
    assert refused.code == 1
    assert "device token rotation denied" in refused.err


def test_a_revoked_token_is_dead(gateway: Gateway, far: int, openclaw: Callable[..., Client]) -> None:
    """Revoking ends the token without ending the device; its list entry says so (CL-16, TK-13, AU-37)."""
    operator, phone = openclaw("operator", gateway.port), openclaw("phone", far)
    device = paired(operator, phone)
    revoked = operator("devices", "revoke", "--device", device, "--role", "operator").json()
    assert (revoked["deviceId"], revoked["role"]) == (device, "operator")
    assert revoked["revokedAtMs"] > 0
    assert gateway.story(device) == [*PAIRED, "token.revoked"]
    phone.token = None
    _turned_away(phone)
    (entry,) = [e for e in operator("devices", "list", "--json").json()["paired"] if e["deviceId"] == device]
    assert entry["tokens"][0]["revokedAtMs"] == revoked["revokedAtMs"]


def test_clear_removes_every_device_and_rejects_every_request(
    empty_gateway: Gateway, far_from_empty: int, openclaw: Callable[..., Client]
) -> None:
    """`clear` needs a yes, takes the paired devices, and with `--pending` what waits, also of a device just removed (CL-17)."""
    gateway = empty_gateway
    operator, phone, stranger = (
        openclaw("operator", gateway.port),
        openclaw("phone", far_from_empty),
        openclaw("stranger", far_from_empty),
    )
    paired(operator, phone)
    asked(phone("gateway", "call", "health"))
    waiting = asked(stranger("devices", "list"))
    before = gateway.position
    unsure = operator("devices", "clear")
    assert (unsure.code, unsure.out) == (1, "")
    assert "Refusing to clear pairing table without --yes" in unsure.err
    assert gateway.position == before

    cleared = operator("devices", "clear", "--yes", "--pending", "--json").json()
    assert set(cleared["removedDevices"]) == {operator.device, phone.device}
    assert waiting in cleared["rejectedPending"]
    assert gateway.story(stranger.device) == ["request.opened", "request.rejected"]
    phones = gateway.story(phone.device)
    assert phones[: len(PAIRED) + 1] == [*PAIRED, "request.opened"]
    assert "device.removed" in phones
    assert gateway.facts(operator.device)[-1].kind != "device.removed", "the client that cleared comes back as a new device"
    left = operator("devices", "list", "--json").json()
    assert left["pending"] == []
    assert [entry["deviceId"] for entry in left["paired"]] == [operator.device]
    spoken = operator("devices", "clear", "--yes")
    assert (spoken.code, spoken.out) == (0, "Cleared 1 paired device\n")


def test_clear_stops_at_the_last_operator_and_prints_what_to_do(lonely_gateway: Gateway, openclaw: Callable[..., Client]) -> None:
    """The client prints the gateway's words, which name the way out; nothing of the last operator ends (A22, difference 17)."""
    operator = openclaw("operator", lonely_gateway.port)
    assert operator("devices", "list").code == 0
    refused = operator("devices", "clear", "--yes")
    assert refused.code == 1
    assert "last operator: no other device could approve after this (approve another operator first, or" in refused.err
    assert lonely_gateway.story(operator.device) == PAIRED


def _turned_away(client: Client) -> None:
    """A client with a dead token of its own and nothing else is refused, and forgets the token."""
    assert client.stored() is not None
    refused = client("devices", "list", "--json")
    assert refused.code == 1
    assert "gateway closed (1008): unauthorized: device token mismatch (rotate/reissue device token)" in refused.err
    assert client.stored() is None


def _document(ran: Ran) -> Any:
    return json.loads(ran.out)
