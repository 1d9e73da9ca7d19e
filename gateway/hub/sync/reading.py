"""How a source is read: what replaces one that is out of use, what refuses a read, what the next one builds on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, update

from gateway.errors import SourceRefused
from gateway.hub.directory.sites import Source, connect, removed_owners
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.sync.feed import Feed
from gateway.hub.sync.positions import settings_of
from gateway.hub.sync.uploads import UploadedSource
from gateway.mis.agent import AgentSource
from gateway.mis.base import Capabilities, CheckResult, Complete, Connector, FeedItem, FieldSeen

# In the remembered shape of a source, beside its fields: the settings under which it was read.
_SETTINGS = "(settings)"


class Retired:
    """Replaces a source that hub.toml no longer names: it is empty, so the guard holds the removal of its people."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(removes_staff=True)

    def check(self) -> CheckResult:
        return CheckResult("object_missing", "hub.toml no longer names this source.")

    def discover(self) -> Iterator[FieldSeen]:
        yield from ()

    def fetch(self, lists: Collection[str], cursors: Mapping[str, str]) -> Iterator[FeedItem]:
        del lists, cursors
        yield Complete(0)


def connector_of(store: Store, source: Source, base: Path) -> Connector:
    """Return the connector of a source, or what replaces it once hub.toml no longer names it."""
    if source.is_removed:
        return Retired()
    connector = connect(source, base)
    return UploadedSource(store, source.id, connector) if isinstance(connector, AgentSource) else connector


def refuse_second_owner(connection: Connection, source: Source, named: Collection[str] | None = None) -> None:
    """Refuse the first read of a source while a source that hub.toml dropped still has people.

    Most often the source was renamed; read as a new one it would ask about everybody a second time.
    """
    owners = removed_owners(connection, source.site, named)
    claim = tables.person_claim.c
    if not owners or source.is_removed:
        return
    if source.id and connection.scalar(select(claim.person).where(claim.source == source.id).limit(1)) is not None:
        return
    names = " and ".join(f"{name} ({count} people)" for name, count in owners)
    raise SourceRefused(
        "owned_by_another",
        f"hub.toml no longer names the source {names} of {source.site}, whose people are still in the directory. If "
        f'{source.name} is its new name, write was = "{owners[0][0]}" in its section; else retire the old one first '
        f"(tapgate mis retire --source {owners[0][0]}).",
    )


def refuse_lost_fields(source: Source, feed: Feed) -> None:
    """Refuse a read without a field that the last good one had; without it everybody would lose what it says.

    Whoever changed the settings of the source since then meant it; what follows from that is the guard's to hold.
    """
    if source.shape.get(_SETTINGS) != settings_of(source):
        return
    for name, heading in source.shape.items():
        if name == _SETTINGS:
            continue
        if feed.shape and name not in feed.shape:
            raise SourceRefused(
                "column_missing",
                f"The source {source.label} has no column for {name.replace('_', ' ')} any more; the last good read "
                f"found it as {heading!r}. Correct the export, or name the new column under columns in hub.toml.",
            )
        if feed.shape and feed.shape[name] != heading:
            feed.notices.append(
                f"{name.replace('_', ' ')} is now read from {feed.shape[name]!r}, before it was {heading!r}."
            )


def keep_reading(connection: Connection, source: Source, feed: Feed, *, is_agreed: bool) -> None:
    """Remember what the next read is compared with, in the transaction that applied this one.

    Args:
        is_agreed: somebody has let in everything that the first read of the source found.
    """
    values: dict[str, Any] = {}
    if feed.complete and feed.shape:
        values["shape"] = {**feed.shape, _SETTINGS: settings_of(source)}
    if is_agreed:
        values["agreed_ms"] = now_ms()
    if values:
        connection.execute(update(tables.source).where(tables.source.c.id == source.id).values(values))
