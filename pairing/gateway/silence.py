"""What may be approved without a person (protocol §5.2, §5.3). Pure; the door asks, and so does a rehearsal.

It says up to where silence goes; whether a request is granted so is for `decide`.
"""

from msgspec import Struct

from pairing.authority import NODE, OPERATOR
from pairing.commands import Silence
from pairing.events import Need
from pairing.settings import Gateway
from pairing.verdict import Method

from .address import Networks, Origin, cidr_allows
from .clients import is_control_ui, is_native_ui, is_webchat


class Arrival(Struct, frozen=True, kw_only=True):
    """All that silence looks at. `page`: a browser page opened the connection; `method`: how it logged in."""

    origin: Origin
    page: bool
    role: str
    scopes: tuple[str, ...]
    client_id: str
    client_mode: str
    method: Method


def silence(rules: Gateway, arrival: Arrival) -> Silence | None:
    """Return what may be approved without a person for an arrival, None where nothing may."""
    known_page = is_control_ui(arrival.client_id) or is_webchat(arrival.client_id, arrival.client_mode)
    local, bare = arrival.origin.local, not arrival.page
    needs: list[Need] = []
    if local and (bare or known_page) and arrival.method != "device-token":
        needs.append("not-paired")
        if bare and arrival.role == OPERATOR:
            # What a node may do is never widened silently: its scopes know no ceiling (A11).
            needs += ["role-upgrade", "scope-upgrade"]
    if local and bare and is_native_ui(arrival.client_id, arrival.client_mode):
        needs.append("metadata-upgrade")
    if needs:
        return Silence("silent", tuple(needs), rules.pairing.local_ceiling)
    trusted = Networks(rules.nodes.pairing.auto_approve_cidrs)
    bare_node = arrival.role == NODE and not arrival.scopes and bare and not known_page
    return Silence("trusted-cidr", ("not-paired",), ()) if bare_node and cidr_allows(arrival.origin, trusted) else None
