"""A server that answers as iSAMS does: totals on each page, card numbers in custom fields."""

from __future__ import annotations

from typing import Any

from gateway.simulator.mis.school import FakeService, Member, Reply, slice_of

CLIENT, SECRET = "tapgate", "s3:cr/et"
_PAGE = 40


class FakeIsams(FakeService):
    """One school's iSAMS."""

    def answer(
        self, method: str, path: str, query: dict[str, str], form: dict[str, str], headers: dict[str, str]
    ) -> Reply:
        if path == "/auth/connect/token" and method == "POST":
            if (form.get("client_id"), form.get("client_secret")) != (CLIENT, SECRET):
                return Reply({"error": "invalid_client"}, 400)
            return Reply({"access_token": self.token, "expires_in": 3600})
        if headers.get("authorization") != f"Bearer {self.token}":
            return Reply({"error": "unauthorized"}, 401)
        kinds = {"/api/students": ("students", "student"), "/api/humanresources/employees": ("employees", "staff")}
        if method != "GET" or path not in kinds:
            return Reply({"error": "not_found"}, 404)
        key, role = kinds[path]
        number = int(query.get("page", "1"))
        if fault := self.page(number):
            return fault
        people = self.people(role)
        rows = [_row(item) for item in slice_of(people, (number - 1) * _PAGE, _PAGE, self.faults)]
        pages = max(1, -(-len(people) // _PAGE))
        return Reply({key: rows, "page": number, "totalPages": pages, "totalCount": len(people)})


def _row(member: Member) -> dict[str, Any]:
    return {
        ("schoolId" if member.role == "student" else "id"): member.key,
        "personGuid": f"guid-{member.key}",
        "forename": member.given_name,
        "surname": member.family_name,
        "preferredName": None,
        "yearGroup": int(member.year) if member.year else None,
        "dob": "2014-01-02T00:00:00",
        "customFields": [{"name": "Locker", "value": "12"}, {"name": "Card number", "value": member.card}],
    }
