"""A view in the school's database: a real PostgreSQL, a real MariaDB and SQLite; SQL Server as statements only."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pymysql
import pytest
from sqlalchemy.dialects import mssql

from gateway.errors import SourceRefused, SourceUnreachable
from gateway.mis.base import Complete, FeedItem, Record
from gateway.mis.options import Options, build_connector
from gateway.mis.sql_view import SqlView
from tests.hub.conftest import Postgres, postgres  # noqa: F401  # a fixture
from tests.hub.samples import free_port, wait_until

SITE_KEY = bytes(range(32))
COLUMNS = {
    "person_key": "student_id",
    "given_name": "forename",
    "family_name": "surname",
    "card": "card",
    "form": "form",
}
ROWS = [
    ("0007", "Zoë", "Müller", "04A1B2C3", "7B"),
    ("8", "Bo", "Chen", None, "7B"),
    ("8", "Bo", "Chen", "04A1B2C4", "7B"),
]
TABLE = (
    "CREATE TABLE people (student_id varchar(20), forename varchar(50), surname varchar(50), card varchar(20), "
    "form varchar(9), medical varchar(9))"
)
INSERT = "INSERT INTO people (student_id, forename, surname, card, form, medical) VALUES (%s, %s, %s, %s, %s, 'secret')"
MARIADB = shutil.which("mariadbd") or "/usr/sbin/mariadbd"


def source(folder: Path, url: str, **options: object) -> SqlView:
    problems: list[tuple[str, str]] = []
    values = {"url": url, "view": "pupils", "columns": COLUMNS, **options}
    made = build_connector("sql", Options(values, folder, SITE_KEY, lambda key, why: problems.append((key, why))))
    assert problems == []
    assert isinstance(made, SqlView)
    return made


def read(connector: SqlView) -> list[FeedItem]:
    return list(connector.fetch((), {}))


def word(connector: SqlView) -> str | None:
    found = connector.check().failure
    if found == "unreachable":
        with pytest.raises(SourceUnreachable):
            read(connector)
        return found
    if found is not None:
        with pytest.raises(SourceRefused) as caught:
            read(connector)
        assert caught.value.failure == found
    return found


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    path = tmp_path / "mis.db"
    with sqlite3.connect(path) as connection:
        connection.execute(TABLE)
        connection.executemany(INSERT.replace("%s", "?"), ROWS)
        connection.execute("CREATE VIEW pupils AS SELECT * FROM people")
    connection.close()
    return path


class MariaDb:
    """A real server on loopback under an ordinary user, ended by its process."""

    def __init__(self, folder: Path) -> None:
        self.port, self._folder = free_port(), folder
        user = "mysql" if _has_user("mysql") else "nobody"
        account = pwd.getpwnam(user)
        data = folder / "data"
        install = [
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
        ]
        subprocess.run([*install, "--skip-test-db"], check=True, capture_output=True, timeout=60)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid)
        folder.chmod(0o755)
        command = [MARIADB, "--no-defaults", f"--datadir={data}", f"--socket={folder}/sock", f"--user={user}"]
        command += [f"--port={self.port}", "--bind-address=127.0.0.1", f"--pid-file={folder}/pid"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # The driver leaks a socket with every connection that is refused, so none is tried before the server listens.
        wait_until((folder / "sock").exists, "MariaDB does not answer", 60)
        with self.root() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE mis CHARACTER SET utf8mb4")
            cursor.execute("USE mis")
            cursor.execute(TABLE)
            cursor.executemany(INSERT, ROWS)
            cursor.execute("CREATE VIEW pupils AS SELECT * FROM people")
            cursor.execute("CREATE USER reader@'127.0.0.1' IDENTIFIED BY 'right'")
            cursor.execute("GRANT SELECT ON mis.pupils TO reader@'127.0.0.1'")
            connection.commit()

    def root(self) -> pymysql.Connection:  # type: ignore[type-arg]  # the default cursor
        return pymysql.connect(unix_socket=f"{self._folder}/sock", user="root", charset="utf8mb4")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaDb]:
    if not Path(MARIADB).exists() or os.geteuid() != 0:
        pytest.skip("MariaDB is not installed, or this is not root")
    with tempfile.TemporaryDirectory(prefix="tapgate-maria-") as folder:
        server = MariaDb(Path(folder))
        yield server
        server.stop()


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:  # noqa: F811  # the fixture
    url = postgres.new_database()
    name = url.rpartition("/")[2]
    with psycopg.connect(
        f"host=127.0.0.1 port={postgres.port} user=tapgate dbname={name}", autocommit=True
    ) as connection:
        connection.execute(TABLE)
        with connection.cursor() as cursor:
            cursor.executemany(INSERT, ROWS)
        connection.execute("CREATE VIEW pupils AS SELECT * FROM people")
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'reader'").fetchone():
            connection.execute("CREATE ROLE reader LOGIN")
    return url.replace("tapgate@", "reader@")


def grant(url: str, statement: str) -> None:
    parts = url.replace("postgresql+psycopg://reader@", "").replace("/", ":").split(":")
    dsn = f"host={parts[0]} port={parts[1]} user=tapgate dbname={parts[2]}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement)


def check_people(items: list[FeedItem]) -> None:
    records = [item for item in items if isinstance(item, Record)]
    assert [(one.person_key, one.fields.given_name, len(one.cards or ())) for one in records] == [
        ("0007", "Zoë", 1),
        ("8", "Bo", 0),
        ("8", "Bo", 1),
    ]
    assert items[-1] == Complete(3)
    assert "04A1B2" not in repr(items).upper()


def test_a_view_of_sqlite_is_read_and_nothing_can_be_written(sqlite_file: Path, tmp_path: Path) -> None:
    connector = source(tmp_path, f"sqlite:///{sqlite_file}")
    check_people(read(connector))
    with pytest.raises(SourceRefused), connector._connection() as connection:
        connection.exec_driver_sql("DELETE FROM people")


def test_a_view_of_postgresql_is_read_in_a_transaction_that_cannot_write(postgres_url: str, tmp_path: Path) -> None:
    grant(postgres_url, "GRANT SELECT ON pupils TO reader")
    connector = source(tmp_path, postgres_url, view="public.pupils")
    check_people(read(connector))
    assert connector.check().warnings == ()
    grant(postgres_url, "GRANT INSERT ON pupils TO reader")
    assert [name for name, _ in connector.check().warnings] == ["may_write"]
    with pytest.raises((SourceRefused, SourceUnreachable)), connector._connection() as connection:
        connection.exec_driver_sql("INSERT INTO pupils (student_id) VALUES ('9')")


def test_what_postgresql_refuses_is_told_apart(postgres_url: str, tmp_path: Path) -> None:
    assert word(source(tmp_path, postgres_url)) == "permission_missing"
    grant(postgres_url, "GRANT SELECT ON pupils TO reader")
    assert word(source(tmp_path, postgres_url, view="leavers")) == "object_missing"
    assert word(source(tmp_path, postgres_url, columns={**COLUMNS, "card": "chip"})) == "column_missing"
    assert word(source(tmp_path, postgres_url.rpartition("/")[0] + "/elsewhere")) == "object_missing"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"postgresql+psycopg://reader@127.0.0.1:{closed.getsockname()[1]}/mis"
        assert word(source(tmp_path, url)) == "unreachable"


def test_a_view_of_mariadb_is_read_and_what_it_refuses_is_told_apart(mariadb: MariaDb, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("right\n")
    url = f"mysql+pymysql://reader@127.0.0.1:{mariadb.port}/mis"
    check_people(read(source(tmp_path, url, password_file="password")))
    assert word(source(tmp_path, url, password_file="password", view="people")) == "permission_missing"
    assert (
        word(source(tmp_path, url, password_file="password", columns={**COLUMNS, "card": "chip"})) == "column_missing"
    )
    secret.write_text("wrong")
    refused = source(tmp_path, url, password_file="password")
    assert word(refused) == "refused"
    assert "wrong" not in refused.check().detail
    secret.unlink()
    assert word(refused) == "refused"


@pytest.mark.parametrize("view", ["pupils", "dbo.pupils"])
def test_only_the_view_and_the_mapped_columns_are_asked_for(tmp_path: Path, view: str) -> None:
    statement = source(tmp_path, "mssql+pymssql://reader@db.example/mis", view=view).compiled(mssql.dialect())
    words = " ".join(statement.replace("[", "").replace("]", "").split())
    chosen = ", ".join(f"{view.rpartition('.')[2]}.{name}" for name in COLUMNS.values())
    if "." not in view:
        assert words == f"SELECT {chosen} FROM {view}"
    assert "medical" not in statement
    assert "*" not in statement


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"view": "people; DROP TABLE people"}, "view"),
        ({"view": "a.b.c"}, "view"),
        ({"columns": {"person_key": 'id" FROM secrets --', "given_name": "a"}}, "columns"),
        ({"columns": {"card": "card"}}, "columns"),
        ({"url": "postgresql+psycopg://reader:secret@db/mis"}, "url"),
        ({"url": "oracle://db/mis"}, "url"),
        ({"url": "nonsense"}, "url"),
    ],
)
def test_settings_that_could_read_anything_else_are_refused(
    tmp_path: Path, options: dict[str, object], key: str
) -> None:
    problems: dict[str, str] = {}
    values = {"url": "sqlite:///x.db", "view": "pupils", "columns": COLUMNS, **options}
    build_connector("sql", Options(values, tmp_path, SITE_KEY, problems.__setitem__))
    assert set(problems) == {key}
    assert "secret@" not in problems[key]


def test_the_check_and_the_discovery_show_no_card_number(sqlite_file: Path, tmp_path: Path) -> None:
    connector = source(tmp_path, f"sqlite:///{sqlite_file}")
    result = connector.check()
    assert result.ok
    assert [dict(one)["name"] for one in result.sample][:1] == ["Zoë Müller"]
    fields = {item.path: item for item in connector.discover()}
    assert fields["medical"].distinct == 1
    assert "04A1B2" not in repr((result, fields)).upper()


def test_a_missing_file_of_sqlite_is_named_and_not_made(tmp_path: Path) -> None:
    assert word(source(tmp_path, "sqlite:///nowhere.db")) == "object_missing"
    assert list(tmp_path.iterdir()) == []
