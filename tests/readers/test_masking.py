"""Recordings of every driver: no card number in any form, and they play as they were, faults included."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable

import pytest

from gateway.cards.encodings import encode
from gateway.cards.uid import Uid
from gateway.errors import ReaderOffline
from gateway.protocols import pn532, sl500, stx_etx
from gateway.protocols.wedge import EV_KEY, WedgeParser, keys_of
from gateway.readers import masking
from gateway.readers.base import CardRead, CardRefused, Reader, ReaderEvent, ReaderNotice, make_reader, parse_options
from gateway.readers.masking import CannotMask, mask, play
from gateway.readers.masking.numbers import invented, search
from gateway.simulator.chips import SimulatedTransports
from gateway.simulator.polled_readers import Pn532Device, Sl500Device, Twn4Device
from gateway.transports.trace import Recorder
from tests.readers.contract import FOUR, OTHER, RANDOM, SEVEN
from tests.readers.test_pcsc import PcscBench

PORT = "/dev/serial/by-id/usb-reader"
# Bytes that make trouble: stuffing, start codes, line ends, digits.
NASTY = bytes.fromhex("04 AA AA 00 FF AA 0D")


class Story:
    """A reader that is recorded while things happen to it."""

    def __init__(self, driver: str, port: str = PORT, **options: object) -> None:
        self.wires, self.out, self.driver, self.port = SimulatedTransports(), io.StringIO(), driver, port
        self.options = options
        self.events: list[ReaderEvent] = []
        self.reader: Reader | None = None

    def open(self) -> None:
        parsed = parse_options(self.driver, self.options, lambda key, message: pytest.fail(f"{key} {message}"))
        recorder = Recorder(self.wires, self.out, self.driver, dict(self.options))
        self.reader = make_reader(self.driver, "front-in", self.port, parsed, recorder)
        self.reader.open()

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.events += self.reader.poll()
            time.sleep(self.reader.pause_seconds)

    def ends_offline(self, seconds: float = 3.0) -> None:
        with pytest.raises(ReaderOffline):
            self.run(seconds)
        self.wires.close()

    @property
    def records(self) -> list:
        return [json.loads(line) for line in self.out.getvalue().splitlines()]


def leaks(records: list, number: bytes) -> list[str]:
    """Look for a number in a recording in every form that we could think of, without the product's own search."""
    sides = {kind: b"".join(bytes.fromhex(record[1]) for record in records if record[0] == kind) for kind in "rw"}
    keys, typed = WedgeParser(), b""
    for record in records:
        for event in record[1] if record[0] == "k" else ():
            typed += keys.feed(*event)
    calls = [record[3] for record in records if record[0] == "c"]
    told = b" ".join(bytes.fromhex(item["data"]) for call in calls for item in call or () if "data" in item)
    found = []
    raw_forms: dict[str, bytes] = {}
    for name, order in (("as it is", number), ("reversed", number[::-1])):
        for place in range(len(order) - 2):
            raw_forms[f"{name} from byte {place}"] = order[place : place + 3]
        raw_forms[f"{name} in the middle of a bit stream"] = (int.from_bytes(order, "big") << 1).to_bytes(
            len(order) + 1, "big"
        )[1:-1]
    text_forms = {name: form.hex() for name, form in raw_forms.items() if "bit" not in name}
    for name, order in (("first byte first", number), ("last byte first", number[::-1])):
        text_forms[f"decimal, {name}"] = str(int.from_bytes(order, "big"))
    if len(number) == 4:
        for encoding in ("8h10d", "6h8d", "w26", "w34", "bcc-appended"):
            text_forms[encoding] = encode(Uid(number), encoding)
    text_forms |= {f"digits of {name}": form.upper().encode().hex() for name, form in text_forms.items()}
    streams = {**sides, "keys": typed, "told": told}
    for where, stream in streams.items():
        found += [f"{where}: {name}" for name, form in raw_forms.items() if form in stream]
        text = stream.decode("latin-1").upper().replace(":", "")
        found += [f"{where}: text {name}" for name, form in text_forms.items() if form.upper() in text]
    dump = json.dumps([record for record in records if record[0] in "ckr"]).upper()
    found += [f"file: {name}" for name, form in text_forms.items() if len(form) > 6 and form.upper() in dump]
    return found


