from __future__ import annotations

import re
import zoneinfo
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import insert, select, update
from sqlalchemy.exc import OperationalError

from gateway.hub.directory.names import search_text, sort_name
from gateway.hub.fleet.gateways import note_verdict
from gateway.hub.ingest.commit import Committer
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.store.times import to_ms
from gateway.hub.web.app import build_office
from gateway.hub.web.live import LogFeed
from gateway.hub.web.office import Daemon
from gateway.link.messages import Reported
from gateway.webkit.events import Broadcaster
from gateway.webkit.site import POLICY
from tests.hub.samples import GATEWAY, SITE, message, tap

KEY = "ab" * 16
REF = "p_" + "1" * 16
PAGES = ("/", "/gateways", "/people", "/syncs", "/quarantine")


@pytest.fixture
def client(store: Store) -> TestClient:
    with store.write() as connection:
        row = {"ref": REF, "site": SITE, "person_key": "00017", "role": "student", "given_name": "Zoë <b>"}
        rest = {
            "family_name": "O'Brien",
            "sort_name": sort_name("Zoë <b>", "O'Brien"),
            "search_text": search_text("O'Brien", "Zoë <b>", "00017"),
            "groups": ["7B"],
            "state": "active",
            "created_ms": 0,
            "changed_ms": 0,
        }
        connection.execute(insert(tables.person).values(**row, **rest))
        made = {"site": SITE, "key": KEY, "tail": "E5F6", "projection": "uid", "person": REF, "state": "active"}
        by = {"state_by": "source:1", "origin": "source:1", "created_ms": 0, "changed_ms": 0}
        connection.execute(insert(tables.card).values(id=1, **made, **by))
        connection.execute(insert(tables.holding).values(card=1, person=REF))
    committer = Committer(store)
    denied = tap(2).replace(b'"point":"lane-1"', b'"point":"front-door"')
    committer.commit([message(tap(1, key=KEY), denied), message(tap(3), last="backlog")])
    committer.commit([message(b'{"v":1,"kind":"dance"}')])
    site = build_office(store, Daemon(list, lambda: True, lambda: {"fresh": 3}), Broadcaster())
    return TestClient(site.app, base_url="http://127.0.0.1")


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_whole_html_under_the_strict_policy_and_without_scripts_inside(
    client: TestClient, path: str
) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert "</html>" in answer.text
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", answer.text)


def test_no_page_and_no_answer_shows_a_card_key_or_unescaped_name(client: TestClient) -> None:
    for path in (*PAGES, "/v1/events", "/v1/people", "/v1/gateways", "/v1/syncs", "/v1/quarantine"):
        text = client.get(path).text
        assert KEY not in text, path
        assert "<b>" not in text or "json" in client.get(path).headers["content-type"], path
    assert "E5F6" in client.get("/people").text


def test_the_logbook_names_the_person_and_says_what_was_found_later_or_sent_later(client: TestClient) -> None:
    text = client.get("/").text
    assert "O&#39;Brien" in text
    assert "matched later" in text
    assert "sent later" in text


def test_the_logbook_is_narrowed_by_point_decision_person_and_day(client: TestClient) -> None:
    def seqs(**asked: str) -> list[int]:
        return [row["seq"] for row in client.get("/v1/events", params=asked).json()["events"]]

    assert seqs() == [3, 2, 1]
    assert seqs(point="front-door") == [2]
    assert seqs(decision="granted") == [1]
    assert seqs(person="brien") == [1]
    assert seqs(person="00017") == [1]
    assert seqs(person="nobody") == []
    assert seqs(day="2026-11-22") == [3, 2, 1]
    assert seqs(day="2026-11-21") == []
    assert seqs(kind="door") == []
    assert client.get("/v1/events", params={"day": "2026-13-01"}).status_code == 422
    assert client.get("/v1/events", params={"page": -1}).status_code == 422


def test_taps_that_may_lie_on_either_side_of_a_register_time_are_flagged_counted_and_found(
    client: TestClient, store: Store
) -> None:
    assert "register time, because" not in client.get("/").text
    unsure = {2: ("repaired", 40_000), 3: ("repaired", 1000), 4: ("unknown", None)}
    Committer(store).commit([message(tap(4))])
    table = tables.event
    register = datetime.now(UTC).astimezone(zoneinfo.ZoneInfo("Europe/London"))
    at = register.replace(second=0, microsecond=0) - timedelta(seconds=30)
    with store.write() as connection:
        connection.execute(update(tables.site).values(register_times=[f"{register:%H:%M}"]))
        for seq, (how, error_ms) in unsure.items():
            values = {"at_ms": to_ms(at), "at_how": how, "at_error_ms": error_ms}
            connection.execute(update(table).where(table.c.seq == seq).values(**values))

    def seqs(**asked: str) -> list[int]:
        return [row["seq"] for row in client.get("/v1/events", params=asked).json()["events"]]

    assert seqs(time="unsure") == [4, 3, 2]
    assert seqs(time="register") == [4, 2]
    assert seqs(time="register", page="1") == []
    rows = {row["seq"]: row["near"] for row in client.get("/v1/events").json()["events"]}
    assert rows == {1: [], 2: [f"{register:%H:%M}"], 3: [], 4: [f"{register:%H:%M}"]}
    text = client.get("/").text
    assert "2 taps of the last 7 days may fall on either side of a register time" in text
    assert text.count(f"before or after {register:%H:%M}") == 2
    assert "Show them" not in client.get("/", params={"time": "register"}).text


