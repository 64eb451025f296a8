"""Device identities: Ed25519 keys (RFC 8032), device ids, and the exact bytes a device signs (protocol §3).

Pure. One verifier for every path: libsodium's, which refuses small-order keys and malleable signatures.
"""

import base64
import binascii
import hashlib

from msgspec import Struct
from nacl.bindings import crypto_sign_BYTES, crypto_sign_open, crypto_sign_PUBLICKEYBYTES
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey

from .platforms import fold_case
from .refusals import Reason

SKEW_MS = 120_000

_PEM_HEAD, _PEM_TAIL = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"
# DER of SubjectPublicKeyInfo for Ed25519 up to the 32 key bytes (RFC 8410 §4).
_SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")


def b64url(data: bytes) -> str:
    """Encode as base64url without padding (RFC 4648 §5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes | None:
    """Decode base64url or standard base64, padded or not; None where it is neither."""
    plain = text.strip().replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def public_key(text: str) -> bytes | None:
    """Return the 32 raw bytes of a public key given as base64url, base64 or SPKI PEM; None where it is none of these."""
    body = text.strip()
    # Not a search: one with a lazy gap takes a second over 60 KB of opening lines, from peers that have proven nothing.
    pem = body.startswith(_PEM_HEAD) and body.endswith(_PEM_TAIL)
    raw = unb64("".join(body[len(_PEM_HEAD) : -len(_PEM_TAIL)].split()) if pem else body)
    if pem and raw is not None:
        raw = raw[len(_SPKI_PREFIX) :] if raw.startswith(_SPKI_PREFIX) else None
    return raw if raw is not None and len(raw) == crypto_sign_PUBLICKEYBYTES else None


def device_id(key: bytes) -> str:
    """Return the device id of a raw public key: lower-case hex SHA-256, 64 characters (N1)."""
    return hashlib.sha256(key).hexdigest()


class Proof(Struct, frozen=True, kw_only=True):
    """What a device signed, field by field as it was sent, and its signature."""

    device: str
    key: str
    signature: str
    signed_at: int
    nonce: str
    client_id: str
    client_mode: str
    role: str
    scopes: tuple[str, ...]
    token: str
    platform: str | None
    family: str | None

    def payload(self, version: str) -> bytes:
        """Return the exact signed bytes, `version` being `v3` or `v2` (protocol §3.2)."""
        fields = [
            version,
            self.device,
            self.client_id,
            self.client_mode,
            self.role,
            ",".join(self.scopes),
            str(self.signed_at),
            self.token,
            self.nonce.strip(),
        ]
        if version == "v3":
            fields += [fold_case(self.platform), fold_case(self.family)]
        return "|".join(fields).encode("utf-8", "surrogatepass")


def check(proof: Proof, *, nonce: str, now: int) -> Reason | None:
    """Return why a proof does not hold, in the order of protocol §3.4, or None where it does.

    `nonce` is this socket's challenge (N3), `now` the server's clock in ms (N4).
    """
    key = public_key(proof.key)
    if key is None or device_id(key) != proof.device:
        return Reason.DEVICE_ID_MISMATCH
    if abs(now - proof.signed_at) > SKEW_MS:
        return Reason.SIGNATURE_STALE
    if not proof.nonce.strip():
        return Reason.NONCE_MISSING
    if proof.nonce.strip() != nonce:
        return Reason.NONCE_MISMATCH
    signature = unb64(proof.signature)
    if signature is None or not any(verifies(key, proof.payload(version), signature) for version in ("v3", "v2")):
        return Reason.SIGNATURE_INVALID
    return None


def verifies(key: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether an Ed25519 signature (64 bytes) over a message holds for a raw public key (RFC 8032 §5.1.7)."""
    if len(signature) != crypto_sign_BYTES or len(key) != crypto_sign_PUBLICKEYBYTES:
        return False
    try:
        crypto_sign_open(signature + message, key)
    except BadSignatureError:
        return False
    return True


class Identity(Struct, frozen=True):
    """A device's own key pair, from its 32-byte seed. Its repr shows the id only."""

    seed: bytes

    def __repr__(self) -> str:
        return f"Identity({self.device})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("device", self.device)]

    @property
    def raw_key(self) -> bytes:
        """The raw public key, 32 bytes."""
        return bytes(SigningKey(self.seed).verify_key)

    @property
    def key(self) -> str:
        """The public key as base64url without padding."""
        return b64url(self.raw_key)

    @property
    def device(self) -> str:
        """The device id."""
        return device_id(self.raw_key)

    def sign(self, message: bytes) -> str:
        """Return the signature over a message as base64url without padding."""
        return b64url(SigningKey(self.seed).sign(message).signature)
