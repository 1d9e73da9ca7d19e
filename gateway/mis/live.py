"""What connectors to a live service have in common: people out of nested records, tests of a source, fields seen.

A kind says where its pages are and what its records mean; everything about cards, names, bounds and counts is here. A
record that cannot be used costs that record. A list counts as complete only when its pages ended as they should and
agree with the service's own count; a list that is short refuses the read, so that nobody is taken as having left.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

from gateway.config import is_loopback
from gateway.errors import BadRecord, SourceRefused, SourceUnreachable
from gateway.mis.base import (
    Capabilities,
    CardClaim,
    Checkpoint,
    CheckResult,
    Complete,
    Ended,
    FeedItem,
    FieldSeen,
    Gone,
    Notice,
    PersonFields,
    Record,
    Unreadable,
)
from gateway.mis.cells import clean_id, clean_text, plain_number, read_date
from gateway.mis.changes import NEVER, Newest, WholeOnly, read_http_date, read_instant, refuse_unasked
from gateway.mis.fields import MOST_PATHS, flatten
from gateway.mis.http import PATIENCE_SECONDS, Refused, Transport, text_of
from gateway.mis.options import CardReader, Options
from gateway.mis.paths import Path, find_values, parse_path
from gateway.mis.summary import failed, summarise
from gateway.mis.table import MAX_CARDS, MAX_EMAIL, MAX_NAME, see_fields

EMPTY = frozenset({"", "null", "none", "n/a"})
_MOST_DOUBLED = 10


@dataclass(frozen=True, slots=True)
class Person:
    """What a kind makes of one upstream record, before anything is checked; texts as they came.

    Attributes:
        gone: why the service says that this person has left, empty where it does not.
        source: the record itself, for the card paths.
        changed: when the service says that the record changed last.
    """

    role: str
    person_key: str
    stable_id: str
    given_name: str
    family_name: str
    source: Mapping[str, Any]
    year: str = ""
    form: str = ""
    house: str = ""
    department: str = ""
    birth_date: str = ""
    email: str = ""
    starts_on: str = ""
    ends_on: str = ""
    groups: tuple[str, ...] | None = None
    gone: str = ""
    changed: datetime | None = None


class Service(Protocol):
    """What a kind brings: its lists, their pages, and how many rows each should have."""

    transport: Transport
    exploring: bool

    @property
    def lists(self) -> tuple[str, ...]: ...

    def prepare(self) -> Iterator[Notice]:
        """Look whether the school may be read at all, before anything is."""
        ...

    def pages(self, name: str) -> Iterator[list[Person]]:
        """Return the people of a list, page by page; ends only where the service says that it ends."""
        ...

    def changes(self, name: str, since: datetime) -> Iterator[list[Person]]:
        """Return whoever changed since then, page by page, and whoever was deleted as gone.

        Raises:
            WholeOnly: the service does not tell this.
        """
        ...

    def expected(self, name: str) -> int | None:
        """Return the service's own count of what was read of a list last, None where it has none."""
        ...

    def says_cards(self) -> bool:
        """Return whether what was read could hold cards; False where the service refused that part."""
        ...


