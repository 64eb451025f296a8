"""What other users of the host, and other processes of this one's kind, can do to the state folder."""

import os
import threading

import pytest

from pairing import keyring


@pytest.fixture
def careless():
    """A umask that takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


async def test_nothing_in_the_state_folder_is_open_to_others_whatever_the_umask(world, careless):
    """L7, T14: folder 0700, every file 0600, while the service runs and writes."""
    w = await world()
    boss = await w.admin()
    await w.grant(boss, w.device())
    await w.opened.activity.flush()
    home = w.rules.home
    assert home.stat().st_mode & 0o077 == 0
    found = {path.name: path.stat().st_mode & 0o077 for path in home.rglob("*")}
    assert {"log.db", "gateway-key", "shared-token", "views.db", "activity.db"} <= set(found)
    assert not any(found.values()), found


def test_processes_with_the_same_number_make_one_key_and_not_two_halves(tmp_path, monkeypatch):
    """D4: two containers on one volume are both process 1; whoever is second takes the first one's key, unchanged."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    made, start = [], threading.Barrier(8)

    def make() -> None:
        start.wait()
        made.append(keyring.create(tmp_path).current.id)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert set(made) == {keyring.load(tmp_path).current.id}
    assert [path.name for path in tmp_path.iterdir()] == [keyring.FILE]


def test_a_key_that_others_can_read_is_no_key(tmp_path):
    """L7: also when it is reached by a link."""
    keyring.create(tmp_path)
    (tmp_path / keyring.FILE).chmod(0o644)
    with pytest.raises(keyring.KeyUnusable, match="chmod 600"):
        keyring.load(tmp_path)
