from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from gateway.errors import RefusedError
from gateway.hub.directory.cards import claim_prelinked, link_card, set_card_state
from gateway.hub.directory.revision import in_turn, raise_revision, revision_of
from gateway.hub.directory.sites import list_sources
from gateway.hub.settings import prepare_store, read_settings
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.sync.run import Wish, sync
from gateway.hub.web.app import build_office
from gateway.hub.web.office import Daemon
from gateway.webkit.events import Broadcaster

BOTH_DATABASES = True
KEY = "ab" * 16
HEADER = "Student ID,First,Last,Card\n"
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
new_cards = "prelinked"
"""


class Office:
    """A site whose cards wait for their accounts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "hub.toml").write_text(TOML)
        (folder / "site.key").write_text(bytes(range(32)).hex())
        self.store: Store = prepare_store(read_settings(folder / "hub.toml"))

    def sync(self, *rows: str) -> None:
        (self._folder / "people.csv").write_text(HEADER + "".join(f"{row}\n" for row in rows))
        with self.store.read() as connection:
            (source,) = list_sources(connection)
        sync(self.store, source, self._folder, Wish(first=True))

    def cards(self) -> dict[str, str]:
        with self.store.read() as connection:
            return {row.tail: row.state for row in connection.execute(select(tables.card))}

    def claim(self, person_key: str) -> bool:
        with self.store.write() as connection:
            audit = Audit("person:parent", "st-marys", now_ms())
            claimed = claim_prelinked(connection, "st-marys", person_key, audit)
            audit.write(connection)
        return claimed


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    yield office
    office.store.close()


def test_a_new_card_waits_prelinked_until_its_student_id_is_claimed(office: Office) -> None:
    office.sync("007,Ann,Smith,04A1B2C3D4E5F6")
    office.sync("007,Ann,Smith,04A1B2C3D4E5F6")
    assert office.cards() == {"E5F6": "prelinked"}
    assert office.claim("007")
    assert office.cards() == {"E5F6": "active"}
    office.sync("007,Ann,Smith,04A1B2C3D4E5F6")
    assert office.cards() == {"E5F6": "active"}


def test_an_unknown_id_a_claimed_one_and_one_without_a_card_get_the_same_answer(office: Office) -> None:
    office.sync("007,Ann,Smith,04A1B2C3D4E5F6", "008,Bob,Jones,")
    office.claim("007")
    assert [office.claim(key) for key in ("7", "007", "008", "")] == [False] * 4


def test_the_office_claims_a_card_on_the_page_and_machines_by_the_api(office: Office) -> None:
    office.sync("007,Ann,Smith,04A1B2C3D4E5F6", "008,Bob,Jones,04A1B2C3D40102")
    site = build_office(office.store, Daemon(list, lambda: None, dict), Broadcaster())
    with TestClient(site.app, base_url="http://127.0.0.1") as client:
        assert "Activate what waits for 007" in client.get("/people").text
        form = {"site": "st-marys", "person_key": "007"}
        headers = {"Origin": "http://127.0.0.1"}
        assert "waits for 007" not in client.post("/people/claim", data=form, headers=headers).text
        answers = [
            client.post("/v1/claims", json={"site": "st-marys", "person_key": key}, headers=headers).json()
            for key in ("008", "008", "nobody")
        ]
    assert answers == [{"claimed": True}, {"claimed": False}, {"claimed": False}]
    assert office.cards() == {"E5F6": "active", "0102": "active"}


def test_a_replacement_for_a_claimed_card_needs_no_second_claim(office: Office) -> None:
    office.sync("007,Ann,Smith,04A1B2C3D4E5F6")
    office.claim("007")
    office.sync("007,Ann,Smith,04A1B2C3D40101")
    assert office.cards() == {"E5F6": "replaced", "0101": "active"}


def _person(store: Store, ref: str) -> None:
    with store.write() as connection:
        row = {"ref": ref, "site": "st-marys", "person_key": ref, "role": "student", "given_name": "A"}
        rest = {"family_name": "B", "groups": [], "state": "active", "created_ms": 0, "changed_ms": 0}
        connection.execute(tables.person.insert().values(**row, **rest))


