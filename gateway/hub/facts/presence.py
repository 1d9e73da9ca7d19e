"""Movements, and from the newest of each person whether they are in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select, tuple_, update

from gateway.hub.facts.base import Held
from gateway.hub.store import tables
from gateway.hub.store.rows import in_slices

_Person = tuple[str, str]
_REF_CHARS = 31


class Presence:
    """Projector of the tables `movement` and `presence`.

    Presence is that of the newest sign movement by its corrected time, made by hand or not; a check-in or check-out
    leaves it as it is.
    """

    name = "presence"
    kinds = ("movement",)

    def apply(self, connection: Connection, events: Sequence[Held]) -> None:
        rows = [row for held in events if (row := _row(held)) is not None]
        touched = {(row["site"], row["person"]) for row in rows}
        touched |= _forget(connection, events)
        if rows:
            connection.execute(insert(tables.movement), rows)
        for row in rows:
            _tie(connection, row)
        settle_presence(connection, touched)

    def clear(self, connection: Connection) -> None:
        connection.execute(delete(tables.presence))
        connection.execute(delete(tables.movement))
        hand = tables.hand_movement.c
        of_hand = connection.execute(select(hand.site, hand.person).where(hand.withdrawn_ms.is_(None)).distinct())
        settle_presence(connection, {(site, person) for site, person in of_hand})


def _row(held: Held) -> dict[str, Any] | None:
    body = held.event.movement
    if not isinstance(body, dict) or body.get("direction") not in ("in", "out") or held.person is None:
        # Of another form than this release knows; its bytes stay in the event.
        return None
    action = body.get("action")
    return {
        "gateway": held.gateway,
        "epoch": held.event.epoch,
        "seq": held.event.seq,
        "site": held.site,
        "person": held.person,
        "kind": "check" if body.get("kind") == "check" else "sign",
        "direction": body["direction"],
        "at_ms": held.at_ms,
        "at_how": held.at_how,
        "at_error_ms": held.at_error_ms,
        "point": held.event.point or None,
        "action": action[:63] if isinstance(action, str) else None,
        "automatic": body.get("automatic") is True,
        "ref": _short(body.get("id")),
        "replaces": _short(body.get("replaces")),
    }


def _short(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _REF_CHARS else None


def _tie(connection: Connection, row: dict[str, Any]) -> None:
    """Tie a choice to the movement that it replaces, whichever of the two was taken in now."""
    table = tables.movement
    mine = (table.c.gateway == row["gateway"], table.c.epoch == row["epoch"], table.c.person == row["person"])
    if row["replaces"] is not None:
        first = (*mine, table.c.ref == row["replaces"], table.c.seq < row["seq"])
        times = (table.c.at_ms, table.c.at_how, table.c.at_error_ms)
        found = connection.execute(select(*times).where(*first).order_by(table.c.seq.desc()).limit(1)).one_or_none()
        if found is not None:
            connection.execute(update(table).where(*first).values(is_replaced=True))
            of_choice = update(table).where(*mine, table.c.seq == row["seq"])
            connection.execute(of_choice.values(at_ms=found.at_ms, at_how=found.at_how, at_error_ms=found.at_error_ms))
    if row["ref"] is not None:
        choice = (*mine, table.c.replaces == row["ref"], table.c.seq > row["seq"])
        if connection.scalar(select(table.c.seq).where(*choice).limit(1)) is not None:
            connection.execute(update(table).where(*mine, table.c.seq == row["seq"]).values(is_replaced=True))
            times_now = {name: row[name] for name in ("at_ms", "at_how", "at_error_ms")}
            connection.execute(update(table).where(*choice).values(times_now))


def _forget(connection: Connection, events: Sequence[Held]) -> set[_Person]:
    """Delete what these events meant before, and return whose movements that were."""
    table = tables.movement
    key = tuple_(table.c.gateway, table.c.epoch, table.c.seq)
    owners: set[_Person] = set()
    for some in in_slices((held.gateway, held.event.epoch, held.event.seq) for held in events):
        rows = connection.execute(select(table.c.site, table.c.person).where(key.in_(some)))
        owners |= {(site, person) for site, person in rows}
        connection.execute(delete(table).where(key.in_(some)))
    return owners


def settle_presence(connection: Connection, people: Iterable[_Person]) -> None:
    """Bring the presence of people, each by site and reference, in line with their newest movement."""
    table, movement, hand = tables.presence, tables.movement, tables.hand_movement
    for site, person in sorted(people):
        connection.execute(delete(table).where(table.c.site == site, table.c.person == person))
        newest = (
            select(movement)
            .where(movement.c.site == site, movement.c.person == person, movement.c.kind == "sign")
            .where(~movement.c.is_replaced)
            .order_by(movement.c.at_ms.desc(), movement.c.epoch.desc(), movement.c.seq.desc())
            .limit(1)
        )
        row = connection.execute(newest).one_or_none()
        by_hand = (
            select(hand)
            .where(hand.c.site == site, hand.c.person == person, hand.c.withdrawn_ms.is_(None))
            .order_by(hand.c.at_ms.desc(), hand.c.id.desc())
            .limit(1)
        )
        word = connection.execute(by_hand).one_or_none()
        values: dict[str, Any]
        if word is not None and (row is None or word.at_ms >= row.at_ms):
            values = {"state": word.direction, "since_ms": word.at_ms, "at_how": "set", "automatic": word.automatic}
        elif row is not None:
            values = {"state": row.direction, "since_ms": row.at_ms, "at_how": row.at_how, "point": row.point}
            values |= {"gateway": row.gateway, "automatic": row.automatic}
        else:
            continue
        connection.execute(insert(table).values(site=site, person=person, **values))
