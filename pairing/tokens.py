"""Gateway keys and what is derived from them: device tokens and tags. Tokens are derived, compared, and never stored.

The key lives in its own 0600 file, outside the log. This file knows no file: see `pairing.keyring`.
"""

import hashlib
import hmac

from msgspec import Struct
from msgspec.structs import force_setattr

from .device import Device, Handoff, Retired, Token
from .enrolment import Code
from .identity import b64url
from .nodes import NodeState

KEY_BYTES = 32
TOKEN_LENGTH = 43


class GatewayKey(Struct, frozen=True):
    """One secret of the gateway, 32 random bytes, and its public name: 16 hex characters that events carry, made from it.

    Its repr shows the name only.
    """

    secret: bytes
    id: str = ""

    def __post_init__(self) -> None:
        # Every login asks for the name several times; it is worth more than an HMAC each.
        force_setattr(self, "id", self._mac("pairing key id v1").hex()[:16])

    def __repr__(self) -> str:
        return f"GatewayKey({self.id})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("id", self.id)]

    def _mac(self, purpose: str, *parts: str) -> bytes:
        encoded = [part.encode("utf-8", "surrogatepass") for part in (purpose, *parts)]
        message = b"".join([len(part).to_bytes(4, "big") + part for part in encoded])
        return hmac.digest(self.secret, message, hashlib.sha256)

    def token(self, device: str, role: str, issue: str) -> str:
        """Return the token of one generation: 43 characters of base64url, 256 bits."""
        return b64url(self._mac("pairing token v1", device, role, issue))

    def node_token(self, node: str, issue: str) -> str:
        """Return the token of one approval of a node: 43 characters of base64url, and never a device's token."""
        return b64url(self._mac("pairing node token v1", node, issue))

    def checkpoint_seed(self) -> bytes:
        """Return the 32-byte seed of the Ed25519 key that signs checkpoints of the log, and nothing else."""
        return self._mac("pairing log checkpoint key v1")

    def hook_secret(self, hook: str) -> bytes:
        """Return the 32 bytes that sign what a webhook sends."""
        return self._mac("pairing hook v1", hook)

    def enrolment_id(self, bootstrap: str) -> str:
        """Return the id of the enrolment that a bootstrap token stands for: 32 hex characters that tell nothing by themselves."""
        return self._mac("pairing enrolment id v1", bootstrap).hex()[:32]

    def enrolment_secret(self, bootstrap: str) -> str:
        """Return the keyed hash of a bootstrap token that is stored: 64 hex characters."""
        return self._mac("pairing enrolment secret v1", bootstrap).hex()

    def proof(self, family: str, name: str, role: str, value: str) -> str:
        """Return what proves a token that another gateway made, 64 hex characters: its keyed hash, of one device and role."""
        return self._mac("pairing imported token v1", family, name, role, value).hex()

    def tag(self, purpose: str, *parts: str | None) -> str:
        """Return 16 hex characters that are equal for equal parts and tell nothing to those without the key."""
        marked = [part for value in parts for part in ("0" if value is None else "1", value or "")]
        return self._mac(f"pairing tag v1 {purpose}", *marked).hex()[:16]


class Keyring(Struct, frozen=True):
    """The gateway's present key, and older ones whose tokens still hold until they are rotated."""

    current: GatewayKey
    older: tuple[GatewayKey, ...] = ()

    def find(self, id: str) -> GatewayKey | None:
        """Return a key by its id."""
        return next((key for key in (self.current, *self.older) if key.id == id), None)

    def token_of(self, state: Device, device: str, role: str) -> str | None:
        """Return the present token of a device's role, for that device alone (T4); None without one, or without its key."""
        token = state.token(role)
        # The value of a token that was imported is known to its device alone.
        if token is None or token.dead or token.proof is not None:
            return None
        key = self.find(token.key)
        return key.token(device, role, token.issue) if key else None

    def recognise(self, state: Device, device: str, role: str, presented: str) -> str | None:
        """Return the generation that a presented token is, of one role of one device; compared in constant time (T3).

        Current tokens (revoked ones too, so that a verdict can say so) come first, then the one that is handed over, then those
        the state still remembers.
        """
        shown = presented.encode("utf-8", "surrogatepass")
        token = state.token(role)
        known: list[Token | Handoff | Retired] = [token] if token else []
        if token is not None and token.handoff is not None:
            known.append(token.handoff)
        known += [old for old in reversed(state.retired) if old.role == role]
        for one in known:
            key = self.find(one.key)
            if key is None:
                continue
            if one.proof is not None:
                right, offered = one.proof.encode(), key.proof("device", device, role, presented).encode()
            else:
                right, offered = key.token(device, role, one.issue).encode(), shown
            if hmac.compare_digest(right, offered):
                return one.issue
        return None

    def enrolment_ids(self, bootstrap: str) -> tuple[str, ...]:
        """Return the ids under which a bootstrap token can be known: one for each key, the present one's first."""
        return tuple(key.enrolment_id(bootstrap) for key in (self.current, *self.older))

    def is_bootstrap(self, code: Code, presented: str) -> bool:
        """Say whether a bootstrap token is that of a setup code; compared in constant time (T3)."""
        key = self.find(code.key)
        return key is not None and hmac.compare_digest(key.enrolment_secret(presented), code.secret)

    def node_token(self, state: NodeState, node: str) -> str | None:
        """Return the token of a node's approval; None without an approval, without its key, or where another gateway made it."""
        approval = state.approval
        key = self.find(approval.key) if approval else None
        return key.node_token(node, approval.issue) if key and approval and approval.proof is None else None

    def is_node_token(self, state: NodeState, node: str, presented: str) -> bool:
        """Say whether a token is that of a node's approval; compared in constant time (T3)."""
        approval = state.approval
        if approval is not None and approval.proof is not None:
            key = self.find(approval.key)
            offered = key.proof("node", node, "", presented) if key else ""
            return hmac.compare_digest(approval.proof.encode(), offered.encode())
        token = self.node_token(state, node)
        return token is not None and hmac.compare_digest(token.encode(), presented.encode("utf-8", "surrogatepass"))
