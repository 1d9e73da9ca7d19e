from __future__ import annotations

from pathlib import Path

import pytest

from gateway.access.event import decode_event, encode_event, join_events, split_events
from gateway.errors import BadMessage

SAMPLES = Path(__file__).parent / "samples"


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("event_v*.json")), ids=lambda path: path.stem)
def test_every_kept_sample_still_decodes_and_encodes_to_the_same_bytes(path: Path) -> None:
    raw = path.read_bytes().strip()
    assert encode_event(decode_event(raw)) == raw


def test_a_batch_carries_the_bytes_of_each_event_untouched() -> None:
    raws = [b'{"a": 1,  "spaces":true}', b'{"b":"\\u00e9"}', b"[1, 2]"]
    assert split_events(join_events(raws)) == raws
    assert split_events(b"[]") == []


@pytest.mark.parametrize("bad", [b"", b"{", b"{}", b"null", b"[1", b"\xff\xff", b'"text"'])
def test_what_is_not_a_batch_is_refused_whole(bad: bytes) -> None:
    with pytest.raises(BadMessage):
        split_events(bad)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"seq":1301', b'"seq":0'),
        (b'"seq":1301', b'"seq":"1301"'),
        (b'"v":1', b'"v":2'),
        (b'"kind":"tap"', b'"kind":"nap"'),
        (b'"gw":"gw-canteen"', b'"gw":""'),
        (b'"epoch":"5f1c9a02"', b'"epoch":""'),
    ],
)
def test_an_event_that_breaks_the_form_is_refused(before: bytes, after: bytes) -> None:
    raw = (SAMPLES / "event_v1_tap.json").read_bytes()
    assert before in raw
    with pytest.raises(BadMessage):
        decode_event(raw.replace(before, after))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"boot":17', b'"boot":18446744073709551615'),
        (b'"boot":17', b'"boot":-1'),
        (b'"seq":1301', b'"seq":9223372036854775807'),
        (b'"up":1234.567', b'"up":1e300'),
        (b'"roster":412', b'"roster":9223372036854775807'),
        (b'"took_us":184', b'"took_us":1e400'),
        (b'"reason":"card_unknown"', b'"reason":"' + b"x" * 64 + b'"'),
        (b'"v":1', b'"v":1,"system":{"a":{"b":[1e200]}}'),
        (b'"v":1', b'"v":1,"system":{"a":' + b"[" * 12 + b"]" * 12 + b"}"),
        (b'"v":1', b'"v":1,"system":{"a":123456789012345678901234567890}'),
        (b'"v":1', b'"v":1,"system":{"a":"' + b"x" * 25_000 + b'"}'),
    ],
)
def test_every_value_is_bounded_where_it_is_read(before: bytes, after: bytes) -> None:
    raw = (SAMPLES / "event_v1_tap.json").read_bytes().strip()
    assert before in raw
    with pytest.raises(BadMessage):
        decode_event(raw.replace(before, after))
