"""The office's pages in a real Chromium: accessible, live, whole without scripts, and their buttons work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page
from sqlalchemy import delete, select

from gateway.hub.app import Hub, build
from gateway.hub.directory.sites import list_sources
from gateway.hub.fleet.chain import verify_all
from gateway.hub.ingest.commit import Committer
from gateway.hub.settings import prepare_store, read_settings
from gateway.hub.store import tables
from gateway.hub.sync.run import Wish, sync
from gateway.simulator.school import sample_school
from tests.chromium import MARKS
from tests.hub.samples import message, tap, wait_until
from tests.hub.test_app import TOML
from tests.hub.test_chain import chained

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PAGES = ("/", "/gateways", "/people", "/syncs", "/quarantine")
pytestmark = MARKS


@dataclass
class Office:
    """A hub that shows something on every page: a held plan, a fault of the chain, a new journal, a quarantine."""

    hub: Hub
    folder: Path

    @property
    def address(self) -> str:
        assert self.hub.web is not None
        return self.hub.web.address

    def sync(self) -> None:
        with self.hub.store.read() as connection:
            (source,) = list_sources(connection)
        sync(self.hub.store, source, self.folder, Wish(first=True))


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    (folder / "site.key").write_text(bytes(range(32)).hex())
    (folder / "hub.toml").write_text(TOML.format(port=1, host="127.0.0.1", extra=""))
    people = folder / "people.csv"
    sample_school(200).write_csv(people)
    prepare_store(read_settings(folder / "hub.toml")).close()
    hub = build(read_settings(folder / "hub.toml"), "web")
    office = Office(hub, folder)
    hub.start()
    office.sync()
    with hub.store.read() as connection:
        key = connection.scalar(select(tables.card.c.key))
    committer = Committer(hub.store)
    committer.commit([message(*chained(5)), message(tap(1, epoch="second", key=key), last="backlog")])
    committer.commit([message(tap(6, clock="free")), message(b'{"v":1,"kind":"dance"}')])
    copy = {"state": "suspicion", "sign": "static_nonce", "tail": "00A3"}
    committer.commit([message(tap(8, kind="reader", data=copy, at=datetime.now(UTC).isoformat()))])
    with hub.store.write() as connection:
        connection.execute(delete(tables.event).where(tables.event.c.seq == 3))
    verify_all(hub.store)
    people.write_text("".join(people.read_text(encoding="utf-8-sig").splitlines(keepends=True)[:100]))
    office.sync()
    yield office
    hub.stop()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(15_000)
    errors: list[str] = []
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_accessible_wide_and_narrow(office: Office, page: Page, path: str) -> None:
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(office.address + path)
        for details in page.locator("summary").all()[:2]:
            details.click()
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("tags => axe.run({runOnly: tags})", TAGS)
        assert [f"{item['id']}: {item['nodes'][0]['html']}" for item in found["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_every_page_says_what_it_has_to_say(office: Office, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    said = {
        "/": ("matched later", "sent later", "clock was not set"),
        "/gateways": (
            "events 3 to 3 are missing",
            "new journal",
            "gw-canteen",
            "a card ending ..00A3 looks like a copy",
        ),
        "/people": ("212 people", "active"),
        "/syncs": ("changes waiting since", "pupils would be removed", "done"),
        "/quarantine": ("dance",),
    }
    for path, words in said.items():
        page.goto(office.address + path)
        text = page.inner_text("main")
        for word in words:
            assert word in text, (path, word)
        assert " at 0x" not in text, path
    context.close()


def test_a_new_tap_appears_on_the_open_logbook_by_itself(office: Office, page: Page) -> None:
    page.goto(office.address)
    rows = page.locator("#live-log tr").count()
    live = office.hub.web._broadcaster
    wait_until(lambda: live.listeners or page.wait_for_timeout(20), "the page does not listen")
    page.wait_for_timeout(1200)
    Committer(office.hub.store).commit([message(tap(7, point="library-door"))])
    page.wait_for_selector("#live-log >> text=library-door")
    assert page.locator("#live-log tr").count() == rows + 1


def test_a_card_is_blocked_a_journal_accepted_and_a_plan_approved_by_their_buttons(office: Office, page: Page) -> None:
    page.goto(office.address + "/people?text=000042")
    page.locator("summary").first.click()
    page.locator("td select[name=state]").first.select_option("blocked")
    page.get_by_role("button", name="Set").first.click()
    page.wait_for_selector("text=blocked")
    page.goto(office.address + "/gateways")
    page.get_by_role("button", name="Accept the new journal").click()
    page.wait_for_selector("text=Accept the new journal", state="detached")
    page.goto(office.address + "/syncs")
    if typed := page.locator("input[name=typed]").all():
        total = page.get_by_role("button", name="Approve all").inner_text().split()[2]
        typed[0].fill(total)
    page.get_by_role("button", name="Approve all").click()
    page.wait_for_selector("text=the next sync applies what the source still asks for")
    office.sync()
    page.reload()
    assert "changes waiting since" not in page.inner_text("main")
