"""OneRoster over REST: each provider's way to end a list, and tokens that are refused midway."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import SourceRefused
from gateway.mis.base import Complete, Ended, Gone, Record
from gateway.simulator.mis.oneroster import CLIENT, SECRET, FakeOneRoster
from gateway.simulator.mis.school import FakeService, sample_members
from tests.mis.contract import TellsChanges, positions


class TestOneRoster(TellsChanges):
    kind = "oneroster"
    # Without a total, only an empty page ends a list.
    requests = 2

    def server(self) -> FakeService:
        return FakeOneRoster(sample_members(120))

    def values(self, server: Any, folder: Path) -> dict[str, object]:
        (folder / "secret").write_text(SECRET)
        return {
            "service_url": server.service_url,
            "token_url": server.token_url,
            "client_id": CLIENT,
            "secret_file": "secret",
            "card_paths": ["userIds{type~rfid}.identifier"],
        }

    @pytest.mark.parametrize("paging", ["link", "bare-link", "total", "empty-page"])
    def test_every_way_to_end_a_list_is_followed_to_its_end(
        self, service: FakeOneRoster, tmp_path: Path, paging: str
    ) -> None:
        service.paging = paging
        keys = [item.person_key for item in self.read(service, tmp_path) if isinstance(item, Record)]
        assert sorted(keys) == sorted(member.key for member in service.members)

    def test_a_token_that_is_refused_midway_buys_one_new_one(self, service: FakeOneRoster, tmp_path: Path) -> None:
        service.lives = 2
        assert [item for item in self.read(service, tmp_path) if isinstance(item, Complete)]
        assert sum("POST /token" in line for line in service.log) == 2

    def test_a_secret_that_is_wrong_is_one_word(self, service: FakeOneRoster, tmp_path: Path) -> None:
        source = self.source(service, tmp_path)
        (tmp_path / "secret").write_text("wrong")
        with pytest.raises(SourceRefused) as found:
            list(source.fetch((), {}))
        assert found.value.failure == "refused"
        assert "invalid_client" in str(found.value)

    def test_tombstones_and_disabled_users_are_gone_also_in_a_whole_list(
        self, service: FakeOneRoster, tmp_path: Path
    ) -> None:
        service.members[0].is_gone = True
        gone = [item for item in self.read(service, tmp_path) if isinstance(item, Gone)]
        assert [(item.person_key, item.stable_id, item.why) for item in gone] == [("0001", "s-0001", "deleted")]

    def test_with_a_total_changes_of_an_unchanged_school_cost_one_request(
        self, service: FakeOneRoster, tmp_path: Path
    ) -> None:
        service.paging = "total"
        since = positions(self.read(service, tmp_path))
        items = self.changes(service, tmp_path, since)
        assert positions(items) == since
        assert len(self.lists(service)) == 1

    def test_a_tombstone_among_the_changes_of_pupils_is_gone(self, service: FakeOneRoster, tmp_path: Path) -> None:
        since = positions(self.read(service, tmp_path, collections=["students"]))
        assert set(since) == {"students"}
        service.at += timedelta(hours=1)
        service.leave(service.members[2])
        items = self.changes(service, tmp_path, since, collections=["students"])
        assert [(item.person_key, item.why) for item in items if isinstance(item, Gone)] == [("0003", "deleted")]
        assert [item.list for item in items if isinstance(item, Ended)] == ["students"]

    def test_pupils_and_staff_may_be_lists_of_their_own(self, service: FakeOneRoster, tmp_path: Path) -> None:
        items = self.read(service, tmp_path, collections=["students", "teachers"])
        assert [item.list for item in items if isinstance(item, Complete)] == ["students", "staff"]
        roles = {item.person_key: item.role for item in items if isinstance(item, Record)}
        assert (roles["0001"], roles["T1"]) == ("student", "staff")
