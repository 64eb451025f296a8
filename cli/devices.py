"""`pairing devices`: who is paired, who asks to be, and every decision about them. Its commands are in `devices_*`."""

import click

from .devices_approve import approve
from .devices_change import clear, reject, remove, rename
from .devices_due import due
from .devices_forget import forget
from .devices_lock import lock, unlock
from .devices_prune import prune
from .devices_refusals import refusals
from .devices_show import list_, show
from .devices_tokens import revoke, rotate
from .devices_wait import wait
from .devices_watch import watch
from .devices_who import who


@click.group("devices", invoke_without_command=True)
@click.pass_context
def devices(context: click.Context) -> None:
    """Show, approve and manage devices.

    DEVICE is a full device id, its first 4 or more characters, or a label. What would be ambiguous is listed, and nothing is
    changed.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (
    list_,
    show,
    approve,
    reject,
    remove,
    clear,
    due,
    prune,
    lock,
    unlock,
    rename,
    rotate,
    revoke,
    refusals,
    forget,
    who,
    watch,
    wait,
):
    devices.add_command(_command)
