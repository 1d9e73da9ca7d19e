"""The few statements that are written for speed or that the two databases spell differently."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from gateway.hub.store import tables
from gateway.hub.store.engine import Store

EVENT_COLUMNS = tuple(column.name for column in tables.event.columns)
_SLICE = 400


def insert_if_new(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless a unique key already holds it; tell whether it was new."""
    if connection.dialect.name == "sqlite":
        return connection.execute(sqlite.insert(table).values(values).on_conflict_do_nothing()).rowcount == 1
    return connection.execute(postgresql.insert(table).values(values).on_conflict_do_nothing()).rowcount == 1


def in_slices(items: Iterable[Any], size: int = _SLICE) -> Iterator[list[Any]]:
    """Cut items into lists short enough for one IN (...)."""
    source = iter(items)
    while piece := list(islice(source, size)):
        yield piece


class EventWriter:
    """Writes event rows with the driver's own bulk call; per-row parameter handling would cost more than the row."""

    def __init__(self, store: Store) -> None:
        mark = "?" if store.is_sqlite else "%s"
        columns = ", ".join(EVENT_COLUMNS)
        marks = ", ".join([mark] * len(EVENT_COLUMNS))
        self._insert = f"INSERT INTO event ({columns}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608  # fixed names

    def insert(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Insert rows in EVENT_COLUMNS order, leaving those whose key is held; give how many were new."""
        return connection.exec_driver_sql(self._insert, list(rows)).rowcount

    def held(
        self, connection: Connection, gateway: int, epoch: str, seqs: Sequence[int]
    ) -> dict[int, tuple[bytes, int]]:
        """Give the stored bytes and commit time of those events that are held."""
        table = tables.event
        found: dict[int, tuple[bytes, int]] = {}
        for some in in_slices(seqs):
            wanted = select(table.c.seq, table.c.raw, table.c.committed_ms).where(
                table.c.gateway == gateway, table.c.epoch == epoch, table.c.seq.in_(some)
            )
            found.update((seq, (bytes(raw), at_ms)) for seq, raw, at_ms in connection.execute(wanted))
        return found
