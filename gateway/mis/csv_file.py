"""A CSV file as a source: an export of the MIS, or a list kept by hand.

The delimiter is the one of `, ; tab |` that the header holds most of, or the one of a line `sep=;`. Lines before the
header and a footer are passed over. Values stay text: leading zeros are part of an id. A row that cannot be read is
reported with its line and the others are used. A file that is still being written is refused as `short`.

    columns = { person_key = "Student ID", card = ["Card", "Card 2"], given_name = "First", groups = "Form" }

`card_encoding` says how the card column prints its numbers (cards.encodings), facility and card number such as
"123-45678" among them; `card_technology = "125khz"` that they are no UIDs, `card_pattern` what of a cell is the number.

A column that is not named is looked for under its usual headings (mapping.HEADINGS); of the fields only `person_key`
and a name are needed. `empty_words` are what stands for an empty cell, beside an empty one.
"""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from gateway.errors import SourceRefused, SourceUnreachable, TapgateError
from gateway.mis.base import ROLES, Capabilities, CheckResult, Complete, FeedItem, FieldSeen, Notice, Unreadable
from gateway.mis.cells import EMPTY_WORDS
from gateway.mis.mapping import HEADINGS, Layout, lay_out, plain_heading, score_header
from gateway.mis.options import CardReader, Options
from gateway.mis.summary import failed, summarise
from gateway.mis.table import Row, TableReader, see_fields
from gateway.mis.text import decode_text

MAX_FILE_BYTES = 256 << 20
_DELIMITERS = ",;\t|"
_TITLE_LINES = 30
_STEADY_SECONDS = 0.2
_REQUIRED = ("person_key",)
_NAMES = ("given_name", "family_name", "full_name")
_SEP = re.compile(r"sep=(.)\s*")
_FOOTER = re.compile(
    r"[(\s]*(\d+ rows? (affected|selected)|\d+ records?|total\b|end of (report|file)|printed\b|page \d)", re.IGNORECASE
)


# First line of a row, counted from 1; its cells; None or why they cannot be used.
_Row = tuple[int, list[str], str | None]


@dataclass(frozen=True, slots=True)
class _Read:
    """A file taken apart: its header, its rows, those that cannot be used, and what was noticed on the way."""

    header: list[str]
    rows: list[Row]
    faults: list[Unreadable]
    notices: list[str]
    layout: Layout


