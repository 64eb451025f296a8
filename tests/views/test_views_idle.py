"""What is known of disuse: a lost, old or emptied file may only let a token live longer, never shorter."""

from pathlib import Path
from unittest.mock import patch

from projections import activity as notes
from projections.activity import Activity

A = "abcd" + "0" * 60
DAY = 86_400_000
NOW = 1_777_000_000_000


def at(ms: int):
    return patch.object(notes.time, "time_ns", lambda: ms * 1_000_000)


async def test_a_use_is_the_latest_of_the_role_or_without_a_token(tmp_path: Path) -> None:
    """T13: coming by the shared secret is use too; another role's use is not."""
    activity = await Activity.open(tmp_path / "activity.db")
    assert await activity.last_use(A, "node") is None
    activity.note_use(A, "node", "i", 5, None)
    activity.note_use(A, "operator", "i", 9, None)
    assert await activity.last_use(A, "node") == 5
    activity.note_use(A, "", "", 7, None)
    await activity.flush()
    assert await activity.last_use(A, "node") == 7
    await activity.close()


async def test_a_file_that_is_kept_remembers_since_when(tmp_path: Path) -> None:
    """A restart forgets nothing."""
    with at(NOW):
        await (await Activity.open(tmp_path / "activity.db")).close()
    with at(NOW + 60_000):
        again = await Activity.open(tmp_path / "activity.db")
    assert again.since == NOW
    await again.close()


async def test_a_file_that_is_lost_begins_now(tmp_path: Path) -> None:
    """What was used before is unknown, and so counts as used until now."""
    path = tmp_path / "activity.db"
    with at(NOW):
        await (await Activity.open(path)).close()
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)
    with at(NOW + DAY):
        again = await Activity.open(path)
    assert again.since == NOW + DAY
    await again.close()


async def test_an_old_copy_that_was_put_back_begins_now(tmp_path: Path) -> None:
    """A backup of last month does not know who came since; nor does a gateway that was off."""
    path = tmp_path / "activity.db"
    with at(NOW):
        activity = await Activity.open(path)
        activity.note_use(A, "node", "i", NOW, None)
        await activity.close()
    with at(NOW + 30 * DAY):
        again = await Activity.open(path)
    assert again.since == NOW + 30 * DAY
    await again.close()


async def test_a_device_that_was_forgotten_counts_as_used_then(tmp_path: Path) -> None:
    """L6: erasing what is known of a device does not cost it its token."""
    with at(NOW):
        activity = await Activity.open(tmp_path / "activity.db")
        activity.note_use(A, "node", "i", NOW - 80 * DAY, None)
        await activity.flush()
        await activity.forget(A)
        assert await activity.last_use(A, "node") == NOW
        assert await activity.uses() == {}
        await activity.close()
