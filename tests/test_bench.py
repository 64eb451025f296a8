"""The bench runs, on a small scale, so that it can be relied upon when figures are wanted. It judges no figure."""

import importlib
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
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


def test_a_made_up_log_is_the_same_for_the_same_seed_and_holds_what_a_gateway_writes(tmp_path: Path, monkeypatch):
    """Figures can be compared only if everybody measures on the same log, and mean something only if it is one of ours."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    lives = importlib.import_module("bench_lives")
    heads = []
    for name in ("one", "other"):
        assert lives.write(tmp_path / name, 5_000, 500) == 5_000
        with closing(sqlite3.connect(tmp_path / name / "log.db")) as database:
            heads += database.execute("SELECT hash FROM events ORDER BY position DESC LIMIT 1").fetchall()
            kinds = {kind for (kind,) in database.execute("SELECT DISTINCT kind FROM events")}
    assert heads[0] == heads[1]
    assert kinds >= {
        "request.opened",
        "request.approved",
        "request.rejected",
        "request.expired",
        "device.paired",
        "device.upgraded",
        "device.renamed",
        "device.removed",
        "device.locked",
        "device.unlocked",
        "token.rotated",
        "token.revoked",
        "node.approved",
        "enrolment.redeemed",
        "gateway.started",
    }
