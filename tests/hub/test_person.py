"""The page of a person: cards changed with a reason, fields corrected until the source changes, unknown cards given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from gateway.cards.identity import CardNumber, card_key
from gateway.hub.directory.revision import revision_of, touched_since
from gateway.hub.directory.sites import list_sources
from gateway.hub.ingest.commit import Committer
from gateway.hub.settings import prepare_store, read_settings
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from gateway.hub.sync.run import Wish, sync
from gateway.hub.web.app import build_office
from gateway.hub.web.gate import Access
from gateway.hub.web.office import Daemon
from gateway.webkit.events import Broadcaster
from tests.hub.samples import SITE, message, tap

TOML = """
[hub]
state_dir = "state"
broker = "mqtt://127.0.0.1:1883"
[[site]]
id = "st-marys"
site_key_file = "site.key"
trust_unenrolled = true
[[site.source]]
name = "mis"
kind = "csv"
path = "people.csv"
"""
SITE_KEY = bytes(range(32))


class School:
    """A school whose people come from an export, and the page of one of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "hub.toml").write_text(TOML)
        (folder / "site.key").write_text(SITE_KEY.hex())
        self.store: Store = prepare_store(read_settings(folder / "hub.toml"))
        access = Access(state_dir=folder, base=folder)
        app = build_office(self.store, Daemon(list, lambda: None, dict), Broadcaster(), access).app
        self.pages = TestClient(app, base_url="http://127.0.0.1", headers={"Accept": "text/html"})

    def read(self, *rows: str) -> None:
        text = "Student ID,First,Last,Form,Birth date,Card\n" + "".join(f"{row}\n" for row in rows)
        (self._folder / "people.csv").write_text(text)
        with self.store.read() as connection:
            (source,) = list_sources(connection)
        sync(self.store, source, self._folder, Wish(first=True))

    def person(self, key: str = "007") -> Any:
        with self.store.read() as connection:
            return connection.execute(select(tables.person).where(tables.person.c.person_key == key)).one()

    def correct(self, field: str, value: str, reason: str = "the MIS is wrong", **more: str) -> Any:
        data = {"value": value, "reason": reason, **more}
        return self.pages.post(f"/people/{self.person().ref}/fields/{field}", data=data)

    def page(self, key: str = "007") -> str:
        return self.pages.get(f"/people/{self.person(key).ref}").text


@pytest.fixture
def school(tmp_path: Path) -> Iterator[School]:
    school = School(tmp_path)
    school.read("007,Ann,Smith,7B,2014-01-02,04A1B2C3D4E5F6", "008,Bob,Jones,8C,2013-01-02,")
    yield school
    school.store.close()


def test_a_correction_wins_over_the_source_until_the_sources_own_value_changes(school: School) -> None:
    assert "Corrected" in school.correct("form", "9X").text
    assert (school.person().form, school.person().groups) == ("9X", ["9X"])
    school.read("007,Ann,Smith,7B,2014-01-02,04A1B2C3D4E5F6", "008,Bob,Jones,8C,2013-01-02,")
    assert school.person().form == "9X", "the source said the same again"
    assert "the source says 7B" in school.page()
    school.read("007,Ann,Smith,8B,2014-01-02,04A1B2C3D4E5F6", "008,Bob,Jones,8C,2013-01-02,")
    assert school.person().form == "8B"
    assert "corrected</span>" not in school.page()


def test_a_correction_reaches_the_rosters_of_this_persons_cards_only(school: School) -> None:
    with school.store.read() as connection:
        before = revision_of(connection, SITE)
    school.correct("form", "9X")
    with school.store.read() as connection:
        keys = connection.scalars(select(tables.card.c.key)).all()
        assert touched_since(connection, SITE, before) == set(keys)


def test_a_correction_is_withdrawn_and_both_stand_in_the_audit_with_name_and_reason(school: School) -> None:
    school.correct("given_name", "Anna")
    assert school.person().sort_name == "smith anna"
    school.correct("given_name", "", withdraw="true")
    assert school.person().given_name == "Ann"
    table = tables.audit
    with school.store.read() as connection:
        query = select(table).where(table.c.operation.in_(("override", "override_end"))).order_by(table.c.id)
        lines = connection.execute(query).all()
    assert [(line.operation, line.reason, line.actor) for line in lines] == [
        ("override", "the MIS is wrong", "person:office"),
        ("override_end", None, "person:office"),
    ]
    assert lines[0].detail == {"field": "given_name", "old": "Ann", "new": "Anna"}


@pytest.mark.parametrize(
    ("field", "value", "reason", "why"),
    [
        ("form", "9X", " ", "Say why"),
        ("given_name", "", "x", "needs a name"),
        ("birth_date", "02/01/2014", "x", "2012-09-30"),
        ("email", "ann", "x", "not a mail address"),
        ("role", "staff", "x", "Only what a source says"),
        ("form", "x" * 101, "x", "at most 100"),
        ("form", "a\nb", "x", "printable"),
    ],
)
def test_what_cannot_be_a_correction_is_refused_and_changes_nothing(
    school: School, field: str, value: str, reason: str, why: str
) -> None:
    before = school.person()
    answer = school.correct(field, value, reason)
    assert answer.status_code == 409
    assert why in answer.text
    assert school.person() == before


