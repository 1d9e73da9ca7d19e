"""People and their cards: found, blocked, replaced, and cards that were linked in advance claimed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import Body, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import select

from gateway.hub.accounts.attempts import BY_CLAIM, forget_attempts
from gateway.hub.accounts.sign_in import TooManyAttempts, brake
from gateway.hub.directory.cards import CARD_STATES, CardState, claim_prelinked, set_card_state
from gateway.hub.directory.groups import KINDS, list_groups
from gateway.hub.directory.people import PersonView, find_people
from gateway.hub.scope import Reach, Right, Scope
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.web import queries
from gateway.hub.web.gate import need, require_site
from gateway.hub.web.office import Office
from gateway.webkit.problems import Problem

_Reader = Annotated[Scope, need(Right.PEOPLE, Reach.OWN)]
_Keeper = Annotated[Scope, need(Right.CARDS)]
_Page = Annotated[int, Query(ge=0, le=10_000)]
_Role = Annotated[Literal["student", "staff", "contact", "visitor", ""], Query()]
_Group = Annotated[str, Query(pattern=r"^[0-9]{0,9}$")]
_State = Annotated[Literal["active", "missing", "inactive", "out_of_scope", ""], Query()]
# What the office calls each state.
STATES = {"active": "on roll", "missing": "missing", "inactive": "has left", "out_of_scope": "not taken"}
ROLES = ("student", "staff", "contact", "visitor")


def add_pages(office: Office) -> None:
    """Add the addresses of this part."""
    store = office.store

    @office.app.get("/people", include_in_schema=False)
    def people(
        request: Request,
        scope: _Reader,
        text: Annotated[str, Query(max_length=100)] = "",
        role: _Role = "",
        state: _State = "",
        group: _Group = "",
        page: _Page = 0,
    ) -> Response:
        found, total = _find(scope, store, text, page, role, state, group)
        rows = queries.PAGE_ROWS
        chosen = (("text", text), ("role", role), ("state", state), ("group", group))
        with store.read() as connection:
            groups = list_groups(scope, connection)
        query: dict[str, Any] = {name: value for name, value in chosen if value}
        context = {
            "people": found,
            "total": total,
            "text": text,
            "role": role,
            "state": state,
            "group": group,
            "groups": groups,
            "group_kinds": [kind for kind in KINDS if any(item.kind == kind for item in groups)],
            "person_roles": ROLES,
            "person_states": STATES,
            "states": CARD_STATES,
            "changeable": scope.sites(Right.CARDS),
            "own_only": not scope.may(Right.PEOPLE),
            "older": f"/people?{urlencode({**query, 'page': page + 1})}" if (page + 1) * rows < total else None,
            "newer": f"/people?{urlencode({**query, 'page': page - 1})}" if page else None,
        }
        return office.site.page(request, "people.html", "People and cards", context)

    @office.app.get("/v1/people")
    def people_json(
        scope: _Reader,
        text: Annotated[str, Query(max_length=100)] = "",
        role: _Role = "",
        state: _State = "",
        group: _Group = "",
        page: _Page = 0,
    ) -> dict[str, Any]:
        """Find people by name, id, form or reference; cards by their tail only."""
        found, total = _find(scope, store, text, page, role, state, group)
        return {"people": [asdict(person) for person in found], "total": total}

    @office.app.post("/cards/{card_id}/state", include_in_schema=False)
    def card_state_form(
        scope: _Keeper, card_id: int, state: Annotated[CardState, Form()], back: Annotated[str, Form()] = ""
    ) -> Response:
        _set_state(scope, store, card_id, state)
        return RedirectResponse(f"/people?{urlencode({'text': back})}" if back else "/people", 303)

    @office.app.post("/v1/cards/{card_id}/state")
    def card_state(scope: _Keeper, card_id: int, state: Annotated[CardState, Body(embed=True)]) -> dict[str, Any]:
        """Set the state of a card; gateways get a new roster at once."""
        _set_state(scope, store, card_id, state)
        return {"card": card_id, "state": state}

    @office.app.post("/people/claim", include_in_schema=False)
    def claim_form(
        scope: _Keeper,
        site: Annotated[str, Form(max_length=63)],
        person_key: Annotated[str, Form(max_length=100)],
    ) -> Response:
        _claim(scope, store, site, person_key)
        return RedirectResponse(f"/people?{urlencode({'text': person_key})}", 303)

    @office.app.post("/v1/claims")
    def claim(
        scope: _Keeper,
        site: Annotated[str, Body(max_length=63)],
        person_key: Annotated[str, Body(max_length=100)],
    ) -> dict[str, Any]:
        """Activate the cards that wait for a student id; an unknown id and one without such a card answer alike."""
        return {"claimed": _claim(scope, store, site, person_key)}


def _claim(scope: Scope, store: Store, site: str, person_key: str) -> bool:
    require_site(scope, Right.CARDS, site, "site")
    at_ms = now_ms()
    try:
        with store.write() as connection:
            brake(connection, BY_CLAIM, scope.actor, at_ms)
    except TooManyAttempts as error:
        raise Problem(429, "too-many", "Too many attempts", str(error), retry_after=error.seconds) from None
    with store.write() as connection:
        audit = Audit(scope.actor, site, at_ms)
        claimed = claim_prelinked(connection, site, person_key.strip(), audit)
        audit.write(connection)
        if claimed:
            # Only wrong ids count, so that a day of handing out cards goes on.
            forget_attempts(connection, BY_CLAIM, scope.actor)
    return claimed


def _find(
    scope: Scope, store: Store, text: str, page: int, role: str, state: str, group: str
) -> tuple[list[PersonView], int]:
    rows = queries.PAGE_ROWS
    person = tables.person.c
    mine, start = scope.rows(Right.PEOPLE, person.site, person.ref), page * rows
    with store.read() as connection:
        return find_people(
            mine, connection, text=text, role=role, state=state, group=int(group or 0) or None, offset=start, limit=rows
        )


def _set_state(scope: Scope, store: Store, card_id: int, state: CardState) -> None:
    with store.write() as connection:
        site = connection.scalar(select(tables.card.c.site).where(tables.card.c.id == card_id))
        audit = Audit(scope.actor, require_site(scope, Right.CARDS, site, "card"), now_ms())
        set_card_state(connection, card_id, state, audit)
        audit.write(connection)
