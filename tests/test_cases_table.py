"""The table of cases tells the truth: every row names tests that exist and that say so, and no row that is proved is left out."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "docs" / "cases.md"
DIFFERENCES = ROOT / "docs" / "differences.md"
GROUPS = {"FR", "HE", "ID", "AU", "RL", "OR", "PL", "CI", "UP", "PD", "RP", "TK", "EV", "BS", "NP", "V9"}
ROW = re.compile(r"\| ([A-Z][A-Z0-9]-\d\d) \| (.+) \| (\d*) \| (.*) \|")
LINK = re.compile(r"\[`(test_\w+)`\]\(\.\./([\w/]+\.py)\)")
CASE = re.compile(r"\b[A-Z][A-Z0-9]-\d\d\b")


def rows() -> list[tuple[str, str, str, str]]:
    lines = (line for line in TABLE.read_text("utf-8").splitlines() if CASE.match(line[2:7]))
    matched = [(line, ROW.fullmatch(line)) for line in lines]
    assert [line for line, found in matched if found is None] == []
    return [found.groups() for _, found in matched if found]  # type: ignore[misc]


@cache
def claims(path: Path) -> dict[str, set[str]]:
    """Return which rows each test of a file claims in its docstring."""
    functions = ast.walk(ast.parse(path.read_text("utf-8")))
    tests = [f for f in functions if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) and f.name.startswith("test_")]
    return {test.name: set(CASE.findall(ast.get_docstring(test) or "")) for test in tests}


def test_every_row_names_tests_that_exist_and_claim_it() -> None:
    """No row without a proof, and no proof that does not know what it proves."""
    wrong = []
    for row, proofs, _, _ in rows():
        links = LINK.findall(proofs)
        wrong += [] if links else [f"{row}: no test"]
        wrong += [f"{row}: {name}" for name, path in links if row not in claims(ROOT / path).get(name, set())]
    assert wrong == []


def test_every_row_that_a_case_proves_is_in_the_table_with_all_its_tests() -> None:
    """A test that claims a row is named beside it."""
    named = {(row, name) for row, proofs, _, _ in rows() for name, _ in LINK.findall(proofs)}
    claimed = {
        (row, name)
        for path in (ROOT / "tests" / "cases").glob("test_*.py")
        for name, cases in claims(path).items()
        for row in cases
        if row[:2] in GROUPS
    }
    assert sorted(claimed - named) == []


def test_rows_are_there_once_and_all_groups_are_there() -> None:
    """One line a row, every group."""
    ids = [row for row, *_ in rows()]
    assert len(ids) == len(set(ids))
    assert {row[:2] for row in ids} == GROUPS


def test_where_we_differ_the_difference_is_named_and_explained() -> None:
    """A number is one of the page of differences, and comes with a sentence."""
    numbers = set(re.findall(r"^(\d+)\. ", DIFFERENCES.read_text("utf-8"), re.MULTILINE))
    unexplained = [row for row, _, number, how in rows() if number and (number not in numbers or not how)]
    assert unexplained == []
