"""The cards of a plan: new links, unchanged cards, and conflicting claims.

The present holder of a card keeps it unless the same read gives it up; if two new people claim one card, neither gets
it. A source does not undo a state set by hand (blocked, lost), and cards linked by hand stay.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from gateway.hub.sync.known import GONE, Known, KnownCard, waits_for
from gateway.hub.sync.match import Key, conflict_of
from gateway.hub.sync.operations import Link, Move, Plan, Replace, Revoke
from gateway.mis.base import CardClaim, Record


@dataclass(frozen=True, slots=True)
class CardWish:
    """A person of the feed, `ref` None when they are new, with the cards their record claims."""

    ref: str | None
    record: Record

    @property
    def claims(self) -> tuple[CardClaim, ...]:
        return self.record.cards or ()

    @property
    def key(self) -> Key:
        return self.record.role, self.record.person_key


def plan_cards(wishes: list[CardWish], known: Known, plan: Plan, leaving: set[str]) -> None:
    """Add the card operations and card conflicts to a plan.

    Args:
        leaving: people whom this plan makes inactive; their cards are free for others.
    """
    wishes = sorted(wishes, key=lambda wish: wish.key)
    claimants: dict[str, list[CardWish]] = defaultdict(list)
    for wish in wishes:
        for claim in wish.claims:
            claimants[claim.key].append(wish)
    granted: dict[Key, list[CardClaim]] = defaultdict(list)
    moves: dict[Key, list[Move]] = defaultdict(list)
    by_ref = {wish.ref: wish for wish in wishes if wish.ref}
    for key in sorted(claimants):
        winner = _winner(key, claimants[key], by_ref, known, plan, leaving)
        if winner is None:
            continue
        claim = next(item for item in winner.claims if item.key == key)
        card = known.cards.get(key)
        if card is None or card.person is None or (card.person == winner.ref and _may_return(card, known)):
            granted[winner.key].append(claim)
        elif card.person != winner.ref:
            owner = known.people[card.person]
            moves[winner.key].append(
                Move(
                    winner.ref,
                    *winner.key,
                    winner.record.fields.name,
                    owner.ref,
                    owner.name,
                    key,
                    claim.tail,
                    claim.projection,
                )
            )
    moved = {move.card for some in moves.values() for move in some}
    for wish in wishes:
        if wish.record.cards is not None:
            _settle(wish, granted[wish.key], moved, known, plan)
        if wish.ref is None or wish.ref not in known.claims:
            _hand_over(wish, granted[wish.key], known, plan)
        plan.operations.extend(moves[wish.key])


def _hand_over(wish: CardWish, granted: list[CardClaim], known: Known, plan: Plan) -> None:
    """Link the cards that a list of cards kept for a newcomer."""
    given = {claim.key for claim in granted}
    for card in sorted(known.waiting.get(waits_for(*wish.key), ()), key=lambda item: item.key):
        if card.key not in given:
            plan.operations.append(
                Link(wish.ref, *wish.key, wish.record.fields.name, card.key, card.tail, card.projection)
            )


def _winner(
    key: str, claimants: list[CardWish], by_ref: dict[str, CardWish], known: Known, plan: Plan, leaving: set[str]
) -> CardWish | None:
    card = known.cards.get(key)
    holder = card.person if card else None
    keeper = next((wish for wish in claimants if holder and wish.ref == holder), None)
    if keeper is None and len(claimants) == 1 and (holder is None or _lets_go(holder, key, by_ref, known, leaving)):
        return claimants[0]
    for wish in claimants:
        if wish is not keeper:
            record = wish.record
            tail = next(item.tail for item in wish.claims if item.key == key)
            why = f"The card ending {tail} is claimed by {len(claimants)} people." if len(claimants) > 1 else ""
            why = why or f"The card ending {tail} still belongs to another person."
            plan.conflicts.append(conflict_of("card_shared", record, why, known, wish.ref))
    return keeper


def _lets_go(holder: str, key: str, by_ref: dict[str, CardWish], known: Known, leaving: set[str]) -> bool:
    person = known.people.get(holder)
    if person is None or known.cards[key].origin != known.origin:
        return False
    wish = by_ref.get(holder)
    if wish is None:
        claim = known.claims.get(holder)
        return person.state == "inactive" or holder in leaving or (claim is not None and claim.state == GONE)
    return wish.record.cards is not None and all(claim.key != key for claim in wish.claims)


def _may_return(card: KnownCard, known: Known) -> bool:
    return not card.usable and card.state_by == known.origin


def _settle(wish: CardWish, granted: list[CardClaim], moved: set[str], known: Known, plan: Plan) -> None:
    claimed = {claim.key for claim in wish.claims}
    held = known.cards_of.get(wish.ref, []) if wish.ref else []
    gone = sorted(
        (
            card
            for card in held
            if card.usable and card.origin == known.origin and card.key not in claimed and card.key not in moved
        ),
        key=lambda card: card.key,
    )
    keeps = any(card.usable and card.key not in moved for card in held if card not in gone)
    for claim in granted:
        if gone:
            old = gone.pop(0)
            plan.operations.append(
                Replace(
                    wish.ref,
                    *wish.key,
                    wish.record.fields.name,
                    old.key,
                    old.tail,
                    claim.key,
                    claim.tail,
                    claim.projection,
                )
            )
        else:
            plan.operations.append(
                Link(
                    wish.ref, *wish.key, wish.record.fields.name, claim.key, claim.tail, claim.projection, second=keeps
                )
            )
    plan.operations.extend(Revoke(wish.ref, *wish.key, wish.record.fields.name, card.key, card.tail) for card in gone)
