"""A server that answers as OneRoster providers do, with each of their ways to end a list."""

from __future__ import annotations

import base64
import re
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from gateway.simulator.mis.school import FakeService, Member, Reply, slice_of

CLIENT, SECRET = "tapgate", "s3:cr/et"
_BASE = "/ims/oneroster/v1p1/"
_PAGE = 50
_FILTER = re.compile(r"dateLastModified>='([^']+)'")


class FakeOneRoster(FakeService):
    """One provider.

    Attributes:
        paging: link, bare-link (without angle brackets), total or empty-page.
        lives: how many requests a token lasts, 0 for all.
    """

    paging = "link"
    dates_leavers = True
    lives = 0
    _used = 0

    @property
    def service_url(self) -> str:
        return self.root + _BASE.rstrip("/")

    @property
    def token_url(self) -> str:
        return f"{self.root}/token"

    def answer(
        self, method: str, path: str, query: dict[str, str], form: dict[str, str], headers: dict[str, str]
    ) -> Reply:
        authorization = headers.get("authorization", "")
        if path == "/token" and method == "POST":
            pair = base64.b64encode(f"{CLIENT}:s3%3Acr%2Fet".encode()).decode()
            is_good = authorization == f"Basic {pair}" and form.get("grant_type") == "client_credentials"
            self._used = 0
            return Reply(
                {"access_token": self.token, "expires_in": 3600} if is_good else {"error": "invalid_client"},
                200 if is_good else 401,
            )
        self._used += 1
        if authorization != f"Bearer {self.token}" or (self.lives and self._used > self.lives):
            return Reply({"imsx_codeMajor": "failure", "imsx_CodeMinor": "unauthorisedrequest"}, 401)
        collection = path.removeprefix(_BASE)
        if not path.startswith(_BASE) or collection not in {"users", "students", "teachers"}:
            return Reply({"imsx_codeMinor": "unknownobject"}, 404)
        return self._list(collection, query)

    def _list(self, collection: str, query: dict[str, str]) -> Reply:
        roles = {"users": ("student", "staff"), "students": ("student",), "teachers": ("staff",)}[collection]
        people = [member for member in self.members if member.role in roles]
        if question := query.get("filter", ""):
            if status := self.faults.filter_status:
                return Reply({"imsx_codeMajor": "failure", "imsx_codeMinor": "invalid_filter_field"}, status)
            people = self.changed_since(people, datetime.fromisoformat(_FILTER.fullmatch(question)[1]))  # type: ignore[index]  # another filter is a fault of ours
        # A page smaller than was asked for, as some do.
        offset = int(query.get("offset", "0"))
        number = offset // _PAGE + 1
        if fault := self.page(number):
            return fault
        rows = [_row(member) for member in slice_of(people, offset, _PAGE, self.faults)]
        links: dict[str, str] = {}
        onward = f"{self.service_url}/{collection}?limit={query.get('limit', '100')}&offset={number * _PAGE}"
        onward += f"&{urlencode({'filter': question})}" if question else ""
        if self.faults.loop:
            onward = f"{self.service_url}/{collection}?limit=100&offset={(max(number, 2) - 1) * _PAGE}"
        if self.faults.foreign:
            onward = "http://127.0.0.1:1/elsewhere"
        if self.paging in {"link", "bare-link"} and (number * _PAGE < len(people) or self.faults.loop):
            links["Link"] = f'<{onward}>; rel="next"' if self.paging == "link" else f"{onward}; rel=next"
        if self.paging == "total" or self.faults.cut_off:
            links["X-Total-Count"] = str(len(people))
        self.after_page(number)
        return Reply({"users": rows}, headers=links)


def _row(member: Member) -> dict[str, Any]:
    return {
        "sourcedId": f"s-{member.key}",
        "status": "tobedeleted" if member.is_gone else "active",
        "enabledUser": "true",
        "dateLastModified": member.changed.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "identifier": member.key,
        "givenName": member.given_name,
        "familyName": member.family_name,
        "role": "student" if member.role == "student" else "teacher",
        "grades": [member.year] if member.year else [],
        "email": None,
        "userIds": [{"type": "LDAP", "identifier": "x"}, {"type": "RFID", "identifier": member.card}],
        "metadata": {"oddity": [None, {"deep": 1}]},
    }
