"""Turns the rows of a table into people: the same for a CSV file, a OneRoster package and a database view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from gateway.errors import BadRecord
from gateway.mis.base import CardClaim, FieldSeen, Gone, Notice, PersonFields, Record, Shape, Unreadable
from gateway.mis.cells import (
    EMPTY_WORDS,
    clean_id,
    clean_text,
    is_day_first,
    is_invisible,
    is_rounded,
    read_date,
    split_cards,
)
from gateway.mis.mapping import Layout, is_gone, is_yes, read_role
from gateway.mis.options import CardReader
from gateway.mis.text import count_damaged

MAX_NAME = 100
# Longer than any address may be, so that one that is cut is seen to be wrong.
MAX_EMAIL = 300
MAX_CARDS = 20
MAX_CELL = 2000
_TEXTS = ("year", "form", "house", "department")
_DATES = ("birth_date", "starts_on", "ends_on")
# Null, None, Na and Nil are people's names; written like this they are not.
_NO_NAMES = frozenset({"NULL", "null", "(null)", "N/A", "n/a", "#N/A", "-", "--", "(blank)", "undefined"})
_LONG_AGO = date(1900, 1, 1)

Row = tuple[str, Sequence[str]]


@dataclass(slots=True)
class TableReader:
    """Reads rows under one layout.

    Attributes:
        role: of whoever has no cell for it.
        today: on which a leaving date is in the past.
        empty: words that mean an empty cell, folded.
        has_names: False where a row without a name is a card for somebody whom another source brings.
    """

    layout: Layout
    cards: CardReader
    role: str
    today: date
    empty: Collection[str] = EMPTY_WORDS
    has_names: bool = True
    _counts: Counter[str] = field(default_factory=Counter)
    _names: list[str] = field(default_factory=list)
    _day_first: dict[str, bool | None] = field(default_factory=dict)

    def read(self, rows: Sequence[Row]) -> Iterator[Shape | Record | Gone | Unreadable | Notice]:
        """Return the people of some rows, and at the end what somebody should know about them.

        Args:
            rows: place and cells; all of them, because a column of dates is judged as a whole.
        """
        # Whatever fills one of our fields: a field that an empty cell leaves empty is empty in the source too.
        yield Shape(self._shape())
        for name in _DATES:
            places = self.layout.places.get(name, ())
            cells = [row[places[0]] for _, row in rows if places and places[0] < len(row)]
            self._day_first[name] = is_day_first(cells)
        for place, row in rows:
            yield from self._person(place, row)
        yield from self._notices()

    def _shape(self) -> dict[str, str]:
        shape = {name: heading for name, heading in self.layout.headings.items() if name != "full_name"}
        if "full_name" in self.layout.headings:
            shape.setdefault("given_name", self.layout.headings["full_name"])
        return shape

    def _cell(self, row: Sequence[str], name: str, empty: Collection[str] | None = None) -> str:
        places = self.layout.places.get(name)
        if not places or places[0] >= len(row):
            return ""
        return clean_text(row[places[0]], self.empty if empty is None else empty)

    def _name(self, row: Sequence[str], name: str) -> str:
        text = self._cell(row, name, empty=())
        return "" if text in _NO_NAMES else text

    def _person(self, place: str, row: Sequence[str]) -> Iterator[Record | Gone | Unreadable]:
        if any(len(cell) > MAX_CELL for cell in row):
            yield Unreadable(place, f"A cell in this row has more than {MAX_CELL} characters.")
            return
        key_cell = row[self.layout.places["person_key"][0]]
        person_key = clean_id(key_cell, self.empty)
        self._counts["invisible"] += is_invisible(key_cell)
        if not person_key:
            yield Unreadable(place, "This row has no person_key.")
            return
        if problem := self._problem(person_key, row):
            yield Unreadable(place, problem, person_key)
            return
        role = read_role(self._cell(row, "role"), self.role)
        if role is None:
            self._counts["role"] += 1
            yield Unreadable(place, "The role in this row is not a word that is known here.", person_key)
            return
        stable_id = clean_id(self._cell(row, "stable_id"), self.empty) or None
        why = self._gone(row)
        ends_on = None if why else self._date(row, "ends_on")
        if why is None and ends_on is not None and ends_on < self.today:
            why = "leaving date"
        if why:
            yield Gone(role, person_key, place, why, stable_id)
            return
        given_name, family_name = self._names_of(row)
        if self.has_names and not given_name and not family_name:
            yield Unreadable(place, "This row has no name.", person_key)
            return
        if len(given_name) > MAX_NAME or len(family_name) > MAX_NAME:
            yield Unreadable(place, f"A name in this row has more than {MAX_NAME} characters.", person_key)
            return
        self._names += [given_name, family_name]
        cards: tuple[CardClaim, ...] | None = None
        try:
            cards = self._cards(row) if "card" in self.layout.places else None
        except BadRecord as error:
            # Only the card is unusable; None leaves the person's existing cards alone.
            yield Unreadable(place, f"The card in this row cannot be used: {error}", person_key)
        fields = self._fields(row, role, given_name, family_name, ends_on)
        yield Record(person_key, fields, cards, place, stable_id)

    @staticmethod
    def _problem(person_key: str, row: Sequence[str]) -> str | None:
        if any("\0" in cell for cell in row):
            return "This row holds a zero byte."
        if is_rounded(person_key):
            return "A spreadsheet has rounded the id in this row; export it as text."
        return None

    def _names_of(self, row: Sequence[str]) -> tuple[str, str]:
        given_name, family_name, whole = (self._name(row, name) for name in ("given_name", "family_name", "full_name"))
        if given_name or family_name or not whole:
            return given_name, family_name
        if "," in whole:
            family_name, _, given_name = whole.partition(",")
            return given_name.strip(), family_name.strip()
        given_name, _, family_name = whole.partition(" ")
        return given_name, family_name.strip()

    def _gone(self, row: Sequence[str]) -> str | None:
        """Return why the source says in words that this person has left, None when it does not."""
        status = is_gone(self._cell(row, "status"))
        self._counts["status"] += status is None
        if status:
            return "status"
        for name, means_here in (("enabled", True), ("disabled", False)):
            text = self._cell(row, name)
            answer = is_yes(text) if text else None
            if answer is not None and answer is not means_here:
                return "disabled"
        return None

    def _date(self, row: Sequence[str], name: str) -> date | None:
        text = self._cell(row, name)
        if not text:
            return None
        day_first = self._day_first.get(name)
        found = read_date(text, day_first=day_first is not False)
        if found is None or found < _LONG_AGO:
            self._counts[f"date {name}"] += 1
            return None
        if day_first is None and found.day != found.month and found.day <= 12 and "/" in text:  # months
            # Nothing in the column tells day from month; for a rule that would be a guess.
            self._counts[f"order {name}"] += 1
        return found

    def _fields(
        self, row: Sequence[str], role: str, given_name: str, family_name: str, ends_on: date | None
    ) -> PersonFields:
        texts = {name: self._cell(row, name) or None for name in _TEXTS}
        return PersonFields(
            role,
            given_name,
            family_name,
            self._groups(row),
            **texts,
            birth_date=self._date(row, "birth_date"),
            email=self._cell(row, "email").casefold()[:MAX_EMAIL] or None,
            starts_on=self._date(row, "starts_on"),
            ends_on=ends_on,
        )

    def _groups(self, row: Sequence[str]) -> tuple[str, ...] | None:
        places = self.layout.places.get("groups")
        if places is None:
            return None
        cells = (row[place] for place in places if place < len(row))
        parts = (clean_text(part, self.empty) for cell in cells for part in cell.replace("|", ";").split(";"))
        return tuple(sorted({part for part in parts if part}))

    def _cards(self, row: Sequence[str]) -> tuple[CardClaim, ...]:
        claims: dict[str, CardClaim] = {}
        for place in self.layout.places["card"]:
            cell = row[place] if place < len(row) else ""
            claims |= {claim.key: claim for claim in split_cards(cell, self.empty, self.cards.claim, MAX_CARDS)}
        return tuple(claims[key] for key in sorted(claims))

    def _notices(self) -> Iterator[Notice]:
        for text in self.layout.notices:
            yield Notice(text)
        damaged = count_damaged(self._names)
        sentences = {
            "invisible": "{} ids held characters that nobody sees; they were taken out.",
            "role": "{} rows have a role that is not known here; they were left out.",
            "status": "{} rows have a status that is not known here; these people stay.",
        }
        for name in _DATES:
            words = name.replace("_", " ")
            sentences[f"date {name}"] = f"{{}} cells of {words} are no dates and were left out."
            sentences[f"order {name}"] = (
                f"{{}} cells of {words} could be day and month or month and day; they were read with the day first."
            )
        for key, sentence in sentences.items():
            if self._counts[key]:
                yield Notice(sentence.format(self._counts[key]))
        if damaged:
            yield Notice(f"{damaged} names look as if another program had read them in a wrong character set.")

    def sample(self, rows: Sequence[Row], count: int = 5) -> tuple[Mapping[str, str], ...]:
        """Return the first rows as they are read, cards as tails; for whoever sets the source up."""
        shown = []
        for item in self.read(rows[:count]):
            if isinstance(item, Record):
                fields = item.fields
                found = {
                    "id": item.person_key,
                    "role": fields.role,
                    "name": f"{fields.given_name} {fields.family_name}",
                }
                found |= {name: value for name in (*_TEXTS, "email") if (value := getattr(fields, name))}
                found |= {name: str(value) for name in _DATES if (value := getattr(fields, name))}
                if fields.groups:
                    found["groups"] = ", ".join(fields.groups)
                if item.cards:
                    found["card"] = ", ".join(f"...{claim.tail}" for claim in item.cards)
                shown.append(found)
            elif isinstance(item, Gone):
                shown.append({"id": item.person_key or "", "role": item.entity or "", "gone": item.why})
        return tuple(shown)


_ENCODINGS = ("hex-msb", "8h10d", "dec-msb", "2h3d-4h5d", "w26")


def see_fields(header: Sequence[str], rows: Sequence[Row], list_name: str, cards: CardReader) -> Iterator[FieldSeen]:
    """Return what each column looks like, without a value of it."""
    for place, heading in enumerate(header):
        if not heading:
            continue
        cells = [clean_text(row[place], EMPTY_WORDS) for _, row in rows if place < len(row)]
        filled = [cell for cell in cells if cell]
        yield FieldSeen(
            list_name, heading, len(filled), len(set(filled)), _shape_of(filled), _looks_like_cards(filled, cards)
        )


def _shape_of(cells: Sequence[str]) -> str:
    if not cells:
        return "empty"
    lengths = {len(cell) for cell in cells}
    size = f"-{lengths.pop()}" if len(lengths) == 1 else ""
    if all(cell.isdigit() for cell in cells):
        return f"digits{size}"
    if all(cell.isascii() and all(letter in "0123456789abcdefABCDEF:" for letter in cell) for cell in cells):
        return f"hex{size}"
    if all(read_date(cell) for cell in cells):
        return "date"
    if all("@" in cell for cell in cells):
        return "e-mail"
    return "words" if all(not any(letter.isdigit() for letter in cell) for cell in cells) else "mixed"


def _looks_like_cards(cells: Sequence[str], cards: CardReader) -> bool:
    some = cells[:200]
    if len(some) < 2 or len(set(some)) * 10 < len(some) * 9:  # card numbers differ
        return False
    for encoding in dict.fromkeys((cards.encoding, *_ENCODINGS)):
        reader = CardReader(cards.site_key, encoding, cards.technology, cards.pattern)
        good = 0
        for cell in some:
            try:
                reader.claim(cell)
            except BadRecord:
                continue
            good += len(cell) >= 8  # shorter numbers are ids
        if good * 10 >= len(some) * 9:
            return True
    return False
