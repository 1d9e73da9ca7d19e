"""What hub.toml says differently from what is in force: shown before the hub follows it at its next start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, select

from gateway.access.people import EVERY_POINT
from gateway.config import HubSettings, SiteSettings
from gateway.hub.directory.register import load_register
from gateway.hub.directory.sites import removed_owners, rules_of
from gateway.hub.directory.user_types import load_user_types
from gateway.hub.store import tables


def list_changes(connection: Connection, settings: HubSettings) -> list[str]:
    """Return one sentence for each change that the next start of the hub would make; nothing is written."""
    known = {row.id: row for row in connection.execute(select(tables.site))}
    changes = []
    for item in settings.sites:
        if item.id not in known:
            changes.append(f"site {item.id} would be added")
            continue
        row = known[item.id]
        if not row.edited:
            new = {"name": item.name, "time zone": item.timezone.key, "key file": str(item.site_key_file.absolute())}
            current = {"name": row.name, "time zone": row.timezone, "key file": row.key_file}
            changes += [
                f"site {item.id}: {name} {current[name]!r} would become {value!r}"
                for name, value in new.items()
                if current[name] != value
            ]
        changes += _sources(connection, item)
        changes += _rules(connection, item)
        if load_register(connection, item.id) != item.register:
            changes.append(f"site {item.id}: the sessions, actions or choices of the register would change")
        if load_user_types(connection, item.id) != item.user_types:
            changes.append(f"site {item.id}: the types of people would change, and everybody be sorted anew")
    gone = sorted(known.keys() - {item.id for item in settings.sites})
    changes += [
        f"site {name} is no longer in this file; it stays as it is until it is removed by hand" for name in gone
    ]
    return changes


def _sources(connection: Connection, item: SiteSettings) -> Iterator[str]:
    table = tables.source
    known = {row.name: row for row in connection.execute(select(table).where(table.c.site == item.id))}
    renamed = set()
    for source in item.sources:
        label = f"source {item.id}/{source.name}"
        row = known.get(source.name)
        was = source.options.get("was")
        if was in known and row is None:
            renamed.add(was)
            yield f"{label} would take over the people of {was}"
        elif row is None:
            yield f"{label} would be added; its first read is held until somebody lets its people in"
        elif row.removed_ms is not None:
            yield f"{label} would be read again"
        elif not row.edited:
            held, new = {**row.options, "kind": row.kind}, {**source.options, "kind": source.kind}
            if names := _differing(held, new):
                yield f"{label}: {', '.join(names)} would change"
    left = dict(removed_owners(connection, item.id, [source.name for source in item.sources]))
    for name in sorted(known.keys() - {source.name for source in item.sources} - renamed):
        if known[name].removed_ms is None and not known[name].edited:
            people = left.get(name, 0)
            yield f"source {item.id}/{name} would no longer be read; its {people} people stay until it is retired"


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def _rules(connection: Connection, item: SiteSettings) -> Iterator[str]:
    rule, holiday = tables.access_rule, tables.holiday
    rows = connection.execute(select(rule).where(rule.c.site == item.id))
    held = {(row.point, row.name, tuple(row.groups), tuple(row.windows), row.on_holidays) for row in rows}
    new = {(one.point, one.name, one.groups, one.windows, one.on_holidays) for one in rules_of(item)}
    for mark, some in (("added", new - held), ("taken away", held - new)):
        for point, name, *_ in sorted(some):
            where = "every point" if point == EVERY_POINT else point
            yield f"site {item.id}: the rule {name!r} at {where} would be {mark}"
    days = connection.execute(select(holiday.c.first_day, holiday.c.last_day).where(holiday.c.site == item.id))
    current = {tuple(row) for row in days}
    for mark, spans in (("added", set(item.holidays) - current), ("taken away", current - set(item.holidays))):
        for first, last in sorted(spans):
            yield f"site {item.id}: the holiday from {first} to {last} would be {mark}"