def shape(events: list[ReaderEvent]) -> list[tuple]:
    numbers: list[bytes] = []
    told: list[tuple] = []
    for event in events:
        extra: object = getattr(event, "reason", getattr(event, "state", ""))
        if isinstance(event, CardRead):
            numbers.append(event.number.value)
            extra = (numbers.index(event.number.value), len(event.number.value), event.card_type)
        told.append((type(event).__name__, event.seen_ns, extra))
    return told


def check(story: Story, *numbers: bytes) -> list:
    """Mask a story's recording and look at both; returns the masked one."""
    records = story.records
    for number in numbers:
        assert leaks(records, number), "the search finds nothing even in the raw recording"
    read = [event.number.value for event in story.events if isinstance(event, CardRead)]
    masked = mask(records, read)
    for number in numbers:
        assert leaks(masked, number) == []
    events, vitals = play(masked)
    assert shape(events) == shape(story.events)
    assert vitals.counters == story.reader.vitals.counters
    assert (vitals.errors, vitals.retries, vitals.polls) == (
        story.reader.vitals.errors,
        story.reader.vitals.retries,
        story.reader.vitals.polls,
    )
    assert not {event.number.value for event in events if isinstance(event, CardRead)} & set(read)
    assert [len(record) for record in masked] == [len(record) for record in records]
    return masked


def flip(answer: bytes) -> bytes:
    return answer[:-3] + bytes([answer[-3] ^ 0x10]) + answer[-2:]


ASKED = {"twn4": Twn4Device, "pn532": Pn532Device, "sl500": Sl500Device}


