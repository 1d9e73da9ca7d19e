"""A school that changes, and what its server does wrong; the kinds of servers differ only in how they say it."""

from __future__ import annotations

import email.utils
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Texts = dict[str, str]
BEGINS = datetime(2026, 1, 1, tzinfo=UTC)
TOKEN = "a-token-that-nobody-may-see"  # noqa: S105  # of a fake


@dataclass(slots=True)
class Member:
    """Somebody at the school; `card` as the MIS writes it.

    Attributes:
        changed, left, back: when the server dates the last change of the record, its deletion and its return.
    """

    key: str
    role: str
    given_name: str
    family_name: str
    card: str = ""
    year: str = "7"
    is_gone: bool = False
    changed: datetime = BEGINS
    left: datetime | None = None
    back: datetime | None = None


def sample_members(pupils: int = 120, staff: int = 8) -> list[Member]:
    """Make a school with more pupils than a page holds."""
    people = [Member(f"{number:04}", "student", f"Given{number}", f"Family{number}") for number in range(1, pupils + 1)]
    people += [
        Member(f"T{number}", "staff", f"Teacher{number}", f"Smith{number}", year="") for number in range(1, staff + 1)
    ]
    for number, member in enumerate(people, 1):
        member.card = f"04A1B2C3{number:06X}"
        member.changed = BEGINS + timedelta(hours=6 * number)
    return people


@dataclass(slots=True)
class Faults:
    """What goes wrong, by page of a list from 1 on.

    Attributes:
        status: an HTTP status instead of the page, and how often before it heals; 0 for always.
        headers: sent with that status.
        body: bytes instead of the page.
        loop, foreign, doubled, cut_off: the next page is the same one; it leads elsewhere; a row comes twice; the last
            row is missing although the count has it.
        filter_ignored, filter_status: a question for changes is answered with everything; it is refused with a status.
        deletions_status: the deletions are refused with a status.
    """

    page: int = 1
    status: int = 0
    times: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    loop: bool = False
    foreign: bool = False
    doubled: bool = False
    cut_off: bool = False
    refused_includes: frozenset[str] = frozenset()
    filter_ignored: bool = False
    filter_status: int = 0
    deletions_status: int = 0


@dataclass(slots=True)
class Reply:
    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class FakeService:
    """A server on loopback; a kind says what each address answers.

    Attributes:
        log: method and path of each request.
        at, skew: the true time, and how far the server's clock is ahead of it.
        after_page: called with the number of each page of a list that was sent: what changes while somebody reads.
        dates_leavers, dates_returns: whether a deletion and a return count as changes of the record.
    """

    dates_leavers = False
    dates_returns = True

    def __init__(self, members: list[Member] | None = None) -> None:
        self.members = sample_members() if members is None else members
        self.faults = Faults()
        self.log: list[str] = []
        self.token = TOKEN
        self.at = BEGINS + timedelta(days=300)
        self.skew = timedelta(0)
        self.after_page: Callable[[int], None] = lambda _number: None
        self._failed = 0
        service = self
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": service}))
        self.root = f"http://127.0.0.1:{self._server.server_port}"

    def answer(
        self, method: str, path: str, query: dict[str, str], form: dict[str, str], headers: dict[str, str]
    ) -> Reply:
        raise NotImplementedError

    def people(self, role: str) -> list[Member]:
        return [member for member in self.members if member.role == role and not member.is_gone]

    def clock(self) -> datetime:
        return self.at + self.skew

    def edit(self, member: Member, **values: str) -> None:
        for name, value in values.items():
            setattr(member, name, value)
        member.changed = self.clock()

    def edit_late(self, member: Member, minutes: int, **values: str) -> None:
        """Change somebody so that readers see it only now, although it is dated some minutes ago."""
        self.edit(member, **values)
        member.changed -= timedelta(minutes=minutes)

    def join(self, member: Member) -> None:
        member.changed = self.clock()
        self.members.append(member)

    def leave(self, member: Member) -> None:
        member.is_gone, member.left = True, self.clock()
        if self.dates_leavers:
            member.changed = self.clock()

    def come_back(self, member: Member) -> None:
        member.is_gone, member.back = False, self.clock()
        if self.dates_returns:
            member.changed = self.clock()

    def changed_since(self, people: list[Member], since: datetime) -> list[Member]:
        """Return who changed then or later; everybody where the server does not look at the question."""
        return people if self.faults.filter_ignored else [one for one in people if one.changed >= since]

    def page(self, number: int) -> Reply | None:
        """Return what goes wrong with a page instead of it, None when nothing does."""
        faults = self.faults
        if number != faults.page:
            return None
        if faults.status and (faults.times == 0 or self._failed < faults.times):
            self._failed += 1
            return Reply({"error": "fault", "error_description": "Given1 Family1"}, faults.status, faults.headers)
        return Reply(faults.body) if faults.body is not None else None

    @contextmanager
    def running(self) -> Iterator[Any]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    service: FakeService
    begun: datetime = BEGINS
    protocol_version = "HTTP/1.1"

    def date_time_string(self, timestamp: float | None = None) -> str:
        del timestamp
        return email.utils.format_datetime(self.begun, usegmt=True)

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self._serve(dict(parse_qsl(body)))

    def _serve(self, form: dict[str, str]) -> None:
        # What changes while a page is made is dated after it.
        self.begun = self.service.clock()
        parts = urlsplit(self.path)
        self.service.log.append(f"{self.command} {self.path}")
        sent = {name.lower(): value for name, value in self.headers.items()}
        reply = self.service.answer(self.command, parts.path, dict(parse_qsl(parts.query)), form, sent)
        data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in {
            "Content-Type": "application/json",
            **reply.headers,
            "Content-Length": str(len(data)),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        del format, args


def slice_of(items: list[Any], offset: int, size: int, faults: Faults) -> list[Any]:
    """Return a page of items with what the faults do to it."""
    some = items[offset : offset + size]
    if faults.doubled and offset == 0 and some:
        some = [some[0], *some]
    if faults.cut_off and offset < len(items) <= offset + size:
        some = some[:-1]
    return some
