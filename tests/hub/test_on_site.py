"""The page of everybody who is in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from fastapi.testclient import TestClient
from msgspec import UNSET
from sqlalchemy import insert, update

from gateway.hub.facts.by_hand import Overdue, sign_out
from gateway.hub.ingest.commit import Committer
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from gateway.hub.store.times import to_ms
from gateway.hub.web.app import build_office
from gateway.hub.web.gate import Access
from gateway.hub.web.office import Daemon
from gateway.webkit.events import Broadcaster
from tests.hub.samples import SITE, follow, message, tap

AYSHA = "p_" + "a" * 16


@pytest.fixture
def pages(store: Store, tmp_path: Path) -> Iterator[TestClient]:
    with store.write() as connection:
        row = {"ref": AYSHA, "site": SITE, "person_key": "7", "role": "student", "given_name": "Aysha", "form": "7B"}
        row |= {"family_name": "Khan", "groups": [], "state": "active", "created_ms": 0, "changed_ms": 0}
        connection.execute(insert(tables.person).values(row))
    app = build_office(
        store, Daemon(list, lambda: None, dict), Broadcaster(), Access(state_dir=tmp_path, base=tmp_path)
    ).app
    with TestClient(app, base_url="http://127.0.0.1", headers={"Accept": "text/html"}) as client:
        yield client


def sign(store: Store, seq: int, direction: str, at: datetime, person: str = AYSHA, clock: str = "ntp") -> None:
    event = tap(
        seq, kind="movement", at=f"{at:%Y-%m-%dT%H:%M:%S.000Z}", point="desk", person=person, clock=clock,
        movement={"person": person, "direction": direction}, card=UNSET, decision=UNSET, reason=UNSET,
    )  # fmt: skip
    Committer(store).commit([message(event)])
    follow(store)


def test_whoever_signs_in_is_on_the_list_until_they_sign_out(store: Store, pages: TestClient) -> None:
    assert "Nobody has signed in" in pages.get("/on-site").text
    now = datetime.now(UTC)
    sign(store, 1, "in", now)
    text = pages.get("/on-site").text
    assert "Aysha Khan" in text
    assert "1 signed in today" in text
    assert [row["point"] for row in pages.get("/v1/on-site").json()["people"]] == ["desk"]
    sign(store, 2, "out", now + timedelta(seconds=1))
    assert "Aysha Khan" not in pages.get("/on-site").text


def test_whoever_did_not_sign_out_yesterday_stands_apart(store: Store, pages: TestClient) -> None:
    sign(store, 1, "in", datetime.now(UTC) - timedelta(days=2))
    text = pages.get("/on-site").text
    assert "0 signed in today" in text
    assert "They did not sign out, and have probably left." in text
    assert [row["today"] for row in pages.get("/v1/on-site").json()["people"]] == [False]


def test_a_time_that_is_not_sure_and_a_gateway_that_is_away_are_told(store: Store, pages: TestClient) -> None:
    sign(store, 1, "in", datetime.now(UTC), clock="free")
    text = pages.get("/on-site").text
    assert "time not sure" in text
    assert "newest movements are missing" in text
    with store.write() as connection:
        connection.execute(update(tables.gateway).values(state="ready"))
    assert "newest movements are missing" not in pages.get("/on-site").text


def test_somebody_who_is_not_in_the_directory_is_counted_all_the_same(store: Store, pages: TestClient) -> None:
    sign(store, 1, "in", datetime.now(UTC), person="p_" + "f" * 16)
    assert "not in the directory" in pages.get("/on-site").text


POSTED = {"Sec-Fetch-Site": "same-origin"}


def test_the_office_signs_somebody_out_on_the_list_and_in_by_hand_on_their_page(
    store: Store, pages: TestClient
) -> None:
    sign(store, 1, "in", datetime.now(UTC) - timedelta(seconds=5))
    form = {"direction": "out", "reason": "corrected on the page On site", "back": "on-site"}
    answer = pages.post(f"/people/{AYSHA}/movements", data=form, headers=POSTED, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/on-site")
    assert "Aysha Khan" not in pages.get("/on-site").text
    early = datetime.now(UTC).astimezone(ZoneInfo("Europe/London")) - timedelta(hours=3)
    form = {"direction": "in", "at": f"{early:%Y-%m-%dT%H:%M}", "reason": "forgot the card"}
    pages.post(f"/people/{AYSHA}/movements", data=form, headers=POSTED)
    person = pages.get(f"/people/{AYSHA}").text
    assert f"{early:%d %b %Y %H:%M} <strong>IN</strong>" in person
    assert "forgot the card" in person
    number = re.search(r"/movements/(\d+)/withdraw\"><button class=\"quiet\">Withdraw out", person)
    assert number is not None
    answer = pages.post(f"/movements/{number[1]}/withdraw", headers=POSTED, follow_redirects=False)
    assert answer.headers["location"].startswith(f"/people/{AYSHA}?note=")
    assert "Aysha Khan" in pages.get("/on-site").text
    assert "withdrawn" in pages.get(f"/people/{AYSHA}").text


@pytest.mark.parametrize("at", ["yesterday", "2026-02-30T08:00", "0001-01-01T00:00", "99999"])
def test_a_time_that_is_none_changes_nothing_and_is_a_sentence(store: Store, pages: TestClient, at: str) -> None:
    form = {"direction": "in", "at": at, "reason": "forgot the card"}
    answer = pages.post(f"/people/{AYSHA}/movements", data=form, headers=POSTED)
    assert answer.status_code == 409
    assert pages.get("/v1/on-site").json()["people"] == []


def test_whoever_the_end_of_the_day_signed_out_stands_apart_and_can_be_put_back(
    store: Store, pages: TestClient
) -> None:
    now = datetime.now(UTC)
    sign(store, 1, "in", now - timedelta(seconds=60))
    with store.write() as connection:
        sign_out(connection, [Overdue(SITE, AYSHA, to_ms(now - timedelta(seconds=30)))], to_ms(now))
    text = pages.get("/on-site").text
    assert "0 signed in today" in text
    assert "They did not sign out themselves, and have probably left." in text
    [row] = pages.get("/v1/on-site").json()["people"]
    assert (row["automatic"], row["gateway"]) == (True, "by hand")
    assert "Sign in Aysha Khan" in text
