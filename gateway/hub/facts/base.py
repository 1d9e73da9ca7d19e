"""The contract of a projector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection

from gateway.access.event import Event


@dataclass(frozen=True, slots=True)
class Held:
    """An event as the hub holds it, with its corrected time and person.

    Attributes:
        at_how, at_error_ms: as in the table `event`.
    """

    gateway: int
    site: str
    person: str | None
    at_ms: int
    at_how: str
    at_error_ms: int | None
    event: Event


class Projector(Protocol):
    """Keeps tables of its own from events of some kinds."""

    @property
    def name(self) -> str: ...

    @property
    def kinds(self) -> tuple[str, ...]: ...

    def apply(self, connection: Connection, events: Sequence[Held]) -> None:
        """Take events in, new ones and ones that were taken before and have been corrected since."""
        ...

    def clear(self, connection: Connection) -> None:
        """Forget everything, before it is made again from the first event on."""
        ...
