"""Tells lasting faults by mail: when one begins, once a day while it lasts, and that it is over.

A fault that comes and goes is one that lasts: it is not told a second time within a day.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, delete, insert, select, update

from gateway.hub.mail.outbox import post
from gateway.hub.mail.texts import render
from gateway.hub.store import tables
from gateway.hub.store.times import from_ms

DAY_MS = 24 * 3600 * 1000
Recipients = Callable[[str], Collection[str]]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong now.

    Attributes:
        key: the same as long as it is the same fault.
        site: empty for the hub itself.
        params: what the text needs besides `site`, `since` and `until`.
    """

    key: str
    site: str
    template: str
    since_ms: int
    zone: ZoneInfo
    params: Mapping[str, str] = field(default_factory=dict)

    def filled(self) -> dict[str, str]:
        since = local_text(self.since_ms, self.zone)
        return {"site": self.site, "since": since, "zone": self.zone.key, **self.params}


def local_text(at_ms: int, zone: ZoneInfo) -> str:
    """Write a moment as people at the site read it."""
    return f"{from_ms(at_ms, zone):%Y-%m-%d %H:%M}"


def tell(connection: Connection, faults: Collection[Fault], recipients: Recipients, at_ms: int) -> None:
    """Put the mails in the outbox that these faults ask for; call it again and again."""
    table = tables.alarm
    known = {row.key: row for row in connection.execute(select(table))}
    for fault in faults:
        row = known.pop(fault.key, None)
        if row is None:
            values = {"key": fault.key, "site": fault.site, "template": fault.template, "since_ms": fault.since_ms}
            connection.execute(insert(table).values(**values, params=fault.filled(), told_ms=at_ms, over_ms=None))
            _post(connection, fault, recipients, at_ms)
            continue
        values = {}
        if row.over_ms is not None:
            values["over_ms"] = None
        if at_ms - row.told_ms >= DAY_MS:
            values |= {"told_ms": at_ms, "params": fault.filled()}
            _post(connection, fault, recipients, at_ms)
        if values:
            connection.execute(update(table).where(table.c.key == fault.key).values(values))
    for row in known.values():
        if row.over_ms is None:
            subject = render(row.template, row.params).subject
            until = local_text(at_ms, ZoneInfo(row.params["zone"]))
            params = {"subject": subject, "since": row.params["since"], "until": until}
            post(connection, "over", params, recipients(row.site), f"over {row.key} {row.told_ms}", at_ms)
            connection.execute(update(table).where(table.c.key == row.key).values(over_ms=at_ms))
        elif at_ms - row.told_ms >= DAY_MS:
            connection.execute(delete(table).where(table.c.key == row.key))


def _post(connection: Connection, fault: Fault, recipients: Recipients, at_ms: int) -> None:
    post(connection, fault.template, fault.filled(), recipients(fault.site), f"{fault.key} {at_ms}", at_ms)
