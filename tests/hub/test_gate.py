"""Every address of the hub as everybody: nobody gets what the matrix does not allow, or anything of another school."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from sqlalchemy import select

from gateway.config import SignInSettings
from gateway.hub.accounts import people, sessions, tokens
from gateway.hub.directory.people import find_people
from gateway.hub.scope import ALL_SITES, EVERYWHERE, TOKEN_SCOPES, Grant, Right, Role, Scope, matrix
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.web.app import build_office
from gateway.hub.web.gate import Access, check_declared, declared, need, safe_next
from gateway.hub.web.office import Daemon
from gateway.webkit.events import Broadcaster, Live
from tests.hub.samples import SITE
from tests.hub.two_schools import COOKIE, OTHER, School, add_school, sign_in_as

HTML = {"Accept": "text/html"}
# Everything that a form or a program may send, so that a request gets past its own checks and meets the gate.
FIELDS = {
    "state": "lost",
    "site": SITE,
    "person_key": "Quetzal-1",
    "decision": "approve-all",
    "solution": "other",
    "epoch": "5f1c9a02",
    "email": "new@fields.example",
    "role": "reader",
    "domain": "new.example",
    "name": "till",
    "scopes": "people:read",
    "password": "four words in a row",
    "old": "four words in a row",
    "new": "five words in a row now",
    "code": "123456",
    "secret": "A" * 32,
    "reason": "the source is wrong",
    "value": "Other",
    "day": "2026-11-20",
    "session": "AM",
    "direction": "in",
}
# A stream never ends by itself; it has a test of its own.
STREAMS = {"/events"}


@pytest.fixture
def schools(store: Store, tmp_path: Path) -> tuple[School, School]:
    return add_school(store, tmp_path, 1), add_school(store, tmp_path, 2)


@pytest.fixture
def app(store: Store, tmp_path: Path) -> FastAPI:
    access = Access(SignInSettings("https://hub.school.example"), state_dir=tmp_path)
    return build_office(store, Daemon(list, lambda: True, dict), Broadcaster(), access).app


def client_of(app: FastAPI, cookie: str | None = None) -> TestClient:
    cookies = {COOKIE: cookie} if cookie else None
    return TestClient(app, base_url="http://127.0.0.1", cookies=cookies, follow_redirects=False)


def routes(app: FastAPI) -> list[tuple[str, APIRoute]]:
    return [
        (method, route)
        for route in app.routes
        if isinstance(route, APIRoute) and route.path not in STREAMS
        for method in sorted(route.methods)
    ]


def ask(client: TestClient, method: str, route: APIRoute, school: School, headers: dict[str, str]) -> Any:
    path = re.sub(r"{(\w+)}", lambda found: str(school.numbers.get(found[1], "x")), route.path)
    values = {**FIELDS, **school.numbers, "site": school.site, "operation": "1" * 32}
    if method != "POST":
        return client.request(method, path, headers=headers)
    if route.path.startswith("/v1/"):
        body = {name: values[name] for name in ("state", "site", "person_key")}
        return client.post(path, json=body, headers=headers)
    return client.post(path, data=values, headers={**headers, "Sec-Fetch-Site": "same-origin"})


def test_every_address_declares_one_right_and_a_twin_without_one_is_not_built(app: FastAPI) -> None:
    check_declared(app)
    assert len(routes(app)) > 40

    @app.get("/twin")
    def twin() -> None: ...

    with pytest.raises(AssertionError, match="/twin must declare"):
        check_declared(app)


def test_whoever_has_not_signed_in_gets_nothing_but_the_public_pages(
    app: FastAPI, store: Store, schools: tuple[School, School]
) -> None:
    before = rows_of(store)
    for method, route in routes(app):
        (demand,) = declared(route)
        if demand is None:
            continue
        as_program = ask(client_of(app), method, route, schools[0], {})
        assert as_program.status_code == 401, route.path
        assert as_program.headers["WWW-Authenticate"] == "Bearer"
        assert as_program.json()["type"] == "urn:tapgate:sign-in-needed"
        as_browser = ask(client_of(app), method, route, schools[0], HTML)
        assert (as_browser.status_code, as_browser.headers["location"][:8]) == (303, "/sign-in"), route.path
    assert rows_of(store) == before
    assert client_of(app).get("/people?text=x", headers=HTML).headers["location"] == "/sign-in?next=/people%3Ftext%3Dx"


def test_the_public_addresses_are_few_and_tell_nothing_of_a_school(
    app: FastAPI, schools: tuple[School, School]
) -> None:
    public = {route.path for _, route in routes(app) if declared(route) == [None]}
    assert public == {
        "/health/live",
        "/health/ready",
        "/v1/info",
        "/sign-in",
        "/sign-in/at/{name}",
        "/sign-in/at/{name}/back",
        "/sign-in/forgot",
        "/sign-out",
        "/welcome/{token}",
    }
    for method, route in routes(app):
        if route.path in public:
            assert_nothing_of(schools[0], ask(client_of(app), method, route, schools[0], HTML), route.path)


@pytest.mark.parametrize("role", list(Role), ids=str)
def test_each_role_gets_what_the_matrix_allows_and_nothing_else(
    app: FastAPI, store: Store, schools: tuple[School, School], role: Role
) -> None:
    client = client_of(app, sign_in_as(store, role, SITE))
    for method, route in routes(app):
        (demand,) = declared(route)
        if demand is None or demand.right is None or route.path == "/accounts/{account_id}/end":
            continue
        answer = ask(client, method, route, schools[0], {})
        allowed = matrix(role)[demand.right] >= demand.least
        assert (answer.status_code != 403) == allowed, (route.path, answer.status_code, answer.text[:200])
        assert answer.status_code < 500, (route.path, answer.text)


@pytest.mark.parametrize("role", [Role.ORG_ADMIN, Role.TECHNICIAN], ids=str)
def test_nobody_of_another_school_sees_or_changes_anything_here(
    app: FastAPI, store: Store, schools: tuple[School, School], role: Role
) -> None:
    cookie = sign_in_as(store, role, OTHER)
    mine, theirs = schools[1], schools[0]
    before = rows_of(store)
    for method, route in routes(app):
        (demand,) = declared(route)
        if demand is None or demand.right is None:
            continue
        for headers in ({}, HTML):
            answer = ask(client_of(app, cookie), method, route, theirs, headers)
            assert answer.status_code < 500, (route.path, answer.text)
            assert answer.status_code != 422, f"{route.path} refused the form before it looked whose it is"
            assert_nothing_of(theirs, answer, route.path)
    assert rows_of(store) == before
    shown = client_of(app, cookie).get("/v1/gateways").text
    assert mine.word.lower() in shown, "the walk must be able to see something"


def test_the_walk_catches_an_address_that_forgets_the_sites(
    app: FastAPI, store: Store, schools: tuple[School, School]
) -> None:
    @app.get("/v1/twin")
    def twin(scope: Annotated[Scope, need(Right.PEOPLE)]) -> list[str]:
        assert scope.actor
        with store.read() as connection:
            return [person.name for person in find_people(ALL_SITES, connection)[0]]

    check_declared(app)
    answer = client_of(app, sign_in_as(store, Role.OFFICE, OTHER)).get("/v1/twin")
    with pytest.raises(AssertionError, match="Quetzal"):
        assert_nothing_of(schools[0], answer, "/v1/twin")


def test_a_technician_sees_taps_and_tails_but_no_names_and_finds_nobody(
    app: FastAPI, store: Store, schools: tuple[School, School]
) -> None:
    client = client_of(app, sign_in_as(store, Role.TECHNICIAN, SITE))
    row = next(row for row in client.get("/v1/events").json()["events"] if row["seq"] == 1)
    assert (row["tail"], row["name"], row["person"]) == ("E5F6", None, None)
    assert client.get("/v1/events", params={"person": "Quetzal"}).json()["events"] == []
    assert "Quetzal Pupil" not in client.get("/", headers=HTML).text
    office = client_of(app, sign_in_as(store, Role.OFFICE, SITE))
    assert "Quetzal Pupil" in office.get("/", headers=HTML).text


@pytest.mark.parametrize("word", TOKEN_SCOPES)
def test_a_token_opens_what_its_scope_names_at_its_site(
    app: FastAPI, store: Store, schools: tuple[School, School], word: str
) -> None:
    with store.write() as connection:
        token = tokens.make_api_token(connection, "robot", (word,), OTHER, Audit("x", OTHER, now_ms()))
    headers = {"Authorization": f"Bearer {token}"}
    for method, route in routes(app):
        (demand,) = declared(route)
        if demand is None:
            continue
        answer = ask(client_of(app), method, route, schools[0], headers)
        allowed = demand.right is None or demand.right in TOKEN_SCOPES[word]
        assert (answer.status_code not in {401, 403}) == allowed, (route.path, answer.status_code)
        assert_nothing_of(schools[0], answer, route.path)
    assert client_of(app).get("/v1/events", headers={"Authorization": "Bearer tg_x"}).status_code == 401


def test_what_a_page_changes_is_audited_under_the_name_of_whoever_did_it(
    app: FastAPI, store: Store, schools: tuple[School, School]
) -> None:
    client = client_of(app, sign_in_as(store, Role.OFFICE, SITE))
    assert client.post(f"/v1/cards/{schools[0].numbers['card_id']}/state", json={"state": "lost"}).status_code == 200
    with store.read() as connection:
        line = connection.execute(select(tables.audit).order_by(tables.audit.c.id.desc())).first()
    assert line is not None
    assert (line.actor, line.site, line.operation) == ("account:office@st-marys.example", SITE, "card_state")


def test_a_super_user_hands_out_the_roles_of_the_office_and_no_higher_ones(
    app: FastAPI, store: Store, schools: tuple[School, School]
) -> None:
    client = client_of(app, sign_in_as(store, Role.SUPER_USER, SITE))

    def invite(role: str, site: str = SITE) -> Any:
        data = {"email": f"{role}@quetzal.example", "role": role, "site": site}
        return client.post("/accounts/invite", data=data)

    assert "/welcome/" in invite("office").text
    for role, site in (("super-user", SITE), ("org-admin", SITE), ("office", OTHER), ("office", EVERYWHERE)):
        assert invite(role, site).status_code == 409, (role, site)
    cookie = sign_in_as(store, Role.ORG_ADMIN, EVERYWHERE)
    with store.read() as connection:
        admin = people.find_account(connection, email="org-admin@trust.example")
    assert admin is not None
    for action in ("link", "end"):
        assert client.post(f"/accounts/{admin.id}/{action}").status_code == 404
    with store.write() as connection:
        people.add_grant(connection, admin.id, Grant(SITE, Role.READER), Audit("x", "", now_ms()))
    assert client.post(f"/accounts/{admin.id}/link").status_code == 409, "a link would hand over the whole account"
    assert client_of(app, cookie).get("/accounts").status_code == 200


def test_giving_access_asks_once_more_who_it_is(app: FastAPI, store: Store, schools: tuple[School, School]) -> None:
    cookie = sign_in_as(store, Role.SUPER_USER, SITE)
    with store.write() as connection:
        connection.execute(tables.web_session.update().values(proved_ms=now_ms() - sessions.FRESH_MS))
    client = client_of(app, cookie)
    assert client.get("/accounts", headers=HTML).headers["location"] == "/sign-in/again?next=/accounts"
    assert client.post("/accounts/invite", data=FIELDS).status_code == 401
    assert client.get("/people", headers=HTML).status_code == 200


def test_a_session_that_lacks_its_second_step_leads_there_and_nowhere_else(
    app: FastAPI, store: Store, schools: tuple[School, School]
) -> None:
    for stage, address in (("code", "/sign-in/code"), ("setup", "/me/two-step")):
        cookie = sign_in_as(store, Role.SUPER_USER, SITE)
        with store.write() as connection:
            connection.execute(tables.web_session.update().values(stage=stage))
        client = client_of(app, cookie)
        for path in ("/", "/people", "/accounts", "/me"):
            assert client.get(path, headers=HTML).headers["location"] == address, (stage, path)
        assert client.get("/v1/people").status_code == 401
        assert client.get(address, headers=HTML).status_code == 200


def test_without_accounts_and_without_the_section_the_pages_are_open_and_say_so(store: Store, tmp_path: Path) -> None:
    app = build_office(store, Daemon(list, lambda: True, dict), Broadcaster(), Access(state_dir=tmp_path)).app
    client = client_of(app)
    assert "tapgate accounts create" in client.get("/", headers=HTML).text
    assert client.get("/me", headers=HTML).status_code == 404
    with store.write() as connection:
        people.create_account(connection, "it@school.example", "", Audit("x", "", now_ms()))
    assert client.get("/", headers=HTML).status_code == 303
    assert client.get("/v1/people").status_code == 401


def test_a_stream_sends_each_reader_the_taps_of_their_sites_only(
    store: Store, tmp_path: Path, schools: tuple[School, School]
) -> None:
    live = Broadcaster()
    access = Access(SignInSettings("https://hub.school.example"), state_dir=tmp_path)
    app = build_office(store, Daemon(list, lambda: True, dict), live, access).app
    assert client_of(app).get("/events").status_code == 401
    assert client_of(app, sign_in_as(store, Role.TECHNICIAN, SITE)).get("/events").status_code == 403
    cookie = sign_in_as(store, Role.OFFICE, SITE)
    published = [Live("row-log", school.word, site=school.site) for school in schools]

    class Closing(Broadcaster):
        async def listen(self):  # type: ignore[no-untyped-def]  # a stream that ends
            for event in published:
                yield event

    closing = Closing()
    app = build_office(store, Daemon(list, lambda: True, dict), closing, access).app
    assert re.findall("Quetzal|Wombat", client_of(app, cookie).get("/events").text) == ["Quetzal"]


@pytest.mark.parametrize("address", ["//evil.example", "https://evil.example", "/\\evil", "javascript:1", "", "/a\nb"])
def test_nobody_is_led_to_another_site_after_signing_in(address: str) -> None:
    assert safe_next(address) == "/"
    assert safe_next("/people?text=a") == "/people?text=a"


def rows_of(store: Store) -> dict[str, list[str]]:
    """Return every row that a request could have changed; sessions tell only that somebody is there."""
    quiet = {"web_session", "api_token", "attempt", "one_time_token"}
    with store.read() as connection:
        return {
            table.name: sorted(str(tuple(row)) for row in connection.execute(select(table)))
            for table in tables.metadata.sorted_tables
            if table.name not in quiet
        }


def assert_nothing_of(school: School, answer: Any, path: str) -> None:
    # What the request itself said may come back in a message about it.
    text = answer.text.replace(f"{school.word}-1", "")
    assert school.word.lower() not in text.lower(), f"{path} tells of {school.word}"


def test_a_program_that_asks_often_writes_that_it_was_seen_once_a_minute(
    app: FastAPI, store: Store, schools: tuple[School, School], monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.write() as connection:
        token = tokens.make_api_token(connection, "robot", ("people:read",), SITE, Audit("x", SITE, now_ms()))
    seen: list[int] = []
    monkeypatch.setattr(tokens, "note_token_seen", lambda connection, _token, at_ms: _see(connection, seen, at_ms))
    client = client_of(app)
    for _ in range(5):
        assert client.get("/v1/people", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert len(seen) == 1


def _see(connection: Any, seen: list[int], at_ms: int) -> None:
    seen.append(at_ms)
    connection.execute(tables.api_token.update().values(seen_ms=at_ms))
