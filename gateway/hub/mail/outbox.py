"""The outbox: mails that are to be sent, each once a key and an address, and what became of them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from gateway.hub.store import tables
from gateway.hub.store.rows import insert_if_new
from gateway.hub.work.times import back_off_ms

log = logging.getLogger(__name__)

GIVE_UP_MS = 3 * 24 * 3600 * 1000
KEPT_MS = 90 * 24 * 3600 * 1000
MOST_WAITING = 1_000
# Anybody may ask for these, so they never take the places of alarms.
_MOST_WAITING_OF = {"password_reset": 200}
# For an address without an account: nobody is kept in mind who only typed it.
_VOID_KEPT_MS = 24 * 3600 * 1000
# Nobody owns this domain (RFC 2606): the hub makes addresses in it for people who have none.
NEVER_MAILED = ".invalid"
_ERROR_CHARS = 200


@dataclass(frozen=True, slots=True)
class Mail:
    id: int
    template: str
    params: Mapping[str, str]
    address: str
    tries: int
    created_ms: int


def post(
    connection: Connection,
    template: str,
    params: Mapping[str, str],
    addresses: Collection[str],
    dedupe_key: str,
    at_ms: int,
) -> int:
    """Put a mail in the outbox once for each address that this key has not had; return for how many."""
    table = tables.mail
    waiting = connection.scalar(select(func.count()).where(table.c.state == "waiting")) or 0
    most = _MOST_WAITING_OF.get(template, MOST_WAITING)
    posted = 0
    for address in dict.fromkeys(addresses):
        if address.endswith(NEVER_MAILED):
            continue
        if waiting + posted >= most:
            log.error("%d mails wait to be sent; another one is dropped", most)
            break
        row: dict[str, Any] = {"template": template, "params": dict(params), "address": address, "state": "waiting"}
        row |= {"dedupe_key": f"{dedupe_key} {address}", "tries": 0, "created_ms": at_ms, "next_ms": at_ms}
        posted += insert_if_new(connection, table, row)
    return posted


def due_mails(connection: Connection, at_ms: int, limit: int) -> list[Mail]:
    """Return mails to be sent now, the oldest first."""
    table = tables.mail
    columns = (table.c.id, table.c.template, table.c.params, table.c.address, table.c.tries, table.c.created_ms)
    query = select(*columns).where(table.c.state == "waiting", table.c.next_ms <= at_ms)
    return [Mail(*row) for row in connection.execute(query.order_by(table.c.next_ms, table.c.id).limit(limit))]


def note_sent(connection: Connection, mail: int, at_ms: int) -> None:
    _set(connection, mail, {"state": "sent", "sent_ms": at_ms, "error": None})


def note_void(connection: Connection, mail: int) -> None:
    """Note that nobody is to have a mail."""
    _set(connection, mail, {"state": "void"})


def note_refused(connection: Connection, mail: int, error: str) -> None:
    """Note that a mail will never be taken."""
    _set(connection, mail, {"state": "refused", "error": error[:_ERROR_CHARS]})


def note_failed(connection: Connection, mail: Mail, at_ms: int, error: str) -> None:
    """Note that a mail could not be sent now; after three days it is given up."""
    state = "given_up" if at_ms - mail.created_ms >= GIVE_UP_MS else "waiting"
    values = {
        "state": state,
        "tries": mail.tries + 1,
        "next_ms": at_ms + back_off_ms(mail.tries),
        "error": error[:_ERROR_CHARS],
    }
    _set(connection, mail.id, values)


def forget_old(connection: Connection, at_ms: int) -> None:
    """Delete mails that were settled long ago."""
    table = tables.mail
    connection.execute(delete(table).where(table.c.state != "waiting", table.c.created_ms < at_ms - KEPT_MS))
    connection.execute(delete(table).where(table.c.state == "void", table.c.created_ms < at_ms - _VOID_KEPT_MS))


def _set(connection: Connection, mail: int, values: dict[str, Any]) -> None:
    connection.execute(update(tables.mail).where(tables.mail.c.id == mail).values(values))
