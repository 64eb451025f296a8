"""Devices that come to several processes at once; `scripts/campaign_enrol.py` does it by the thousand."""

import sys
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "campaign_enrol.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = util.spec_from_file_location("campaign_enrol", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules["campaign_enrol"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kill", [False, True])
async def test_several_processes_let_in_exactly_as_many_as_a_key_has_uses(script: ModuleType, tmp_path: Path, kill: bool) -> None:
    """B1, D4, D9: three processes on one file; also where one of them is killed on the way, nobody is half in."""
    (found,) = await script.campaign(tmp_path, rounds=1, processes=3, devices=90, uses=7, kill=kill)
    assert found.faults == ()
    assert found.redeemed == 7
    assert found.overused == 1
