"""Exports that schools have really had, through the verb that a school runs: nobody opens a door as another."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gateway.access.people import CardEntry
from gateway.commands import mis
from gateway.hub.fleet.rosters import load_content
from gateway.hub.settings import prepare_store, read_settings
from gateway.hub.store import tables

TOML = """
[hub]
state_dir = "state"
broker = "mqtt://127.0.0.1:1883"
[[site]]
id = "school"
site_key_file = "site.key"
{rules}
[[site.source]]
name = "mis"
kind = "csv"
path = "people.csv"
card_encoding = "hex-msb"
"""
HEADER = "Admission No,Forename,Surname,Form,Card\n"


class School:
    """A school's hub.toml and export, and what the hub makes of each state of the export."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.config = folder / "hub.toml"
        (folder / "site.key").write_text("5a" * 32)
        self.rules("")

    def rules(self, text: str) -> None:
        self.config.write_text(TOML.format(rules=text))

    def verb(self, action: str, *words: str) -> tuple[int, dict[str, Any]]:
        parser = argparse.ArgumentParser()
        mis.add_arguments(parser)
        known = ["--config", str(self.config), "--site", "school", "--source", "mis", "--json"]
        code = mis.run(parser.parse_args([action, *known, *words]))
        return code, json.loads(self._capsys.readouterr().out.splitlines()[-1])

    def sync(self, text: str, *words: str) -> tuple[int, dict[str, Any]]:
        (self.folder / "people.csv").write_text(text, encoding="utf-8")
        return self.verb("sync", "--first", *words)

    def read(self, query: Any) -> list[Any]:
        store = prepare_store(read_settings(self.config), follow=False)
        try:
            with store.read() as connection:
                return list(connection.execute(query))
        finally:
            store.close()

    def people(self) -> dict[str, tuple[str, str]]:
        rows = self.read(select(tables.person))
        return {row.person_key: (f"{row.given_name} {row.family_name}", row.state) for row in rows}

    def cards(self) -> dict[str, tuple[str | None, str]]:
        card, person = tables.card, tables.person
        query = select(card.c.tail, card.c.state, person.c.person_key)
        return {row.tail: (row.person_key, row.state) for row in self.read(query.outerjoin(person))}

    def roster(self) -> tuple[dict[str, CardEntry], Any]:
        store = prepare_store(read_settings(self.config))
        try:
            with store.read() as connection:
                content = load_content(connection, "school")
                rows = connection.execute(select(tables.card.c.key, tables.card.c.tail))
                tails = {row.key: row.tail for row in rows}
        finally:
            store.close()
        return {tails[key.hex()]: entry for key, entry in content.cards.items()}, content.points


