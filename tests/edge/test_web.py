from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from gateway.access.event import CardRef, Event, decode_event, encode_event
from gateway.edge.health import BAD, GOOD, UNKNOWN, WARN, GatewayView, ReaderRow, TapRow, findings, is_ready, verdict
from gateway.edge.web.app import Requests, build_status_site, render_live, render_tap
from gateway.edge.web.kiosk import mount_kiosks, render_message
from gateway.edge.web.lane_api import Lanes, LaneSource, mount_lanes
from gateway.points.actions import Show
from gateway.webkit.events import Broadcaster
from gateway.webkit.site import Site

READER = ReaderRow("lane-1", "rc522", "/dev/spidev0.0", "lane-1", "ready", "", "MFRC522 v2.0", 3.0, 7, 0, 0, 97, "")
VIEW = GatewayView(
    gateway="gw-canteen",
    site="st-marys",
    software="0.1.0",
    boot=3,
    running_seconds=60,
    readers=(READER,),
    doors=(("front-door", "held_open"),),
    hub_configured=True,
    link="online",
    link_detail="",
    hub="ready",
    waiting=0,
    oldest_seconds=None,
    rtt_ms=4.2,
    roster_version=412,
    roster_cards=2080,
    roster_age_seconds=30,
    roster_fault=None,
    journal_state="ok",
    journal_detail="",
    journal_head=1301,
    journal_bytes=1 << 20,
    sync_ms=0.4,
    disk_free_bytes=5 << 30,
    clock_quality="ntp",
    clock_is_set=True,
    clock_at="2026-11-22T08:31:04.123Z",
    output_fault=None,
    hanging=(),
    granted=5,
    denied=2,
)
TAP = TapRow(9, "2026-11-22T08:31:04.123Z", "lane-1", "lane-1", "E5F6", "denied", "card_lost")


def here(site: Site) -> TestClient:
    """Return a client on the gateway's own machine."""
    return TestClient(site.app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000))


class _Gateway:
    def __init__(self) -> None:
        self.view = VIEW
        self.records: list[tuple[int, bytes]] = []
        self.oldest = 1

    def tap(self, seq: int, point: str = "lane-1", kind: str = "tap") -> tuple[int, bytes, Event]:
        event = Event(
            gw="gw-canteen",
            epoch="5f1c9a02",
            seq=seq,
            boot=1,
            at="2026-11-22T08:31:04.123Z",
            clock="ntp",
            up=1.0,
            kind=kind,
            point=point,
            reader=point,
            card=CardRef("00" * 16, "E5F6", "ntag"),
            person="p_00000000000000a1",
            decision="granted",
            reason="ok",
            roster=412,
        )
        raw = encode_event(event)
        self.records.append((seq, raw))
        return seq, raw, decode_event(raw)

    def after(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        return [record for record in self.records if record[0] > seq][:limit]


@pytest.fixture
def gateway() -> _Gateway:
    return _Gateway()


@pytest.fixture
def lanes(gateway: _Gateway) -> Lanes:
    source = LaneSource("gw-canteen", "5f1c9a02", lambda: gateway.oldest, gateway.after, lambda: 30.0, lambda: "ntp")
    return Lanes(["lane-1"], source)


@pytest.fixture
def client(gateway: _Gateway, lanes: Lanes, tmp_path: Path) -> Iterator[TestClient]:
    requests = Requests(lambda: gateway.view, lambda: [TAP], lambda name: name == "lane-1")
    site = build_status_site(requests, "gw-canteen", Broadcaster())
    mount_lanes(site.app, lanes, lambda: None)
    mount_kiosks(site, {"reception": Broadcaster()}, lambda *_words: False)
    with here(site) as client:
        yield client


def test_the_first_line_is_the_verdict_and_the_page_is_whole_without_scripts(client: TestClient) -> None:
    page = client.get("/").text
    assert "All good: 1 of 1 readers, hub connected, 0 waiting." in page
    for shown in ("lane-1", "version 412", "2080", "held open", "...E5F6", "card lost", "MFRC522 v2.0", "synchronised"):
        assert shown in page
    assert "<script>" not in page
    assert " style=" not in page


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        (
            {"journal_state": "alarm", "journal_detail": "The disk is full."},
            BAD,
            "has a problem: The disk is full.",
        ),
        ({"readers": (replace(READER, state="offline"),)}, BAD, "1 of 1 readers do not answer: lane-1."),
        ({"roster_version": None}, BAD, "No roster: every tap is denied."),
        ({"hanging": ("bus spi0",)}, BAD, "bus spi0 is not responding."),
        ({"output_fault": "front-door: GPIO 17"}, BAD, "A door output does not work."),
        ({"link": "offline", "waiting": 12}, WARN, "cannot be reached; 12 taps are queued here, none are lost."),
        ({"hub": "lost", "waiting": 3}, WARN, "The hub is down; 3 taps are queued here"),
        ({"roster_fault": "unsigned"}, WARN, "version 412 stays in force"),
        ({"roster_age_seconds": 20 * 86400}, WARN, "The roster is 20 days old."),
        ({"clock_quality": "free"}, WARN, "The clock is not synchronised."),
        ({"hub_configured": False}, WARN, "No hub is configured."),
        ({"roster_cards": 0}, BAD, "The roster holds no card: every tap is denied."),
        ({"disk_free_bytes": 1}, BAD, "The disk has 0 MB left for taps."),
        ({"disk_free_bytes": 100 << 20}, WARN, "The disk has 100 MB left for taps."),
        (
            {"readers": (replace(READER, score=35, advice="metal behind it"),)},
            WARN,
            "1 of 1 readers read poorly: lane-1.",
        ),
        ({"readers": ()}, WARN, "No reader is configured."),
        (
            {"waiting": 90_000, "oldest_seconds": 3 * 86400},
            WARN,
            "90000 taps are waiting for the hub, the oldest for 72 hours.",
        ),
        ({"hub": "unknown"}, UNKNOWN, "The hub has not answered yet."),
        ({"clock_quality": "free", "clock_is_set": False}, WARN, "The clock is not set"),
        ({}, GOOD, "All good"),
    ],
)
def test_each_trouble_has_its_sentence(change: dict[str, object], level: str, words: str) -> None:
    found = verdict(replace(VIEW, **change))
    assert found.level == level
    assert words in found.sentence