@dataclass(frozen=True, slots=True)
class CsvFile:
    """One CSV source; `columns` maps our fields to the headings of the file."""

    path: Path
    columns: Mapping[str, tuple[str, ...]]
    delimiter: str
    role: str
    cards: CardReader
    capabilities: Capabilities
    empty: Collection[str] = EMPTY_WORDS
    has_names: bool = True
    today: Callable[[], date] = date.today
    pause: Callable[[float], None] = time.sleep

    def check(self) -> CheckResult:
        """Read the whole file and report what a sync would find."""
        try:
            read = self._read()
            detail, warnings = summarise(self._people(read))
            sample = self._reader(read).sample(read.rows)
        except TapgateError as error:
            return failed(error)
        headings = tuple(heading for heading in read.header if heading)
        return CheckResult(None, detail, tuple(warnings), headings, dict(read.layout.headings), sample)

    def fetch(self, lists: Collection[str], cursors: Mapping[str, str]) -> Iterator[FeedItem]:
        """Read the file from its first to its last line; the whole file is one complete read."""
        del lists, cursors
        read = self._read()
        yield from self._people(read)
        yield Complete(len(read.rows) + len(read.faults))

    def _people(self, read: _Read) -> Iterator[FeedItem]:
        for text in read.notices:
            yield Notice(text)
        yield from read.faults
        yield from self._reader(read).read(read.rows)

    def _reader(self, read: _Read) -> TableReader:
        return TableReader(read.layout, self.cards, self.role, self.today(), self.empty, self.has_names)

    def discover(self) -> Iterator[FieldSeen]:
        """Return the columns of the file."""
        read = self._read()
        yield from see_fields(read.header, read.rows, "people", self.cards)

    def cells(self, headings: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Return the cells under some headings, row by row and unchanged; unreadable rows are skipped.

        Raises:
            SourceRefused: the file has no such column, or cannot be read as CSV.
        """
        read = self._read()
        header = [plain_heading(heading) for heading in read.header]
        for heading in headings:
            if plain_heading(heading) not in header:
                raise SourceRefused("column_missing", f"The file {self.path.name} has no column {heading!r}.")
        places = [header.index(plain_heading(heading)) for heading in headings]
        for _, row in read.rows:
            yield tuple(row[place].strip() if place < len(row) else "" for place in places)

    def heading_of(self, field: str) -> str | None:
        """Return this file's heading for a field, None when it has none."""
        read = self._read()
        places = read.layout.places.get(field)
        return read.header[places[0]] if places else None

    def _read(self) -> _Read:
        raw = self._bytes()
        text, notice = decode_text(raw, self.path.name)
        notices = [notice] if notice else []
        delimiter = self.delimiter
        if found := _SEP.fullmatch(text.partition("\n")[0].strip()):
            # The line by which Excel tells itself the delimiter; blank, so that lines keep their numbers.
            delimiter, text = found[1], "\n" + text.partition("\n")[2]
        lines = text.split("\n", _TITLE_LINES + 1)[:_TITLE_LINES]
        start, delimiter = self._find_header(lines, delimiter)
        if start and any(line.strip(_DELIMITERS + " \r") for line in lines[:start]):
            notices.append(f"{self.path.name} has {start} lines above its header; they are passed over.")
        rows = _rows(text.split("\n", start)[start] if start else text, delimiter)
        header = self._header(rows)
        layout = self._lay_out(header)
        return self._sort(rows, header, layout, start, notices, is_cut=not text.endswith("\n"))

    def _find_header(self, lines: list[str], delimiter: str) -> tuple[int, str]:
        """Return which line is the header, counted from 0, and the delimiter."""
        best = (0, 0, delimiter or _sniff(next((line for line in lines if line.strip()), "")))
        for place, line in enumerate(lines):
            for mark in delimiter or _DELIMITERS:
                try:
                    cells = next(csv.reader([line], delimiter=mark), [])
                except csv.Error:
                    continue
                score = score_header(cells, self.columns)
                if score > best[0]:
                    best = (score, place, mark)
            if best[0] >= 2:  # one heading may be a title
                break
        if not best[0]:
            first = next((place for place, line in enumerate(lines) if line.strip()), 0)
            return first, best[2]
        return best[1], best[2]

    def _header(self, rows: Iterator[_Row]) -> list[str]:
        first = next(rows, None)
        if first is None:
            raise SourceRefused("empty", f"The file {self.path.name} is empty; even the header row is missing.")
        _, row, fault = first
        if fault is not None:
            raise SourceRefused("format", f"The first line of {self.path.name} is not CSV: {fault}")
        header = [heading.strip().strip("\ufeff") for heading in row]
        if not any(header):
            raise SourceRefused("empty", f"The file {self.path.name} is empty; even the header row is missing.")
        named = [heading.casefold() for heading in header if heading]
        twice = sorted({heading for heading in named if named.count(heading) > 1})
        if twice:
            raise SourceRefused("column_twice", f"The file {self.path.name} has two columns named {twice[0]!r}.")
        return header

    def _lay_out(self, header: list[str]) -> Layout:
        layout = lay_out(header, self.columns)
        name = self.path.name
        if layout.missing:
            field, heading = layout.missing
            raise SourceRefused("column_missing", f"The file {name} has no column {heading!r} ({field}).")
        for field in _REQUIRED:
            if field not in layout.places:
                raise SourceRefused(
                    "column_missing", f"The file {name} has no column for {field}; name one under `columns`."
                )
        if self.has_names and not any(field in layout.places for field in _NAMES):
            raise SourceRefused("column_missing", f"The file {name} has no column for names; name one under `columns`.")
        return layout

    def _sort(
        self, found: Iterator[_Row], header: list[str], layout: Layout, start: int, notices: list[str], *, is_cut: bool
    ) -> _Read:
        """Divide what follows the header into people, faults and a footer."""
        read = _Read(header, [], [], notices, layout)
        last = max(max(layout.places[name]) for name in (*_REQUIRED, *_NAMES) if name in layout.places)
        footer: list[tuple[str, list[str]]] = []
        last_width = len(header)
        for line, row, fault in found:
            if fault is None and not any(cell.strip() for cell in row):
                continue
            place = f"line {line + start}"
            # A list of cards has such rows too: an id without a card.
            if fault is None and self.has_names and len(header) > 1 and sum(bool(cell.strip()) for cell in row) == 1:
                footer.append((place, row))
                continue
            for earlier, _ in footer:
                read.faults.append(Unreadable(earlier, f"This row has 1 cell, the header has {len(header)} columns."))
            footer.clear()
            last_width = len(row)
            if fault is not None:
                read.faults.append(Unreadable(place, fault))
            elif len(row) <= last or any(surplus.strip() for surplus in row[len(header) :]):
                # Short or long rows are shifted somewhere; none of their cells can be trusted.
                why = f"This row has {len(row)} columns, the header has {len(header)}."
                read.faults.append(Unreadable(place, why))
            else:
                read.rows.append((place, row))
        if is_cut and (last_width < len(header) or (footer and not _FOOTER.match(footer[-1][1][0]))):
            raise SourceRefused("short", f"The file {self.path.name} ends inside its last line; it is not complete.")
        if footer:
            notices.append(f"{self.path.name} ends with a line that is no person; it is passed over.")
        if not read.rows and not read.faults:
            raise SourceRefused("short", f"The file {self.path.name} has a header and no rows.")
        return read

    def _bytes(self) -> bytes:
        try:
            before = self.path.stat()
            if before.st_size > MAX_FILE_BYTES:
                raise SourceRefused(
                    "too_large", f"The file {self.path.name} is larger than {MAX_FILE_BYTES >> 20} MiB."
                )
            raw = self.path.read_bytes()
            if not raw.endswith((b"\n", b"\n\0")):
                # Whoever writes it may be in the middle of a line.
                self.pause(_STEADY_SECONDS)
            after = self.path.stat()
        except FileNotFoundError:
            raise SourceRefused(
                "object_missing", f"There is no file {self.path}; check `path` and the export."
            ) from None
        except PermissionError:
            raise SourceRefused("refused", f"The file {self.path} may not be read; check its owner and mode.") from None
        except OSError as error:
            raise SourceUnreachable(f"The file {self.path} cannot be read ({error.strerror}).") from None
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(raw) != after.st_size:
            raise SourceRefused("short", f"The file {self.path.name} is being written; it is read again later.")
        return raw


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
    columns = options.columns(tuple(HEADINGS))
    delimiter = options.text("delimiter", "")
    if len(delimiter) > 1:
        options.problem("delimiter", "must be one character")
    return CsvFile(
        path=options.base / path,
        columns=columns,
        delimiter=delimiter[:1],
        role=options.text("role", "student", ROLES),
        cards=options.encoding(),
        capabilities=options.capabilities(),
        empty=options.empty_words(),
        has_names=options.has_names,
    )
