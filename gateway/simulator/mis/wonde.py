"""A server that answers as Wonde does: approval, region, includes, cursor pages, counts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from gateway.simulator.mis.school import FakeService, Member, Reply, slice_of

SCHOOL = "A1930499544"
_BASE = "/v1.0/"
_KNOWN = {
    "education_details", "year", "registration", "house", "contact_details", "employment_details", "identifiers",
    "user_defined_fields", "extended_details",
}  # fmt: skip


class FakeWonde(FakeService):
    """One school at Wonde.

    Attributes:
        state: approved, pending, revoked or declined.
        domain: the region that the school says it lies in; empty for this server.
        counts: whether it has counts.
    """

    state = "approved"
    domain = ""
    counts = True
    # Published nowhere: so the worse of both, and the return is known from the deletions alone.
    dates_returns = False

    @property
    def base_url(self) -> str:
        return self.root + _BASE.rstrip("/")

    def answer(
        self, method: str, path: str, query: dict[str, str], form: dict[str, str], headers: dict[str, str]
    ) -> Reply:
        del form
        if headers.get("authorization") != f"Bearer {self.token}":
            return Reply({"error": "unauthorized"}, 401)
        if method != "GET" or not path.startswith(_BASE):
            return Reply({"error": "not_found"}, 404)
        match path.removeprefix(_BASE).strip("/").split("/"):
            case ["schools", word] if word in {"pending", "revoked", "declined"}:
                return Reply({"data": [{"id": SCHOOL}] if word == self.state else []})
            case ["schools", school] if school == SCHOOL and self.state == "approved":
                host = self.domain or self.root.rpartition("/")[2]
                return Reply({"data": {"id": SCHOOL, "name": "Fake", "region": {"code": "GB", "domain": host}}})
            case ["schools", school, "counts"] if school == SCHOOL and self.counts:
                role = "student" if query.get("include") == "students" else "staff"
                return Reply({"data": {query.get("include", ""): {"data": {"count": len(self.people(role))}}}})
            case ["schools", school, "deletions"] if school == SCHOOL and self.state == "approved":
                return self._deletions(query)
            case ["schools", school, ("students" | "employees") as name] if (
                school == SCHOOL and self.state == "approved"
            ):
                return self._list("student" if name == "students" else "staff", path, query)
        return Reply({"error": "not_found"}, 404)

    def _list(self, role: str, path: str, query: dict[str, str]) -> Reply:
        includes = set(query.get("include", "").split(",")) - {""}
        if includes & self.faults.refused_includes or includes - _KNOWN:
            return Reply({"error": "invalid_include"}, 400)
        size = int(query.get("per_page", "50"))
        number = int(query.get("cursor", "true").replace("true", "1"))
        if fault := self.page(number):
            return fault
        people = self.people(role)
        question = {name: text for name, text in query.items() if name in {"updated_after", "only_mis_ids"}}
        if "updated_after" in question:
            if status := self.faults.filter_status:
                return Reply({"error": "invalid_parameter"}, status)
            people = self.changed_since(people, _read(question["updated_after"]))
        if "only_mis_ids" in question:
            people = [one for one in people if one.key in question["only_mis_ids"].split(",")]
        body: dict[str, Any] = {
            "data": [_row(item, includes) for item in slice_of(people, (number - 1) * size, size, self.faults)]
        }
        if len(people) > 50:
            more = number * size < len(people)
            onward = f"{self.root}{path}?per_page={size}&include={','.join(sorted(includes))}&cursor={number + 1}"
            onward += f"&{urlencode(question)}" if question else ""
            if self.faults.loop:
                more, onward = True, f"{self.root}{path}?per_page={size}&include=&cursor={max(number, 2)}"
            if self.faults.foreign:
                more, onward = True, "http://127.0.0.1:1/v1.0/elsewhere"
            body["meta"] = {"pagination": {"next": onward if more else None, "more": more, "per_page": size}}
        self.after_page(number)
        return Reply(body)

    def _deletions(self, query: dict[str, str]) -> Reply:
        if status := self.faults.deletions_status:
            return Reply({"error": "permission"}, status)
        since = _read(query.get("updated_after", "2000-01-01 00:00:00"))
        rows = [
            {
                "type": "student" if one.role == "student" else "employee",
                "id": f"B{one.key}",
                "mis_id": one.key,
                "deleted_at": _date(one.left),
                "restored_at": _date(one.back) if one.back and one.back >= one.left else None,
            }
            for one in self.members
            if one.left and max(one.left, one.back or one.left) >= since
        ]
        return Reply({"data": rows})


def _read(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _date(at: datetime) -> dict[str, Any]:
    text = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return {"date": text, "timezone_type": 3, "timezone": "UTC"}


def _row(member: Member, includes: set[str]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": f"B{member.key}",
        "upi": f"upi-{member.key}",
        "mis_id": member.key,
        "forename": member.given_name,
        "surname": member.family_name,
        "date_of_birth": {"date": "2014-01-02 00:00:00.000000", "timezone_type": 3, "timezone": "UTC"},
        "middle_names": None,
        "updated_at": _date(member.changed),
    }
    parts: dict[str, Any] = {
        "year": {"data": {"name": member.year}},
        "education_details": {"data": {"current_nc_year": member.year}},
        "contact_details": {"data": {"emails": {"email": f"{member.key}@school.example"}}},
        "identifiers": {"data": {"card_number": member.card, "unknown_word": True}},
        "employment_details": {"data": {"current": True, "employment_start_date": None}},
        "registration": {"data": None},
    }
    return {**row, **{name: parts.get(name) for name in includes}}
