"""A server that answers as ManageBac does: pages smaller than asked for, nulls left out."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from gateway.simulator.mis.school import FakeService, Reply, slice_of

_PAGE = 40


class FakeManageBac(FakeService):
    """One school at ManageBac.

    Attributes:
        zone: how it writes its times: the name behind them, and how far they are ahead.
    """

    zone = ("Z", timedelta(0))

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
        role = "student" if collection == "students" else "staff"
        people = self.people(role)
        if {"modified_since", "deleted_since"} & query.keys() and (status := self.faults.filter_status):
            return Reply({"error": "unknown parameter"}, status)
        if "modified_since" in query:
            people = self.changed_since(people, datetime.fromisoformat(query["modified_since"]))
        elif "deleted_since" in query:
            if status := self.faults.deletions_status:
                return Reply({"error": "not permitted"}, status)
            since = datetime.fromisoformat(query["deleted_since"])
            if not self.faults.filter_ignored:
                gone = [one for one in self.members if one.role == role and one.is_gone]
                people = [one for one in gone if one.left and one.left >= since]
        some = slice_of(people, (number - 1) * _PAGE, _PAGE, self.faults)
        pages = max(1, -(-len(people) // _PAGE))
        meta = {"current_page": number, "total_pages": pages, "total_count": len(people), "per_page": _PAGE}
        rows: list[dict[str, Any]] = []
        for item in some:
            row = {"id": 7000 + int(item.key.strip("T")), "first_name": item.given_name, "last_name": item.family_name}
            row |= {
                "updated_at": self._time(item.changed),
                "deleted_at": self._time(item.left) if item.is_gone else None,
            }
            row |= {"student_id": item.key, "card_number": item.card, "year_group": item.year or None}
            rows.append({name: value for name, value in row.items() if value is not None})
        self.after_page(number)
        return Reply({collection: rows, "meta": meta})

    def _time(self, at: datetime | None) -> str | None:
        name, ahead = self.zone
        return (at + ahead).strftime("%Y-%m-%dT%H:%M:%S.000") + name if at else None
