"""Transcripts of `pairing enroll` and of `pairing connect` with a setup code, against a real gateway and on the log alone."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import pairing
from pairing.refusals import Exit
from pairing.setup_code import decode, encode
from tests.houses import House, started, stopped

URL = "wss://gateway.example.net"


def here(house: House) -> str:
    return f"ws://127.0.0.1:{house.port}"


def mint(house: House, *args: str) -> dict[str, Any]:
    """Mint a code for this very gateway."""
    return dict(house.json("enroll", "new", "--gateway-url", here(house), *args))


def come(folder: Path, code: str, *args: str) -> Result:
    """Come as a new device from elsewhere, the code on standard input."""
    clean = dict.fromkeys(name for name in os.environ if name.startswith("PAIRING_"))
    given = ("connect", "--setup-code-stdin", "--home", str(folder), "--header", "X-Forwarded-For: 203.0.113.7", "--json", *args)
    return CliRunner().invoke(pairing, given, input=f"{code}\n", env={**clean, "PAIRING_HOME": str(folder)})


def test_a_code_is_minted_shown_redeemed_and_spent(house: House, tmp_path: Path) -> None:
    """B1, B5, D6: the code is printed once; the device that redeems it is named in `show`; it comes back by its own token."""
    minted = mint(house, "--label", "Porch", "--reason", "new phone")
    held, entry = decode(minted["setupCode"]), minted["enrolment"]
    assert held is not None
    assert held.url == minted["gatewayUrl"] == here(house)
    assert minted["recorded"]["kind"] == "enrolment.issued"
    assert (entry["state"], entry["profile"], entry["uses"], entry["label"]) == ("open", "default", 1, "Porch")
    listed = house.say("enroll", "list").splitlines()
    assert listed[0].split() == ["Id", "Label", "State", "Gives", "Redeemed", "Expires", "Minted", "by"]
    assert "Porch" in listed[1]
    first = json.loads(come(tmp_path / "phone", minted["setupCode"]).stdout)
    assert (first["ok"], first["role"], first["method"], first["tokensFor"]) == (True, "node", "bootstrap-token", ["operator"])
    shown = house.say("enroll", "show", "porch")
    assert first["deviceId"][:12] in shown
    assert "let in" in shown or "sent its tokens" in shown
    again = json.loads(come(tmp_path / "phone", minted["setupCode"]).stdout)
    assert again["method"] == "device-token", "its own token comes first"
    operator = json.loads(come(tmp_path / "phone", minted["setupCode"], "--role", "operator").stdout)
    assert (operator["method"], operator["role"]) == ("device-token", "operator")
    other = come(tmp_path / "tablet", minted["setupCode"])
    assert other.exit_code == Exit.REFUSED
    assert json.loads(other.stdout)["error"]["reason"] == "bootstrap_token_invalid"
    spent = house.json("enroll", "list", "--all")["enrolments"][0]
    assert (spent["state"], spent["redeemed"], spent["overuses"]) == ("spent", 1, 1)


def test_the_bare_code_goes_into_a_pipe_or_a_file(house: House, tmp_path: Path) -> None:
    """`--setup-code-only` prints nothing else, and a file of it will do."""
    said = house.say("enroll", "new", "--gateway-url", here(house), "--setup-code-only", "--profile", "node")
    code = tmp_path / "code"
    code.write_text(said)
    assert decode(said) is not None
    result = CliRunner().invoke(
        pairing, ["connect", "--setup-code-file", str(code), "--json"], env={"PAIRING_HOME": str(tmp_path / "node")}
    )
    assert json.loads(result.stdout)["method"] == "bootstrap-token"
    assert "tokensFor" not in json.loads(result.stdout)


def test_the_text_names_what_it_gives_and_keeps_the_picture_to_terminals(house: House) -> None:
    """What a person mints is spelled out; off a terminal there is no picture."""
    said = house.say("enroll", "new", "--gateway-url", URL, "--uses", "10", "--expires", "7d", "--profile", "limited")
    assert said.startswith("Minted join key ")
    assert re.search("gives +node and operator, with operator.read\n", said)
    assert re.search("redeemed +0 of 10\n", said)
    assert "█" not in said
    assert decode(said.splitlines()[-1]) is not None


def test_a_picture_holds_the_code() -> None:
    """The picture is drawn from the very code, in characters that a terminal has."""
    from cli.enroll import _picture

    drawn = _picture(encode(URL, "t" * 43))
    assert len(drawn.splitlines()) > 15
    assert set("".join(c for c in drawn if c not in "\x1b[0123456789;m\n")) <= set(" █▀▄")


def test_the_codes_of_the_past_are_listed_as_they_were(house: House) -> None:
    """A code that was taken back since could be used then."""
    minted = mint(house, "--label", "fair")["enrolment"]["enrolmentId"]
    then = house.json("enroll", "list")["position"]
    house.say("enroll", "revoke", "fair")
    assert minted not in [entry["enrolmentId"] for entry in house.json("enroll", "list")["enrolments"]]
    found = house.json("enroll", "list", "--at", str(then))
    assert minted in [entry["enrolmentId"] for entry in found["enrolments"]]
    assert (found["position"], found["recordedAtMs"] > 0) == (then, True)
    assert f"As of position {then}, recorded " in house.say("enroll", "list", "--at", str(then))
    assert house.json("enroll", "list", "--at", "999999", exit=Exit.NOT_FOUND)["error"]["reason"] == "no-such-moment"


def test_a_code_is_taken_back_by_id_start_or_label(house: House) -> None:
    """L14: what is ambiguous is listed and changes nothing; what is over says so."""
    first = mint(house, "--label", "twin")["enrolment"]["enrolmentId"]
    mint(house, "--label", "twin")
    unsure = house.json("enroll", "revoke", "twin", exit=Exit.AMBIGUOUS)["error"]
    assert len(unsure["details"]["candidates"]) == 2
    assert house.say("enroll", "revoke", first[:16]).startswith(f"Revoked setup code {first} — recorded as enrolment.revoked")
    assert house.say("enroll", "revoke", first).startswith(f"Already revoked: setup code {first}. Nothing was changed")
    assert house.json("enroll", "show", first)["enrolment"]["state"] == "revoked"
    missing = house.json("enroll", "revoke", "feedfeed", exit=Exit.NOT_FOUND)["error"]
    assert (missing["reason"], missing["hint"]) == ("unknown-setup-code", "See which there are: pairing enroll list")


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ((), "setup-code-address"),
        (("--gateway-url", "ws://gateway.example.net"), "setup-code-address"),
        (("--gateway-url", "nonsense url"), "setup-code-address"),
        (("--gateway-url", URL, "--expires", "999w"), "invalid-params"),
        (("--gateway-url", URL, "--scope", "node.exec"), "invalid-scope"),
        (("--gateway-url", URL, "--profile", "node", "--role", "node"), "usage"),
        (("--gateway-url", URL, "--uses", "0"), "usage"),
        (("--gateway-url", URL, "--expires", "10"), "usage"),
    ],
)
def test_what_makes_no_code_says_why(house: House, args: tuple[str, ...], reason: str) -> None:
    """B8, L12: one document, a reason of its own, and the next command."""
    before = house.json("enroll", "list", "--all")["enrolments"]
    result = house.run("enroll", "new", "--json", *args)
    error = json.loads(result.stdout)["error"]
    assert (error["reason"], result.exit_code != 0) == (reason, True)
    assert error["hint"]
    assert house.json("enroll", "list", "--all")["enrolments"] == before


@pytest.mark.parametrize(
    ("given", "args", "reason"),
    [
        ("", (), "setup-code-unreadable"),
        ("not a code", (), "setup-code-unreadable"),
        ("eyJ1cmwiOiJ3c3M6Ly94In0", (), "setup-code-unreadable"),
        (encode("ws://gateway.example.net", "t"), (), "bad-address"),
        (encode(URL, "t"), ("--url", URL), "setup-code-and-more"),
        (encode(URL, "t"), ("--setup-code-file", "x"), "setup-code-twice"),
    ],
)
def test_what_is_no_code_is_refused_by_the_device(tmp_path: Path, given: str, args: tuple[str, ...], reason: str) -> None:
    """Nothing is sent, and nothing of what was given is repeated."""
    result = come(tmp_path / "device", given, *args)
    error = json.loads(result.stdout)["error"]
    assert error["reason"] == reason
    assert given == "" or given not in result.output
    assert error["hint"]


def test_a_code_typed_as_an_argument_is_not_sent_anywhere(house: House) -> None:
    """L7: arguments are seen by others; a setup code is never taken from one."""
    code = encode(URL, "t" * 43)
    error = house.json("enroll", "show", code, exit=Exit.USAGE)["error"]
    assert error["reason"] == "setup-code-in-arguments"
    assert code not in str(error)


def test_without_a_gateway_codes_are_minted_on_the_log(tmp_path: Path) -> None:
    """What one door can do the other can: minted, listed and taken back by the owner of the log, by uid."""
    house = House(tmp_path / "alone")
    process = started(house)
    stopped(process)
    minted = house.json("enroll", "new", "--gateway-url", URL)
    assert minted["enrolment"]["mintedBy"] == f"local:{os.getuid()}"
    code = minted["enrolment"]["enrolmentId"]
    assert [entry["enrolmentId"] for entry in house.json("enroll", "list")["enrolments"]] == [code]
    house.say("enroll", "revoke", code)
    assert house.json("enroll", "list")["enrolments"] == []
    assert house.say("enroll", "list").startswith("No setup code can be used.")