def test_the_worst_trouble_is_named_first() -> None:
    view = replace(VIEW, clock_quality="free", link="offline", journal_state="alarm", journal_detail="Full.")
    assert "has a problem" in verdict(view).sentence


def test_everything_that_needs_attention_is_listed_the_worst_first(client: TestClient, gateway: _Gateway) -> None:
    gateway.view = replace(VIEW, clock_quality="free", link="offline", roster_cards=0, hub="unknown")
    assert [item.level for item in findings(gateway.view)] == [BAD, WARN, WARN]
    page = client.get("/").text
    assert page.index("no card: every tap is denied") < page.index("Needs attention") < page.index("cannot be reached")
    assert "The clock is not synchronised." in page


def test_a_hub_that_is_away_leaves_the_gateway_ready(client: TestClient, gateway: _Gateway) -> None:
    gateway.view = replace(VIEW, link="offline")
    assert is_ready(gateway.view)
    assert client.get("/health/ready").status_code == 200
    gateway.view = replace(VIEW, roster_version=None)
    assert client.get("/health/ready").status_code == 503
    assert client.get("/health/live").json() == {"live": True, "hanging": []}


def test_the_metrics_are_in_the_prometheus_text_form(client: TestClient) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    assert 'tapgate_taps_total{decision="granted"} 5' in lines
    assert 'tapgate_reader_up{reader="lane-1"} 1' in lines
    names = {line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")}
    assert all(f"# TYPE {name} " in answer.text for name in names)


def test_a_reader_can_be_asked_to_show_itself(client: TestClient) -> None:
    asked = client.post("/readers/identify", data={"reader": "lane-1"}, follow_redirects=False)
    assert asked.status_code == 303
    assert client.post("/readers/identify", data={"reader": "lane-9"}).status_code == 404


def test_live_fragments_are_the_same_html_as_the_page(client: TestClient, gateway: _Gateway) -> None:
    del client
    requests = Requests(lambda: VIEW, list, lambda _name: True)
    site = build_status_site(requests, "gw-canteen", Broadcaster())
    assert "All good" in render_live(site, gateway.view).data
    assert "<tr>" in render_tap(site, TAP).data
    assert "Signed in" in render_message(site, Show("reception", "movement", {"person": "p", "direction": "in"})).data
    assert "card lost" in render_message(site, Show("reception", "refused", {"reason": "card_lost"})).data.lower()
    assert "Hold your card" in render_message(site, Show("reception", "idle")).data


def test_a_kiosk_page_invites_and_an_unknown_one_is_not_there(client: TestClient) -> None:
    assert "Hold your card to the reader" in client.get("/kiosk/reception").text
    assert client.get("/kiosk/cellar").status_code == 404


def test_a_till_polls_recorded_taps_of_its_lane_only(client: TestClient, gateway: _Gateway) -> None:
    gateway.tap(1)
    gateway.tap(2, point="front-door")
    gateway.tap(3)
    body = client.get("/v1/lanes/lane-1/events").json()
    assert [event["seq"] for event in body["events"]] == [1, 3]
    assert body["events"][0]["decision"] == {"result": "allow", "reasons": [], "source": "roster", "roster": 412}
    assert "00000000" not in json.dumps(body["events"][0]["card"])
    after = client.get("/v1/lanes/lane-1/events", params={"after": "5f1c9a02-1"}).json()
    assert [event["seq"] for event in after["events"]] == [3]


def test_an_id_that_cannot_be_resumed_says_resync_and_skips_nothing_in_silence(
    client: TestClient, gateway: _Gateway
) -> None:
    gateway.oldest = 5
    gateway.tap(5)
    other = client.get("/v1/lanes/lane-1/events", params={"after": "00000000-4"}).json()
    old = client.get("/v1/lanes/lane-1/events", params={"after": "5f1c9a02-1"}).json()
    assert (other["resync"], old["resync"]) == ("another-journal", "older-than-kept")
    assert [event["seq"] for event in old["events"]] == [5]


def test_one_till_holds_a_lane_until_it_gives_it_back(client: TestClient) -> None:
    session = client.post("/v1/lanes/lane-1/session").json()["session"]
    busy = client.post("/v1/lanes/lane-1/session")
    assert busy.status_code == 409
    assert busy.json()["type"] == "urn:tapgate:lane-busy"
    assert client.put(f"/v1/lanes/lane-1/session/{session}").status_code == 204
    assert client.put("/v1/lanes/lane-1/session/forged").status_code == 410
    assert client.delete(f"/v1/lanes/lane-1/session/{session}").status_code == 204
    assert client.post("/v1/lanes/lane-1/session").status_code == 201
    assert client.post("/v1/lanes/lane-9/session").status_code == 404


def test_tills_must_show_their_token_when_there_is_one(gateway: _Gateway, lanes: Lanes, tmp_path: Path) -> None:
    token = tmp_path / "till.token"
    token.write_text("a-token-of-this-test\n", encoding="utf-8")
    requests = Requests(lambda: VIEW, list, lambda _name: True)
    site = build_status_site(requests, "gw-canteen", Broadcaster())
    mount_lanes(site.app, lanes, lambda: hashlib.sha256(token.read_bytes().strip()).hexdigest())
    client = here(site)
    assert client.get("/v1/lanes/lane-1/events").status_code == 401
    assert client.get("/v1/lanes/lane-1/events", headers={"Authorization": "Bearer wrong"}).status_code == 401
    shown = {"Authorization": "Bearer a-token-of-this-test"}
    assert client.get("/v1/lanes/lane-1/events", headers=shown).status_code == 200


def test_a_till_beyond_this_machine_needs_a_token_to_be_set(lanes: Lanes) -> None:
    requests = Requests(lambda: VIEW, list, lambda _name: True)
    site = build_status_site(requests, "gw-canteen", Broadcaster())
    mount_lanes(site.app, lanes, lambda: None)
    far = TestClient(site.app, base_url="http://127.0.0.1", client=("192.168.1.50", 50000))
    answer = far.get("/v1/lanes/lane-1/events")
    assert answer.status_code == 403
    assert "till_token_file" in answer.json()["detail"]
