"""What every connector to a live service must hold to; each kind inherits it with its own server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gateway.errors import SourceRefused, SourceUnreachable
from gateway.mis.base import Complete, Connector, Gone, Notice, Record, Unreadable
from gateway.mis.options import Options, build_connector
from gateway.simulator.mis.school import TOKEN, FakeService, Faults

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
