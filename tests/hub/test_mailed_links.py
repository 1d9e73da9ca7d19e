"""The pages that mail a link: an invitation, and the way back in; what they answer tells nobody who has an account."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, select

from gateway.config import SignInSettings
from gateway.hub.accounts import attempts, links, people, sign_in, tokens
from gateway.hub.mail.outbox import post
from gateway.hub.mail.sender import MailSender
from gateway.hub.scope import Role
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.web.app import build_office
from gateway.hub.web.gate import Access
from gateway.hub.web.office import Daemon
from gateway.webkit.events import Broadcaster
from tests.hub.mail.post_office import PostOffice, mail_settings
from tests.hub.samples import SITE
from tests.hub.two_schools import COOKIE, sign_in_as

HTML = {"Accept": "text/html"}
PAGES = "https://hub.school.example"
PASSWORD, NEW = "four words in a row", "another four words here"
INVITED = {"email": "Amir@quetzal.example", "role": "office", "site": SITE}


def browser_of(store: Store, folder: Path, *, is_mailed: bool = True, cookie: str | None = None) -> TestClient:
    mailer = links.Mailer(post, PAGES) if is_mailed else None
    access = Access(SignInSettings(PAGES), state_dir=folder, mailer=mailer)
    app = build_office(store, Daemon(list, lambda: True, dict), Broadcaster(), access).app
    cookies = {COOKIE: cookie} if cookie else None
    return TestClient(app, base_url="http://127.0.0.1", cookies=cookies, headers=HTML, follow_redirects=False)


@pytest.fixture
def browser(store: Store, tmp_path: Path) -> TestClient:
    return browser_of(store, tmp_path)


def sign_up(store: Store) -> sign_in.SignedIn:
    """Give the account of the office a password; return its session."""
    sign_in_as(store, Role.OFFICE, SITE)
    with store.write() as connection:
        account = people.find_account(connection, email="office@st-marys.example")
        assert account is not None
        token = tokens.make_one_time(connection, "reset", now_ms(), account=account.id)
    return sign_in.welcome(store, token, PASSWORD, "Firefox")


def mailed(store: Store) -> list[str]:
    """Send what is in the outbox and return the texts."""
    office = PostOffice()
    office.open()
    try:
        MailSender(store, mail_settings(office.port), lambda _site: ()).turn()
    finally:
        office.close()
    return [message.get_payload(decode=True).decode() for _, message in office.taken]  # type: ignore[union-attr]  # one part


def test_an_invitation_is_mailed_and_the_page_says_so_without_showing_the_link(store: Store, tmp_path: Path) -> None:
    browser = browser_of(store, tmp_path, cookie=sign_in_as(store, Role.SUPER_USER, SITE))
    page = browser.post("/accounts/invite", data=INVITED).text
    assert "on its way to Amir@quetzal.example" in page
    assert "/welcome/" not in page
    (text,) = mailed(store)
    (link,) = re.findall(r"https?://\S+", text)
    assert link.startswith(f"{PAGES}/welcome/")
    entered = browser.post(link.removeprefix(PAGES), data={"password": PASSWORD})
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    assert browser.get(link.removeprefix(PAGES)).status_code == 409, "it works once"


def test_without_mail_the_page_shows_the_link_to_pass_on(store: Store, tmp_path: Path) -> None:
    browser = browser_of(store, tmp_path, is_mailed=False, cookie=sign_in_as(store, Role.SUPER_USER, SITE))
    page = browser.post("/accounts/invite", data=INVITED).text
    assert f"{PAGES}/welcome/" in page
    assert "on its way" not in page
    with store.read() as connection:
        assert connection.execute(select(tables.mail)).all() == []


def test_an_address_that_is_never_mailed_gets_its_link_by_hand(store: Store, tmp_path: Path) -> None:
    browser = browser_of(store, tmp_path, cookie=sign_in_as(store, Role.SUPER_USER, SITE))
    page = browser.post("/accounts/invite", data={**INVITED, "email": "p-1@st-marys.invalid"}).text
    assert f"{PAGES}/welcome/" in page


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "203.0.113.66"},
        {"X-Forwarded-Host": "evil.example"},
        {"Forwarded": "host=evil.example"},
    ],
    ids=str,
)
def test_a_forged_host_never_gets_into_a_mailed_link(
    store: Store, browser: TestClient, headers: dict[str, str]
) -> None:
    sign_up(store)
    browser.post("/sign-in/forgot", data={"email": "office@st-marys.example"}, headers=headers)
    texts = mailed(store)
    assert len(texts) == (0 if headers.get("Host") == "evil.example" else 1)
    for text in texts:
        assert re.findall(r"https?://[^/\s]+", text) == [PAGES]


def test_a_forgotten_password_is_set_anew_by_mail_and_another_browser_is_out(
    store: Store, browser: TestClient, tmp_path: Path
) -> None:
    other = browser_of(store, tmp_path, cookie=sign_up(store).token)
    assert other.get("/people").status_code == 200
    assert "/sign-in/forgot" in browser.get("/sign-in").text
    assert 'name="email"' in browser.get("/sign-in/forgot").text
    assert "on its way" in browser.post("/sign-in/forgot", data={"email": "Office@St-Marys.example"}).text
    (text,) = mailed(store)
    (link,) = re.findall(r"https?://\S+", text)
    path = link.removeprefix(PAGES)
    assert browser.get(path).status_code == 200
    assert other.get("/people").status_code == 200, "a link that was only looked at changes nothing"
    assert browser.post(path, data={"password": NEW}).headers["location"] == "/"
    assert other.get("/people").headers["location"] == "/sign-in?next=/people"
    assert browser.get("/people").status_code == 200
    assert browser.post(path, data={"password": PASSWORD}).status_code == 409


def test_the_answer_and_its_work_are_the_same_whether_there_is_an_account(store: Store, browser: TestClient) -> None:
    sign_up(store)
    found: list[tuple[int, str, Any, list[str]]] = []
    for email in ("office@st-marys.example", "nobody@st-marys.example"):
        statements: list[str] = []

        def note(*arguments: object, into: list[str] = statements) -> None:
            into.append(str(arguments[2]))

        event.listen(store.engine, "before_cursor_execute", note)
        answer = browser.post("/sign-in/forgot", data={"email": email})
        event.remove(store.engine, "before_cursor_execute", note)
        found.append((answer.status_code, answer.text, sorted(answer.headers), statements))
    assert found[0] == found[1]
    assert found[0][0] == 200
    assert found[0][3]


def test_too_many_requests_are_refused_in_the_same_words(store: Store, browser: TestClient) -> None:
    sign_up(store)
    found = []
    for email in ("office@st-marys.example", "nobody@st-marys.example"):
        for _ in range(attempts.BY_RESET.free):
            assert browser.post("/sign-in/forgot", data={"email": email}).status_code == 200
        answer = browser.post("/sign-in/forgot", data={"email": email})
        assert answer.headers["Retry-After"]
        found.append((answer.status_code, answer.text))
    assert found[0] == found[1]
    assert found[0][0] == 429


def test_without_mail_the_page_says_who_to_ask_and_notes_nothing(store: Store, tmp_path: Path) -> None:
    sign_up(store)
    browser = browser_of(store, tmp_path, is_mailed=False)
    for page in (
        browser.get("/sign-in/forgot").text,
        browser.post("/sign-in/forgot", data={"email": "office@st-marys.example"}).text,
    ):
        assert "tapgate accounts link" in page
        assert "administers accounts" in page
        assert "<form method" not in page.partition("<main")[2]
    with store.read() as connection:
        assert connection.execute(select(tables.mail)).all() == []
        assert connection.execute(select(tables.attempt)).all() == []
