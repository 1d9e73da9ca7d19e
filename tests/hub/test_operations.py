"""What a technician does to a running hub: edit hub.toml, look, rename, restore, and call verbs as root."""

from __future__ import annotations

import argparse
import json
import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gateway.cli import main
from gateway.commands import mis
from gateway.errors import FatalError, StoreUnavailable
from gateway.hub.directory.sites import list_sources
from gateway.hub.settings import prepare_store, read_settings
from gateway.hub.store import tables
from gateway.hub.sync.jobs import source_work
from gateway.hub.work.runner import Runner

HEAD = """\
[hub]
broker = "mqtt://127.0.0.1:1883"
state_dir = "state"
[[site]]
id = "school"
site_key_file = "site.key"
"""
MIS = '[[site.source]]\nname = "mis"\nkind = "csv"\npath = "people.csv"\n'
VISITORS = """\
[[site.source]]
name = "visitors"
kind = "csv"
path = "visitors.csv"
role = "visitor"
columns = { person_key = "Ref", family_name = "Name", card = "Mobile" }
"""
RULES = """\
[[site.rule]]
point = "front"
name = "staff only"
groups = ["staff"]
[[site.holiday]]
first_day = 2026-10-26
last_day = 2026-10-30
"""


class Desk:
    """A folder with hub.toml and its exports, and the verbs as a technician calls them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.config = folder / "hub.toml"
        (folder / "site.key").write_text("5a" * 32)
        (folder / "people.csv").write_text("ID,First,Last,Card\n1,Ann,Smith,04A1B2C3\n2,Ben,Jones,04A1B2C4\n")
        (folder / "visitors.csv").write_text("Ref,Name,Mobile\nv1,Plumber,04D1B2C3\n")
        self.write(HEAD, MIS)

    def write(self, *parts: str) -> None:
        self.config.write_text("".join(parts), encoding="utf-8")

    def mis(self, action: str, source: str = "mis", *words: str) -> tuple[int, dict[str, Any]]:
        parser = argparse.ArgumentParser()
        mis.add_arguments(parser)
        known = ["--config", str(self.config), "--site", "school", "--source", source, "--json"]
        first = ["--first"] if action == "sync" else []
        code = mis.run(parser.parse_args([action, *known, *first, *words]))
        return code, json.loads(self._capsys.readouterr().out.splitlines()[-1])

    def start_hub(self) -> None:
        prepare_store(read_settings(self.config)).close()

    def read(self, *columns: Any) -> list[tuple[Any, ...]]:
        store = prepare_store(read_settings(self.config), follow=False)
        try:
            with store.read() as connection:
                return [tuple(row) for row in connection.execute(select(*columns))]
        finally:
            store.close()

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((self.folder / "state").glob("*"))}


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


@pytest.mark.parametrize("action", ["check", "preview"])
def test_a_look_at_a_new_source_writes_nothing_and_shows_what_a_sync_would_do(desk: Desk, action: str) -> None:
    desk.mis("sync")
    before = desk.files()
    desk.write(HEAD, MIS, VISITORS, RULES)
    code, found = desk.mis(action, "visitors")
    assert code == 0
    assert found.get("create", 1) == 1
    assert desk.files()["hub.db"] == before["hub.db"]
    names = desk.read(tables.source.c.name)
    assert names == [("mis",)]


@pytest.mark.parametrize("action", ["check", "preview"])
def test_a_look_before_the_first_start_makes_no_file(desk: Desk, action: str) -> None:
    code, _ = desk.mis(action)
    assert code == 0
    assert not (desk.folder / "state").exists()


def test_a_source_that_hub_toml_no_longer_names_is_not_read_and_its_people_are_retired_in_one_held_step(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.write(HEAD, MIS, VISITORS)
    desk.mis("sync")
    desk.mis("sync", "visitors")
    desk.write(HEAD, MIS)
    desk.start_hub()
    (desk.folder / "visitors.csv").write_text("Ref,Name,Mobile\nv1,Plumber,04D1B2C3\nv2,Roofer,04D1B2C4\n")
    store = prepare_store(read_settings(desk.config))
    with store.read() as connection:
        assert [source.name for source in list_sources(connection)] == ["mis"]
    store.close()
    capsys.readouterr()
    assert main(["mis", "list", "--config", str(desk.config)]) == 1
    assert "school/visitors: no longer in hub.toml; 1 people left" in capsys.readouterr().out
    assert main(["mis", "sync", "--config", str(desk.config), "--site", "school", "--source", "visitors"]) == 2

    code, held = desk.mis("retire", "visitors")
    assert (code, held["held"], held["applied"]) == (1, 1, 0)
    active = (tables.person.c.person_key, tables.person.c.state)
    assert ("v1", "active") in desk.read(*active)
    code, done = desk.mis("retire", "visitors", "--approve", held["plan"])
    assert (code, done["applied"]) == (0, 1)
    assert sorted(desk.read(*active)) == [("1", "active"), ("2", "active"), ("v1", "inactive")]
    assert main(["mis", "list", "--config", str(desk.config)]) == 0


def test_a_source_that_comes_back_is_read_again(desk: Desk) -> None:
    desk.write(HEAD, MIS, VISITORS)
    desk.mis("sync", "visitors")
    desk.write(HEAD, MIS)
    desk.start_hub()
    desk.write(HEAD, MIS, VISITORS)
    code, found = desk.mis("sync", "visitors")
    assert (code, found["create"], found["applied"]) == (0, 0, 0)


def test_a_renamed_source_keeps_its_people_cards_and_references(desk: Desk) -> None:
    desk.mis("sync")
    people = (tables.person.c.ref, tables.person.c.person_key, tables.person.c.state)
    before = sorted(desk.read(*people))
    renamed = MIS.replace('"mis"', '"arbor"')
    desk.write(HEAD, renamed)
    for action in ("preview", "sync"):
        code, found = desk.mis(action, "arbor")
        assert (code, found["failure"]) == (3, "owned_by_another")
        assert 'was = "mis"' in found["detail"]
    assert sorted(desk.read(*people)) == before

    desk.write(HEAD, renamed, 'was = "mis"\n')
    code, found = desk.mis("preview", "arbor")
    assert (code, found["create"]) == (0, 0)
    code, found = desk.mis("sync", "arbor")
    assert (code, found["create"], found["conflicts"]) == (0, 0, 0)
    assert sorted(desk.read(*people)) == before
    assert desk.read(tables.source.c.name) == [("arbor",)]


def test_the_last_rule_and_the_last_holiday_go_when_hub_toml_has_none(desk: Desk) -> None:
    desk.write(HEAD, RULES, MIS)
    desk.start_hub()
    assert desk.read(tables.access_rule.c.name) == [("staff only",)]
    desk.write(HEAD, MIS)
    desk.start_hub()
    assert desk.read(tables.access_rule.c.name) == [("everyone",)]
    assert desk.read(tables.holiday.c.first_day) == []
    followed = [row for row in desk.read(tables.audit.c.operation) if row[0].endswith("_follow")]
    desk.start_hub()
    assert [row for row in desk.read(tables.audit.c.operation) if row[0].endswith("_follow")] == followed


def test_an_ingest_worker_with_a_short_hub_toml_takes_nothing_away(desk: Desk) -> None:
    desk.write(HEAD, RULES, MIS)
    desk.start_hub()
    desk.write(HEAD)
    prepare_store(read_settings(desk.config), follow=False).close()
    assert desk.read(tables.access_rule.c.name) == [("staff only",)]
    assert desk.read(tables.source.c.removed_ms) == [(None,)]


BAD = {
    MIS + 'card_encodng = "hex-msb"\n': "site.0.source.0.card_encodng",
    MIS + "every_minutes = 0\n": "site.0.source.0.every_minutes",
    MIS + 'columns = { personkey = "Student ID" }\n': "site.0.source.0.columns",
    MIS + '[[site.source]]\nname = "w"\nkind = "telepathy"\n': "site.0.source.1.kind",
    MIS + '[[site.rule]]\npoint = "front"\nname = "hours"\nwindows = ["mon-fri 7.30-18.00"]\n': "site.0.rule.0.windows",
    MIS + MIS: "site.0.source.1.name: the source 'mis' is already in line 8",
    MIS + HEAD[HEAD.index("[[site]]") :]: "site.1.id: the site 'school' is already in line 5",
    MIS + 'was = "mis"\n': "site.0.source.0.was",
    MIS + '[web]\nhost = "0.0.0.0"\n': "web.host",
}


@pytest.mark.parametrize("text", BAD)
def test_check_config_finds_what_the_hub_would_refuse(
    desk: Desk, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.write(HEAD, text)
    assert main(["check-config", str(desk.config)]) == 2
    assert BAD[text] in capsys.readouterr().err
    assert main(["hub", "--config", str(desk.config)]) == 2


def test_check_config_warns_of_plain_mqtt_beyond_this_machine(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.write(HEAD.replace("127.0.0.1:1883", "10.0.0.4:1883"), MIS)
    assert main(["check-config", str(desk.config)]) == 1
    assert "hub.toml:2: hub.broker: is not encrypted" in capsys.readouterr().out


def test_a_database_of_a_newer_release_is_named_in_one_sentence(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.mis("sync")
    with sqlite3.connect(desk.folder / "state" / "hub.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9942'")
    words = ["--config", str(desk.config), "--site", "school", "--source", "mis"]
    for action in ("sync", "preview"):
        capsys.readouterr()
        assert main(["mis", action, *words]) == 3
        err = capsys.readouterr().err
        assert "9942" in err
        assert len(err.strip().splitlines()) == 1
    with pytest.raises(FatalError, match="newer release"):
        desk.start_hub()


@pytest.mark.parametrize("spoil", ["cut", "zeros", "text"])
def test_a_damaged_database_is_named_in_one_sentence(
    desk: Desk, spoil: str, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.mis("sync")
    path = desk.folder / "state" / "hub.db"
    size = path.stat().st_size
    damaged = {"cut": path.read_bytes()[: size // 2], "zeros": bytes(size), "text": b"not a database\n" * 400}
    for name in ("hub.db-wal", "hub.db-shm"):
        (desk.folder / "state" / name).unlink(missing_ok=True)
    path.write_bytes(damaged[spoil])
    capsys.readouterr()
    words = ["--config", str(desk.config), "--site", "school", "--source", "mis"]
    assert main(["mis", "sync", *words]) == 3
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert "damaged" in err
    assert "restore" in err
    with pytest.raises(StoreUnavailable):
        desk.start_hub()


@pytest.fixture
def nobodys(desk: Desk) -> Iterator[Desk]:
    """A desk whose state folder belongs to an account of its own, as the service's does."""
    if os.geteuid() != 0 or not Path("/usr/bin/python3").exists():
        pytest.skip("needs root and the system's interpreter")
    account = pwd.getpwnam("nobody")
    folder = Path("/tmp") / f"tapgate-desk-{os.getpid()}"
    shutil.copytree(desk.folder, folder)
    (folder / "state").mkdir(exist_ok=True)
    os.chown(folder / "state", account.pw_uid, account.pw_gid)
    for path in (folder, *folder.glob("*.*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    desk.folder, desk.config = folder, folder / "hub.toml"
    yield desk
    shutil.rmtree(folder)


@pytest.mark.parametrize("action", ["check", "preview", "sync"])
def test_what_root_leaves_in_the_state_folder_belongs_to_the_service(nobodys: Desk, action: str) -> None:
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the system's interpreter must be of the tests' release")
    packages = Path(pytest.__file__).parents[1]
    command = ["/usr/bin/python3", "-m", "gateway", "mis", action, "--config", str(nobodys.config)]
    command += ["--site", "school", "--source", "mis", *(["--first"] if action == "sync" else [])]
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[2]}:{packages}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    owners = {path.name: path.owner() for path in (nobodys.folder / "state").iterdir()}
    assert set(owners.values()) <= {"nobody"}
    assert bool(owners) is (action == "sync")


def test_a_source_that_fails_in_an_unforeseen_way_is_recorded_and_the_next_one_runs(desk: Desk) -> None:
    desk.write(HEAD, MIS, VISITORS)
    desk.start_hub()
    (desk.folder / "state" / "hub.db.sync-1.lock").mkdir()  # opening it for writing raises IsADirectoryError
    store = prepare_store(read_settings(desk.config))
    try:
        runner = Runner(store, "hub-0", source_work(store, desk.folder))
        runner.turn()
        runner.stop()
        run = tables.sync_run.c
        with store.read() as connection:
            rows = {row.source: row for row in connection.execute(select(run.source, run.result, run.error))}
    finally:
        store.close()
    assert [rows[1].result, rows[2].result] == ["failed", "held"]
    assert "directory" in rows[1].error.casefold()


def test_check_config_shows_what_the_next_start_would_change_and_writes_nothing(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.write(HEAD, MIS, VISITORS)
    desk.mis("sync", "visitors")
    before = desk.files()
    assert main(["check-config", str(desk.config)]) in {0, 1}
    assert "at the next start" not in capsys.readouterr().out
    rule = '[[site.rule]]\npoint = "door"\nname = "everybody"\n'
    holiday = "[[site.holiday]]\nfirst_day = 2026-12-21\n"
    desk.write(HEAD, rule, holiday, MIS.replace("people.csv", "pupils.csv"))
    main(["check-config", str(desk.config)])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("at the next start: ")]
    assert [line.removeprefix("at the next start: ") for line in lines] == [
        "source school/mis: path would change",
        "source school/visitors would no longer be read; its 1 people stay until it is retired",
        "site school: the rule 'everybody' at door would be added",
        "site school: the rule 'everyone' at every point would be taken away",
        "site school: the holiday from 2026-12-21 to 2026-12-21 would be added",
    ]
    assert desk.files()["hub.db"] == before["hub.db"]
