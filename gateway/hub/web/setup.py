"""First steps: what a new hub still lacks until a school runs on it, each with what to do next."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import Request, Response
from sqlalchemy import Connection, func, select

from gateway.access.people import EVERY_POINT
from gateway.hub.accounts.people import has_accounts
from gateway.hub.scope import Right, Scope
from gateway.hub.store import tables
from gateway.hub.web.gate import Access, need
from gateway.hub.web.office import Office

_Reader = Annotated[Scope, need(Right.SEE_SOURCES)]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a school: whether it is done, what was found, and where to go on.

    Attributes:
        todo: one sentence, empty when the step is done.
        command: what to type on the hub's machine, empty where a page does it.
        page: where to do or see it.
    """

    name: str
    is_done: bool
    found: str
    todo: str = ""
    command: str = ""
    page: str = ""


def add_pages(office: Office) -> None:
    """Add the addresses of this part."""
    store, access = office.store, office.gate.access

    @office.app.get("/setup", include_in_schema=False)
    def setup(request: Request, scope: _Reader) -> Response:
        with store.read() as connection:
            context = {"schools": _schools(scope, connection, access)}
        return office.site.page(request, "setup.html", "First steps", context)

    @office.app.get("/v1/setup")
    def setup_json(scope: _Reader) -> dict[str, Any]:
        """Return what each school still lacks."""
        with store.read() as connection:
            schools = _schools(scope, connection, access)
        return {"schools": [{"site": site, "steps": [asdict(step) for step in steps]} for site, steps in schools]}


def _schools(scope: Scope, connection: Connection, access: Access) -> list[tuple[str, list[Step]]]:
    sites = scope.sites(Right.SEE_SOURCES)
    names = connection.scalars(select(tables.site.c.id).where(sites.hold(tables.site.c.id)).order_by("id")).all()
    return [(name, list_steps(connection, name, access)) for name in names]


def list_steps(connection: Connection, site: str, access: Access) -> list[Step]:
    """Return the steps of one school, in the order in which they are done."""
    return [
        _accounts(connection, access),
        _source(connection, site),
        _people(connection, site),
        _gateway(connection, site),
        _tap(connection, site),
        _rules(connection, site),
    ]


def _count(connection: Connection, table: Any, *conditions: Any) -> int:
    return connection.scalar(select(func.count()).select_from(table).where(*conditions)) or 0


def _accounts(connection: Connection, access: Access) -> Step:
    if has_accounts(connection):
        return Step("Somebody can sign in", True, "There are accounts, and everybody signs in.", page="/accounts")
    found = "Nobody can sign in yet." if access.sign_in else "Nobody has to sign in yet, so only this machine may look."
    command = "tapgate accounts create --role org-admin --email you@school.example"
    return Step("Somebody can sign in", False, found, "Create the first account on the hub's machine.", command)


def _source(connection: Connection, site: str) -> Step:
    table = tables.source
    names = connection.scalars(select(table.c.name).where(table.c.site == site, table.c.removed_ms.is_(None))).all()
    if names:
        return Step("An MIS or an export is connected", True, f"{', '.join(sorted(names))}.", page="/syncs")
    todo = "Add a [[site.source]] to hub.toml and test it; check shows the columns found and five sample people."
    command = f"tapgate mis check --site {site} --source mis"
    return Step("An MIS or an export is connected", False, "No source yet.", todo, command)


def _people(connection: Connection, site: str) -> Step:
    person, hold = tables.person, tables.hold_op
    people = _count(connection, person, person.c.site == site, person.c.state.in_(("active", "missing")))
    query = select(func.count()).join_from(hold, tables.source).where(tables.source.c.site == site)
    held = connection.scalar(query.where(hold.c.state == "held")) or 0
    if people:
        return Step("People are here", True, f"{people} people.", page="/people")
    if held:
        found = f"The first read found {held} changes, and nobody is let in before somebody looked."
        return Step("People are here", False, found, "Look at what it found and approve it, then sync.", page="/syncs")
    return Step("People are here", False, "Nobody yet.", "Press Sync now, or wait a quarter of an hour.", page="/syncs")


def _gateway(connection: Connection, site: str) -> Step:
    table = tables.gateway
    known = _count(
        connection, table, table.c.site == site, table.c.enrolled_ms.is_not(None) | table.c.seen_ms.is_not(None)
    )
    seen = _count(connection, table, table.c.site == site, table.c.seen_ms.is_not(None))
    if seen:
        return Step("A gateway is connected", True, f"{seen} of {known} gateways were heard.", page="/gateways")
    if known:
        todo = "Unpack its bundle on the Pi and start it; `tapgate doctor` there says what is wrong."
        return Step("A gateway is connected", False, f"{known} enrolled, none was heard yet.", todo, page="/gateways")
    command = f"tapgate hub issue {site}/gw-front"
    todo = "Make a bundle for the first one and carry it over."
    return Step("A gateway is connected", False, "None is enrolled yet.", todo, command)


def _tap(connection: Connection, site: str) -> Step:
    event = tables.event
    query = select(event.c.seq).where(event.c.site == site, event.c.kind == "tap").limit(1)
    if connection.scalar(query) is not None:
        return Step("A card was tapped", True, "Taps stand in the logbook.", page="/")
    return Step("A card was tapped", False, "No tap yet.", "Hold a card to a reader and watch the logbook.", page="/")


def _rules(connection: Connection, site: str) -> Step:
    table = tables.access_rule
    rows = connection.execute(select(table.c.point, table.c.groups, table.c.windows).where(table.c.site == site)).all()
    lets_everybody = [row for row in rows if row.point == EVERY_POINT and not row.groups and not row.windows]
    if rows and not lets_everybody:
        return Step("Rules say who may pass where", True, f"{len(rows)} rules.")
    todo = "Add [[site.rule]] to hub.toml; check-config shows what the next start will change."
    found = "Every active card passes everywhere, at any time."
    return Step("Rules say who may pass where", False, found, todo, "tapgate check-config /etc/tapgate-hub/hub.toml")
