"""A school's office at the hub's pages in a real Chromium: signing in, and a whole day with the MIS."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import axe_playwright_python
import pyotp
import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from gateway.config import SignInSettings
from gateway.hub.accounts import people, tokens
from gateway.hub.scope import EVERYWHERE, Grant, Role
from gateway.hub.settings import prepare_store, read_settings
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms, open_store
from gateway.hub.sync import jobs
from gateway.hub.sync.jobs import source_work
from gateway.hub.web.app import build_office
from gateway.hub.web.gate import Access
from gateway.hub.web.office import Daemon
from gateway.hub.work import runner
from gateway.hub.work.runner import Runner
from gateway.webkit.events import Broadcaster
from gateway.webkit.server import WebServer
from tests.chromium import MARKS
from tests.hub.samples import add_site
from tests.hub.two_schools import COOKIE, School, add_school, sign_in_as

pytestmark = MARKS
AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PASSWORD = "four words in a row"
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 800}
_MOST_BYTES = 60 << 10


def serve(store: Store, folder: Path) -> WebServer:
    access = Access(SignInSettings("http://127.0.0.1"), state_dir=folder)
    live = Broadcaster()
    server = WebServer(build_office(store, Daemon(list, lambda: True, dict), live, access).app, "127.0.0.1", 0, live)
    server.start()
    return server


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Store, WebServer, School]]:
    store = open_store("sqlite:///hub.db", tmp_path)
    store.migrate()
    add_site(store, tmp_path / "site.key")
    school = add_school(store, tmp_path, 1)
    add_school(store, tmp_path, 2)
    server = serve(store, tmp_path)
    yield store, server, school
    server.stop()
    store.close()


def open_page(browser: Browser, size: dict[str, int], scheme: str = "light") -> tuple[BrowserContext, Page]:
    context = browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]  # plain values
    page = context.new_page()
    page.set_default_timeout(15_000)
    return context, page


def faults(page: Page) -> list[str]:
    """Return what keeps somebody with a phone, a keyboard or a screen reader from using this page."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("tags => axe.run({runOnly: tags})", TAGS)
    texts = [f"{item['id']}: {item['nodes'][0]['html']}" for item in found["violations"]]
    if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
        texts.append("the page scrolls sideways")
    hidden = "[...document.querySelectorAll('.scroll')].filter(item => item.scrollWidth > item.clientWidth + 1).length"
    if page.viewport_size == PHONE and page.evaluate(hidden):
        texts.append("a table hides columns from a phone")
    small = "[...document.querySelectorAll('button, select, input:not([type=hidden]):not([type=checkbox])')]"
    if page.evaluate(f"{small}.filter(item => item.offsetParent && item.getBoundingClientRect().height < 44).length"):
        texts.append("something to press is smaller than a finger")
    return texts


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_of_the_office_can_be_read_and_used_by_everybody(
    two: tuple[Store, WebServer, School], browser: Browser, size: dict[str, int], scheme: str
) -> None:
    store, server, school = two
    context, page = open_page(browser, size, scheme)
    weights: dict[str, int] = {}
    page.on("response", lambda answer: weights.__setitem__(answer.url, int(answer.headers.get("content-length", "0"))))
    found = {path: faults(page) for path in ("/sign-in", "/sign-in/forgot") if page.goto(server.address + path)}
    cookie = sign_in_as(store, Role.ORG_ADMIN, EVERYWHERE)
    context.add_cookies([{"name": COOKIE, "value": cookie, "url": server.address}])
    person = f"/people/{school.numbers['ref']}"
    unknown = f"/cards/unknown?tap={school.numbers['tap']}&text=pupil"
    for path in (
        "/",
        "/on-site",
        "/attendance?day=2026-11-20",
        "/people",
        person,
        unknown,
        "/syncs",
        "/gateways",
        "/quarantine",
        "/accounts",
        "/audit",
        "/me",
    ):
        page.goto(server.address + path)
        for summary in page.locator("summary").all():
            summary.click()
        found[path] = faults(page)
    page.goto(f"{server.address}/me/two-step")
    found["/me/two-step"] = faults(page)
    context.close()
    assert {path: texts for path, texts in found.items() if texts} == {}
    assert sum(size > 1000 for size in weights.values()) > len(found)
    shared = sum(size for url, size in weights.items() if "/static/" in url)
    assert max(size for url, size in weights.items() if "/static/" not in url) + shared <= _MOST_BYTES


def test_the_check_of_a_page_sees_a_small_button_and_a_table_that_hides_columns(
    two: tuple[Store, WebServer, School], browser: Browser
) -> None:
    context, page = open_page(browser, PHONE)
    page.goto(f"{two[1].address}/sign-in")
    page.evaluate("document.querySelector('button').style.cssText = 'min-height: 1rem; height: 1rem; padding: 0'")
    page.evaluate(
        """() => {
            const inner = document.createElement('div'), outer = document.createElement('div');
            inner.style.width = '900px';
            inner.textContent = 'x';
            outer.className = 'scroll';
            outer.append(inner);
            document.querySelector('main').append(outer);
        }"""
    )
    found = faults(page)
    context.close()
    assert {"a table hides columns from a phone", "something to press is smaller than a finger"} <= set(found)


