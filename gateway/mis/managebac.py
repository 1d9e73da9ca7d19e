"""ManageBac: students and teachers, page by page.

    kind = "managebac"
    base_url = "https://api.managebac.com"       # without the version
    api_version = "v2"
    token_file = "/etc/tapgate-hub/managebac.token"
    card_paths = ["students:card_number"]        # a custom property that the school has made

A page may be smaller than was asked for, so only the service's own number of pages ends a list. Values that are null
are left out of a record: what is absent says nothing of a fault. Between the whole reads only what was modified is
asked for, and what was deleted, which is believed only where it has a date (`deleted_at`, published nowhere).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from gateway.mis.base import Notice
from gateway.mis.changes import REFUSALS, WholeOnly, read_instant, written
from gateway.mis.http import Answer, Refused, Transport, refuse_short, rows_of, text_of
from gateway.mis.live import LiveSource, Person, dig, live_source, read_card_paths, read_secret, read_transport
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
        for rows in self._read(name, {}):
            yield [self._person(name, row) for row in rows]

    def changes(self, name: str, since: datetime) -> Iterator[list[Person]]:
        """Return whoever was modified, then whoever was deleted: the two cannot be asked for at once."""
        for rows in self._answers(name, {"modified_since": written(since)}):
            yield [self._person(name, row) for row in rows]
        for rows in self._answers(name, {"deleted_since": written(since)}):
            people = [self._person(name, row) for row in rows]
            dates = [read_instant(row.get("deleted_at")) for row in rows]
            if None in dates:
                # A server that overlooks the question sends those who are there.
                raise WholeOnly(f"{_NAME} does not date its deletions, so the list {name} is read whole.")
            yield [replace(one, gone="deleted", changed=at) for one, at in zip(people, dates, strict=True)]

    def _answers(self, name: str, question: Mapping[str, str]) -> Iterator[list[dict[str, Any]]]:
        seen: set[str] = set()
        count: int | None = None
        try:
            for number, rows in enumerate(self._read(name, question)):
                count = self._totals[name] if number == 0 else count
                seen.update(text_of(row.get("id")) for row in rows)
                yield rows
        except Refused as error:
            if error.status not in REFUSALS:
                raise
            raise WholeOnly(f"{_NAME} refuses to tell what changed, so the list {name} is read whole.") from None
        refuse_short(_NAME, len(seen), count)

    def _read(self, name: str, question: Mapping[str, str]) -> Iterator[list[dict[str, Any]]]:
        collection = _COLLECTIONS[name]
        number = pages = 1
        while number <= min(pages, _MOST_PAGES):
            query: dict[str, str | int] = {"page": number, "per_page": _PER_PAGE, **question}
            answer = self.transport.get(f"{self.version}/{collection}", query)
            rows = rows_of(answer, collection, _NAME)
            pages = self._pages(answer, name)
            if not rows and number < pages:
                raise Refused("short", f"{_NAME} sends an empty page before the last one; it is read again next time.")
            yield rows
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
            changed=read_instant(row.get("updated_at")),
        )


def build(options: Options) -> LiveSource:
    """Read the settings of a ManageBac source; see the head of this file."""
    token = read_secret(options, "token_file")
    transport = read_transport(options, "base_url", _NAME, lambda: {"auth-token": token()})
    service = ManageBac(transport, options.text("api_version", "v2").strip("/"))
    return live_source(options, service, read_card_paths(options), (transport,))
