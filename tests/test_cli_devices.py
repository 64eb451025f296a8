"""Transcripts of `pairing devices` against a real gateway, and on the log where none runs."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import pairing
from pairing.refusals import Exit
from tests.houses import REMOTE, House, started, stopped


@pytest.fixture
def house(house: House) -> House:
    """A running gateway whose devices every story brings for itself."""
    house.run("devices", "clear", "--yes", "--pending", "--break-glass", "--reason", "the next story")
    return house


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A state folder whose gateway has stopped, with a paired node and an open request in its log."""
    house = House(tmp_path_factory.mktemp("quiet"))
    process = started(house)
    house.pair("node", "--role", "node")
    house.request("later", "--role", "node")
    stopped(process)
    return house


# --- list and show -----------------------------------------------------------------------------------------------------


def test_an_empty_list_says_so(house: House) -> None:
    """Nothing is a sentence for a person and two empty lists for a program (CL-03)."""
    assert house.say("devices", "list") == "No device pairing entries.\n"
    found = house.json("devices", "list")
    assert (found["pending"], found["paired"]) == ([], [])


def test_a_listing_pairs_nobody(house: House) -> None:
    """Looking makes no device, no request, no event (A20)."""
    before = house.json("devices", "list")["position"]
    assert house.json("devices", "list")["position"] == before
    assert not (house.home / "identity").exists()


def test_a_request_is_shown_beside_what_is_approved(house: House) -> None:
    """A reviewer sees what is asked, what stands, and of which kind the change is."""
    house.pair("laptop", "--scope", "operator.read")
    upgrade = house.request("laptop", "--scope", "operator.write")
    shown = house.say("devices", "list")
    card = shown.split("Paired")[0]
    assert "laptop" in card
    assert ": scope upgrade" in card
    assert re.search(r"requested +roles: operator; scopes: .*operator\.write", card)
    assert re.search(r"approved +roles: operator; scopes: operator\.read", card)
    assert re.search(r"asked +.*, expires in 4m\d+s", card)
    assert upgrade in card
    assert f"{house.device('laptop')[:12]}  laptop  operator" in shown


def test_a_device_cannot_draw_on_the_operators_terminal(house: House) -> None:
    """The name a device gives itself is printed without its control characters."""
    house.knock("node", "--role", "node", "--name", "\x1b[2Jfriend\u202e")
    shown = house.say("devices", "list")
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "[2Jfriend" in shown


def test_show_tells_everything_about_one_device(house: House) -> None:
    """Key, access, tokens, open and ended requests, with full ids."""
    first = house.request("laptop", "--scope", "operator.read")
    house.say("devices", "approve", first)
    upgrade = house.request("laptop", "--scope", "operator.write")
    shown = house.say("devices", "show", house.device("laptop")[:8])
    assert shown.startswith(house.device("laptop"))
    assert re.search(rf"{first}  approved", shown)
    assert upgrade in shown
    assert re.search(r"token operator +operator\.read; issued", shown)
    found = house.json("devices", "show", house.device("laptop"))
    assert found["device"]["deviceId"] == house.device("laptop")
    assert [entry["requestId"] for entry in found["pending"]] == [upgrade]


# --- approve -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [(), ("--latest",)])
def test_latest_only_previews(house: House, args: tuple[str, ...]) -> None:
    """Without an id nothing is approved: exit 1, the exact command, and the digest of what was shown (R1, CL-09)."""
    house.request("older", "--role", "node")
    newest = house.request("newest", "--role", "node")
    result = house.run("devices", "approve", *args)
    assert result.exit_code == Exit.FAILED
    assert result.stdout.startswith(f"Selected pending device request {newest}\n")
    command = re.search(r"Approve this exact request with:\n  (pairing devices approve \S+ --seen \S+)$", result.stderr, re.M)
    assert command is not None
    assert "1 more is waiting" in result.stderr
    assert len(house.json("devices", "list")["pending"]) == 2
    assert house.say(*command[1].split()[1:]).startswith(f"Approved {house.device('newest')} ({newest})")


