"""A view in the school's database as a source: SQL Server, PostgreSQL, MySQL or MariaDB, SQLite.

Only the named view and its mapped columns are read, in a read-only transaction; there is no way to write SQL of one's
own. The whole view is one complete read. Several rows of one person are their several cards or groups. SQLite is opened
without the right to write. What is said to SQL Server is tested as compiled statements only.

    kind = "sql"
    url = "postgresql+psycopg://reader@db.school.example/mis"   # mysql+pymysql, mssql+pymssql, sqlite:///
    view = "tapgate.people"
    columns = { person_key = "student_id", given_name = "forename", family_name = "surname", card = "card_serial" }
    password_file = "/etc/tapgate-hub/mis.password"
    # ca_file = "/etc/ssl/school-ca.pem"    the certificate that the server must show
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, Select, column, create_engine, make_url, select, table, text
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from gateway.errors import SourceRefused, SourceUnreachable, TapgateError
from gateway.mis.base import ROLES, Capabilities, CheckResult, Complete, FeedItem, FieldSeen
from gateway.mis.cells import EMPTY_WORDS
from gateway.mis.mapping import HEADINGS, lay_out
from gateway.mis.options import CardReader, Options
from gateway.mis.summary import failed, summarise
from gateway.mis.table import Row, TableReader, see_fields

STATEMENT_SECONDS = 30
CONNECT_SECONDS = 10
MAX_ROWS = 500_000
_BATCH = 1000
_SAMPLE = 200
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$ -]{0,126}")
_BACKENDS = ("postgresql", "mysql", "mssql", "sqlite")
_EXTRAS = {"postgresql": "postgres", "mysql": "mysql", "mssql": "mssql"}
# What the databases say, and what it means: first their codes, then words of drivers that give no code.
_CODES: Mapping[str, str] = {
    "28P01": "refused",
    "28000": "refused",
    "3D000": "object_missing",
    "42P01": "object_missing",
    "42703": "column_missing",
    "42501": "permission_missing",
    "57014": "timeout",
    "1045": "refused",
    "1044": "permission_missing",
    "1142": "permission_missing",
    "1143": "permission_missing",
    "1049": "object_missing",
    "1146": "object_missing",
    "1054": "column_missing",
    "1820": "expired",
    "1862": "expired",
    "3024": "timeout",
    "1969": "timeout",
    "18456": "refused",
    "18487": "expired",
    "18488": "expired",
    "208": "object_missing",
    "207": "column_missing",
    "229": "permission_missing",
    "4060": "object_missing",
}
_WORDS = (
    (re.compile(r"password.*expired|must change.*password", re.IGNORECASE), "expired"),
    (
        re.compile(r"no such table|unknown database|does not exist|unable to open database", re.IGNORECASE),
        "object_missing",
    ),
    (re.compile(r"no such column|unknown column", re.IGNORECASE), "column_missing"),
    (re.compile(r"password authentication failed|login failed|access denied", re.IGNORECASE), "refused"),
    (re.compile(r"permission denied|command denied|readonly database|read-only", re.IGNORECASE), "permission_missing"),
    (re.compile(r"certificate|\bssl\b|\btls\b", re.IGNORECASE), "tls"),
    (re.compile(r"timeout|timed out|canceling statement", re.IGNORECASE), "timeout"),
)
_SENTENCES = {
    "refused": "The database of {name} refuses the account or its password; renew the password file.",
    "expired": "The password of the account at {name} has expired; set a new one and renew the password file.",
    "object_missing": "The database of {name} has no such database or view ({view}); check url and view.",
    "column_missing": "The view {view} of {name} lacks a column that is named under columns.",
    "permission_missing": "The account may not read the view {view} of {name}; let it SELECT from the view.",
    "tls": "The database of {name} has no certificate that can be trusted; check ca_file.",
    "timeout": "The database of {name} did not answer in time; ask for an index, or a simpler view.",
}


@dataclass(frozen=True, slots=True)
class SqlView:
    """One view; `columns` maps our fields to columns of the view."""

    url: URL
    view: str
    columns: Mapping[str, tuple[str, ...]]
    role: str
    cards: CardReader
    capabilities: Capabilities
    password_file: Path | None = None
    ca_file: Path | None = None
    empty: Collection[str] = EMPTY_WORDS
    has_names: bool = True
    today: Callable[[], date] = date.today
    connect: Callable[[URL, Mapping[str, Any]], Engine] = field(
        default=lambda url, arguments: create_engine(url, poolclass=NullPool, connect_args=dict(arguments))
    )

    def check(self) -> CheckResult:
        """Read the first rows and report what a sync would find."""
        try:
            with self._connection() as connection:
                rows = list(self._rows(connection, _SAMPLE))
                warnings = self._warnings(connection)
        except TapgateError as error:
            return failed(error)
        counted, notices = summarise(self._reader().read(rows))
        detail = f"Of the first {len(rows)} rows {counted}"
        mapping = {name: " + ".join(some) for name, some in self.columns.items()}
        sample = self._reader().sample(rows)
        return CheckResult(None, detail, (*warnings, *notices), self._names(), mapping, sample)

    def fetch(self, lists: Collection[str], cursors: Mapping[str, str]) -> Iterator[FeedItem]:
        """Read the whole view."""
        del lists, cursors
        with self._connection() as connection:
            rows = list(self._rows(connection, None))
        yield from self._reader().read(rows)
        yield Complete(len(rows))

    def discover(self) -> Iterator[FieldSeen]:
        """Return every column of the view."""
        with self._connection() as connection:
            found = connection.execute(select(text("*")).select_from(self._table()).limit(_SAMPLE))
            header = list(found.keys())
            rows = [(f"row {number}", [_text(cell) for cell in row]) for number, row in enumerate(found, 1)]
        yield from see_fields(header, rows, "people", self.cards)

    def _names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for some in self.columns.values() for name in some))

    def _reader(self) -> TableReader:
        return TableReader(
            lay_out(self._names(), self.columns), self.cards, self.role, self.today(), self.empty, self.has_names
        )

    def _table(self) -> Any:
        schema, _, name = self.view.rpartition(".")
        return table(name, *(column(item) for item in self._names()), schema=schema or None)

    def statement(self, limit: int | None = None) -> Select[Any]:
        """Return the one statement that this source runs."""
        source = self._table()
        return select(*(source.c[name] for name in self._names())).limit(limit)

    def compiled(self, dialect: Dialect) -> str:
        """Return the statement as a database would be sent it; for tests of databases that are not at hand."""
        return str(self.statement().compile(dialect=dialect))

    def _rows(self, connection: Connection, limit: int | None) -> Iterator[Row]:
        found = connection.execution_options(stream_results=True, yield_per=_BATCH).execute(self.statement(limit))
        for number, row in enumerate(found, 1):
            if number > MAX_ROWS:
                raise SourceRefused("too_large", f"The view {self.view} has more than {MAX_ROWS} rows.")
            yield f"row {number}", [_text(cell) for cell in row]

    def _warnings(self, connection: Connection) -> list[tuple[str, str]]:
        if connection.dialect.name != "postgresql":
            return []
        # Asked of the catalogue; nothing is tried.
        may_write = connection.scalar(text("SELECT has_table_privilege(:view, 'INSERT')"), {"view": self.view})
        if not may_write:
            return []
        return [("may_write", f"The account may change {self.view}; one that can only read is enough.")]

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        url, arguments = self._address()
        try:
            engine = self.connect(url, arguments)
        except ModuleNotFoundError as error:
            extra = _EXTRAS.get(url.get_backend_name(), "hub")
            raise SourceRefused(
                "not_supported", f"The database driver {error.name!r} is missing; install tapgate[{extra}]."
            ) from None
        try:
            with engine.connect() as connection, connection.begin():
                _limit(connection)
                yield connection
        except DBAPIError as error:
            raise self._failure(error) from None
        finally:
            engine.dispose()

    def _address(self) -> tuple[URL, dict[str, Any]]:
        url = self.url
        backend = url.get_backend_name()
        if backend == "sqlite":
            path = url.database or ""
            return url.set(database=f"file:{quote(path)}", query={"mode": "ro", "uri": "true"}), {"timeout": 5}
        if self.password_file is not None:
            try:
                url = url.set(password=self.password_file.read_text(encoding="utf-8").strip())
            except OSError as error:
                raise SourceRefused(
                    "refused", f"The password file {self.password_file} cannot be read ({error.strerror})."
                ) from None
        if backend == "postgresql":
            arguments: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS}
            arguments |= {"sslmode": "verify-full", "sslrootcert": str(self.ca_file)} if self.ca_file else {}
            return url, arguments
        if backend == "mysql":
            arguments = {"connect_timeout": CONNECT_SECONDS, "read_timeout": STATEMENT_SECONDS}
            return url, arguments | ({"ssl": {"ca": str(self.ca_file)}} if self.ca_file else {})
        return url, {"login_timeout": CONNECT_SECONDS, "timeout": STATEMENT_SECONDS}

    def _failure(self, error: DBAPIError) -> TapgateError:
        # The driver's text may quote the password or a row; only what it means is told.
        word = _word_of(error)
        name = self.url.host or "the file"
        if word is None:
            return SourceUnreachable(f"The database of {name} does not answer; check the network and the firewall.")
        return SourceRefused(word, _SENTENCES[word].format(name=name, view=self.view))


def _limit(connection: Connection) -> None:
    match connection.dialect.name:
        case "postgresql":
            connection.execute(text("SET TRANSACTION READ ONLY"))
            connection.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_SECONDS * 1000}"))
        case "mysql":
            connection.execute(text("SET SESSION TRANSACTION READ ONLY"))
        case _:
            # SQLite is opened without the right to write; SQL Server has no read-only transaction.
            return


def _word_of(error: DBAPIError) -> str | None:
    origin = error.orig
    code = getattr(origin, "sqlstate", None) or next(iter(getattr(origin, "args", ())), None)
    if (word := _CODES.get(str(code))) is not None:
        return word
    words = str(origin)
    return next((word for pattern, word in _WORDS if pattern.search(words)), None)


def _text(cell: object) -> str:
    match cell:
        case None:
            return ""
        case bytes():
            return cell.hex()
        case datetime():
            return cell.date().isoformat()
        case date():
            return cell.isoformat()
        case float() if cell.is_integer():
            return str(int(cell))
        case _:
            return str(cell)


def _read_url(options: Options) -> URL:
    try:
        url = make_url(options.text("url"))
    except ArgumentError:
        options.problem("url", "must be an address such as postgresql+psycopg://reader@db.school.example/mis")
        return make_url("sqlite://")
    if url.get_backend_name() not in _BACKENDS:
        options.problem("url", f"must begin with one of {', '.join(_BACKENDS)}")
    if url.password:
        options.problem("url", "holds a password; write it into a file and name that as password_file")
    if url.get_backend_name() == "sqlite":
        url = url.set(database=str(options.base / (url.database or "")))
    return url


def build(options: Options) -> SqlView:
    """Read the settings of a database source; see the head of this file."""
    url = _read_url(options)
    view = options.text("view")
    if not all(_NAME.fullmatch(part) for part in view.split(".")) or view.count(".") > 1:
        options.problem("view", "must be the name of a view, or schema.view")
    columns = options.columns(tuple(HEADINGS))
    names = {"given_name", "family_name", "full_name"} if options.has_names else {"person_key"}
    if "person_key" not in columns or not names & columns.keys():
        options.problem("columns", 'must name at least person_key and a name, such as { person_key = "id", ... }')
    for name in (item for some in columns.values() for item in some):
        if not _NAME.fullmatch(name):
            options.problem("columns", f"{name!r} cannot be the name of a column")
    password_file, ca_file = options.text("password_file", ""), options.text("ca_file", "")
    return SqlView(
        url=url,
        view=view,
        columns=columns,
        role=options.text("role", "student", ROLES),
        cards=options.encoding(),
        capabilities=options.capabilities(),
        password_file=options.base / password_file if password_file else None,
        ca_file=options.base / ca_file if ca_file else None,
        empty=options.empty_words(),
        has_names=options.has_names,
    )
