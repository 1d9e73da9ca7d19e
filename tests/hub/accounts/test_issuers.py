"""Signing in at an issuer: linked by an invitation or a verified staff address, and by nothing else."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from gateway.config import IssuerSettings, SignInSettings
from gateway.hub.accounts import oidc, people, tokens
from gateway.hub.scope import Grant, Role
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.web.app import build_office
from gateway.hub.web.gate import Access
from gateway.hub.web.office import Daemon
from gateway.webkit.events import Broadcaster
from tests.hub.accounts.issuer import CLIENT, SECRET, FakeIssuer
from tests.hub.samples import SITE

HTML = {"Accept": "text/html"}
PAGES = "http://127.0.0.1"


@pytest.fixture
def issuer() -> Iterator[FakeIssuer]:
    with FakeIssuer().running() as running:
        yield running


@pytest.fixture
def browser(store: Store, tmp_path: Path, issuer: FakeIssuer) -> TestClient:
    return browser_of(store, tmp_path, issuer.url)


def browser_of(store: Store, folder: Path, url: str) -> TestClient:
    secret = folder / "oidc.secret"
    secret.write_text(SECRET + "\n")
    settings = SignInSettings(PAGES, issuers=(IssuerSettings("school", url, CLIENT, secret),))
    app = build_office(store, Daemon(list, lambda: True, dict), Broadcaster(), Access(settings, state_dir=folder)).app
    return TestClient(app, base_url=PAGES, headers=HTML, follow_redirects=False)


def leave(browser: TestClient, invitation: str = "") -> str:
    left = browser.get("/sign-in/at/school", params={"next": "/people", "invitation": invitation})
    assert left.status_code == 303, left.text
    return str(left.headers["location"])


def sign_in(browser: TestClient, issuer: FakeIssuer, invitation: str = "") -> Any:
    return browser.get(issuer.agree(leave(browser, invitation)))


def invite(store: Store, email: str = "zoe@private.example") -> str:
    with store.write() as connection:
        audit = Audit("person:root", "", now_ms())
        account = people.create_account(connection, email, "", audit)
        people.add_grant(connection, account.id, Grant(SITE, Role.OFFICE), audit)
        audit.write(connection)
        return tokens.make_one_time(connection, "invite", now_ms(), account=account.id)


def staff_domain(store: Store, domain: str = "school.example") -> None:
    with store.write() as connection:
        audit = Audit("person:root", SITE, now_ms())
        people.add_domain(connection, SITE, domain, audit)


def test_an_invitation_links_the_identity_whatever_its_address_and_it_signs_in_from_then_on(
    store: Store, browser: TestClient, issuer: FakeIssuer
) -> None:
    answer = sign_in(browser, issuer, invite(store))
    assert answer.status_code == 200, answer.text
    assert 'content="0; url=/people"' in answer.text
    assert browser.get("/people").status_code == 200
    browser.cookies.clear()
    issuer.claims |= {"email": "changed@elsewhere.example", "email_verified": False}
    assert sign_in(browser, issuer).status_code == 200, "the subject counts, the address may change"
    with store.read() as connection:
        (account,) = people.list_accounts(connection)
        actors = set(connection.scalars(select(tables.audit.c.actor)))
    assert (account.email, account.state) == ("zoe@private.example", "active")
    assert "account:zoe@private.example" in actors


def test_a_verified_address_of_a_staff_domain_makes_a_member_of_staff_of_that_school(
    store: Store, browser: TestClient, issuer: FakeIssuer
) -> None:
    assert sign_in(browser, issuer).status_code == 409
    staff_domain(store)
    assert sign_in(browser, issuer).status_code == 200
    with store.read() as connection:
        (account,) = people.list_accounts(connection)
        (grant,) = people.list_grants(connection, now_ms())
    assert (account.email, account.name, grant.role, grant.site) == ("zoe@school.example", "Zoë Müller", "staff", SITE)


@pytest.mark.parametrize(
    "claims",
    [
        {"email_verified": False},
        {"email_verified": "false"},
        {"email_verified": None},
        {"email": "zoe@not-school.example"},
        {"email": "zoe@sub.school.example"},
        {"email": None},
        {"email": ["zoe@school.example"]},
    ],
    ids=str,
)
def test_an_address_that_the_issuer_does_not_vouch_for_links_nothing(
    store: Store, browser: TestClient, issuer: FakeIssuer, claims: dict[str, Any]
) -> None:
    staff_domain(store)
    issuer.claims |= claims
    answer = sign_in(browser, issuer)
    assert answer.status_code == 409
    assert "ask the school" in answer.text
    with store.read() as connection:
        assert not people.has_accounts(connection)


def set_claim(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda claims: claims.__setitem__(name, value)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (set_claim("aud", "another-program"), "InvalidClaimError"),
        (set_claim("aud", [CLIENT, "another-program"]), "another program"),
        (set_claim("iss", "https://evil.example"), "InvalidClaimError"),
        (set_claim("nonce", "of another sign-in"), "InvalidClaimError"),
        (set_claim("exp", int(time.time()) - 3600), "ExpiredTokenError"),
        (set_claim("iat", int(time.time()) + 3600), "cannot be trusted"),
        (lambda claims: claims.pop("nonce"), "MissingClaimError"),
        (lambda claims: claims.pop("exp"), "MissingClaimError"),
        (lambda claims: claims.pop("sub"), "MissingClaimError"),
    ],
)
def test_a_token_that_is_not_for_us_not_fresh_or_not_of_this_sign_in_is_refused(
    store: Store, browser: TestClient, issuer: FakeIssuer, spoil: Any, why: str
) -> None:
    staff_domain(store)
    issuer.spoil = spoil
    answer = sign_in(browser, issuer)
    assert answer.status_code == 409
    assert why in answer.text
    assert browser.get("/people").status_code == 303


def test_keys_may_be_rotated_and_a_foreign_key_signs_nobody_in(
    store: Store, browser: TestClient, issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    staff_domain(store)
    assert sign_in(browser, issuer).status_code == 200
    issuer.rotate()
    monkeypatch.setattr(oidc, "_AGAIN_SECONDS", 0.0)
    assert sign_in(browser, issuer).status_code == 200
    good = issuer.published
    issuer.rotate()
    issuer.published = good
    assert sign_in(browser, issuer).status_code == 409


def test_an_unsigned_token_and_one_signed_with_the_public_key_are_refused(
    store: Store, browser: TestClient, issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    staff_domain(store)
    signed = FakeIssuer.token

    def unsigned(self: FakeIssuer, query: dict[str, str]) -> str:
        head = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).rstrip(b"=").decode()
        return f"{head}.{signed(self, query).split('.')[1]}."

    monkeypatch.setattr(FakeIssuer, "token", unsigned)
    assert sign_in(browser, issuer).status_code == 409


def test_a_sign_in_comes_back_once_to_the_browser_that_left(
    store: Store, tmp_path: Path, browser: TestClient, issuer: FakeIssuer
) -> None:
    staff_domain(store)
    back = issuer.agree(leave(browser))
    other = browser_of(store, tmp_path, issuer.url)
    assert other.get(back).status_code == 409, "another browser must not be signed in as me"
    assert browser.get(back).status_code == 200
    assert browser.get(back).status_code == 409
    forged = issuer.agree(leave(browser)).replace("state=", "state=x")
    assert browser.get(forged).status_code == 409
    assert browser.get("/sign-in/at/school/back?error=access_denied").status_code == 409
    assert browser.get("/sign-in/at/nobody").status_code == 404


def test_an_ended_account_stays_out(store: Store, browser: TestClient, issuer: FakeIssuer) -> None:
    staff_domain(store)
    sign_in(browser, issuer)
    with store.write() as connection:
        people.end_account(connection, 1, Audit("person:root", "", now_ms()))
    assert sign_in(browser, issuer).status_code == 409
    assert browser.get("/people").status_code == 303


def test_an_issuer_that_calls_itself_otherwise_refuses_the_code_or_is_away_is_a_sentence(
    store: Store, tmp_path: Path, browser: TestClient, issuer: FakeIssuer
) -> None:
    issuer.announced = "https://evil.example"
    assert "another issuer" in browser.get("/sign-in/at/school").text
    issuer.announced = None
    issuer.token_status = 400
    refused = sign_in(browser, issuer).text
    assert "refused (400, invalid_grant)" in refused
    assert "zoe" not in refused
    away = browser_of(store, tmp_path, "http://127.0.0.1:1/x")
    assert "cannot be reached (ConnectError)" in away.get("/sign-in/at/school").text
    (tmp_path / "oidc.secret").unlink()
    issuer.token_status = 200
    assert "secret_file" in sign_in(browser, issuer).text


def test_at_microsoft_tenant_and_object_are_the_person_and_the_tenant_is_pinned(tmp_path: Path) -> None:
    settings = IssuerSettings("ms", f"https://{oidc.MICROSOFT}/T/v2.0", CLIENT, tmp_path / "none")
    identity = oidc.Issuer(settings, "https://hub/back")._identity(
        {"sub": "x", "tid": "T", "oid": "O", "email": "a@b.example"}
    )
    assert (identity.subject, identity.email) == ("T+O", None)
    with pytest.raises(oidc.RefusedError, match="subject"):
        oidc.Issuer(settings, "https://hub/back")._identity({"sub": "x", "tid": "T"})


@pytest.mark.parametrize(
    ("hosted", "email"), [("school.example", "a@school.example"), (None, None), ("x.example", None)]
)
def test_at_google_only_the_hosted_domain_vouches_for_an_address(
    tmp_path: Path, hosted: str | None, email: str | None
) -> None:
    settings = IssuerSettings("google", f"https://{oidc.GOOGLE}", CLIENT, tmp_path / "none")
    claims = {"sub": "1", "email": "a@school.example", "email_verified": True, "hd": hosted}
    assert oidc.Issuer(settings, "https://hub/back")._identity(claims).email == email


def test_the_way_to_the_issuer_carries_state_nonce_and_proof_of_ours(browser: TestClient, issuer: FakeIssuer) -> None:
    query = parse_qs(urlsplit(leave(browser)).query)
    assert query["redirect_uri"] == [f"{PAGES}/sign-in/at/school/back"]
    assert {"state", "nonce", "code_challenge"} <= query.keys()
    assert query["scope"] == ["openid email profile"]