def test_a_preview_as_json_is_one_document_with_its_command(house: House) -> None:
    """The document of a preview names request, kind, both accesses and the command (CL-09)."""
    request = house.request("laptop", "--scope", "operator.read")
    args = ("devices", "approve", "--url", house.url, "--token", house.token, "--timeout", "9000")
    found = house.json(*args, exit=Exit.FAILED)
    assert found["selected"]["requestId"] == request
    assert found["approvalState"] == {
        "kind": "new-pairing",
        "requested": {"roles": ["operator"], "scopes": ["operator.read"]},
        "approved": None,
    }
    digest = found["selected"]["digest"]
    assert found["approveCommand"] == f"pairing devices approve {request} --seen {digest} --url {house.url} --timeout 9000 --json"
    assert found["requiresAuthFlags"] == {"token": True, "password": False}
    assert house.token not in json.dumps(found)


def test_a_preview_of_nothing_is_not_found(house: House) -> None:
    """With nothing to approve the exit code is that of not found."""
    assert house.json("devices", "approve", exit=Exit.NOT_FOUND)["error"]["reason"] == "nothing-pending"


def test_an_approval_names_device_request_and_event(house: House) -> None:
    """Who was approved, for what, and which event says so, after it is stored (CL-05, D6)."""
    request = house.request("node", "--role", "node")
    said = house.say("devices", "approve", request, "--reason", "known device", "--ticket", "T-1")
    line = rf"Approved {house.device('node')} \({request}\) — recorded as request\.approved at position (\d+)\n"
    match = re.match(line, said)
    assert match is not None
    assert "roles: node; scopes: none" in said
    assert int(match[1]) <= house.json("devices", "list")["position"]


def test_a_repeated_approval_says_that_it_changed_nothing(house: House) -> None:
    """A success that changed nothing says so, and names the same event again (D11, R6)."""
    request = house.request("node", "--role", "node")
    first = house.json("devices", "approve", request)["recorded"]
    before = house.json("devices", "list")["position"]
    again = house.say("devices", "approve", request)
    assert again.startswith("Already approved: ")
    assert f"Nothing was changed; it is recorded as request.approved at position {first['position']}" in again
    assert house.json("devices", "approve", request)["recorded"] == {**first, "changed": False}
    assert house.json("devices", "list")["position"] == before


def test_the_start_of_an_id_is_enough_and_the_whole_is_printed(house: House) -> None:
    """A prefix names one request; the answer shows which."""
    request = house.request("node", "--role", "node")
    assert f"({request})" in house.say("devices", "approve", request[:6])


def test_an_approval_of_something_else_than_was_seen_is_refused(house: House) -> None:
    """With --seen nothing is approved but what was shown; the refusal shows what it is now and the command for that (R2)."""
    request = house.request("node", "--role", "node")
    result = house.run("devices", "approve", request, "--seen", "an-older-digest")
    assert result.exit_code == Exit.REFUSED
    assert "It is now:" in result.stderr
    digest = house.json("devices", "list")["pending"][0]["digest"]
    assert f"pairing devices approve {request} --seen {digest}" in result.stderr
    assert house.json("devices", "list")["paired"] == []
    house.say("devices", "approve", request, "--seen", digest)


def test_an_ended_request_is_never_just_unknown(house: House) -> None:
    """The refusal says what became of it, by whom and where that is recorded."""
    request = house.request("node", "--role", "node")
    position = house.json("devices", "reject", request)["recorded"]["position"]
    result = house.run("devices", "approve", request)
    assert result.exit_code == Exit.NOT_FOUND
    assert re.search(rf"it was rejected by shared-secret.* at .* \(position {position}\)", result.stderr)


def test_an_id_that_never_was_is_not_found(house: House) -> None:
    """Exit 4, and the command that lists what there is (CL-11)."""
    result = house.run("devices", "approve", "nope")
    assert result.exit_code == Exit.NOT_FOUND
    assert result.stderr == "pairing: unknown requestId\nhint: See what is open: pairing devices list\n"


# --- reject, remove, rename, clear -------------------------------------------------------------------------------------


def test_a_rejection_is_recorded(house: House) -> None:
    """The device, the request and the event are named."""
    request = house.request("node", "--role", "node")
    said = house.say("devices", "reject", request[:8])
    assert re.match(rf"Rejected {house.device('node')} \({request}\) — recorded as request\.rejected at position \d+\n", said)


