"""Spans of time as people type them."""

import click
import pytest

from cli.durations import DURATION


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("90s", 90_000),
        ("10m", 600_000),
        ("2h", 7_200_000),
        ("1d", 86_400_000),
        ("1h30m", 5_400_000),
        (" 5M ", 300_000),
        ("250ms", 250),
    ],
)
def test_a_span_has_a_unit(text: str, ms: int) -> None:
    """Units are s, m, h, d, w and ms, in falling order where there are several."""
    assert DURATION.convert(text, None, None) == ms


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "1.5h", "10 minutes", "30m1h", "1h1h", "5y", "1e3s"])
def test_what_has_none_is_refused(text: str) -> None:
    """A bare number could be seconds or minutes: it is named as what it is, and an example is given."""
    with pytest.raises(click.BadParameter, match="no span of time; write one like 90s"):
        DURATION.convert(text, None, None)
