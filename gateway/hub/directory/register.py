"""How a site takes its register: from hub.toml into the database, for every process of the hub."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, delete, insert, select

from gateway.config import RegisterSettings, SiteSettings
from gateway.hub.directory.revision import raise_revision
from gateway.hub.store import tables


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