def test_people_are_found_by_part_of_a_name_and_by_id_with_wildcards_taken_to_the_letter(client: TestClient) -> None:
    def total(text: str) -> int:
        return int(client.get("/v1/people", params={"text": text}).json()["total"])

    assert (total("zo o'b"), total("00017"), total("17"), total("%"), total("")) == (1, 1, 0, 0, 1)


def test_the_state_of_a_card_is_changed_with_its_audit(client: TestClient, store: Store) -> None:
    assert client.post("/v1/cards/1/state", json={"state": "lost"}).json() == {"card": 1, "state": "lost"}
    with store.read() as connection:
        card = connection.execute(select(tables.card)).one()
        line = connection.execute(select(tables.audit)).one()
    assert (card.state, card.state_by) == ("lost", "person:office")
    assert (line.operation, line.subject) == ("card_state", REF)
    assert line.detail == {"tail": "E5F6", "old": "active", "new": "lost"}
    assert client.post("/v1/cards/1/state", json={"state": "eaten"}).status_code == 422
    refused = client.post("/v1/cards/99/state", json={"state": "lost"})
    assert (refused.status_code, refused.headers["content-type"]) == (404, "application/problem+json")


def test_another_sites_page_cannot_change_a_card(client: TestClient, store: Store) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.post("/cards/1/state", data={"state": "lost"}, headers=headers).status_code == 403
    with store.read() as connection:
        assert connection.scalar(select(tables.card.c.state)) == "active"


def test_the_quarantine_shows_the_bytes_as_text_that_cannot_run(client: TestClient) -> None:
    assert "dance" in client.get("/quarantine").text


def test_health_and_figures_are_told(client: TestClient) -> None:
    assert client.get("/health/live").json() == {"live": True, "hanging": []}
    assert client.get("/health/ready").json() == {"ready": True, "database": True, "broker": True}
    metrics = client.get("/metrics").text
    assert 'tapgate_gateway_watermark{site="st-marys",gateway="gw-canteen"} 3' in metrics
    assert "tapgate_hub_quarantine 1" in metrics


def test_a_database_that_is_away_is_an_honest_503(
    client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> object:
        raise OperationalError("SELECT 1", {}, Exception("disk I/O error"))

    monkeypatch.setattr(store.engine, "connect", away)
    assert client.get("/health/ready").json() == {"ready": False, "database": False, "broker": True}
    answer = client.get("/v1/events")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


@pytest.mark.parametrize("host", ["testserver", "hub.evil.example", "localhost.evil.example", ""])
def test_a_name_that_is_not_in_the_settings_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 421


def test_a_new_tap_reaches_open_logbook_pages(store: Store) -> None:
    live = Broadcaster()
    said: list[str] = []
    live.publish = lambda event: said.append(f"{event}")  # type: ignore[method-assign]
    site = build_office(store, Daemon(list, lambda: None, dict), live)
    feed = LogFeed(store, site, live)
    committer = Committer(store)
    committer.commit([message(tap(1))])
    feed._look()
    assert said == []
    committer.commit([message(tap(2), tap(3))])
    feed._look()
    assert len(said) == 2
    assert "card unknown" in said[0]
    feed._look()
    assert len(said) == 2


def test_without_the_broker_no_gateway_is_green(store: Store) -> None:
    committer = Committer(store)
    committer.commit([message(tap(1))])
    with store.write() as connection:
        connection.execute(tables.gateway.update().values(state="ready"))
    pages = {}
    for connected in (True, False):
        site = build_office(store, Daemon(list, lambda connected=connected: connected, dict), Broadcaster())
        pages[connected] = TestClient(site.app, base_url="http://127.0.0.1").get("/gateways").text
    assert "&#10003; ready" in pages[True]
    assert "&#10003; ready" not in pages[False]
    assert "not connected to the broker" in pages[False]


@pytest.mark.parametrize(
    ("state", "connected", "is_green"), [("ready", True, True), ("lost", True, False), ("ready", False, False)]
)
def test_a_gateway_s_own_good_verdict_is_green_only_while_it_is_there(
    store: Store, state: str, connected: bool, is_green: bool
) -> None:
    Committer(store).commit([message(tap(1))])
    sentence = "All good: 2 of 2 readers, hub connected, 0 waiting."
    with store.write() as connection:
        connection.execute(tables.gateway.update().values(state=state))
        note_verdict(connection, SITE, GATEWAY, Reported(level="good", sentence=sentence), now_ms())
        note_verdict(connection, SITE, "gw-nobody", Reported(level="bad", sentence="No."), now_ms())
    site = build_office(store, Daemon(list, lambda: connected, dict), Broadcaster())
    client = TestClient(site.app, base_url="http://127.0.0.1")
    page = client.get("/gateways").text
    assert sentence in page
    assert ("&#10003; good" in page) is is_green
    [row] = client.get("/v1/gateways").json()["gateways"]
    assert (row["verdict"], row["verdict_sentence"]) == ("good", sentence)