@pytest.fixture
def school(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> School:
    return School(tmp_path, capsys)


def others(first: int, count: int, form: str = "7B") -> str:
    return "".join(f"{n},Given{n},Family{n},{form},04A1C{n:03d}\n" for n in range(first, first + count))


def test_a_sibling_who_comes_back_under_a_leavers_id_is_not_let_in_as_the_leaver(school: School) -> None:
    school.sync(HEADER + "1042,Ann,Smith,11A,04A1B2C3\n" + others(100, 30))
    for _ in range(2):
        school.sync(HEADER + others(100, 30))
    code, found = school.sync(HEADER + "1042,Boris,Smith,7A,xyz\n" + others(100, 30))
    assert (code, found["conflicts"], found["create"]) == (1, 1, 0)
    assert school.people()["1042"] == ("Ann Smith", "inactive")
    entry = school.roster()[0]["B2C3"]
    assert not entry.person_active


def test_a_temporary_lasting_id_becomes_permanent_while_the_lost_card_is_replaced(school: School) -> None:
    head = "Admission No,Forename,Surname,Form,Card,UPN\n"
    school.sync(head + "1,Ann,Smith,11A,04A1B2C3,X00180001701A\n2,Bo,Chen,7B,04A1B2C4,X001800017022\n")
    code, found = school.sync(head + "1,Ann,Smith,11A,04A1B2FF,B001800017013\n2,Bo,Chen,7B,04A1B2C4,X001800017022\n")
    assert (code, found["conflicts"], found["cards"]["replace"]) == (0, 0, 1)
    assert school.cards()["B2C3"] == ("1", "replaced")
    assert school.cards()["B2FF"] == ("1", "active")


def test_a_national_default_number_is_nobodys_id(school: School) -> None:
    head = "Admission No,Forename,Surname,Form,Card,ULN\n"
    rows = "1,Ann,Smith,11A,04A1B2C3,9999999999\n2,Bo,Chen,7B,04A1B2C4,9999999999\n3,Cy,Jones,7B,04A1B2C5,1234567890\n"
    code, found = school.sync(head + rows)
    assert (code, found["create"], found["conflicts"], len(found["notices"])) == (0, 3, 0, 1)


def test_one_row_a_class_is_one_pupil_with_both_groups_and_the_new_card(school: School) -> None:
    school.sync(HEADER + "1,Ann,Smith,7B,04A1B2C3\n2,Bo,Chen,7B,04A1B2C4\n")
    twice = "1,Ann,Smith,7B,04A1B2FF\n1,Ann,Smith,7-Maths-1,04A1B2FF\n2,Bo,Chen,7B,04A1B2C4\n"
    code, found = school.sync(HEADER + twice + "3,Cy,Jones,7B,04A1B2D1\n3,Cy,Jones,7-Maths-1,04A1B2D1\n")
    assert (code, found["create"], found["conflicts"]) == (0, 1, 0)
    assert school.cards()["B2C3"] == ("1", "replaced")
    entries, _ = school.roster()
    assert {"7b", "7-maths-1"} <= entries["B2FF"].groups
    assert {"7b", "7-maths-1"} <= entries["B2D1"].groups


def test_a_renamed_group_column_is_read_on_and_a_lost_one_refused(school: School) -> None:
    rows = "1,Ann,Smith,12A,04A1B2C3\n" + others(100, 40)
    school.sync(HEADER + rows)
    code, found = school.sync(HEADER.replace("Form", "Registration Group") + rows)
    assert (code, found["update"], found["applied"]) == (0, 0, 0)
    assert any("is now read from" in text for text in found["notices"])
    code, found = school.sync(HEADER.replace("Form", "Pastoral Unit") + rows)
    assert (code, found["failure"], found["complete"]) == (3, "column_missing", False)
    entries, _ = school.roster()
    assert "12a" in entries["B2C3"].groups


def test_a_column_that_the_school_no_longer_wants_is_let_go_by_its_settings_and_the_loss_is_held(
    school: School,
) -> None:
    rows = others(100, 40)
    school.sync(HEADER + rows)
    fewer = HEADER.replace(",Form", "") + rows.replace(",7B,", ",")
    assert school.sync(fewer)[1]["failure"] == "column_missing"
    columns = 'columns = { person_key = "Admission No", card = "Card" }\n'
    school.config.write_text(school.config.read_text() + columns)
    code, found = school.sync(fewer)
    assert (code, found["complete"], found["applied"]) == (0, True, 0)
    assert "7b" in school.roster()[0]["C100"].groups


def test_zeros_that_a_spreadsheet_dropped_are_one_held_case_and_gone_with_the_next_good_file(school: School) -> None:
    good = HEADER + "".join(f"{n:06d},Given{n},Xamily{n},7B,04A1D{n:03d}\n" for n in range(100, 140))
    bad = HEADER + "".join(f"{n},Given{n},Xamily{n},7B,04A1D{n:03d}\n" for n in range(100, 140))
    school.sync(good)
    before = school.people()
    code, found = school.sync(bad)
    assert (code, found["applied"], found["create"], found["held"]) == (1, 0, 0, 40)
    assert "zeros in front" in found["reasons"][0]
    code, found = school.sync(good)
    assert (code, found["held"]) == (0, 0)
    assert school.people() == before


def test_a_footer_never_stands_in_the_way_of_a_leaver(school: School) -> None:
    people = "".join(f"{n},Given{n},Family{n},7B,\n" for n in range(30))
    school.sync(HEADER + people + "(30 rows affected)\n")
    left = people.replace("7,Given7,Family7,7B,\n", "", 1)
    code, found = school.sync(HEADER + left + "(29 rows affected)\n")
    assert (code, found["remove"], found["held"], found["unreadable"]) == (0, 1, 0, 0)


def test_a_card_that_the_mis_took_away_with_a_word_for_nothing_stops(school: School) -> None:
    school.sync(HEADER + "1,Ann,Smith,7A,04A1B2C3\n2,Bo,Chen,NULL,NULL\n")
    _, found = school.sync(HEADER + "1,Ann,Smith,7A,NULL\n2,Bo,Chen,NULL,NULL\n")
    assert found["cards"]["revoke"] == 1
    assert school.cards()["B2C3"] == ("1", "blocked")


def test_nobody_whom_the_export_marks_as_gone_gets_a_card(school: School) -> None:
    head = "Admission No,Forename,Surname,Form,Card,Status,Date of leaving\n"
    school.sync(head + "1,Ann,Smith,11A,04A1B2C3,On roll,\n2,Bo,Chen,7B,04A1B2C4,Leaver,17/07/2026\n")
    assert school.cards() == {"B2C3": ("1", "active")}


def test_ids_with_characters_that_nobody_sees_are_the_same_people_as_the_clean_ones(school: School) -> None:
    school.sync(HEADER + "\u200b000771,Ann,Smith,7B,04A1B2C3\n000\u00a0772,Bo,Chen,7B,04A1B2C4\n")
    code, found = school.sync(HEADER + "000771,Ann,Smith,7B,04A1B2C3\n000772,Bo,Chen,7B,04A1B2C4\n")
    assert (code, found["create"], found["conflicts"]) == (0, 0, 0)


def test_groups_are_compared_without_case_spaces_and_forms_of_accents(school: School) -> None:
    school.rules('[[site.rule]]\npoint = "door"\nname = "year"\ngroups = ["Year 7", "Ann\u00e9e 7"]\n')
    rows = "1,A,Smith,Year\u00a07,04A1B2C1\n2,B,Chen,year 7,04A1B2C2\n"
    rows += "3,C,Jones,Year  7,04A1B2C3\n4,D,Day,Anne\u0301e 7,04A1B2C4\n"
    school.sync(HEADER + rows)
    entries, points = school.roster()
    (rule,) = points["door"].rules
    assert all(entry.groups & rule.groups for entry in entries.values())


def test_a_pupil_in_a_group_named_staff_is_not_let_in_where_the_staff_are(school: School) -> None:
    school.rules(
        '[[site.rule]]\npoint = "server-room"\nname = "staff"\ngroups = ["staff"]\n'
        '[[site.rule]]\npoint = "club"\nname = "club"\ngroups = ["group:Staff"]\n'
    )
    school.sync(HEADER + "1,Ann,Smith,staff,04A1B2C3\n2,Bo,Chen,7B,04A1B2C4\n")
    entries, points = school.roster()
    assert not entries["B2C3"].groups & points["server-room"].rules[0].groups
    assert entries["B2C3"].groups & points["club"].rules[0].groups
    assert not entries["B2C4"].groups & points["club"].rules[0].groups
