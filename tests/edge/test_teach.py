"""The teach page: whole card numbers, on this machine only, for a moment only, and nowhere else."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from gateway.cards.encodings import encode
from gateway.cards.identity import CardNumber
from gateway.cards.uid import Uid
from gateway.edge.teaching import Lesson, Teaching, Watch
from gateway.edge.web.app import TEMPLATES
from gateway.edge.web.teach import TeachPage, mount_teach, render_lesson
from gateway.readers.base import CardRead
from gateway.webkit.events import Broadcaster
from gateway.webkit.site import Site
from tests.edge.pages import serve_pages
from tests.edge.test_app import POINTS, _House

CARD = Uid(bytes.fromhex("DEADBEEF"))
NEAR, FAR = ("127.0.0.1", 50000), ("192.168.1.50", 50000)


class Class:
    """The page, and the place where the tapline would be."""

    def __init__(self, window_seconds: float = 120.0) -> None:
        self.watch: Watch | None = None
        self.changed = threading.Event()
        self.teaching = Teaching(self._hook, self.changed.set, window_seconds)
        self.site = Site("Tapgate gateway", "gw", TEMPLATES)
        mount_teach(self.site, TeachPage(["lane-1", "lane-2"], self.teaching, Broadcaster()))

    def _hook(self, watch: Watch | None) -> None:
        self.watch = watch

    def client(self, where: tuple[str, int] = NEAR, name: str = "http://127.0.0.1:8080") -> TestClient:
        return TestClient(self.site.app, base_url=name, client=where)

    def tap(self, reader: str = "lane-1", number: CardNumber | None = None) -> None:
        if self.watch:
            self.watch(CardRead(reader, number or CardNumber.of_uid(CARD), "ntag", time.monotonic_ns()))


@pytest.fixture
def lesson() -> Iterator[Class]:
    lesson = Class()
    yield lesson
    lesson.teaching.stop()


def test_the_last_card_stands_there_in_every_form_once_somebody_teaches(lesson: Class) -> None:
    client = lesson.client()
    lesson.tap()
    assert "Not started; no card numbers are shown." in client.get("/teach").text
    assert client.post("/teach/start", data={"reader": "lane-1"}).status_code == 200
    assert "Hold a card" in client.get("/teach").text
    lesson.tap()
    page = client.get("/teach").text
    for encoding in ("hex-msb", "hex-lsb", "dec-msb", "dec-lsb", "w26", "w34", "bcc-appended"):
        assert f"<code>{encode(CARD, encoding)}</code>" in page
    assert "shows whole card numbers" in page
    assert "Reading cards at lane-1" in render_lesson(lesson.site, lesson.teaching.lesson()).data


def test_another_reader_is_not_looked_at(lesson: Class) -> None:
    lesson.client().post("/teach/start", data={"reader": "lane-1"})
    lesson.tap("lane-2")
    assert lesson.teaching.lesson().forms == ()


def test_a_number_that_is_no_uid_is_named_as_such(lesson: Class) -> None:
    lesson.teaching.start("lane-1")
    lesson.tap(number=CardNumber("w26", b"\x01\x02\x03"))
    assert "does not report this card" in lesson.client().get("/teach").text


@pytest.mark.parametrize(
    ("where", "name", "headers"),
    [
        (FAR, "http://192.168.1.5:8080", {}),
        (FAR, "http://localhost:8080", {}),
        (NEAR, "http://192.168.1.5:8080", {}),
        (NEAR, "http://localhost:8080", {"X-Forwarded-For": "192.168.1.50"}),
        (NEAR, "http://localhost:8080", {"Forwarded": "for=192.168.1.50"}),
    ],
)
def test_nobody_beyond_this_machine_sees_or_starts_anything(
    lesson: Class, where: tuple[str, int], name: str, headers: dict[str, str]
) -> None:
    lesson.teaching.start("lane-1")
    lesson.tap()
    client = lesson.client(where, name)
    for method, path in (
        ("GET", "/teach"),
        ("GET", "/teach/events"),
        ("POST", "/teach/stop"),
        ("POST", "/teach/start"),
    ):
        answer = client.request(method, path, headers=headers, data={"reader": "lane-2"} if method == "POST" else None)
        assert answer.status_code == 403
        assert encode(CARD, "hex-msb") not in answer.text
    assert lesson.teaching.lesson().reader == "lane-1"


def test_a_page_of_another_site_cannot_press_the_button(lesson: Class) -> None:
    headers = {"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"}
    answer = lesson.client().post("/teach/start", data={"reader": "lane-1"}, headers=headers)
    assert answer.status_code == 403
    assert lesson.watch is None


def test_the_window_ends_by_itself_and_the_number_is_gone() -> None:
    lesson = Class(window_seconds=0.2)
    lesson.teaching.start("lane-1")
    lesson.tap()
    assert lesson.teaching.lesson().forms
    lesson.changed.clear()
    assert lesson.changed.wait(5)
    assert lesson.watch is None
    assert lesson.teaching.lesson() == Lesson()
    assert lesson.teaching._last is None  # the promise of the page is about memory, not only about what it shows


def test_an_earlier_window_does_not_end_the_next_one(lesson: Class) -> None:
    lesson.teaching.start("lane-1")
    earlier = lesson.teaching._ends
    lesson.teaching.start("lane-2")
    lesson.teaching._expire(earlier)  # its timer had already fired
    assert lesson.teaching.lesson().reader == "lane-2"


def test_a_running_gateway_shows_the_card_and_records_only_its_tail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    house = _House(tmp_path, "[web]\nport = 0", points=POINTS[:2], pages="elsewhere")
    with contextlib.ExitStack() as stack:
        stack.callback(house.stop)
        web = stack.enter_context(serve_pages(house.gateway))
        client = TestClient(web.site.app, base_url="http://localhost", client=NEAR)
        house.tap("lane", CardNumber.of_uid(CARD))
        client.post("/teach/start", data={"reader": "lane"})
        assert encode(CARD, "hex-msb") not in client.get("/teach").text
        house.tap("lane", CardNumber.of_uid(CARD))
        assert encode(CARD, "dec-msb") in client.get("/teach").text
        client.post("/teach/stop")
        assert house.gateway.tapline.watch is None
        assert len(house.events("tap")) == 2
        raw = b"".join(record for _, record in house.gateway.journal.after(0, 1 << 20))
    everything = raw.decode("latin-1") + caplog.text
    assert not any(encode(CARD, form) in everything.upper() for form in ("hex-msb", "hex-lsb", "dec-msb", "dec-lsb"))


def test_a_gateway_with_a_kiosk_has_no_such_page_because_its_browser_stands_in_front_of_everybody(
    tmp_path: Path,
) -> None:
    house = _House(tmp_path, "[web]\nport = 0", pages="elsewhere")
    with contextlib.ExitStack() as stack:
        stack.callback(house.stop)
        web = stack.enter_context(serve_pages(house.gateway))
        client = TestClient(web.site.app, base_url="http://localhost", client=NEAR)
        assert client.get("/teach").status_code == 404
        assert "/teach" not in client.get("/").text
        # Whoever holds the socket cannot open the window either.
        assert not web._panel.teach("lane", "page")


def test_a_watcher_that_fails_costs_no_tap(tmp_path: Path) -> None:
    house = _House(tmp_path)

    def watch(_read: CardRead) -> None:
        raise RuntimeError

    try:
        house.gateway.tapline.watch = watch
        house.tap("lane", CardNumber.of_uid(CARD))
        assert len(house.events("tap")) == 1
    finally:
        house.stop()
