"""First steps: each step of a new school turns to done by what is there, never by a click."""

from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient
from sqlalchemy import update

from gateway.hub.accounts import people
from gateway.hub.scope import Role
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.web.app import build_office
from gateway.hub.web.gate import Access
from gateway.hub.web.office import Daemon
from gateway.webkit.events import Broadcaster
from tests.hub.samples import SITE
from tests.hub.two_schools import COOKIE, OTHER, add_school, sign_in_as


def pages(store: Store, folder: Path, cookie: str | None = None) -> TestClient:
    app = build_office(store, Daemon(list, lambda: True, dict), Broadcaster(), Access(state_dir=folder)).app
    return TestClient(app, base_url="http://127.0.0.1", cookies={COOKIE: cookie} if cookie else None)


def steps(client: TestClient) -> dict[str, dict[str, bool]]:
    schools = client.get("/v1/setup").json()["schools"]
    return {school["site"]: {step["name"]: step["is_done"] for step in school["steps"]} for school in schools}


def test_a_new_school_is_told_what_to_do_first_and_where(store: Store, tmp_path: Path) -> None:
    client = pages(store, tmp_path)
    assert set(steps(client)[SITE].values()) == {False}
    text = client.get("/setup", headers={"Accept": "text/html"}).text
    for word in ("tapgate accounts create", f"tapgate mis check --site {SITE}", f"tapgate hub issue {SITE}/gw-front"):
        assert word in text
    assert "/setup" in client.get("/", headers={"Accept": "text/html"}).text


def test_what_is_there_is_done_and_what_waits_for_somebody_says_so(store: Store, tmp_path: Path) -> None:
    school = add_school(store, tmp_path, 1)
    add_school(store, tmp_path, 2)
    with store.write() as connection:
        connection.execute(update(tables.gateway).values(seen_ms=now_ms()))
        connection.execute(update(tables.person).values(state="inactive"))
    client = pages(store, tmp_path, sign_in_as(store, Role.OFFICE, SITE))
    found = steps(client)
    assert set(found) == {SITE}, "another school's steps are its own"
    assert found[SITE] == {
        "Somebody can sign in": True,
        "An MIS or an export is connected": True,
        "People are here": False,
        "A gateway is connected": True,
        "A card was tapped": True,
        "Rules say who may pass where": False,
    }
    assert "nobody is let in before somebody looked" in client.get("/setup").text
    assert school.word.lower() in client.get("/gateways").text
    assert OTHER not in client.get("/setup").text


def test_accounts_that_ended_still_count_as_a_hub_that_asks_everybody(store: Store, tmp_path: Path) -> None:
    with store.write() as connection:
        audit = Audit("x", "", now_ms())
        account = people.create_account(connection, "a@school.example", "", audit)
        people.end_account(connection, account.id, audit)
    assert pages(store, tmp_path).get("/v1/setup").status_code == 401
