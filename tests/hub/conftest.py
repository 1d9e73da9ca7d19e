from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from gateway.hub.store.engine import Store, open_store
from tests.hub.samples import add_site, free_port, wait_until

POSTGRES = shutil.which(
    "postgres", path="/usr/local/bin:/usr/bin:/usr/lib/postgresql/15/bin:/usr/lib/postgresql/17/bin"
)


class Postgres:
    """A real server on loopback under an ordinary user; it may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        assert POSTGRES is not None
        self._binaries = Path(POSTGRES).parent
        self.folder = folder / "pg"
        self.folder.mkdir()
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user:
            # The server's user must be able to walk down to its folder.
            folder.chmod(0o755)
            account = pwd.getpwnam(self._user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self.port = free_port()
        self._run("initdb", "-D", str(self.folder / "data"), "-U", "tapgate", "-A", "trust", "-N", "-E", "UTF8")
        self.process: subprocess.Popen[bytes] | None = None
        self._count = 0

    def _run(self, program: str, *words: str) -> None:
        command = [str(self._binaries / program), *words]
        subprocess.run(command, user=self._user, cwd=self.folder, check=True, capture_output=True, timeout=60)

    def start(self) -> None:
        command = [str(self._binaries / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.folder}"]

        def launched() -> bool:
            # After a kill it refuses to start while a child of its last life, forked in that very moment, still ends.
            if self.process is None or self.process.poll() is not None:
                self.process = subprocess.Popen(
                    command, user=self._user, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            return self._answers()

        self.process = None
        wait_until(launched, "PostgreSQL does not answer", 120)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._dsn("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """End it as a power cut would, with every child."""
        assert self.process is not None
        pids = (self.folder / "data" / "postmaster.pid").read_text().split()
        assert int(pids[0]) == self.process.pid
        # Held first, so that it makes no further child meanwhile.
        os.kill(self.process.pid, signal.SIGSTOP)
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in [str(self.process.pid), *children]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(2)
            self.process.wait(120)

    def _dsn(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user=tapgate dbname={database}"

    def new_database(self) -> str:
        """Make an empty database and return its URL."""
        self._count += 1
        name = f"hub{self._count}"
        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return f"postgresql+psycopg://tapgate@127.0.0.1:{self.port}/{name}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    if POSTGRES is None:
        pytest.skip("PostgreSQL is not installed")
    # Not below pytest's own folder, which every session closes to other users.
    with tempfile.TemporaryDirectory(prefix="tapgate-pg-") as folder:
        server = Postgres(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def key_file(tmp_path: Path, site_key: bytes) -> Path:
    path = tmp_path / "site.key"
    path.write_text(site_key.hex())
    return path


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # A module that says BOTH_DATABASES runs on SQLite and on PostgreSQL, the others on SQLite.
    if "store" in metafunc.fixturenames:
        both = getattr(metafunc.module, "BOTH_DATABASES", False)
        metafunc.parametrize("store", ["sqlite", "postgres"] if both else ["sqlite"], indirect=True)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one migrated database; copying it is twenty times as fast as migrating."""
    folder = tmp_path_factory.mktemp("template")
    made = open_store("sqlite:///hub.db", folder)
    made.migrate()
    made.close()
    return folder / "hub.db"


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path, key_file: Path, template: Path) -> Iterator[Store]:
    url = "sqlite:///hub.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").new_database()
    else:
        shutil.copy(template, tmp_path / "hub.db")
    opened = open_store(url, tmp_path)
    if request.param == "postgres":
        opened.migrate()
    add_site(opened, key_file)
    yield opened
    opened.close()
