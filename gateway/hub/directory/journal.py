"""The audit log: who changed what, and when; append-only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, insert, select, text

from gateway.hub.store import tables

_TURN_LOCK = 0x7A9A70


@dataclass(slots=True)
class Audit:
    """Collects the lines of one transaction.

    Args:
        actor: `source:ID`, `person:NAME` or `hub`.
        run: the sync run that made the change, None for a manual one.
    """

    actor: str
    site: str
    at_ms: int
    run: int | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)

    def note(self, operation: str, subject: str, **detail: Any) -> None:
        self.lines.append(
            {
                "at_ms": self.at_ms,
                "actor": self.actor,
                "site": self.site,
                "operation": operation,
                "subject": subject,
                "detail": detail,
                "run": self.run,
            }
        )

    def write(self, connection: Connection) -> None:
        """Write the lines, in the transaction that makes the changes."""
        if self.lines:
            in_turn(connection)
            connection.execute(insert(tables.audit), self.lines)
            self.lines = []


def in_turn(connection: Connection) -> None:
    """Serialise changes of the directory from here to the end of the transaction.

    PostgreSQL hands out numbers before it commits; without turns a later number could be seen before an earlier one,
    and whoever waits for `last_change` would miss a change. SQLite has one writer anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_TURN_LOCK})"))


def last_change(connection: Connection) -> int:
    """Return a number that rises with every change of people, cards or rules; 0 before the first."""
    return connection.scalar(select(func.max(tables.audit.c.id))) or 0
