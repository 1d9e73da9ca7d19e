from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace
from tinydb.table import Document

from gateway.access.event import decode_event
from gateway.edge.outbox import Outbox
from gateway.edge.relay import Relay
from gateway.errors import RefusedError
from gateway.journal.journal import Journal
from gateway.link.client import Arrived
from gateway.link.messages import WATERMARK_PURPOSE, Command, Watermark, encode, watermark_body
from gateway.roster.signing import Signer, Trust
from tests.brokers import Iotcore, Mosquitto, needs_mosquitto
from tests.edge.small_hub import SmallHub, wait_until
from tests.journal.journals import GATEWAY, assert_chained, fill, small, tap

Broker = Mosquitto | Iotcore
KEY = bytes(range(32))


def make_relay(journal: Journal, broker: Broker, **options: Any) -> Relay:
    settings: dict[str, Any] = {"offline_after_seconds": 2.0, "resend_seconds": 0.5, **options}
    relay = Relay(journal, broker.settings, gateway_id=GATEWAY, site="st-marys", **settings)
    relay.start()
    return relay


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = small(tmp_path / "journal", keep_days=7, quota_bytes=16 << 20)
    yield journal
    journal.close()


@pytest.fixture
def hub(broker: Broker) -> Iterator[SmallHub]:
    hub = SmallHub(broker.settings)
    hub.start()
    yield hub
    hub.stop()


def test_live_taps_reach_the_hub_and_its_watermark_reaches_the_journal(
    journal: Journal, broker: Broker, hub: SmallHub
) -> None:
    relay = make_relay(journal, broker)
    wait_until(lambda: relay.status().link == "online")
    fill(journal, 100)
    wait_until(lambda: journal.acked == 100)
    relay.stop()
    assert hub.count == 100
    assert {way for ways in hub.ways.values() for way in ways} == {"taps"}
    assert_chained([raw for _, raw in sorted(hub.rows.items())])
    assert hub.conflicts == []


def test_what_was_there_before_the_link_is_backlog_many_events_a_message(
    journal: Journal, broker: Broker, hub: SmallHub
) -> None:
    fill(journal, 2000)
    relay = make_relay(journal, broker)
    wait_until(lambda: journal.acked == 2000)
    status = relay.status()
    relay.stop()
    assert {way for ways in hub.ways.values() for way in ways} == {"backlog"}
    assert status.sent <= 2000 / 50 + 8
    assert status.backlog == 0
    assert status.rtt_ms is not None


def test_a_live_tap_overtakes_the_backlog(journal: Journal, broker: Broker, hub: SmallHub) -> None:
    fill(journal, 10_000)
    relay = make_relay(journal, broker)
    wait_until(lambda: hub.count > 0)
    seq = journal.append(tap()).wait(5)
    wait_until(lambda: hub.count == seq)
    relay.stop()
    assert hub.ways[seq] == ["taps"]
    place = hub.order.index(("taps", seq))
    assert sum(1 for way, _ in hub.order[place:] if way == "backlog") > 2000


def test_the_backlog_waits_while_the_hub_says_it_is_lost_and_goes_when_it_is_back(
    journal: Journal, broker: Broker, hub: SmallHub
) -> None:
    hub.say("lost")
    fill(journal, 500)
    relay = make_relay(journal, broker)
    wait_until(lambda: relay.status().hub == "lost")
    live = journal.append(tap()).wait(5)
    wait_until(lambda: live in hub.ways)
    assert set(hub.ways) == {live}
    assert relay.status().backlog == 500
    hub.say("ready")
    wait_until(lambda: journal.acked == live)
    relay.stop()


def test_with_no_word_of_a_hub_the_backlog_is_sent(journal: Journal, broker: Broker) -> None:
    hub = SmallHub(broker.settings)
    hub.announce = False
    hub.start()
    fill(journal, 200)
    relay = make_relay(journal, broker)
    wait_until(lambda: journal.acked == 200)
    assert relay.status().hub == "unknown"
    relay.stop()
    hub.stop()


