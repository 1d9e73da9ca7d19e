"""Key events to text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.wedge import EV_KEY, WedgeParser, keys_of

_typeable = st.text("0123456789ABCDEFabcdefxyz:;-_,.<>!@#$%^&*()[]{}'\"\\|/?+= ", max_size=30)


@given(_typeable)
def test_what_a_reader_types_is_what_is_read(text: str) -> None:
    parser = WedgeParser()
    typed = b"".join(parser.feed(EV_KEY, code, value) for code, value in keys_of(text))
    assert typed == text.encode() + b"\r"


def test_keypad_digits_ignore_shift_and_keypad_enter_ends_the_line() -> None:
    parser = WedgeParser()
    events = [(42, 1), (79, 1), (79, 0), (42, 0), (82, 1), (96, 1)]
    assert b"".join(parser.feed(EV_KEY, *event) for event in events) == b"10\r"


@given(st.integers(0, 31), st.integers(0, 767), st.integers(0, 2))
def test_no_event_raises(kind: int, code: int, value: int) -> None:
    assert len(WedgeParser().feed(kind, code, value)) <= 1
