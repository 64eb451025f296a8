"""`pairing`: the root of the command line. It imports nothing heavy: a command's own file is loaded when the command is run.

Every error ends here: it becomes one message, one next command and an exit code.
"""

import importlib
import os
import sys
from typing import Any, NoReturn

import click

# Name: where the command is, and what it does in a line, so that help need not load it.
COMMANDS = {
    "serve": (".serve:serve", "Run the gateway until SIGTERM or Ctrl-C."),
    "devices": (".devices:devices", "Show, approve and manage devices."),
    "nodes": (".nodes:nodes", "Show, approve and manage what nodes may do."),
    "enroll": (".enroll:enroll", "Mint, list, show and revoke setup codes."),
    "connect": (".connect:connect", "Connect to a gateway as a device."),
    "audit": (".audit:audit", "Show what happened, by whom, why, and what it changed."),
    "history": (".history:history", "Tell the life of one device."),
    "diff": (".diff:diff", "Show who gained and lost what between two moments."),
    "could": (".could:could", "Say whether a device could do something, and prove it."),
    "explain": (".explain:explain", "Say why a device is let in or not, and what to do next."),
    "blast": (".blast:blast", "Show all that follows from a device, an address, a code or an actor."),
    "rehearse": (".rehearse:rehearse", "Say what would have gone otherwise under other settings."),
    "restore": (".restore:restore", "Go back to how everything stood, bringing no dead secret to life."),
    "undo": (".restore:undo", "Take one command back."),
    "hooks": (".hooks:hooks", "Send events to other programs as they happen."),
    "import": (".moving:imports", "Take over the devices of another gateway."),
    "config": (".config:config", "Show and change the settings."),
    "log": (".log:log", "Look at the event log itself: whether it is whole, proofs of that, and copies."),
    "views": (".views:views", "Compare the views with the log, and build them anew."),
    "doctor": (".doctor:doctor", "Find what is wrong here, and the next command for each."),
}
EPILOG = """\
\b
Exit codes:
  0  done
  1  nothing was done: a preview, or a failure of no other kind
  2  the command was not understood
  3  refused, or waiting for approval
  4  no such device, request or key
  5  ambiguous: several devices or requests were meant
  6  no gateway answered in time
  7  something is broken: the log, a file, the program

\b
PAIRING_HOME         state folder (default ~/.pairing)
PAIRING_GATEWAY_URL  the gateway to talk to, with PAIRING_GATEWAY_TOKEN
                     or PAIRING_GATEWAY_PASSWORD
"""


class Root(click.Group):
    """A group whose commands are loaded one by one, and whose errors are told in one voice."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module, __package__), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run, and end the process with the exit code of what happened."""
        given = extra.pop("args", args[0] if args else None)
        typed: list[str] = list(sys.argv[1:] if given is None else given)
        extra["standalone_mode"] = False
        try:
            sys.exit(super().main(typed, **extra) or 0)
        except click.exceptions.NoArgsIsHelpError as empty:
            click.echo(empty.ctx.get_help() if empty.ctx else "")
            sys.exit(0)
        except click.ClickException as error:
            _misunderstood(error, "--json" in typed)
        except (KeyboardInterrupt, click.Abort):
            click.echo("pairing: interrupted", err=True)
            sys.exit(130)
        except Exception as error:
            _failed(error, "--json" in typed)


def _misunderstood(error: click.ClickException, as_json: bool) -> NoReturn:
    from .voice import Failure, fail

    context = getattr(error, "ctx", None)
    path = context.command_path if context else "pairing"
    message = error.format_message()
    # Click ends its sentences; messages of ours are not sentences.
    fail(Failure(error.exit_code, "usage", message.removesuffix("."), f"{path} --help"), as_json)


def _failed(error: Exception, as_json: bool) -> NoReturn:
    from .failures import explained
    from .voice import Failure, fail

    if os.environ.get("PAIRING_DEBUG") == "1":
        raise error
    told = explained(error)
    if told is None:
        # The text of an error that nobody foresaw may hold anything, a secret included.
        where = f"an unexpected {type(error).__name__}"
        told = Failure(7, "unexpected", where, "Run it again with PAIRING_DEBUG=1 to see where it comes from.")
    fail(told, as_json)


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"pairing {version('pairing-gateway')}")
        ctx.exit()


@click.group(
    "pairing", cls=Root, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version.")
def pairing() -> None:
    """Device pairing: who may connect, who let them in, and everything that happened since.

    \b
    A first session:
      pairing serve
      pairing connect --wait          (on the device)
      pairing devices list
      pairing devices approve REQUEST
    """


def main() -> NoReturn:
    """Run the command line."""
    pairing.main(prog_name="pairing")
    raise SystemExit(0)


if __name__ == "__main__":
    main()
