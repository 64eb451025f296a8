"""Transcripts of `pairing audit` and `pairing devices forget` on a log, and the forms that leave the terminal."""

import csv
import io
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner, Result

from cli.audit_forms import COLUMNS, cef_line, columns, csv_line
from cli.compose import open_all
from cli.main import pairing
from pairing import settings
from pairing.events import Actor, DeviceRemoved, DeviceRenamed, device_stream
from pairing.refusals import Exit
from tests.views.histories import Act, approved, issued, opened, paired, perform, person, rotated

PHONE, KIOSK = "3f2a9c11" + "0" * 56, "77aa01bc" + "1" * 56
EVIL = '=HYPERLINK("http://evil.example","x")|a=b\n-1'


async def _filled(home: Path, removed: bool = True) -> None:
    settings.ensure_home(home)
    async with open_all(settings.load(home, env={}, flags={}), new_key=True, env={}) as house:
        log, about = house.log, person(name=EVIL, address="203.0.113.77")
        await perform(log, Act(device_stream(PHONE), (opened("r-1", PHONE),), about, Actor("device", PHONE)))
        granted = (approved("r-1"), paired("r-1", PHONE), issued())
        await perform(log, Act(device_stream(PHONE), granted, person(address="192.0.2.9")), now=2_000)
        await perform(log, Act(device_stream(PHONE), (rotated(),)), now=3_000)
        await perform(log, Act(device_stream(KIOSK), (opened("r-2", KIOSK),), person(name="Kiosk")), now=4_000)
        await perform(log, Act(device_stream(PHONE), (DeviceRenamed(at=5_000, labelled="t"),), person(label="porch")), now=5_000)
        if removed:
            await perform(
                log, Act(device_stream(PHONE), (DeviceRemoved(at=6_000, roles=("operator",), issues=("i-2",)),)), now=6_000
            )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("audit") / "home"
    anyio.run(_filled, found)
    return found


def run(home: Path, *args: str) -> Result:
    clean = dict.fromkeys(name for name in os.environ if name.startswith("PAIRING_"))
    return CliRunner().invoke(pairing, args, env={**clean, "PAIRING_HOME": str(home), "PAIRING_GATEWAY_PORT": "1"})


