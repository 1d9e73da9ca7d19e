"""`tapgate accounts` makes the first account and tokens; `tapgate audit verify` names a line that was changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from gateway.cli import main
from gateway.errors import ConfigError
from gateway.hub.settings import prepare_store, read_settings
from gateway.hub.store.engine import Store
from gateway.hub.web.app import build_office
from gateway.hub.web.gate import Access
from gateway.hub.web.office import Daemon
from gateway.webkit.events import Broadcaster

TOML = """
[hub]
state_dir = "state"
broker = "mqtt://127.0.0.1:1883"
[web]
{web}
[[site]]
id = "st-marys"
site_key_file = "site.key"
"""
ISSUER = """[[sign_in.oidc]]
name = "ms"
issuer = "{issuer}"
client_id = "x"
secret_file = "secret"
"""


def write(folder: Path, web: str = "", sign_in: str = "") -> Path:
    (folder / "site.key").write_text("11" * 32)
    path = folder / "hub.toml"
    path.write_text(TOML.format(web=web) + sign_in)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write(tmp_path)


def said(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def pages(config: Path) -> tuple[Store, TestClient]:
    settings = read_settings(config)
    store = prepare_store(settings)
    access = Access(settings.sign_in, state_dir=settings.state_dir)
    app = build_office(store, Daemon(list, lambda: True, dict), Broadcaster(), access).app
    return store, TestClient(app, base_url="http://127.0.0.1:8081", follow_redirects=False)


def create(config: Path, *words: str) -> int:
    return main(["accounts", "create", "--config", str(config), "--email", "it@school.example", *words, "--json"])


def test_the_first_account_is_made_on_the_hubs_machine_and_its_link_opens_the_pages(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert create(config, "--role", "office") == 0
    link = said(capsys)["link"]
    assert link.startswith("http://127.0.0.1:8081/welcome/")
    store, browser = pages(config)
    with store:
        assert browser.get("/people").status_code == 401
        entered = browser.post(link.removeprefix("http://127.0.0.1:8081"), data={"password": "four words in a row"})
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        assert browser.get("/people").status_code == 200
    assert main(["accounts", "list", "--config", str(config), "--json"]) == 0
    roles = [{"site": "*", "role": "office"}]
    assert said(capsys) == {"accounts": [{"email": "it@school.example", "state": "active", "roles": roles}]}


def test_the_link_begins_with_the_public_address_of_the_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path, sign_in='[sign_in]\npublic_url = "https://hub.school.example/"\n')
    assert create(config, "--role", "org-admin", "--site", "st-marys") == 0
    assert said(capsys)["link"].startswith("https://hub.school.example/welcome/")


def test_an_account_that_lost_its_telephone_gets_a_link_and_an_ended_one_is_out(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert create(config, "--role", "office") == 0
    assert create(config, "--role", "office", "--lost-telephone") == 0
    assert main(["accounts", "end", "--config", str(config), "--email", "IT@school.example"]) == 0
    assert main(["accounts", "end", "--config", str(config), "--email", "it@school.example"]) == 2
    assert "no account" in capsys.readouterr().err


def test_somebody_who_forgot_the_password_gets_a_link_and_no_other_role(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert create(config, "--role", "office") == 0
    first = said(capsys)["link"].removeprefix("http://127.0.0.1:8081")
    store, browser = pages(config)
    with store:
        browser.post(first, data={"password": "four words in a row"})
    assert main(["accounts", "link", "--config", str(config), "--email", "IT@school.example", "--json"]) == 0
    link = said(capsys)["link"].removeprefix("http://127.0.0.1:8081")
    store, other = pages(config)
    with store:
        assert browser.get("/people").status_code == 200
        assert other.post(link, data={"password": "another four words here"}).status_code == 303
        assert browser.get("/people").status_code == 401, "its session ended with the old password"
    assert main(["accounts", "list", "--config", str(config), "--json"]) == 0
    assert said(capsys)["accounts"][0]["roles"] == [{"site": "*", "role": "office"}]
    assert main(["accounts", "link", "--config", str(config), "--email", "no@school.example"]) == 2


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["link"], "--email"),
        (["create", "--email", "it@school.example"], "--role"),
        (["create", "--role", "office"], "--email"),
        (["create", "--role", "office", "--email", "it"], "not a mail address"),
        (["create", "--role", "office", "--email", "a@b.example", "--site", "x"], "no site 'x'"),
        (["token"], "--scopes"),
        (["token", "--scopes", "people:all"], "not a scope"),
    ],
)
def test_what_is_missing_or_wrong_is_a_sentence_and_changes_nothing(
    config: Path, capsys: pytest.CaptureFixture[str], words: list[str], why: str
) -> None:
    assert main(["accounts", *words, "--config", str(config)]) in {2, 3}
    assert why in capsys.readouterr().err
    assert main(["accounts", "list", "--config", str(config), "--json"]) == 0
    assert said(capsys) == {"accounts": []}


def test_a_token_opens_what_it_names_until_its_days_are_over(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--scopes", "people:read", "--site", "st-marys", "--days", "1", "--name", "kiosk"]
    assert main(["accounts", "token", "--config", str(config), *words, "--json"]) == 0
    token = said(capsys)["token"]
    store, program = pages(config)
    with store:
        headers = {"Authorization": f"Bearer {token}"}
        assert program.get("/v1/people", headers=headers).status_code == 200
        assert program.get("/v1/syncs", headers=headers).status_code == 403
        with store.write() as connection:
            connection.execute(text("UPDATE api_token SET until_ms = 1"))
        assert program.get("/v1/people", headers=headers).status_code == 401


def test_the_audit_verifies_until_a_line_is_changed_or_the_log_was_made_anew(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def verify(*words: str) -> tuple[int, Any]:
        code = main(["audit", "verify", "--config", str(config), *words, "--json"])
        return code, said(capsys)

    assert verify() == (0, {"ok": True, "chains": []})
    assert create(config, "--role", "office") == 0
    code, found = verify()
    head = found["chains"][0]
    noted = f"={head['lines']}:{head['head']}"
    assert (code, verify("--expect", noted)[0]) == (0, 0)
    assert verify("--expect", f"={head['lines'] + 1}:{head['head']}")[0] == 1
    assert verify("--expect", f"st-marys=1:{head['head']}")[0] == 1
    assert main(["audit", "verify", "--config", str(config), "--expect", "nonsense"]) == 2
    store, _ = pages(config)
    with store, store.write() as connection:
        connection.execute(text("UPDATE audit SET actor = 'nobody' WHERE number = 2"))
    code, found = verify()
    assert (code, found["chains"][0]["fault"]) == (1, "Line 2 is not as it was written.")


@pytest.mark.parametrize(
    ("web", "sign_in", "why"),
    [
        ('host = "0.0.0.0"', "", r"web.host: .*\[sign_in\]"),
        ('host = "0.0.0.0"', '[sign_in]\npublic_url = "https://h.example"\n', "web.host: .*TLS"),
        ('certificate_file = "x"', "", "certificate_file: needs key_file"),
        ("", '[sign_in]\npublic_url = "h.example"\n', "public_url: must be the address"),
        ("", '[sign_in]\npublic_url = "http://h.example"\n', "public_url: must be the address"),
        ("", '[sign_in]\npublic_url = "https://h.example/x"\n', "public_url: must be the address"),
        ("", '[sign_in]\npublic_url = "https://h.example"\nsession_idle_minutes = 0\n', "must be from 1 to 480"),
        ("", '[sign_in]\npublic_url = "https://h.example"\n' + ISSUER.format(issuer="ms"), "issuer: must be"),
        (
            "",
            '[sign_in]\npublic_url = "https://h.example"\n'
            + ISSUER.format(issuer="https://login.microsoftonline.com/common/v2.0"),
            "your own tenant",
        ),
        (
            "",
            '[sign_in]\npublic_url = "https://h.example"\n' + 2 * ISSUER.format(issuer="https://a.example"),
            "named twice",
        ),
    ],
)
def test_settings_that_would_let_anybody_in_are_refused(tmp_path: Path, web: str, sign_in: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        read_settings(write(tmp_path, web, sign_in))
