"""What an agent cannot read, and what a hub cannot take from it, is told once, in words, and mends itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from gateway.agent.hub import HubRefused
from gateway.errors import SourceRefused, SourceUnreachable
from gateway.hub.directory.sites import list_sources, register
from gateway.hub.ingest.commit import Committer
from gateway.hub.mail.faults import find_faults
from gateway.hub.settings import prepare_store, read_settings
from gateway.hub.store import tables
from gateway.hub.store.engine import now_ms
from gateway.hub.sync import uploads
from gateway.hub.sync.jobs import Follower, source_work
from gateway.hub.work.jobs import list_jobs
from gateway.hub.work.runner import Runner
from gateway.mis import lines
from gateway.mis.base import Notice
from gateway.mis.lines import write_line
from tests.hub.agent_school import ROWS, School
from tests.hub.samples import message, tap

WONDE = (
    'kind = "wonde"\nbase_url = "https://api.wonde.com/v1.0"\nschool_id = "A1"\ntoken_file = "wonde.token"\n'
    'card_paths = ["identifiers.data.card_number"]\n'
)
HOUR_MS = 3600 * 1000


@pytest.fixture
def school(tmp_path: Path) -> Iterator[School]:
    school = School(tmp_path)
    yield school
    school.stop()


class Clock:
    def __init__(self) -> None:
        self.at_ms = now_ms()

    def __call__(self) -> int:
        return self.at_ms


class Office:
    """The schedule of the hub, and who would be mailed."""

    def __init__(self, school: School) -> None:
        self.school, self.clock = school, Clock()
        self._runner = Runner(school.store, "hub-0", source_work(school.store, school.folder), clock=self.clock)

    def look(self) -> None:
        self._runner.turn()
        for run in list(self._runner._runs):
            assert run.thread is not None
            run.thread.join(60)
        self._runner._settle()

    def faults(self, after_ms: int = 2 * HOUR_MS) -> list[str]:
        with self.school.store.read() as connection:
            found = find_faults(connection, self.clock.at_ms + after_ms)
        return [fault.template for fault in found if fault.site == "st-marys"]

    def results(self) -> set[str | None]:
        with self.school.store.read() as connection:
            source = next(item for item in list_sources(connection) if item.site == "st-marys")
            return {job.last_result for job in list_jobs(connection, source.id) if job.kind == "cards"}


@pytest.mark.parametrize(
    ("word", "template"),
    [
        ("object_missing", "source_moved"),
        ("expired", "source_password"),
        ("unreachable", "source_unreachable"),
    ],
)
def test_moved_expired_and_firewall_at_the_school_are_three_different_mails_and_end_with_the_next_read(
    school: School,
    word: str,
    template: str,
) -> None:
    agent = school.agent()
    agent.round()
    school.sync(first=True)
    office = Office(school)
    office.look()
    assert (office.results(), office.faults()) == ({"done"}, [])
    agent._hub.tell_failure(word, "The database of mis.school.local says no.")
    office.clock.at_ms += HOUR_MS
    office.look()
    assert (office.results(), office.faults()) == ({"failed"}, [template])
    assert set(school.people().values()) == {"active"}, "the last good cards stay in use"
    assert agent.round().is_same
    office.clock.at_ms = max(office.clock.at_ms, now_ms())
    office.look()
    assert (office.results(), office.faults()) == ({"done"}, []), "a source that is read again goes on by itself"


def test_what_the_agent_says_stands_in_the_hubs_own_check_and_is_one_line(school: School) -> None:
    agent = school.agent()
    for _ in range(3):
        agent._hub.tell_failure("refused", "The account\nWARNING of a forged line\x1b[2J is locked.")
    with school.store.read() as connection:
        errors = connection.scalars(select(tables.sync_run.c.error)).all()
    assert errors == ["refused: The account WARNING of a forged line [2J is locked."]
    with pytest.raises(SourceRefused, match=r"^The agent at the school says: The account") as caught:
        school.sync()
    assert caught.value.failure == "refused"
    agent._hub.tell_failure("unreachable", "no way")
    with pytest.raises(SourceUnreachable, match="no way"):
        school.sync()


def test_an_agent_that_has_been_silent_since_its_failure_is_told_as_silent(school: School) -> None:
    agent = school.agent()
    agent.round()
    agent._hub.tell_failure("refused", "The account is locked.")
    long_ago = now_ms() - 25 * HOUR_MS
    with school.store.write() as connection:
        connection.execute(update(tables.upload).values(seen_ms=long_ago - 1))
        connection.execute(update(tables.sync_run).values(finished_ms=long_ago))
    with pytest.raises(SourceRefused, match="has not been heard for 25 h"):
        school.sync()


def test_a_read_that_the_hub_cannot_take_is_said_once_and_stands_in_the_list_of_runs(
    school: School,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = school.agent()
    begun = agent._hub.begin
    starts = []
    monkeypatch.setattr(agent._hub, "begin", lambda: starts.append(1) or begun())  # type: ignore[func-returns-value]
    monkeypatch.setattr("gateway.agent.work._line_of", lambda _item: b'["dance",{}]\n')
    with pytest.raises(HubRefused, match=r"Line 0 cannot be used: .* update the hub") as caught:
        agent.round()
    assert (caught.value.status, len(starts)) == (422, 1)
    with school.store.read() as connection:
        (error,) = connection.scalars(select(tables.sync_run.c.error))
    assert error is not None
    assert error.startswith("format: ")
    assert "Line 0" in error


def test_a_line_that_is_too_long_is_refused_by_its_number(school: School) -> None:
    hub = school.agent()._hub
    upload = hub.begin()
    with pytest.raises(HubRefused, match="Line 1 cannot be used") as caught:
        hub.append(upload, 0, write_line(Notice("x")) + write_line(Notice("x" * lines.MAX_LINE)))
    assert caught.value.status == 422
    assert hub.next_line(upload) == 0


def test_a_source_takes_over_the_people_of_another_although_its_agent_has_sent_before(school: School) -> None:
    school.agent().round()
    school.sync(first=True)
    text = (school.folder / "hub.toml").read_text()
    renamed = text.replace('name = "mis"', 'name = "agent"', 1)
    follow(school.folder, school, renamed)
    school.configure()
    path = school.folder / "agent.toml"
    path.write_text(path.read_text().replace("token_file", 'source = "agent"\ntoken_file'))
    school.export(*ROWS, ("009", "Cid", "Moor", ""))
    school.agent().round()
    follow(school.folder, school, renamed.replace('name = "agent"', 'name = "agent"\nwas = "mis"'))
    with school.store.read() as connection:
        (source,) = list_sources(connection, "st-marys")
    assert (source.name, uploads_of(school)) == ("agent", 0)
    school.agent().round()
    assert uploads_of(school) == 1
    assert school.sync().feed.complete
    assert set(school.people()) == {"007", "008", "009"}


def uploads_of(school: School) -> int:
    with school.store.read() as connection:
        return connection.scalar(select(func.count()).select_from(tables.upload)) or 0


def test_what_was_sent_for_a_source_goes_when_hub_toml_no_longer_names_it(school: School) -> None:
    school.agent().round()
    assert uploads_of(school) == 1
    follow(school.folder, school, (school.folder / "hub.toml").read_text().replace('name = "mis"', 'name = "x"', 1))
    assert (uploads_of(school), school.lines()) == (0, [])


def test_a_row_that_the_hub_would_refuse_costs_that_row_and_not_the_read(school: School) -> None:
    school.export(ROWS[0], ("8" * 1500, "Bob", "Jones", ""))
    school.agent().round()
    report = school.sync(first=True)
    assert report.feed.complete
    (fault,) = report.feed.unreadable
    assert fault.place == "line 3"
    assert "cannot be sent to the hub: A text may have at most" in fault.why
    assert set(school.people()) == {"007"}


def test_a_read_of_too_many_lines_is_refused(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_LINES", 3)
    with pytest.raises(HubRefused, match="at most 3 lines"):
        school.agent().round()


def follow(folder: Path, school: School, text: str) -> None:
    (folder / "hub.toml").write_text(text)
    register(school.store, read_settings(folder / "hub.toml"))


def test_one_school_is_pulled_one_is_sent_and_one_has_neither(tmp_path: Path) -> None:
    (tmp_path / "site.key").write_text(bytes(range(32)).hex())
    (tmp_path / "wonde.token").write_text("x")
    sites = [
        f'[[site]]\nid = "{name}"\nsite_key_file = "site.key"\ntrust_unenrolled = true\n{source}'
        for name, source in (
            ("pulled", f'[[site.source]]\nname = "mis"\n{WONDE}'),
            ("sent", '[[site.source]]\nname = "mis"\nkind = "agent"\n'),
            ("neither", ""),
        )
    ]
    (tmp_path / "hub.toml").write_text('[hub]\nstate_dir = "s"\nbroker = "mqtt://127.0.0.1:1883"\n' + "".join(sites))
    store = prepare_store(read_settings(tmp_path / "hub.toml"))
    try:
        Follower(store, tmp_path)(now_ms())
        with store.read() as connection:
            assert {job.site for job in list_jobs(connection)} == {"pulled", "sent"}
        assert Committer(store).commit([message(tap(1), site="neither")]).fresh == 1
    finally:
        store.close()