def test_an_administrator_signs_in_in_two_steps_and_invites_the_office_on_a_phone(
    two: tuple[Store, WebServer, School], browser: Browser
) -> None:
    store, server, school = two
    with store.write() as connection:
        audit = Audit("person:root", "", now_ms())
        account = people.create_account(connection, "it@school.example", "IT", audit)
        people.add_grant(connection, account.id, Grant(school.site, Role.SUPER_USER), audit)
        token = tokens.make_one_time(connection, "invite", now_ms(), account=account.id)
    context, page = open_page(browser, PHONE)
    page.goto(f"{server.address}/people")
    assert "/sign-in?next=/people" in page.url
    page.goto(f"{server.address}/welcome/{token}")
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_role("button", name="Set the password").click()
    page.wait_for_url("**/me/two-step")
    secret = "".join(page.locator("main code").inner_text().split())
    page.get_by_label("Six digits").fill(pyotp.TOTP(secret).now())
    page.get_by_role("button", name="Use the second step").click()
    codes = page.locator(".codes code").all_inner_texts()
    assert len(codes) == 8
    page.get_by_role("link", name="Go on").click()
    page.get_by_role("link", name="Accounts").click()
    page.get_by_role("textbox", name="Address").fill("office@school.example")
    page.locator("select[name=role]").select_option("office")
    assert "super user" not in page.locator("select[name=role]").inner_text()
    page.get_by_role("button", name="Invite").click()
    link = page.locator("code.long").inner_text()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    page.get_by_label("Address").fill("it@school.example")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Six digits").fill(codes[0])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{server.address}/")
    assert page.get_by_role("link", name="it@school.example").is_visible()
    context.close()
    context, page = open_page(browser, PHONE)
    page.goto(server.address + "/welcome/" + link.rpartition("/")[2])
    page.get_by_label("New password").fill("another four words here")
    page.get_by_role("button", name="Set the password").click()
    page.wait_for_url(f"{server.address}/")
    assert page.get_by_text(f"{school.word} Pupil").first.is_visible()
    assert "Wombat" not in page.content()
    assert not page.get_by_role("link", name="Accounts").is_visible()
    assert "Not for your account" in ((page.goto(f"{server.address}/audit") and page.content()) or "")
    context.close()


def test_a_form_that_needs_a_proof_is_filled_in_once(two: tuple[Store, WebServer, School], browser: Browser) -> None:
    store, server, school = two
    with store.write() as connection:
        audit = Audit("person:root", "", now_ms())
        account = people.create_account(connection, "it@school.example", "IT", audit)
        token = tokens.make_one_time(connection, "invite", now_ms(), account=account.id)
    context, page = open_page(browser, PHONE)
    page.goto(f"{server.address}/welcome/{token}")
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_role("button", name="Set the password").click()
    page.wait_for_url(f"{server.address}/")
    with store.write() as connection:
        people.add_grant(connection, account.id, Grant(school.site, Role.SUPER_USER), audit)
    page.goto(f"{server.address}/accounts")
    page.get_by_role("textbox", name="Address").fill("office@school.example")
    page.locator("select[name=role]").select_option("office")
    with store.write() as connection:
        connection.execute(tables.web_session.update().values(proved_ms=0))
    page.get_by_role("button", name="Invite").click()
    assert "not done yet" in page.locator("main").inner_text()
    assert faults(page) == []
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm and do it").click()
    assert "/welcome/" in page.locator("code.long").inner_text()
    assert page.url == f"{server.address}/accounts/invite"
    context.close()


TOML = """
[hub]
state_dir = "state"
broker = "mqtt://127.0.0.1:1883"
[[site]]
id = "st-marys"
site_key_file = "site.key"
[[site.source]]
name = "mis"
kind = "csv"
path = "people.csv"
"""
CARDS = """
[[site.source]]
name = "cards"
kind = "csv"
path = "cards.csv"
purpose = "cards_only"
"""
HEADINGS = "Student ID,First,Last,Form,Birth date,Card"


def pupil(number: int) -> str:
    born = f"2014-01-{1 + number % 28:02}"
    return f"{number:03},First{number},Last{number},{7 + number % 5}B,{born},04A1B2C3D4{number:04X}"


