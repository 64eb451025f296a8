"""Transcripts of `pairing devices refusals`, on the log of a state folder: what was noted, by whom it was met, and why."""

import json
import os
from pathlib import Path

import anyio
import pytest
from click.testing import CliRunner, Result

from cli.compose import open_all
from cli.main import pairing
from pairing import settings
from pairing.listing import RefusedContact
from pairing.refusals import Exit
from pairing.verdict import Step

DEVICE = "d" * 64


class Office:
    """A state folder in which one device was turned away twice, and a stranger once."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.references: tuple[str, ...] = ()
        anyio.run(self._fill)

    async def _fill(self) -> None:
        settings.ensure_home(self.home)
        rules = settings.load(self.home, env={}, flags={"gateway.auth.token": "t" * 32})
        async with open_all(rules, env={}) as opened:
            common = {"address": "203.0.113.7", "role": "operator", "scopes": ("operator.read",)}
            trace = (Step("shared-secret", False, "token_missing"), Step("paired", False, "no grant for this key"))
            met = RefusedContact(
                at=1_777_000_000_000,
                device=DEVICE,
                proven=True,
                reason="device_token_mismatch",
                code="AUTH_DEVICE_TOKEN_MISMATCH",
                trace=trace,
                **common,
            )
            opened.activity.refuse(met)
            one = opened.activity.refuse(met)
            stranger = RefusedContact(at=1_777_000_000_001, device=None, proven=False, reason="x", code="AUTH_REQUIRED", **common)
            self.references = (one, opened.activity.refuse(stranger))

    def run(self, *args: str) -> Result:
        clean = dict.fromkeys(name for name in os.environ if name.startswith("PAIRING_"))
        env = {**clean, "PAIRING_HOME": str(self.home), "PAIRING_GATEWAY_PORT": "9"}
        return CliRunner().invoke(pairing, ["devices", "refusals", *args], env=env)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    return Office(tmp_path_factory.mktemp("office") / "home")


def test_the_latest_refusals_are_listed_with_the_rule_that_failed(office: Office) -> None:
    """L8: one line a contact, however often it came."""
    found = office.run()
    assert found.exit_code == 0, found.output
    lines = [line for line in found.stdout.splitlines() if "203.0.113.7" in line]
    assert [line.split()[0] for line in lines] == list(reversed(office.references))
    assert lines[1].split()[1:4] == ["d" * 12, "device_token_mismatch", "2x"]
    assert lines[1].endswith("paired: no grant for this key")


def test_a_reference_shows_the_rules_that_were_tried(office: Office) -> None:
    """L8: the operator sees the whole trace by the reference; lower case and hyphens do not matter."""
    reference = office.references[0]
    typed = f"{reference[:4]}-{reference[4:]}".lower()
    found = office.run("--ref", typed)
    assert found.exit_code == 0, found.output
    assert found.stdout.splitlines()[0] == f"Refusal {reference}"
    assert f"device  {DEVICE}\n" in found.stdout
    assert "shared-secret  FAILED  token_missing" in found.stdout
    document = json.loads(office.run("--ref", typed, "--json").stdout)
    assert (document["reference"], document["count"], document["proven"]) == (reference, 2, True)


def test_an_unknown_reference_is_not_found_and_says_where_to_look(office: Office) -> None:
    """Not found has its own exit code, and names the list."""
    found = office.run("--ref", "NOTHING0")
    assert found.exit_code == Exit.NOT_FOUND
    assert "unknown reference" in found.stderr
    assert "pairing devices refusals" in found.stderr
    assert office.run("--ref", "A", "some-device").exit_code == Exit.USAGE
