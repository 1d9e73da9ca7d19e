"""Movements by hand: the office signs somebody in or out, corrects a time, or takes that back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import Form, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection, select

from gateway.errors import RefusedError
from gateway.hub.facts.by_hand import note_by_hand, withdraw_by_hand
from gateway.hub.scope import Right, Scope
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import now_ms
from gateway.hub.store.times import from_ms, to_ms
from gateway.hub.web.gate import need, require_site
from gateway.hub.web.office import Office
from gateway.hub.web.queries import site_days
from gateway.hub.work.times import local_moment

_Office = Annotated[Scope, need(Right.SEND_MARKS)]
_MOST = 20


@dataclass(frozen=True, slots=True)
class MovementView:
    """A movement of one person.

    Attributes:
        number: of one made by hand, which can be withdrawn; None for a gateway's.
        by: who made it by hand, empty for a gateway's.
        is_withdrawn: it counts no more.
    """

    at: datetime
    direction: str
    kind: str
    where: str
    is_sure: bool
    number: int | None = None
    by: str = ""
    reason: str = ""
    automatic: bool = False
    is_withdrawn: bool = False


def add_pages(office: Office) -> None:
    """Add the addresses of this part."""
    store = office.store

    @office.app.post("/people/{ref}/movements", include_in_schema=False)
    def enter(
        scope: _Office,
        ref: str,
        direction: Annotated[Literal["in", "out"], Form()],
        at: Annotated[str, Form(max_length=25)] = "",
        reason: Annotated[str, Form(max_length=200)] = "",
        back: Annotated[Literal["person", "on-site"], Form()] = "person",
    ) -> Response:
        with store.write() as connection:
            owner = connection.scalar(select(tables.person.c.site).where(tables.person.c.ref == ref))
            site = require_site(scope, Right.SEND_MARKS, owner, "person")
            audit = Audit(scope.actor, site, now_ms(), reason=reason.strip() or None)
            at_ms = _moment(at, site_days(connection)[site].zone) if at.strip() else audit.at_ms
            note_by_hand(connection, site, ref, direction, at_ms, audit)
            audit.write(connection)
        return _back(ref, back, f"Signed {direction}.")

    @office.app.post("/movements/{number}/withdraw", include_in_schema=False)
    def withdraw(scope: _Office, number: int) -> Response:
        with store.write() as connection:
            table = tables.hand_movement.c
            row = connection.execute(select(table.site, table.person).where(table.id == number)).one_or_none()
            site = require_site(scope, Right.SEND_MARKS, row.site if row else None, "movement")
            audit = Audit(scope.actor, site, now_ms())
            withdraw_by_hand(connection, number, audit)
            audit.write(connection)
        return _back(row.person if row else "", "person", "It counts no more.")


def list_movements(connection: Connection, site: str, ref: str) -> list[MovementView]:
    """Return the newest movements of a person, those that were withdrawn included."""
    zone = site_days(connection)[site].zone
    table, hand = tables.movement, tables.hand_movement
    mine = select(table).where(table.c.site == site, table.c.person == ref, ~table.c.is_replaced)
    mine = mine.order_by(table.c.at_ms.desc(), table.c.seq.desc())
    views = [
        MovementView(
            from_ms(row.at_ms, zone),
            row.direction,
            row.kind,
            row.point or "",
            row.at_how == "set",
            automatic=row.automatic,
        )
        for row in connection.execute(mine.limit(_MOST))
    ]
    by_hand = select(hand).where(hand.c.site == site, hand.c.person == ref).order_by(hand.c.at_ms.desc())
    views += [
        MovementView(
            from_ms(row.at_ms, zone),
            row.direction,
            "sign",
            "",
            True,
            row.id,
            row.by,
            row.reason,
            row.automatic,
            row.withdrawn_ms is not None,
        )
        for row in connection.execute(by_hand.limit(_MOST))
    ]
    return sorted(views, key=lambda view: view.at, reverse=True)[:_MOST]


def _moment(text: str, zone: ZoneInfo) -> int:
    try:
        found = datetime.fromisoformat(text.strip())
        if found.tzinfo is None:
            return to_ms(local_moment(found.date(), found.time(), zone))
        return to_ms(found)
    except (ValueError, OverflowError):
        raise RefusedError("This is no time; write it as 2026-11-20T08:41, in the school's local time.") from None


def _back(ref: str, back: str, note: str) -> Response:
    address = f"/people/{ref}?{urlencode({'note': note})}" if back == "person" and ref else "/on-site"
    return RedirectResponse(address, 303)
