"""ManageBac: students and teachers, page by page.

    kind = "managebac"
    base_url = "https://api.managebac.com"       # without the version
    api_version = "v2"
    token_file = "/etc/tapgate-hub/managebac.token"
    card_paths = ["students:card_number"]        # a custom property that the school has made

A page may be smaller than was asked for, so only the service's own number of pages ends a list. Values that are null
are left out of a record: what is absent says nothing of a fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.mis.base import Notice
from gateway.mis.http import Answer, Refused, Transport, rows_of, text_of
from gateway.mis.live import LiveSource, Person, dig, read_card_paths, read_secret, read_transport
from gateway.mis.options import Options

_NAME = "ManageBac"
_PER_PAGE = 200
_MOST_PAGES = 20_000
_COLLECTIONS = {"students": "students", "staff": "teachers"}
_LEFT = frozenset({"withdrawn", "graduated", "left", "inactive"})


@dataclass(slots=True)
class ManageBac:
    """One school at ManageBac."""

    transport: Transport
    version: str
    lists: tuple[str, ...] = ("students", "staff")
    exploring: bool = False
    _totals: dict[str, int | None] = field(default_factory=dict)

    def prepare(self) -> Iterator[Notice]:
        yield from ()

    def pages(self, name: str) -> Iterator[list[Person]]:
        collection = _COLLECTIONS[name]
        number = pages = 1
        while number <= min(pages, _MOST_PAGES):
            query: dict[str, str | int] = {"page": number, "per_page": _PER_PAGE}
            answer = self.transport.get(f"{self.version}/{collection}", query)
            rows = rows_of(answer, collection, _NAME)
            pages = self._pages(answer, name)
            if not rows and number < pages:
                raise Refused("short", f"{_NAME} sends an empty page before the last one; it is read again next time.")
            yield [self._person(name, row) for row in rows]
            number += 1

    def _pages(self, answer: Answer, name: str) -> int:
        meta = answer.body.get("meta")
        total = meta.get("total_pages") if isinstance(meta, dict) else None
        if not isinstance(total, int) or isinstance(total, bool):
            raise Refused("shape", f"{_NAME} does not say how many pages there are; it may have changed its interface.")
        count = meta.get("total_count") if isinstance(meta, dict) else None
        self._totals[name] = count if isinstance(count, int) and not isinstance(count, bool) else None
        return total

    def expected(self, name: str) -> int | None:
        return self._totals.get(name)

    def says_cards(self) -> bool:
        return True

    def _person(self, name: str, row: Mapping[str, Any]) -> Person:
        status = text_of(row.get("status")).casefold()
        gone = "status" if row.get("archived") is True or status in _LEFT else ""
        return Person(
            role="student" if name == "students" else "staff",
            person_key=text_of(row.get("student_id")) or text_of(row.get("identifier")) or text_of(row.get("id")),
            stable_id=text_of(row.get("id")),
            given_name=text_of(row.get("nickname")) or text_of(row.get("first_name")),
            family_name=text_of(row.get("last_name")),
            source=row,
            year=text_of(row.get("year_group")) or dig(row, "year_group", "name"),
            form=text_of(row.get("homeroom")) or dig(row, "homeroom", "name"),
            birth_date=text_of(row.get("birthday")),
            email=text_of(row.get("email")),
            gone=gone,
        )


def build(options: Options) -> LiveSource:
    """Read the settings of a ManageBac source; see the head of this file."""
    token = read_secret(options, "token_file")
    transport = read_transport(options, "base_url", _NAME, lambda: {"auth-token": token()})
    service = ManageBac(transport, options.text("api_version", "v2").strip("/"))
    return LiveSource(service, options.encoding(), read_card_paths(options), options.capabilities(), (transport,))