def test_what_the_hub_never_committed_is_sent_again(journal: Journal, broker: Broker, hub: SmallHub) -> None:
    hub.acking = False
    fill(journal, 100)
    relay = make_relay(journal, broker)
    wait_until(lambda: relay.status().link == "online")
    fill(journal, 20)
    wait_until(lambda: relay.status().resent >= 2)
    assert journal.acked == 0
    hub.acking = True
    wait_until(lambda: journal.acked == 120)
    relay.stop()
    assert sorted(seq for _, seq in hub.rows) == list(range(1, 121))


def test_more_live_taps_than_a_silent_hub_takes_become_backlog_and_none_is_lost(
    journal: Journal, mosquitto: Mosquitto
) -> None:
    hub = SmallHub(mosquitto.settings)
    hub.acking = False
    hub.start()
    relay = make_relay(journal, mosquitto, resend_seconds=30.0)
    wait_until(lambda: relay.status().link == "online")
    while relay.status().backlog == 0:
        fill(journal, 1000)
    hub.acking = True
    head = journal.head
    # What was sent to the silent hub is sent again when the connection is made anew.
    mosquitto.kill()
    mosquitto.start()
    wait_until(lambda: journal.acked == head, 60)
    relay.stop()
    hub.stop()
    assert sorted(seq for _, seq in hub.rows) == list(range(1, head + 1))


def test_a_broker_killed_without_persistence_loses_nothing(journal: Journal, broker: Broker, hub: SmallHub) -> None:
    relay = make_relay(journal, broker)
    wait_until(lambda: relay.status().link == "online")
    total = 0
    for _ in range(3):
        fill(journal, 300)
        broker.kill()
        fill(journal, 300)
        total += 600
        broker.start()
        wait_until(lambda total=total: journal.acked == total, 60, f"{journal.acked} of {total}: {relay.status()}")
    relay.stop()
    assert sorted(seq for _, seq in hub.rows) == list(range(1, total + 1))
    assert hub.conflicts == []


def test_birth_names_boot_head_and_watermark_and_a_goodbye_closes(
    journal: Journal, broker: Broker, hub: SmallHub
) -> None:
    fill(journal, 3)
    relay = make_relay(journal, broker, roster_version=lambda: 412)
    wait_until(lambda: hub.states)
    birth = hub.states[0]
    assert (birth.state, birth.boot, birth.epoch, birth.head, birth.roster) == (
        "ready",
        journal.boot,
        journal.epoch,
        3,
        412,
    )
    hub.command(Command("rebirth"))
    wait_until(lambda: len(hub.states) > 1)
    relay.stop()
    wait_until(lambda: hub.states[-1].state == "closed")


def test_a_short_interruption_is_not_called_offline(journal: Journal, broker: Broker) -> None:
    relay = make_relay(journal, broker, offline_after_seconds=1.0)
    wait_until(lambda: relay.status().link == "online")
    broker.kill()
    wait_until(lambda: relay.status().link == "reconnecting")
    wait_until(lambda: relay.status().link == "offline")
    assert relay.status().last_error
    broker.start()
    wait_until(lambda: relay.status().link == "online", 40)
    relay.stop()


def test_a_refused_publish_keeps_the_event_and_raises_an_alarm(journal: Journal, tmp_path: Path) -> None:
    needs_mosquitto()
    rules = tmp_path / "acl"
    rules.write_text("topic readwrite tapgate/#\ntopic deny tapgate/v1/st-marys/gw-canteen/taps\n")
    broker = Mosquitto(tmp_path, f"acl_file {rules}")
    broker.start()
    hub = SmallHub(broker.settings)
    hub.start()
    relay = make_relay(journal, broker)
    wait_until(lambda: relay.status().link == "online")
    fill(journal, 5)
    wait_until(lambda: relay.status().refused)
    assert "Not authorized" in (relay.status().refused or "")
    assert journal.acked == 0
    assert relay.status().waiting == 5
    relay.stop(0.2)
    hub.stop()
    broker.stop()


