"""One person: cards, what the sources say and who corrected it, and what happened last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection, select

from gateway.errors import RefusedError
from gateway.hub.directory import overrides
from gateway.hub.directory.cards import CARD_STATES, CardState, set_card_state
from gateway.hub.directory.people import PersonView, find_people
from gateway.hub.scope import Reach, Right, Scope
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import now_ms
from gateway.hub.store.times import from_ms
from gateway.hub.sync.emails import dummy_address
from gateway.hub.web import movements
from gateway.hub.web.gate import missing, need, require_site
from gateway.hub.web.office import Office
from gateway.hub.web.queries import LogFilter, read_log, site_days

_Reader = Annotated[Scope, need(Right.PEOPLE, Reach.OWN)]
_Keeper = Annotated[Scope, need(Right.CARDS)]
_Corrector = Annotated[Scope, need(Right.OVERRIDES)]
_Reason = Annotated[str, Form(max_length=200)]
_TAPS, _CHANGES = 10, 20
_LABELS = {"given_name": "First name", "family_name": "Last name", "birth_date": "Birth date", "email": "E-mail"}


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the audit about a person, as the office reads it."""

    at: datetime
    actor: str
    operation: str
    detail: dict[str, Any]
    reason: str | None


def add_pages(office: Office) -> None:
    """Add the addresses of this part."""
    _add_views(office)
    _add_changes(office)


def _add_views(office: Office) -> None:
    store = office.store

    @office.app.get("/people/{ref}", include_in_schema=False)
    def person(
        request: Request, scope: _Reader, ref: str, note: Annotated[str, Query(max_length=100)] = ""
    ) -> Response:
        with store.read() as connection:
            found = _person(scope, connection, ref)
            rows, _ = read_log(scope, connection, LogFilter(site=found.site, person=ref))
            context = {
                "person": found,
                "fields": overrides.list_fields(connection, ref),
                "labels": _LABELS,
                "dummy": dummy_address(ref, found.site),
                "taps": rows[:_TAPS],
                "movements": movements.list_movements(connection, found.site, ref),
                "may_move": found.site in scope.sites(Right.SEND_MARKS),
                "now": from_ms(now_ms(), site_days(connection)[found.site].zone),
                "changes": list_changes(connection, found) if found.site in scope.sites(Right.PEOPLE) else [],
                "states": CARD_STATES,
                "may_change": found.site in scope.sites(Right.CARDS),
                "may_correct": found.site in scope.sites(Right.OVERRIDES),
                "note": note,
            }
        return office.site.page(request, "person.html", found.name, context)

    @office.app.get("/v1/people/{ref}")
    def person_json(scope: _Reader, ref: str) -> dict[str, Any]:
        """Return one person with their cards by tail, and where each field comes from."""
        with store.read() as connection:
            found = _person(scope, connection, ref)
            fields = overrides.list_fields(connection, ref)
        return {"person": found, "fields": fields}


def _add_changes(office: Office) -> None:
    store = office.store

    @office.app.post("/people/{ref}/cards/{card_id}", include_in_schema=False)
    def change_card(
        scope: _Keeper, ref: str, card_id: int, state: Annotated[CardState, Form()], reason: _Reason = ""
    ) -> Response:
        with store.write() as connection:
            table = tables.card
            query = select(table.c.site).where(table.c.id == card_id, table.c.person == ref)
            site = require_site(scope, Right.CARDS, connection.scalar(query), "card")
            audit = Audit(scope.actor, site, now_ms(), reason=reason.strip() or None)
            set_card_state(connection, card_id, state, audit)
            audit.write(connection)
        return _back(ref, f"The card is {state}.")

    @office.app.post("/people/{ref}/fields/{field}", include_in_schema=False)
    def correct(
        scope: _Corrector,
        ref: str,
        field: str,
        value: Annotated[str, Form(max_length=400)] = "",
        reason: _Reason = "",
        withdraw: Annotated[bool, Form()] = False,
    ) -> Response:
        with store.write() as connection:
            site = _site_of(connection, ref)
            audit = Audit(scope.actor, require_site(scope, Right.OVERRIDES, site, "person"), now_ms())
            if withdraw:
                overrides.withdraw(connection, ref, field, audit)
            elif not reason.strip():
                raise RefusedError("Say why the source is wrong; the reason stands in the audit.")
            else:
                audit.reason = reason.strip()
                overrides.correct(connection, ref, field, value, audit)
            audit.write(connection)
        return _back(ref, "The source's value counts again." if withdraw else "Corrected, until the source changes it.")


def _back(ref: str, note: str) -> Response:
    return RedirectResponse(f"/people/{ref}?{urlencode({'note': note})}", 303)


def _site_of(connection: Connection, ref: str) -> str | None:
    return connection.scalar(select(tables.person.c.site).where(tables.person.c.ref == ref))


def _person(scope: Scope, connection: Connection, ref: str) -> PersonView:
    person = tables.person.c
    found, _ = find_people(scope.rows(Right.PEOPLE, person.site, person.ref), connection, refs=[ref])
    if not found:
        raise missing("person")
    return found[0]


def list_changes(connection: Connection, person: PersonView) -> list[Change]:
    """Return what was changed about a person, the newest first."""
    table = tables.audit
    query = select(table).where(table.c.subject == person.ref, table.c.site == person.site)
    zone = site_days(connection)[person.site].zone
    return [
        Change(from_ms(row.at_ms, zone), row.actor, row.operation, row.detail, row.reason)
        for row in connection.execute(query.order_by(table.c.at_ms.desc(), table.c.id.desc()).limit(_CHANGES))
    ]
