"""The audit log: who changed what, when and why; append-only, chained, and read by people only.

Each site has a chain of its own, so that one site's changes never wait for another's. A hash covers its line and the
hash before it: a line that is changed, removed or put in between is found by `verify`. Whoever can write the whole
database could also write the chain anew, so `verify` prints the newest hash of each, to be noted elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, insert, select, update

from gateway.hub.store import tables
from gateway.hub.store.rows import insert_if_new

_LINES = 2_000


@dataclass(slots=True)
class Audit:
    """Collects the lines of one transaction.

    Args:
        actor: `source:ID`, `person:NAME`, `account:EMAIL`, `token:NAME` or `hub`.
        site: empty for what concerns no site.
        run: the sync run that made the change, None for a manual one.
        reason: what the person who made the change wrote about it.
    """

    actor: str
    site: str
    at_ms: int
    run: int | None = None
    reason: str | None = None
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
                "reason": self.reason,
            }
        )

    def write(self, connection: Connection) -> None:
        """Write the lines, in the transaction that makes the changes; others of this site wait for its end."""
        if not self.lines:
            return
        head = tables.audit_head
        insert_if_new(connection, head, {"site": self.site, "number": 0, "hash": ""})
        of_site = head.c.site == self.site
        number, digest = connection.execute(select(head.c.number, head.c.hash).where(of_site).with_for_update()).one()
        for line in self.lines:
            number += 1
            digest = _digest(digest, number, line)
            line |= {"number": number, "hash": digest}
        connection.execute(insert(tables.audit), self.lines)
        connection.execute(update(head).where(of_site).values(number=number, hash=digest))
        self.lines = []


def _digest(before: str, number: int, line: Mapping[str, Any]) -> str:
    names = ("at_ms", "actor", "site", "operation", "subject", "detail", "run", "reason")
    fields = [number, *(line[name] for name in names)]
    text = json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{before}\n{text}".encode(errors="surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Chain:
    """What was found of one site's chain.

    Attributes:
        lines: how many lines are as they were written, from the first on.
        head: the hash of the last of them.
        fault: None, or one sentence about the first line that is not.
    """

    site: str
    lines: int
    head: str
    fault: str | None = None


def verify(connection: Connection, noted: Mapping[str, tuple[int, str]] | None = None) -> list[Chain]:
    """Compare every line of the audit log with its hash, chain by chain.

    Args:
        noted: for each site a line and its hash as somebody noted them earlier, where the database cannot reach.
    """
    noted = noted or {}
    table, head = tables.audit, tables.audit_head
    heads = {row.site: row for row in connection.execute(select(head))}
    # Also those whose head was taken away.
    sites = {*heads, *noted, *connection.scalars(select(table.c.site).distinct())}
    return [_verify(connection, site, heads.get(site), noted.get(site)) for site in sorted(sites)]


def _verify(connection: Connection, site: str, head: Any, noted: tuple[int, str] | None) -> Chain:
    table = tables.audit
    number, digest = 0, ""
    while True:
        query = select(table).where(table.c.site == site, table.c.number > number)
        rows = connection.execute(query.order_by(table.c.number).limit(_LINES)).mappings().all()
        for row in rows:
            if row["number"] != number + 1:
                return Chain(site, number, digest, f"Line {number + 1} is missing.")
            if _digest(digest, number + 1, dict(row)) != row["hash"]:
                return Chain(site, number, digest, f"Line {number + 1} is not as it was written.")
            number, digest = number + 1, row["hash"]
            if noted is not None and noted[0] == number and noted[1] != digest:
                return Chain(site, number - 1, digest, f"Line {number} is not the one that was noted.")
        if len(rows) < _LINES:
            break
    if noted is not None and number < noted[0]:
        return Chain(site, number, digest, f"Line {noted[0]} was noted, and there are only {number}.")
    if head is None or head.number != number or head.hash != digest:
        return Chain(site, number, digest, f"Lines after {number} are missing.")
    return Chain(site, number, digest)