def test_a_device_is_removed_once(house: House) -> None:
    """Gone is gone: again is not found (CL-13)."""
    device = house.pair("node", "--role", "node")
    assert re.match(
        rf"Removed node {device} — recorded as device\.removed at position \d+\n", house.say("devices", "remove", device)
    )
    result = house.run("devices", "remove", device)
    assert result.exit_code == Exit.NOT_FOUND
    assert "unknown deviceId" in result.stderr


def test_a_label_names_a_device(house: House) -> None:
    """A label works where an id does, whatever its case, until it is taken away."""
    device = house.pair("node", "--role", "node")
    assert house.say("devices", "rename", device[:5], " The Kitchen ").startswith(
        f"Renamed {device} to The Kitchen — recorded as"
    )
    assert house.say("devices", "show", "the kitchen").startswith(device)
    assert house.say("devices", "rename", "The Kitchen", "--clear").startswith(f"Unlabelled {device} — recorded as")
    house.say("devices", "show", "The Kitchen", exit=Exit.NOT_FOUND)


def test_an_ambiguous_name_lists_the_candidates_and_changes_nothing(house: House) -> None:
    """Several are meant: all are listed, none is touched, exit 5 (L14)."""
    devices = [house.pair(who, "--role", "node") for who in ("one", "two")]
    for device in devices:
        house.say("devices", "rename", device, "twin")
    before = house.json("devices", "list")["position"]
    for args in (("remove", "twin"), ("rotate", "--device", "twin", "--role", "node"), ("rename", "twin", "x")):
        result = house.run("devices", *args)
        assert result.exit_code == Exit.AMBIGUOUS
        assert all(f"  {device}  twin  paired" in result.stderr for device in devices)
    error = house.json("devices", "remove", "twin", exit=Exit.AMBIGUOUS)["error"]
    assert sorted(entry["deviceId"] for entry in error["details"]["candidates"]) == sorted(devices)
    assert house.json("devices", "list")["position"] == before


def test_clearing_ends_everything_and_counts_it(house: House) -> None:
    """Every paired device, and with --pending what is left of the requests; a request that a removal closed is no failure."""
    house.pair("one", "--scope", "operator.read")
    house.pair("two", "--role", "node")
    house.request("one", "--scope", "operator.admin")
    house.request("three", "--role", "node")
    assert house.say("devices", "clear", "--yes", "--pending") == "Cleared 2 paired devices\nRejected 1 pending request\n"
    assert house.say("devices", "clear", "--yes", "--pending") == "Nothing to clear.\n"


def test_the_last_operator_stays_unless_the_glass_is_broken(house: House) -> None:
    """A22: `remove` and `revoke` say what to do instead; `clear` keeps one and says so; with the word and a reason it goes."""
    first, last = house.pair("one", "--scope", "operator.pairing"), house.pair("two", "--scope", "operator.pairing")
    house.say("devices", "remove", first)
    for command in (("remove", last), ("revoke", "--device", last, "--role", "operator")):
        result = house.run("devices", *command)
        assert result.exit_code == Exit.REFUSED
        assert "last operator: no other device could approve" in result.stderr
        assert "--break-glass --reason TEXT" in result.stderr
    narrow = ("devices", "rotate", "--device", last, "--role", "operator", "--no-scopes")
    assert house.json(*narrow, exit=Exit.REFUSED)["error"]["reason"] == "last-operator"
    house.pair("three", "--role", "node")
    result = house.run("devices", "clear", "--yes")
    assert result.stdout == f"Cleared 1 paired device\nKept {last}: no other device could approve after it\n"
    assert "pairing devices clear --yes --break-glass --reason TEXT" in result.stderr
    assert house.json("devices", "clear", "--yes")["keptDevices"] == [last]
    assert house.run("devices", "remove", last, "--break-glass").exit_code == Exit.USAGE
    assert "device.removed" in house.say("devices", "remove", last, "--break-glass", "--reason", "sold")
    assert house.json("devices", "list")["paired"] == []


