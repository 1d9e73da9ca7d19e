"""Compares names as people do: without accents, case, or the order of the parts; pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

# Letters that Unicode does not take apart, as registers and keyboards without them write them.
_PLAIN: Mapping[int, str] = str.maketrans(
    {"ø": "o", "æ": "ae", "œ": "oe", "đ": "d", "ł": "l", "ð": "d", "þ": "th", "\u0131": "i"}
)
# Apostrophes and hyphens in all the forms that keyboards and spreadsheets make of them.
_JOINTS = dict.fromkeys(map(ord, "'`-.\u00b4\u2018\u2019\u02bc\u2010\u2011\u2013"), " ")


def fold(text: str) -> str:
    """Return a text for comparison and search: lower case, no accents, single spaces."""
    text = text.casefold()
    if not text.isascii():
        letters = unicodedata.normalize("NFKD", text)
        text = "".join(letter for letter in letters if not unicodedata.combining(letter)).translate(_PLAIN).casefold()
    return " ".join(text.split())


def sort_name(given_name: str, family_name: str) -> str:
    """Return the folded name by which people are searched and put in order, the family name first."""
    return fold(f"{family_name} {given_name}")


def parts(name: str) -> str:
    """Return one name folded for comparison with another source's spelling: no hyphens, apostrophes or damage."""
    return fold(_repaired(name).translate(_JOINTS))


def search_words(text: str) -> list[str]:
    """Return the folded words of a text in its order, without its marks: of `O'Brien (7B)` o, brien and 7b."""
    letters = (" " if unicodedata.category(letter)[0] in "PS" else letter for letter in parts(text))
    return "".join(letters).split()


def search_text(*texts: str | None) -> str:
    """Return the words by which somebody is found, a space before each.

    What marks join counts as its parts and as one word, so O'Brien is found as `brien` and as `obrien`.
    """
    words: dict[str, None] = {}
    for piece in (piece for text in texts if text for piece in text.split()):
        found = search_words(piece)
        words |= dict.fromkeys((*found, "".join(found)))
    words.pop("", None)
    return "".join(f" {word}" for word in words)


def name_key(given_name: str, family_name: str) -> str:
    """Return what two spellings of one name have in common."""
    return " ".join(sorted(f"{parts(given_name)} {parts(family_name)}".split()))


def _repaired(name: str) -> str:
    # UTF-8 that was once read as Windows-1252: "JosÃ©" is "José".
    if name.isascii():
        return name
    for encoding in ("cp1252", "latin-1"):
        try:
            return name.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
    return name
