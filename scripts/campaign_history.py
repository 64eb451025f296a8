#!/usr/bin/env python
"""Ask at random points of random histories whether looking back says what a service stopped at that moment says.

    scripts/campaign_history.py [--points 1000] [--seed N]

Prints the seed; the same seed gives the same histories and points. Exit 1 on a failure.
"""

import argparse
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    arguments = argparse.ArgumentParser(description="looking back against services that were stopped")
    arguments.add_argument("--points", type=int, default=1000)
    arguments.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = arguments.parse_args()

    sys.path.insert(0, str(ROOT))
    import anyio
    from hypothesis import HealthCheck, seed, settings
    from hypothesis import given as over
    from hypothesis import strategies as st

    from tests.history.pasts import Past, pasts
    from tests.history.test_laws import stopped_then

    asked = 0

    @seed(given.seed)
    @settings(max_examples=given.points // 5, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @over(pasts(most=60), st.integers(0, 2**32))
    def agrees(past: Past, dice: int) -> None:
        nonlocal asked
        asked += anyio.run(stopped_then, past, dice, 10)

    print(f"seed {given.seed}, at least {given.points} points")
    began = time.monotonic()
    while asked < given.points:
        agrees()
    print(f"looking back was right at {asked} points, in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
