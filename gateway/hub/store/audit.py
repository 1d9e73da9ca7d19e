"""The audit log: who changed what, and when; append-only, and read by people only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, insert

from gateway.hub.store import tables


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
            connection.execute(insert(tables.audit), self.lines)
            self.lines = []
