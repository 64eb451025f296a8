"""Verifying and rebuilding the views of a running gateway."""

import sqlite3
from contextlib import closing

READ = ("operator.read",)


async def test_a_running_gateway_verifies_its_views_and_counts_what_differs(world):
    """L11: what was changed in the file is told over the wire and in the metrics; rebuilding mends it."""
    w = await world()
    admin = await w.admin()
    await w.grant(admin, w.device(), scopes=READ)
    found = (await admin.call("views.verify", {})).payload
    assert found["differences"] == []
    with closing(sqlite3.connect(w.rules.home / "views.db")) as forger, forger:
        forger.execute("UPDATE devices SET means = 'silent' WHERE means = 'owner'")
    (wrong,) = (await admin.call("views.verify", {})).payload["differences"]
    assert (wrong["table"], wrong["count"]) == ("devices", 1)
    await w.gateway.watch.look()
    assert b"pairing_view_differences 1.0" in w.gateway.metrics.text()
    assert (await admin.call("views.rebuild", {})).ok
    assert (await admin.call("views.verify", {})).payload["differences"] == []


async def test_both_need_admin(world):
    """A6: whoever may only read or pair cannot make a gateway read its whole log."""
    w = await world()
    admin = await w.admin()
    pairer = await w.grant(admin, w.device(), scopes=("operator.pairing",))
    for method in ("views.verify", "views.rebuild"):
        assert (await pairer.call(method, {})).message == "missing scope: operator.admin"
