"""Follows every journal's watermark and gives each projector what is new."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from sqlalchemy import ColumnElement, Connection, delete, func, select, tuple_, update

from gateway.access.event import decode_event
from gateway.errors import StoreUnavailable
from gateway.hub.facts.base import Held, Projector
from gateway.hub.facts.by_hand import find_overdue, sign_out
from gateway.hub.facts.presence import Presence
from gateway.hub.facts.two_places import TwoPlaces
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.store.rows import in_slices, insert_if_new
from gateway.hub.work.standby import Standby

log = logging.getLogger(__name__)

LOCK = "facts"
# Numbers of a journal, and revised events, that one transaction takes: the writer is held for a moment only.
STEP = 2_000
_JOURNALS = 200
_END_SECONDS = 30.0
# A journal, the number after which a part of it begins, and its last one.
_Part = tuple[tuple[int, str], int, int]


class Facts(Standby):
    """Runs the projectors on a thread of its own, in one hub process at a time."""

    def __init__(
        self,
        store: Store,
        *,
        projectors: Sequence[Projector] | None = None,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(LOCK, store, beat)
        self._looked_at = float("-inf")
        self._projectors: Sequence[Projector] = [Presence(), TwoPlaces()] if projectors is None else projectors

    def _work(self, still_held: Callable[[], bool]) -> None:
        while still_held() and not self._stopping.is_set():
            self._beat()
            if not self.turn():
                return

    def turn(self) -> bool:
        """Take one step; return whether there may be more.

        Raises:
            StoreUnavailable: the database does not answer; nothing is half done.
        """
        for projector in self._projectors:
            with self._store.read() as connection:
                behind = _behind(connection, projector)
            if behind:
                self._take(projector, behind)
                return True
        self._end_days()
        with self._store.read() as connection:
            waits = connection.scalar(select(tables.event_revision.c.id).limit(1)) is not None
        if waits:
            self._revise(STEP)
        return waits

    def _end_days(self) -> None:
        """Sign out whoever is in after their site's time for that; looked at twice a minute."""
        now = time.monotonic()
        if now - self._looked_at < _END_SECONDS:
            return
        self._looked_at = now
        at_ms = now_ms()
        with self._store.read() as connection:
            overdue = find_overdue(connection, at_ms)
        if overdue:
            with self._store.write() as connection:
                sign_out(connection, find_overdue(connection, at_ms), at_ms)

    def _take(self, projector: Projector, parts: list[_Part]) -> None:
        """Let a projector take parts of journals in one transaction; an event that it cannot take costs that event."""
        try:
            with self._store.write() as connection:
                for journal, after, upto in parts:
                    _follow(connection, projector, journal, after, upto)
        except StoreUnavailable:
            raise
        except Exception:
            if (halves := _halve(parts)) is not None:
                for half in halves:
                    self._take(projector, half)
                return
            ((journal, _, upto),) = parts
            log.exception("%s cannot take event %s of gateway %s, epoch %s", projector.name, upto, *journal)
            with self._store.write() as connection:
                _advance(connection, projector, journal, upto)

    def _revise(self, most: int) -> None:
        try:
            with self._store.write() as connection:
                _revise(connection, self._projectors, most)
        except StoreUnavailable:
            raise
        except Exception:
            if most > 1:
                self._revise(most // 2)
                return
            log.exception("a corrected event cannot be taken again; what was made of it stays")
            with self._store.write() as connection:
                _revise(connection, (), 1)


def rebuild(connection: Connection, projector: Projector) -> None:
    """Let a projector forget everything and begin again at the first event of each journal."""
    projector.clear(connection)
    connection.execute(delete(tables.projection).where(tables.projection.c.name == projector.name))


def _halve(parts: list[_Part]) -> tuple[list[_Part], list[_Part]] | None:
    """Cut parts of journals in two, None for a single event."""
    if len(parts) > 1:
        return parts[: len(parts) // 2], parts[len(parts) // 2 :]
    ((journal, after, upto),) = parts
    middle = after + (upto - after) // 2
    return None if middle == after else ([(journal, after, middle)], [(journal, middle, upto)])


def _behind(connection: Connection, projector: Projector) -> list[_Part]:
    """Return what comes next of the journals that wait longest, STEP numbers in all or one part of a journal."""
    mark, mine = tables.mark, tables.projection
    same = (mine.c.gateway == mark.c.gateway) & (mine.c.epoch == mark.c.epoch) & (mine.c.name == projector.name)
    done = func.coalesce(mine.c.upto, 0)
    query = select(mark.c.gateway, mark.c.epoch, done, mark.c.upto).outerjoin_from(mark, mine, same)
    rows = connection.execute(query.where(mark.c.upto > done).order_by(mark.c.changed_ms).limit(_JOURNALS))
    parts: list[_Part] = []
    left = STEP
    for gateway, epoch, after, upto in rows:
        end = min(upto, after + left)
        parts.append(((gateway, epoch), after, end))
        left -= end - after
        if left <= 0:
            break
    return parts


def _follow(connection: Connection, projector: Projector, journal: tuple[int, str], after: int, upto: int) -> None:
    event, (gateway, epoch) = tables.event, journal
    of_journal = (event.c.gateway == gateway) & (event.c.epoch == epoch)
    found = _read(connection, projector.kinds, of_journal & (event.c.seq > after) & (event.c.seq <= upto))
    if found:
        projector.apply(connection, found)
    _advance(connection, projector, journal, upto)


def _advance(connection: Connection, projector: Projector, journal: tuple[int, str], upto: int) -> None:
    mine, (gateway, epoch) = tables.projection, journal
    key = {"name": projector.name, "gateway": gateway, "epoch": epoch}
    if not insert_if_new(connection, mine, {**key, "upto": upto}):
        of_mine = (mine.c.name == projector.name) & (mine.c.gateway == gateway) & (mine.c.epoch == epoch)
        connection.execute(update(mine).where(of_mine).values(upto=upto))


def _revise(connection: Connection, projectors: Sequence[Projector], most: int) -> None:
    table, event, mine = tables.event_revision, tables.event, tables.projection
    rows = connection.execute(select(table).order_by(table.c.id).limit(most)).all()
    keys = sorted({(row.gateway, row.epoch, row.seq) for row in rows})
    for projector in projectors:
        upto = select(mine.c.gateway, mine.c.epoch, mine.c.upto).where(mine.c.name == projector.name)
        done = {(gateway, epoch): at for gateway, epoch, at in connection.execute(upto)}
        # What it has not reached yet it meets later, corrected.
        due = [key for key in keys if key[2] <= done.get(key[:2], 0)]
        for some in in_slices(due):
            found = _read(connection, projector.kinds, tuple_(event.c.gateway, event.c.epoch, event.c.seq).in_(some))
            if found:
                projector.apply(connection, found)
    for some in in_slices([row.id for row in rows]):
        connection.execute(delete(table).where(table.c.id.in_(some)))


def _read(connection: Connection, kinds: tuple[str, ...], where: ColumnElement[bool]) -> list[Held]:
    event = tables.event
    query = select(event).where(where, event.c.kind.in_(kinds)).order_by(event.c.gateway, event.c.epoch, event.c.seq)
    return [
        Held(row.gateway, row.site, row.person, row.at_ms, row.at_how, row.at_error_ms, decode_event(bytes(row.raw)))
        for row in connection.execute(query)
    ]
