"""What a gateway says of itself when its connection begins and ends."""

from __future__ import annotations

from typing import Literal

from gateway import __version__
from gateway.edge.standing import Standing
from gateway.journal.journal import Journal
from gateway.link.messages import MAX_LINKS, GatewayState, LinkPoint


def make_state(
    word: Literal["ready", "closed"], journal: Journal, standing: Standing, roster: int | None, public_key: str
) -> GatewayState:
    """Build the birth or the farewell; the places of the chain let the hub find where a history forked."""
    links = dict(journal.link_points()[: MAX_LINKS - 1])
    if standing.disputed is not None and (known := journal.links_after(standing.disputed)):
        links[standing.disputed] = min(known)
    return GatewayState(
        word,
        journal.boot,
        journal.epoch,
        journal.head,
        journal.acked,
        __version__,
        roster,
        public_key,
        witness=standing.witness,
        before=standing.before,
        links=[LinkPoint(seq, links[seq]) for seq in sorted(links)],
        board=standing.board,
        challenge=standing.challenge,
        proof=standing.proof,
    )