def test_clearing_needs_a_yes_before_anything_is_contacted() -> None:
    """Without --yes there is no connection (CL-17)."""
    result = CliRunner().invoke(pairing, ["devices", "clear"], env={"PAIRING_HOME": "/nonexistent/home"})
    assert result.exit_code == Exit.USAGE
    assert "without --yes" in result.stderr


# --- tokens ------------------------------------------------------------------------------------------------------------


def test_a_rotated_token_is_dead_and_its_successor_collected(house: House) -> None:
    """The old token is refused, the new one comes with the shared secret, and neither is ever printed (T1, T4)."""
    device = house.pair("laptop", "--scope", "operator.read")
    home = ("--home", str(house.folder / "laptop"), "--url", house.url, *REMOTE)
    assert house.knock("laptop", exit=0)["tokenIsNew"] is True
    assert house.json("connect", *home)["method"] == "device-token"
    result = house.run("devices", "rotate", "--device", device, "--role", "operator", "--json")
    assert json.loads(result.stdout)["tokenDelivery"] == "withheld-cross-device"
    assert house.json("connect", *home, exit=Exit.REFUSED)["error"]["reason"] == "device_token_mismatch"
    assert house.knock("laptop", exit=0)["tokenIsNew"] is True
    assert house.json("connect", *home)["method"] == "device-token"
    kept = json.loads((house.folder / "laptop" / "identity" / "device-auth.json").read_text())
    bearer = kept["gateways"][f"127.0.0.1:{house.port}"]["operator"]["token"]
    shown = result.output + house.run("devices", "show", device, "--json").output + house.run("connect", *home).output
    assert bearer not in shown


def test_a_handed_over_token_lets_its_device_collect_the_next(house: House) -> None:
    """T1: with --handoff the device needs no shared secret: the old token brings the new one, whose use ends the old."""
    device = house.pair("laptop", "--scope", "operator.read")
    home = ("--home", str(house.folder / "laptop"), "--url", house.url, *REMOTE)
    house.knock("laptop", exit=0)
    result = house.run("devices", "rotate", "--device", device, "--role", "operator", "--handoff", "10m")
    assert result.exit_code == 0, result.output
    assert "or until the new one is used" in result.stderr
    assert "the one before accepted for another 9m" in house.say("devices", "show", device)
    assert house.json("connect", *home)["tokenIsNew"] is True
    assert house.json("connect", *home)["tokenIsNew"] is False
    assert "accepted for another" not in house.say("devices", "show", device)
    refused = house.run("devices", "rotate", "--device", device, "--role", "operator", "--handoff", "2d", "--json")
    assert json.loads(refused.stdout)["error"]["reason"] == "handoff-too-long"
    both = house.run("devices", "rotate", "--device", device, "--role", "operator", "--handoff", "1m", "--compromised")
    assert both.exit_code == Exit.USAGE


def test_a_rotation_with_a_key_happens_once(house: House) -> None:
    """T16: asked again after a lost answer, over the gateway, it says where the first is recorded."""
    device = house.pair("laptop", "--scope", "operator.read")
    rotate = ("devices", "rotate", "--device", device, "--role", "operator", "--idempotency-key", "deploy-7")
    first = house.json(*rotate)
    again = house.json(*rotate)
    assert (again["rotatedAtMs"], again["recorded"]) == (first["rotatedAtMs"], first["recorded"] | {"changed": False})
    assert "Nothing was changed" in house.say(*rotate)
    assert house.run(*rotate[:-1], " ").exit_code == Exit.USAGE


def test_rotation_can_narrow_and_empty_a_token(house: House) -> None:
    """--scope and --no-scopes say what the new token covers."""
    device = house.pair("laptop", "--scope", "operator.read", "--scope", "operator.questions")
    rotate = ("devices", "rotate", "--device", device, "--role", "operator")
    assert house.json(*rotate, "--scope", "operator.read")["scopes"] == ["operator.read"]
    assert house.json(*rotate, "--no-scopes")["scopes"] == []


