"""The same gateway that the cases speak to, for those who mean it harm."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_CASES = Path(__file__).parents[1] / "cases" / "conftest.py"


def _cases() -> ModuleType:
    spec = importlib.util.spec_from_file_location("attacked_world", _CASES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_module = _cases()
world = _module.world
elsewhere = _module.elsewhere
