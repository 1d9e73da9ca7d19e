"""The register of a day at the hub: movements in, marks out, and the office's word over them."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from fastapi.testclient import TestClient
from msgspec import UNSET
from sqlalchemy import insert, update

from gateway.config import ActionSettings, RegisterSettings, SessionSettings, SignInSettings
from gateway.errors import RefusedError
from gateway.hub.accounts import people as accounts
from gateway.hub.accounts.sessions import open_session
from gateway.hub.attendance.day import DayMarks, decide_mark, read_day
from gateway.hub.directory.register import load_register
from gateway.hub.directory.sites import register
from gateway.hub.ingest.commit import Committer
from gateway.hub.scope import Grant, Role
from gateway.hub.settings import read_settings
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.store.revisions import note_revised
from gateway.hub.store.times import to_ms
from gateway.hub.web.app import build_office
from gateway.hub.web.gate import Access
from gateway.hub.web.office import Daemon
from gateway.webkit.events import Broadcaster
from tests.hub.samples import SITE, follow, message, tap
from tests.hub.sync.school_reads import Site, row
from tests.hub.two_schools import COOKIE

BOTH_DATABASES = True
FRIDAY = date(2026, 11, 20)
EVENING = to_ms(datetime(2026, 11, 20, 20, 0, tzinfo=UTC))
DENTIST = ActionSettings("dentist", "Dentist", "sign", "out", code="M")
WEEK = frozenset(range(5))
AM = SessionSettings("AM", WEEK, time(8, 30), time(8, 45), time(9, 15), time(12, 0))
PM = SessionSettings("PM", WEEK, time(12, 45), time(13, 0), time(13, 30), time(15, 30))
REGISTER = RegisterSettings((AM, PM), (DENTIST,))


@pytest.fixture
def school(store: Store) -> Site:
    site = Site(store)
    site.apply(row("1", "Ann Smith", form="7B", year="7"), row("2", "Ben Jones", form="7B", year="7"))
    site.apply(
        row("1", "Ann Smith", form="7B", year="7"),
        row("2", "Ben Jones", form="7B", year="7"),
        row("3", "Cat Adams", form="8A", year="8"),
        row("9", "Tom Teacher", role="staff"),
    )
    keep(store, REGISTER)
    return site


def keep(store: Store, settings: RegisterSettings) -> None:
    with store.write() as connection:
        connection.execute(insert(tables.register_settings).values(site=SITE, settings=msgspec.to_builtins(settings)))


class Taps:
    """Movements of one kiosk, in the order of their numbers."""

    def __init__(self, school: Site) -> None:
        self.school, self.seq = school, 0

    def move(self, key: str, at: str, direction: str = "in", role: str = "student", **fields: Any) -> None:
        ref = self.school.refs()[role, key]
        body = {"person": ref, "direction": direction, **fields.pop("body", {})}
        self.seq += 1
        fields = {"at": f"2026-11-20T{at}:00.000Z", "point": "desk", "person": ref, "reason": UNSET, **fields}
        event = tap(self.seq, kind="movement", movement=body, card=UNSET, decision=UNSET, **fields)
        Committer(self.school.store).commit([message(event)])
        follow(self.school.store)


@pytest.fixture
def taps(school: Site) -> Taps:
    return Taps(school)


def day(store: Store, on: date = FRIDAY, at_ms: int = EVENING) -> DayMarks:
    with store.read() as connection:
        return read_day(connection, SITE, on, at_ms)


def short(found: DayMarks) -> list[tuple[str, str, str | None, int | None, str]]:
    return [(mark.person_key, mark.session, mark.code, mark.minutes_late, mark.state) for mark in found.marks]


def decide(
    store: Store,
    school: Site,
    key: str,
    session: str,
    decision: tuple[str | None, int | None] | None,
    on: date = FRIDAY,
) -> None:
    with store.write() as connection:
        audit = Audit("person:office", SITE, now_ms(), reason="rang her mother")
        decide_mark(connection, SITE, school.refs()["student", key], on, session, decision, audit)
        audit.write(connection)


def test_who_comes_late_is_late_and_who_comes_in_time_or_not_at_all_has_no_mark(store: Store, taps: Taps) -> None:
    taps.move("1", "08:40")
    taps.move("2", "08:52")
    taps.move("9", "09:40", role="staff")
    found = day(store)
    assert short(found) == [("2", "AM", "L", 7, "proposed")]
    assert (found.sessions, found.came) == (("AM", "PM"), 2)
    [evidence] = found.marks[0].evidence
    assert (evidence.at.strftime("%H:%M"), evidence.direction, evidence.point) == ("08:52", "in", "desk")


def test_after_the_register_closed_it_is_u_and_a_reason_goes_to_the_session_that_is_missed(
    store: Store, taps: Taps
) -> None:
    taps.move("1", "09:20")
    taps.move("2", "08:40")
    taps.move("2", "11:00", "out", body={"action": "dentist"})
    assert short(day(store)) == [("1", "AM", "U", 35, "proposed"), ("2", "PM", "M", None, "held")]
    assert day(store).marks[1].hold == "confirm", "an excuse that was chosen at a kiosk is the office's to confirm"
    noon = to_ms(datetime(2026, 11, 20, 12, 30, tzinfo=UTC))
    assert short(day(store, at_ms=noon)) == [("1", "AM", "U", 35, "proposed")], "the afternoon is not over yet"


def test_a_time_that_is_not_sure_is_held_and_follows_its_correction(store: Store, taps: Taps) -> None:
    taps.move("1", "08:50")
    event, movement = tables.event, tables.movement
    with store.write() as connection:
        connection.execute(update(event).values(at_how="bounded", at_error_ms=600_000))
        number = connection.scalar(event.select().with_only_columns(event.c.gateway))
        note_revised(connection, [(number, "5f1c9a02", 1)])
    follow(store)
    [mark] = day(store).marks
    assert (mark.code, mark.state, mark.hold) == ("L", "held", "time_unsure")
    with store.write() as connection:
        connection.execute(update(event).values(at_how="repaired", at_error_ms=1_000))
        note_revised(connection, [(number, "5f1c9a02", 1)])
    follow(store)
    assert short(day(store)) == [("1", "AM", "L", 5, "proposed")]
    with store.read() as connection:
        assert connection.scalar(movement.select().with_only_columns(movement.c.at_how)) == "repaired"


def test_the_office_decides_over_movements_and_can_take_it_back(store: Store, school: Site, taps: Taps) -> None:
    taps.move("1", "08:52")
    decide(store, school, "1", "AM", ("M", None))
    decide(store, school, "3", "AM", ("I", None))
    ann, cat = day(store).marks[1], day(store).marks[0]
    assert (cat.person_key, cat.code, cat.state, cat.evidence) == ("3", "I", "decided", ())
    assert (ann.person_key, ann.code, ann.proposal, ann.comment) == ("1", "M", "L", "rang her mother")
    assert ann.decision is not None
    assert ann.decision.by == "person:office"
    decide(store, school, "1", "AM", (None, None))
    assert ("1", "AM", None, None, "decided") in short(day(store))
    decide(store, school, "1", "AM", None)
    decide(store, school, "3", "AM", None)
    assert short(day(store)) == [("1", "AM", "L", 7, "proposed")]


@pytest.mark.parametrize(
    ("key", "session", "decision", "on", "sentence"),
    [
        ("1", "AM", ("WRONG", None), FRIDAY, "'WRONG' is no attendance code"),
        ("1", "AM", ("L", 601), FRIDAY, "from 0 to 600"),
        ("1", "DAY", ("L", 1), FRIDAY, "no register DAY"),
        ("1", "AM", ("L", 1), date(2026, 11, 21), "no register AM on 2026-11-21"),
    ],
)
def test_a_decision_that_fits_no_register_is_refused_and_changes_nothing(
    store: Store, school: Site, key: str, session: str, decision: tuple[str, int | None], on: date, sentence: str
) -> None:
    with pytest.raises(RefusedError, match=re.escape(sentence)):
        decide(store, school, key, session, decision, on)
    assert day(store).marks == ()


def test_a_holiday_and_a_site_without_sessions_have_no_register(store: Store, school: Site, taps: Taps) -> None:
    taps.move("1", "09:00")
    with store.write() as connection:
        connection.execute(insert(tables.holiday).values(site=SITE, first_day=FRIDAY, last_day=FRIDAY))
    assert (day(store).sessions, day(store).marks, day(store).came) == ((), (), 1)


def test_hub_toml_reaches_the_database_changes_and_goes_away(store: Store, tmp_path: Path) -> None:
    (tmp_path / "site.key").write_text("ab" * 32)
    head = '[hub]\nbroker = "mqtt://127.0.0.1:1883"\nstate_dir = "state"\n'
    head += f'[[site]]\nid = "{SITE}"\nsite_key_file = "site.key"\n'
    session = '[[site.session]]\nname = "AM"\nopens = "08:30"\nstarts = "08:45"\ncloses = "09:15"\nends = "12:00"\n'
    for text, names in ((head + session, ["AM"]), (head + session.replace('"AM"', '"DAY"'), ["DAY"]), (head, [])):
        (tmp_path / "hub.toml").write_text(text)
        register(store, read_settings(tmp_path / "hub.toml"))
        with store.read() as connection:
            found = load_register(connection, SITE)
        assert [item.name for item in found.sessions] == names
        assert found == read_settings(tmp_path / "hub.toml").sites[0].register


def client(store: Store, folder: Path, role: Role, *groups: str) -> TestClient:
    at_ms = now_ms()
    with store.write() as connection:
        audit = Audit("person:root", "", at_ms)
        account = accounts.create_account(connection, f"{role}@staff.example", "", audit)
        accounts.activate(connection, account.id)
        switches = ("attendance",) if role is Role.EXTERNAL else ()
        accounts.add_grant(connection, account.id, Grant(SITE, role, switches, groups), audit)
        cookie = open_session(connection, account.id, "full", "password", "Firefox", at_ms)
    access = Access(SignInSettings("https://hub.school.example"), state_dir=folder)
    app = build_office(store, Daemon(list, lambda: True, dict), Broadcaster(), access).app
    return TestClient(app, base_url="http://127.0.0.1", cookies={COOKIE: cookie}, follow_redirects=False)


POSTED = {"Sec-Fetch-Site": "same-origin"}


def test_the_office_sees_decides_and_downloads_the_register(
    store: Store, school: Site, taps: Taps, tmp_path: Path
) -> None:
    taps.move("1", "08:52")
    taps.move("2", "09:20")
    office = client(store, tmp_path, Role.ATTENDANCE)
    page = office.get("/attendance", params={"day": "2026-11-20"}).text
    assert "2 pupils with a movement" in page
    assert "IN 08:52 desk" in page
    form = {"person": school.refs()["student", "2"], "day": "2026-11-20", "session": "AM", "code": "L", "minutes": "12"}
    answer = office.post("/attendance/decide", data={**form, "reason": "=bus"}, headers=POSTED)
    assert answer.headers["location"] == f"/attendance?{urlencode({'site': SITE, 'day': '2026-11-20'})}"
    file = office.get("/attendance.csv", params={"day": "2026-11-20", "session": "AM"})
    assert file.headers["content-disposition"] == f'attachment; filename="attendance-{SITE}-2026-11-20-AM.csv"'
    rows = list(csv.DictReader(io.StringIO(file.text)))
    assert [(row["person_key"], row["code"], row["minutes_late"], row["comment"]) for row in rows] == [
        ("2", "L", "12", "'=bus"),
        ("1", "L", "7", ""),
    ]
    body = office.get("/v1/attendance", params={"day": "2026-11-20"}).json()
    assert [mark["state"] for mark in body["marks"]] == ["decided", "proposed"]
    assert office.post("/attendance/decide", data={**form, "withdraw": "true"}, headers=POSTED).status_code == 303
    assert short(day(store)) == [("2", "AM", "U", 35, "proposed"), ("1", "AM", "L", 7, "proposed")]


@pytest.mark.parametrize(
    ("role", "sees", "decides"), [(Role.STAFF, 200, 403), (Role.TECHNICIAN, 403, 403), (Role.READER, 200, 403)]
)
def test_who_may_see_marks_may_not_decide_them(
    store: Store, school: Site, tmp_path: Path, role: Role, sees: int, decides: int
) -> None:
    reader = client(store, tmp_path, role)
    assert reader.get("/attendance", params={"day": "2026-11-20"}).status_code == sees
    form = {"person": school.refs()["student", "1"], "day": "2026-11-20", "session": "AM", "code": "L"}
    assert reader.post("/attendance/decide", data=form, headers=POSTED).status_code == decides
    assert day(store).marks == ()


def test_external_staff_see_the_marks_of_their_own_groups(
    store: Store, school: Site, taps: Taps, tmp_path: Path
) -> None:
    taps.move("1", "08:52")
    taps.move("3", "08:55")
    coach = client(store, tmp_path, Role.EXTERNAL, "8A")
    body = coach.get("/v1/attendance", params={"day": "2026-11-20"}).json()
    assert ([mark["person_key"] for mark in body["marks"]], body["came"]) == (["3"], 1)


@pytest.mark.parametrize("on", ["2026-13-01", "tomorrow", "0001-01-01", "9999-12-31"])
def test_a_day_that_is_none_is_a_sentence(store: Store, school: Site, tmp_path: Path, on: str) -> None:
    answer = client(store, tmp_path, Role.OFFICE).get("/v1/attendance", params={"day": on})
    assert answer.status_code in (409, 422)
