"""Wonde: approval and region before anything is read, and a part that is not granted says nothing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import SourceRefused
from gateway.mis.base import Complete, Gone, Notice, Record
from gateway.mis.live import LiveSource
from gateway.mis.wonde import Wonde
from gateway.simulator.mis.school import TOKEN, FakeService, Faults, sample_members
from gateway.simulator.mis.wonde import SCHOOL, FakeWonde
from tests.mis.contract import TellsChanges, named, positions


class TestWonde(TellsChanges):
    kind = "wonde"
    # Its counts are of whole lists, and its pages say themselves whether more follows.
    counts_changes = False

    def server(self) -> FakeService:
        return FakeWonde(sample_members(450))

    def values(self, server: Any, folder: Path) -> dict[str, object]:
        (folder / "wonde.token").write_text(TOKEN + "\n")
        return {
            "base_url": server.base_url,
            "school_id": SCHOOL,
            "token_file": "wonde.token",
            "card_paths": ["identifiers.data.card_number"],
        }

    @pytest.mark.parametrize(
        ("state", "word"), [("pending", "not_approved"), ("declined", "not_approved"), ("revoked", "revoked")]
    )
    def test_nothing_is_read_of_a_school_that_has_not_approved_us(
        self, service: FakeWonde, tmp_path: Path, state: str, word: str
    ) -> None:
        service.state = state
        with pytest.raises(SourceRefused) as found:
            self.read(service, tmp_path)
        assert found.value.failure == word
        assert not [line for line in service.log if "/students" in line]

    def test_the_wrong_region_is_refused_before_an_empty_list_can_say_that_all_have_left(
        self, service: FakeWonde, tmp_path: Path
    ) -> None:
        service.domain = "api-ap-southeast-2.wonde.com"
        service.members = []
        with pytest.raises(SourceRefused, match="api-ap-southeast-2") as found:
            self.read(service, tmp_path)
        assert found.value.failure == "region_wrong"

    def test_a_part_that_is_not_granted_is_left_out_and_cards_then_say_nothing(
        self, service: FakeWonde, tmp_path: Path
    ) -> None:
        service.faults = Faults(page=0, refused_includes=frozenset({"identifiers", "house"}))
        items = self.read(service, tmp_path)
        records = [item for item in items if isinstance(item, Record)]
        assert len(records) == len(service.members)
        assert {item.cards for item in records} == {None}, "never an empty tuple, which would take every card away"
        assert [item for item in items if isinstance(item, Notice) and "cards stay as they are" in item.text]

    def test_a_school_of_one_page_has_no_pagination_and_one_without_counts_is_read_too(
        self, service: FakeWonde, tmp_path: Path
    ) -> None:
        service.members, service.counts = sample_members(20, 3), False
        items = self.read(service, tmp_path)
        assert [item.expected for item in items if isinstance(item, Complete)] == [None, None]

    def test_more_without_next_is_short(self, service: FakeWonde, tmp_path: Path) -> None:
        body = b'{"data": [], "meta": {"pagination": {"next": null, "more": true}}}'
        service.faults = Faults(page=1, body=body)
        with pytest.raises(SourceRefused) as found:
            self.read(service, tmp_path)
        assert found.value.failure == "short"

    def test_the_token_file_is_read_when_it_is_needed(self, service: FakeWonde, tmp_path: Path) -> None:
        source = self.source(service, tmp_path)
        (tmp_path / "wonde.token").unlink()
        result = source.check()
        assert (result.failure, "wonde.token" in result.detail) == ("refused", True)

    def test_the_contract_catches_a_connector_that_takes_a_cut_list_for_whole(
        self, service: FakeWonde, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Wonde, "expected", lambda _self, _name: None)
        service.faults = Faults(cut_off=True)
        assert [item for item in self.read(service, tmp_path) if isinstance(item, Complete)], "the broken twin"
        with pytest.raises(pytest.fail.Exception):
            self.test_a_read_that_goes_wrong_anywhere_is_refused_with_its_word_and_completes_no_list(
                service, tmp_path, Faults(cut_off=True), "short"
            )

    def test_without_the_deletions_lists_are_read_whole_and_the_school_is_named_what_to_grant(
        self, service: FakeWonde, tmp_path: Path
    ) -> None:
        since = positions(self.read(service, tmp_path))
        service.faults = Faults(page=0, deletions_status=403)
        service.leave(service.members[2])
        items = self.changes(service, tmp_path, since)
        assert [item.list for item in items if isinstance(item, Complete)] == ["students", "staff"]
        assert named(items) == {member.key for member in service.members} - {"0003"}
        assert [item for item in items if isinstance(item, Notice) and "grant" in item.text]
        source = self.source(service, tmp_path)
        assert "deletions" in source.check().detail
        assert not source.capabilities.deletions

    def test_whoever_is_back_although_nothing_of_them_changed_is_looked_up(
        self, service: FakeWonde, tmp_path: Path
    ) -> None:
        pupil = service.members[4]
        service.leave(pupil)
        since = positions(self.read(service, tmp_path))
        service.at += timedelta(days=2)
        service.come_back(pupil)
        assert pupil.changed < service.at - timedelta(days=2), "the record has no newer date"
        items = self.changes(service, tmp_path, since)
        assert "0005" in named(items)
        assert "-0005" not in named(items)
        assert any("only_mis_ids=0005" in line for line in service.log)

    def test_a_question_that_is_refused_costs_no_part_of_a_record(self, service: FakeWonde, tmp_path: Path) -> None:
        since = positions(self.read(service, tmp_path))
        service.faults = Faults(page=0, filter_status=400)
        records = [item for item in self.changes(service, tmp_path, since) if isinstance(item, Record)]
        assert all(item.cards and item.fields.year != "" for item in records)

    def test_a_pupil_and_a_member_of_staff_with_one_number_are_deleted_each_for_themselves(
        self, service: FakeWonde, tmp_path: Path
    ) -> None:
        staff = next(member for member in service.members if member.role == "staff")
        service.edit(staff, key="0001")
        since = positions(self.read(service, tmp_path))
        service.at += timedelta(hours=1)
        service.leave(staff)
        gone = [item for item in self.changes(service, tmp_path, since) if isinstance(item, Gone)]
        assert [(item.entity, item.person_key) for item in gone] == [("staff", "0001")]

    def test_only_get_requests_reach_it(self, service: FakeWonde, tmp_path: Path) -> None:
        source = self.source(service, tmp_path)
        assert isinstance(source, LiveSource)
        list(source.fetch((), {}))
        assert {line.split()[0] for line in service.log} == {"GET"}
