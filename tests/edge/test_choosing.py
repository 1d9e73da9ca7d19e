"""What a person chooses on a kiosk's screen: in a real browser, through the socket, into the journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from playwright.sync_api import Browser

from gateway.access.people import CardEntry, CardState, KioskAction
from gateway.cards.identity import card_key
from gateway.edge.web.face import WebFace
from gateway.roster.file import RosterContent, build, rule_for_everyone
from tests.chromium import MARKS
from tests.edge.pages import serve_pages
from tests.edge.test_app import ALICE, BOB, SIGNER, SITE_KEY, _House, _until

ACTIONS = (
    KioskAction("doctor", "Doctor's appointment", "check", "out", ("desk",)),
    KioskAction("trip", "School trip", "sign", "out", ("gate",)),
)
POSTED = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[_House]:
    house = _House(tmp_path, "[web]\nport = 0", pages="elsewhere")
    people = {
        card_key(SITE_KEY, number): CardEntry(person, CardState.ACTIVE, frozenset(), None, None, True)
        for number, person in ((ALICE, "p_00000000000000a1"), (BOB, "p_00000000000000b0"))
    }
    content = RosterContent("st-marys", 2, people, {"*": rule_for_everyone()}, actions=ACTIONS)
    house.gateway.roster.install(build(content, SIGNER, SITE_KEY))
    yield house
    house.stop()


@pytest.fixture
def pages(house: _House) -> Iterator[WebFace]:
    with serve_pages(house.gateway) as face:
        yield face


def movements(house: _House) -> list[dict[str, object]]:
    return [event.movement for event in house.events("movement") if isinstance(event.movement, dict)]


def choose(pages: WebFace, shown: object, option: str, point: str = "desk") -> int:
    form = {"shown": str(shown), "option": option}
    return httpx.post(f"{pages.server.address}/kiosk/{point}/choose", data=form, headers=POSTED).status_code


def test_a_choice_becomes_a_movement_that_replaces_the_one_of_the_tap(house: _House, pages: WebFace) -> None:
    house.tap("desk", ALICE)
    _until(lambda: movements(house))
    [first] = movements(house)
    assert set(first) == {"direction", "id"}
    assert choose(pages, first["id"], "doctor") == 204
    _until(lambda: len(movements(house)) == 2)
    assert movements(house)[1] == {
        "direction": "out",
        "kind": "check",
        "action": "doctor",
        "replaces": first["id"],
    }
    assert [event.person for event in house.events("movement")] == ["p_00000000000000a1"] * 2


def test_a_choice_for_another_screen_a_wrong_one_and_a_second_press_change_nothing(
    house: _House, pages: WebFace
) -> None:
    house.tap("desk", ALICE)
    house.tap("desk", BOB)
    _until(lambda: len(movements(house)) == 2)
    first, second = movements(house)
    assert choose(pages, first["id"], "doctor") == 204
    assert choose(pages, second["id"], "trip") == 204
    assert choose(pages, second["id"], "doctor", "cellar") == 404
    assert choose(pages, second["id"], "doctor") == 204
    assert choose(pages, second["id"], "doctor") == 204
    _until(lambda: len(movements(house)) == 3)
    house.tap("front", ALICE)
    _until(lambda: len(house.events("tap")) == 3)
    assert [movement.get("replaces") for movement in movements(house)] == [None, None, second["id"]]


def test_another_site_s_page_presses_no_button_here(house: _House, pages: WebFace) -> None:
    house.tap("desk", ALICE)
    _until(lambda: movements(house))
    form = {"shown": str(movements(house)[0]["id"]), "option": "doctor"}
    answer = httpx.post(
        f"{pages.server.address}/kiosk/desk/choose", data=form, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert answer.status_code == 403
    assert len(movements(house)) == 1


class TestInABrowser:
    """The screen as a person touches it."""

    pytestmark = MARKS

    @pytest.mark.parametrize(("width", "height"), [(360, 640), (1280, 800)])
    def test_a_person_taps_and_touches_what_it_is_and_the_screen_says_so(
        self, house: _House, pages: WebFace, browser: Browser, width: int, height: int
    ) -> None:
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(f"{pages.server.address}/kiosk/desk")
        page.wait_for_function("document.querySelector('.kiosk').textContent.includes('Hold your card')")
        _until(lambda: pages.screens["desk"].listeners)
        house.tap("desk", ALICE)
        button = page.get_by_role("button", name="Doctor's appointment")
        button.wait_for()
        assert page.get_by_text("Signed in").is_visible()
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 48, "a finger hits it"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        button.click()
        page.get_by_text("✓ Doctor's appointment").wait_for()
        assert page.get_by_role("button").count() == 0, "nothing of it is left for the next person"
        _until(lambda: len(movements(house)) == 2)
        page.close()
