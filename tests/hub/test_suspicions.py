"""A copied card at a gateway's reader, from the radio to the hub's pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text

from gateway.access.event import Event, encode_event
from gateway.access.suspicion import Suspicion, read_suspicion
from gateway.config import load_gateway
from gateway.edge.app import Gateway
from gateway.hub.ingest.commit import Committer
from gateway.hub.scope import ALL_SITES
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from gateway.hub.web import suspicions
from gateway.hub.web.app import build_office
from gateway.hub.web.live import LogFeed
from gateway.hub.web.office import Daemon
from gateway.readers.base import DRIVERS
from gateway.simulator.chips import SimulatedTransports
from gateway.simulator.clone_cards import StaticNonceCard
from gateway.webkit.events import Broadcaster
from tests.hub.samples import SITE, message, wait_until

BOTH_DATABASES = True
UID = bytes.fromhex("DE AD BE A3")
SENTENCE = "front-in: a card ending ..BEA3 looks like a copy: static nonce"
TOML = """\
[gateway]
id = "gw-canteen"
site = "st-marys"
state_dir = "state"
site_key_file = "site.key"

[[reader]]
id = "front-in"
driver = "rc522"
port = "/dev/spidev0.0"
point = "front-door"
clone_check = true

[[point]]
id = "front-door"
kind = "door"
"""


@pytest.fixture
def journaled(tmp_path: Path) -> list[bytes]:
    """Hold a copied card to a real gateway on a simulated wire; return what its journal holds then."""
    folder = tmp_path / "gateway"
    folder.mkdir()
    (folder / "site.key").write_text("00" * 32)
    (folder / "gateway.toml").write_text(TOML)
    wires = SimulatedTransports()
    gateway = Gateway(load_gateway(folder / "gateway.toml", tuple(DRIVERS)), wires)
    gateway.start()
    wait_until(lambda: all(row.state == "ready" for row in gateway.view().readers), "the reader is not ready")
    wires.field("/dev/spidev0.0").enter(StaticNonceCard(UID))

    def events() -> list[bytes]:
        return [raw for _, raw in gateway.journal.after(0, 1 << 20)]

    wait_until(lambda: any(b'"suspicion"' in raw for raw in events()), "the copy is not noticed")
    held = events()
    gateway.stop()
    wires.close()
    return held


def office(store: Store) -> TestClient:
    return TestClient(
        build_office(store, Daemon(list, lambda: None, dict), Broadcaster()).app, base_url="http://127.0.0.1"
    )


def test_a_copied_card_is_named_on_logbook_gateway_page_and_in_the_figures_by_its_tail_only(
    store: Store, journaled: list[bytes]
) -> None:
    Committer(store).commit([message(*journaled)])
    client = office(store)
    for path in ("/", "/?kind=reader", "/gateways"):
        assert SENTENCE in client.get(path).text, path
    [row] = [row for row in client.get("/v1/events").json()["events"] if row["reason"] == "static_nonce"]
    assert (row["kind"], row["reader"], row["tail"]) == ("reader", "front-in", "BEA3")
    [said] = client.get("/v1/gateways").json()["suspicions"]
    assert said["what"].startswith(SENTENCE)
    figure = f'{{site="{SITE}",gateway="gw-canteen",reader="front-in",sign="static_nonce"}} 1'
    assert f"tapgate_hub_card_suspicions_total{figure}" in client.get("/metrics").text
    for path in ("/", "/gateways", "/v1/events", "/v1/gateways", "/metrics"):
        assert "DEADBEA3" not in client.get(path).text.upper()


def test_an_open_logbook_page_is_told_by_itself(store: Store, journaled: list[bytes]) -> None:
    live = Broadcaster()
    said: list[str] = []
    live.publish = lambda event: said.append(f"{event}")  # type: ignore[method-assign]
    feed = LogFeed(store, build_office(store, Daemon(list, lambda: None, dict), live), live)
    committer = Committer(store)
    committer.commit([message(*journaled[:1])])
    feed._look()
    committer.commit([message(*journaled)])
    feed._look()
    assert sum(SENTENCE in line for line in said) == 1


def test_what_is_sent_again_counts_once_and_old_suspicions_leave_the_page_but_not_the_figures(
    store: Store, journaled: list[bytes]
) -> None:
    committer = Committer(store)
    committer.commit([message(*journaled)])
    committer.commit([message(*journaled, last="backlog")])
    with store.read() as connection:
        at_ms = connection.scalar(select(tables.event.c.at_ms).where(tables.event.c.reason == "static_nonce"))
        assert at_ms is not None
        assert len(suspicions.list_suspicions(ALL_SITES, connection, at_ms)) == 1
        assert suspicions.list_suspicions(ALL_SITES, connection, at_ms + 31 * 86_400_000) == []
        assert [count for *_, count in suspicions.count_suspicions(connection)] == [1]


def test_suspicions_are_found_by_their_index(store: Store) -> None:
    if not store.is_sqlite:
        pytest.skip("the plan of an empty partitioned table tells nothing")
    wanted = "SELECT 1 FROM event WHERE event.kind = 'reader' AND event.reason IS NOT NULL AND event.at_ms >= 5"
    with store.read() as connection:
        plan = connection.execute(text(f"EXPLAIN QUERY PLAN {wanted}")).all()
    assert "ix_event_sign" in str(plan)


def reader_event(**fields: object) -> Event:
    event = Event(
        gw="gw-canteen",
        epoch="5f1c9a02",
        seq=1,
        boot=1,
        at="2026-11-22T08:31:04.123Z",
        clock="ntp",
        up=1.0,
        kind="reader",
        reader='lane"1',
    )
    for name, value in fields.items():
        setattr(event, name, value)
    return event


@pytest.mark.parametrize(
    ("data", "read"),
    [
        ({"state": "suspicion", "sign": "backdoor", "tail": "BEA3"}, Suspicion("backdoor", "BEA3")),
        ({"state": "suspicion", "sign": "a_later_sign", "tail": "BEA3"}, Suspicion("a_later_sign", "BEA3")),
        ({"state": "suspicion", "sign": "backdoor", "tail": "DEADBEA3"}, Suspicion("backdoor", "")),
        ({"state": "suspicion", "sign": '"} 7', "tail": 4}, Suspicion("unknown", "")),
        ({"state": "suspicion"}, Suspicion("unknown", "")),
        ({"state": "offline"}, None),
        ([], None),
    ],
)
def test_a_suspicion_never_carries_more_than_four_digits(data: object, read: Suspicion | None) -> None:
    assert read_suspicion(reader_event(data=data)) == read


def test_a_gateway_that_sends_a_whole_number_or_an_odd_name_cannot_put_it_on_a_page(store: Store) -> None:
    data = {"state": "suspicion", "sign": "backdoor", "tail": "DEADBEA3"}
    Committer(store).commit([message(encode_event(reader_event(data=data, reason="lane")))])
    client = office(store)
    for path in ("/", "/gateways", "/v1/events", "/v1/gateways"):
        assert "DEADBEA3" not in client.get(path).text, path
    assert "a card looks like a copy" in client.get("/").text
    assert 'reader="lane\\"1",sign="backdoor"} 1' in client.get("/metrics").text


def test_a_reader_event_that_is_no_suspicion_is_none_whatever_reason_it_gives(store: Store) -> None:
    Committer(store).commit([message(encode_event(reader_event(data={"state": "offline"}, reason="static_nonce")))])
    with store.read() as connection:
        assert suspicions.count_suspicions(connection) == []
