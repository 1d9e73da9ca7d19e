"""A CSV file as a source: an export of the MIS, or a list kept by hand.

Text is UTF-8, with or without its mark, else Windows-1252 with a notice. The delimiter is the one of `, ; tab |` that
the header holds most of. Values stay text: leading zeros are part of an id. A row that cannot be read is reported with
its line and the others are used.

    columns = { person_key = "Student ID", card = "Card", given_name = "First", family_name = "Last", groups = "Form" }

`card_encoding` says how the card column prints its numbers (cards.encodings), facility and card number such as
"123-45678" among them; `card_technology = "125khz"` that they are no UIDs, `card_pattern` what of a cell is the number.

`role`, `groups`, `card` and `stable_id` are optional; a column that is not named is looked for under its usual names.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import BadRecord, SourceRefused, SourceUnreachable, TapgateError
from gateway.mis.base import (
    ROLES,
    Capabilities,
    CardClaim,
    CardReader,
    CheckResult,
    Complete,
    FeedItem,
    FieldSeen,
    Notice,
    Options,
    PersonFields,
    Record,
    Unreadable,
)

MAX_FILE_BYTES = 256 << 20
_DELIMITERS = ",;\t|"
_MANY = ";"
_USUAL = {
    "person_key": ("person_key", "student id", "studentid", "id", "admission number", "admission no", "staff code"),
    "role": ("role", "type", "user type"),
    "given_name": ("given_name", "given name", "first name", "forename", "first", "given"),
    "family_name": ("family_name", "family name", "last name", "surname", "last", "family"),
    "groups": ("groups", "group", "form", "class", "year"),
    "card": ("card", "card number", "card serial number", "card uid", "uid", "rfid"),
    "stable_id": ("stable_id", "upn", "uln", "guid"),
}
_REQUIRED = ("person_key",)
_ROLE_WORDS = {"pupil": "student", "teacher": "staff", "employee": "staff", "parent": "contact", "guardian": "contact"}


# First line of a row, counted from 1; its cells; None or why they cannot be used.
_Row = tuple[int, list[str], str | None]


@dataclass(frozen=True, slots=True)
class CsvFile:
    """One CSV source; `columns` maps our fields to the headings of the file."""

    path: Path
    columns: Mapping[str, str]
    delimiter: str
    role: str
    cards: CardReader
    capabilities: Capabilities

    def check(self) -> CheckResult:
        """Read the whole file and report what a sync would find."""
        rows = cards = faults = 0
        try:
            for item in self.fetch((), {}):
                rows += isinstance(item, Record)
                cards += isinstance(item, Record) and bool(item.cards)
                faults += isinstance(item, Unreadable)
        except SourceRefused as error:
            return CheckResult(error.failure, str(error))
        except TapgateError as error:
            return CheckResult("unreachable", str(error))
        return CheckResult(None, f"{rows} people can be read, {cards} with a card; {faults} faults.")

    def fetch(self, lists: Collection[str], cursors: Mapping[str, str]) -> Iterator[FeedItem]:
        """Read the file from its first to its last line; the whole file is one complete read."""
        del lists, cursors
        text, notice = self._text()
        if notice:
            yield notice
        rows = _rows(text, self.delimiter or _sniff(text))
        header = self._header(rows)
        places = self._places(header)
        count = 0
        for line, row, fault in rows:
            if fault is None and not any(cell.strip() for cell in row):
                continue
            count += 1
            place = f"line {line}"
            if fault is not None:
                yield Unreadable(place, fault)
            else:
                yield from self._record(row, header, places, place)
        yield Complete(count)

    def discover(self) -> Iterator[FieldSeen]:
        """Return the columns of the file."""
        raise NotImplementedError

    def cells(self, headings: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Return the cells under some headings, row by row and unchanged; unreadable rows are skipped.

        Raises:
            SourceRefused: the file has no such column, or cannot be read as CSV.
        """
        text, _ = self._text()
        rows = _rows(text, self.delimiter or _sniff(text))
        header = [heading.casefold() for heading in self._header(rows)]
        for heading in headings:
            if heading.strip().casefold() not in header:
                raise SourceRefused("column_missing", f"The file {self.path.name} has no column {heading!r}.")
        places = [header.index(heading.strip().casefold()) for heading in headings]
        for _, row, fault in rows:
            if fault is None and _fits(row, len(header)):
                yield tuple(row[place].strip() for place in places)

    def heading_of(self, field: str) -> str | None:
        """Return this file's heading for a field, None when it has none."""
        text, _ = self._text()
        header = self._header(_rows(text, self.delimiter or _sniff(text)))
        headings = (self.columns[field],) if field in self.columns else _USUAL[field]
        known = {heading.casefold(): heading for heading in header}
        return next((known[name.casefold()] for name in headings if name.casefold() in known), None)

    def _text(self) -> tuple[str, Notice | None]:
        try:
            if self.path.stat().st_size > MAX_FILE_BYTES:
                raise SourceRefused(
                    "too_large", f"The file {self.path.name} is larger than {MAX_FILE_BYTES >> 20} MiB."
                )
            raw = self.path.read_bytes()
        except FileNotFoundError:
            raise SourceRefused(
                "object_missing", f"There is no file {self.path}; check `path` and the export."
            ) from None
        except PermissionError:
            raise SourceRefused("refused", f"The file {self.path} may not be read; check its owner and mode.") from None
        except OSError as error:
            raise SourceUnreachable(f"The file {self.path} cannot be read ({error.strerror}).") from None
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            return raw.decode("utf-16", "replace"), Notice(f"{self.path.name} is UTF-16; save it as UTF-8.")
        try:
            return raw.decode("utf-8-sig"), None
        except UnicodeDecodeError:
            text = raw.decode("cp1252", "replace")
            return text, Notice(
                f"{self.path.name} is not UTF-8 and was read as Windows-1252; check names with accents."
            )

    def _header(self, rows: Iterator[_Row]) -> list[str]:
        first = next(rows, None)
        if first is None:
            raise SourceRefused("empty", f"The file {self.path.name} is empty; even the header row is missing.")
        _, row, fault = first
        if fault is not None:
            raise SourceRefused("format", f"The first line of {self.path.name} is not CSV: {fault}")
        header = [heading.strip() for heading in row]
        named = [heading.casefold() for heading in header if heading]
        twice = sorted({heading for heading in named if named.count(heading) > 1})
        if twice:
            raise SourceRefused("column_twice", f"The file {self.path.name} has two columns named {twice[0]!r}.")
        return header

    def _places(self, header: list[str]) -> dict[str, int]:
        at = {heading.casefold(): place for place, heading in enumerate(header)}
        places = {}
        for name, usual in _USUAL.items():
            heading = self.columns.get(name)
            if heading is not None:
                if heading.strip().casefold() not in at:
                    raise SourceRefused(
                        "column_missing", f"The file {self.path.name} has no column {heading!r} ({name})."
                    )
                places[name] = at[heading.strip().casefold()]
            elif found := next((heading for heading in usual if heading in at), None):
                places[name] = at[found]
        for name in _REQUIRED:
            if name not in places:
                raise SourceRefused(
                    "column_missing", f"The file {self.path.name} has no column for {name}; name one under `columns`."
                )
        if "given_name" not in places and "family_name" not in places:
            raise SourceRefused(
                "column_missing", f"The file {self.path.name} has no column for names; name one under `columns`."
            )
        return places

    def _record(self, row: list[str], header: list[str], places: dict[str, int], place: str) -> Iterator[FeedItem]:
        def cell(name: str) -> str:
            return row[places[name]].strip() if name in places else ""

        if not _fits(row, len(header)):
            # Short or long rows are shifted somewhere; none of their cells can be trusted.
            yield Unreadable(place, f"This row has {len(row)} columns, the header has {len(header)}.")
            return
        person_key = cell("person_key")
        if not person_key:
            yield Unreadable(place, "This row has no person_key.")
            return
        if any("\0" in value for value in row):
            yield Unreadable(place, "This row holds a zero byte.", person_key)
            return
        given_name, family_name = cell("given_name"), cell("family_name")
        if not given_name and not family_name:
            yield Unreadable(place, "This row has no name.", person_key)
            return
        role = cell("role").casefold() or self.role
        role = _ROLE_WORDS.get(role, role)
        if role not in ROLES:
            yield Unreadable(place, f"The role in this row is not one of {', '.join(ROLES)}.", person_key)
            return
        cards: tuple[CardClaim, ...] | None = None
        try:
            cards = self._cards(cell("card")) if "card" in places else None
        except BadRecord as error:
            # Only the card is unusable; None leaves the person's existing cards alone.
            yield Unreadable(place, f"The card in this row cannot be used: {error}", person_key)
        groups = tuple(sorted({part.strip() for part in cell("groups").split(_MANY) if part.strip()}))
        fields = PersonFields(role, given_name, family_name, groups if "groups" in places else None)
        yield Record(person_key, fields, cards, place, cell("stable_id") or None)

    def _cards(self, text: str) -> tuple[CardClaim, ...]:
        claims = {claim.key: claim for part in text.split(_MANY) if part.strip() for claim in [self.cards.claim(part)]}
        return tuple(claims[key] for key in sorted(claims))


