"""OneRoster 1.1 and 1.2 over REST: users with their cards.

    kind = "oneroster"
    service_url = "https://sis.example/ims/oneroster/v1p1"     # the whole address, as the provider gives it
    token_url = "https://sis.example/token"
    client_id = "tapgate"
    secret_file = "/etc/tapgate-hub/oneroster.secret"
    version = "1.1"                                             # or "1.2"
    collections = ["users"]                                     # or ["students", "teachers"]
    card_paths = ["userIds{type~rfid}.identifier"]

Providers end their lists in three ways: a Link to the next page, a total, an empty page. A short page ends nothing.
Between the whole reads only what changed is asked for; providers purge tombstones and do not date every change, so the
read at night is whole. With `frequent_reads = "whole"` every one is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from gateway.mis.base import PEOPLE_LIST, Notice
from gateway.mis.changes import REFUSALS, WholeOnly, read_instant, written
from gateway.mis.http import Answer, Refused, Transport, refuse_short, text_of
from gateway.mis.live import LiveSource, Person, all_pages, live_source, read_card_paths, read_transport
from gateway.mis.mapping import is_gone, is_yes, read_role
from gateway.mis.oauth import ClientCredentials, read_client, with_one_more_token
from gateway.mis.options import Options

_NAME = "The OneRoster service"
_LIMIT = 1000
_NEXT = re.compile(r'<?([^<>;,\s]+)>?\s*;[^,]*rel="?next"?', re.IGNORECASE)
_LISTS = {"users": PEOPLE_LIST, "students": "students", "teachers": "staff"}
_COLLECTIONS = {name: collection for collection, name in _LISTS.items()}
_ROLES = {"aide": "staff", "principal": "staff", "proctor": "staff", "relative": "contact", "parent": "contact"}


@dataclass(slots=True)
class OneRoster:
    """One provider."""

    transport: Transport
    client: ClientCredentials
    lists: tuple[str, ...]
    name: str = _NAME
    exploring: bool = False
    _totals: dict[str, int | None] = field(default_factory=dict)

    def prepare(self) -> Iterator[Notice]:
        yield from ()

    def _get(self, address: str, query: dict[str, str | int] | None = None) -> Answer:
        answer: Answer = with_one_more_token(self.client, partial(self.transport.get, address, query))
        return answer

    def pages(self, name: str) -> Iterator[list[Person]]:
        yield from self._read(name, {})

    def changes(self, name: str, since: datetime) -> Iterator[list[Person]]:
        seen: set[str] = set()
        try:
            for people in self._read(name, {"filter": f"dateLastModified>='{written(since)}'"}):
                seen.update(person.stable_id for person in people)
                yield people
        except Refused as error:
            if error.status not in REFUSALS:
                raise
            raise WholeOnly(f"{self.name} refuses to tell what changed, so the list {name} is read whole.") from None
        # More may have changed in the meantime; fewer is a list that was cut off.
        refuse_short(self.name, len(seen), self._totals[name])

    def _read(self, name: str, question: Mapping[str, str]) -> Iterator[list[Person]]:
        collection = _COLLECTIONS[name]
        first = self._get(collection, {"limit": _LIMIT, "offset": 0, **question})
        total = first.headers.get("x-total-count", "")
        self._totals[name] = int(total) if total.isdigit() else None
        taken, has_links = 0, False

        def follow(page: Answer) -> Answer | None:
            nonlocal taken, has_links
            rows = self._rows(page, collection)
            taken += len(rows)
            if onward := _link(page):
                has_links = True
                return self._get(onward)
            expected = self._totals[name]
            if has_links or not rows or (expected is not None and taken >= expected):
                return None
            query: dict[str, str | int] = {"limit": _LIMIT, "offset": taken, **question}
            answer = self._get(collection, query)
            return Answer(answer.body, answer.headers, f"{answer.url}?offset={taken}")

        for page in all_pages(first, follow, self.name):
            yield [self._person(name, row) for row in self._rows(page, collection)]

    def _rows(self, page: Answer, collection: str) -> list[dict[str, Any]]:
        body = page.body if isinstance(page.body, dict) else {}
        rows = next((body[key] for key in ("users", collection) if key in body), None)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Refused("shape", f"{self.name} answers without the list {collection!r}; compare service_url.")
        return rows

    def expected(self, name: str) -> int | None:
        return self._totals.get(name)

    def says_cards(self) -> bool:
        return True

    def _person(self, name: str, row: Mapping[str, Any]) -> Person:
        sourced_id = text_of(row.get("sourcedId"))
        role = _role_of(name, row)
        gone = "deleted" if is_gone(text_of(row.get("status"))) else ""
        if not gone and is_yes(_flag(row.get("enabledUser"))) is False:
            gone = "disabled"
        grades = row.get("grades")
        first_grade = text_of(grades[0]) if isinstance(grades, list) and grades else text_of(grades)

        def first(*names: str) -> str:
            return next((text for key in names if (text := text_of(row.get(key)))), "")

        return Person(
            role=role,
            person_key=text_of(row.get("identifier")) or sourced_id,
            stable_id=sourced_id,
            given_name=first("preferredGivenName", "preferredFirstName", "givenName"),
            family_name=first("preferredFamilyName", "preferredLastName", "familyName"),
            source=row,
            year=first_grade,
            email=text_of(row.get("email")),
            gone=gone,
            changed=read_instant(row.get("dateLastModified")),
        )


def _flag(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else text_of(value)


def _role_of(name: str, row: Mapping[str, Any]) -> str:
    if name != PEOPLE_LIST:
        return "student" if name == "students" else "staff"
    roles = row.get("roles")
    primary = [item for item in roles if isinstance(item, Mapping)] if isinstance(roles, list) else []
    primary.sort(key=lambda item: text_of(item.get("roleType")) != "primary")
    word = text_of(primary[0].get("role")) if primary else text_of(row.get("role"))
    # A role that this release does not know opens least.
    return _ROLES.get(word.lower()) or read_role(word, "student") or "student"


def _link(page: Answer) -> str:
    found = _NEXT.search(page.headers.get("link", ""))
    return found[1] if found else ""


def build(options: Options) -> LiveSource:
    """Read the settings of a OneRoster source; see the head of this file."""
    client = read_client(options, f"{_NAME}'s sign-in")
    transport = read_transport(options, "service_url", _NAME, client.headers)
    client.transport.ca_file = transport.ca_file
    options.text("version", "1.1", ("1.1", "1.2"))
    collections = options.texts("collections") or ("users",)
    for name in collections:
        if name not in _LISTS:
            options.problem("collections", f"{name!r} is none; choose from {', '.join(_LISTS)}")
    paths = read_card_paths(options)
    service = OneRoster(transport, client, tuple(_LISTS[name] for name in collections if name in _LISTS))
    both = (transport, client.transport)
    return live_source(options, service, paths, both)
