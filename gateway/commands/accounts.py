"""`tapgate accounts ACTION`: who may sign in to the hub's pages; the first account is made here.

Whoever may run this on the hub's machine owns the hub, so it needs no sign-in; what it does is audited. Run by root, it
works as the owner of the hub's state folder.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from gateway.commands.hub import CONFIG
from gateway.config import HubSettings
from gateway.errors import ConfigError
from gateway.hub.accounts import people, tokens
from gateway.hub.directory.cards import by_hand
from gateway.hub.scope import EVERYWHERE, TOKEN_SCOPES, Grant, Role
from gateway.hub.settings import look_at_store, prepare_store, read_settings
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms
from gateway.privileges import user_name

GOOD = 0
_DAY_MS = 24 * 3600 * 1000
_ACTIONS = {
    "create": "create an account and print the link that sets its password; again for an account prints a new link",
    "link": "print a link that sets a new password, for somebody who forgot it; roles stay as they are",
    "list": "list the accounts and their roles",
    "end": "end an account: it is signed out and out at once",
    "token": "create a token for a program and print it, once",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    words = "; ".join(f"{name}: {text}" for name, text in _ACTIONS.items())
    parser.add_argument("action", choices=tuple(_ACTIONS), help=words)
    parser.add_argument("--config", type=Path, default=CONFIG, metavar="FILE", help=f"hub.toml (default {CONFIG})")
    parser.add_argument("--email", metavar="ADDRESS", help="create, link, end: whose account")
    parser.add_argument("--role", choices=tuple(Role), help="create: what the account is")
    parser.add_argument("--name", default="", metavar="TEXT", help="create: name of the person; token: of the program")
    parser.add_argument("--site", metavar="ID", help="create, token: the only school (default: every one)")
    parser.add_argument("--groups", metavar="A,B", help="create: whom a role sees that sees its own groups only")
    parser.add_argument(
        "--lost-telephone", action="store_true", help="create, link: the link removes the second step too"
    )
    parser.add_argument("--scopes", metavar="A,B", help=f"token: what it may do, of {', '.join(TOKEN_SCOPES)}")
    parser.add_argument("--days", type=int, metavar="N", help="token: ends after so many days (default: never)")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Run one action."""
    settings = read_settings(arguments.config)
    if arguments.action == "list":
        with look_at_store(settings) as store:
            return _list(store, as_json=arguments.json)
    for option in {"create": ("email", "role"), "link": ("email",), "end": ("email",), "token": ("scopes",)}[
        arguments.action
    ]:
        if getattr(arguments, option) is None:
            raise ConfigError([f"accounts:0: --{option}: is needed for {arguments.action}."])
    store = prepare_store(settings, follow=False)
    try:
        match arguments.action:
            case "create":
                return _create(store, settings, arguments)
            case "link":
                return _link(store, settings, arguments)
            case "end":
                return _end(store, arguments)
            case _:
                return _token(store, arguments)
    finally:
        store.close()


def _create(store: Store, settings: HubSettings, arguments: argparse.Namespace) -> int:
    at_ms = now_ms()
    with store.write() as connection:
        audit = Audit(by_hand(user_name()), "", at_ms)
        account = people.find_account(connection, email=people.norm_email(arguments.email))
        if account is None or account.state == "ended":
            account = people.create_account(connection, arguments.email, arguments.name, audit)
        groups = people.split_groups(arguments.groups or "")
        grant = Grant(arguments.site or EVERYWHERE, Role(arguments.role), groups=groups)
        people.add_grant(connection, account.id, grant, audit)
        token = _make_link(connection, account, audit, telephone_lost=arguments.lost_telephone)
        audit.write(connection)
    link = _print_link(settings, account, token)
    if arguments.json:
        _print_json({"email": account.email, "role": arguments.role, "site": arguments.site, "link": link})
    return GOOD


def _link(store: Store, settings: HubSettings, arguments: argparse.Namespace) -> int:
    with store.write() as connection:
        account = _account_of(connection, arguments)
        audit = Audit(by_hand(user_name()), "", now_ms())
        token = _make_link(connection, account, audit, telephone_lost=arguments.lost_telephone)
        audit.write(connection)
    link = _print_link(settings, account, token)
    if arguments.json:
        _print_json({"email": account.email, "link": link})
    return GOOD


def _make_link(connection: Connection, account: people.Account, audit: Audit, *, telephone_lost: bool) -> str:
    kind: tokens.Kind = "invite" if account.state == "invited" else "reset"
    payload = {"two_step": "remove"} if telephone_lost else {}
    audit.note("link_made", f"account:{account.id}", kind=kind, telephone_lost=telephone_lost)
    return tokens.make_one_time(connection, kind, audit.at_ms, account=account.id, payload=payload)


def _print_link(settings: HubSettings, account: people.Account, token: str) -> str:
    link = f"{_pages_of(settings)}/welcome/{token}"
    print(f"Open this link to set the password of {account.email}; it works once, for 24 hours:")
    print(link)
    return link


def _account_of(connection: Connection, arguments: argparse.Namespace) -> people.Account:
    account = people.find_account(connection, email=people.norm_email(arguments.email))
    if account is None or account.state == "ended":
        raise ConfigError([f"accounts:0: --email: there is no account {arguments.email}; see accounts list."])
    return account


def _pages_of(settings: HubSettings) -> str:
    if settings.sign_in is not None:
        return settings.sign_in.public_url
    web = settings.web
    if web is None:
        raise ConfigError([f"{settings.file.path}:0: web: is missing; without [web] this hub has no pages."])
    return f"{'http' if web.certificate is None else 'https'}://{web.host}:{web.port}"


def _list(store: Store, *, as_json: bool) -> int:
    with store.read() as connection:
        accounts = people.list_accounts(connection)
        grants = people.list_grants(connection, now_ms())
    rows: list[dict[str, Any]] = []
    for account in accounts:
        roles = [{"site": item.site, "role": item.role} for item in grants if item.account == account.id]
        words = [f"{item['role']} at {item['site'].replace(EVERYWHERE, 'every site')}" for item in roles]
        print(f"{account.email} ({account.state}): {', '.join(words) or 'no role'}")
        rows.append({"email": account.email, "state": account.state, "roles": roles})
    if as_json:
        _print_json({"accounts": rows})
    return GOOD


def _end(store: Store, arguments: argparse.Namespace) -> int:
    with store.write() as connection:
        account = _account_of(connection, arguments)
        audit = Audit(by_hand(user_name()), "", now_ms())
        people.end_account(connection, account.id, audit)
        audit.write(connection)
    print(f"The account {account.email} has ended.")
    return GOOD


def _token(store: Store, arguments: argparse.Namespace) -> int:
    scopes = tuple(word.strip() for word in arguments.scopes.split(",") if word.strip())
    name = arguments.name.strip() or f"made {time.strftime('%Y-%m-%d %H:%M')}"
    at_ms = now_ms()
    until_ms = None if arguments.days is None else at_ms + arguments.days * _DAY_MS
    with store.write() as connection:
        audit = Audit(by_hand(user_name()), arguments.site or "", at_ms)
        token = tokens.make_api_token(connection, name, scopes, arguments.site, audit, until_ms=until_ms)
        audit.write(connection)
    if arguments.json:
        _print_json({"token": token, "name": name, "scopes": sorted(set(scopes)), "site": arguments.site})
    else:
        print(token)
    return GOOD


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False))
