#!/usr/bin/env python
"""Run the heart's state machine and its fold on fresh random histories, longer than the suite does.

    scripts/campaign_heart.py [--rounds 1000] [--steps 120] [--seed N]

Each round is one history of up to --steps steps. Prints the seed; the same seed gives the same histories. Exit 1 on a failure.
"""

import argparse
import importlib.util
import random
import sys
import time
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def load(path: Path) -> ModuleType:
    """Import a test file by its path: tests are no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def main() -> int:
    arguments = argparse.ArgumentParser(description="random histories of the heart")
    arguments.add_argument("--rounds", type=int, default=1000)
    arguments.add_argument("--steps", type=int, default=120)
    arguments.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = arguments.parse_args()

    sys.path.insert(0, str(ROOT))
    from hypothesis import given as over
    from hypothesis import seed, settings
    from hypothesis.stateful import run_state_machine_as_test

    machine = load(ROOT / "tests" / "heart" / "test_device_machine.py")
    longer = settings(
        machine.SUITE, max_examples=given.rounds, stateful_step_count=given.steps, derandomize=False, print_blob=True
    )

    print(f"seed {given.seed}, {given.rounds} histories of up to {given.steps} steps")
    began = time.monotonic()
    run_state_machine_as_test(seed(given.seed)(machine.Pairings), settings=longer)
    print(f"the register agrees after {time.monotonic() - began:.0f} s")

    @seed(given.seed)
    @settings(max_examples=given.rounds * 5, deadline=None, database=None)
    @over(machine.events_in_any_order)
    def folds(events: list[object]) -> None:
        assert machine.fold_any(events) == machine.fold_any(events)

    folds()
    print(f"evolve took {given.rounds * 5} lists of events in any order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
