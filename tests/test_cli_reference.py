"""The reference of the command line is what the command line says of itself."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_reference_is_not_stale() -> None:
    """docs/commands.md is what ./scripts/reference prints."""
    made = subprocess.run([sys.executable, ROOT / "scripts" / "reference"], capture_output=True, text=True, check=True)
    assert (ROOT / "docs" / "commands.md").read_text() == made.stdout, "run: ./scripts/reference > docs/commands.md"


def test_completion_knows_the_commands() -> None:
    """The shell's question is answered with the names that fit."""
    asked = {"_PAIRING_COMPLETE": "bash_complete", "COMP_WORDS": "pairing devices re", "COMP_CWORD": "2"}
    ran = subprocess.run([sys.executable, "-m", "cli.main"], capture_output=True, text=True, check=False, env=asked)
    found = set(ran.stdout.split())
    assert found >= {"plain,reject", "plain,remove", "plain,rename", "plain,revoke", "plain,refusals"}
    assert all(name.startswith("plain,re") for name in found)
