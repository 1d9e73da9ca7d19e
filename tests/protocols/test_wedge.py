"""Key events to text."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.cards.encodings import decode
from gateway.errors import BadCardNumber
from gateway.protocols.key_layouts import LAYOUTS, key_code
from gateway.protocols.line import Line, LineForm, LineParser
from gateway.protocols.wedge import EV_KEY, EV_SYN, LOST, SPOILT, SYN_DROPPED, WedgeParser, keys_of

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


SHIFT, CAPS, NUM, ALT, CTRL, ALTGR = 42, 58, 69, 56, 29, 100
_ZERO_TO_NINE = dict(zip("7894561230", (71, 72, 73, 75, 76, 77, 79, 80, 81, 82), strict=True))


def strokes(*codes: int) -> list[tuple[int, int]]:
    return [event for code in codes for event in ((code, 1), (code, 0))]


def typed(parser: WedgeParser, events: list[tuple[int, int]]) -> bytes:
    return b"".join(parser.feed(EV_KEY, code, value) for code, value in events)


@given(st.sampled_from(sorted(LAYOUTS)), st.text("0123456789ABCDEFabcdef-,;:/", max_size=20))
def test_every_layout_types_what_its_reader_prints(layout: str, text: str) -> None:
    assume(all(letter in {*LAYOUTS[layout].plain.values(), *LAYOUTS[layout].shifted.values()} for letter in text))
    assert typed(WedgeParser(layout), keys_of(text, layout)) == text.encode() + b"\r"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_all_digits_and_letters(layout: str) -> None:
    keys = {*LAYOUTS[layout].plain.values(), *LAYOUTS[layout].shifted.values()}
    assert set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") <= keys


def test_a_french_reader_by_caps_lock_needs_no_shift_for_digits() -> None:
    digits_and_letters = strokes(11, 5, 16, 2)  # 0 4 A 1, where A stands on the key of a US Q
    assert typed(WedgeParser("fr"), [*strokes(CAPS), *digits_and_letters, *strokes(CAPS)]) == b"04A1"


def test_locks_and_modifiers_type_nothing() -> None:
    assert typed(WedgeParser(), strokes(NUM, 79, NUM, 70, SHIFT, ALT, CTRL, ALTGR)) == b"1"
    assert typed(WedgeParser(), strokes(CAPS, 32, CAPS, 32)) == b"Dd"
    assert typed(WedgeParser(), strokes(CAPS, 2)) == b"1"


def test_alt_with_a_number_of_the_keypad_is_that_character() -> None:
    keys = [event for digit in "065" for event in strokes(_ZERO_TO_NINE[digit])]
    assert typed(WedgeParser(), [(ALT, 1), *keys, (ALT, 0)]) == b"A"
    parser = WedgeParser()
    assert typed(parser, [(ALT, 1), *strokes(80, 77, 77), (ALT, 0)]) == SPOILT
    assert "Alt" in parser.spoiler


def test_control_j_and_a_key_of_ones_choice_end_a_line() -> None:
    assert typed(WedgeParser(), [(CTRL, 1), *strokes(36), (CTRL, 0)]) == b"\r"
    assert typed(WedgeParser(end_keys=[key_code("down")]), strokes(108)) == b"\r"
    assert typed(WedgeParser(ignored_keys=[key_code("F2")]), strokes(60)) == b""


def test_a_key_that_no_number_has_spoils_the_line_and_is_named() -> None:
    parser = WedgeParser()
    assert typed(parser, strokes(108)) == SPOILT
    assert parser.spoiler == "the key down"


def test_a_shift_whose_release_is_lost_ends_with_its_line() -> None:
    assert typed(WedgeParser(), [(54, 1), *strokes(2, 28, 2, 28)]) == b"!\r1\r"


def test_dropped_events_spoil_the_line_and_forget_what_is_held() -> None:
    parser = WedgeParser()
    assert typed(parser, [(SHIFT, 1), *strokes(CAPS)]) == b""
    assert parser.feed(EV_SYN, SYN_DROPPED, 0) == LOST
    assert typed(parser, strokes(32)) == b"d"
    assert parser.lost == 1


RING = 64


def ring(events: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """What the kernel keeps of events that nobody reads (drivers/input/evdev.c, __pass_event)."""
    queue: list[tuple[int, int, int]] = []
    for event in events:
        queue.append(event)
        if len(queue) == RING:
            queue = [(EV_SYN, SYN_DROPPED, 0), event]
    return queue


def wrong_numbers(make: Callable[[], WedgeParser], encoding: str, lines: list[str], step: int) -> tuple[int, int]:
    """Return how many numbers come out of all stalls over two taps, and how many of them nobody's card has."""
    events = [
        event for line in lines for key, value in keys_of(line) for event in ((4, 4, key), (1, key, value), (0, 0, 0))
    ]
    true = [decode(line, encoding) for line in lines]
    read = wrong = 0
    for start in range(0, len(events), step):
        for length in range(RING, len(events) - start + 1, step):
            keys, parser = make(), LineParser(LineForm(banner="", ends_by_silence=True))
            left = events[:start] + ring(events[start : start + length]) + events[start + length :]
            for line in parser.feed(b"".join(keys.feed(*event) for event in left)) + parser.idle():
                if isinstance(line, Line):
                    try:
                        number = decode(line.text, encoding)
                    except BadCardNumber:
                        continue
                    read += 1
                    wrong += number not in true
    return read, wrong


class _KeysOnly(WedgeParser):
    """As before: what is no key is nothing."""

    def feed(self, kind: int, code: int, value: int) -> bytes:
        return super().feed(kind, code, value) if kind == EV_KEY else b""


_STALLED = {
    "8h10d": ["0123456789", "0987654321"],
    "w26": ["082,40198", "017,31245"],
    "number": ["0000104711", "0000100815"],
    "hex-msb": ["04A1B2C3D4E5F6", "04112233445566"],
    "dec-msb": ["001234567890", "000987654321"],
}


@pytest.mark.parametrize("encoding", _STALLED)
def test_no_stall_over_two_taps_makes_a_number_that_nobody_has(encoding: str) -> None:
    read, wrong = wrong_numbers(WedgeParser, encoding, _STALLED[encoding], 3)
    assert wrong == 0
    assert read or encoding == "w26"


def test_the_stalls_catch_a_parser_that_looks_at_keys_only() -> None:
    assert sum(wrong_numbers(_KeysOnly, encoding, lines, 3)[1] for encoding, lines in _STALLED.items()) > 100
