"""Builds signed roster generations from the directory.

A generation is made only when its content has changed, and the content is read only when the site's revision has, or
what it was made with: a release, a key. Only the hub counts generations: a number reported by a gateway moves
the count only with the hub's own signature, so that a hub restored from a backup is trusted and no one else is.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Text, cast, delete, insert, select, update

from gateway import __version__
from gateway.access.people import (
    EVERY_POINT,
    CardEntry,
    CardState,
    Copies,
    KioskAction,
    PointRules,
    Rule,
    Stale,
    UnsetClock,
    fold_group,
)
from gateway.access.schedule import Schedule, parse_window
from gateway.cards.encodings import LOSSY_PROJECTIONS
from gateway.cards.identity import UID_PROJECTION
from gateway.config import read_site_key
from gateway.hub.directory.register import load_calendar, load_register
from gateway.hub.directory.revision import forget_touched, revision_of, touched_since
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.store.rows import in_slices
from gateway.mis.base import ROLES
from gateway.roster.file import RosterContent, amend, build, split, what_it_says
from gateway.roster.publication import Publication, chunk_names, publish
from gateway.roster.signing import Signer

KEPT_GENERATIONS = 16
DELTAS_FROM = 4
_GROUP = "group:"
# Whoever is absent from one read only may be back in the next.
_LET_IN = ("active", "missing")
_STATES = {state.name.lower(): state for state in CardState}


@dataclass(frozen=True, slots=True)
class Published:
    """What is to be sent for a site.

    Attributes:
        stale_chunks: names of chunks that no longer belong to the newest two generations.
        stale_deltas: deltas to generations that are not the newest any more.
    """

    site: str
    version: int
    publication: Publication
    stale_chunks: frozenset[str]
    stale_deltas: frozenset[tuple[int, int]]


def load_content(connection: Connection, site: str, keys: Collection[str] | None = None) -> RosterContent:
    """Read the current roster content of a site; its version is 0 until it is numbered.

    Args:
        keys: of the only cards to read; None for all.
    """
    return RosterContent(
        site,
        0,
        _load_cards(connection, site, keys),
        _load_points(connection, site),
        load_calendar(connection, site),
        _load_projections(connection, site),
        zone=connection.scalar(select(tables.site.c.timezone).where(tables.site.c.id == site)) or "",
        actions=tuple(
            KioskAction(
                item.id,
                item.name,
                item.kind,
                item.direction,
                item.points,
                frozenset(map(_ruled, item.user_types)),
            )
            for item in load_register(connection, site).actions
        ),
    )


def _load_cards(connection: Connection, site: str, keys: Collection[str] | None) -> dict[bytes, CardEntry]:
    card, person = tables.card, tables.person
    query = (
        select(
            card.c.key,
            card.c.state,
            card.c.person,
            card.c.valid_from,
            card.c.valid_until,
            person.c.state,
            person.c.role,
            # As text: many people share the same few groups, and each distinct text is decoded once.
            cast(person.c.groups, Text),
            person.c.valid_from,
            person.c.valid_until,
        )
        .outerjoin(person, person.c.ref == card.c.person)
        .where(card.c.site == site)
    )
    cards = {}
    sets: dict[tuple[str, str], frozenset[str]] = {}
    nobody: frozenset[str] = frozenset()
    queries = [query] if keys is None else [query.where(card.c.key.in_(some)) for some in in_slices(keys)]
    rows = chain.from_iterable(map(connection.execute, queries))
    for key, state, ref, first, last, person_state, role, groups, person_first, person_last in rows:
        names = nobody
        if ref is not None and (known := sets.get((role, groups))) is not None:
            names = known
        elif ref is not None:
            names = sets[role, groups] = frozenset((role, *map(_group_of, msgspec.json.decode(groups, type=list[str]))))
        cards[bytes.fromhex(key)] = CardEntry(
            ref,
            _STATES[state],
            names,
            _later(first, person_first),
            _earlier(last, person_last),
            person_state in _LET_IN,
        )
    return cards


def _group_of(name: str) -> str:
    """Return a group as rosters name it: folded, and marked where a role has the same name."""
    folded = fold_group(name)
    return f"{_GROUP}{folded}" if folded in ROLES else folded


def _ruled(name: str) -> str:
    """Return what a rule means: a role by its name, else a group; `group:staff` is the group of that name."""
    folded = fold_group(name)
    if folded.startswith(_GROUP):
        return _group_of(folded.removeprefix(_GROUP))
    return folded


def _later(one: date | None, other: date | None) -> date | None:
    return max(one, other) if one and other else one or other


def _earlier(one: date | None, other: date | None) -> date | None:
    return min(one, other) if one and other else one or other


def _load_points(connection: Connection, site: str) -> dict[str, PointRules]:
    rule = tables.access_rule
    rules: dict[str, list[Rule]] = defaultdict(list)
    for row in connection.execute(select(rule).where(rule.c.site == site).order_by(rule.c.point, rule.c.place)):
        schedule = Schedule(row.schedule, tuple(parse_window(text) for text in row.windows), row.on_holidays)
        rules[row.point].append(Rule(row.name, frozenset(map(_ruled, row.groups)), schedule))
    table = tables.point_policy
    policies = {row.point: row for row in connection.execute(select(table).where(table.c.site == site))}
    points = {}
    for point in rules.keys() | policies.keys():
        # A point with a policy and no rules of its own keeps the rules of every point.
        own = PointRules(tuple(rules.get(point) or rules.get(EVERY_POINT, [])))
        policy = policies.get(point) or policies.get(EVERY_POINT)
        if policy is not None:
            own = replace(
                own,
                unset_clock=UnsetClock(policy.unset_clock),
                stale=Stale(policy.stale),
                stale_after_seconds=policy.stale_after_hours * 3600.0,
                copies=Copies(policy.copies),
            )
        points[point] = own
    return points


def _load_projections(connection: Connection, site: str) -> tuple[str, ...]:
    card = tables.card
    used = set(connection.scalars(select(card.c.projection).where(card.c.site == site).distinct()))
    return (UID_PROJECTION, *(name for name in LOSSY_PROJECTIONS if name in used))


def refresh(
    store: Store, site: str, signer: Signer, key_file: Path, *, resend: bool = False, floor: int = 0
) -> Published | None:
    """Build the next generation of a site if its content has changed.

    Args:
        resend: return the newest generation even when nothing changed, with all its chunks: the broker may have
            lost them. Otherwise return only the chunks that the previous generation lacks.
        floor: a number that this hub once signed, whose generation it may have lost.
    """
    site_key = read_site_key(key_file)
    made_with = _made_with(signer, site_key)
    with store.read() as connection:
        # Read before the content, which may only be newer than its revision says.
        revision = revision_of(connection, site)
        kept = _newest(connection, site)
        is_current = (
            kept is not None and kept.version >= floor and (kept.revision, kept.made_with) == (revision, made_with)
        )
        if is_current and not resend:
            return None
        files = _files(connection, site)
        content = keys = None
        if not is_current:
            keys = touched_since(connection, site, kept.revision) if kept and kept.made_with == made_with else None
            content = load_content(connection, site, keys)
    newest = kept.version if kept is not None else 0
    if content is not None:
        content = replace(content, version=max(newest, floor) + 1)
        if keys is None:
            made = build(content, signer, site_key, files[0] if files else None)
        else:
            made = amend(
                content, {bytes.fromhex(key) for key in keys} - content.cards.keys(), signer, site_key, files[0]
            )
        origin = {"revision": revision, "made_with": made_with}
        digest = what_it_says(made)
        if kept is None or kept.digest != digest or floor > newest:
            files.insert(0, made)
            _keep(store, {"site": site, "version": content.version, "digest": digest, "file": made, **origin})
        else:
            _confirm(store, site, newest, origin)
            if not resend:
                return None
    return _published(site, files, signer, site_key, whole=resend)


def _made_with(signer: Signer, site_key: bytes) -> str:
    """Name what a roster depends on besides the directory; the site key cannot be found from it."""
    what = __version__.encode() + signer.public_key
    return hashlib.blake2b(what, key=site_key, digest_size=16).hexdigest()


def _newest(connection: Connection, site: str) -> Row[int, str, int | None, str | None] | None:
    table = tables.roster_generation
    columns = (table.c.version, table.c.digest, table.c.revision, table.c.made_with)
    query = select(*columns).where(table.c.site == site).order_by(table.c.version.desc()).limit(1)
    return connection.execute(query).one_or_none()


def _files(connection: Connection, site: str) -> list[bytes]:
    table = tables.roster_generation
    query = select(table.c.file).where(table.c.site == site).order_by(table.c.version.desc()).limit(DELTAS_FROM + 1)
    return [bytes(file) for file in connection.scalars(query)]


def _confirm(store: Store, site: str, version: int, origin: dict[str, Any]) -> None:
    table = tables.roster_generation
    with store.write() as connection:
        of_version = update(table).where(table.c.site == site, table.c.version == version)
        connection.execute(of_version.values(origin))
        forget_touched(connection, site, origin["revision"])


def _keep(store: Store, row: dict[str, Any]) -> None:
    table = tables.roster_generation
    with store.write() as connection:
        connection.execute(insert(table).values(**row, cards=split(row["file"]).count, created_ms=now_ms()))
        forget_touched(connection, row["site"], row["revision"])
        old = (
            select(table.c.version)
            .where(table.c.site == row["site"])
            .order_by(table.c.version.desc())
            .offset(KEPT_GENERATIONS)
            .scalar_subquery()
        )
        connection.execute(delete(table).where(table.c.site == row["site"], table.c.version.in_(old)))


def _published(site: str, files: list[bytes], signer: Signer, site_key: bytes, *, whole: bool) -> Published:
    """Make the payloads of the first of some files, newest first; `whole` with the chunks that the second has too."""
    last, before = (*(set(chunk_names(file)) for file in files[1:3]), set[str](), set[str]())[:2]
    publication = publish(files[0], files[1 : DELTAS_FROM + 1], signer, site_key, sent=set() if whole else last)
    versions = [split(file).version for file in files]
    stale_deltas = {(old, versions[1]) for old in versions[2:]}
    return Published(
        site, versions[0], publication, frozenset(before - last - set(publication.names)), frozenset(stale_deltas)
    )
