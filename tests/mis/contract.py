"""What every connector to a live service must hold to; each kind inherits it with its own server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gateway.errors import SourceRefused, SourceUnreachable
from gateway.mis.base import Checkpoint, Complete, Connector, Ended, Gone, Notice, Record, Unreadable
from gateway.mis.changes import Newest, WholeOnly, refuse_unasked
from gateway.mis.options import Options, build_connector
from gateway.simulator.mis.school import TOKEN, FakeService, Faults, Member

SITE_KEY = bytes(range(32))


class LiveConnector:
    """The contract; a kind says how its server is made and what its settings are."""

    kind: ClassVar[str]
    # Whether a page says where the next one is.
    leads: ClassVar[bool] = True

    def server(self) -> FakeService:
        raise NotImplementedError

    def values(self, server: Any, folder: Path) -> dict[str, object]:
        raise NotImplementedError

    @pytest.fixture
    def service(self) -> Iterator[FakeService]:
        with self.server().running() as running:
            yield running

    def source(self, service: FakeService, folder: Path, **more: object) -> Connector:
        problems: list[str] = []
        values = {**self.values(service, folder), "patience_s": 2, **more}
        options = Options(values, folder, SITE_KEY, lambda key, text: problems.append(f"{key}: {text}"))
        source = build_connector(self.kind, options)
        assert problems == []
        return source

    def read(self, service: FakeService, folder: Path, **more: object) -> list[Any]:
        return list(self.source(service, folder, **more).fetch((), {}))

    def test_everybody_comes_in_with_ids_names_and_cards_and_each_list_is_complete(
        self, service: FakeService, tmp_path: Path
    ) -> None:
        items = self.read(service, tmp_path)
        records = {item.person_key: item for item in items if isinstance(item, Record)}
        assert set(records) == {member.key for member in service.members}
        one = records["0001"]
        assert (one.role, one.fields.given_name, one.fields.family_name) == ("student", "Given1", "Family1")
        assert one.fields.year == "7"
        assert one.cards is not None
        assert one.cards[0].tail == "0001"
        assert records["T1"].role == "staff"
        assert [item for item in items if isinstance(item, Complete)]
        assert not [item for item in items if isinstance(item, Unreadable)]

    def test_two_reads_of_an_unchanged_school_are_the_same(self, service: FakeService, tmp_path: Path) -> None:
        assert self.read(service, tmp_path) == self.read(service, tmp_path)

    def test_whoever_left_is_gone_or_absent_from_a_complete_list(self, service: FakeService, tmp_path: Path) -> None:
        service.members[0].is_gone = True
        items = self.read(service, tmp_path)
        assert "0001" not in {item.person_key for item in items if isinstance(item, Record)}
        gone = [item for item in items if isinstance(item, Gone)]
        assert gone == [] or [item.person_key for item in gone] == ["0001"]
        assert [item for item in items if isinstance(item, Complete)]

    @pytest.mark.parametrize(
        ("faults", "word"),
        [
            (Faults(status=401), "refused"),
            (Faults(status=403), "permission_missing"),
            (Faults(status=404), "object_missing"),
            (Faults(status=500), "server_fault"),
            (Faults(page=2, status=500), "server_fault"),
            (Faults(page=2, body=b"<html>Sign in</html>"), "format"),
            (Faults(page=2, body=b'{"data": null, "users": null, "students": null}'), "shape"),
            (Faults(page=2, body=b'{"data": [1], "users": [1], "students": [1]}'), "shape"),
            (Faults(page=2, body=b'{"data": ['), "format"),
            (Faults(loop=True), "shape"),
            (Faults(foreign=True), "link_foreign"),
            (Faults(status=302, headers={"Location": "http://127.0.0.1:1/"}), "link_foreign"),
            (Faults(cut_off=True), "short"),
        ],
        ids=lambda value: str(value)[:60],
    )
    def test_a_read_that_goes_wrong_anywhere_is_refused_with_its_word_and_completes_no_list(
        self, service: FakeService, tmp_path: Path, faults: Faults, word: str
    ) -> None:
        if not self.leads and (faults.loop or faults.foreign):
            return
        service.faults = faults
        items: list[Any] = []
        with pytest.raises(SourceRefused) as found:
            items.extend(iter(self.source(service, tmp_path).fetch((), {})))
        assert found.value.failure == word
        for secret in (TOKEN, "Given1", "Family1", "04A1B2C3"):
            assert secret not in str(found.value)

    @pytest.mark.parametrize("status", [429, 502, 503, 504])
    def test_what_passes_is_waited_for_and_what_does_not_is_told(
        self, service: FakeService, tmp_path: Path, status: int
    ) -> None:
        service.faults = Faults(status=status, times=1, headers={"Retry-After": "0"})
        assert [item for item in self.read(service, tmp_path) if isinstance(item, Complete)]
        service.faults = Faults(status=status, headers={"Retry-After": "3600"})
        with pytest.raises(SourceRefused) as found:
            self.read(service, tmp_path)
        assert found.value.failure == ("too_many" if status == 429 else "server_fault")

    def test_a_server_that_is_away_is_unreachable(self, service: FakeService, tmp_path: Path) -> None:
        source = self.source(service, tmp_path)
        service._server.shutdown()
        service._server.server_close()
        with pytest.raises(SourceUnreachable):
            list(source.fetch((), {}))
        assert source.check().failure == "unreachable"

    def test_a_row_that_comes_twice_is_taken_once_and_told(self, service: FakeService, tmp_path: Path) -> None:
        service.faults = Faults(doubled=True)
        items = self.read(service, tmp_path)
        keys = [item.person_key for item in items if isinstance(item, Record)]
        assert len(keys) == len(set(keys)) == len(service.members)
        assert [item for item in items if isinstance(item, Notice) and "came twice" in item.text]

    def test_a_test_is_green_only_after_a_live_call_and_shows_no_number(
        self, service: FakeService, tmp_path: Path
    ) -> None:
        source = self.source(service, tmp_path)
        result = source.check()
        assert result.ok
        assert service.log
        assert len(result.sample) == 5
        assert "04A1B2C3" not in str(result)
        service.faults = Faults(status=401)
        assert source.check().failure == "refused"

    def test_fields_are_shown_as_paths_that_work_and_never_a_value(self, service: FakeService, tmp_path: Path) -> None:
        fields = list(self.source(service, tmp_path, card_paths=[]).discover())
        likely = [item.path for item in fields if item.card_like]
        assert likely
        assert not [item for item in fields if "Given1" in str(item) or "04A1" in str(item)]
        found = self.read(service, tmp_path, card_paths=likely[:1])
        assert any(item.cards for item in found if isinstance(item, Record))

    def test_without_card_paths_nothing_is_said_about_cards(self, service: FakeService, tmp_path: Path) -> None:
        records = [item for item in self.read(service, tmp_path, card_paths=[]) if isinstance(item, Record)]
        assert {item.cards for item in records} == {None}


def positions(items: list[Any]) -> dict[str, str]:
    return {item.list: item.state for item in items if isinstance(item, Checkpoint)}


def named(items: list[Any]) -> set[str]:
    """Return who was named as present, and with a minus who was named as gone."""
    present = {item.person_key for item in items if isinstance(item, Record)}
    return present | {f"-{item.person_key}" for item in items if isinstance(item, Gone)}


class TellsChanges(LiveConnector):
    """The contract of those whose service tells what changed."""

    # How a server of this kind says that it does not know the question.
    refusal: ClassVar[int] = 400
    # Whether a list of changes has a count of its own, so that one that was cut off is noticed.
    counts_changes: ClassVar[bool] = True
    # Requests until the end of a short list is known.
    requests: ClassVar[int] = 1

    def changes(self, service: FakeService, folder: Path, since: dict[str, str], **more: object) -> list[Any]:
        service.log.clear()
        return list(self.source(service, folder, **more).fetch((), since))

    def lists(self, service: FakeService) -> list[str]:
        """Return the requests for people or deletions."""
        words = ("/students?", "/employees?", "/users?", "/teachers?", "/deletions?")
        return [line for line in service.log if any(word in line for word in words)]

    @pytest.mark.parametrize("minutes", [-7, 0, 7], ids=["behind", "right", "ahead"])
    def test_a_change_a_newcomer_a_leaver_and_a_return_are_told_whatever_the_servers_clock_says(
        self, service: FakeService, tmp_path: Path, minutes: int
    ) -> None:
        service.skew = timedelta(minutes=minutes)
        since = positions(self.read(service, tmp_path))
        service.at += timedelta(hours=1)
        one, leaver = service.members[3], service.members[4]
        service.edit(one, card="04A1B2C3FFFFF0")
        service.join(Member("0999", "student", "New", "Comer"))
        service.leave(leaver)
        items = self.changes(service, tmp_path, since)
        assert named(items) >= {"0004", "0999", "-0005"}
        assert len(named(items)) < 10
        assert [item for item in items if isinstance(item, Ended)]
        assert not [item for item in items if isinstance(item, Complete | Unreadable)]
        since |= positions(items)
        service.at += timedelta(hours=1)
        service.come_back(leaver)
        items = self.changes(service, tmp_path, since)
        assert "0005" in named(items)
        assert "-0005" not in named(items)

    def test_a_position_that_is_now_loses_what_a_server_behind_us_dates_earlier(
        self, service: FakeService, tmp_path: Path
    ) -> None:
        service.skew = timedelta(minutes=-7)
        since = positions(self.read(service, tmp_path))
        twin = dict.fromkeys(since, service.at.isoformat())
        service.at += timedelta(minutes=5)
        service.edit(service.members[3], given_name="Changed")
        assert "0004" not in named(self.changes(service, tmp_path, twin)), "the broken twin finds it"
        assert "0004" in named(self.changes(service, tmp_path, since))

    def test_a_change_that_readers_see_some_minutes_after_its_date_is_found(
        self, service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service.edit(service.members[5], given_name="Newest")
        since = positions(self.read(service, tmp_path))
        with monkeypatch.context() as twin:
            twin.setattr("gateway.mis.changes.OVERLAP", timedelta(0))
            without = positions(self.read(service, tmp_path))
        service.at += timedelta(minutes=2)
        service.edit_late(service.members[3], 9, given_name="Changed")
        assert "0004" not in named(self.changes(service, tmp_path, without)), "the broken twin finds it"
        assert "0004" in named(self.changes(service, tmp_path, since))

    def test_changes_of_an_unchanged_school_cost_one_request_a_list(self, service: FakeService, tmp_path: Path) -> None:
        service.edit(service.members[0], given_name="Newest")
        since = positions(self.read(service, tmp_path))
        service.at += timedelta(hours=1)
        items = self.changes(service, tmp_path, since)
        assert positions(items) == since
        assert len(named(items)) <= len(since), "only the newest change of each list, again"
        requests = [
            line.partition("?")[0] + ("deleted" if "deleted_since" in line else "") for line in self.lists(service)
        ]
        assert len(requests) == len(set(requests)) * self.requests

    def test_what_changes_while_pages_are_read_is_in_this_read_or_the_next(
        self, service: FakeService, tmp_path: Path
    ) -> None:
        def change(number: int) -> None:
            if number == 1:
                service.after_page = lambda _number: None
                service.at += timedelta(minutes=30)
                service.edit(service.members[2], given_name="Meanwhile")
                service.at += timedelta(minutes=30)
                service.edit(service.members[70], given_name="Later")

        service.after_page = change
        since = positions(self.read(service, tmp_path))
        assert named(self.changes(service, tmp_path, since)) >= {"0003", "0071"}
        for member in service.members[:80]:
            service.edit(member, given_name="All")
        service.after_page = change
        first = self.changes(service, tmp_path, since)
        then = self.changes(service, tmp_path, since | positions(first))
        names = {item.person_key: item.fields.given_name for item in [*first, *then] if isinstance(item, Record)}
        assert (names["0003"], names["0071"]) == ("Meanwhile", "Later")
        assert len(names) >= 80

    def test_a_date_in_the_future_does_not_hide_what_changes_before_it(
        self, service: FakeService, tmp_path: Path
    ) -> None:
        service.members[0].changed = service.at + timedelta(days=400)
        since = positions(self.read(service, tmp_path))
        service.at += timedelta(hours=1)
        service.edit(service.members[3], given_name="Changed")
        assert "0004" in named(self.changes(service, tmp_path, since))

    @pytest.mark.parametrize("how", ["ignored", "refused"])
    def test_a_server_that_does_not_tell_changes_is_read_whole_and_that_is_noticed(
        self, service: FakeService, tmp_path: Path, how: str
    ) -> None:
        since = positions(self.read(service, tmp_path))
        is_refused = how == "refused"
        service.faults = Faults(page=0, filter_ignored=not is_refused, filter_status=self.refusal if is_refused else 0)
        items = self.changes(service, tmp_path, since)
        assert named(items) == {member.key for member in service.members}
        assert {item.list for item in items if isinstance(item, Complete)} == set(since)
        assert not [item for item in items if isinstance(item, Ended)]
        assert [item for item in items if isinstance(item, Notice) and "read whole" in item.text]
        source = self.source(service, tmp_path)
        assert "read whole" in source.check().detail
        assert not source.capabilities.incremental

    def test_what_a_source_tells_is_asked_live(self, service: FakeService, tmp_path: Path) -> None:
        source = self.source(service, tmp_path)
        assert not source.capabilities.incremental
        assert "tells what changed" in source.check().detail
        assert (source.capabilities.incremental, source.capabilities.deletions) == (True, True)

    def test_a_school_may_have_it_read_whole_each_time(self, service: FakeService, tmp_path: Path) -> None:
        since = positions(self.read(service, tmp_path))
        items = self.changes(service, tmp_path, since, frequent_reads="whole")
        assert named(items) == {member.key for member in service.members}
        assert positions(items) == {}

    @pytest.mark.parametrize(
        ("faults", "word"),
        [
            (Faults(status=401), "refused"),
            (Faults(status=500), "server_fault"),
            (Faults(page=2, status=500), "server_fault"),
            (Faults(page=2, body=b"<html>Sign in</html>"), "format"),
            (Faults(page=2, body=b'{"data": ['), "format"),
            (Faults(page=2, body=b'{"data": null, "users": null, "students": null}'), "shape"),
            (Faults(cut_off=True), "short"),
        ],
        ids=lambda value: str(value)[:60],
    )
    def test_changes_that_go_wrong_anywhere_are_refused_and_move_no_position(
        self, service: FakeService, tmp_path: Path, faults: Faults, word: str
    ) -> None:
        if faults.cut_off and not self.counts_changes:
            return
        since = positions(self.read(service, tmp_path))
        service.at += timedelta(hours=1)
        for member in service.members:
            service.edit(member, given_name="Changed")
        service.faults = faults
        items: list[Any] = []
        with pytest.raises(SourceRefused) as found:
            items.extend(iter(self.source(service, tmp_path).fetch((), since)))
        assert found.value.failure == word
        assert items == []

    def test_a_list_with_a_record_that_has_no_date_is_read_whole(self, service: FakeService, tmp_path: Path) -> None:
        newest = Newest()
        newest.see(service.at)
        assert newest.position() is not None
        newest.see(None)
        assert newest.position() is None
        with pytest.raises(WholeOnly):
            refuse_unasked(None, service.at)