@pytest.mark.parametrize("driver", ASKED)
def test_a_reader_that_is_asked_with_split_spoilt_and_cut_answers_and_a_pulled_plug(driver: str) -> None:
    story, device = Story(driver, rearm_ms=60.0), ASKED[driver]()
    story.wires.attach(PORT, device)
    story.open()
    for number in (FOUR, SEVEN, NASTY, FOUR):
        device.enter(number)
        story.run(0.15)
        device.leave()
        story.run(0.2)
    device.split_seconds = 0.003
    device.enter(OTHER)
    story.run(0.2)
    device.leave()
    story.run(0.2)
    device.split_seconds = 0.0
    for spoil in (flip, lambda answer: answer[:-4], lambda answer: answer[: len(answer) // 2] + answer):
        device.spoil = spoil
        device.enter(SEVEN)
        story.run(0.3)
        device.leave()
        story.run(0.2)
    for noise in (FOUR, b"\x00\xff\x30\xd0" + FOUR, b"\xaa\xbb\x09\x00" + SEVEN, SEVEN.hex().encode(), b"\xff\x00"):
        device.noise = noise
        story.run(0.15)
    device.enter(RANDOM)
    story.run(0.15)
    device.unplug()
    story.ends_offline()
    assert sum(isinstance(event, CardRead) for event in story.events) >= 8
    assert any(isinstance(event, CardRefused) for event in story.events)
    check(story, FOUR, SEVEN, NASTY, OTHER)


@pytest.mark.parametrize("driver", ASKED)
def test_a_reader_that_falls_silent(driver: str) -> None:
    story, device = Story(driver, rearm_ms=60.0), ASKED[driver]()
    story.wires.attach(PORT, device)
    story.open()
    device.enter(SEVEN)
    story.run(0.15)
    device.mute = True
    story.ends_offline()
    check(story, SEVEN)


def test_an_sl500_of_old_firmware_that_gives_the_first_part_of_a_number() -> None:
    story, device = Story("sl500", rearm_ms=60.0), Sl500Device()
    story.wires.attach(PORT, device)
    device.knows_seven = False
    story.open()
    device.enter(SEVEN)
    story.run(1.0)
    device.unplug()
    story.ends_offline()
    assert [type(event) for event in story.events] == [CardRefused]
    check(story, SEVEN[:3])


LINES: list[tuple[dict[str, object], Callable[[bytes], bytes]]] = [
    ({"encoding": name}, lambda uid, name=name: encode(Uid(uid), name).encode() + b"\r\n")
    for name in ("hex-msb", "hex-lsb", "dec-msb", "dec-lsb", "8h10d", "w26", "w34", "bcc-appended", "ascii-hex|hex-msb")
]
LINES += [
    ({"encoding": "hex-msb"}, lambda uid: uid.hex(":").encode() + b"\r"),
    ({"encoding": "hex-msb", "prefix": "C:", "suffix": ";"}, lambda uid: b"C:0x" + uid.hex().encode() + b";\r"),
    (
        {"encoding": "hex-msb", "pattern": "[0-9]{2}-([0-9A-F]{8})[0-9A-F]{2}"},
        lambda uid: f"07-{uid.hex().upper()}{uid[0] ^ uid[1] ^ uid[2] ^ uid[3]:02X}\r".encode(),
    ),
]


@pytest.mark.parametrize(("options", "line"), LINES)
def test_a_line_reader_with_lines_in_pieces_cut_noisy_and_foreign(
    options: dict[str, object], line: Callable[[bytes], bytes]
) -> None:
    story = Story("serial-line", **options)
    end = story.wires.line(PORT)
    story.open()
    whole = line(OTHER)
    for piece in (line(FOUR), whole[:5], whole[5:], line(FOUR) + line(OTHER), b"ELA GM4.02\r"):
        end.send(piece)
        story.run(0.02)
    story.run(0.15)
    for piece in (whole[:6], whole[3:], whole[:4] + b"\xff" + whole[4:], b"NO CARD\r", b"CAFE" + whole):
        end.send(piece)
        story.run(0.12)
    end.unplug()
    story.ends_offline()
    # What a form drops of a number cannot be searched for.
    check(story, *((FOUR, OTHER) if options["encoding"] != "w26" else ()))


def test_taps_that_nobody_took_in_time_are_wiped() -> None:
    story = Story("serial-line", repeat_ms=5.0)
    end = story.wires.line(PORT)
    story.open()
    end.send(FOUR.hex().upper().encode() + b"\r")
    story.run(0.1)
    time.sleep(1.1)
    end.send(SEVEN.hex().upper().encode() + b"\r")
    time.sleep(0.05)
    story.run(0.1)
    end.unplug()
    story.ends_offline()
    assert story.reader.vitals.counters == {"stale": 1}
    check(story, FOUR, SEVEN)


def test_125_khz_tags_in_pieces_in_both_cases_cut_spoilt_and_repeated() -> None:
    story = Story("stx-etx", repeat_ms=60.0)
    end = story.wires.line(PORT)
    story.open()
    whole, other = stx_etx.encode(0x1A, FOUR), stx_etx.encode(0x00, OTHER).lower()
    for piece in (whole[:6], whole[6:], whole, other, other[:9], whole[1:], flip(other[:-2]), other[:-4], whole):
        end.send(piece)
        story.run(0.08)
    end.unplug()
    story.ends_offline()
    assert sum(isinstance(event, CardRead) for event in story.events) >= 3
    check(story, FOUR, OTHER)


@pytest.mark.parametrize("encoding", ["hex-msb", "dec-lsb", "8h10d"])
def test_a_keyboard_with_scan_codes_repeats_lost_enters_and_foreign_keys(encoding: str) -> None:
    story = Story("wedge", encoding=encoding)
    keyboard = story.wires.keyboard(PORT)
    story.open()

    def type_in(text: str, *, enter: bool = True) -> None:
        for place, (code, value) in enumerate(keys_of(text)[: None if enter else -2]):
            # As real keyboards do: the scan code first, and a report at the end.
            keyboard.press(4, 4, 0x70000 | code)
            keyboard.press(EV_KEY, code, value)
            keyboard.press(0, 0, 0)
            if place == 5:
                keyboard.press(EV_KEY, code, 2)
                story.run(0.03)

    type_in(encode(Uid(FOUR), encoding))
    story.run(0.1)
    type_in(encode(Uid(OTHER), encoding), enter=False)
    story.run(0.25)
    type_in(encode(Uid(FOUR), encoding)[:5], enter=False)
    story.run(0.25)
    keyboard.press(EV_KEY, 59, 1)
    type_in(encode(Uid(FOUR), encoding))
    story.run(0.1)
    type_in(encode(Uid(FOUR), encoding))
    story.run(0.1)
    keyboard.unplug()
    story.ends_offline()
    assert sum(isinstance(event, CardRead) for event in story.events) >= 3
    masked = check(story, FOUR, OTHER)
    assert {event[0] for record in masked if record[0] == "k" for event in record[1]} == {EV_KEY}


def test_what_an_osdp_reader_tells_with_words_of_every_length_and_no_key() -> None:
    pytest.importorskip("osdp_sys", reason="needs the extra osdp")
    from gateway.simulator.osdp_reader import OsdpDevice

    story, device = Story("osdp", address=5), OsdpDevice(5, inputs=1)
    story.wires.attach(PORT, device)
    story.open()
    for number in (FOUR, SEVEN, NASTY):
        device.tap(number)
        story.run(0.2)
    device.tap_wiegand(FOUR)
    device.tap_wiegand(OTHER[:3])
    device._report(OTHER + b"\x80", 37)
    device.press("90210")
    device.set_local(tampered=True)
    story.run(0.8)
    device.mute = True
    story.ends_offline()
    assert sum(isinstance(event, CardRead) for event in story.events) == 6
    assert any(isinstance(event, ReaderNotice) for event in story.events)
    check(story, FOUR, SEVEN, NASTY, OTHER[:3])
    assert "90210" not in story.out.getvalue(), "not even the raw recording holds what was typed"
    assert not {record[0] for record in story.records} & {"r", "w"}, "encrypted bytes are of no use"


def test_what_pcscd_tells_of_cards_that_come_go_and_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = PcscBench(monkeypatch)
    story = Story("pcsc", "ACR1252", rearm_ms=60.0)
    story.open()
    for number in (FOUR, SEVEN, FOUR):
        bench.enter(number)
        story.run(0.1)
        bench.leave()
        story.run(0.2)
    bench.fails_to_connect = 2
    bench.enter(RANDOM)
    story.run(0.4)
    bench.leave()
    story.run(0.2)
    bench.answer = b"\x6a\x81"
    bench.enter(OTHER)
    story.run(0.1)
    bench.kill()
    story.ends_offline()
    story.reader.close()
    assert sum(isinstance(event, CardRefused) for event in story.events) == 2
    check(story, FOUR, SEVEN)


def test_of_a_frame_with_a_wrong_bit_nothing_but_its_head_is_left() -> None:
    for frame, reply in (
        (pn532.frame(b"\x4b\x01\x01\x00\x04\x08\x04" + FOUR, 0xD5), masking.frames.mask_pn532),
        (sl500.frame(sl500.ANTICOLLISION, b"\x00" + FOUR, 0x5152), masking.frames.mask_sl500),
    ):
        damaged = flip(frame)
        records, found = reply([["v", 1, "", {}], ["r", damaged.hex()]], None)
        assert found == set()
        left = bytes.fromhex(records[1][1])
        start = 1 if left[0] != 0xAA else 0
        assert len(left) == len(damaged)
        assert len(set(left[start + 4 :])) == 1, "number and check are wiped"


@pytest.mark.parametrize("number", [FOUR, SEVEN, RANDOM, b"\x88\x04\xa1\xb2"])
def test_an_invented_number_keeps_the_kind_and_nothing_else(number: bytes) -> None:
    for _ in range(300):
        made = invented(number)
        assert len(made) == len(number)
        assert (made[0] == 0x08) == (number[0] == 0x08)
        assert not search([made], [number])
    if number == FOUR:
        assert len({invented(number)[0] for _ in range(300)}) > 50, "four bytes have no maker's byte to keep"


def test_masks_that_forget_something_or_too_much_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story("serial-line")
    end = story.wires.line(PORT)
    story.open()
    end.send(SEVEN.hex().upper().encode() + b"\r" + SEVEN[:4].hex().encode() + b"\xff\r")
    story.run(0.1)
    end.unplug()
    story.ends_offline()
    records = story.records
    swapped = [
        ["r", record[1].replace(SEVEN.hex().upper().encode().hex(), b"04A1000000E5F6".hex())]
        if record[0] == "r"
        else record
        for record in records
    ]
    assert leaks(swapped, SEVEN), "the cut line still holds four bytes"
    emptied = [["r", ""] if record[0] == "r" else record for record in records]
    for twin, why in ((swapped, "would remain"), (emptied, "would not replay")):
        monkeypatch.setattr(masking, "_MASKS", {"serial-line": lambda *_, twin=twin: (twin, {SEVEN})})
        with pytest.raises(CannotMask, match=why):
            mask(records, [SEVEN])