def test_rotation_outside_what_was_approved_is_refused_with_a_command_that_works(house: House) -> None:
    """Never approved is never given (A4, A5); the hint is a command for this very device."""
    device = house.pair("laptop", "--scope", "operator.read")
    for more in (("--role", "node"), ("--role", "operator", "--scope", "operator.admin")):
        result = house.run("devices", "rotate", "--device", device, *more)
        assert result.exit_code == Exit.REFUSED
        command = re.search(r"pairing (devices show \S+)", result.stderr)
        assert command is not None
        house.say(*command[1].split())


def test_a_revoked_token_is_marked_and_refused(house: House) -> None:
    """The list marks it; the device has lost the role."""
    device = house.pair("laptop", "--scope", "operator.read")
    said = house.say("devices", "revoke", "--device", device[:9], "--role", "operator", "--reason", "lost")
    assert re.match(rf"Revoked the operator token of laptop {device} — recorded as token\.revoked at position \d+\n", said)
    assert "operator (revoked)" in house.say("devices", "list")


# --- doors -------------------------------------------------------------------------------------------------------------


def test_a_wrong_secret_is_refused_and_opens_no_other_door(house: House) -> None:
    """A refusal for want of the right secret is told as such (CL-23); the log behind it stays shut."""
    result = house.run("devices", "list", "--token", "wrong-token")
    assert result.exit_code == Exit.REFUSED
    assert result.stderr.startswith("pairing: unauthorized: gateway token mismatch")
    assert "working on the log" not in result.output


def test_a_secret_can_come_on_standard_input(house: House) -> None:
    """`--token -` keeps it out of the argument list; nothing there is an error."""
    result = house.run("devices", "list", "--url", house.url, "--token", "-", stdin=f"{house.token}\n")
    assert result.exit_code == 0
    assert house.token not in result.output
    assert house.run("devices", "list", "--token", "-").exit_code == Exit.USAGE


def test_with_no_gateway_every_command_works_on_the_log_and_says_so(quiet: House) -> None:
    """The local door does what the other does, under the name of the local user (D5)."""
    note = f"No gateway on 127.0.0.1:{quiet.port}: working on the log {quiet.home / 'log.db'}\n"
    listed = quiet.run("devices", "list", "--json")
    assert listed.stderr == note
    held = json.loads(listed.stdout)
    node = quiet.device("node")
    assert [entry["deviceId"] for entry in held["paired"]] == [node]
    (later,) = (entry["requestId"] for entry in held["pending"])
    assert quiet.run("devices", "approve").exit_code == Exit.FAILED
    assert quiet.say("devices", "approve", later).startswith(f"Approved {quiet.device('later')} ({later}) — recorded as")
    assert quiet.say("devices", "rename", node, "old node").startswith("Renamed")
    assert quiet.say("devices", "rotate", "--device", "old node", "--role", "node").startswith("Rotated")
    assert quiet.say("devices", "revoke", "--device", "old node", "--role", "node").startswith("Revoked")
    assert quiet.say("devices", "remove", "old node").startswith("Removed old node")
    assert quiet.say("devices", "show", node, exit=0).startswith(f"{node}\n  not paired")
    assert quiet.json("devices", "remove", node, exit=Exit.NOT_FOUND)["error"]["reason"] == "unknown-device"


def test_a_named_url_never_leads_to_the_log(quiet: House) -> None:
    """Who names a gateway means it: not answering is exit 6, and the log is left alone."""
    result = quiet.run("devices", "list", "--url", quiet.url, "--token", "x-y-z")
    assert result.exit_code == Exit.UNREACHABLE
    assert "working on the log" not in result.output
    by_env = quiet.run("devices", "list", PAIRING_GATEWAY_URL=quiet.url, PAIRING_GATEWAY_TOKEN="x-y-z")
    assert by_env.exit_code == Exit.UNREACHABLE


def test_without_a_log_nothing_is_made(tmp_path: Path) -> None:
    """A folder without a log is an error that names the next step, and it stays as it was (A20, D1)."""
    house = House(tmp_path)
    for args in (("list",), ("approve", "x"), ("remove", "abcd"), ("rotate", "--device", "abcd", "--role", "node")):
        error = house.json("devices", *args, exit=Exit.UNREACHABLE)["error"]
        assert error["reason"] == "no-log"
        assert "pairing serve" in error["hint"]
    assert list(tmp_path.iterdir()) == []
