"""Wonde: people and cards of a school that has approved us.

    kind = "wonde"
    base_url = "https://api.wonde.com/v1.0"
    school_id = "A1930499544"
    token_file = "/etc/tapgate-hub/wonde.token"
    card_paths = ["identifiers.data.card_number"]   # mis discover shows what there is

The wrong region answers with an empty list instead of an error, so the school's own region is compared before anything
is read. A part that the school has not granted refuses the whole request; it is left out, and when it was the part that
holds the cards, the read says nothing about cards.

Between the whole reads only what changed is asked for, and the deletions beside it. Whether a change of a part alone,
such as a card, dates its record is published nowhere: where it does not, it is found at night, or set
`frequent_reads = "whole"`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

from gateway.mis.base import Notice
from gateway.mis.changes import NEVER, REFUSALS, WholeOnly, read_instant
from gateway.mis.http import Answer, Refused, Transport, rows_of, text_of
from gateway.mis.live import (
    LiveSource,
    Person,
    all_pages,
    dig,
    live_source,
    read_card_paths,
    read_secret,
    read_transport,
)
from gateway.mis.options import Options
from gateway.mis.paths import Path

_PER_PAGE = 200
_MOST_NAMED = 50
# How deletions name the kind of a record is published nowhere; other words are not looked at before the whole read.
_DELETED_AS = {"students": ("student", "students"), "staff": ("employee", "employees")}
_NAME = "Wonde"
_ENTITIES = {"students": "students", "staff": "employees"}
_INCLUDES = {
    "students": ("education_details", "year", "registration", "house", "contact_details"),
    "staff": ("employment_details", "contact_details"),
}
# The includes of Wonde that a first step of a card path may be; any other first step is a field of the record itself.
_KNOWN_INCLUDES = frozenset(
    {"identifiers", "extended_details", "education_details", "user_defined_fields", "contact_details", "campus"}
)


@dataclass(slots=True)
class Wonde:
    """One school at Wonde."""

    transport: Transport
    school: str
    paths: list[Path]
    lists: tuple[str, ...] = ("students", "staff")
    exploring: bool = False
    _refused: set[str] = field(default_factory=set)
    _deleted: tuple[datetime, list[dict[str, Any]]] | None = None

    def prepare(self) -> Iterator[Notice]:
        """Look whether the school has approved us and lies in this region.

        Raises:
            Refused: `not_approved`, `revoked`, `region_wrong`, or as every request.
        """
        self._deleted = None
        try:
            answer = self.transport.get(f"schools/{self.school}")
        except Refused as error:
            if error.status not in {403, 404}:
                raise
            raise self._why_closed() from None
        school = answer.body.get("data") if isinstance(answer.body, dict) else None
        if not isinstance(school, dict):
            raise Refused("shape", f"{_NAME} answers without the school; it may have changed its interface.")
        domain = dig(school, "region", "domain")
        host = urlsplit(self.transport.base).hostname or ""
        if domain and urlsplit(f"//{domain}").hostname != host:
            raise Refused(
                "region_wrong",
                f"This school is served by {domain}, not by {host}; correct base_url, or nobody is found.",
            )
        yield from ()

    def _why_closed(self) -> Refused:
        for word, text in (
            ("revoked", "The school has revoked our access at Wonde; ask it to approve us again."),
            ("declined", "The school has declined our request at Wonde; ask it why."),
        ):
            if self._is_among(word):
                return Refused("revoked" if word == "revoked" else "not_approved", text)
        return Refused(
            "not_approved", "The school has not approved us at Wonde yet; nothing is read before it does. Ask it to."
        )

    def _is_among(self, word: str) -> bool:
        try:
            rows = rows_of(self.transport.get(f"schools/{word}"), "data", _NAME)
        except Refused:
            return False
        return any(text_of(row.get("id")) == self.school for row in rows)

    def pages(self, name: str) -> Iterator[list[Person]]:
        for page in all_pages(self._first(name), self._next, f"{_NAME} {name}"):
            yield [self._person(name, row) for row in rows_of(page, "data", _NAME)]

    def changes(self, name: str, since: datetime) -> Iterator[list[Person]]:
        """Return whoever changed, whoever was deleted, and whoever came back although nothing of them changed."""
        deletions = self._deletions(name, since)
        seen: set[str] = set()
        try:
            first = self._first(name, {"updated_after": _as_time(since)})
            for page in all_pages(first, self._next, f"{_NAME} {name}"):
                people = [self._person(name, row) for row in rows_of(page, "data", _NAME)]
                seen.update(person.person_key for person in people)
                yield people
        except Refused as error:
            if error.status not in REFUSALS:
                raise
            raise WholeOnly(f"{_NAME} refuses to tell which {name} changed, so they are read whole.") from None
        back = {}
        for row in deletions:
            key, at = text_of(row.get("mis_id")), _changed(row)
            if not _is_back(row):
                stable_id = "" if key else text_of(row.get("id"))
                yield [Person(_role(name), key, stable_id, "", "", row, gone="deleted", changed=at)]
            elif key and key not in seen:
                back[key] = at
        for person in self._named(name, sorted(back)):
            yield [replace(person, changed=back[person.person_key])]

    def _deletions(self, name: str, since: datetime) -> list[dict[str, Any]]:
        if self._deleted is None or since < self._deleted[0]:
            query: dict[str, str | int] = {"updated_after": _as_time(since), "per_page": _PER_PAGE}
            try:
                pages = all_pages(
                    self.transport.get(f"schools/{self.school}/deletions", query), self._next, f"{_NAME} deletions"
                )
                rows = [row for page in pages for row in rows_of(page, "data", _NAME)]
            except Refused as error:
                if error.status not in REFUSALS:
                    raise
                raise WholeOnly(
                    f"The school does not let us read its deletions at {_NAME}, so {name} are read whole; ask it to "
                    "grant them."
                ) from None
            self._deleted = since, rows
        words = _DELETED_AS[name]
        rows = [row for row in self._deleted[1] if text_of(row.get("type")).casefold() in words]
        return [row for row in rows if (at := _changed(row)) is None or at >= since or since == NEVER]

    def _named(self, name: str, keys: list[str]) -> Iterator[Person]:
        for start in range(0, len(keys), _MOST_NAMED):
            some = keys[start : start + _MOST_NAMED]
            first = self._first(name, {"only_mis_ids": ",".join(some)})
            for page in all_pages(first, self._next, f"{_NAME} {name}"):
                people = [self._person(name, row) for row in rows_of(page, "data", _NAME)]
                yield from (person for person in people if person.person_key in some)

    def _first(self, name: str, question: Mapping[str, str] | None = None) -> Answer:
        # One part after another is left out until the request is accepted; which one is meant the answer may not say.
        left = [item for item in self._includes_of(name) if item not in self._refused]
        while True:
            query: dict[str, str | int] = {"per_page": _PER_PAGE, "cursor": "true", **(question or {})}
            if left:
                query["include"] = ",".join(left)
            try:
                return self.transport.get(f"schools/{self.school}/{_ENTITIES[name]}", query)
            except Refused as error:
                if error.status != 400 or not left:
                    raise
                culprit = self._culprit(name, left)
                if culprit is None and question:
                    # Not a part of the record is refused, but the question.
                    raise
                self._refused.add(culprit or left[-1])
                left = [item for item in left if item not in self._refused]

    def _culprit(self, name: str, left: list[str]) -> str | None:
        for item in left:
            query: dict[str, str | int] = {"per_page": 1, "include": item}
            try:
                self.transport.get(f"schools/{self.school}/{_ENTITIES[name]}", query)
            except Refused as error:
                if error.status == 400:
                    return item
                raise
        return None

    def _includes_of(self, name: str) -> list[str]:
        cards = [path.steps[0][0] for path in self.paths if path.role in {None, _role(name)}]
        if self.exploring:
            cards += sorted(_KNOWN_INCLUDES)
        return list(dict.fromkeys([*(item for item in cards if item in _KNOWN_INCLUDES), *_INCLUDES[name]]))

    def _next(self, page: Answer) -> Answer | None:
        meta = page.body.get("meta") if isinstance(page.body, dict) else None
        pagination = meta.get("pagination") if isinstance(meta, dict) else None
        if not isinstance(pagination, dict):
            # Fewer than a page: no pagination object at all.
            return None
        onward = pagination.get("next")
        if isinstance(onward, str) and onward:
            return self.transport.get(onward)
        if pagination.get("more") is True:
            raise Refused("short", f"{_NAME} says that more follows and not where; it is read again next time.")
        return None

    def expected(self, name: str) -> int | None:
        entity = _ENTITIES[name]
        try:
            answer = self.transport.get(f"schools/{self.school}/counts", {"include": entity})
        except Refused as error:
            if error.status in {400, 403, 404}:
                return None
            raise
        count = dig(answer.body, "data", entity, "count") if isinstance(answer.body, dict) else ""
        return int(count) if count.isdigit() else None

    def says_cards(self) -> bool:
        return not any(path.steps[0][0] in self._refused for path in self.paths)

    def _person(self, name: str, row: Mapping[str, Any]) -> Person:
        is_gone = name == "staff" and _has_left(row)
        return Person(
            role=_role(name),
            person_key=text_of(row.get("mis_id")),
            stable_id=text_of(row.get("upi")) or text_of(row.get("id")),
            given_name=text_of(row.get("forename")),
            family_name=text_of(row.get("surname")),
            source=row,
            year=dig(row, "year", "name") or dig(row, "education_details", "current_nc_year"),
            form=dig(row, "registration", "name"),
            house=dig(row, "house", "name"),
            birth_date=dig(row, "date_of_birth"),
            email=dig(row, "contact_details", "emails", "email") or dig(row, "contact_details", "emails", "work"),
            starts_on=dig(row, "employment_details", "employment_start_date"),
            ends_on=dig(row, "employment_details", "employment_end_date"),
            gone="status" if is_gone else "",
            changed=read_instant(row.get("updated_at")),
        )


def _has_left(row: Mapping[str, Any]) -> bool:
    details = row.get("employment_details")
    data = details.get("data") if isinstance(details, Mapping) else None
    return isinstance(data, Mapping) and data.get("current") is False


def _as_time(since: datetime) -> str:
    return since.strftime("%Y-%m-%d %H:%M:%S")


def _changed(row: Mapping[str, Any]) -> datetime | None:
    dates = (read_instant(row.get("deleted_at")), read_instant(row.get("restored_at")))
    return max((at for at in dates if at is not None), default=None)


def _is_back(row: Mapping[str, Any]) -> bool:
    deleted, restored = read_instant(row.get("deleted_at")), read_instant(row.get("restored_at"))
    return restored is not None and (deleted is None or restored >= deleted)


def _role(name: str) -> str:
    return "student" if name == "students" else "staff"


def build(options: Options) -> LiveSource:
    """Read the settings of a Wonde source; see the head of this file."""
    paths = read_card_paths(options)
    token = read_secret(options, "token_file")
    transport = read_transport(options, "base_url", _NAME, lambda: {"Authorization": f"Bearer {token()}"})
    service = Wonde(transport, quote(options.text("school_id"), safe=""), paths)
    return live_source(options, service, paths, (transport,))
