"""Which encoding a column of card numbers is in, found from a few taps.

Nobody at a school knows how the MIS wrote the numbers down. Every known form is tried on the whole column, and the
cards tapped so far are looked up in what comes out. Law of this file: an answer needs distinct cards that all point to
one row each, and it is refused when two forms point to different rows for any card: a wrong answer would let the wrong
child in. Where it is known whose card was tapped, a form that points to somebody else is out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.cards.encodings import CT_TRUNCATED, ENCODINGS, LOSSY_PROJECTIONS, LOW_24, W26, decode, project
from gateway.cards.identity import KINDS, UID_PROJECTION
from gateway.cards.uid import Uid
from gateway.errors import BadCardNumber

NEEDED_CARDS = 3
_CHAINS = ("dec-msb|bcc-appended", "ascii-hex|hex-msb", "ascii-hex|hex-lsb", "ascii-hex|dec-msb", "ascii-hex|dec-lsb")
# Of forms that say the same the first one is named: whole numbers before lossy ones, plain before chained.
_NO_UID = {"ascii-hex", "number", *KINDS, "w35", "w37", "w48", "h10302", "c15001", "s12906"}
CANDIDATES = (*(name for name in ENCODINGS if name not in _NO_UID), *_CHAINS)


@dataclass(frozen=True, slots=True)
class Explanation:
    """One encoding compared with the column and the taps.

    Attributes:
        rows: for each tapped card that was found, the row it points to.
        found: cards that point to exactly one row.
        ambiguous: cards that point to several rows, as lossy forms do.
        readable: column entries that are in this form at all.
        shared: readable entries whose number another row has too.
        disproved: cards that point to a row that is not their owner's.
    """

    encoding: str
    projection: str
    rows: dict[int, int] = field(repr=False)
    found: int
    ambiguous: int
    readable: int
    shared: int
    disproved: int = 0

    @property
    def lossy(self) -> bool:
        return self.projection in LOSSY_PROJECTIONS


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of the search.

    Attributes:
        best: the encoding to write into the source's settings, None when it may not be written yet.
        why: one sentence for the person at the teach page, without any card number.
        explanations: every form that found at least one card, the best first.
        coverage: the share of the column's filled rows that `best` can read, 0 to 1.
    """

    best: Explanation | None
    why: str
    explanations: tuple[Explanation, ...]
    coverage: float


def investigate(
    taps: Iterable[Uid], column: Sequence[str], owners: Mapping[Uid, Collection[int]] | None = None
) -> Verdict:
    """Find the encoding of a column.

    Args:
        taps: cards tapped for this purpose; the same card twice counts once.
        column: the card numbers as the MIS holds them, one a person, empty where there is none.
        owners: the rows of the person whose card it is, for the cards of which that is known.
    """
    cards = list(dict.fromkeys(taps))
    filled = sum(bool(text.strip()) for text in column)
    every = [_explain(name, cards, column, owners or {}) for name in CANDIDATES]
    every = [item for item in every if item.found or item.ambiguous or item.disproved]
    every.sort(key=lambda item: (item.disproved, -item.found, item.lossy, CANDIDATES.index(item.encoding)))
    explanations = [item for item in every if not item.disproved]
    if not explanations:
        text = "No form of the tapped cards stands in this column; these people may have no number yet."
        if every:
            text = f"{every[0].encoding} points to other people than those named; check whose cards were tapped."
        return Verdict(None, text, tuple(every), 0.0)
    best = explanations[0]
    coverage = best.readable / filled if filled else 0.0
    for other in explanations[1:]:
        if any(best.rows.get(card, row) != row for card, row in other.rows.items()):
            text = f"{best.encoding} and {other.encoding} point to different people for one card; tap more cards."
            return Verdict(None, text, tuple(every), coverage)
    if best.ambiguous:
        text = (
            f"In {best.encoding} {best.ambiguous} of {len(cards)} cards point to several people; it keeps too little."
        )
        return Verdict(None, text, tuple(every), coverage)
    if best.found < NEEDED_CARDS:
        text = f"{best.encoding} fits {best.found} cards so far; {NEEDED_CARDS} different ones are needed."
        return Verdict(None, text, tuple(every), coverage)
    text = f"{best.encoding} explains {best.found} of {len(cards)} cards and reads {coverage:.0%} of the column."
    if best.lossy:
        text += f" It keeps part of the number only: {best.shared} people share theirs with another."
    return Verdict(best, text, tuple(every), coverage)


def _explain(
    encoding: str, cards: Sequence[Uid], column: Sequence[str], owners: Mapping[Uid, Collection[int]]
) -> Explanation:
    rows_of: dict[bytes, list[int]] = {}
    projection = UID_PROJECTION
    readable = 0
    for row, text in enumerate(column):
        if not text.strip():
            continue
        try:
            number = decode(text, encoding)
        except BadCardNumber:
            continue
        readable += 1
        projection = number.projection
        rows_of.setdefault(number.value, []).append(row)
    rows: dict[int, int] = {}
    ambiguous = disproved = 0
    for place, uid in enumerate(cards):
        form = project(uid, projection)
        hit = rows_of.get(form.value, []) if form else []
        if hit and uid in owners and not set(hit) & set(owners[uid]):
            disproved += 1
        elif len(hit) == 1:
            rows[place] = hit[0]
        elif hit:
            ambiguous += 1
    shared = sum(len(rows) for rows in rows_of.values() if len(rows) > 1)
    return Explanation(encoding, projection, rows, len(rows), ambiguous, readable, shared, disproved)


_ORDERS = {"lsb": "last byte first", "ct-truncated": "last byte first"}
_KEEPS = {
    W26: "the first 3 of 4 bytes",
    LOW_24: "the last 3 of 4 bytes",
    CT_TRUNCATED: "the first 3 of 7 bytes",
}


@dataclass(frozen=True, slots=True)
class Form:
    """A description for the technician: byte order, what is kept, and padding."""

    order: str
    keeps: str
    padding: str


def form_of(explanation: Explanation, column: Sequence[str]) -> Form:
    """Describe how the column prints its numbers."""
    last = explanation.encoding.rpartition("|")[2]
    order = _ORDERS.get(last) or _ORDERS.get(last.rpartition("-")[2], "first byte first")
    keeps = _KEEPS.get(explanation.projection, "whole")
    if "bcc-appended" in explanation.encoding:
        keeps += " and a check byte"
    # Hex has its width from the bytes; a decimal number that starts with a zero was filled up.
    padded = [len(text.strip()) for text in column if text.strip().isdecimal() and text.strip().startswith("0")]
    if not padded or "hex" in explanation.encoding or last == "bcc-appended":
        return Form(order, keeps, "none")
    return Form(order, keeps, f"zeros to {max(set(padded), key=padded.count)} places")
