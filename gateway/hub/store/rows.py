"""Statements that are tuned for speed or differ between the two databases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, OperationalError

from gateway.hub.store import tables
from gateway.hub.store.engine import Store

EVENT_COLUMNS = tuple(column.name for column in tables.event.columns)
if TYPE_CHECKING:
    # Installed only with the PostgreSQL extra.
    import psycopg

_SLICE = 400
_COPY_LEAST = 50
_STAGED = "tapgate_event_stage"
_STAGE = "CREATE TEMPORARY TABLE IF NOT EXISTS event_stage (LIKE event) ON COMMIT DELETE ROWS"


def insert_if_new(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless its unique key exists; return whether it was new."""
    # Not every driver reports the row count of an insert with RETURNING; a returned row is reliable.
    key = next(iter(table.primary_key))
    if connection.dialect.name == "sqlite":
        fresh = sqlite.insert(table).values(values).on_conflict_do_nothing().returning(key)
    else:
        fresh = postgresql.insert(table).values(values).on_conflict_do_nothing().returning(key)
    return connection.execute(fresh).first() is not None


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
        self._is_sqlite = store.is_sqlite
        self._insert = f"INSERT INTO event ({columns}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608  # fixed names
        self._copy = f"COPY event_stage ({columns}) FROM STDIN"
        self._from_stage = f"INSERT INTO event ({columns}) SELECT {columns} FROM event_stage ON CONFLICT DO NOTHING"  # noqa: S608  # fixed names

    def insert(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Insert rows in EVENT_COLUMNS order, leaving those whose key is held; return how many were new."""
        if self._is_sqlite or len(rows) < _COPY_LEAST:
            return connection.exec_driver_sql(self._insert, list(rows)).rowcount
        # COPY cannot skip existing rows, so they go through a session table that each commit empties.
        if not connection.info.get(_STAGED):
            connection.exec_driver_sql(_STAGE)
            connection.info[_STAGED] = True
        self._copy_rows(connection, rows)
        return connection.exec_driver_sql(self._from_stage).rowcount

    def _copy_rows(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        # SQLAlchemy does not see direct driver calls, so the driver's errors are translated here.
        module: Any = connection.dialect.dbapi
        driver: psycopg.Connection[Any] = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
        try:
            with driver.cursor() as cursor, cursor.copy(self._copy) as copy:
                for row in rows:
                    copy.write_row(row)
        except (module.OperationalError, module.InterfaceError) as error:
            raise OperationalError(self._copy, None, error) from error
        except module.Error as error:
            raise DataError(self._copy, None, error) from error

    def held(
        self, connection: Connection, gateway: int, epoch: str, seqs: Sequence[int]
    ) -> dict[int, tuple[bytes, int]]:
        """Return the stored bytes and commit time of those events that are held."""
        table = tables.event
        found: dict[int, tuple[bytes, int]] = {}
        for some in in_slices(seqs):
            query = select(table.c.seq, table.c.raw, table.c.committed_ms).where(
                table.c.gateway == gateway, table.c.epoch == epoch, table.c.seq.in_(some)
            )
            found.update((seq, (bytes(raw), at_ms)) for seq, raw, at_ms in connection.execute(query))
        return found
