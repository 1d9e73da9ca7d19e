"""One way to open the database, for SQLite and PostgreSQL alike.

SQLite: WAL, synchronous FULL, foreign keys on; a transaction that will write takes the write lock when it begins, so
that it never fails half-way for want of it. Any trouble of the connection comes out as StoreUnavailable.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, NoSuchModuleError, OperationalError

from gateway.errors import ConfigError, MissingExtra, StoreUnavailable

MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_SECONDS = 10
_SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-65536",
)
_WRITES = "tapgate_writes"
_START_LOCK = 0x7A9A7E


def now_ms() -> int:
    """Return the wall clock in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Store:
    """The database; its two kinds of transaction are the only way to it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._writer = engine.execution_options(**{_WRITES: True})

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads and sees one moment.

        Raises:
            StoreUnavailable: the database does not answer; try again later.
        """
        with as_unavailable(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that writes; leaving it without an error commits.

        Raises:
            StoreUnavailable: the database does not answer or is locked; nothing was written, try again later.
        """
        with as_unavailable(), self._writer.begin() as connection:
            yield connection

    def one_at_a_time(self, connection: Connection) -> None:
        """Make other processes that say this too wait for the end of this transaction; SQLite does so by itself."""
        if not self.is_sqlite:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_START_LOCK})"))

    def migrate(self) -> None:
        """Bring the tables to the form of this software; safe to call from several processes at once."""
        # It logs every plug-in it loads, and only this call needs it.
        logging.getLogger("alembic").setLevel(logging.WARNING)
        from alembic import command  # noqa: PLC0415  # only migrations need Alembic
        from alembic.config import Config  # noqa: PLC0415  # only migrations need Alembic

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with self.write() as connection:
            self.one_at_a_time(connection)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def ping(self) -> None:
        """Ask for nothing.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        with self.read() as connection:
            connection.execute(select(1))

    def close(self) -> None:
        self.engine.dispose()


@contextlib.contextmanager
def as_unavailable() -> Iterator[None]:
    """Turn the driver's connection errors into StoreUnavailable."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        # The driver's own text may quote parameters; its class and first line say enough.
        raise StoreUnavailable(f"The hub's database does not answer ({_first_line(error)}).") from error


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0][:200]


def open_store(database: str, state_dir: Path) -> Store:
    """Open the database that `database` names; nothing is created or migrated yet.

    Args:
        database: an SQLAlchemy URL; a relative SQLite path is relative to `state_dir`.

    Raises:
        ConfigError: the URL cannot be used.
        MissingExtra: the driver is not installed.
    """
    try:
        url = make_url(database)
        if url.get_backend_name() == "sqlite":
            if url.database and url.database != ":memory:":
                url = url.set(database=str(state_dir / url.database))
            engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False})
            _prepare_sqlite(engine)
            return Store(engine)
        engine = create_engine(url, pool_pre_ping=True, pool_size=8, connect_args={"connect_timeout": 5})
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError([f"hub.toml:0: hub.database: cannot be used ({type(error).__name__})."]) from None
    except ModuleNotFoundError as error:
        raise MissingExtra(f"The database driver {error.name!r} is missing; install tapgate[postgres].") from None
    return Store(engine)


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        # The driver must not begin transactions by its own rules; `on_begin` does.
        connection.isolation_level = None
        for pragma in _SQLITE_PRAGMAS:
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
