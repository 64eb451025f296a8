"""What an authenticated contact asks of the desk: the commands of a login, and as whom a session speaks afterwards.

It decides nothing: what a person need not be asked for is `silence`'s, what follows `pairing.decide`'s.
"""

from msgspec.structs import replace

from pairing import ids
from pairing.authority import OPERATOR, bound_device
from pairing.commands import AskNode, Caller, CloseHandoff, Knock, Standing
from pairing.device import Device
from pairing.events import Actor, Personal
from pairing.settings import Gateway
from pairing.tokens import GatewayKey, Keyring
from pairing.verdict import Method

from .address import believed
from .connect import given
from .contact import Contact, wanted
from .silence import Arrival, silence


def knock(rules: Gateway, contact: Contact, method: Method, key: GatewayKey, under: str | None, now: int) -> Knock:
    """Build the command with which an authenticated device asks to be let in, as far as it takes to foresee the answer.

    Most logins change nothing, so what only the log needs comes with `recordable`: fresh ids and the personal fields.
    """
    client, address = contact.params.client, contact.facts.origin.reported_ip
    name, agent = given(client.display_name), given(contact.params.user_agent)
    return Knock(
        id="",
        now=now,
        by=_asker(contact, method),
        device=contact.device or "",
        wanted=wanted(contact, under),
        client_id=client.id,
        client_mode=client.mode,
        request="",
        issue="",
        key=key.id,
        seen=key.tag("seen", name, address, agent, client.platform, given(client.device_family), client.id, client.mode),
        named=key.tag("named", name),
        ttl=rules.pairing.request_ttl_ms,
        silence=silence(rules, arrival(contact, method)),
        lifetimes=rules.tokens.lifetimes,
        terms=rules.pairing.approval.terms,
        most=rules.pairing.max_requests_per_device,
    )


def arrival(contact: Contact, method: Method) -> Arrival:
    """Return what silence looks at of a contact."""
    client, facts = contact.params.client, contact.facts
    return Arrival(
        origin=facts.origin,
        page=facts.browser is not None,
        role=contact.role,
        scopes=contact.scopes,
        client_id=client.id,
        client_mode=client.mode,
        method=method,
    )


def recordable(command: Knock, contact: Contact) -> Knock:
    """Return a knock that can be handed to the desk."""
    name, agent = given(contact.params.client.display_name), given(contact.params.user_agent)
    return replace(
        command,
        id=ids.uuid7(command.now),
        personal=Personal(salt=ids.salt(), name=name, address=contact.facts.origin.reported_ip, agent=agent),
        request=ids.request_id(),
        issue=ids.issue_id(),
    )


def ask_node(contact: Contact, caller: Caller, state: Device, keyring: Keyring, now: int) -> AskNode:
    """Build the command with which a node that has connected asks for approval of what it declares (protocol §6.7)."""
    params, client = contact.params, contact.params.client
    name = given(client.display_name)
    return AskNode(
        id=ids.uuid7(now),
        now=now,
        by=replace(caller, actor=Actor("device", contact.device), scopes=(), ceiling=()),
        personal=Personal(salt=ids.salt(), name=name, address=contact.facts.origin.reported_ip),
        node=contact.device or "",
        request=ids.request_id(),
        caps=params.caps,
        commands=params.commands,
        platform=client.platform,
        family=given(client.device_family),
        model=given(client.model_identifier),
        version=client.version,
        silent=False,
        named=keyring.current.tag("named", name),
        connecting=True,
        since=state.grant.created_at if state.grant else 0,
    )


def close_handoff(contact: Contact, method: Method, state: Device, issue: str | None, now: int) -> CloseHandoff | None:
    """Build the command by which the first use of a token ends what its predecessor was left; None where nothing was (T1)."""
    token = state.token(contact.role)
    if issue is None or token is None or token.issue != issue or token.handoff is None:
        return None
    by = _asker(contact, method)
    return CloseHandoff(id=ids.uuid7(now), now=now, by=by, device=contact.device or "", role=contact.role, issue=issue, used=True)


def _asker(contact: Contact, method: Method) -> Caller:
    return Caller(
        actor=Actor("device", contact.device),
        scopes=(),
        role=contact.role,
        method=method,
        origin=believed(contact.facts.origin),
        address=contact.facts.origin.reported_ip,
    )


def caller(rules: Gateway, contact: Contact, method: Method, state: Device | None, issue: str | None) -> Caller:
    """Return what a logged-in session may call itself in commands (protocol §6.2); `issue` is the token that it came by."""
    paired = state is not None and state.grant is not None and not contact.exempt
    standing = None
    by_secret = method not in {"device-token", "bootstrap-token"}
    if paired and contact.device is not None:
        standing = Standing(contact.device, contact.role, issue)
    # A page in a browser of this host is lent nothing: it gets no silent upgrade, and must not give itself one (A21).
    here = contact.facts.origin.local and contact.facts.browser is None
    trusted = by_secret and here and contact.role == OPERATOR
    return Caller(
        actor=Actor("shared-secret" if by_secret else "device", contact.device),
        scopes=contact.scopes,
        ceiling=rules.pairing.local_ceiling if trusted else (),
        own=bound_device(method=method, device=contact.device, scopes=contact.scopes),
        standing=standing,
        role=contact.role,
        method=method,
        origin=believed(contact.facts.origin),
        address=contact.facts.origin.reported_ip,
    )