def test_an_empty_correction_takes_a_wrong_value_away_and_the_sources_own_value_is_none(school: School) -> None:
    school.correct("birth_date", "")
    assert school.person().birth_date is None
    school.correct("birth_date", "2014-01-02")
    assert str(school.person().birth_date) == "2014-01-02"
    assert "corrected</span>" not in school.page()


def test_a_card_is_set_lost_with_a_reason_that_the_page_shows(school: School) -> None:
    with school.store.read() as connection:
        card = connection.scalar(select(tables.card.c.id))
    address = f"/people/{school.person().ref}/cards/{card}"
    answer = school.pages.post(address, data={"state": "lost", "reason": "left on the bus"})
    assert "The card is lost." in answer.text
    assert "because: left on the bus" in answer.text
    other = f"/people/{school.person('008').ref}/cards/{card}"
    assert school.pages.post(other, data={"state": "active"}).status_code == 404


def test_an_unknown_card_is_given_to_a_person_and_its_taps_follow(school: School) -> None:
    number = CardNumber("uid", bytes.fromhex("04FFEEDDCCBBAA"))
    key = card_key(SITE_KEY, number).hex()
    Committer(school.store).commit([message(tap(1, key=key), tap(2, key=key), tap(3, key="ee" * 16))])
    listed = school.pages.get("/v1/cards/unknown").json()["cards"]
    assert [(item["count"], item["tail"]) for item in listed] == [(1, "E5F6"), (2, "E5F6")]
    assert key not in str(listed)
    chosen = listed[1]["tap"]
    assert "Give it to Bob Jones" in school.pages.get("/cards/unknown", params={"tap": chosen, "text": "bob"}).text
    answer = school.pages.post("/cards/unknown/link", data={"tap": chosen, "person": school.person("008").ref})
    assert "Bob Jones" in answer.text
    assert "...E5F6" in answer.text
    assert [item["count"] for item in school.pages.get("/v1/cards/unknown").json()["cards"]] == [1]
    again = school.pages.post("/cards/unknown/link", data={"tap": chosen, "person": school.person("007").ref})
    assert again.status_code == 409


def test_an_unknown_card_is_blocked_and_listed_no_more(school: School) -> None:
    Committer(school.store).commit([message(tap(1, key="ee" * 16))])
    (item,) = school.pages.get("/v1/cards/unknown").json()["cards"]
    for _ in range(2):
        answer = school.pages.post("/cards/unknown/block", data={"tap": item["tap"]})
    assert answer.status_code == 409
    assert school.pages.get("/v1/cards/unknown").json()["cards"] == []
    assert school.pages.post("/cards/unknown/block", data={"tap": "1/x/99"}).status_code == 404


def test_a_person_who_is_not_here_is_not_found(school: School) -> None:
    assert school.pages.get("/people/p_nobody").status_code == 404
    assert school.pages.get("/v1/people/p_nobody").status_code == 404
    assert school.pages.get(f"/v1/people/{school.person().ref}").json()["person"]["person_key"] == "007"


def test_a_source_is_tested_live_on_the_page_and_its_fields_are_looked_through(school: School) -> None:
    def press(what: str) -> str:
        return school.pages.post(f"/syncs/{what}", data={"source": 1}).text

    shown = press("test")
    assert "It answers" in shown
    assert "Smith" in shown
    assert "04A1B2C3D4E5F6" not in shown
    fields = press("discover")
    assert "looks like card numbers" in fields
    assert "Smith" not in fields
    (school._folder / "people.csv").unlink()
    for what in ("test", "discover"):
        assert "object missing" in press(what)
    assert school.pages.post("/v1/sources/1/test").json()["ok"] is False
    assert school.pages.post("/v1/sources/9/test").status_code == 404
    (school._folder / "site.key").unlink()
    assert "settings" in press("test")
    with school.store.read() as connection:
        tests = connection.scalars(
            select(tables.audit.c.detail).where(tables.audit.c.operation == "source_test").order_by(tables.audit.c.id)
        ).all()
    assert [item["result"] for item in tests] == ["ok", "object_missing", "object_missing", "settings"]


def test_people_are_narrowed_by_role_and_state(school: School) -> None:
    def keys(**chosen: str) -> list[str]:
        return [item["person_key"] for item in school.pages.get("/v1/people", params=chosen).json()["people"]]

    school.read("007,Ann,Smith,7B,2014-01-02,04A1B2C3D4E5F6")
    assert keys(state="missing") == ["008"]
    assert keys(state="active", role="student") == ["007"]
    assert keys(role="staff") == []
    assert keys(text="smith", state="missing") == []
    assert school.pages.get("/v1/people", params={"role": "head"}).status_code == 422
    assert "008" in school.pages.get("/people", params={"state": "missing"}).text
