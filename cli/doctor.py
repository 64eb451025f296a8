"""`pairing doctor`: looks at a state folder, its log, its port and its host, and says what is wrong and what to run next.

It changes nothing. What it could not look at it says, too.
"""

import os
from typing import TYPE_CHECKING

import click

from .options import json_option
from .running import answer
from .voice import Told, fields

if TYPE_CHECKING:
    from .findings import Report


@click.command("doctor")
@click.option("--quick", is_flag=True, help="Do not verify the rows of the log.")
@json_option
def doctor(quick: bool, as_json: bool) -> None:
    """Find what is wrong here, and the next command for each.

    Exit code 7 where an error was found, 1 where a warning was or a check could not be run, else 0.
    """

    async def look() -> Told:
        from pairing.settings import default_home

        from .findings import examine
        from .logs import configure
        from .symptoms import look

        configure("error", "console")
        return _told(str(home := default_home(os.environ)), examine(await look(home, os.environ, quick=quick)))

    answer(look, as_json)


def _told(home: str, report: "Report") -> Told:
    document = {
        "home": home,
        "findings": [finding._asdict() for finding in report.findings],
        "notRun": [{"check": name, "why": why} for name, why in report.not_run],
    }
    blocks = []
    for finding in report.findings:
        below = fields([("found", finding.found), ("next", finding.next)])
        blocks.append(f"{finding.severity}: {finding.name}\n{below}")
    if not blocks:
        blocks.append(f"Nothing is wrong with {home}.")
    notes = tuple(f"not run: {', '.join(names)}: {why}" for why, names in _by_reason(report).items())
    return Told(document, "\n".join(blocks), notes, _exit(report))


def _by_reason(report: "Report") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, why in report.not_run:
        found.setdefault(why, []).append(name)
    return found


def _exit(report: "Report") -> int:
    from pairing.refusals import Exit

    severities = {finding.severity for finding in report.findings}
    if "error" in severities:
        return Exit.BROKEN
    return Exit.FAILED if "warning" in severities or report.not_run else Exit.OK