def test_a_command_is_done_once_answered_and_refused_the_second_time(
    journal: Journal, broker: Broker, hub: SmallHub
) -> None:
    done: list[dict[str, Any]] = []

    def unlock(args: dict[str, Any]) -> dict[str, Any]:
        if args.get("point") == "nowhere":
            raise RefusedError("There is no point 'nowhere'.")
        done.append(args)
        return {"unlocked": True}

    relay = make_relay(journal, broker, now=lambda: datetime(2026, 11, 22, 9, tzinfo=UTC))
    relay.on_command("unlock", unlock)
    wait_until(lambda: hub.states)

    def ask(command: Command) -> Any:
        hub.command(command, correlation=b"c-7")
        reply, correlation = hub.replies.get(timeout=10)
        assert correlation == b"c-7"
        return reply

    challenge = hub.states[-1].challenge
    first = Command("unlock", 5, {"point": "front-door"}, challenge=challenge)
    assert ask(first).result == {"unlocked": True}
    again = ask(first)
    assert not again.done
    assert "above 5" in again.error
    assert "too late" in ask(Command("unlock", 6, {}, "2026-11-22T08:59:59Z", challenge)).error
    assert "nowhere" in ask(Command("unlock", 7, {"point": "nowhere"}, challenge=challenge)).error
    assert "knows no command" in ask(Command("dance", 8)).error
    assert ask(Command("unlock", 9, {}, "2026-11-22T09:00:01Z", challenge)).done
    assert done == [{"point": "front-door"}, {}]
    relay.stop()
    second = make_relay(journal, broker)
    second.on_command("unlock", unlock)
    wait_until(lambda: second.status().link == "online")
    assert "not made for this start" in ask(Command("unlock", 10, challenge=challenge)).error
    wait_until(lambda: hub.states[-1].challenge != challenge)
    assert "above 9" in ask(Command("unlock", 9, challenge=hub.states[-1].challenge)).error
    second.stop()


def test_replay_sends_again_what_the_hub_lost(journal: Journal, broker: Broker, hub: SmallHub) -> None:
    relay = make_relay(journal, broker)
    wait_until(lambda: relay.status().link == "online")
    fill(journal, 300)
    wait_until(lambda: journal.acked == 300)
    whole = dict(hub.rows)
    hub.rows.clear()
    hub.marks.clear()
    hub.command(Command("replay", args={"from": 101}))
    reply, _ = hub.replies.get(timeout=10)
    assert reply.result == {"from": 101, "to": 300}
    wait_until(lambda: hub.count == 200)
    relay.stop()
    assert hub.rows == {key: raw for key, raw in whole.items() if key[1] > 100}


def test_another_part_may_use_the_connection(journal: Journal, broker: Broker, hub: SmallHub) -> None:
    relay = make_relay(journal, broker)
    got: queue.SimpleQueue[Arrived] = queue.SimpleQueue()
    topic = "tapgate/v1/st-marys/roster/manifest"
    hub.publish(topic, b"manifest 1", retain=True)
    relay.on(topic, got.put)
    assert got.get(timeout=10).payload == b"manifest 1"
    hub.publish(topic, b"manifest 2", retain=True)
    assert got.get(timeout=10).payload == b"manifest 2"
    relay.off(topic)
    relay.publish(hub.topics.reported, b'{"v":9}', retain=True)
    second: queue.SimpleQueue[Arrived] = queue.SimpleQueue()
    relay.on(hub.topics.reported, second.put)
    assert second.get(timeout=10).payload == b'{"v":9}'
    relay.stop()


def test_a_bad_message_is_left_alone_and_the_relay_goes_on(journal: Journal, broker: Broker, hub: SmallHub) -> None:
    relay = make_relay(journal, broker)
    wait_until(lambda: hub.states)
    for payload in (b"", b"\xff\xff", b"[]", b'{"epoch":1}', b'{"epoch":"00000000","upto":99}'):
        hub.publish(hub.topics.ack, payload)
        hub.publish(hub.topics.command, payload)
        hub.publish("tapgate/v1/hub/state", payload)
    fill(journal, 10)
    wait_until(lambda: journal.acked == 10)
    relay.stop()


def test_stopping_waits_for_the_hub_to_have_the_live_taps(journal: Journal, broker: Broker, hub: SmallHub) -> None:
    relay = make_relay(journal, broker)
    wait_until(lambda: relay.status().link == "online")
    fill(journal, 200)
    relay.stop()
    assert journal.acked == 200
    assert decode_event(hub.rows[journal.epoch, 200]).seq == 200


