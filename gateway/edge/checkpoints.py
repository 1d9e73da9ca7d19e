"""Writes a signed checkpoint of the journal's hash chain now and then, and keeps the gateway's key."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.access.checkpoint import make_checkpoint
from gateway.access.event import Event
from gateway.edge.clock import Clock
from gateway.errors import FatalError
from gateway.journal.jobs import Ticket
from gateway.journal.journal import Journal
from gateway.toml_help import read_marked_text

EVERY_EVENTS = 100
EVERY_SECONDS = 300.0


def load_gateway_key(path: Path) -> Ed25519PrivateKey:
    """Read the gateway's Ed25519 key, 64 hex digits, and make it on the first start; only its owner may read it.

    Raises:
        FatalError: the file holds something else or cannot be read or written.
    """
    try:
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(Ed25519PrivateKey.generate().private_bytes_raw().hex() + "\n")
                file.flush()
                os.fsync(file.fileno())
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(read_marked_text(path).strip()))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else type(error).__name__
        raise FatalError(f"The gateway key {path} cannot be used ({why}); restore it or remove it.") from None


class Checkpoints:
    """Decides when a checkpoint is due; call `due` about once a second from one thread."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        gateway: str,
        key: Ed25519PrivateKey,
        monotonic: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._gateway = gateway
        self._key = key
        self._monotonic = monotonic
        self._epoch, self._signed_seq = journal.epoch, journal.head
        self._waiting_since: float | None = None

    @property
    def public_key(self) -> str:
        """Return the key that the hub checks with, 64 hex digits."""
        return self._key.public_key().public_bytes_raw().hex()

    def due(self) -> Ticket | None:
        """Write a checkpoint after enough events since the last one, or some time after any."""
        if self._journal.epoch != self._epoch:
            # The events were rewritten under new numbers; the old checkpoints cover the old ones.
            self._epoch, self._signed_seq = self._journal.epoch, 0
        new = self._journal.head - self._signed_seq
        if new <= 0:
            self._waiting_since = None
            return None
        now = self._monotonic()
        if self._waiting_since is None:
            self._waiting_since = now
        if new < EVERY_EVENTS and now - self._waiting_since < EVERY_SECONDS:
            return None
        return self.write()

    def write(self) -> Ticket:
        """Write a checkpoint now, for instance before the daemon ends."""
        epoch, seq, link = self._journal.place
        stamp = self._clock.stamp()
        ticket = self._journal.append(
            Event(
                gw=self._gateway,
                boot=self._journal.boot,
                at=stamp.at,
                clock=stamp.clock,
                up=stamp.up,
                kind="system",
                system=make_checkpoint(self._key, self._gateway, epoch, seq, link),
            )
        )
        # The checkpoint event itself must not trigger another one.
        self._signed_seq, self._waiting_since = seq + 1, None
        return ticket
