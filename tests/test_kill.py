"""The gateway killed at random moments under load, a few times; `scripts/campaign_kill.py` does it by the hundred."""

import sys
from importlib import util
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "campaign_kill.py"


async def test_kill_at_any_moment_loses_nothing_that_was_answered_and_leaves_nothing_half_done(tmp_path: Path):
    """D4, D6, D9, D10, V1, V7: every answered command outlives SIGKILL, every other one happened whole or not at all."""
    spec = util.spec_from_file_location("campaign_kill", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules["campaign_kill"] = module
    spec.loader.exec_module(module)
    tally = await module.campaign(tmp_path, rounds=6, seed=20_26)
    assert tally.faults == []
    assert tally.rounds == 6
    assert tally.answered > 0
    assert len(tally.ready_s) == 7
