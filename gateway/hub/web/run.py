"""One sync run: how far it is, what it read, what it changed of whom, and what it holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import Request, Response
from sqlalchemy import Connection, func, select

from gateway.hub.scope import Right, Scope
from gateway.hub.store import tables
from gateway.hub.store.times import from_ms
from gateway.hub.web.gate import need, require_site
from gateway.hub.web.office import Office
from gateway.hub.web.queries import site_days

_Reader = Annotated[Scope, need(Right.SEE_SOURCES)]
_CHANGES = 500
# What a run does to people and cards, as the office says it.
_WORDS = {
    "person_create": "came in",
    "person_update": "changed",
    "person_remove": "has left",
    "person_missing": "is missing from the read",
    "person_return": "is back",
    "person_rekey": "has another id",
    "person_join": "was recognised",
    "person_exclude": "is outside the years that come in",
    "card_link": "has a card",
    "card_move": "has the card of somebody else",
    "card_replace": "has another card",
    "card_revoke": "has a card no more",
}


@dataclass(frozen=True, slots=True)
class RunChange:
    """Something that a run changed; `person` None for somebody whom the scope may not see."""

    what: str
    person: str | None
    name: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunPage:
    """A run with its changes.

    Attributes:
        counted: how often each kind of change was made; `changes` shows the first of them.
        held: what this run holds, in words.
    """

    id: int
    source: str
    started: datetime
    seconds: float | None
    result: str
    trigger: str
    actor: str | None
    step: str | None
    done: int | None
    total: int | None
    error: str | None
    report: dict[str, Any]
    counted: dict[str, int]
    changes: list[RunChange]
    held: list[str]


def add_pages(office: Office) -> None:
    """Add the addresses of this part."""
    store = office.store

    @office.app.get("/syncs/{run}", include_in_schema=False)
    def run_page(request: Request, scope: _Reader, run: int) -> Response:
        with store.read() as connection:
            found = find_run(scope, connection, run)
        return office.site.page(request, "run.html", f"Sync of {found.source}", {"run": found})

    @office.app.get("/v1/syncs/{run}")
    def run_json(scope: _Reader, run: int) -> dict[str, Any]:
        """Return one sync run with what it changed and what it holds."""
        with store.read() as connection:
            return asdict(find_run(scope, connection, run))


def find_run(scope: Scope, connection: Connection, number: int) -> RunPage:
    """Return one run.

    Raises:
        Problem: 404, there is none, or it is another school's.
    """
    run, source = tables.sync_run, tables.source
    query = select(run, source.c.site, source.c.name).join_from(run, source).where(run.c.id == number)
    row = connection.execute(query).one_or_none()
    site = require_site(scope, Right.SEE_SOURCES, row.site if row else None, "run")
    assert row is not None
    has_names = site in scope.sites(Right.PEOPLE)
    changes = _changes(connection, number, has_names=has_names)
    hold = tables.hold_op
    held = select(hold.c.what).where(hold.c.source == row.source, hold.c.run == number, hold.c.state == "held")
    return RunPage(
        number,
        f"{row.site}/{row.name}",
        from_ms(row.started_ms, site_days(connection)[row.site].zone),
        None if row.finished_ms is None else (row.finished_ms - row.started_ms) / 1000,
        row.result,
        row.trigger,
        row.actor,
        row.step,
        row.done,
        row.total,
        row.error,
        row.report or {},
        _counted(connection, number),
        changes,
        list(connection.scalars(held.order_by(hold.c.what).limit(_CHANGES))) if has_names else [],
    )


def _counted(connection: Connection, number: int) -> dict[str, int]:
    audit = tables.audit
    query = select(audit.c.operation, func.count().label("times")).where(audit.c.run == number)
    rows = connection.execute(query.group_by(audit.c.operation).order_by(audit.c.operation))
    return {_words(row.operation): row.times for row in rows}


def _changes(connection: Connection, number: int, *, has_names: bool) -> list[RunChange]:
    audit, person = tables.audit, tables.person
    query = (
        select(audit.c.operation, audit.c.subject, audit.c.detail, person.c.given_name, person.c.family_name)
        .outerjoin(person, person.c.ref == audit.c.subject)
        .where(audit.c.run == number)
        .order_by(audit.c.id)
        .limit(_CHANGES)
    )
    if not has_names:
        return []
    return [
        RunChange(
            _words(row.operation),
            row.subject if row.family_name is not None else None,
            f"{row.given_name} {row.family_name}".strip() if row.family_name is not None else row.subject,
            row.detail,
        )
        for row in connection.execute(query)
    ]


def _words(operation: str) -> str:
    return _WORDS.get(operation, operation.replace("_", " "))
