"""The page of everybody who is in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from msgspec import UNSET
from sqlalchemy import insert, update

from gateway.hub.ingest.commit import Committer
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
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
