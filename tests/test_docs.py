"""What the documents point at is there: sections of the protocol, links, tests, folders, commands, words of the wire."""

import ast
import os
import re
from functools import cache
from pathlib import Path
from typing import get_args

import click
import pytest

from cli.main import pairing
from pairing.authority import OPERATOR_SCOPES
from pairing.gateway.clients import ClientId, ClientMode
from pairing.gateway.hello import EVENTS
from pairing.identity import Identity
from pairing.methods import METHODS
from pairing.refusals import SAYINGS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.glob("*.md")))
CODE = ("pairing", "projections", "cli", "tests", "scripts")

# `protocol §4.1, §4.6`, `protocol §1.2 to §1.7`, and on a line about the protocol a bare `(§4.3)`; RFCs have sections, too.
SECTION = re.compile(r"§(\d+(?:\.\d+)*)")
FOREIGN = re.compile(r"(?:RFC \d+|accept\(2\)) §[\d.]+(?:(?:,| and) §[\d.]+)*")
CITING = re.compile(r"[Pp]rotocol[^\n]{0,80}?§")
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED_TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")
TYPED = re.compile(r"(?:`|^\$ )(?:[A-Z_]+=\S+ )*pairing ([a-z]+)(?: ([a-z]+))?\b", flags=re.MULTILINE)
# These quote messages that begin with `pairing required`, or are made from the commands.
QUOTING = {"protocol.md", "refusals.md", "commands.md"}


def headings(page: Path) -> list[str]:
    """Return the headings of a page, without those inside blocks of code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"^#{1,6} +(.+?) *$", text, flags=re.MULTILINE)


def anchor(heading: str) -> str:
    """Return the fragment by which a heading is linked."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def cited(text: str) -> set[str]:
    """Return the sections of the protocol that a text of code refers to, line by line."""
    lines = (FOREIGN.sub("", line) for line in text.splitlines())
    return {number for line in lines if CITING.search(line) for number in SECTION.findall(line)}


