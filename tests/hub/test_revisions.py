from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import DataObject, data, integers, sampled_from
from sqlalchemy import delete, func, insert, select

from gateway.hub.directory.cards import link_card, set_card_state
from gateway.hub.directory.revision import in_turn, raise_revision, revision_of
from gateway.hub.directory.sites import list_sources
from gateway.hub.fleet import publishing, rosters
from gateway.hub.fleet.publishing import RosterPublisher
from gateway.hub.settings import prepare_store, read_settings
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store
from gateway.hub.sync import run
from gateway.link.client import Link
from gateway.roster.file import build, what_it_says
from gateway.roster.signing import Signer, load_or_create_signer
from gateway.simulator.school import sample_school
from tests.hub.samples import SITE, add_site

BOTH_DATABASES = True
OTHER = "st-lukes"
PEOPLE = 5_000


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return load_or_create_signer(tmp_path / "hub.key")


@pytest.fixture
def two_sites(store: Store, key_file: Path) -> Store:
    add_site(store, key_file, OTHER)
    return store


def _card(store: Store, site: str, number: int) -> int:
    ref = f"p_{number:016x}"
    with store.write() as connection:
        row = {"ref": ref, "site": site, "person_key": str(number), "role": "student", "given_name": "Ann"}
        rest = {"family_name": "Smith", "groups": [], "state": "active", "created_ms": 0, "changed_ms": 0}
        connection.execute(insert(tables.person).values(**row, **rest))
        return link_card(connection, ref, f"{number:032x}", "E5F6", "uid", Audit("person:office", site, 1))


def _set(store: Store, site: str, card: int, state: Any) -> None:
    with store.write() as connection:
        audit = Audit("person:office", site, 1)
        set_card_state(connection, card, state, audit)
        audit.write(connection)


def _revision(store: Store, site: str) -> int:
    with store.read() as connection:
        return revision_of(connection, site)


def test_an_audited_line_that_changes_nobody_leaves_the_revision_as_it_is(two_sites: Store) -> None:
    before = _revision(two_sites, SITE)
    with two_sites.write() as connection:
        audit = Audit("person:office", SITE, 1)
        audit.note("hold_approve", "a plan")
        audit.write(connection)
    assert _revision(two_sites, SITE) == before


def test_a_card_raises_the_revision_of_its_own_site_only(two_sites: Store) -> None:
    card = _card(two_sites, SITE, 1)
    here, there = _revision(two_sites, SITE), _revision(two_sites, OTHER)
    _set(two_sites, SITE, card, "lost")
    _set(two_sites, SITE, card, "lost")
    assert (_revision(two_sites, SITE), _revision(two_sites, OTHER)) == (here + 1, there)


def test_a_long_change_of_one_site_does_not_keep_another_waiting(two_sites: Store) -> None:
    if two_sites.is_sqlite:
        # SQLite has one writer for everything.
        return
    ended = threading.Event()

    def change_other() -> None:
        with two_sites.write() as connection:
            raise_revision(connection, OTHER)
        ended.set()

    with two_sites.write() as connection:
        in_turn(connection, SITE)
        thread = threading.Thread(target=change_other)
        thread.start()
        assert ended.wait(10)
    thread.join()


def test_hub_toml_read_again_raises_nothing_and_a_new_time_zone_does(tmp_path: Path, key_file: Path) -> None:
    toml = tmp_path / "hub.toml"
    text = f'[[site]]\nid = "{SITE}"\nsite_key_file = "{key_file}"\ntimezone = "Europe/London"\n'
    toml.write_text(f'[hub]\nstate_dir = "{tmp_path / "state"}"\nbroker = "mqtt://127.0.0.1"\n{text}')
    seen = []
    for zone in ("Europe/London", "Europe/London", "Europe/Dublin"):
        toml.write_text(toml.read_text().replace("Europe/London", zone))
        with prepare_store(read_settings(toml)) as store:
            seen.append(_revision(store, SITE))
    assert seen[0] == seen[1] < seen[2]


