"""How far webhooks have got: kept, dropped, leased to one process, and begun anew where the file is no file of ours."""

from pathlib import Path

import pytest

from pairing.outbox import Blocked, OutboxUnavailable, Progress
from projections.outbox import FileOutbox

AT = Progress(2, 40, blocked={"device:d": Blocked(3, 31, 2, 1_000, 2_000, "HTTP 500")}, tried=9, failed=2, owed_at=900)


async def test_what_was_kept_is_there_for_the_next_process(tmp_path: Path) -> None:
    one = FileOutbox(tmp_path / "hooks.db")
    assert await one.progress("h") is None
    assert list(tmp_path.iterdir()) == []
    await one.keep("h", AT)
    await one.close()
    other = FileOutbox(tmp_path / "hooks.db")
    assert await other.progress("h") == AT
    assert await other.progress("another") is None
    await other.drop("h")
    assert await other.progress("h") is None
    await other.close()
    assert (tmp_path / "hooks.db").stat().st_mode & 0o077 == 0


def test_what_is_owed_begins_at_the_oldest_event_that_waits() -> None:
    assert (AT.owed, AT.owed_since) == (30, 900)
    assert (Progress(1, 40).owed, Progress(1, 40).owed_since) == (40, None)


async def test_one_process_at_a_time_has_the_lease(tmp_path: Path) -> None:
    """The kernel's lock, which dies with its process."""
    one, other = FileOutbox(tmp_path / "hooks.db"), FileOutbox(tmp_path / "hooks.db")
    assert one.take_lease()
    assert one.take_lease()
    assert not other.take_lease()
    one.give_lease()
    assert other.take_lease()
    await other.close()
    assert one.take_lease()
    await one.close()


async def test_a_damaged_file_is_begun_anew_and_one_that_cannot_be_used_is_said_to_be(tmp_path: Path) -> None:
    """D1: a repeat is borne, a guess is not: where nothing can be kept nothing is sent."""
    (tmp_path / "hooks.db").write_bytes(b"this is no database" * 500)
    outbox = FileOutbox(tmp_path / "hooks.db")
    assert await outbox.progress("h") is None
    await outbox.keep("h", AT)
    assert await outbox.progress("h") == AT
    await outbox.close()
    (tmp_path / "folder" / "hooks.db").mkdir(parents=True)
    unusable = FileOutbox(tmp_path / "folder" / "hooks.db")
    with pytest.raises(OutboxUnavailable, match="folder"):
        await unusable.progress("h")
    await unusable.close()
