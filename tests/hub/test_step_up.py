"""What gives others access needs a proof of lately of who one is; whoever gives it goes on at once."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from gateway.config import IssuerSettings, SignInSettings
from gateway.hub.accounts import people, sessions, sign_in, tokens, two_step
from gateway.hub.accounts.sealing import Seal
from gateway.hub.scope import EVERYWHERE, Grant, Role
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.web.app import build_office
from gateway.hub.web.gate import Access
from gateway.hub.web.office import Daemon
from gateway.webkit.events import Broadcaster
from tests.hub.accounts.issuer import CLIENT, SECRET, FakeIssuer
from tests.hub.samples import SITE
from tests.hub.two_schools import COOKIE, School, add_school

PAGES = "http://127.0.0.1"
HTML = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
EMAIL, PASSWORD = "it@school.example", "four words in a row"
INVITED = {"email": "amir@quetzal.example", "role": "office", "site": SITE}


@pytest.fixture
def school(store: Store, tmp_path: Path) -> School:
    return add_school(store, tmp_path, 1)


@pytest.fixture
def issuer() -> Iterator[FakeIssuer]:
    with FakeIssuer().running() as running:
        yield running


def browser_of(store: Store, folder: Path, cookie: str | None = None, url: str | None = None) -> TestClient:
    secret = folder / "oidc.secret"
    secret.write_text(SECRET + "\n")
    issuers = (IssuerSettings("school", url, CLIENT, secret),) if url else ()
    access = Access(SignInSettings(PAGES, issuers=issuers), state_dir=folder)
    app = build_office(store, Daemon(list, lambda: True, dict), Broadcaster(), access).app
    cookies = {COOKIE: cookie} if cookie else None
    return TestClient(app, base_url=PAGES, headers=HTML, cookies=cookies, follow_redirects=False)


def sign_up(store: Store) -> sign_in.SignedIn:
    with store.write() as connection:
        audit = Audit("person:root", "", now_ms())
        account = people.create_account(connection, EMAIL, "", audit)
        token = tokens.make_one_time(connection, "invite", now_ms(), account=account.id)
    signed = sign_in.welcome(store, token, PASSWORD, "Firefox")
    with store.write() as connection:
        people.add_grant(connection, account.id, Grant(EVERYWHERE, Role.ORG_ADMIN), Audit("person:root", "", now_ms()))
    return signed


def grow_stale(store: Store) -> None:
    with store.write() as connection:
        connection.execute(update(tables.web_session).values(proved_ms=now_ms() - sessions.FRESH_MS))


def state_of(store: Store) -> dict[str, Any]:
    """Return what these forms would change."""
    held = tables.hold_op
    with store.read() as connection:
        return {
            "accounts": [account.email for account in people.list_accounts(connection)],
            "grants": len(people.list_grants(connection, now_ms())),
            "tokens": len(tokens.list_api_tokens(connection, now_ms())),
            "domains": people.list_domains(connection),
            "held": list(connection.scalars(select(held.c.state).order_by(held.c.op_hash))),
        }


def action_of(page: str) -> str:
    found = re.search(r'<form method="post" action="(/sign-in/again[^"]*)"', page)
    assert found is not None, page
    return html.unescape(found[1])


def fields_of(page: str) -> dict[str, list[str]]:
    """Return the hidden fields of a page, as a browser sends them."""
    fields: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page):
        fields.setdefault(html.unescape(name), []).append(html.unescape(value))
    return fields


def forms(school: School) -> list[tuple[str, dict[str, Any]]]:
    source, account, grant = (school.numbers[name] for name in ("source", "account_id", "grant_id"))
    return [
        ("/accounts/invite", INVITED),
        (f"/accounts/{account}/link", {"telephone_lost": "true"}),
        (f"/accounts/{account}/end", {}),
        (f"/accounts/grants/{grant}/remove", {}),
        ("/accounts/domains", {"site": SITE, "domain": "evil.example"}),
        ("/accounts/tokens", {"name": "robot", "site": SITE, "scopes": ["people:read", "mis:write"]}),
        ("/syncs/decide", {"source": source, "decision": "approve-all"}),
        ("/syncs/decide", {"source": source, "decision": "approved", "operation": ["1" * 32]}),
    ]


@pytest.mark.parametrize("number", range(8))
def test_without_a_proof_nothing_is_changed_and_with_it_the_form_is_done_as_it_was(
    store: Store, tmp_path: Path, school: School, number: int
) -> None:
    browser = browser_of(store, tmp_path, sign_up(store).token)
    address, data = forms(school)[number]
    grow_stale(store)
    before = state_of(store)
    with store.read() as connection:
        links = connection.execute(select(tables.one_time_token)).all()
    page = browser.post(address, data=data)
    assert page.status_code == 200
    assert "not done yet" in page.text
    assert PASSWORD not in page.text
    wrong = browser.post(action_of(page.text), data={**fields_of(page.text), "own_password": "wrong"})
    assert wrong.status_code == 403
    assert state_of(store) == before
    with store.read() as connection:
        assert connection.execute(select(tables.one_time_token)).all() == links
    proved = browser.post(action_of(wrong.text), data={**fields_of(wrong.text), "own_password": PASSWORD})
    assert (proved.status_code, proved.headers["location"]) == (307, address)
    done = browser.post(address, data={**fields_of(wrong.text), "own_password": PASSWORD})
    assert done.status_code in {200, 303}, done.text
    assert state_of(store) != before or "/welcome/" in done.text
    again = browser.post("/accounts/domains", data={"site": SITE, "domain": "second.example"})
    assert again.status_code == 303, "it holds for ten minutes"


def test_a_form_of_many_fields_is_carried_whole_and_a_browser_follows_by_itself(
    store: Store, tmp_path: Path, school: School
) -> None:
    browser = browser_of(store, tmp_path, sign_up(store).token)
    grow_stale(store)
    name = 'till "one" <b>&'
    page = browser.post("/accounts/tokens", data={"name": name, "site": SITE, "scopes": ["people:read", "audit:read"]})
    assert "<b>&" not in page.text.partition("<main")[2]
    data = {**fields_of(page.text), "own_password": PASSWORD}
    done = browser.post(action_of(page.text), data=data, follow_redirects=True)
    assert "Give this token" in done.text
    with store.read() as connection:
        made = next(item for item in tokens.list_api_tokens(connection, now_ms()) if item.name == name)
    assert made.scopes == ("audit:read", "people:read")


def test_the_second_step_is_asked_for_too(store: Store, tmp_path: Path, school: School) -> None:
    signed = sign_up(store)
    secret = two_step.new_secret()
    with store.write() as connection:
        two_step.set_up(connection, Seal(tmp_path), signed.account.id, secret, 1, Audit("account:x", "", now_ms()))
    browser = browser_of(store, tmp_path, signed.token)
    grow_stale(store)
    before = state_of(store)
    page = browser.post("/accounts/invite", data=INVITED).text
    assert 'name="own_code"' in page
    data = {**fields_of(page), "own_password": PASSWORD}
    assert browser.post(action_of(page), data=data).status_code == 403
    assert state_of(store) == before
    data["own_code"] = [pyotp.TOTP(secret).now()]
    assert browser.post(action_of(page), data=data, follow_redirects=True).status_code == 200
    assert INVITED["email"] in state_of(store)["accounts"]


def test_a_link_that_somebody_made_up_does_not_make_a_proof_do_anything(
    store: Store, tmp_path: Path, school: School
) -> None:
    browser = browser_of(store, tmp_path, sign_up(store).token)
    grow_stale(store)
    address = f"/accounts/{school.numbers['account_id']}/end"
    page = browser.get(f"/sign-in/again?next={address}&carry=true").text
    assert "carry" not in action_of(page)
    proved = browser.post(action_of(page), data={"own_password": PASSWORD})
    assert proved.status_code == 303, "the browser only looks at that address"
    outside = browser.get("/sign-in/again?next=//evil.example")
    assert outside.headers["location"] == "/"


def test_a_page_asks_first_and_then_opens(store: Store, tmp_path: Path, school: School) -> None:
    browser = browser_of(store, tmp_path, sign_up(store).token)
    grow_stale(store)
    assert browser.get("/accounts").headers["location"] == "/sign-in/again?next=/accounts"
    page = browser.get("/sign-in/again?next=/accounts").text
    proved = browser.post(action_of(page), data={"own_password": PASSWORD})
    assert (proved.status_code, proved.headers["location"]) == (303, "/accounts")
    assert browser.get("/accounts").status_code == 200


def sign_in_at(browser: TestClient, issuer: FakeIssuer, onward: str) -> str:
    """Go to the issuer and come back; return the address at the issuer."""
    left = browser.get("/sign-in/at/school", params={"next": onward}).headers["location"]
    assert browser.get(issuer.agree(left)).status_code == 200
    return str(left)


@pytest.fixture
def at_issuer(store: Store, tmp_path: Path, issuer: FakeIssuer, school: School) -> TestClient:
    """Return the browser of an administrator who has no password, only the issuer."""
    browser = browser_of(store, tmp_path, url=issuer.url)
    with store.write() as connection:
        audit = Audit("person:root", "", now_ms())
        people.add_domain(connection, SITE, "school.example", audit)
    sign_in_at(browser, issuer, "/")
    with store.write() as connection:
        account = people.find_account(connection, email="zoe@school.example")
        assert account is not None
        people.add_grant(connection, account.id, Grant(EVERYWHERE, Role.ORG_ADMIN), Audit("person:root", "", now_ms()))
    return browser


def test_an_old_sign_in_at_an_issuer_is_no_proof_and_a_new_one_is(
    store: Store, at_issuer: TestClient, issuer: FakeIssuer
) -> None:
    grow_stale(store)
    before = state_of(store)
    page = at_issuer.post("/accounts/invite", data=INVITED).text
    assert state_of(store) == before
    assert "own_password" not in page
    (back,) = re.findall(r'href="(/sign-in/at/school[^"]*)"', page)
    assert back == "/sign-in/at/school?next=/sign-in/again%3Fnext%3D/accounts"
    left = sign_in_at(at_issuer, issuer, "/sign-in/again?next=/accounts")
    assert "prompt=login" in left
    assert "max_age=0" in left
    assert at_issuer.get("/sign-in/again?next=/accounts").headers["location"] == "/accounts"
    assert "on its way" not in at_issuer.post("/accounts/invite", data=INVITED).text
    assert INVITED["email"] in state_of(store)["accounts"]


def test_an_issuer_that_remembers_a_browser_since_this_morning_proves_nothing(
    store: Store, at_issuer: TestClient, issuer: FakeIssuer
) -> None:
    again = "/sign-in/again?next=/accounts"
    left = sign_in_at(at_issuer, issuer, "/accounts")
    assert "prompt" not in left
    assert at_issuer.get("/accounts").headers["location"] == again, "it does not say when the person signed in there"
    issuer.claims["auth_time"] = int(time.time()) - 3600
    for onward in ("/accounts", again):
        sign_in_at(at_issuer, issuer, onward)
        assert at_issuer.get("/accounts").headers["location"] == again
    issuer.claims["auth_time"] = int(time.time()) - 60
    sign_in_at(at_issuer, issuer, "/accounts")
    assert at_issuer.get("/accounts").status_code == 200


@pytest.mark.parametrize("at", [10**30, -(10**30), "now", True, 1e300], ids=str)
def test_a_time_that_an_issuer_makes_up_breaks_nothing(
    store: Store, at_issuer: TestClient, issuer: FakeIssuer, at: object
) -> None:
    issuer.claims["auth_time"] = at
    sign_in_at(at_issuer, issuer, "/accounts")
    with store.read() as connection:
        newest = connection.scalar(select(tables.web_session.c.proved_ms).order_by(tables.web_session.c.proved_ms))
    assert newest is not None
    assert 0 <= newest <= now_ms()


def test_whoever_has_no_password_sets_one_only_after_a_proof(
    store: Store, at_issuer: TestClient, issuer: FakeIssuer
) -> None:
    grow_stale(store)
    data = {"new": PASSWORD}
    assert 'name="old"' not in at_issuer.get("/me").text
    assert "Sign in with school again" in at_issuer.post("/me/password", data=data).text
    with store.read() as connection:
        ways = connection.scalars(select(tables.sign_in_way.c.kind)).all()
    assert ways == ["oidc"], "else it would be the proof that it lacks"
    sign_in_at(at_issuer, issuer, "/sign-in/again?next=/me")
    assert "is changed" in at_issuer.post("/me/password", data=data).text
