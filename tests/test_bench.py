"""The bench runs, on a small scale, so that it can be relied upon when figures are wanted. It judges no figure."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def test_the_bench_measures_every_promise_and_says_of_each_whether_it_holds():
    """Every row has a target, a figure and a verdict; what could not be measured says so instead of passing."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PAIRING_")}
    done = subprocess.run(
        [sys.executable, SCRIPTS / "bench.py", "--quick", "--json"], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) >= 20
    assert len({row["what"] for row in rows}) == len(rows)
    for row in rows:
        assert row["target"]
        assert row["verdict"] in {"held", "MISSED", "not measured"}
        assert (row["held"] is None) == (row["verdict"] == "not measured")
        assert row["figure"] or row["ratio"] is not None
    facts = {row["what"].strip(): row for row in rows}
    assert facts["rows by a device after its removal"]["held"] is True


def test_the_bench_needs_nothing_but_its_wrapper():
    """The wrapper sets up the environment that the bench names, and hands over its arguments."""
    text = (SCRIPTS / "bench").read_text()
    assert "pairing_environment bench" in text
    assert '"$@"' in text
    assert os.access(SCRIPTS / "bench", os.X_OK)
