"""The reference of every setting as Markdown, made from the table in `keys`.

`python -m pairing.settings.reference` prints what `docs/settings.md` has to hold.
"""

import sys
from collections.abc import Iterator

from .home import CONFIG, SHARED_TOKEN
from .keys import KEYS, Key
from .kinds import Limit, ListOf, plain

_PREFACE = f"""\
# Settings

Every setting, made from the table in `pairing/settings/keys.py`; change it there.

A value comes from, each overriding the one before: its default, the file `{CONFIG}` in the state folder
(`$PAIRING_HOME`, default `~/.pairing`), the environment, a flag. `pairing config list` shows what holds and where it came
from, `pairing config path` where the file is, `pairing config set KEY VALUE` changes the file and keeps its comments.

```toml
[gateway]
port = 18789

[gateway.auth]
mode = "token"
```

- A wrong key, type or value stops the start; all of them are reported at once, each with its line.
- A *limit* cannot be switched off: a figure outside its range is ignored with a warning, and the default holds.
- A file with a secret in it must be closed to other users (`chmod 600`).
- Without a configured token, the one in `{SHARED_TOKEN}` of the state folder holds, made at first start.
- An empty environment variable counts as not set. A path in the file starts from the state folder.
- In the environment, and for `pairing config set`, a list is written with commas.
"""


def reference() -> str:
    """Return the text of `docs/settings.md`."""
    return _PREFACE + "".join(line for key in KEYS.values() for line in _entry(key))


def _entry(key: Key) -> Iterator[str]:
    setting = key.setting
    yield f"\n## `{key.name}`\n\n{setting.meaning}\n\n"
    yield f"- {'Limit' if isinstance(setting.kind, Limit) else 'Value'}: {setting.kind.expects}\n"
    yield f"- Default: {_default(key)}\n"
    if isinstance(setting.kind, ListOf):
        yield f"- Each element: {setting.kind.element.expects}\n"
    if setting.env:
        yield f"- Environment: `{setting.env}`\n"
    if setting.flag:
        yield f"- Flag: `{setting.flag}`\n"


def _default(key: Key) -> str:
    match plain(key.default):
        case None:
            return "not set"
        case bool() as flag:
            return f"`{str(flag).lower()}`"
        case []:
            return "empty"
        case list() as items:
            return ", ".join(f"`{item}`" for item in items)
        case value:
            return f"`{value}`"


if __name__ == "__main__":
    sys.stdout.write(reference())
