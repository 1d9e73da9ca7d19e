"""The audit: who changed what, when; lines are only ever added."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, insert, select

from gateway.hub.store import tables


@dataclass(slots=True)
class Audit:
    """Collects the lines of one transaction.

    Args:
        actor: `source:ID`, `person:NAME` or `hub`.
        run: the sync run that did it, None for a change by hand.
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
        """Write the lines; belongs into the transaction that made the changes."""
        if self.lines:
            connection.execute(insert(tables.audit), self.lines)
            self.lines = []


def last_change(connection: Connection) -> int:
    """Give a number that rises with every change of people, cards or rules; 0 before the first."""
    return connection.scalar(select(func.max(tables.audit.c.id))) or 0
