"""The hub's answer to a birth: continue, begin a new epoch, or stop because two machines use one id.

Law of this file (operations.md section 7): the hub keeps the witness of the last birth. A boot whose journal lacks it
has another history than the one the hub knows: it is an old image, or a copy. A witness that returns after a later one
belongs to a second machine that is still running.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, delete, insert, select, update

from gateway.access.event import FIRST_PREV, decode_event
from gateway.errors import BadMessage
from gateway.hub.ingest.links import held_bytes, link_of
from gateway.hub.ingest.marks import add_mark, read_ranges
from gateway.hub.store import tables
from gateway.link.messages import GatewayState
from gateway.link.watermark import Coverage

log = logging.getLogger(__name__)

TWIN_QUIET_MS = 180_000
_WITNESSES_KEPT = 64


@dataclass(frozen=True, slots=True)
class Verdict:
    """`go_on`, `fork` at a number, or `twin` with the boards that take turns."""

    word: Literal["go_on", "fork", "twin"]
    at: int = 0
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Held:
    coverage: Coverage
    forked: int | None

    @property
    def last(self) -> int:
        return self.coverage.have[-1][1] if self.coverage.have else self.coverage.upto


def judge_birth(
    connection: Connection, gateway: int, state: GatewayState, at_ms: int, *, twin_quiet_ms: int = TWIN_QUIET_MS
) -> Verdict:
    """Judge the birth of a gateway that names a witness, and store what it reports."""
    table, boards = tables.gateway, tables.witness
    row = connection.execute(
        select(table.c.site, table.c.name, table.c.witness, table.c.twin_ms, table.c.alarm).where(table.c.id == gateway)
    ).one()
    label = f"{row.site}/{row.name}"
    is_new_boot = row.witness is not None and row.witness != state.witness
    was_heard = (
        connection.scalar(
            select(boards.c.boot)
            .where(boards.c.gateway == gateway, boards.c.witness == state.witness)
            .with_for_update()
        )
        is not None
    )
    _note_witness(connection, gateway, state, at_ms)
    twin_ms = at_ms if is_new_boot and was_heard else row.twin_ms
    values: dict[str, object] = {"witness": state.witness, "challenge": state.challenge, "twin_ms": twin_ms}
    if twin_ms is not None and at_ms - twin_ms < twin_quiet_ms:
        others = _latest_boards(connection, gateway)
        verdict = Verdict("twin", others=others)
        values["alarm"] = (
            f"Another gateway uses the id of {label}: {' and '.join(others)} take turns. Both are stopped and keep "
            "their taps; give one of them an id of its own, or switch it off."
        )
    else:
        broken = is_new_boot and row.witness not in state.before
        verdict = _compare(connection, gateway, state, at_ms, broken=broken, is_new_boot=is_new_boot)
        if row.twin_ms is not None:
            values |= {"twin_ms": None, "alarm": None}
            log.warning("gateway %s: only one machine uses this id again; it continues", label)
        if verdict.word == "fork":
            values["alarm"] = (
                f"The history of {label} forked at event {verdict.at} of epoch {state.epoch}: its card was copied or "
                "is an older image. Its later events come in a new epoch; see that no second gateway or card has this "
                "id."
            )
    if "alarm" in values:
        values["alarm_ms"] = at_ms
        if values["alarm"] is not None and values["alarm"] != row.alarm:
            log.error("%s", values["alarm"])
    connection.execute(update(table).where(table.c.id == gateway).values(values))
    return verdict


def _compare(
    connection: Connection, gateway: int, state: GatewayState, at_ms: int, *, broken: bool, is_new_boot: bool
) -> Verdict:
    held = _held(connection, gateway, state.epoch, at_ms)
    if not held.last:
        # Nothing of this journal is here to contradict it: a new card, or a new hub.
        return Verdict("go_on")
    shared, differs = _shared(connection, gateway, state, held)
    # A continuing boot may have sent more since its birth; a new one waits for its welcome.
    behind = is_new_boot and held.last > state.head
    if not (broken or differs or behind or held.forked is not None):
        return Verdict("go_on")
    mark = tables.mark
    mine = (mark.c.gateway == gateway, mark.c.epoch == state.epoch)
    connection.execute(update(mark).where(*mine).values(forked=None))
    # Events below it that are not here yet belong to an epoch that ends: they move on with the others, and what is here
    # already is known by its first number.
    return Verdict("fork", at=min(shared, held.coverage.upto))


def _held(connection: Connection, gateway: int, epoch: str, at_ms: int) -> _Held:
    mark = tables.mark
    mine = (mark.c.gateway == gateway, mark.c.epoch == epoch)
    query = select(mark.c.upto, mark.c.have, mark.c.strict, mark.c.forked).where(*mine).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        add_mark(connection, gateway, epoch, at_ms, strict=True)
        return _Held(Coverage(), None)
    if not row.strict:
        connection.execute(update(mark).where(*mine).values(strict=True))
    return _Held(Coverage(row.upto, read_ranges(row.have)), row.forked)


def _shared(connection: Connection, gateway: int, state: GatewayState, held: _Held) -> tuple[int, bool]:
    """Return the last number whose link both share, and whether any place differs."""
    places = [point for point in state.links if point.seq and held.coverage.covers(point.seq, point.seq)]
    raws = held_bytes(connection, gateway, state.epoch, {point.seq + step for point in places for step in (0, 1)})
    shared, differs = 0, any(not point.seq and point.link != FIRST_PREV for point in state.links)
    for point in places:
        if point.link in _links_after(raws, point.seq):
            shared = max(shared, point.seq)
        elif point.seq in raws:
            differs = True
    return shared, differs


def _links_after(raws: dict[int, bytes], seq: int) -> set[str]:
    # Where the card lost an event, the next one still carries the link over the lost bytes.
    links = {link_of(raws[seq])} if seq in raws else set()
    if seq + 1 in raws:
        try:
            links.add(decode_event(raws[seq + 1]).prev)
        except BadMessage:
            log.debug("event %s is unreadable; its link is not compared", seq + 1)
    return links


def _note_witness(connection: Connection, gateway: int, state: GatewayState, at_ms: int) -> None:
    boards = tables.witness
    mine = boards.c.gateway == gateway
    values = {"board": state.board, "boot": state.boot, "epoch": state.epoch, "seen_ms": at_ms}
    changed = update(boards).where(mine, boards.c.witness == state.witness).values(values)
    if connection.execute(changed).rowcount:
        return
    connection.execute(insert(boards).values(gateway=gateway, witness=state.witness, **values))
    kept = (
        select(boards.c.witness).where(mine).order_by(boards.c.seen_ms.desc()).limit(_WITNESSES_KEPT).scalar_subquery()
    )
    connection.execute(delete(boards).where(mine, boards.c.witness.not_in(kept)))


def _latest_boards(connection: Connection, gateway: int) -> tuple[str, ...]:
    boards = tables.witness
    query = (
        select(boards.c.board, boards.c.boot)
        .where(boards.c.gateway == gateway)
        .order_by(boards.c.seen_ms.desc())
        .limit(2)
    )
    return tuple(f"{row.board or 'a board'} (start {row.boot})"[:63] for row in connection.execute(query))