@dataclass(slots=True)
class LiveSource:
    """A connector over a live service."""

    service: Service
    cards: CardReader
    paths: list[Path]
    settings: Capabilities
    transports: tuple[Transport, ...]
    takes_changes: bool = True
    _tells_changes: bool = False

    @property
    def capabilities(self) -> Capabilities:
        """Return what the source can do; whether it tells changes is known once it was asked (check, fetch)."""
        return replace(self.settings, incremental=self._tells_changes, deletions=self._tells_changes)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        try:
            yield
        finally:
            for transport in self.transports:
                transport.close()

    def check(self) -> CheckResult:
        """Test the source live; never raises for a source that fails."""
        items: list[FeedItem] = []
        sample: list[Mapping[str, str]] = []
        try:
            with self._connected():
                items += self.service.prepare()
                for name in self.service.lists:
                    first = next(self.service.pages(name), [])
                    for number, person in enumerate(first):
                        items += self._items(person, f"{name} {number + 1}")
                how = self._ask_for_changes()
            sample = [_shown(item) for item in items if isinstance(item, Record)]
        except (SourceRefused, SourceUnreachable) as error:
            return failed(error)
        detail, warnings = summarise(items)
        if self.paths and not any(item.cards for item in items if isinstance(item, Record)):
            warnings.append(("no_cards", "No card was found under card_paths; mis discover shows the fields."))
        return CheckResult(
            None, f"It answers; of the first page: {detail} {how}", tuple(warnings), sample=tuple(sample[:5])
        )

    def discover(self) -> Iterator[FieldSeen]:
        """Return the fields of the first page of each list, as they can be written into card_paths."""
        with self._connected():
            # Every part of a record that may be asked for, not only those that are needed.
            self.service.exploring = True
            list(self.service.prepare())
            firsts = {name: next(self.service.pages(name), []) for name in self.service.lists}
        for name, first in firsts.items():
            rows = [flatten(person.source) for person in first]
            paths = sorted({path for row in rows for path in row})[:MOST_PATHS]
            cells = [(f"{name} {number}", [row.get(path, "") for path in paths]) for number, row in enumerate(rows)]
            yield from see_fields(paths, cells, name, self.cards)

    def fetch(self, lists: Collection[str], cursors: Mapping[str, str]) -> Iterator[FeedItem]:
        """Read the changes of every list that has a position and whose service tells them, the others whole."""
        with self._connected():
            yield from self.service.prepare()
            # The earliest position first: what a service says of all lists at once is then asked for once.
            for name in sorted(self.service.lists, key=lambda name: cursors.get(name, "")):
                if not lists or name in lists:
                    since = read_instant(cursors.get(name)) if self.takes_changes else None
                    yield from self._list(name) if since is None else self._changes(name, since)

    def _ask_for_changes(self) -> str:
        """Ask the service what changed in the far future, which is nothing; return what that says in a sentence."""
        self._tells_changes = False
        if not self.takes_changes:
            return "It is read whole each time, as its settings say."
        try:
            for name in self.service.lists:
                for person in itertools.chain.from_iterable(self.service.changes(name, NEVER)):
                    refuse_unasked(person.changed, NEVER)
        except WholeOnly as error:
            return str(error)
        self._tells_changes = True
        return "It tells what changed and who was deleted."

    def _changes(self, name: str, since: datetime) -> Iterator[FeedItem]:
        # Nothing is passed on before the end: until then, the service may turn out to tell something else.
        newest = Newest()
        people: dict[str, Person] = {}
        try:
            for page in self.service.changes(name, since):
                newest.begun = newest.begun or read_http_date(self.service.transport.served)
                for person in page:
                    refuse_unasked(person.changed, since)
                    newest.see(person.changed)
                    key = person.stable_id or f"key {person.person_key}"
                    before = people.get(key)
                    if before is None or (before.changed or since) <= (person.changed or since):
                        people[key] = person
        except WholeOnly as error:
            self._tells_changes = False
            yield Notice(str(error))
            yield from self._list(name)
            return
        self._tells_changes = True
        for number, person in enumerate(people.values(), 1):
            yield from self._items(person, f"changed {name} {number}")
        yield from self._cards_refused(name)
        if (position := newest.position(since)) is not None:
            yield Checkpoint(name, position)
        yield Ended(name)

    def _list(self, name: str) -> Iterator[FeedItem]:
        seen: set[str] = set()
        newest = Newest()
        doubled = number = 0
        for page in self.service.pages(name):
            newest.begun = newest.begun or read_http_date(self.service.transport.served)
            for person in page:
                number += 1
                newest.see(person.changed)
                key = person.stable_id or person.person_key
                if key and key in seen:
                    doubled += 1
                    continue
                seen.add(key)
                yield from self._items(person, f"{name} {number}")
        expected = self.service.expected(name)
        if expected is not None and expected != len(seen):
            raise SourceRefused(
                "short",
                f"The list {name} has {len(seen)} people, its own count says {expected}; it is read again next time.",
            )
        if doubled:
            yield Notice(f"{doubled} rows of {name} came twice; each was taken once.")
        yield from self._cards_refused(name)
        if self.takes_changes and (position := newest.position()) is not None:
            yield Checkpoint(name, position)
        yield Complete(expected, name)

    def _cards_refused(self, name: str) -> Iterator[Notice]:
        if not self.service.says_cards():
            yield Notice(f"The source does not let us read the fields of cards of {name}; cards stay as they are.")

    def _items(self, person: Person, place: str) -> Iterator[FeedItem]:
        stable_id = clean_id(person.stable_id, EMPTY) or None
        person_key = clean_id(person.person_key, EMPTY) or stable_id
        if person_key is None:
            yield Unreadable(place, "This record has no id.")
            return
        if person.gone:
            yield Gone(person.role, person_key, place, person.gone, stable_id)
            return
        given, family = clean_text(person.given_name, EMPTY), clean_text(person.family_name, EMPTY)
        if not (given or family) or max(len(given), len(family)) > MAX_NAME:
            yield Unreadable(place, "This record has no name that can be used.", person_key)
            return
        cards: tuple[CardClaim, ...] | None = None
        try:
            cards = self._cards(person)
        except BadRecord as error:
            yield Unreadable(place, f"The card in this record cannot be used: {error}", person_key)

        def text(value: str) -> str | None:
            return clean_text(value, EMPTY)[:MAX_NAME] or None

        fields = PersonFields(
            person.role,
            given,
            family,
            None if person.groups is None else tuple(sorted({name for one in person.groups if (name := text(one))})),
            year=text(person.year),
            form=text(person.form),
            house=text(person.house),
            department=text(person.department),
            birth_date=read_date(person.birth_date[:10]),
            email=clean_text(person.email, EMPTY).casefold()[:MAX_EMAIL] or None,
            starts_on=read_date(person.starts_on[:10]),
            ends_on=read_date(person.ends_on[:10]),
        )
        yield Record(person_key, fields, cards, place, stable_id)

    def _cards(self, person: Person) -> tuple[CardClaim, ...] | None:
        if not self.paths or not self.service.says_cards():
            return None
        texts = find_values(person.source, self.paths, person.role)[:MAX_CARDS]
        claims = {claim.key: claim for text in texts for claim in [self.cards.claim(plain_number(text))]}
        return tuple(claims[key] for key in sorted(claims))


