"""The pages in a real Chromium: live, accessible, without errors or outside requests, whole without scripts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request

from gateway.cards.identity import CardNumber
from gateway.config import load_gateway
from gateway.edge.app import Gateway
from gateway.edge.web.face import WebFace
from gateway.outputs.simulated import SimulatedStrike
from gateway.readers.base import DRIVERS, CardRead
from gateway.simulator.chips import SimulatedTransports
from gateway.webkit.events import Broadcaster
from tests.chromium import MARKS
from tests.edge.pages import serve_pages

pytestmark = MARKS
AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
GATEWAY = """
[gateway]
id = "gw-pages"
site = "st-marys"
state_dir = "state"
site_key_file = "site.key"
[web]
port = 0
[[reader]]
id = "reception"
driver = "rc522"
port = "/dev/spidev0.0"
point = "reception"
[[point]]
id = "reception"
kind = "kiosk"
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    (tmp_path / "site.key").write_text("00" * 32, encoding="ascii")
    (tmp_path / "gateway.toml").write_text(GATEWAY, encoding="utf-8")
    settings = load_gateway(tmp_path / "gateway.toml", tuple(DRIVERS))
    wires = SimulatedTransports()
    gateway = Gateway(settings, wires, strikes={"reception": SimulatedStrike()})
    gateway.start(pages="elsewhere")
    yield gateway
    gateway.stop()
    wires.close()


@pytest.fixture
def face(gateway: Gateway) -> Iterator[WebFace]:
    with serve_pages(gateway) as face:
        yield face


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(15_000)
    outside: list[str] = []
    errors: list[str] = []

    def on_request(request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1", "data:")):
            outside.append(request.url)

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(message.text)

    page.on("request", on_request)
    page.on("console", on_console)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert outside == []
    assert errors == []


def _tap(gateway: Gateway, tail: str) -> None:
    number = CardNumber("uid", bytes.fromhex("04112233" + tail))
    gateway.tapline.handle(CardRead("reception", number, "ntag", time.monotonic_ns()))


def _wait_for_listener(stream: Broadcaster, page: Page) -> None:
    deadline = time.monotonic() + 10
    while not stream.listeners:
        assert time.monotonic() < deadline, "the page did not open its stream"
        page.wait_for_timeout(20)


def _violations(page: Page) -> list[str]:
    # Under the strict policy no script tag can be added; evaluate goes past it.
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("tags => axe.run({runOnly: tags})", TAGS)
    return [f"{item['id']}: {item['nodes'][0]['html']}" for item in found["violations"]]


def test_a_tap_appears_on_the_open_status_page_by_itself(gateway: Gateway, face: WebFace, page: Page) -> None:
    page.goto(face.server.address)
    page.wait_for_selector("text=No taps since the daemon started")
    _wait_for_listener(face.pages, page)
    _tap(gateway, "A1B2C3")
    page.wait_for_selector("#live-taps >> text=...B2C3")
    assert not page.is_visible("text=No taps since the daemon started")


def test_the_status_page_is_accessible(gateway: Gateway, face: WebFace, page: Page) -> None:
    _tap(gateway, "A1B2C3")
    page.goto(face.server.address)
    assert _violations(page) == []


def test_the_check_of_accessibility_sees_a_picture_without_words(gateway: Gateway, face: WebFace, page: Page) -> None:
    page.goto(face.server.address)
    page.evaluate("document.querySelector('main').appendChild(new Image()).src = '/static/icon.svg'")
    assert any(item.startswith("image-alt") for item in _violations(page))


def test_a_page_that_hears_nothing_says_that_it_is_stale(gateway: Gateway, face: WebFace, page: Page) -> None:
    page.clock.install()
    page.goto(face.server.address)
    assert not page.is_visible(".stale")
    _wait_for_listener(face.pages, page)
    face.server._broadcaster.close()
    deadline = time.monotonic() + 10
    while not page.is_visible(".stale"):
        # The first beat may still be on its way to the page, and the browser connects again every few seconds.
        assert time.monotonic() < deadline, "the page takes a stream that ends in silence for news"
        page.clock.run_for(5_000)
        page.wait_for_timeout(20)


def test_without_scripts_the_page_shows_the_same(gateway: Gateway, face: WebFace, browser: Browser) -> None:
    _tap(gateway, "A1B2C3")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(face.server.address)
    text = page.inner_text("main")
    context.close()
    for shown in ("No roster: every tap is denied.", "reception", "...B2C3", "roster missing"):
        assert shown in text


def test_the_kiosk_shows_the_answer_to_a_tap_and_goes_back(gateway: Gateway, face: WebFace, page: Page) -> None:
    page.goto(f"{face.server.address}/kiosk/reception")
    page.wait_for_selector("text=Hold your card to the reader")
    _wait_for_listener(face.screens["reception"], page)
    _tap(gateway, "A1B2C3")
    page.wait_for_selector("text=Not accepted")
    assert _violations(page) == []
    page.wait_for_selector("text=Hold your card to the reader")


def test_what_the_status_page_weighs_stays_under_60_kb(gateway: Gateway, face: WebFace, page: Page) -> None:
    weights: list[int] = []
    page.on("response", lambda answer: weights.append(int(answer.headers.get("content-length", "0"))))
    page.goto(face.server.address)
    page.wait_for_selector("main")
    assert 1000 < sum(weights) < 60_000
