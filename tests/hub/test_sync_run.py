from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from gateway.commands import mis
from gateway.errors import ConfigError, RefusedError, SourceRefused
from gateway.hub.directory.sites import list_sources
from gateway.hub.scope import everything
from gateway.hub.settings import prepare_store, read_settings
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from gateway.hub.store.locks import exclusive
from gateway.hub.sync.holds import decide, list_held
from gateway.hub.sync.run import Overlap, Wish, sync
from gateway.hub.web.app import build_office
from gateway.hub.web.office import Daemon
from gateway.hub.web.queries import list_holds, list_runs
from gateway.simulator.school import sample_school
from gateway.webkit.events import Broadcaster

EVERYTHING = everything("person:head")

TOML = """
[hub]
state_dir = "state"
broker = "mqtt://127.0.0.1:1883"
[[site]]
id = "st-marys"
name = "St Mary's"
site_key_file = "site.key"
trust_unenrolled = true
[[site.source]]
name = "mis"
kind = "csv"
path = "people.csv"
columns = { person_key = "Student ID", card = "Card", role = "Type", groups = "Form" }
"""


class Office:
    """A hub.toml with its CSV file, and the verb as people call it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.opened: list[Store] = []
        self.config = folder / "hub.toml"
        self.config.write_text(TOML)
        (folder / "site.key").write_text(bytes(range(32)).hex())
        sample_school(300).write_csv(folder / "people.csv")

    def verb(self, *words: str) -> tuple[int, dict[str, Any], str]:
        parser = argparse.ArgumentParser()
        mis.add_arguments(parser)
        known = ["--config", str(self.config), "--site", "st-marys", "--source", "mis", "--json"]
        code = mis.run(parser.parse_args([words[0], *known, *words[1:]]))
        out = self._capsys.readouterr().out
        return code, json.loads(out.splitlines()[-1]), out

    def store(self) -> Store:
        self.opened.append(prepare_store(read_settings(self.config)))
        return self.opened[-1]

    def lines(self) -> list[str]:
        return (self.folder / "people.csv").read_text(encoding="utf-8-sig").splitlines(keepends=True)

    def write(self, lines: list[str]) -> None:
        (self.folder / "people.csv").write_text("".join(lines), encoding="utf-8")


@pytest.fixture
def office(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Office]:
    office = Office(tmp_path, capsys)
    yield office
    for store in office.opened:
        store.close()


def test_preview_writes_nothing_sync_applies_it_and_a_second_sync_has_nothing_to_do(office: Office) -> None:
    _, found, _ = office.verb("preview")
    assert (found["run"], found["applied"], found["complete"]) == (None, 0, True)
    assert found["create"] == found["read"] == 318
    _, done, out = office.verb("sync", "--first")
    assert done["create"] == 318
    assert done["applied"] == done["create"] + done["cards"]["link"]
    assert done["conflicts"] == 6
    assert "card_shared" in out
    _, again, _ = office.verb("sync")
    assert (again["create"], again["update"], again["remove"], again["applied"], again["held"]) == (0, 0, 0, 0, 0)
    assert again["run"] == done["run"] + 1


def test_a_truncated_export_is_held_while_its_changes_go_through_and_the_approved_hash_lets_it_pass(
    office: Office,
) -> None:
    office.verb("sync", "--first")
    lines = office.lines()
    office.write([*lines[:200], "N1,student,New,Comer,7B,04A1B2C3D4E5F6\n"])
    code, held, out = office.verb("sync")
    assert code == 1
    # A shared card goes to the one who still claims it, so a few links come with the newcomer.
    assert (held["held"], held["create"]) == (101, 1)
    assert held["applied"] == 1 + held["cards"]["link"]
    assert f"--approve {held['plan']}" in out
    code, wrong, out = office.verb("sync", "--approve", "0" * 16)
    assert (code, wrong["applied"], wrong["plan"]) == (1, 0, held["plan"])
    assert "not the one held now" in out
    _, done, _ = office.verb("sync", "--approve", held["plan"])
    assert (done["applied"], done["held"]) == (101, 0)
    store = office.store()
    with store.read() as connection:
        assert list_holds(EVERYTHING, connection) == []
    store.close()


def test_the_first_read_of_a_source_is_only_shown_until_somebody_means_it(office: Office) -> None:
    code, found, out = office.verb("sync")
    assert (code, found["applied"], found["result"], found["first"]) == (1, 0, "held", True)
    assert found["held"] == len(found["held_operations"]) > 300
    assert "--first" in out
    code, approved, _ = office.verb("approve", "--all")
    assert (code, approved) == (0, {"approved": found["held"]})
    _, done, _ = office.verb("sync")
    assert (done["applied"], done["held"]) == (found["held"], 0)
    lines = office.lines()
    office.write([*lines, "N1,student,New,Comer,7B,04A1B2C3D4E5F6\n"])
    _, later, _ = office.verb("sync")
    assert (later["create"], later["held"], later["first"]) == (1, 0, False)


def test_part_of_a_first_read_may_be_let_in_and_the_rest_still_waits(office: Office) -> None:
    _, found, _ = office.verb("sync")
    some = [item["hash"] for item in found["held_operations"] if item["what"].startswith("Add ")][:3]
    office.verb("approve", "--operation", *some)
    _, done, _ = office.verb("sync")
    assert (done["applied"], done["first"]) == (3, True)
    assert done["held"] == found["held"] - 3


def test_what_was_approved_is_applied_although_one_more_has_left_and_that_one_is_judged_alone(office: Office) -> None:
    office.verb("sync", "--first")
    lines = office.lines()
    office.write(lines[:200])
    _, held, _ = office.verb("sync")
    assert all("removed" in item["why"] for item in held["held_operations"])
    office.verb("approve", "--all")
    office.write(lines[:199])
    _, done, _ = office.verb("sync")
    assert done["applied"] == held["held"] == 101
    assert done["held"] == 1


def test_an_approval_is_for_one_operation_and_one_use_and_a_refusal_stays(office: Office) -> None:
    office.verb("sync", "--first")
    lines = office.lines()
    office.write(lines[:200])
    _, held, _ = office.verb("sync")
    store = office.store()
    with store.read() as connection:
        (hold,) = list_holds(EVERYTHING, connection)
    assert (hold.total, hold.waiting) == (held["held"], 101)
    with pytest.raises(RefusedError, match="no longer held"):
        decide(store, hold.source_id, "person:head", "approved", ["f" * 16])
    one, other, *_ = [item.op_hash for item in hold.operations]
    decide(store, hold.source_id, "person:head", "approved", [one])
    decide(store, hold.source_id, "person:head", "refused", [other])
    _, done, _ = office.verb("sync")
    assert (done["applied"], done["held"], done["refused"]) == (1, 99, 1)
    with store.read() as connection:
        assert [item.state for item in list_held(connection, hold.source_id)].count("refused") == 1
    office.write(lines)
    office.verb("sync")
    office.write(lines[:200])
    _, again, _ = office.verb("sync")
    assert again["applied"] == 0
    store.close()


def test_unreadable_rows_are_named_by_line_and_the_rest_applied(office: Office) -> None:
    lines = office.lines()
    lines[5] = "only,three,cells\n"
    office.write(lines)
    code, done, out = office.verb("sync", "--first")
    assert code == 1
    assert "line 6: This row has 3 columns" in out
    assert (done["create"], done["unreadable"], done["read"]) == (317, 1, 318)


def test_a_failing_source_keeps_the_last_good_data_and_its_failure_is_in_the_history(office: Office) -> None:
    office.verb("sync", "--first")
    office.write(["Nr,Name\n", "1,Ann\n"])
    code, found, _ = office.verb("sync")
    assert (code, found["complete"], found["failure"]) == (3, False, "column_missing")
    code, checked, _ = office.verb("check")
    assert (code, checked["ok"], checked["failure"]) == (3, False, "column_missing")
    store = office.store()
    with store.read() as connection:
        newest = list_runs(EVERYTHING, connection)[0]
        active = connection.scalars(select(tables.person.c.ref).where(tables.person.c.state == "active")).all()
    assert newest.result == "failed"
    assert (newest.error or "").startswith("column_missing: ")
    assert len(active) == 318
    store.close()


def test_a_missing_file_is_told_apart_from_a_missing_column(office: Office) -> None:
    (office.folder / "people.csv").unlink()
    assert office.verb("check")[1]["failure"] == "object_missing"
    store = office.store()
    with store.read() as connection:
        (source,) = list_sources(connection)
    with pytest.raises(SourceRefused):
        sync(store, source, office.folder)
    store.close()


def test_two_runs_of_one_source_never_overlap(office: Office) -> None:
    store = office.store()
    with store.read() as connection:
        (source,) = list_sources(connection)
    other = office.store()
    with exclusive(other, f"sync-{source.id}") as held:
        assert held is not None
        with pytest.raises(Overlap):
            sync(store, source, office.folder)
    assert sync(store, source, office.folder, Wish(first=True)).applied
    store.close()
    other.close()


def test_problems_with_a_source_are_named_by_line_and_key(office: Office) -> None:
    office.config.write_text(TOML.replace('path = "people.csv"', 'paht = "people.csv"\nhold_removals_percent = 120'))
    with pytest.raises(ConfigError) as caught:
        read_settings(office.config)
    text = "\n".join(caught.value.problems)
    assert "hub.toml:13: site.0.source.0.paht" in text
    assert "hub.toml:14: site.0.source.0.hold_removals_percent" in text
    assert "path: is missing" in text


def test_an_unknown_source_is_a_configuration_error_that_names_the_known_ones(office: Office) -> None:
    parser = argparse.ArgumentParser()
    mis.add_arguments(parser)
    words = ["check", "--config", str(office.config), "--site", "st-marys", "--source", "sims"]
    with pytest.raises(ConfigError, match="st-marys/mis"):
        mis.run(parser.parse_args(words))


def test_the_file_is_followed_until_somebody_edits_the_row(office: Office) -> None:
    office.verb("sync", "--first")
    office.config.write_text(TOML.replace("St Mary's", "St Mary's Academy"))
    store = office.store()
    with store.write() as connection:
        assert connection.scalar(select(tables.site.c.name)) == "St Mary's Academy"
        connection.execute(tables.site.update().values(name="By hand", edited=True))
    store.close()
    store = office.store()
    with store.read() as connection:
        assert connection.scalar(select(tables.site.c.name)) == "By hand"
    store.close()


def test_a_hundredth_of_the_people_changing_is_applied_as_exactly_those_changes(office: Office) -> None:
    office.verb("sync", "--first")
    lines = office.lines()
    for place in (3, 4, 5):
        lines[place] = lines[place].rsplit(",", 1)[0] + f",04AABBCCDDEE0{place}\n"
    office.write(lines)
    _, done, _ = office.verb("sync")
    cards = done["cards"]
    assert cards["replace"] + cards["link"] == 3
    assert done["applied"] == 3


def test_what_is_held_is_shown_without_a_card_key(office: Office) -> None:
    office.verb("sync")
    store = office.store()
    site = build_office(store, Daemon(list, lambda: None, dict), Broadcaster())
    with store.read() as connection:
        (source,) = list_sources(connection)
        keys = [item.operation["card"] for item in list_held(connection, source.id) if "card" in item.operation]
    with TestClient(site.app, base_url="http://127.0.0.1") as client:
        shown = client.get("/syncs").text + client.get("/v1/syncs").text
    assert keys
    assert "the card ending" in shown
    assert not any(key in shown for key in keys)
    store.close()
