"""Which secret goes into a connect, in the order of protocol §4.7. Holds secrets and shows none."""

from msgspec import Struct

from pairing.authority import covers
from pairing.settings.secret import Secret


class Credentials(Struct, frozen=True):
    """The gateway's shared secrets as a person gave them, and the token of a setup code; any may be absent."""

    token: Secret | None = None
    password: Secret | None = None
    bootstrap: Secret | None = None

    def __bool__(self) -> bool:
        """Say whether a shared secret was given; a setup code is for a device that has nothing else yet."""
        return self.token is not None or self.password is not None


class DeviceToken(Struct, frozen=True):
    """A device's own token of one role at one gateway, and what it covers."""

    role: str
    scopes: tuple[str, ...]
    secret: Secret


class Presented(Struct, frozen=True):
    """What a connect presents: the `auth` object's secrets, the scopes asked for, and whether the stored token is in it."""

    scopes: tuple[str, ...]
    token: Secret | None = None
    device_token: Secret | None = None
    password: Secret | None = None
    stored: bool = False
    bootstrap: Secret | None = None

    def auth(self) -> dict[str, str]:
        """Return the `auth` object of the connect frame."""
        given = {
            "token": self.token,
            "deviceToken": self.device_token,
            "password": self.password,
            "bootstrapToken": self.bootstrap,
        }
        return {name: secret.reveal() for name, secret in given.items() if secret is not None}

    @property
    def signed(self) -> str:
        """The token inside the signed bytes (protocol §3.2); the password never is."""
        first = self.token or self.device_token or self.bootstrap
        return first.reveal() if first else ""


def choose(
    given: Credentials, stored: DeviceToken | None, role: str, scopes: tuple[str, ...], *, exact: bool = False
) -> Presented:
    """Return what to present: the shared secret that was given, otherwise the stored device token, otherwise a setup code.

    The stored token's scopes replace those asked for where it does not cover them; with `exact` they do not, and the gateway
    says what is missing.
    """
    if given or stored is None:
        return Presented(scopes, token=given.token, password=given.password, bootstrap=None if given else given.bootstrap)
    kept = exact or not stored.scopes or (scopes != () and covers(role, stored.scopes, scopes))
    return Presented(scopes if kept else stored.scopes, token=stored.secret, device_token=stored.secret, stored=True)


def with_stored(first: Presented, stored: DeviceToken) -> Presented:
    """Return the one retry: the shared token as before, the stored device token beside it."""
    return Presented(first.scopes, token=first.token, device_token=stored.secret, password=first.password, stored=True)