def lines(home: Path, *args: str) -> list[dict[str, Any]]:
    result = run(home, "audit", *args, "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_person_reads_who_whom_why_and_what_changed(home: Path) -> None:
    """L2: one event is a sentence, and below it the right, the place and the difference it made."""
    said = run(home, "audit", "--device", "3f2a9c11").stdout
    first = said.split("#8")[1].split("#7")[0]
    assert first.startswith("  1970-01-01 00:00:06 UTC  ")
    assert "was removed by local user 1000" in first
    assert "- operator operator.read" in first
    assert "device.removed, local:1000" in first
    assert "label came to be" in said
    assert said.index("#8") < said.index("#7") < said.index("#1 ")
    assert "\N{REPLACEMENT CHARACTER}" in said or EVIL.splitlines()[0] not in said


def test_json_is_one_line_an_event(home: Path) -> None:
    """L12: each line is a document of its own; filters, ranges and limits narrow it."""
    assert [event["position"] for event in lines(home)] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert [event["position"] for event in lines(home, "--limit", "3")] == [8, 7, 6]
    assert [event["kind"] for event in lines(home, "--kind", "token.*")] == ["token.rotated", "token.issued"]
    assert [event["position"] for event in lines(home, "--from", "2", "--to", "4")] == [4, 3]
    assert [event["position"] for event in lines(home, "--address", "192.0.2.9")] == [2]
    assert [event["position"] for event in lines(home, "--since", "6", "--until", "7")] == [7, 6]
    assert [event["position"] for event in lines(home, "--until", "1970-01-01T00:00:02Z")] == [4, 3, 2, 1]
    assert [event["position"] for event in lines(home, "--since", "1970-01-01T00:00:05Z")] == [8, 7]
    assert lines(home, "--reason", "nothing of that") == []


def test_following_goes_on_after_a_position(home: Path) -> None:
    """D6: oldest first, from where one stopped, without a gap and without repeating."""
    assert [event["position"] for event in lines(home, "--follow", "--from", "0", "--limit", "3")] == [1, 2, 3]
    assert [event["position"] for event in lines(home, "--follow", "--from", "3", "--limit", "5")] == [4, 5, 6, 7, 8]


def test_a_spreadsheet_gets_no_formula(home: Path) -> None:
    """L7: what a device calls itself is text in every cell, however a spreadsheet reads it."""
    result = run(home, "audit", "--csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["position"] for row in rows] == [str(number) for number in range(8, 0, -1)]
    assert {cell[:1] for row in rows for cell in row.values()}.isdisjoint({"=", "+", "-", "@", "\t", "\r"})
    for start in ("=", "+", "-", "@", "\t=", "\r=", " =", "\n@"):
        (cell,) = {csv_line(dict.fromkeys(COLUMNS, start + "1+1")).split(",")[0]}
        assert cell.startswith("'"), start


def test_a_collector_gets_one_line_with_every_field_escaped(home: Path) -> None:
    """CEF: bars in the header, equals signs in the extension and backslashes in both are escaped; nothing breaks the line."""
    result = run(home, "audit", "--cef", "--kind", "request.opened", "--device", PHONE)
    (line,) = result.stdout.splitlines()
    assert line.startswith("CEF:0|pairing|pairing-gateway|")
    assert " src=203.0.113.77 " in line
    nasty = {"kind": "x.y", "recordedAtMs": 1, "position": 7, "says": "a|b\\c\nd", "reason": "k=v\\w\r\n|"}
    line = cef_line(nasty, "1")
    assert line == "CEF:0|pairing|pairing-gateway|1|x.y|a\\|b\\\\c d|3|rt=1 externalId=7 reason=k\\=v\\\\w  |"
    refused = {
        "kind": "contact.refused",
        "atMs": 5,
        "remoteIp": "2001:db8::1",
        "reason": "token_mismatch",
        "reference": "ABCD1234",
    }
    line = cef_line(refused, "1")
    assert "|contact.refused|somebody was turned away: token_mismatch|8|" in line
    assert "c6a2=2001:db8::1" in line
    assert columns(refused)["cause"] == "ABCD1234"


@pytest.mark.parametrize(
    ("args", "exit", "said"),
    [
        (("--json", "--csv"), Exit.USAGE, "Give one of"),
        (("--follow", "--since", "2h"), Exit.USAGE, "--follow goes with --from"),
        (("--device", "nobody"), Exit.NOT_FOUND, "unknown deviceId"),
        (("--command", "xyz"), Exit.USAGE, "UUID"),
        (("--since", "whenever"), Exit.USAGE, "is no moment"),
    ],
)
def test_what_cannot_be_asked_is_said(home: Path, args: tuple[str, ...], exit: int, said: str) -> None:
    """L9: each error names what was wrong."""
    result = run(home, "audit", *args)
    assert result.exit_code == exit, result.output
    assert said in result.output


def test_who_let_a_device_in_is_shown_with_what_they_saw(home: Path, tmp_path: Path) -> None:
    """L2: who, when, means, address, and the request at its digest; a device that is gone holds nothing."""
    assert "holds nothing" in run(home, "devices", "who", "3f2a9c11").stdout
    fresh = tmp_path / "home"
    anyio.run(_filled, fresh, False)
    said = run(fresh, "devices", "who", "porch").stdout
    assert "roles: operator; scopes: operator.read" in said
    assert "local:1000" in said
    assert "from         192.0.2.9" in said
    assert json.loads(run(fresh, "devices", "who", PHONE, "--json").stdout)["origins"][0]["means"] == "owner"


def test_forgetting_asks_before_and_says_after(tmp_path: Path) -> None:
    """L6, D11: not without --yes; then what was erased, where it is recorded, and nothing the second time."""
    home = tmp_path / "home"
    anyio.run(_filled, home)
    forget = ("devices", "forget", "3f2a9c11", "--reason", "request 12")
    refused = run(home, *forget)
    assert refused.exit_code == Exit.USAGE
    assert "--yes" in refused.output
    assert run(home, "devices", "forget", PHONE, "--yes").exit_code == Exit.USAGE
    done = run(home, *forget, "--yes")
    assert done.exit_code == 0, done.output
    assert f"Forgot {PHONE}: erased in 3 rows — recorded as device.forgotten at position 9" in done.stdout
    again = run(home, *forget, "--yes")
    assert "Nothing was changed" in again.stdout
    assert lines(home, "--address", "203.0.113.77") == []
    assert lines(home, "--kind", "device.forgotten")[0]["reason"] == "request 12"
    for file in home.iterdir():
        assert b"203.0.113.77" not in file.read_bytes()
        assert b"HYPERLINK" not in file.read_bytes()


def test_views_are_verified_and_rebuilt_from_the_command_line(tmp_path: Path) -> None:
    """L11, L12: exit code 7 names the tables that differ and what mends them; nothing forgotten comes back."""
    home = tmp_path / "home"
    anyio.run(_filled, home)
    assert "up to position 8" in run(home, "views", "rebuild").stdout
    assert json.loads(run(home, "views", "verify", "--json").stdout)["differences"] == []
    with closing(sqlite3.connect(home / "views.db")) as forger, forger:
        forger.execute("UPDATE requests SET scopes = '[]' WHERE request = 'r-2'")
    wrong = run(home, "views", "verify")
    assert wrong.exit_code == Exit.BROKEN
    assert "requests: 1 rows differ; row 6 says something else: scopes" in wrong.output
    assert "pairing views rebuild" in wrong.output
    assert run(home, "devices", "forget", PHONE, "--reason", "x", "--yes").exit_code == 0
    assert run(home, "views", "rebuild").exit_code == 0
    assert run(home, "views", "verify").exit_code == 0
    assert b"203.0.113.77" not in (home / "views.db").read_bytes()
