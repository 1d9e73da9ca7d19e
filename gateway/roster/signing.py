"""Who may sign a roster: the hub's Ed25519 key, endorsed for one site with the site key.

A gateway knows its site key from the day it is set up. The hub proves with that key (a keyed BLAKE2b over its public
key) that its signing key is meant for this site, so no second secret has to be carried to each gateway. A site that
also sets `roster_signer` accepts that one public key only.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from gateway.errors import BadRoster, FatalError
from gateway.toml_help import read_marked_text

PUBLIC_KEY_BYTES = 32
ENDORSEMENT_BYTES = 32
SIGNATURE_BYTES = 64
SEAL_BYTES = PUBLIC_KEY_BYTES + ENDORSEMENT_BYTES + SIGNATURE_BYTES
_PURPOSE = b"tapgate roster signer v1:"


def endorsement(site_key: bytes, public_key: bytes) -> bytes:
    """Return the 32 bytes that bind a signing key to a site (keyed BLAKE2b, RFC 7693)."""
    return hashlib.blake2b(_PURPOSE + public_key, key=site_key, digest_size=ENDORSEMENT_BYTES).digest()


@dataclass(frozen=True, slots=True)
class Signer:
    """The hub's side: signs for any site whose key it holds."""

    key: Ed25519PrivateKey

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def seal(self, site_key: bytes, content: bytes) -> bytes:
        """Return public key, endorsement and signature over the SHA-256 of the content: 32 + 32 + 64 bytes."""
        public = self.public_key
        return public + endorsement(site_key, public) + self.key.sign(hashlib.sha256(content).digest())

    def seal_statement(self, site_key: bytes, purpose: bytes, body: str) -> str:
        """Return the seal of a statement in hex; the purpose keeps it from counting as one of another kind."""
        return self.seal(site_key, purpose + body.encode()).hex()


@dataclass(frozen=True, slots=True)
class Trust:
    """The gateway's side: the site key and, when set, the one public key (64 hex digits) that may sign."""

    site_key: bytes
    signer: str | None = None

    def check(self, content: bytes | memoryview, seal: bytes) -> None:
        """Check a seal over a content.

        Raises:
            BadRoster: the seal is torn, from a key that is not endorsed or not the pinned one, or does not fit.
        """
        if len(seal) != SEAL_BYTES:
            raise BadRoster("The signature is torn.")
        public = seal[:PUBLIC_KEY_BYTES]
        proof = seal[PUBLIC_KEY_BYTES : PUBLIC_KEY_BYTES + ENDORSEMENT_BYTES]
        if not hmac.compare_digest(proof, endorsement(self.site_key, public)):
            raise BadRoster(
                "The signing key is not endorsed for this site; check that hub and gateway share a site key."
            )
        if self.signer is not None and not hmac.compare_digest(public.hex(), self.signer.lower()):
            raise BadRoster("The signing key is not the one that roster_signer names.")
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(
                seal[PUBLIC_KEY_BYTES + ENDORSEMENT_BYTES :], hashlib.sha256(content).digest()
            )
        except InvalidSignature:
            raise BadRoster("The signature does not fit the content.") from None

    def check_statement(self, purpose: bytes, body: str, seal: str) -> None:
        """Check a statement that `Signer.seal_statement` sealed.

        Raises:
            BadRoster: as `check`, also for a seal that is not hex.
        """
        try:
            content, raw_seal = purpose + body.encode(), bytes.fromhex(seal)
        except ValueError:
            raise BadRoster("The signature is torn.") from None
        self.check(content, raw_seal)


def load_or_create_signer(path: Path) -> Signer:
    """Read the hub's signing key (64 hex digits), or make one with mode 0600 when the file is missing.

    Raises:
        FatalError: the file holds something else or cannot be made.
    """
    try:
        return Signer(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(read_marked_text(path).strip())))
    except FileNotFoundError:
        pass
    except (ValueError, OSError) as error:
        raise FatalError(f"The signing key {path} cannot be used ({type(error).__name__}); restore it.") from None
    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()).hex() + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise FatalError(f"The signing key {path} cannot be made ({error.strerror}).") from None
    return Signer(key)