def sources() -> list[Path]:
    """Return every file of code that may cite the protocol, with the scripts that have no ending."""
    found = [path for folder in CODE for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [path for path in found if path.suffix in {".py", ".sql", ""} and "__pycache__" not in path.parts]


@cache
def names_of_tests(path: Path) -> frozenset[str]:
    """Return the names of the test functions of a file."""
    nodes = ast.walk(ast.parse(path.read_text()))
    functions = (node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(name for name in functions if name.startswith("test_"))


def rows_of_the_map() -> dict[str, str]:
    """Return the README's map: folder to what is said of it."""
    section = (ROOT / "README.md").read_text().partition("\n## Map\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", section, flags=re.MULTILINE))


def commands() -> set[str]:
    """Return every command as it is typed after `pairing`: `serve`, `devices`, `devices list`."""
    context = click.Context(pairing)
    found: set[str] = set()
    for name in pairing.list_commands(context):
        command = pairing.get_command(context, name)
        found.add(name)
        if isinstance(command, click.Group):
            found |= {f"{name} {sub}" for sub in command.list_commands(context)}
    return found


def test_what_counts_as_citing_the_protocol():
    """The finder sees single sections, lists and ranges, and no sections of RFCs."""
    assert cited("ok (protocol §4.1, §4.6).") == {"4.1", "4.6"}
    assert cited("# messages of the wire (protocol §1.2 to §1.7)") == {"1.2", "1.7"}
    assert cited("Protocol §8") == {"8"}
    assert cited("the ids of the protocol, the classes made of them (§2.2), and their hints (§4.3).") == {"2.2", "4.3"}
    assert cited("protocol §1.4 and the 123 of RFC 6455 §5.5") == {"1.4"}
    assert cited("RFC 9110 §5.1, a flush (§14)") == set()


def test_every_section_that_code_cites_exists():
    """A comment that sends its reader to a section of the protocol sends nobody into the void."""
    there = {match[1] for heading in headings(DOCS / "protocol.md") if (match := re.match(r"(\d+(?:\.\d+)*)\b", heading))}
    missing = {f"{path.relative_to(ROOT)}: §{number}" for path in sources() for number in cited(path.read_text()) - there}
    assert not missing
    assert {number for path in sources() for number in cited(path.read_text())} > {"1.1", "5.9", "10.2"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_sections_that_the_protocol_is_cited_for_in_documents_exist(page: Path):
    """The same for documents; inside protocol.md every section is its own."""
    there = {match[1] for heading in headings(DOCS / "protocol.md") if (match := re.match(r"(\d+(?:\.\d+)*)\b", heading))}
    text = FOREIGN.sub("", page.read_text())
    named = set(SECTION.findall(text)) if page.name == "protocol.md" else cited(text)
    assert named <= there


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_resolves(page: Path):
    """Links between documents lead to a file, and to a heading where they name one."""
    dead = set()
    for target in LINK.findall(page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (fragment and fragment not in map(anchor, headings(file))):
            dead.add(target)
    assert not dead


def test_every_test_that_a_guarantee_names_exists():
    """A guarantee without its proof is a wish."""
    named = NAMED_TEST.findall((DOCS / "guarantees.md").read_text())
    missing = {f"{file}::{name}" for file, name in named if not _proves(ROOT / "tests" / file, name)}
    assert not missing
    assert len(named) > 100


def test_every_guarantee_names_a_proof():
    """No row of the first half is without a test, and every row names its invariants."""
    first_half = (DOCS / "guarantees.md").read_text().partition("\n## Not guaranteed\n")[0]
    lines = re.findall(r"^\| .+ \|$", first_half, flags=re.MULTILINE)
    rows = [line for line in lines if "---" not in line and "| proof |" not in line]
    assert len(rows) > 40
    for row in rows:
        assert re.match(r"\| [ABTRVDNL]\d+( [ABTRVDNL]\d+)* \|", row), row
        assert NAMED_TEST.search(row), row


def test_every_folder_of_the_map_exists():
    """The map of the README names the folders that there are, and every one with code in it."""
    named = rows_of_the_map()
    assert {folder for folder in named if not (ROOT / folder).is_dir()} == set()
    assert {"pairing/", "projections/", "cli/", "tests/", "scripts/", "docs/"} <= named.keys()


def test_every_script_of_the_readme_exists_and_can_be_run():
    """`scripts/serve`, and those that the map lists by name."""
    readme = (ROOT / "README.md").read_text()
    listed = re.findall(r"`(\w+)`", rows_of_the_map()["scripts/"])
    named = {*re.findall(r"\./scripts/(\w+)", readme), *listed}
    assert {"serve", "test"} <= named
    lacking = {name for name in named if not os.access(ROOT / "scripts" / name, os.X_OK)}
    assert not lacking


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in QUOTING], ids=lambda page: page.name)
def test_every_command_that_is_named_exists(page: Path):
    """What a reader is told to type after `pairing` is a command, with its subcommand where the command is a group."""
    known = commands()
    groups = {name.partition(" ")[0] for name in known if " " in name}
    wrong = set()
    for group, sub in TYPED.findall(page.read_text()):
        whole = f"{group} {sub}" if sub and group in groups else group
        wrong |= {whole} - known
    assert not wrong


def test_the_worked_example_is_what_we_sign():
    """Protocol §3.3: the payloads of the page, signed with its seed, give the signatures of the page."""
    page = (DOCS / "protocol.md").read_text()
    identity = Identity(bytes(range(32)))
    vectors = re.findall(r"^v[23] payload  (\S+)\nsignature   (\S+)$", page, flags=re.MULTILINE)
    assert [payload[:2] for payload, _ in vectors] == ["v3", "v2", "v3"]
    assert [identity.sign(payload.encode()) for payload, _ in vectors] == [signature for _, signature in vectors]
    assert f"publicKey   {identity.key}\ndevice id   {identity.device}\n" in page


def test_the_protocol_names_everything_that_a_client_can_meet():
    """Every method, event, client id and mode, and every details.code of a refused connection is on the page."""
    page = (DOCS / "protocol.md").read_text()
    connecting = ("AUTH_", "DEVICE_", "CONTROL_UI_", "PAIRING_")
    codes = {saying.detail for saying in SAYINGS.values() if saying.detail and saying.detail.startswith(connecting)}
    words = {*METHODS, *EVENTS, *get_args(ClientId), *get_args(ClientMode), *OPERATOR_SCOPES, *codes}
    assert {word for word in words if not re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", page)} == set()


def _proves(path: Path, name: str) -> bool:
    return path.exists() and name in names_of_tests(path)
