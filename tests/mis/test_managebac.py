"""ManageBac: only its own number of pages ends a list."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import SourceRefused
from gateway.mis.base import Ended, Gone, Notice, Record
from gateway.simulator.mis.managebac import FakeManageBac
from gateway.simulator.mis.school import TOKEN, FakeService, Faults, Reply, Texts, sample_members
from tests.mis.contract import TellsChanges, named, positions


class TestManageBac(TellsChanges):
    kind = "managebac"
    # Its pages are numbered, so nothing on a page can lead elsewhere or in a circle.
    leads = False

    def server(self) -> FakeService:
        return FakeManageBac(sample_members(100))

    def values(self, server: Any, folder: Path) -> dict[str, object]:
        (folder / "token").write_text(TOKEN)
        return {"base_url": server.root, "token_file": "token", "card_paths": ["card_number"]}

    def test_pages_that_are_smaller_than_asked_for_are_all_read(self, service: FakeManageBac, tmp_path: Path) -> None:
        records = [item for item in self.read(service, tmp_path) if isinstance(item, Record)]
        assert len(records) == len(service.members)
        assert sum("/students" in line for line in service.log) == 3

    def test_who_is_deleted_is_believed_only_where_it_has_a_date(self, service: FakeManageBac, tmp_path: Path) -> None:
        since = positions(self.read(service, tmp_path))

        class Overlooks(FakeManageBac):
            """Knows modified_since, and answers deleted_since with those who are there."""

            def answer(self, method: str, path: str, query: Texts, form: Texts, headers: Texts) -> Reply:
                query.pop("deleted_since", None)
                return super().answer(method, path, query, form, headers)

        with Overlooks(service.members).running() as other:
            items = self.changes(other, tmp_path, since)
        assert named(items) == {member.key for member in service.members}
        assert not [item for item in items if isinstance(item, Gone)]
        assert [item for item in items if isinstance(item, Notice) and "deletions" in item.text]

    def test_the_two_questions_are_never_in_one_request(self, service: FakeManageBac, tmp_path: Path) -> None:
        self.changes(service, tmp_path, positions(self.read(service, tmp_path)))
        assert [("modified_since" in line, "deleted_since" in line) for line in self.lists(service)] == [
            (True, False),
            (False, True),
        ] * 2

    def test_a_time_in_a_zone_that_nobody_knows_is_read_as_the_earliest_it_can_be(
        self, service: FakeManageBac, tmp_path: Path
    ) -> None:
        service.zone = ("GST", timedelta(hours=4))
        since = positions(self.read(service, tmp_path))
        service.at += timedelta(hours=1)
        service.edit(service.members[3], given_name="Changed")
        items = self.changes(service, tmp_path, since)
        assert "0004" in named(items)
        assert [item for item in items if isinstance(item, Ended)]
        again = self.changes(service, tmp_path, since | positions(items))
        assert "0004" in named(again)

    def test_an_empty_page_before_the_last_one_is_short(self, service: FakeManageBac, tmp_path: Path) -> None:
        meta = b'{"students": [], "teachers": [], "meta": {"total_pages": 3, "total_count": 100}}'
        service.faults = Faults(page=2, body=meta)
        with pytest.raises(SourceRefused) as found:
            self.read(service, tmp_path)
        assert found.value.failure == "short"
