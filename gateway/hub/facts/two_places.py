"""One card at two points within a moment: nobody is that fast, so one of the two is a copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, delete, insert, select, tuple_

from gateway.hub.facts.base import Held
from gateway.hub.store import tables
from gateway.hub.store.revisions import EventKey
from gateway.hub.store.rows import in_slices

# Two seconds: whoever reaches another point on foot needs longer, and clocks that are set differ by far less.
APART_MS = 2_000
_OF_SIDE = ("gateway", "epoch", "seq", "at_ms", "point")


class TwoPlaces:
    """Projector of the table `two_places`.

    Compared are granted taps of gateways whose clock was right. The row has the key of the later of the two.
    """

    name = "two_places"
    kinds = ("tap",)

    def apply(self, connection: Connection, events: Sequence[Held]) -> None:
        for keys in in_slices((held.gateway, held.event.epoch, held.event.seq) for held in events):
            _forget(connection, keys)
            # Of two that are taken in one step each finds the pair.
            pairs = {_key(row): row for row in map(_row, _find(connection, keys))}
            if pairs:
                connection.execute(insert(tables.two_places), list(pairs.values()))

    def clear(self, connection: Connection) -> None:
        connection.execute(delete(tables.two_places))


def _find(connection: Connection, keys: Sequence[EventKey]) -> Sequence[Any]:
    """Return the pairs of which one is among some events."""
    mine, other = tables.event.alias("mine"), tables.event.alias("other")
    query = (
        select(
            mine.c.site,
            mine.c.tail,
            *(side.c[name].label(f"{side.name}_{name}") for side in (mine, other) for name in _OF_SIDE),
        )
        .join_from(
            mine,
            other,
            and_(
                other.c.person == mine.c.person,
                other.c.at_ms.between(mine.c.at_ms - APART_MS, mine.c.at_ms + APART_MS),
                other.c.site == mine.c.site,
                other.c.card_key == mine.c.card_key,
                other.c.point != mine.c.point,
            ),
        )
        .where(tuple_(mine.c.gateway, mine.c.epoch, mine.c.seq).in_(keys))
        .where(*(side.c.kind == "tap" for side in (mine, other)))
        .where(*(side.c.decision == "granted" for side in (mine, other)))
        .where(*(side.c.at_how == "set" for side in (mine, other)))
    )
    return connection.execute(query).all()


def _row(pair: Any) -> dict[str, Any]:
    sides = [{name: getattr(pair, f"{side}_{name}") for name in _OF_SIDE} for side in ("mine", "other")]
    first, last = sorted(sides, key=lambda side: (side["at_ms"], side["gateway"], side["epoch"], side["seq"]))
    others = {f"other_{name}": first[name] for name in _OF_SIDE if name != "at_ms"}
    return {**last, **others, "site": pair.site, "tail": pair.tail}


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[column.name] for column in tables.two_places.primary_key)


def _forget(connection: Connection, keys: Sequence[EventKey]) -> None:
    table = tables.two_places
    for side in (
        (table.c.gateway, table.c.epoch, table.c.seq),
        (table.c.other_gateway, table.c.other_epoch, table.c.other_seq),
    ):
        connection.execute(delete(table).where(tuple_(*side).in_(keys)))
