"""A school that changes, and what its server does wrong; the kinds of servers differ only in how they say it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Texts = dict[str, str]
TOKEN = "a-token-that-nobody-may-see"  # noqa: S105  # of a fake


@dataclass(slots=True)
class Member:
    """Somebody at the school; `card` as the MIS writes it."""

    key: str
    role: str
    given_name: str
    family_name: str
    card: str = ""
    year: str = "7"
    is_gone: bool = False


def sample_members(pupils: int = 120, staff: int = 8) -> list[Member]:
    """Make a school with more pupils than a page holds."""
    people = [Member(f"{number:04}", "student", f"Given{number}", f"Family{number}") for number in range(1, pupils + 1)]
    people += [
        Member(f"T{number}", "staff", f"Teacher{number}", f"Smith{number}", year="") for number in range(1, staff + 1)
    ]
    for number, member in enumerate(people, 1):
        member.card = f"04A1B2C3{number:06X}"
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


@dataclass(slots=True)
class Reply:
    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class FakeService:
    """A server on loopback; a kind says what each address answers.

    Attributes:
        log: method and path of each request.
    """

    def __init__(self, members: list[Member] | None = None) -> None:
        self.members = sample_members() if members is None else members
        self.faults = Faults()
        self.log: list[str] = []
        self.token = TOKEN
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
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self._serve(dict(parse_qsl(body)))

    def _serve(self, form: dict[str, str]) -> None:
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
