"""A hub with two schools, each with something of everything that a page may show; a school's own words name it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path

import msgspec
from sqlalchemy import insert, select

from gateway.config import RegisterSettings, SessionSettings
from gateway.hub.accounts import people, sessions, tokens
from gateway.hub.directory.names import sort_name
from gateway.hub.facts.by_hand import note_by_hand
from gateway.hub.ingest.commit import Committer
from gateway.hub.scope import Grant, Role
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms
from tests.hub.samples import SITE, add_site, message, tap

OTHER = "st-johns"
COOKIE = "tapgate-hub"
SESSION = (time(8, 30), time(8, 45), time(9, 15), time(12, 0))


@dataclass(frozen=True, slots=True)
class School:
    """One of the two: its word stands in every text of it, its numbers name its rows."""

    site: str
    word: str
    numbers: dict[str, int | str]


def add_school(store: Store, folder: Path, number: int) -> School:
    """Fill a school; the first one's site exists already."""
    site, word = (SITE, "Quetzal") if number == 1 else (OTHER, "Wombat")
    if number != 1:
        add_site(store, folder, site)
    gateway, ref, key = f"gw-{word.lower()}", f"p_{number}" + "0" * 15, f"{number}a" * 16
    at_ms = now_ms()
    with store.write() as connection:

        def put(table: object, **values: object) -> int:
            row = connection.execute(insert(table).values(values))  # type: ignore[arg-type]  # any table
            key = row.inserted_primary_key[0] if row.inserted_primary_key else 0
            return key if isinstance(key, int) else 0

        name = {"given_name": word, "family_name": "Pupil", "sort_name": sort_name(word, "Pupil")}
        put(
            tables.person,
            ref=ref,
            site=site,
            person_key=f"{word}-1",
            role="student",
            groups=[word],
            state="active",
            created_ms=0,
            changed_ms=0,
            **name,
        )
        card = put(
            tables.card,
            site=site,
            key=key,
            tail="E5F6",
            projection="uid",
            person=ref,
            state="prelinked",
            state_by="source:1",
            origin="source:1",
            created_ms=0,
            changed_ms=0,
        )
        put(tables.holding, card=card, person=ref)
        claimed = {"given_name": word, "family_name": "Pupil", "role": "student"}
        source = put(tables.source, site=site, name=f"mis-{word}", kind="csv", options={}, edited=False)
        put(
            tables.person_claim,
            source=source,
            epoch=1,
            person=ref,
            entity="student",
            person_key=f"{word}-1",
            state="present",
            data=json.dumps(claimed),
            created_ms=0,
            changed_ms=0,
        )
        run = put(tables.sync_run, source=source, started_ms=at_ms, result="failed", error=f"{word} cannot be read")
        op = {"kind": "leave", "operation": {"person": ref}, "what": f"{word} leaves", "why": f"{word} too many"}
        put(tables.hold_op, source=source, op_hash=f"{number}" * 32, state="held", first_ms=at_ms, run=run, **op)
        put(
            tables.job,
            site=site,
            source=source,
            kind="full",
            enabled=True,
            settings="",
            next_ms=at_ms,
            tries=0,
            failing_since_ms=at_ms,
            last_error=f"{word} server",
        )
        conflict = put(
            tables.conflict,
            source=source,
            kind="id_reused",
            entity="student",
            person_key=f"{word}-1",
            place="line 2",
            why=f"{word} twice",
            person=ref,
            summary=f"{word} Pupil",
            about="x",
            state="open",
            first_run=run,
            last_run=run,
        )
        audit = Audit(f"person:{word}", site, at_ms)
        audit.note("card_state", ref, name=word)
        audit.write(connection)
        hub_wide = Audit("person:root", "", at_ms)
        account = people.create_account(connection, f"head@{word.lower()}.example", word, hub_wide)
        people.activate(connection, account.id)
        people.add_grant(connection, account.id, Grant(site, Role.READER), hub_wide)
        people.add_domain(connection, site, f"{word.lower()}.example", audit)
        tokens.make_api_token(connection, f"till of {word}", ("people:read",), site, audit)
        audit.write(connection)
    first = tap(1, gateway=gateway, key=key, point=f"door-{word.lower()}", reader=word)
    Committer(store).commit([message(first, site=site, gateway=gateway)])
    suspicious = tap(
        2, gateway=gateway, kind="reader", point=f"door-{word.lower()}", reader=word, decision=None, reason="magic"
    )
    unknown = tap(3, gateway=gateway, key=f"{number}c" * 16, point=f"door-{word.lower()}", reader=word)
    Committer(store).commit([message(suspicious, b'{"v":1}', unknown, site=site, gateway=gateway)])
    with store.write() as connection:
        owner = connection.scalar(select(tables.gateway.c.id).where(tables.gateway.c.name == gateway))
        assert owner is not None
        connection.execute(
            tables.gateway.update().where(tables.gateway.c.id == owner).values(alarm=f"{word} twin", alarm_ms=at_ms)
        )
        fault = {"gateway": owner, "epoch": "5f1c9a02", "first": 1, "last": 9, "what": "missing", "found_ms": at_ms}
        connection.execute(insert(tables.chain_fault).values(fault))
        here = {"site": site, "person": ref, "state": "in", "since_ms": at_ms, "at_how": "set", "automatic": False}
        connection.execute(insert(tables.presence).values(**here, gateway=owner, point=f"{word} desk"))
        audit = Audit("person:office", site, at_ms, reason=f"{word} forgot the card")
        note_by_hand(connection, site, ref, "in", at_ms, audit)
        taken = {"person": ref, "day": date(2026, 11, 20), "session": "AM", "code": "L", "minutes_late": 5}
        connection.execute(
            insert(tables.attendance_mark).values(**taken, site=site, comment=word, by="person:office", at_ms=at_ms)
        )
        sessions_of = RegisterSettings((SessionSettings("AM", frozenset(range(5)), *SESSION),))
        connection.execute(
            insert(tables.register_settings).values(site=site, settings=msgspec.to_builtins(sessions_of))
        )
        pair = {"gateway": owner, "epoch": "5f1c9a02", "seq": 2, "other_gateway": owner, "other_epoch": "5f1c9a02"}
        places = {"site": site, "at_ms": at_ms, "point": f"door-{word.lower()}", "other_point": f"{word} desk"}
        connection.execute(insert(tables.two_places).values(**pair, **places, other_seq=1))
        connection.execute(tables.mark.update().where(tables.mark.c.gateway == owner).values(accepted_ms=None))
        grant = connection.scalar(select(tables.account_grant.c.id).where(tables.account_grant.c.account == account.id))
        token = connection.scalar(select(tables.api_token.c.id).where(tables.api_token.c.site == site))
    names: dict[str, int | str] = {"ref": ref, "person": ref, "field": "given_name", "tap": f"{owner}/5f1c9a02/3"}
    numbers: dict[str, int | str] = {
        "card_id": card,
        "source": source,
        "run": run,
        "conflict": conflict,
        "gateway": owner,
        "account_id": account.id,
    }
    return School(site, word, {**names, **numbers, "grant_id": grant or 0, "number": token or 0})


def sign_in_as(store: Store, role: Role, site: str) -> str:
    """Make an account with one role and return the cookie of its session."""
    at_ms = now_ms()
    email = f"{role}@{site.replace('*', 'trust')}.example"
    with store.write() as connection:
        audit = Audit("person:root", "", at_ms)
        account = people.find_account(connection, email=email) or people.create_account(connection, email, "", audit)
        people.activate(connection, account.id)
        people.add_grant(connection, account.id, Grant(site, role), audit)
        audit.write(connection)
        return sessions.open_session(connection, account.id, "full", "password", "Firefox", at_ms)
