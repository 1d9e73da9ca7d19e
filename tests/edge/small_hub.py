"""The smallest hub that keeps the contract: takes events in, counts each once, says so with a retained watermark."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from gateway.access.event import decode_event, split_events
from gateway.config import BrokerSettings
from gateway.link import messages
from gateway.link.client import Arrived, Connected, Link, Will
from gateway.link.messages import Command, GatewayState, HubState, Reply, Watermark
from gateway.link.topics import (
    ALL_BACKLOG,
    ALL_REPLIES,
    ALL_STATES,
    ALL_TAPS,
    HUB_STATE,
    GatewayTopics,
    parse_gateway_topic,
)
from gateway.link.watermark import Coverage


def wait_until(condition: Callable[[], Any], seconds: float = 20, what: str = "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(what or "it did not happen in time")
        time.sleep(0.01)


class SmallHub:
    """One gateway's hub in memory.

    Attributes:
        rows: stored bytes by (epoch, seq).
        ways: the topics (`taps`, `backlog`) on which each number arrived, in their order.
        acking: while False nothing is committed and nothing said.
    """

    def __init__(self, broker: BrokerSettings, *, site: str = "st-marys", gateway: str = "gw-canteen") -> None:
        self.topics = GatewayTopics(site, gateway)
        self.rows: dict[tuple[str, int], bytes] = {}
        self.ways: dict[int, list[str]] = {}
        self.order: list[tuple[str, int]] = []
        self.arrived_at: dict[int, float] = {}
        self.conflicts: list[int] = []
        self.states: list[GatewayState] = []
        self.replies: queue.SimpleQueue[tuple[Reply, bytes | None]] = queue.SimpleQueue()
        self.marks: dict[str, Coverage] = {}
        self.acking = True
        self.announce = True
        self.ready = threading.Event()
        will = Will(HUB_STATE, messages.encode(HubState("lost")))
        self._link = Link(broker, "hub-0", will=will, receive_maximum=500)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="small-hub")

    def start(self) -> None:
        self._link.start()
        self._thread.start()
        assert self.ready.wait(10)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)
        self._link.close()

    @property
    def count(self) -> int:
        return len(self.rows)

    def say(self, word: Any) -> None:
        self._link.publish(HUB_STATE, messages.encode(HubState(word)), retain=True)

    def command(self, command: Command, *, retain: bool = False, correlation: bytes = b"c-1") -> None:
        self._link.publish(self.topics.command, messages.encode(command), retain=retain, correlation=correlation)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._link.publish(topic, payload, retain=retain)

    def say_watermarks(self) -> None:
        for epoch, mark in self.marks.items():
            ack = Watermark(epoch, mark.upto, mark.ranges)
            self._link.publish(self.topics.ack, messages.encode(ack), retain=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                item = self._link.inbox.get(timeout=0.05)
            except queue.Empty:
                continue
            if isinstance(item, Connected):
                self._link.subscribe([ALL_TAPS, ALL_BACKLOG, ALL_STATES, ALL_REPLIES])
                if self.announce:
                    self.say("ready")
                self.ready.set()
            elif isinstance(item, Arrived):
                self._arrived(item)

    def _arrived(self, message: Arrived) -> None:
        parts = parse_gateway_topic(message.topic)
        assert parts is not None
        if parts[2] == "state":
            self.states.append(messages.decode(message.payload, GatewayState))
        elif parts[2] == "reply":
            self.replies.put((messages.decode(message.payload, Reply), message.correlation))
        elif self.acking:
            self._commit(parts[2], split_events(message.payload))

    def _commit(self, way: str, raws: list[bytes]) -> None:
        for raw in raws:
            event = decode_event(raw)
            key = event.epoch, event.seq
            self.ways.setdefault(event.seq, []).append(way)
            self.order.append((way, event.seq))
            self.arrived_at.setdefault(event.seq, time.monotonic())
            if self.rows.setdefault(key, raw) != raw:
                self.conflicts.append(event.seq)
            self.marks.setdefault(event.epoch, Coverage()).add(event.seq, event.seq)
        self.say_watermarks()