def test_a_sync_of_five_thousand_goes_through_at_once_while_another_site_is_busy(
    two_sites: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample_school(PEOPLE).write_csv(tmp_path / "people.csv")
    card = _card(two_sites, OTHER, 7)
    with two_sites.write() as connection:
        options = {"path": "people.csv"}
        connection.execute(insert(tables.source).values(site=SITE, name="mis", kind="csv", options=options))
    with two_sites.read() as connection:
        (source,) = list_sources(connection)
    plans = []
    make_plan = run.make_plan

    def interrupted(*arguments: Any) -> Any:
        # Between the look and the change the other site changes, and this one's audit grows.
        plans.append(make_plan(*arguments))
        _set(two_sites, OTHER, card, "lost" if len(plans) % 2 else "active")
        with two_sites.write() as connection:
            audit = Audit("person:office", SITE, 1)
            audit.note("hold_approve", "a plan")
            audit.write(connection)
        return plans[-1]

    monkeypatch.setattr(run, "make_plan", interrupted)
    report = run.sync(two_sites, source, tmp_path, run.Wish(first=True))
    assert report.applied >= PEOPLE
    assert len(plans) == 1


class Broker:
    """Stands in for the link: remembers the topics that were published."""

    def __init__(self) -> None:
        self.topics: list[str] = []

    def publish(self, topic: str, _payload: bytes, **_options: Any) -> int:
        self.topics.append(topic)
        return 1

    def sites(self) -> list[str]:
        """Return the sites whose manifest came since the last call, in order."""
        sites = [topic.split("/")[2] for topic in self.topics if topic.endswith("/roster/manifest")]
        self.topics.clear()
        return sites


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the sites whose content was read to build a roster, in order."""
    seen: list[str] = []
    load = rosters.load_content

    def counted(connection: Any, site: str, *keys: Any) -> Any:
        seen.append(site)
        return load(connection, site, *keys)

    monkeypatch.setattr(rosters, "load_content", counted)
    return seen


def _turn(publisher: RosterPublisher, broker: Broker) -> list[str]:
    publisher.turn(cast("Link", broker))
    return broker.sites()


def test_a_change_of_one_site_never_rebuilds_the_roster_of_another(
    two_sites: Store, signer: Signer, builds: list[str]
) -> None:
    broker, card = Broker(), _card(two_sites, OTHER, 1)
    publisher = RosterPublisher(two_sites, signer, lambda _site: 0)
    assert _turn(publisher, broker) == [OTHER, SITE]
    builds.clear()
    for state in ("lost", "active", "blocked"):
        _set(two_sites, OTHER, card, state)
        assert _turn(publisher, broker) == [OTHER]
        assert _turn(publisher, broker) == []
    assert builds == [OTHER] * 3


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(data())
def test_a_roster_changed_card_by_card_says_what_one_built_anew_says(
    store: Store, key_file: Path, signer: Signer, draw: DataObject
) -> None:
    with store.write() as connection:
        for table in (tables.roster_generation, tables.holding, tables.card, tables.person, tables.holiday):
            connection.execute(delete(table))
    cards = [_card(store, SITE, number) for number in (5, 3, 8, 1)]
    rosters.refresh(store, SITE, signer, key_file)
    for turn in range(draw.draw(integers(1, 4))):
        match draw.draw(sampled_from(("state", "new", "gone", "holiday"))):
            case "state":
                state = draw.draw(sampled_from(("lost", "blocked", "active")))
                _set(store, SITE, draw.draw(sampled_from(cards)), state)
            case "new":
                cards.append(_card(store, SITE, 100 + turn))
            case "gone" if len(cards) > 1:
                _delete_card(store, cards.pop())
            case _:
                with store.write() as connection:
                    day = date(2026, 1, 1 + turn)
                    connection.execute(insert(tables.holiday).values(site=SITE, first_day=day, last_day=day))
                    raise_revision(connection, SITE, [])
        rosters.refresh(store, SITE, signer, key_file)
    with store.read() as connection:
        table = tables.roster_generation
        kept = bytes(connection.scalars(select(table.c.file).order_by(table.c.version.desc()).limit(1)).one())
        content = rosters.load_content(connection, SITE)
        assert connection.scalar(select(func.count()).select_from(tables.site_change_card)) == 0
    site_key = bytes.fromhex(key_file.read_text())
    assert what_it_says(build(content, signer, site_key, kept)) == what_it_says(kept)


def _delete_card(store: Store, card: int) -> None:
    table = tables.card
    with store.write() as connection:
        connection.execute(delete(tables.holding).where(tables.holding.c.card == card))
        key = connection.scalar(delete(table).where(table.c.id == card).returning(table.c.key))
        assert key is not None
        raise_revision(connection, SITE, [key])


def test_one_revoked_card_is_read_alone_and_an_unnamed_change_reads_everything(
    store: Store, key_file: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[Any] = []
    load = rosters.load_content

    def watched(connection: Any, site: str, keys: Any = None) -> Any:
        wanted.append(keys)
        return load(connection, site, keys)

    first, _second = (_card(store, SITE, number) for number in (1, 2))
    rosters.refresh(store, SITE, signer, key_file)
    monkeypatch.setattr(rosters, "load_content", watched)
    _set(store, SITE, first, "lost")
    rosters.refresh(store, SITE, signer, key_file)
    with store.write() as connection:
        raise_revision(connection, SITE)
    rosters.refresh(store, SITE, signer, key_file)
    assert wanted == [{f"{1:032x}"}, None]


def test_a_site_that_has_not_changed_is_not_even_looked_at(
    two_sites: Store, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, card, looks = Broker(), _card(two_sites, OTHER, 1), []
    refresh: Callable[..., Any] = rosters.refresh

    def counted(store: Store, site: str, *rest: Any, **options: Any) -> Any:
        looks.append(site)
        return refresh(store, site, *rest, **options)

    monkeypatch.setattr(publishing, "refresh", counted)
    publisher = RosterPublisher(two_sites, signer, lambda _site: 0)
    _turn(publisher, broker)
    looks.clear()
    _set(two_sites, OTHER, card, "lost")
    for _ in range(3):
        _turn(publisher, broker)
    assert looks == [OTHER]


def test_a_hub_that_starts_again_sends_its_rosters_without_building_them(
    two_sites: Store, signer: Signer, builds: list[str]
) -> None:
    broker = Broker()
    _turn(RosterPublisher(two_sites, signer, lambda _site: 0), broker)
    builds.clear()
    again = RosterPublisher(two_sites, signer, lambda _site: 0)
    again.start_over([SITE, OTHER])
    assert _turn(again, broker) == [OTHER, SITE]
    assert builds == []


def test_another_site_key_makes_another_roster_although_nobody_changed(
    two_sites: Store, signer: Signer, key_file: Path, builds: list[str]
) -> None:
    broker = Broker()
    _turn(RosterPublisher(two_sites, signer, lambda _site: 0), broker)
    builds.clear()
    key_file.write_text("42" * 32)
    publisher = RosterPublisher(two_sites, signer, lambda _site: 0)
    publisher.start_over([SITE])
    _turn(publisher, broker)
    assert SITE in builds


@pytest.mark.parametrize("fault", [ValueError("a fault of ours"), None])
def test_a_site_whose_roster_cannot_be_made_stops_no_other_and_is_tried_again(
    two_sites: Store, signer: Signer, key_file: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception | None
) -> None:
    broker, now = Broker(), [1000.0]
    publisher = RosterPublisher(two_sites, signer, lambda _site: 0, lambda: now[0])
    refresh: Callable[..., Any] = rosters.refresh
    bad = key_file.with_name("no-such.key")
    whole = [False]

    def faulty(store: Store, site: str, *rest: Any, **options: Any) -> Any:
        if site == OTHER and not whole[0]:
            if fault is not None:
                raise fault
            return refresh(store, site, rest[0], bad, **options)
        return refresh(store, site, *rest, **options)

    monkeypatch.setattr(publishing, "refresh", faulty)
    assert _turn(publisher, broker) == [SITE]
    whole[0] = True
    assert _turn(publisher, broker) == []
    now[0] += publishing.FAULT_SECONDS
    assert _turn(publisher, broker) == [OTHER]


def test_the_revision_is_written_with_the_change_or_not_at_all(two_sites: Store) -> None:
    card = _card(two_sites, SITE, 1)
    before = _revision(two_sites, SITE)

    def cut_off() -> None:
        with two_sites.write() as connection:
            set_card_state(connection, card, "lost", Audit("person:office", SITE, 1))
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        cut_off()
    assert _revision(two_sites, SITE) == before
    with two_sites.read() as connection:
        assert connection.scalar(select(tables.card.c.state).where(tables.card.c.id == card)) == "active"