def test_without_any_broker_the_relay_stops_at_once_and_the_journal_goes_on(journal: Journal) -> None:
    broker = Iotcore()
    relay = make_relay(journal, broker)
    fill(journal, 10)
    wait_until(lambda: relay.status().last_error)
    assert "refuses the connection" in (relay.status().last_error or "")
    started = time.monotonic()
    relay.stop()
    assert time.monotonic() - started < 5
    assert journal.head == 10


@pytest.mark.parametrize("splits", [True, False])
def test_messages_are_cut_to_what_the_broker_takes(
    journal: Journal,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    splits: bool,
) -> None:
    needs_mosquitto()
    broker = Mosquitto(tmp_path, "message_size_limit 4096")
    broker.start()
    hub = SmallHub(broker.settings)
    hub.start()
    if not splits:
        # As it was: fifty events a message, whatever the broker says.
        monkeypatch.setattr(Outbox, "too_large", lambda _self: None)
    fill(journal, 300)
    relay = make_relay(journal, broker)
    if splits:
        wait_until(lambda: journal.acked == 300)
        assert relay.status().refused is None
        assert hub.conflicts == []
    else:
        wait_until(lambda: caplog.text.count("Protocol error") >= 3)
        assert journal.acked == 0
    relay.stop()
    hub.stop()
    broker.stop()


def test_an_event_that_no_message_can_carry_waits_alone_and_says_so(journal: Journal, tmp_path: Path) -> None:
    needs_mosquitto()
    broker = Mosquitto(tmp_path, "message_size_limit 4096")
    broker.start()
    hub = SmallHub(broker.settings)
    hub.start()
    fill(journal, 10)
    large = tap(11)
    large.system = {"note": "x" * 5000}
    journal.append(large).wait(5)
    fill(journal, 10)
    relay = make_relay(journal, broker)
    wait_until(lambda: journal.acked == 10 and hub.count == 20)
    assert "event 11 waits" in (relay.status().refused or "")
    relay.stop()
    hub.stop()
    broker.stop()


def test_a_replay_may_end_before_the_head(journal: Journal, broker: Broker, hub: SmallHub) -> None:
    relay = make_relay(journal, broker)
    fill(journal, 200)
    wait_until(lambda: journal.acked == 200)
    sent = relay.status().sent
    hub.rows = {key: raw for key, raw in hub.rows.items() if not 50 <= key[1] <= 60}
    hub.command(Command("replay", args={"from": 50, "to": 60, "epoch": journal.epoch}))
    wait_until(lambda: hub.count == 200)
    assert relay.status().sent - sent <= 2
    hub.command(Command("replay", args={"from": 1, "epoch": "00000000"}))
    hub.replies.get(timeout=10)
    assert "is of epoch" in (hub.replies.get(timeout=10)[0].error or "")
    relay.stop()


@pytest.mark.parametrize("seals", [False, True], ids=["before 0.3", "signed"])
def test_nobody_but_the_hub_makes_a_gateway_forget_a_tap(
    journal: Journal, broker: Broker, hub: SmallHub, seals: bool
) -> None:
    # The first run shows what the second prevents: a hub that signs nothing can be spoken for.
    journal.tinydb.table("standing").upsert(Document({"witnesses": [], "signed": True, "seals": seals}, 1))
    hub.acking = False
    relay = make_relay(journal, broker, trust=Trust(KEY))
    seq = journal.append(tap()).wait(5)
    wait_until(lambda: relay.status().sent > 0)
    topic, forged = hub.topics.ack, Watermark(journal.epoch, seq)
    hub.publish(topic, encode(forged))
    if not seals:
        wait_until(lambda: journal.acked == seq)
        relay.stop()
        return
    wait_until(lambda: "without the hub's signature" in (relay.status().notice or ""))
    assert journal.acked == 0
    signer = Signer(Ed25519PrivateKey.generate())
    body = watermark_body("st-marys", GATEWAY, forged)
    hub.publish(topic, encode(replace(forged, seal=signer.seal_statement(KEY, WATERMARK_PURPOSE, body))))
    wait_until(lambda: journal.acked == seq)
    relay.stop()
