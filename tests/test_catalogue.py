"""What is documented is what the code says: events, methods, refusals."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_catalogue_pages_are_current():
    """A new event, method or reason without its page fails here; run scripts/catalogue.py."""
    spec = importlib.util.spec_from_file_location("catalogue", ROOT / "scripts" / "catalogue.py")
    catalogue = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(catalogue)
    assert catalogue.stale() == []
