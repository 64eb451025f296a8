"""A connection that has said who it is: where it comes from, what it presented, and what it wants to be.

It judges nothing; `login` examines it.
"""

from msgspec import Struct

from pairing.commands import Wanted
from pairing.refusals import Reason
from pairing.verdict import Method

from .address import Origin
from .connect import ConnectParams, given
from .limits import Source


class Facts(Struct, frozen=True):
    """What is known of a connection before it says anything: where it comes from, and the browser page behind it."""

    origin: Origin
    browser: str | None
    host: str | None
    nonce: str

    @property
    def source(self) -> Source:
        """Whom failed attempts are counted against."""
        return Source(self.origin.client_ip, self.browser, self.origin.local)


class Contact(Struct, frozen=True, kw_only=True):
    """A connection whose frame, origin and key were found good; what it presented is known, what it may have is not yet.

    `device` is None for the few operators that need none; `scopes` are then what they keep.
    """

    facts: Facts
    params: ConnectParams
    protocol: int
    role: str
    scopes: tuple[str, ...]
    method: Method | None
    shared: Reason | None
    device: str | None
    key: str
    exempt: bool

    @property
    def bootstrap(self) -> str | None:
        """What may be the token of a setup code."""
        return self.params.auth.presented("bootstrap_token")

    @property
    def candidate(self) -> str | None:
        """What may be a device token."""
        auth = self.params.auth
        return auth.presented("device_token") or auth.presented("token")


def wanted(contact: Contact, under: str | None) -> Wanted:
    """Return what a contact with a device wants to be."""
    client = contact.params.client
    return Wanted(
        key=contact.key,
        role=contact.role,
        scopes=contact.scopes,
        platform=client.platform,
        family=given(client.device_family),
        under=under,
    )
