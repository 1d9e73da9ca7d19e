"""Sites, rules and sources: from hub.toml into the database, and back as connectors.

The database follows hub.toml, removals included; a row edited on a page is left alone. A source no longer in hub.toml
is no longer read, and its people stay until they are carried over or retired.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, delete, false, func, insert, or_, select, update

from gateway.access.people import EVERY_POINT
from gateway.access.schedule import parse_window
from gateway.config import HubSettings, RuleSettings, SiteSettings, read_site_key
from gateway.errors import FatalError, RefusedError
from gateway.hub.directory.register import follow_register, follow_user_types
from gateway.hub.directory.revision import raise_revision
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms
from gateway.mis.base import LISTS, Connector
from gateway.mis.options import Options, build_connector

log = logging.getLogger(__name__)

_WINDOW = re.compile(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d")

# Settings of the sync itself, which every kind of source has in addition to its connector's.
PERCENT_OPTIONS = {
    f"hold_{what}_percent"
    for what in ("removals", "group", "cards", "names", "birth_dates", "emails", "groups", "dates", "staff", "hidden")
}
SYNC_OPTIONS = PERCENT_OPTIONS | {
    "new_cards",
    "every_minutes",
    "lists",
    "nightly",
    "one_way",
    "pupil_emails",
    "purpose",
    "rank",
    "was",
    "years",
}
_CHOICES = {"purpose": ("people", "cards_only"), "new_cards": ("active", "prelinked")}
EVERY_MINUTES = 15
NIGHTLY = "01:00-03:00"


@dataclass(frozen=True, slots=True)
class Source:
    """A source; `label` is its name for people, `id` is 0 until it is in the database."""

    id: int
    site: str
    name: str
    kind: str
    options: Mapping[str, Any]
    key_file: str
    agreed_ms: int | None = None
    shape: Mapping[str, str] = field(default_factory=dict)
    is_removed: bool = False

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
        names = [source.name for source in site.sources]
        for source in site.sources:
            was = source.options.get("was")
            if was is not None and was in names:
                settings.file.problem(
                    f"{source.place}.was",
                    f"source {was!r} is in this file too; write the name that this source had before",
                )

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
        if key in {"lists", "years"}:
            _check_choice(key, value, problem)
        elif key in _CHOICES:
            if value not in _CHOICES[key]:
                problem(key, f"must be one of {', '.join(_CHOICES[key])}")
        else:
            is_good, message = _CHECKS.get(key, _PERCENTAGE)
            if not is_good(value):
                problem(key, message)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_within(least: float, most: float) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and least <= value <= most


_PERCENTAGE = (_is_within(0, 100), "must be a percentage from 0 to 100")
_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "was": (lambda value: isinstance(value, str), "must be a string in quotes: the name that this source had before"),
    "one_way": (lambda value: value is True, "must be true: this release writes nothing to an MIS"),
    "pupil_emails": (lambda value: isinstance(value, bool), "must be true or false"),
    "rank": (_is_number, "must be a number; the source with the lowest one is believed first"),
    "every_minutes": (_is_within(1, 10_080), "must be a number of minutes from 1 to 10080"),
    "nightly": (
        lambda value: value is False or (isinstance(value, str) and bool(_WINDOW.fullmatch(value))),
        f'must be a window of local times such as "{NIGHTLY}", or false',
    ),
}


def _check_choice(key: str, value: object, problem: Callable[[str, str], None]) -> None:
    known = (*LISTS, "groups")
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        problem(key, 'must be a list of texts such as ["7", "8"]' if key == "years" else f"must be a list of {known}")
    elif key == "lists" and (unknown := sorted(set(value) - set(known))):
        problem(key, f"{unknown[0]!r} is no list; choose from {', '.join(known)}")


def _connect(
    kind: str, options: Mapping[str, Any], base: Path, site_key: bytes, problem: Callable[[str, str], None]
) -> Connector:
    own = {key: value for key, value in options.items() if key not in SYNC_OPTIONS}
    has_names = options.get("purpose") != "cards_only"
    return build_connector(kind, Options(own, base, site_key, problem, has_names))


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


def register(store: Store, settings: HubSettings, *, follow: bool = True) -> None:
    """Write the sites and sources of hub.toml to the database.

    Args:
        follow: False for a process that only needs its sites to exist, such as an ingest worker whose hub.toml may hold
            no sources: it takes nothing away.
    """
    with store.write() as connection:
        store.one_at_a_time(connection)
        for site in settings.sites:
            is_new = _register_site(connection, site)
            if follow or is_new:
                _register_rules(connection, site)
                follow_register(connection, site)
                follow_user_types(connection, site)
            if follow:
                _register_sources(connection, site)


def _register_site(connection: Connection, site: SiteSettings) -> bool:
    table = tables.site
    row: dict[str, Any] = {
        "name": site.name,
        "timezone": site.timezone.key,
        "key_file": str(site.site_key_file.absolute()),
    }
    row |= {"register_times": [f"{clock:%H:%M}" for clock in site.register_times]}
    row |= {"trust_unenrolled": site.trust_unenrolled}
    columns = (table.c.edited, *(table.c[name] for name in row))
    found = connection.execute(select(*columns).where(table.c.id == site.id)).mappings().one_or_none()
    if found is None:
        connection.execute(insert(table).values(id=site.id, **row))
        raise_revision(connection, site.id)
        _note(connection, site.id, "site_create", site.id)
    elif not found["edited"] and any(found[name] != value for name, value in row.items()):
        connection.execute(update(table).where(table.c.id == site.id).values(**row))
        raise_revision(connection, site.id)
    return found is None


def rules_of(site: SiteSettings) -> tuple[RuleSettings, ...]:
    """Return the rules of a site in hub.toml; one without any lets everybody pass everywhere at any time."""
    if site.rules:
        return tuple(site.rules)
    return (RuleSettings(EVERY_POINT, "everyone", (), (), on_holidays=True, place=""),)


def _register_rules(connection: Connection, site: SiteSettings) -> None:
    """Replace the rules and holidays of a site by those of hub.toml; no page edits them yet."""
    rule, holiday = tables.access_rule, tables.holiday
    rows: list[dict[str, Any]] = []
    places: Counter[str] = Counter()
    for item in rules_of(site):
        row: dict[str, Any] = {"site": site.id, "point": item.point, "place": places[item.point], "name": item.name}
        row |= {"groups": list(item.groups), "windows": list(item.windows), "on_holidays": item.on_holidays}
        rows.append(row | {"schedule": item.name if item.windows else "always"})
        places[item.point] += 1
    if not site.rules:
        log.warning("site %s has no rules: every active card may pass at every point at any time", site.id)
    _replace(connection, rule, rows, site.id, ("point", "place"))
    days = [{"site": site.id, "first_day": first, "last_day": last} for first, last in site.holidays]
    _replace(connection, holiday, days, site.id, ("first_day", "last_day"))
    policies = [
        {
            "site": site.id,
            "point": policy.point,
            "unset_clock": policy.unset_clock,
            "stale": policy.stale,
            "stale_after_hours": policy.stale_after_hours,
            "copies": policy.copies,
        }
        for policy in site.policies
    ]
    _replace(connection, tables.point_policy, policies, site.id, ("point", "unset_clock"))


def _replace(
    connection: Connection, table: Table, rows: list[dict[str, Any]], site: str, order: tuple[str, str]
) -> None:
    columns = [column for column in table.c if column.name != "id"]
    held = [dict(row) for row in connection.execute(select(*columns).where(table.c.site == site)).mappings()]

    def key(row: dict[str, Any]) -> tuple[Any, Any]:
        return row[order[0]], row[order[1]]

    if sorted(held, key=key) == sorted(rows, key=key):
        return
    connection.execute(delete(table).where(table.c.site == site))
    if rows:
        connection.execute(insert(table), rows)
    raise_revision(connection, site)
    _note(connection, site, f"{table.name}_follow", "hub.toml")


def _register_sources(connection: Connection, site: SiteSettings) -> None:
    table = tables.source
    columns = (table.c.name, table.c.id, table.c.edited, table.c.removed_ms)
    known = {row.name: row for row in connection.execute(select(*columns).where(table.c.site == site.id))}
    for item in site.sources:
        row: dict[str, Any] = {"kind": item.kind, "options": dict(item.options), "removed_ms": None}
        was = item.options.get("was")
        if was in known and _has_nobody(connection, known.get(item.name)):
            # The row keeps its number, and with it its people, their ids and their cards.
            kept, empty = known.pop(was), known.pop(item.name, None)
            _carry_over(connection, kept.id, None if empty is None else empty.id, item.name)
            known[item.name] = kept
            _note(connection, site.id, "source_rename", f"{was} to {item.name}")
        if (found := known.get(item.name)) is None:
            connection.execute(insert(table).values(site=site.id, name=item.name, **row))
        elif not found.edited:
            connection.execute(update(table).where(table.c.id == found.id).values(**row))
    for name in known.keys() - {item.name for item in site.sources}:
        if known[name].edited or known[name].removed_ms is not None:
            continue
        log.warning("source %s/%s is no longer in hub.toml: it is not read, and its people stay", site.id, name)
        connection.execute(update(table).where(table.c.id == known[name].id).values(removed_ms=now_ms()))
        _drop_uploads(connection, known[name].id)
        _note(connection, site.id, "source_remove", name)


def _has_nobody(connection: Connection, source: Any) -> bool:
    if source is None:
        return True
    identity = tables.identity.c
    return connection.scalar(select(identity.person).where(identity.source == source.id).limit(1)) is None


def _carry_over(connection: Connection, kept: int, empty: int | None, name: str) -> None:
    if empty is not None:
        # The new name was used before `was` was set; its runs belong to the same source.
        connection.execute(update(tables.sync_run).where(tables.sync_run.c.source == empty).values(source=kept))
        _drop_uploads(connection, empty)
        for table in (tables.job, tables.hold_op, tables.conflict, tables.source_cursor):
            connection.execute(delete(table).where(table.c.source == empty))
        connection.execute(delete(tables.source).where(tables.source.c.id == empty))
    connection.execute(update(tables.source).where(tables.source.c.id == kept).values(name=name))


def _drop_uploads(connection: Connection, source: int) -> None:
    """Delete what an agent has sent for a source, whole or not; it sends again where it is still wanted."""
    upload, part = tables.upload, tables.upload_part
    of_source = select(upload.c.id).where(upload.c.source == source)
    connection.execute(delete(part).where(part.c.upload.in_(of_source)))
    connection.execute(delete(upload).where(upload.c.source == source))


def _note(connection: Connection, site: str, operation: str, subject: str) -> None:
    audit = Audit("hub", site, now_ms())
    audit.note(operation, subject)
    audit.write(connection)


def list_sources(
    connection: Connection, site: str | None = None, name: str | None = None, *, removed: bool = False
) -> list[Source]:
    """Return the sources that are read, all of them or those of a site or name; with `removed` those that are not."""
    source, owner = tables.source, tables.site
    columns = (source.c.id, source.c.site, source.c.name, source.c.kind, source.c.options, owner.c.key_file)
    query = select(*columns, source.c.agreed_ms, source.c.shape, source.c.removed_ms).join_from(source, owner)
    query = query.where(source.c.removed_ms.is_not(None) if removed else source.c.removed_ms.is_(None))
    if site is not None:
        query = query.where(source.c.site == site)
    if name is not None:
        query = query.where(source.c.name == name)
    rows = connection.execute(query.order_by(source.c.site, source.c.name))
    return [Source(*row[:-2], shape=row[-2] or {}, is_removed=row[-1] is not None) for row in rows]


def source_of(settings: HubSettings, connection: Connection, site: str, name: str) -> Source | None:
    """Return a source as hub.toml has it now, with what the database knows of it; None when hub.toml names no such one.

    Nothing is written; the source of a page's edit is returned as edited.
    """
    for owner in settings.sites:
        for item in owner.sources:
            if (owner.id, item.name) != (site, name):
                continue
            key_file = str(owner.site_key_file.absolute())
            table, was = tables.source, item.options.get("was", name)
            query = select(table.c.id, table.c.agreed_ms, table.c.shape, table.c.kind, table.c.options, table.c.edited)
            query = query.where(table.c.site == site, table.c.name.in_((name, was)))
            # People under the old name are carried over.
            rows = connection.execute(query.order_by(table.c.name != was)).all()
            if not rows:
                return Source(0, site, name, item.kind, item.options, key_file)
            row = rows[0]
            kind, options = (row.kind, row.options) if row.edited else (item.kind, item.options)
            return Source(row.id, site, name, kind, options, key_file, row.agreed_ms, row.shape or {})
    return None


def removed_owners(connection: Connection, site: str, named: Collection[str] | None = None) -> list[tuple[str, int]]:
    """Return the sources of a site that hub.toml no longer names and that still have active people, with how many.

    Args:
        named: the sources that hub.toml names now, where the database has not followed it yet.
    """
    source, person, claim = tables.source, tables.person, tables.person_claim
    gone = or_(source.c.removed_ms.is_not(None), source.c.name.not_in(named) if named is not None else false())
    query = (
        select(source.c.name, func.count())
        .join_from(source, claim, claim.c.source == source.c.id)
        .join(person, person.c.ref == claim.c.person)
        .where(source.c.site == site, gone, claim.c.state != "gone", person.c.state != "inactive")
        .group_by(source.c.name)
        .order_by(source.c.name)
    )
    return [(name, count) for name, count in connection.execute(query)]
