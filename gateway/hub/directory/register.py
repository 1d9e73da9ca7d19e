"""How a site takes its register, and its types of people: from hub.toml into the database, for every process."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, delete, insert, select

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
