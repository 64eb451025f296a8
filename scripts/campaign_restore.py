"""Many random histories, each taken back to a random position: no credential that was dead works afterwards.

.venv/bin/python scripts/campaign_restore.py --histories 10000 --seed 1
"""

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    story = import_module("tests.heart.test_restoring")
    began = time.monotonic()
    for seed in range(asked.seed, asked.seed + asked.histories):
        story.check_nothing_dead_comes_back(seed)
    print(f"{asked.histories} histories from seed {asked.seed}: nothing dead came back, in {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
