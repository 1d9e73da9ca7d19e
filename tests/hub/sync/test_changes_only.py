"""Reads of changes and whole reads of a live source, in any order: the directory is what the school says."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from gateway.errors import SourceRefused
from gateway.hub.directory.sites import PERCENT_OPTIONS, Source, list_sources
from gateway.hub.settings import prepare_store, read_settings
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.sync import conflicts, run
from gateway.hub.sync.holds import decide
from gateway.hub.sync.jobs import CARDS, FULL, source_work
from gateway.hub.sync.run import Report, Wish, sync
from gateway.hub.work.jobs import list_jobs
from gateway.simulator.mis import managebac, oneroster, wonde
from gateway.simulator.mis.school import BEGINS, TOKEN, FakeService, Faults, Member, sample_members

HUB = '[hub]\nstate_dir = "state"\nbroker = "mqtt://127.0.0.1:1883"\n'
SITE = """
[[site]]
id = "{site}"
site_key_file = "site.key"
[[site.source]]
name = "mis"
patience_s = 1
staff_leavers = "remove"
"""
OPEN = "".join(f"{name} = 100\n" for name in sorted(PERCENT_OPTIONS))
KINDS: dict[str, tuple[type[FakeService], Callable[[Any], str]]] = {
    "wonde": (
        wonde.FakeWonde,
        lambda server: (
            f'kind = "wonde"\nbase_url = "{server.base_url}"\nschool_id = "{wonde.SCHOOL}"\n'
            'token_file = "token"\ncard_paths = ["identifiers.data.card_number"]\n'
        ),
    ),
    "oneroster": (
        oneroster.FakeOneRoster,
        lambda server: (
            f'kind = "oneroster"\nservice_url = "{server.service_url}"\ntoken_url = "{server.token_url}"\n'
            'client_id = "tapgate"\nsecret_file = "secret"\ncard_paths = ["userIds{type~rfid}.identifier"]\n'
        ),
    ),
    "managebac": (
        managebac.FakeManageBac,
        lambda server: (
            f'kind = "managebac"\nbase_url = "{server.root}"\ntoken_file = "token"\ncard_paths = ["card_number"]\n'
        ),
    ),
}


@dataclass(slots=True)
class Town:
    """A school at its server, and a hub that reads it for two sites: `mixed` in any order, `whole` always whole."""

    service: FakeService
    folder: Path
    store: Store

    def source(self, site: str = "mixed") -> Source:
        with self.store.read() as connection:
            return next(source for source in list_sources(connection) if source.site == site)

    def read(self, site: str = "mixed", *, delta: bool = False, first: bool = False) -> Report:
        self.service.log.clear()
        return sync(self.store, self.source(site), self.folder, Wish(delta=delta, first=first))

    def positions(self) -> dict[str, str]:
        table, source = tables.source_cursor.c, self.source()
        with self.store.read() as connection:
            rows = connection.execute(select(table.list, table.state).where(table.source == source.id))
            return {row.list: row.state for row in rows}

    def people(self, site: str = "mixed") -> dict[str, tuple[str, str]]:
        """Return given name and tail of the card of everybody who is let in."""
        person, card = tables.person.c, tables.card.c
        with self.store.read() as connection:
            of_site = select(card.person, card.tail).where(card.state == "active", card.site == site)
            tails = {row.person: row.tail for row in connection.execute(of_site)}
            query = select(person.ref, person.person_key, person.given_name)
            rows = connection.execute(query.where(person.site == site, person.state == "active"))
            return {key: (name, tails.get(ref, "")) for ref, key, name in rows}

    def in_school(self) -> dict[str, tuple[str, str]]:
        here = (member for member in self.service.members if not member.is_gone)
        return {member.key: (member.given_name, member.card[-4:]) for member in here}


@dataclass(slots=True)
class Maker:
    """Makes a town anew without starting its server and its database anew."""

    service: FakeService
    template: Path

    def town(self, folder: Path) -> Town:
        shutil.copytree(self.template, folder, dirs_exist_ok=True)
        self.service.members = sample_members(40, 6)
        self.service.at, self.service.skew, self.service.faults = BEGINS + timedelta(days=300), timedelta(0), Faults()
        self.service.after_page = lambda _number: None
        return Town(self.service, folder, prepare_store(read_settings(folder / "hub.toml")))


@pytest.fixture(params=sorted(KINDS))
def maker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Maker]:
    kind, section = KINDS[request.param]
    template = tmp_path / "template"
    template.mkdir()
    with kind([]).running() as service:
        if isinstance(service, oneroster.FakeOneRoster):
            service.paging = "total"
        for name, text in (("site.key", "5a" * 32), ("token", TOKEN), ("secret", oneroster.SECRET)):
            (template / name).write_text(text)
        sites = (SITE.format(site=site) + section(service) + OPEN for site in ("mixed", "whole"))
        (template / "hub.toml").write_text(HUB + "".join(sites))
        prepare_store(read_settings(template / "hub.toml")).close()
        yield Maker(service, template)


@pytest.fixture
def town(maker: Maker, tmp_path: Path) -> Iterator[Town]:
    town = maker.town(tmp_path / "town")
    town.read(first=True)
    yield town
    town.store.close()


def test_changes_of_an_unchanged_school_cost_one_request_a_list_and_plan_nothing(town: Town) -> None:
    before = town.positions()
    report = town.read(delta=True)
    assert report.as_json()["delta"]
    assert report.plan.operations == []
    assert town.positions() == before
    requests = [line.partition("?")[0] + str("deleted_since" in line) for line in town.service.log]
    assert len(requests) == len(set(requests))


def test_whoever_is_not_named_among_changes_stays_and_whoever_is_deleted_leaves_at_once(town: Town) -> None:
    town.service.at += timedelta(hours=1)
    town.service.leave(town.service.members[2])
    report = town.read(delta=True)
    assert report.plan.counts()["remove"] == 1
    assert town.people() == town.in_school()


def test_a_read_of_changes_that_fails_moves_no_position_and_loses_nothing(town: Town) -> None:
    before = town.positions()
    town.service.at += timedelta(hours=1)
    town.service.edit(town.service.members[2], given_name="Changed")
    town.service.faults = Faults(status=500)
    with pytest.raises(SourceRefused):
        town.read(delta=True)
    assert town.positions() == before
    town.service.faults = Faults()
    town.read(delta=True)
    assert town.people() == town.in_school()
    assert town.positions() != before


def test_positions_are_stored_with_what_came_before_them_or_not_at_all(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, people = town.positions(), town.people()
    town.service.at += timedelta(hours=1)
    town.service.edit(town.service.members[2], given_name="Changed")

    def fails(*_words: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(run.positions, "keep", fails)
        with pytest.raises(OSError, match="No space"):
            town.read(delta=True)
    assert (town.positions(), town.people()) == (before, people)
    town.read(delta=True)
    assert town.people() == town.in_school()


def test_what_is_held_moves_no_position_and_is_applied_once_it_is_approved(town: Town) -> None:
    before = town.positions()
    town.service.at += timedelta(hours=1)
    for member in town.service.members[:20]:
        town.service.edit(member, card=f"04A1B2D3{member.key}00")
    report = town.read(delta=True)
    assert report.feed.is_delta
    assert report.held == 20
    assert town.positions() == before
    # A change of somebody else neither closes what waits nor moves past it.
    assert town.read(delta=True).held == 20
    decide(town.store, town.source().id, "person:office", "approved", None)
    report = town.read(delta=True)
    assert (report.applied, report.held, report.feed.is_delta) == (20, 0, False)
    assert town.people() == town.in_school()
    assert town.read(delta=True).feed.is_delta


def test_a_held_removal_of_the_night_survives_reads_of_changes(town: Town) -> None:
    gone = [town.service.members.pop(0) for _ in range(20)]
    assert town.read().held == len(gone)
    town.service.at += timedelta(hours=1)
    town.service.edit(town.service.members[2], given_name="Changed")
    report = town.read(delta=True)
    assert (report.applied, report.feed.is_delta) == (1, True)
    assert decide(town.store, town.source().id, "person:office", "approved", None) == len(gone)
    assert town.read(delta=True).applied == len(gone)


def test_an_approval_while_changes_are_read_is_acted_on_by_the_next_read(town: Town) -> None:
    gone = [town.service.members.pop(0) for _ in range(20)]
    assert town.read().held == len(gone)

    def approve(_number: int) -> None:
        town.service.after_page = lambda _number: None
        decide(town.store, town.source().id, "person:office", "approved", None)

    town.service.after_page = approve
    assert town.read(delta=True).feed.is_delta
    assert town.read(delta=True).applied == len(gone)


def test_changes_let_nobody_leave_who_has_been_missing_for_long(town: Town) -> None:
    claim, source = tables.person_claim, town.source()
    away = {"state": "missing", "missing_since_ms": 1}
    with town.store.write() as connection:
        connection.execute(update(claim).where(claim.c.source == source.id, claim.c.person_key == "0004").values(away))
    report = town.read(delta=True)
    assert not report.feed.is_delta, "a whole read looks for them"
    assert "0004" in town.people()


def test_whoever_is_missing_at_night_is_looked_for_in_a_whole_read(town: Town) -> None:
    lost = town.service.members.pop(2)
    assert town.read().plan.counts()["remove"] == 1
    assert town.positions() == {}
    town.service.members.append(lost)
    report = town.read(delta=True)
    assert not report.feed.is_delta
    assert town.people() == town.in_school()
    assert town.read(delta=True).feed.is_delta


def test_other_settings_are_met_by_a_whole_read(town: Town) -> None:
    before = town.source()
    changed = replace(before, options={**before.options, "years": ["7"]})
    report = sync(town.store, changed, town.folder, Wish(delta=True))
    assert not report.feed.is_delta
    assert sync(town.store, changed, town.folder, Wish(delta=True)).feed.is_delta


def test_an_open_conflict_is_not_over_because_changes_do_not_name_it(town: Town) -> None:
    one, two = town.service.members[2], town.service.members[3]
    town.service.at += timedelta(hours=1)
    town.service.edit(one, card=two.card)
    # Who else has the card stands in a row that did not change.
    report = town.read(delta=True)
    assert not report.feed.is_delta
    assert [item.kind for item in report.plan.conflicts] == ["card_shared"]
    town.service.at += timedelta(hours=1)
    town.read(delta=True)
    with town.store.read() as connection:
        assert [item.kind for item in conflicts.list_open(connection)] == ["card_shared"]


def test_the_frequent_job_reads_changes_the_nightly_one_everything_and_without_a_night_each_does(town: Town) -> None:
    def run_job(kind: str) -> bool:
        with town.store.read() as connection:
            job = next(job for job in list_jobs(connection, town.source().id) if job.kind == kind)
        town.service.log.clear()
        assert work.run(job).failure is None
        return any("since" in line or "updated_after" in line or "filter=" in line for line in town.service.log)

    work = source_work(town.store, town.folder)
    work.follow(now_ms())
    assert [run_job(kind) for kind in (CARDS, FULL, CARDS)] == [True, False, True]
    with town.store.write() as connection:
        options = {**town.source().options, "nightly": False}
        connection.execute(update(tables.source).values(options=options))
    assert [run_job(CARDS) for _ in range(2)] == [False, False]


PUPILS, STAFF = st.integers(0, 39), st.integers(40, 45)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("name"), PUPILS | STAFF),
        st.tuples(st.just("late"), PUPILS | STAFF),
        st.tuples(st.just("card"), PUPILS | STAFF),
        st.tuples(st.just("share"), PUPILS),
        st.tuples(st.just("swap"), PUPILS),
        st.tuples(st.just("leave"), PUPILS),
        st.tuples(st.just("return"), PUPILS),
        st.tuples(st.just("join"), st.just(0)),
        st.tuples(st.just("changes"), st.just(0)),
        st.tuples(st.just("changes"), st.just(0)),
        st.tuples(st.just("night"), st.just(0)),
        st.tuples(st.just("fault"), st.integers(1, 2)),
        st.tuples(st.just("wait"), st.integers(1, 90)),
    ),
    max_size=14,
)


def change(service: FakeService, number: int, step: str, what: int) -> None:
    """Let something happen at the school."""
    member = service.members[what]
    other = service.members[(what + 1) % 40]
    match step:
        case "name":
            service.edit(member, given_name=f"Name{number}")
        case "late":
            service.edit_late(member, 9, given_name=f"Late{number}")
        case "card":
            service.edit(member, card=f"04A1B2E3{number:06X}")
        case "share":
            service.edit(member, card=other.card)
        case "swap":
            one, two = member.card, other.card
            service.edit(member, card=two)
            service.edit(other, card=one)
        case "leave" if not member.is_gone:
            service.leave(member)
        case "return" if member.is_gone:
            service.come_back(member)
        case "join":
            service.join(Member(f"1{number:03}", "student", f"New{number}", "Comer", f"04A1B2F3{number:06X}"))
        case _:
            pass


def live(town: Town, steps: list[tuple[str, int]]) -> None:
    """Let time pass as the steps say."""
    service = town.service
    for number, (step, what) in enumerate(steps):
        service.at += timedelta(minutes=what if step == "wait" else 1)
        if step in {"changes", "night"}:
            town.read(delta=step == "changes")
            town.read("whole")
        elif step == "fault":
            service.faults = Faults(page=what, status=500)
            with contextlib.suppress(SourceRefused):
                town.read(delta=True)
                service.faults = Faults()
                town.read("whole")
            service.faults = Faults()
        elif step != "wait":
            change(service, number, step, what)


@settings(
    max_examples=8,
    # Each example is a hub of its own; shrinking one would take minutes.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS, minutes=st.sampled_from((-9, 0, 9)))
def test_changes_and_whole_reads_in_any_order_end_in_the_same_people(
    maker: Maker, steps: list[tuple[str, int]], minutes: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        town = maker.town(Path(name))
        town.service.skew = timedelta(minutes=minutes)
        try:
            town.read(first=True)
            town.read("whole", first=True)
            live(town, steps)
            for _ in range(3):
                town.service.at += timedelta(minutes=1)
                town.read(delta=True)
                town.read("whole")
            assert town.people() == town.people("whole")
            cards = [member.card for member in town.service.members if not member.is_gone]
            if len(cards) == len(set(cards)):
                assert town.people() == town.in_school()
        finally:
            town.store.close()
