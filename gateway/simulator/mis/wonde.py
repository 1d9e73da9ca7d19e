"""A server that answers as Wonde does: approval, region, includes, cursor pages, counts."""

from __future__ import annotations

from typing import Any

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
            case ["schools", school, "students"] if school == SCHOOL and self.state == "approved":
                return self._list("student", path, query)
            case ["schools", school, "employees"] if school == SCHOOL and self.state == "approved":
                return self._list("staff", path, query)
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
        body: dict[str, Any] = {
            "data": [_row(item, includes) for item in slice_of(people, (number - 1) * size, size, self.faults)]
        }
        if len(people) > 50:
            more = number * size < len(people)
            onward = f"{self.root}{path}?per_page={size}&include={','.join(sorted(includes))}&cursor={number + 1}"
            if self.faults.loop:
                more, onward = True, f"{self.root}{path}?per_page={size}&include=&cursor={max(number, 2)}"
            if self.faults.foreign:
                more, onward = True, "http://127.0.0.1:1/v1.0/elsewhere"
            body["meta"] = {"pagination": {"next": onward if more else None, "more": more, "per_page": size}}
        return Reply(body)


def _row(member: Member, includes: set[str]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": f"B{member.key}",
        "upi": f"upi-{member.key}",
        "mis_id": member.key,
        "forename": member.given_name,
        "surname": member.family_name,
        "date_of_birth": {"date": "2014-01-02 00:00:00.000000", "timezone_type": 3, "timezone": "UTC"},
        "middle_names": None,
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
