"""The types of people that a site speaks of: from hub.toml into the database, and whose type is which."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, select

from gateway.access.people import fold_group
from gateway.config import UserTypeSettings
from gateway.hub.store import tables
from gateway.mis.base import PersonFields


def load_user_types(connection: Connection, site: str) -> tuple[UserTypeSettings, ...]:
    """Return the types of a site in their order."""
    table = tables.user_type
    rows = connection.execute(select(table).where(table.c.site == site).order_by(table.c.place))
    return tuple(UserTypeSettings(row.name, row.role, tuple(row.years), tuple(row.departments)) for row in rows)


def type_of(types: Iterable[UserTypeSettings], fields: PersonFields) -> str | None:
    """Return the name of the first type that fits somebody, None where none does."""
    for kind in types:
        fits = kind.role == fields.role and _is_among(fields.year, kind.years)
        if fits and _is_among(fields.department, kind.departments):
            return kind.name
    return None


def _is_among(value: str | None, names: tuple[str, ...]) -> bool:
    return not names or (value is not None and fold_group(value) in {fold_group(name) for name in names})
