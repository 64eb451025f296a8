"""Setup codes as a device is given them: read where no other user sees them, taken apart, and turned into a gateway to go to."""

import os
import sys
from pathlib import Path

from .options import Reach
from .target import Target
from .voice import Failure

_MOST_CHARS = 4_096


def by_code(reach: Reach, from_stdin: bool, path: Path | None, home: Path | None) -> Target:
    """Return the gateway that a setup code names, with its token and no other secret. Raises `Failure`, `BadAddress`.

    Plain text to private addresses is what such a code may ask for (protocol §6.9).
    """
    from pairing.client.address import endpoint, guard
    from pairing.client.credentials import Credentials
    from pairing.refusals import Exit
    from pairing.settings.home import default_home
    from pairing.settings.secret import Secret
    from pairing.setup_code import decode

    again = "Ask the operator for a fresh one: pairing enroll new"
    if from_stdin and path is not None:
        raise Failure(Exit.USAGE, "setup-code-twice", "a setup code comes from standard input or from a file, not both", again)
    if reach.url or reach.token or reach.password:
        said = "a setup code names the gateway and holds its own token; --url, --token and --password do not go with it"
        raise Failure(Exit.USAGE, "setup-code-and-more", said, "Leave them out, or the setup code.")
    held = decode(_read(path))
    try:
        token = Secret(held.bootstrap_token) if held else None
    except ValueError:
        token = None
    if held is None or token is None:
        raise Failure(Exit.USAGE, "setup-code-unreadable", "that is not a setup code", again)
    place = endpoint(held.url)
    guard(place, allow_private=True)
    folder = (home or default_home(os.environ)).absolute()
    return Target(place, "setup code", Credentials(bootstrap=token), folder, True)


def _read(path: Path | None) -> str:
    from pairing.refusals import Exit

    if path is None:
        if sys.stdin.isatty():
            import click

            return str(click.prompt("setup code", hide_input=True, err=True))
        return sys.stdin.readline(_MOST_CHARS)
    try:
        with path.open(encoding="ascii") as file:
            return file.read(_MOST_CHARS)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise Failure(
            Exit.USAGE, "setup-code-file", f"{path} cannot be read: {why}", "Give the file that holds the code."
        ) from None
