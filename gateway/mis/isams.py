"""iSAMS over REST: pupils and employees of a school.

    kind = "isams"
    base_url = "https://school.isams.cloud"
    client_id = "tapgate"
    secret_file = "/etc/tapgate-hub/isams.secret"
    card_paths = ["students:customFields{name~card}.value"]

Pages say how many pages and people there are, and the two must agree. The Batch interface is not read: it keeps no
custom fields, and so no cards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from gateway.mis.base import Notice
from gateway.mis.changes import WholeOnly
from gateway.mis.http import Answer, Refused, Transport, rows_of, text_of
from gateway.mis.live import LiveSource, Person, live_source, read_card_paths, read_transport
from gateway.mis.oauth import ClientCredentials, read_client, with_one_more_token
from gateway.mis.options import Options

_NAME = "iSAMS"
_PAGE_SIZE = 200
_MOST_PAGES = 20_000
_LISTS = {"students": ("students", "students"), "staff": ("humanresources/employees", "employees")}
_LEFT = frozenset({"former", "left", "leaver", "archived", "-1"})


@dataclass(slots=True)
class Isams:
    """One school's iSAMS."""

    transport: Transport
    client: ClientCredentials
    lists: tuple[str, ...] = ("students", "staff")
    exploring: bool = False
    _totals: dict[str, int] = field(default_factory=dict)

    def prepare(self) -> Iterator[Notice]:
        yield from ()

    def pages(self, name: str) -> Iterator[list[Person]]:
        path, key = _LISTS[name]
        number = pages = 1
        while number <= min(pages, _MOST_PAGES):
            query: dict[str, str | int] = {"page": number, "pageSize": _PAGE_SIZE, "expand": "customFields"}
            answer: Answer = with_one_more_token(self.client, partial(self.transport.get, f"api/{path}", query))
            rows = rows_of(answer, key, _NAME)
            pages, total = _number(answer, "totalPages"), _number(answer, "totalCount")
            if total != self._totals.setdefault(name, total):
                raise Refused("short", f"{_NAME} changed its number of people while it was read; it is read again.")
            yield [_pupil(row) if name == "students" else _employee(row) for row in rows]
            number += 1

    def changes(self, name: str, since: datetime) -> Iterator[list[Person]]:
        del name, since
        raise WholeOnly(f"{_NAME} does not tell what changed, so it is read whole.")

    def expected(self, name: str) -> int | None:
        return self._totals.pop(name, None)

    def says_cards(self) -> bool:
        return True


def _number(answer: Answer, key: str) -> int:
    value = answer.body.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused("shape", f"{_NAME} answers without {key}; it may have changed its interface.")
    return value


def _pupil(row: Mapping[str, Any]) -> Person:
    return Person(
        role="student",
        person_key=text_of(row.get("schoolId")),
        stable_id=text_of(row.get("personGuid")),
        given_name=text_of(row.get("preferredName")) or text_of(row.get("forename")),
        family_name=text_of(row.get("surname")),
        source=row,
        year=text_of(row.get("yearGroup")),
        form=text_of(row.get("formGroup")),
        house=text_of(row.get("academicHouse")),
        birth_date=text_of(row.get("dob")),
        email=text_of(row.get("schoolEmailAddress")),
        starts_on=text_of(row.get("enrolmentDate")),
        ends_on=text_of(row.get("leavingDate")),
        gone=_gone(row),
    )


def _employee(row: Mapping[str, Any]) -> Person:
    return Person(
        role="staff",
        person_key=text_of(row.get("id")),
        stable_id=text_of(row.get("personGuid")),
        given_name=text_of(row.get("preferredName")) or text_of(row.get("forename")),
        family_name=text_of(row.get("surname")),
        source=row,
        email=text_of(row.get("schoolEmailAddress")),
        ends_on=text_of(row.get("leavingDate")),
        gone=_gone(row),
    )


def _gone(row: Mapping[str, Any]) -> str:
    return "status" if text_of(row.get("systemStatus")).casefold() in _LEFT else ""


def build(options: Options) -> LiveSource:
    """Read the settings of an iSAMS source; see the head of this file."""
    client = read_client(options, f"{_NAME}'s sign-in", "base_url", "auth/connect/token", way="body")
    transport = read_transport(options, "base_url", _NAME, client.headers)
    client.transport.ca_file = transport.ca_file
    both = (transport, client.transport)
    return live_source(options, Isams(transport, client), read_card_paths(options), both)
