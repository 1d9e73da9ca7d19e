"""Sites and their sources: from hub.toml into the database, and back as something that can be read.

hub.toml creates what is missing and keeps following rows that nobody edited; an edited row is left alone.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from gateway.access.people import EVERY_POINT
from gateway.access.schedule import parse_window
from gateway.config import HubSettings, SiteSettings, read_site_key
from gateway.errors import FatalError, RefusedError
from gateway.hub.directory.journal import Audit
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, now_ms
from gateway.mis.base import Connector, Options, build_connector

log = logging.getLogger(__name__)

# Settings of the sync itself; every kind of source has them beside the connector's own.
SYNC_OPTIONS = {
    "hold_removals_percent",
    "hold_group_percent",
    "hold_cards_percent",
    "hold_names_percent",
    "new_cards",
    "every_minutes",
}
EVERY_MINUTES = 15


@dataclass(frozen=True, slots=True)
class Source:
    """A configured source; `label` is how people name it."""

    id: int
    site: str
    name: str
    kind: str
    options: Mapping[str, Any]
    key_file: str
    state: str | None

    @property
    def label(self) -> str:
        return f"{self.site}/{self.name}"

    @property
    def new_card_state(self) -> str:
        return "prelinked" if self.options.get("new_cards") == "prelinked" else "active"

    @property
    def every_seconds(self) -> float:
        minutes = self.options.get("every_minutes", EVERY_MINUTES)
        return float(minutes if isinstance(minutes, int | float) else EVERY_MINUTES) * 60


def check_sources(settings: HubSettings) -> None:
    """Note every problem with the settings of the sources; `settings.file.finish()` raises them."""
    for site in settings.sites:
        for source in site.sources:

            def problem(key: str, message: str, place: str = source.place) -> None:
                settings.file.problem(f"{place}.{key}", message)

            _check_sync_options(source.options, problem)
            try:
                _connect(source.kind, source.options, settings.file.path.parent, bytes(32), problem)
            except FatalError as error:
                problem("kind", str(error))
        for rule in site.rules:
            for window in rule.windows:
                try:
                    parse_window(window)
                except ValueError as error:
                    settings.file.problem(f"{rule.place}.windows", str(error))


def _check_sync_options(options: Mapping[str, Any], problem: Callable[[str, str], None]) -> None:
    for key in sorted(SYNC_OPTIONS & options.keys()):
        value = options[key]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if key == "new_cards":
            if value not in {"active", "prelinked"}:
                problem(key, "must be one of active, prelinked")
        elif key == "every_minutes":
            if not is_number or not 1 <= value <= 10_080:
                problem(key, "must be a number of minutes from 1 to 10080")
        elif not is_number or not 0 <= value <= 100:
            problem(key, "must be a percentage from 0 to 100")


def _connect(
    kind: str, options: Mapping[str, Any], base: Path, site_key: bytes, problem: Callable[[str, str], None]
) -> Connector:
    own = {key: value for key, value in options.items() if key not in SYNC_OPTIONS}
    return build_connector(kind, Options(own, base, site_key, problem))


def connect(source: Source, base: Path) -> Connector:
    """Build the connector of a source.

    Args:
        base: folder that relative paths in its settings start from.

    Raises:
        RefusedError: its settings in the database cannot be used; the text names the first problem.
        ConfigError: the site key cannot be read.
    """
    problems: list[str] = []
    site_key = read_site_key(base / source.key_file)
    connector = _connect(
        source.kind, source.options, base, site_key, lambda key, message: problems.append(f"{key}: {message}")
    )
    if problems:
        raise RefusedError(f"The settings of source {source.label} cannot be used: {problems[0]}.")
    return connector


def register(store: Store, settings: HubSettings) -> None:
    """Bring the sites and sources of hub.toml into the database."""
    with store.write() as connection:
        store.one_at_a_time(connection)
        for wanted in settings.sites:
            _register_site(connection, wanted)
            _register_rules(connection, wanted)
            for source in wanted.sources:
                row = {"kind": source.kind, "options": dict(source.options)}
                table = tables.source
                found = connection.execute(
                    select(table.c.id, table.c.edited).where(table.c.site == wanted.id, table.c.name == source.name)
                ).one_or_none()
                if found is None:
                    connection.execute(insert(table).values(site=wanted.id, name=source.name, **row))
                elif not found.edited:
                    connection.execute(update(table).where(table.c.id == found.id).values(**row))


def _register_site(connection: Connection, wanted: SiteSettings) -> None:
    table, rule = tables.site, tables.access_rule
    row: dict[str, Any] = {
        "name": wanted.name,
        "timezone": wanted.timezone.key,
        "key_file": str(wanted.site_key_file.absolute()),
    }
    row |= {"register_times": [f"{clock:%H:%M}" for clock in wanted.register_times]}
    found = connection.execute(select(table.c.edited).where(table.c.id == wanted.id)).one_or_none()
    if found is None:
        connection.execute(insert(table).values(id=wanted.id, **row))
        everyone = {"site": wanted.id, "point": EVERY_POINT, "place": 0, "name": "everyone", "groups": []}
        connection.execute(insert(rule).values(**everyone, schedule="always", windows=[], on_holidays=True))
        if not wanted.rules:
            log.warning("site %s has no rules yet: every active card may pass at every point", wanted.id)
        audit = Audit("hub", wanted.id, now_ms())
        audit.note("site_create", wanted.id)
        audit.write(connection)
    elif not found.edited:
        connection.execute(update(table).where(table.c.id == wanted.id).values(**row))


def _register_rules(connection: Connection, wanted: SiteSettings) -> None:
    """Make the rules and holidays of a site those of hub.toml, when it names any; no page edits them yet."""
    rule, holiday = tables.access_rule, tables.holiday
    if wanted.rules:
        connection.execute(delete(rule).where(rule.c.site == wanted.id))
        places: Counter[str] = Counter()
        for item in wanted.rules:
            row: dict[str, Any] = {"name": item.name, "groups": list(item.groups), "windows": list(item.windows)}
            row |= {"schedule": item.name if item.windows else "always", "on_holidays": item.on_holidays}
            connection.execute(insert(rule).values(site=wanted.id, point=item.point, place=places[item.point], **row))
            places[item.point] += 1
    if wanted.holidays:
        connection.execute(delete(holiday).where(holiday.c.site == wanted.id))
        rows = [{"site": wanted.id, "first_day": first, "last_day": last} for first, last in wanted.holidays]
        connection.execute(insert(holiday), rows)


def list_sources(connection: Connection, site: str | None = None, name: str | None = None) -> list[Source]:
    """Return the configured sources, all of them or those of a site or name."""
    source, owner = tables.source, tables.site
    wanted = (
        select(
            source.c.id, source.c.site, source.c.name, source.c.kind, source.c.options, owner.c.key_file, source.c.state
        )
        .join_from(source, owner)
        .order_by(source.c.site, source.c.name)
    )
    if site is not None:
        wanted = wanted.where(source.c.site == site)
    if name is not None:
        wanted = wanted.where(source.c.name == name)
    return [Source(*row) for row in connection.execute(wanted)]
