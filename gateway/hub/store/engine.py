"""Opens the database, SQLite or PostgreSQL.

SQLite: WAL, synchronous FULL, foreign keys on; a transaction that will write takes the write lock when it begins, so
that it never fails halfway for lack of it. Every connection error is raised as StoreUnavailable.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, make_url, select, text
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.pool import StaticPool

from gateway import __version__
from gateway.errors import ConfigError, FatalError, MissingExtra, StoreUnavailable
from gateway.hub.store.tables import metadata

MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_SECONDS = 10
_SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-65536",
)
# SQLite's messages for a file damaged by a power cut or a failing card (SQLITE_CORRUPT, SQLITE_NOTADB).
_DAMAGE = ("malformed", "not a database")
_WRITES = "tapgate_writes"
_START_LOCK = 0x7A9A7E


def now_ms() -> int:
    """Return the wall clock in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Store:
    """The database, reached only through its two kinds of transaction."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._writer = engine.execution_options(**{_WRITES: True})

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a read-only transaction with a consistent view.

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
        """Make other processes that call this wait for the end of this transaction; SQLite does so anyway."""
        if not self.is_sqlite:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_START_LOCK})"))

    def revision(self) -> str | None:
        """Return the migration that the tables stand at, None for an empty database.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        from alembic.migration import MigrationContext  # noqa: PLC0415  # only migrations need Alembic

        with self.read() as connection:
            return MigrationContext.configure(connection).get_current_revision()

    def migrate(self) -> None:
        """Bring the tables to the form of this software; safe to call from several processes at once.

        Raises:
            StoreUnavailable: the database does not answer or is damaged.
            FatalError: a newer release made the tables.
        """
        # It logs every plug-in it loads, and only this call needs it.
        logging.getLogger("alembic").setLevel(logging.WARNING)
        from alembic import command  # noqa: PLC0415  # only migrations need Alembic
        from alembic.config import Config  # noqa: PLC0415  # only migrations need Alembic
        from alembic.util import CommandError  # noqa: PLC0415  # only migrations need Alembic

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        try:
            with self.write() as connection:
                self.one_at_a_time(connection)
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError:
            raise FatalError(
                f"The hub's database was made by a newer release of Tapgate (tables {self.revision()!r}, this is "
                f"{__version__}); install that release again, or restore the backup from before its upgrade."
            ) from None

    def ping(self) -> None:
        """Run an empty query.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        with self.read() as connection:
            connection.execute(select(1))

    def close(self) -> None:
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def as_unavailable() -> Iterator[None]:
    """Turn the driver's connection errors, and its errors for a damaged file, into StoreUnavailable."""
    try:
        yield
    except DatabaseError as error:
        # The driver's own text may quote parameters; its class and first line say enough.
        words = _first_line(error)
        if any(word in words for word in _DAMAGE):
            raise StoreUnavailable(
                f"The hub's database is damaged ({words}); stop the hub, keep a copy of the file, and restore the "
                "newest backup. Gateways keep their taps meanwhile."
            ) from error
        if isinstance(error, OperationalError):
            raise StoreUnavailable(f"The hub's database does not answer ({words}).") from error
        raise
    except InterfaceError as error:
        raise StoreUnavailable(f"The hub's database does not answer ({_first_line(error)}).") from error


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0][:200]


def newest_revision() -> str:
    """Return the newest migration that this release has."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415  # only migrations need Alembic

    return ScriptDirectory(str(MIGRATIONS)).get_current_head() or ""


def empty_store() -> Store:
    """Build an empty in-memory database, to compare a source with before there is a real one."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    _prepare_sqlite(engine)
    metadata.create_all(engine)
    return Store(engine)


def open_store(database: str, state_dir: Path, *, read_only: bool = False) -> Store:
    """Open the database that `database` names; nothing is created or migrated yet.

    Args:
        database: an SQLAlchemy URL; a relative SQLite path is relative to `state_dir`.
        read_only: SQLite refuses every write and makes no file.

    Raises:
        ConfigError: the URL cannot be used.
        MissingExtra: the driver is not installed.
    """
    try:
        url = make_url(database)
        if url.get_backend_name() == "sqlite":
            if url.database and url.database != ":memory:":
                path = str(state_dir / url.database)
                url = url.set(database=path)
                if read_only:
                    url = url.set(database=f"file:{quote(path)}", query={"mode": "ro", "uri": "true"})
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
        # The driver must not begin transactions itself; `on_begin` does.
        connection.isolation_level = None
        for pragma in _SQLITE_PRAGMAS:
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
