"""Signed checkpoints of the hash chain: rewriting earlier history would require forging the gateway's signature.

A checkpoint is a `system` event that names an earlier event and the hash of its bytes. The signature is Ed25519 over
`tapgate checkpoint 1`, gateway, epoch, number and hash, joined by line feeds.
"""

from __future__ import annotations

import binascii
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.access.event import Event
from gateway.errors import BadMessage

CHECKPOINT = "checkpoint"


def _signed_bytes(gateway: str, epoch: str, seq: int, link: str) -> bytes:
    return f"tapgate checkpoint 1\n{gateway}\n{epoch}\n{seq}\n{link}".encode()


def make_checkpoint(key: Ed25519PrivateKey, gateway: str, epoch: str, seq: int, link: str) -> dict[str, Any]:
    """Return the `system` content of a checkpoint.

    Args:
        link: what event `seq` + 1 carries as `prev`, 32 hex digits.
    """
    signature = key.sign(_signed_bytes(gateway, epoch, seq, link))
    return {"what": CHECKPOINT, "seq": seq, "link": link, "signature": signature.hex()}


def read_checkpoint(key: Ed25519PublicKey, event: Event) -> tuple[int, str] | None:
    """Check the signature of a checkpoint and return the number and the hash it vouches for; None for any other event.

    Raises:
        BadMessage: the event claims to be a checkpoint of this gateway and is not signed by its key.
    """
    content = event.system
    if event.kind != "system" or not isinstance(content, dict) or content.get("what") != CHECKPOINT:
        return None
    seq, link, signature = content.get("seq"), content.get("link"), content.get("signature")
    if type(seq) is not int or not isinstance(link, str) or not isinstance(signature, str):
        raise BadMessage(f"Event {event.seq} is a checkpoint without number, hash or signature.")
    try:
        key.verify(binascii.unhexlify(signature), _signed_bytes(event.gw, event.epoch, seq, link))
    except (InvalidSignature, binascii.Error):
        raise BadMessage(f"Checkpoint {event.seq} is not signed with the key of gateway {event.gw!r}.") from None
    return seq, link
