"""Cleans the cells of an export: spreadsheet guards, words for nothing, invisible characters, number forms; pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from datetime import date, timedelta

from gateway.errors import BadRecord
from gateway.mis.base import CardClaim

EMPTY_WORDS = ("null", "n/a", "#n/a", "na", "nil", "none", "-", "--", "(null)", "(blank)", "undefined")
_INVISIBLE = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_SPACES = re.compile("[\\s\u00a0\u2007\u202f]+")
_FLOAT = re.compile(r"(\d+)\.0+")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+")
_ROUNDED = re.compile(r"\d+(?:[.,]\d+)?[eE]\+?\d+")
_LIST_MARKS = re.compile(r"[;,/|\n\r]+")
_RFID = re.compile(r"\{\s*([^:{}]{1,40})\s*:\s*([^{}]{1,80})\s*\}")
_EXCEL_EPOCH = date(1899, 12, 30)
_EXCEL_SERIALS = range(10_000, 80_000)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]


def unguard(cell: str) -> str:
    """Take off what spreadsheets put around a text to keep its zeros: `="000123"` and `'000123`."""
    text = cell.strip().strip("\ufeff")
    if text.startswith('="') and text.endswith('"') and len(text) > 2:  # more than the guard
        text = text[2:-1].replace('""', '"')
        return unguard(text) if text.startswith("=") else text.strip('"').strip()
    if text.startswith("'") and len(text) > 1 and text[1:2].isalnum():
        return text[1:].rstrip("'") if text[1:2].isdigit() else text
    return text


def is_invisible(cell: str) -> bool:
    """Return whether a cell holds characters that nobody sees."""
    return not cell.isascii() and (_INVISIBLE.search(cell) is not None or "\u00a0" in cell or "\u202f" in cell)


def clean_text(cell: str, empty: Collection[str]) -> str:
    """Return a name or another text: no invisible characters, single spaces, empty for a word that means nothing."""
    text = unguard(cell)
    if not text.isascii():
        text = _INVISIBLE.sub("", text)
    text = _SPACES.sub(" ", text).strip()
    return "" if text.casefold() in empty else text


def clean_id(cell: str, empty: Collection[str]) -> str:
    """Return an id: as `clean_text`, and without the inner spaces that only a copy by hand brings."""
    text = clean_text(cell, empty)
    if is_invisible(cell):
        # An ordinary space may belong to an id; one that does not break a line never does.
        text = _INVISIBLE.sub("", unguard(cell)).replace("\u00a0", "").replace("\u202f", "").strip()
        text = "" if text.casefold() in empty else text
    if whole := _FLOAT.fullmatch(text):
        return whole[1]
    return text


def is_rounded(text: str) -> bool:
    """Return whether a spreadsheet has rounded a long number, as in `4.7E+08`: its last digits are gone."""
    return _ROUNDED.fullmatch(text.replace(" ", "")) is not None


def plain_number(text: str) -> str:
    """Return a number without thousands marks and without the `.0` of a float column."""
    text = text.strip().strip("'\"")
    if whole := _FLOAT.fullmatch(text):
        text = whole[1]
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "").replace(" ", "")
    return text


def split_cards(cell: str, empty: Collection[str], claim: Callable[[str], CardClaim], most: int) -> Sequence[CardClaim]:
    """Return the cards of a cell: one, or those of a list where every part is a card number.

    Args:
        claim: reads one number; BadRecord when it is none.
        most: of a longer list only the first ones are taken.

    Raises:
        BadRecord: the cell holds something else than card numbers; the text is `claim`'s for the first such part.
    """
    text = clean_text(cell.replace("\n", ";").replace("\r", ";"), empty)
    if not text:
        return []
    if found := _RFID.findall(text):
        return [claim(plain_number(number)) for _, number in found[:most]]
    whole = plain_number(text)
    if claims := _claims(claim, [whole]):
        return claims
    for parts in (_LIST_MARKS.split(text), text.split()):
        some = [plain_number(part) for part in parts if part.strip() and part.strip().casefold() not in empty]
        if len(some) > 1 and (claims := _claims(claim, some)):
            return claims[:most]
    rest = [plain_number(part) for part in text.split(";") if part.strip()] or [whole]
    return [claim(number) for number in rest[:most]]


def _claims(claim: Callable[[str], CardClaim], numbers: Sequence[str]) -> Sequence[CardClaim]:
    try:
        return [claim(number) for number in numbers]
    except BadRecord:
        return []


def read_date(text: str, *, day_first: bool = True) -> date | None:
    """Read a date as exports print it; None when it is none.

    Args:
        day_first: how `03/04/2026` is meant (see `is_day_first`).
    """
    text = text.strip()
    if text.isdigit() and len(text) == 5 and int(text) in _EXCEL_SERIALS:  # days since 1900
        return _EXCEL_EPOCH + timedelta(days=int(text))
    if iso := re.match(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?!\d)", text):
        return _date(int(iso[1]), int(iso[2]), int(iso[3]))
    if len(text) == 8 and text.isdigit():  # yyyymmdd
        return _date(int(text[:4]), int(text[4:6]), int(text[6:]))
    if named := re.match(r"(\d{1,2})[-\s/.]([A-Za-z]{3})[a-z]*[-\s/.,]+(\d{2,4})(?!\d)", text):
        month = named[2].casefold()
        return _date(_year(named[3]), _MONTHS.index(month) + 1, int(named[1])) if month in _MONTHS else None
    if plain := re.match(r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{2,4})(?!\d)", text):
        one, two, year = int(plain[1]), int(plain[2]), _year(plain[3])
        return _date(year, two, one) if day_first else _date(year, one, two)
    return None


def is_day_first(cells: Collection[str]) -> bool | None:
    """Return whether a column of dates has the day before the month, None when nothing in it tells."""
    pairs = [found for cell in cells if (found := re.match(r"\s*(\d{1,2})[-/.](\d{1,2})[-/.]\d{2,4}", cell))]
    if any(int(found[1]) > 12 for found in pairs):  # months
        return True
    if any(int(found[2]) > 12 for found in pairs):  # months
        return False
    return None


def _year(text: str) -> int:
    if len(text) > 2:  # two digits
        return int(text)
    return 1900 + int(text) if int(text) > 50 else 2000 + int(text)  # pupils and staff of today


def _date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None
