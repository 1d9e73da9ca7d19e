"""Groups by kind, who is in them since when, and who sees their own people only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from gateway.config import SignInSettings, UserTypeSettings
from gateway.errors import ConfigError, RefusedError
from gateway.hub.accounts import people as accounts
from gateway.hub.accounts.sessions import open_session
from gateway.hub.directory.groups import list_groups, typed_groups
from gateway.hub.directory.sites import register
from gateway.hub.directory.user_types import type_of
from gateway.hub.ingest.commit import Committer
from gateway.hub.scope import EVERYWHERE, Grant, Right, Role, everything, scope_of
from gateway.hub.settings import read_settings
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.web.app import build_office
from gateway.hub.web.gate import Access
from gateway.hub.web.office import Daemon
from gateway.mis.base import PersonFields
from gateway.webkit.events import Broadcaster
from tests.hub.samples import SITE, message, tap
from tests.hub.sync.school_reads import Site, claim, row
from tests.hub.two_schools import COOKIE

BOTH_DATABASES = True


@pytest.fixture
def site(store: Store) -> Site:
    return Site(store)


def names(store: Store, site: str = SITE) -> dict[str, int]:
    with store.read() as connection:
        found = list_groups(everything("test"), connection)
    return {f"{item.kind} {item.name}": item.people for item in found if item.site == site}


def spans(store: Store, ref: str) -> list[tuple[str, bool]]:
    """Return the groups that somebody is or was in, with whether they still are."""
    group, member = tables.grouping, tables.membership
    query = select(group.c.name, member.c.until_ms).join_from(member, group).where(member.c.person == ref)
    with store.read() as connection:
        return [(name, until is None) for name, until in connection.execute(query.order_by(member.c.id))]


def test_groups_have_kinds_and_one_that_is_said_twice_counts_once() -> None:
    fields = PersonFields("student", "Ann", "Smith", ("7b", "Choir"), year="7", form="7B", house="Red")
    assert typed_groups(fields) == {("year", "7"), ("form", "7B"), ("house", "Red"), ("group", "Choir")}


def test_a_year_and_a_class_of_one_name_are_two_groups(site: Site) -> None:
    site.apply(row("1", year="7", group="Chess"), row("2", group="7"))
    assert names(site.store) == {"year 7": 1, "group Chess": 1, "group 7": 1}


def test_who_moves_leaves_the_old_group_and_keeps_the_history(site: Site) -> None:
    site.apply(row("1", form="7B", group=None), row("2", form="7b", group=None))
    assert names(site.store) == {"form 7B": 2}
    site.apply(row("1", form="8B", group=None), row("2", form="7B", group=None))
    assert names(site.store) == {"form 7B": 1, "form 8B": 1}
    assert spans(site.store, site.refs()["student", "1"]) == [("7B", False), ("8B", True)]


def test_who_has_left_is_in_no_group_and_comes_back_into_it(site: Site) -> None:
    both = (row("1", form="7B", group=None), row("2", form="7B", group=None))
    site.apply(*both)
    for _ in range(2):
        site.apply(both[1])
    assert names(site.store) == {"form 7B": 1}
    site.apply(*both)
    assert names(site.store) == {"form 7B": 2}
    assert spans(site.store, site.refs()["student", "1"]) == [("7B", False), ("7B", True)]


def test_the_same_read_again_writes_no_membership(site: Site) -> None:
    site.apply(row("1", form="7B"))
    with site.store.read() as connection:
        before = connection.execute(select(tables.membership)).all()
    site.apply(row("1", form="7B"))
    with site.store.read() as connection:
        assert connection.execute(select(tables.membership)).all() == before


@pytest.fixture
def office(site: Site, tmp_path: Path) -> FastAPI:
    site.apply(
        row("1", "Ann Smith", "c1", form="7B", group="Choir"),
        row("2", "Ben Jones", "c2", form="8A", group="Choir"),
        row("3", "Cat Adams", "c3", form="8A", group=None),
    )
    taps = [
        tap(number, key=claim(f"c{number}").key, person=site.refs()["student", str(number)], point=f"door-{number}")
        for number in (1, 2, 3)
    ]
    Committer(site.store).commit([message(*taps, tap(4))])
    access = Access(SignInSettings("https://hub.school.example"), state_dir=tmp_path)
    return build_office(site.store, Daemon(list, lambda: True, dict), Broadcaster(), access).app


def signed_in(store: Store, app: FastAPI, role: Role, *groups: str, site: str = SITE) -> TestClient:
    at_ms = now_ms()
    with store.write() as connection:
        audit = Audit("person:root", "", at_ms)
        account = accounts.create_account(connection, f"{role}@staff.example", "", audit)
        accounts.activate(connection, account.id)
        accounts.add_grant(connection, account.id, Grant(site, role, groups=groups), audit)
        cookie = open_session(connection, account.id, "full", "password", "Firefox", at_ms)
    return TestClient(app, base_url="http://127.0.0.1", cookies={COOKIE: cookie}, follow_redirects=False)


def people_of(client: TestClient, **query: str) -> list[str]:
    return [item["given_name"] for item in client.get("/v1/people", params=query).json()["people"]]


@pytest.mark.parametrize(
    ("groups", "seen"),
    [(("7B",), ["Ann"]), ((" choir ",), ["Ben", "Ann"]), (("7B", "8a"), ["Cat", "Ben", "Ann"]), ((), [])],
)
@pytest.mark.parametrize("where", [SITE, EVERYWHERE])
def test_external_staff_see_the_people_and_taps_of_their_own_groups_only(
    site: Site, office: FastAPI, groups: tuple[str, ...], seen: list[str], where: str
) -> None:
    client = signed_in(site.store, office, Role.EXTERNAL, *groups, site=where)
    assert people_of(client) == seen
    events = client.get("/v1/events").json()["events"]
    assert sorted(event["name"].split()[0] for event in events) == sorted(seen), "a card of nobody is not theirs"
    hidden = next((ref for (_, key), ref in site.refs().items() if not seen or (seen == ["Ann"] and key == "3")), None)
    if hidden is not None:
        assert client.get(f"/people/{hidden}").status_code == 404
        assert client.get(f"/v1/people/{hidden}").status_code == 404
        assert client.get("/v1/events", params={"person": hidden}).json()["events"] == []
        assert people_of(client, text=hidden) == []
    page = client.get("/").text
    points = set(re.findall(r"door-\d", page))
    assert points == {f"door-{number}" for number, name in ((1, "Ann"), (2, "Ben"), (3, "Cat")) if name in seen}


def test_they_see_no_audit_no_buttons_and_only_their_groups_in_the_filter(site: Site, office: FastAPI) -> None:
    client = signed_in(site.store, office, Role.EXTERNAL, "Choir")
    page = client.get("/people").text
    assert "people of your own groups" in page
    assert "New state of card" not in page
    assert re.findall(r"<option value=\"\d+\">([^<(]+) \((\d)\)", page) == [("7B", "1"), ("8A", "1"), ("Choir", "2")]
    ref = site.refs()["student", "1"]
    person = client.get(f"/people/{ref}").text
    assert "Ann Smith" in person
    assert "person create" not in person
    assert client.post(f"/people/{ref}/cards/1", data={"state": "lost"}).status_code == 403


def test_the_office_filters_people_by_group(site: Site, office: FastAPI) -> None:
    client = signed_in(site.store, office, Role.OFFICE)
    with site.store.read() as connection:
        numbers = {item.name: item.id for item in list_groups(everything("test"), connection)}
    assert people_of(client, group=str(numbers["8A"])) == ["Cat", "Ben"]
    assert people_of(client, group=str(numbers["Choir"]), text="smith") == ["Ann"]
    assert people_of(client, group="") == ["Cat", "Ben", "Ann"]
    assert client.get("/people", params={"group": "x"}).status_code == 422
    page = client.get("/people", params={"group": str(numbers["8A"])}).text
    assert f'value="{numbers["8A"]}" selected' in page


@pytest.mark.parametrize(
    ("role", "group", "sentence"),
    [(Role.OFFICE, "7B", "office sees the whole school"), (Role.EXTERNAL, "7X", "no group '7X' here")],
)
def test_a_group_that_is_none_or_narrows_nothing_is_refused(
    site: Site, office: FastAPI, role: Role, group: str, sentence: str
) -> None:
    with pytest.raises(RefusedError, match=sentence):
        signed_in(site.store, office, role, group)


def test_groups_of_one_grant_widen_no_other(site: Site) -> None:
    scope = scope_of("x", [Grant(SITE, Role.EXTERNAL, groups=("7B",)), Grant("elsewhere", Role.EXTERNAL)])
    assert scope.groups == {SITE: frozenset({"7b"}), "elsewhere": frozenset()}
    assert not scope.may(Right.PEOPLE)


SIXTH = UserTypeSettings("Sixth form", "student", ("12", "Year 13"))
TYPES = (SIXTH, UserTypeSettings("Kitchen", "staff", (), ("Catering",)), UserTypeSettings("Teacher", "staff"))


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"role": "student", "year": "12"}, "Sixth form"),
        ({"role": "student", "year": "year  13"}, "Sixth form"),
        ({"role": "student", "year": "11"}, None),
        ({"role": "student"}, None),
        ({"role": "staff", "department": "catering"}, "Kitchen"),
        ({"role": "staff", "department": "Maths"}, "Teacher"),
        ({"role": "staff"}, "Teacher"),
        ({"role": "contact", "year": "12"}, None),
    ],
)
def test_the_first_type_that_fits_is_somebody_s(fields: dict[str, str], name: str | None) -> None:
    assert type_of(TYPES, PersonFields(given_name="Ann", family_name="Smith", **fields)) == name


HUB_TOML = """
[hub]
broker = "mqtt://127.0.0.1:1883"
state_dir = "state"
[[site]]
id = "st-marys"
site_key_file = "site.key"
"""
TYPE_TOML = '[[site.user_type]]\nname = "Sixth form"\nrole = "student"\nyears = ["12"]\n'


def follow_file(site: Site, folder: Path, text: str) -> None:
    (folder / "site.key").write_text("ab" * 32)
    (folder / "hub.toml").write_text(text)
    register(site.store, read_settings(folder / "hub.toml"))


def test_types_of_hub_toml_sort_everybody_and_whoever_comes_and_moves_later(site: Site, tmp_path: Path) -> None:
    site.apply(row("1", year="12", group=None), row("2", year="11", group=None))
    follow_file(site, tmp_path, HUB_TOML + TYPE_TOML)
    assert names(site.store) == {"type Sixth form": 1, "year 11": 1, "year 12": 1}
    site.apply(row("1", year="12", group=None), row("2", year="12", group=None), row("3", year="12", group=None))
    assert names(site.store) == {"type Sixth form": 3, "year 12": 3}
    with site.store.read() as connection:
        groups = connection.scalar(select(tables.person.c.groups).where(tables.person.c.person_key == "3"))
    assert groups == ["12", "Sixth form"], "rules and actions may name the type"
    follow_file(site, tmp_path, HUB_TOML)
    assert names(site.store) == {"year 12": 3}


def test_a_sync_after_the_types_changed_plans_nothing(site: Site, tmp_path: Path) -> None:
    site.apply(row("1", year="12", group=None))
    follow_file(site, tmp_path, HUB_TOML + TYPE_TOML)
    assert site.plan(row("1", year="12", group=None)).operations == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (TYPE_TOML.replace("Sixth form", "staff"), "is a role"),
        (TYPE_TOML + TYPE_TOML.replace("Sixth form", "sixth FORM"), "is there already"),
        (TYPE_TOML.replace('"student"', '"pupil"'), "must be one of"),
        (TYPE_TOML.replace("Sixth form", "x" * 61), "must have 1 to 60 characters"),
    ],
)
def test_a_type_that_cannot_be_meant_is_refused(site: Site, tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        follow_file(site, tmp_path, HUB_TOML + text)
