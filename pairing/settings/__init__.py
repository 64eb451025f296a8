"""Typed settings from file, environment and flags, each value with its source.

Read in this order: `secret`, `problems`, `kinds`, `words`, `keys` (the table), `lines`, `home`, `load`; then `digest`,
`edit` and `reference`, which nothing here needs. Never logs, never writes a setting by itself.
"""

from .digest import policy_digest
from .home import config_path, default_home, ensure_home
from .keys import KEYS, Gateway, Key, Log, Settings
from .load import conflicts, load, load_file
from .problems import Problem, SettingsError
from .secret import Secret

__all__ = [
    "KEYS",
    "Gateway",
    "Key",
    "Log",
    "Problem",
    "Secret",
    "Settings",
    "SettingsError",
    "config_path",
    "conflicts",
    "default_home",
    "ensure_home",
    "load",
    "load_file",
    "policy_digest",
]
