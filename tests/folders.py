"""State folders as the command line finds them without a gateway: begun once, and with devices brought in from elsewhere."""

import asyncio
import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from cli.compose import open_all
from cli.main import pairing
from pairing import settings
from pairing.identity import Identity
from pairing.log.sqlite import SqliteLog


def run(home: Path, *args: str) -> Result:
    return CliRunner().invoke(pairing, args, env={"PAIRING_HOME": str(home)})


def begun(folder: Path, **flags: Any) -> Path:
    """Make a state folder in which a gateway has run once."""
    settings.ensure_home(folder)

    async def start() -> None:
        async with open_all(settings.load(folder, env={}, flags=flags), env={}):
            pass

    asyncio.run(start())
    return folder


def record(device: Identity) -> dict[str, Any]:
    """Return what another gateway keeps of a paired device that may read."""
    token = {"token": f"made-up-token-{device.device[:29]}", "role": "operator", "scopes": ["operator.read"]}
    about = {"deviceId": device.device, "publicKey": device.key, "role": "operator", "scopes": ["operator.read"]}
    return about | {"tokens": {"operator": token}}


def bring(home: Path, theirs: Path, *devices: Identity) -> None:
    """Import devices from the state folder of another gateway, which is made for it."""
    (theirs / "devices").mkdir(parents=True)
    (theirs / "devices" / "paired.json").write_text(json.dumps({device.device: record(device) for device in devices}))
    assert run(home, "import", "openclaw", str(theirs)).exit_code == 0


def positions(home: Path) -> int:
    """Return how many rows a folder's log has."""

    async def look() -> int:
        log = await SqliteLog.open(home / "log.db", readonly=True)
        try:
            return (await log.head()).position
        finally:
            await log.close()

    return asyncio.run(look())
