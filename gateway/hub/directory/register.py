"""How a site takes its register, its holidays and its types of people, as hub.toml says: for every process."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, delete, insert, select

from gateway.access.schedule import Calendar
from gateway.config import RegisterSettings, SiteSettings
from gateway.hub.directory.effective import settle
from gateway.hub.directory.revision import raise_revision
from gateway.hub.directory.user_types import load_user_types
from gateway.hub.store import tables
from gateway.hub.store.engine import now_ms


def follow_register(connection: Connection, site: SiteSettings) -> None:
    """Store what hub.toml says of a site's register, if it says something else than before."""
    table = tables.register_settings
    if load_register(connection, site.id) == site.register:
        return
    connection.execute(delete(table).where(table.c.site == site.id))
    # Rosters carry the actions.
    raise_revision(connection, site.id)
    if site.register != RegisterSettings():
        connection.execute(insert(table).values(site=site.id, settings=msgspec.to_builtins(site.register)))


def load_register(connection: Connection, site: str) -> RegisterSettings:
    """Return how a site takes its register; without sessions where hub.toml says nothing."""
    table = tables.register_settings
    stored = connection.scalar(select(table.c.settings).where(table.c.site == site))
    return RegisterSettings() if stored is None else msgspec.convert(stored, RegisterSettings)


def load_calendar(connection: Connection, site: str) -> Calendar:
    """Return the holidays of a site."""
    holiday = tables.holiday
    query = select(holiday.c.first_day, holiday.c.last_day).where(holiday.c.site == site)
    return Calendar(tuple(sorted((row.first_day, row.last_day) for row in connection.execute(query))))


def follow_user_types(connection: Connection, site: SiteSettings) -> None:
    """Store the types of people of hub.toml, and sort everybody anew if these are others than before."""
    table, person = tables.user_type, tables.person
    if load_user_types(connection, site.id) == site.user_types:
        return
    connection.execute(delete(table).where(table.c.site == site.id))
    rows = [
        {"site": site.id, "place": place, "name": kind.name, "role": kind.role}
        | {"years": list(kind.years), "departments": list(kind.departments)}
        for place, kind in enumerate(site.user_types)
    ]
    if rows:
        connection.execute(insert(table), rows)
    settle(connection, connection.scalars(select(person.c.ref).where(person.c.site == site.id)).all(), now_ms())
    raise_revision(connection, site.id)
