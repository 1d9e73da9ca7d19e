"""A server that answers as ManageBac does: pages smaller than asked for, nulls left out."""

from __future__ import annotations

from typing import Any

from gateway.simulator.mis.school import FakeService, Reply, slice_of

_PAGE = 40


class FakeManageBac(FakeService):
    """One school at ManageBac."""

    def answer(
        self, method: str, path: str, query: dict[str, str], form: dict[str, str], headers: dict[str, str]
    ) -> Reply:
        del form
        if headers.get("auth-token") != self.token:
            return Reply({"error": "unauthorized"}, 401)
        collection = path.removeprefix("/v2/")
        if method != "GET" or collection not in {"students", "teachers"}:
            return Reply({"error": "not_found"}, 404)
        number = int(query.get("page", "1"))
        if fault := self.page(number):
            return fault
        people = self.people("student" if collection == "students" else "staff")
        some = slice_of(people, (number - 1) * _PAGE, _PAGE, self.faults)
        pages = max(1, -(-len(people) // _PAGE))
        meta = {"current_page": number, "total_pages": pages, "total_count": len(people), "per_page": _PAGE}
        rows: list[dict[str, Any]] = []
        for item in some:
            row = {"id": 7000 + int(item.key.strip("T")), "first_name": item.given_name, "last_name": item.family_name}
            row |= {"student_id": item.key, "card_number": item.card, "year_group": item.year or None}
            rows.append({name: value for name, value in row.items() if value is not None})
        return Reply({collection: rows, "meta": meta})