class OfficeDay:
    """A hub whose sources are read when the office asks, an export that a test writes, and the office's browser."""

    def __init__(self, folder: Path, page: Page) -> None:
        self.folder, self.page = folder, page
        self.rows = {f"{number:03}": pupil(number) for number in range(1, 61)}
        (folder / "site.key").write_text(bytes(range(32)).hex())
        self.headings = HEADINGS
        self.write()
        self.store = self.settle(TOML)
        self.server = serve(self.store, folder)
        self.runner = Runner(self.store, "hub-0", source_work(self.store, folder))
        self.runner.start()
        cookie = sign_in_as(self.store, Role.OFFICE, "st-marys")
        page.context.add_cookies([{"name": COOKIE, "value": cookie, "url": self.server.address}])

    def settle(self, text: str) -> Store:
        (self.folder / "hub.toml").write_text(text)
        return prepare_store(read_settings(self.folder / "hub.toml"))

    def write(self) -> None:
        text = "\n".join([self.headings, *self.rows.values()]) + "\n"
        (self.folder / "people.csv").write_text(text)

    def until(self, text: str | re.Pattern[str], why: str) -> None:
        self.see(self.page.get_by_text(text).first.is_visible, why)

    def see(self, is_seen: Callable[[], bool], why: str) -> None:
        deadline = time.monotonic() + 30
        while True:
            self.page.goto(f"{self.server.address}/syncs")
            if is_seen():
                return
            assert time.monotonic() < deadline, f"{why}\n{self.page.locator('main').inner_text()}"
            self.page.wait_for_timeout(100)

    def runs(self) -> int:
        self.page.goto(f"{self.server.address}/syncs")
        return self.page.locator("tbody tr td:first-child[data-label]").count()

    def sync(self, source: str = "mis") -> str:
        """Press the button of a source, wait for the run to end, and return what its row says."""
        before = self.runs()
        self.page.get_by_role("button", name=f"Sync st-marys/{source} now").click()
        rows = self.page.locator("tbody tr:has(td:first-child[data-label])")
        self.see(
            lambda: rows.count() > before and "running" not in rows.first.inner_text(), "the source was not read again"
        )
        return rows.first.inner_text()

    def person(self, name: str) -> str:
        self.page.goto(f"{self.server.address}/people?text={name}")
        self.page.get_by_role("link", name=re.compile(f"{name} ")).first.click()
        return self.page.locator("main").inner_text()

    def stop(self) -> None:
        self.runner.stop()
        self.server.stop()
        self.store.close()


@pytest.fixture
def day(tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> Iterator[OfficeDay]:
    monkeypatch.setattr(jobs, "ASK_AGAIN_MS", 0)
    monkeypatch.setattr(runner, "LOOK_SECONDS", 0.2)
    context, page = open_page(browser, DESK)
    day = OfficeDay(tmp_path, page)
    yield day
    day.stop()
    context.close()


def test_the_offices_whole_day(day: OfficeDay) -> None:
    page = day.page
    # The first read shows who would come in, and comes in when somebody says so and types how many.
    day.until("Approve all 120 changes", "the first read is not held")
    page.get_by_role("button", name="Approve all 120 changes").click()
    assert "type that number" in page.content()
    day.until("Approve all 120 changes", "the first read is not held any more")
    page.get_by_label("Type 120 to approve all of them").fill("120")
    page.get_by_role("button", name="Approve all 120 changes").click()
    assert "done" in day.sync()

    # A leaver is missing, then has left; a replaced card keeps the person.
    del day.rows["007"]
    day.rows["008"] = day.rows["008"].replace("04A1B2C3D40008", "04A1B2C3D4FF08")
    day.write()
    day.sync()
    assert "missing from the last read, still let in" in day.person("First7")
    day.sync()
    assert "has left" in day.person("First7")
    shown = day.person("First8")
    assert re.search(r"\.\.\.0008\s+. replaced", shown)
    assert re.search(r"\.\.\.FF08\s+. active", shown)

    # A mass departure waits with its names; what was approved goes through although one more leaves meanwhile.
    for number in range(20, 40):
        del day.rows[f"{number:03}"]
    day.write()
    assert "held" in day.sync()
    page.get_by_text("Show the changes").click()
    assert page.get_by_text("First21 Last21").first.is_visible()
    page.get_by_role("button", name="Approve all 20 changes").click()
    del day.rows["050"]
    day.write()
    assert "held" in day.sync()
    assert page.get_by_text("1 change waiting").is_visible()
    assert "missing" in day.person("First21")
    assert "on roll" in day.person("First50")

    # A renamed column changes nobody and says which one is missing.
    day.headings = HEADINGS.replace("Card", "Fob")
    day.write()
    told = day.sync()
    assert "Card" in told
    assert re.search(r"\.\.\.FF08\s+. active", day.person("First8"))
    day.headings = HEADINGS
    day.write()

    # A second source brings cards for people of the first.
    (day.folder / "cards.csv").write_text("Student ID,Card\n009,04A1B2C3D4EE09\n")
    day.settle(TOML + CARDS).close()
    day.until("st-marys/cards", "the second source is not listed")
    day.sync("cards")
    held = page.locator("section", has_text="st-marys/cards: ")
    held.get_by_role("button", name=re.compile("Approve all")).click()
    day.sync("cards")
    assert "...EE09" in day.person("First9")
    page.goto(f"{day.server.address}/audit")
    assert "Not for your account" in page.content(), "the office changes things, others look at the log"