def _rows(text: str, delimiter: str) -> Iterator[_Row]:
    # A quote that is never closed would swallow the rest of the file. So a row that is not CSV, or that spans lines and
    # does not have the width of the header, costs its first line only: reading continues at the next one.
    lines = io.StringIO(text, newline="").readlines()
    at, width = 0, 0
    while at < len(lines):
        start = at
        reader = csv.reader(lines[start:], delimiter=delimiter, strict=True)
        fault = None
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                fault = f"This row is not CSV ({error})."
                break
            begun, at = at, start + reader.line_num
            if width and at - begun > 1 and not _fits(row, width):
                at, fault = begun, "This row opens a quote that is not closed."
                break
            width = width or len(row)
            yield begun + 1, row, None
        yield at + 1, [], fault
        at += 1


def _fits(row: list[str], width: int) -> bool:
    # Spreadsheets leave empty cells at the end of a row.
    return len(row) >= width and not any(surplus.strip() for surplus in row[width:])


def _sniff(text: str) -> str:
    header = text.partition("\n")[0]
    return max(_DELIMITERS, key=header.count)


def build(options: Options) -> CsvFile:
    """Read the settings of a CSV source; see the head of this file."""
    path = options.text("path")
    columns = options.table("columns")
    for name in columns:
        if name not in _USUAL:
            options.problem("columns", f"{name!r} is not a field; known are {', '.join(_USUAL)}")
    delimiter = options.text("delimiter", "")
    if len(delimiter) > 1:
        options.problem("delimiter", "must be one character")
    leavers = options.text("staff_leavers", "keep", ("keep", "remove"))
    return CsvFile(
        path=options.base / path,
        columns=columns,
        delimiter=delimiter[:1],
        role=options.text("role", "student", ROLES),
        cards=options.encoding(),
        capabilities=Capabilities(removes_staff=leavers == "remove"),
    )