def test_a_card_linked_by_hand_works_at_once_and_is_not_given_to_a_second_person(store: Store) -> None:
    first, second = "p_" + "1" * 16, "p_" + "2" * 16
    _person(store, first)
    _person(store, second)
    with store.write() as connection:
        before = revision_of(connection, "st-marys")
        audit = Audit("person:office", "st-marys", now_ms())
        number = link_card(connection, first, KEY, "E5F6", "uid", audit)
        assert link_card(connection, first, KEY, "E5F6", "uid", audit) == number
        with pytest.raises(RefusedError, match="another person"):
            link_card(connection, second, KEY, "E5F6", "uid", audit)
        with pytest.raises(RefusedError, match="no such person"):
            link_card(connection, "p_" + "3" * 16, KEY, "E5F6", "uid", audit)
        audit.write(connection)
        assert revision_of(connection, "st-marys") > before
        card = connection.execute(select(tables.card)).one()
        assert (card.state, card.person, card.origin) == ("active", first, "person:office")
        assert len(connection.execute(select(tables.holding)).all()) == 1


def test_changes_are_numbered_in_the_order_in_which_they_are_committed(store: Store) -> None:
    begun, may_commit, order = threading.Event(), threading.Event(), []

    def slow() -> None:
        with store.write() as connection:
            raise_revision(connection, "st-marys")
            audit = Audit("person:slow", "st-marys", now_ms())
            audit.note("test", "slow")
            audit.write(connection)
            begun.set()
            may_commit.wait(10)
        order.append("slow")

    def quick() -> None:
        with store.write() as connection:
            in_turn(connection, "st-marys")
            raise_revision(connection, "st-marys")
            audit = Audit("person:quick", "st-marys", now_ms())
            audit.note("test", "quick")
            audit.write(connection)
        order.append("quick")

    first, second = threading.Thread(target=slow), threading.Thread(target=quick)
    first.start()
    begun.wait(10)
    second.start()
    second.join(0.3)
    with store.read() as connection:
        assert revision_of(connection, "st-marys") == 0
    may_commit.set()
    first.join(10)
    second.join(10)
    assert order == ["slow", "quick"]
    with store.read() as connection:
        assert revision_of(connection, "st-marys") == 2
        assert connection.scalars(select(tables.audit.c.subject).order_by(tables.audit.c.id)).all() == ["slow", "quick"]


def test_setting_a_state_twice_is_one_change_and_a_card_of_nobody_cannot_be_active(store: Store) -> None:
    with store.write() as connection:
        row = {"site": "st-marys", "key": KEY, "tail": "E5F6", "projection": "uid", "state": "prelinked"}
        by = {"state_by": "source:1", "origin": "source:1", "created_ms": 0, "changed_ms": 0}
        connection.execute(tables.card.insert().values(id=1, **row, **by))
        audit = Audit("person:office", "st-marys", now_ms())
        set_card_state(connection, 1, "lost", audit)
        set_card_state(connection, 1, "lost", audit)
        assert len(audit.lines) == 1
        with pytest.raises(RefusedError, match="not linked"):
            set_card_state(connection, 1, "active", audit)
        with pytest.raises(RefusedError, match="no such card"):
            set_card_state(connection, 2, "lost", audit)


def test_wrong_ids_are_tried_a_few_times_only_and_all_get_the_same_answer(office: Office) -> None:
    office.sync("007,Ann,Smith,04A1B2C3D4E5F6")
    site = build_office(office.store, Daemon(list, lambda: None, dict), Broadcaster())
    with TestClient(site.app, base_url="http://127.0.0.1") as client:
        answers = [client.post("/v1/claims", json={"site": "st-marys", "person_key": f"x{n}"}) for n in range(21)]
        right = client.post("/v1/claims", json={"site": "st-marys", "person_key": "007"})
    assert {answer.text for answer in answers[:20]} == {'{"claimed":false}'}
    assert (answers[20].status_code, right.status_code) == (429, 429)
    assert int(right.headers["Retry-After"]) > 0
    assert office.cards() == {"E5F6": "prelinked"}
