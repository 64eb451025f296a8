"""What is said on connecting, without a socket: who this client is, what it sends, what the answer means (protocol §2, §3.2).

Pure but for the facts of this host in `here`. The frame holds secrets; nothing here prints one.
"""

import platform
import uuid
from typing import Any

import msgspec
from msgspec import Raw, Struct

from pairing.identity import Identity, Proof
from pairing.settings.secret import Secret

from .credentials import DeviceToken, Presented

PROTOCOLS = (3, 4)
_PLATFORMS = {"Linux": ("linux", "Linux"), "Darwin": ("macos", "Mac"), "Windows": ("windows", "Windows")}


class ClientInfo(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Who a client says it is: ids and modes are those of protocol §2.2."""

    id: str
    mode: str
    version: str
    platform: str
    device_family: str | None = None
    display_name: str | None = None
    instance_id: str | None = None


def here(id: str, mode: str, *, version: str, name: str | None = None) -> ClientInfo:
    """Describe a client on this host, with an instance id of its own."""
    system = platform.system()
    named, family = _PLATFORMS.get(system, (system.lower() or "unknown", None))
    return ClientInfo(
        id=id,
        mode=mode,
        version=version,
        platform=named,
        device_family=family,
        display_name=name,
        instance_id=str(uuid.uuid4()),
    )


class Challenge(Struct, frozen=True):
    """The first frame of a socket: the nonce to sign, and the gateway's time in ms where it says one."""

    nonce: str
    ts: int | None = None


class Message(Struct, frozen=True):
    """Any frame of a gateway, as far as a client looks into it; keys it does not know are skipped (protocol §1.3)."""

    type: str
    id: Any = None
    ok: bool = False
    payload: Raw = Raw(b"null")
    error: dict[str, Any] | None = None
    event: str = ""
    seq: int | None = None

    def content(self) -> Any:
        """Return the payload as plain data."""
        return msgspec.json.decode(self.payload)


class Hello(Struct, frozen=True):
    """What a session got. `token` is the device token that came with it, `others` those of other roles that came too."""

    protocol: int
    role: str
    scopes: tuple[str, ...]
    server: str
    method: str | None = None
    token: DeviceToken | None = None
    others: tuple[DeviceToken, ...] = ()


def challenge(message: Message) -> Challenge | None:
    """Read the challenge, or None where the message is something else or has no nonce to sign."""
    if message.event != "connect.challenge":
        return None
    try:
        found = msgspec.json.decode(message.payload, type=Challenge)
    except msgspec.MsgspecError:
        return None
    return found if found.nonce.strip() else None


def connect_params(
    client: ClientInfo,
    presented: Presented,
    role: str,
    identity: Identity | None,
    challenged: Challenge,
    now: int,
) -> dict[str, Any]:
    """Return the params of `connect`, signed in the form v3 where there is an identity.

    The signature bears the gateway's own time where the challenge names one, otherwise `now` (ms).
    """
    params: dict[str, Any] = {
        "minProtocol": PROTOCOLS[0],
        "maxProtocol": PROTOCOLS[-1],
        "client": msgspec.to_builtins(client),
        "role": role,
        "scopes": list(presented.scopes),
        "caps": [],
    }
    if auth := presented.auth():
        params["auth"] = auth
    if identity is not None:
        at = challenged.ts if challenged.ts is not None and challenged.ts >= 0 else now
        params["device"] = _signed(client, presented, role, identity, challenged.nonce, at)
    return params


def _signed(client: ClientInfo, presented: Presented, role: str, identity: Identity, nonce: str, at: int) -> dict[str, Any]:
    proof = Proof(
        device=identity.device,
        key=identity.key,
        signature="",
        signed_at=at,
        nonce=nonce,
        client_id=client.id,
        client_mode=client.mode,
        role=role,
        scopes=presented.scopes,
        token=presented.signed,
        platform=client.platform,
        family=client.device_family,
    )
    return {
        "id": proof.device,
        "publicKey": proof.key,
        "signature": identity.sign(proof.payload("v3")),
        "signedAt": at,
        "nonce": nonce.strip(),
    }


def hello(payload: Any, role: str) -> Hello:
    """Read hello-ok as tolerantly as other clients do (protocol §2.5): every field may be missing."""
    told = _table(payload)
    auth, server = _table(told.get("auth")), _table(told.get("server"))
    named = auth.get("role")
    granted = named if isinstance(named, str) and named else role
    scopes = tuple(scope for scope in _list(auth.get("scopes")) if isinstance(scope, str))
    bearer, method, protocol, version = (auth.get("deviceToken"), auth.get("method"), told.get("protocol"), server.get("version"))
    return Hello(
        protocol=protocol if isinstance(protocol, int) else PROTOCOLS[-1],
        role=granted,
        scopes=scopes,
        server=version if isinstance(version, str) else "",
        method=method if isinstance(method, str) else None,
        token=_device_token(bearer, granted, scopes),
        others=_others(auth.get("deviceTokens"), granted),
    )


def _others(listed: Any, role: str) -> tuple[DeviceToken, ...]:
    """Read the tokens of other roles; what is none is passed over, and the session's own role has its own field."""
    found = []
    for entry in map(_table, _list(listed)):
        named, scopes = entry.get("role"), tuple(scope for scope in _list(entry.get("scopes")) if isinstance(scope, str))
        if isinstance(named, str) and named and named != role:
            found.append(_device_token(entry.get("deviceToken"), named, scopes))
    return tuple(token for token in found if token is not None)


def _device_token(bearer: Any, role: str, scopes: tuple[str, ...]) -> DeviceToken | None:
    try:
        return DeviceToken(role, scopes, Secret(bearer)) if isinstance(bearer, str) and bearer else None
    except ValueError:
        return None


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