def live_source(options: Options, service: Service, paths: list[Path], transports: tuple[Transport, ...]) -> LiveSource:
    """Return the source over a service, with the settings that all kinds have."""
    reads = options.text("frequent_reads", "changes", ("changes", "whole"))
    return LiveSource(service, options.encoding(), paths, options.capabilities(), transports, reads == "changes")


def read_transport(options: Options, key: str, name: str, headers: Callable[[], Mapping[str, str]]) -> Transport:
    """Read the address of a service with `ca_file` and `patience_s` beside it."""
    address = options.text(key)
    parts = urlsplit(address)
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    if address and not (is_safe and parts.hostname and not parts.username and not parts.query):
        options.problem(key, 'must be an address such as "https://api.example/v1"; without TLS only on this machine')
    ca_file = options.text("ca_file", "")
    patience = options.number("patience_s", int(PATIENCE_SECONDS), 1, 600)
    trusted = options.base / ca_file if ca_file else None
    return Transport(address.rstrip("/") + "/", headers, name, trusted, float(patience))


def read_secret(options: Options, key: str) -> Callable[[], str]:
    """Read the name of a file that holds a token or a password; the file itself is read when it is needed."""
    path = options.base / options.text(key)

    def secret() -> str:
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise SourceRefused("refused", f"The file {path} ({key}) cannot be read; write it.") from None

    return secret


def read_card_paths(options: Options) -> list[Path]:
    """Read `card_paths`; none is fine, since discovery needs none."""
    paths = []
    for words in options.texts("card_paths"):
        try:
            paths.append(parse_path(words))
        except ValueError as error:
            options.problem("card_paths", str(error))
    return paths


def all_pages(first: Any, follow: Any, name: str, *, most: int = 20_000) -> Iterator[Any]:
    """Return page after page until `follow(page)` says None.

    Raises:
        Refused: `shape`, the pages lead in a circle or do not end.
    """
    page, seen = first, {first.url}
    for _ in range(most):
        yield page
        onward = follow(page)
        if onward is None:
            return
        if onward.url in seen:
            break
        seen.add(onward.url)
        page = onward
    raise Refused("shape", f"The pages of {name} lead in a circle or do not end; nothing was taken from them.")


def dig(record: Mapping[str, Any], *steps: str) -> str:
    """Return a text deep inside a record, empty where there is none; a wrapping `data` needs no step of its own."""
    value: Any = record
    for step in steps:
        if isinstance(value, Mapping) and step not in value and isinstance(value.get("data"), Mapping):
            value = value["data"]
        if not isinstance(value, Mapping):
            return ""
        value = value.get(step)
    if isinstance(value, Mapping) and "date" in value:
        value = value["date"]
    return text_of(value)


def _shown(record: Record) -> dict[str, str]:
    shown = {"person key": record.person_key, "name": record.fields.name, "role": record.role}
    for name in ("year", "form", "email"):
        if value := getattr(record.fields, name):
            shown[name] = value
    if record.cards:
        shown["cards"] = ", ".join(f"...{card.tail}" for card in record.cards)
    return shown
