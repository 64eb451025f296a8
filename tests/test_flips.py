"""Random damage to logs, backups and exports, a few hundred rounds of `scripts/campaign_flips.py` (L5, D2)."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from pairing.log.chain import GENESIS, flaw, link
from pairing.log.port import Draft

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


@pytest.fixture(scope="module")
def campaign() -> Any:
    spec = importlib.util.spec_from_file_location("campaign_flips", SCRIPTS / "campaign_flips.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["campaign_flips"] = module
    spec.loader.exec_module(module)
    return module


def test_all_damage_is_found_and_none_is_served(campaign: Any) -> None:
    """Every round is refused, found, or shown to be harmless; no row is served that was not written so."""
    counted, missed = campaign.campaign(400, 3)
    assert missed == []
    assert sum(counted.values()) == 400
    for target in ("log", "backup", "export"):
        assert any(found[0] == target and found[2].startswith(("found", "refused")) for found in counted)
    assert not any(found[0] == "export" and found[2].startswith("harmless: every") for found in counted)


ONCE_MISSED = [(1, n) for n in (685, 928, 1732, 3573, 3866, 5125)] + [(20261122, n) for n in (29354, 50965, 58288, 71809)]


@pytest.mark.parametrize(("seed", "number"), ONCE_MISSED)
def test_what_was_missed_once_is_not_missed_again(campaign: Any, seed: int, number: int) -> None:
    """Rows that a damaged index finds under another's command, or twice, a row of nulls, a 0 for no hash, a schema in blobs."""
    _, missed = campaign.part(seed, range(number, number + 1))
    assert missed == []


def test_a_row_that_lost_everything_fits_nothing() -> None:
    """A hash that cannot be worked out does not equal a hash that is not there."""
    import msgspec

    row = link(GENESIS, "d:1", 1, 1, Draft("k", b"{}", b"{}"))
    gone: Any = dict.fromkeys(field for field in row.__struct_fields__ if field not in {"stream", "kind"})
    assert flaw(msgspec.structs.replace(row, **gone), GENESIS.hash) == "its hash does not fit"
