"""The settings of a source, and the table of kinds that turns them into its connector."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.cards.encodings import check_encoding, decode
from gateway.cards.identity import TECHNOLOGIES, card_key
from gateway.errors import BadCardNumber, BadRecord, FatalError
from gateway.mis.base import Capabilities, CardClaim, Connector
from gateway.mis.cells import EMPTY_WORDS


@dataclass(frozen=True, slots=True)
class CardReader:
    """Turns the text of a source's card column into a card key.

    Attributes:
        technology: of the cards, as for a reader (cards.identity.TECHNOLOGIES); empty leaves it to the encoding.
        pattern: regular expression for the whole cell; its first group, when it has one, is the number.
    """

    site_key: bytes
    encoding: str
    technology: str = ""
    pattern: str = ""

    def claim(self, text: str) -> CardClaim:
        """Read one printed card number.

        Raises:
            BadRecord: not a number in this encoding, or one that can never identify a card.
        """
        if self.pattern:
            found = re.fullmatch(self.pattern, text.strip())
            if not found:
                raise BadRecord("This card number does not have the form of card_pattern.")
            text = (found[1] or "") if found.re.groups else found[0]
        try:
            number = decode(text, self.encoding, self.technology)
        except BadCardNumber as error:
            raise BadRecord(str(error)) from None
        if number.is_random:
            raise BadRecord("A 4-byte UID that starts with 08 is random at each tap and cannot be stored.")
        if not any(number.value) or number.value == b"\xff" * len(number.value):
            raise BadRecord("A card number of only zeros or only ones is a placeholder, not a card.")
        return CardClaim(card_key(self.site_key, number).hex(), number.tail, number.projection)


@dataclass(slots=True)
class Options:
    """The settings of one source while they are read; what is left over is unknown.

    Args:
        problem: called with the key and what is wrong with it.
        has_names: whether people come from this source; one that brings only cards needs no names.
        base: the folder that relative paths start from.
    """

    values: Mapping[str, Any]
    base: Path
    site_key: bytes
    problem: Callable[[str, str], None]
    has_names: bool = True
    known_keys: set[str] = field(default_factory=set)

    def text(self, key: str, default: str | None = None, one_of: tuple[str, ...] = ()) -> str:
        self.known_keys.add(key)
        value = self.values.get(key, default)
        if not isinstance(value, str):
            self.problem(key, "is missing; it has no default" if value is None else "must be a text in quotes")
            return default or ""
        if one_of and value not in one_of:
            self.problem(key, f"must be one of {', '.join(one_of)}")
        return value

    def encoding(self, key: str = "card_encoding", default: str = "hex-msb") -> CardReader:
        name = self.text(key, default)
        try:
            check_encoding(name)
        except BadCardNumber as error:
            self.problem(key, str(error))
        technology = self.text("card_technology", "", ("", *TECHNOLOGIES))
        pattern = self.text("card_pattern", "")
        try:
            re.compile(pattern)
        except re.error as error:
            self.problem("card_pattern", f"is not a regular expression ({error})")
            pattern = ""
        return CardReader(self.site_key, name, technology, pattern)

    def number(self, key: str, default: int, least: int, most: int) -> int:
        self.known_keys.add(key)
        value = self.values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.problem(key, f"must be a whole number from {least} to {most}")
            return default
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        self.known_keys.add(key)
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.problem(key, 'must be a list of texts such as ["a", "b"]')
            return ()
        return tuple(value)

    def columns(self, known: Collection[str], key: str = "columns") -> dict[str, tuple[str, ...]]:
        """Read a table of our fields and the source's names for them; a field may have several."""
        self.known_keys.add(key)
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            self.problem(key, 'must be a table, such as { person_key = "Student ID" }')
            return {}
        columns = {}
        for name, some in value.items():
            headings = some if isinstance(some, list) else [some]
            if name not in known:
                self.problem(key, f"{name!r} is not a field; known are {', '.join(known)}")
            elif not headings or not all(isinstance(item, str) and item for item in headings):
                self.problem(key, f'{name} must be a heading in quotes, or a list of them such as ["Card", "Card 2"]')
            else:
                columns[name] = tuple(headings)
        return columns

    def empty_words(self) -> frozenset[str]:
        """Read the words that stand for an empty cell, beside the usual ones."""
        return frozenset(EMPTY_WORDS) | frozenset(word.casefold() for word in self.texts("empty_words"))

    def capabilities(self) -> Capabilities:
        """Read what a source without rights of its own can tell: whether staff who are missing have left."""
        leavers = self.text("staff_leavers", "keep", ("keep", "remove"))
        return Capabilities(removes_staff=leavers == "remove")

    def skip(self, *keys: str) -> None:
        """Leave these keys to another reader of the same settings."""
        self.known_keys.update(keys)

    def finish(self) -> None:
        for key in self.values:
            if key not in self.known_keys:
                self.problem(
                    key, f"is not known for this kind of source; known are {', '.join(sorted(self.known_keys))}"
                )


KINDS: dict[str, str] = {
    "agent": "gateway.mis.agent",
    "csv": "gateway.mis.csv_file",
    "oneroster-csv": "gateway.mis.oneroster_csv",
    "gg4l": "gateway.mis.gg4l",
    "isams": "gateway.mis.isams",
    "managebac": "gateway.mis.managebac",
    "oneroster": "gateway.mis.oneroster",
    "sql": "gateway.mis.sql_view",
    "wonde": "gateway.mis.wonde",
}


def build_connector(kind: str, options: Options) -> Connector:
    """Build the connector of a kind; problems with its settings go to `options.problem`.

    Raises:
        FatalError: this release has no connector of that kind.
    """
    module = KINDS.get(kind)
    if module is None:
        raise FatalError(f"There is no connector for {kind!r} yet; choose one of: {', '.join(KINDS)}.")
    connector: Connector = importlib.import_module(module).build(options)
    options.finish()
    return connector
