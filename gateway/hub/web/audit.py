"""The audit log: who changed what and when, and whether its lines are as they were written."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Query, Request, Response
from sqlalchemy import ColumnElement, Connection, select

from gateway.hub.scope import Right, Scope
from gateway.hub.store import tables
from gateway.hub.store.audit import verify
from gateway.hub.store.times import from_ms
from gateway.hub.web.gate import need
from gateway.hub.web.office import Office
from gateway.hub.web.queries import PAGE_ROWS, site_days

_Reader = Annotated[Scope, need(Right.AUDIT)]
_Text = Annotated[str, Query(max_length=200)]
_Page = Annotated[int, Query(ge=0, le=10_000)]


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One line; `detail` holds names and values as they were then."""

    site: str
    number: int
    at: datetime
    actor: str
    operation: str
    subject: str
    detail: dict[str, Any]
    reason: str | None


def add_pages(office: Office) -> None:
    """Add the addresses of this part."""
    store = office.store

    def show(request: Request, scope: Scope, actor: str, subject: str, page: int, **shown: Any) -> Response:
        with store.read() as connection:
            rows, more = list_audit(scope, connection, actor, subject, page)
        query = {name: value for name, value in (("actor", actor), ("subject", subject)) if value}
        context = {
            "rows": rows,
            "actor": actor,
            "subject": subject,
            "chains": None,
            "older": f"/audit?{urlencode({**query, 'page': page + 1})}" if more else None,
            "newer": f"/audit?{urlencode({**query, 'page': page - 1})}" if page else None,
        }
        return office.site.page(request, "audit.html", "Audit", {**context, **shown})

    @office.app.get("/audit", include_in_schema=False)
    def audit(request: Request, scope: _Reader, actor: _Text = "", subject: _Text = "", page: _Page = 0) -> Response:
        return show(request, scope, actor.strip(), subject.strip(), page)

    @office.app.post("/audit/verify", include_in_schema=False)
    def verify_now(request: Request, scope: _Reader) -> Response:
        with store.read() as connection:
            chains = [item for item in verify(connection) if _is_mine(scope, item.site)]
        return show(request, scope, "", "", 0, chains=chains)

    @office.app.get("/v1/audit")
    def audit_json(scope: _Reader, actor: _Text = "", subject: _Text = "", page: _Page = 0) -> dict[str, Any]:
        """Return a page of the audit log, newest first."""
        with store.read() as connection:
            rows, more = list_audit(scope, connection, actor.strip(), subject.strip(), page)
        return {"audit": [asdict(row) for row in rows], "more": more}


def _is_mine(scope: Scope, site: str) -> bool:
    return site in scope.sites(Right.AUDIT)


def list_audit(
    scope: Scope, connection: Connection, actor: str, subject: str, page: int = 0
) -> tuple[list[AuditRow], bool]:
    """Return a page of the audit log, newest first, and whether more follows."""
    table = tables.audit
    conditions: list[ColumnElement[bool]] = [scope.sites(Right.AUDIT).hold(table.c.site)]
    if actor:
        conditions.append(table.c.actor.contains(actor, autoescape=True))
    if subject:
        conditions.append(table.c.subject == subject)
    query = select(table).where(*conditions).order_by(table.c.id.desc())
    rows = connection.execute(query.offset(page * PAGE_ROWS).limit(PAGE_ROWS + 1)).all()
    days = site_days(connection)
    return [
        AuditRow(
            row.site,
            row.number,
            from_ms(row.at_ms, days[row.site].zone if row.site in days else None),
            row.actor,
            row.operation,
            row.subject,
            row.detail,
            row.reason,
        )
        for row in rows[:PAGE_ROWS]
    ], len(rows) > PAGE_ROWS
