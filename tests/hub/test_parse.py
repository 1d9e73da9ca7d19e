from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.hub.ingest.parse import Incoming, read_message
from tests.hub.samples import message, tap

TOPIC = "tapgate/v1/st-marys/gw-canteen/taps"


@given(st.binary(max_size=400))
def test_no_bytes_make_the_parser_raise(payload: bytes) -> None:
    reading = read_message(Incoming(TOPIC, payload, 0))
    assert not reading.events or payload.startswith(b"[")


@given(st.data())
def test_a_damaged_message_never_raises_and_loses_no_event_that_is_still_whole(data: st.DataObject) -> None:
    raws = [tap(seq) for seq in range(1, 6)]
    payload = bytearray(message(*raws).payload)
    place = data.draw(st.integers(0, len(payload) - 1))
    payload[place] = data.draw(st.integers(0, 255))
    reading = read_message(Incoming(TOPIC, bytes(payload), 0))
    read = {raw for _, _, raw in reading.events}
    assert len(read & set(raws)) >= 3


@pytest.mark.parametrize("depth", [100, 5000, 100_000])
def test_a_message_nested_without_end_is_a_fault_not_a_crash(depth: int) -> None:
    reading = read_message(Incoming(TOPIC, b"[" * depth, 0))
    assert reading.faults
    bomb = tap(3).replace(b'"kind":"tap"', b'"kind":' + b"[" * depth)
    reading = read_message(Incoming(TOPIC, b"[" + bomb + b"]", 0))
    assert [(fault.epoch, fault.seq) for fault in reading.faults] == [("5f1c9a02", 3)]


@pytest.mark.parametrize("topic", ["", "tapgate/v1/a/b/ack", "tapgate/v1/a/b", "tapgate/v2/a/b/taps", "a/b/c/d/taps"])
def test_a_message_on_another_topic_is_a_fault(topic: str) -> None:
    reading = read_message(Incoming(topic, b"[]", 0))
    assert reading.gateway is None
    assert reading.faults


def test_reading_a_long_broken_message_takes_time_in_step_with_its_length() -> None:
    draw = random.Random(1)
    rubbish = b'{"v":' * 150_000 + draw.randbytes(1000)
    reading = read_message(Incoming(TOPIC, rubbish, 0))
    assert len(reading.faults) >= 150_000 - 1
