from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import delete, insert, select, update

from gateway.hub.mail.alarms import tell
from gateway.hub.mail.faults import find_faults, was_silent_for_a_school_day
from gateway.hub.mail.outbox import Mail
from gateway.hub.mail.smtp import compose
from gateway.hub.mail.texts import TEXTS, render
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from gateway.hub.store.times import to_ms
from tests.hub.mail.post_office import DAY, HOUR, MINUTE, NOON
from tests.hub.samples import GATEWAY, SITE
from tests.hub.work.test_jobs import add_source

BOTH_DATABASES = True
LONDON = ZoneInfo("Europe/London")
IT, HEAD = "it@school.example", "head@school.example"


class Desk:
    """The alarms of a hub with one source; returns the subjects of new mails."""

    def __init__(self, store: Store) -> None:
        self.store, self.at_ms = store, NOON
        self.source = add_source(store, "mis").id
        self._seen = 0
        with store.write() as connection:
            row = {"site": SITE, "source": self.source, "kind": "cards", "enabled": True, "settings": ""}
            connection.execute(insert(tables.job).values(row))

    def job(self, **values: Any) -> None:
        with self.store.write() as connection:
            connection.execute(update(tables.job).values(values))

    def fails(self, failure: str | None, since_ms: int | None = NOON) -> None:
        self.job(failing_since_ms=since_ms if failure else None, failure=failure, last_error=failure and "The reason.")

    def subjects(self, after_ms: int = 0) -> list[str]:
        self.at_ms += after_ms
        recipients = {SITE: (HEAD,), "": (IT,)}
        with self.store.write() as connection:
            tell(connection, find_faults(connection, self.at_ms), lambda site: recipients[site], self.at_ms)
            query = select(tables.mail).where(tables.mail.c.id > self._seen).order_by(tables.mail.c.id)
            mails = connection.execute(query).all()
        self._seen = mails[-1].id if mails else self._seen
        return [render(row.template, row.params).subject for row in mails]


@pytest.fixture
def desk(store: Store) -> Desk:
    return Desk(store)


def test_a_source_is_told_after_an_hour_then_once_a_day_and_when_it_is_over(desk: Desk) -> None:
    desk.fails("unreachable")
    assert desk.subjects(59 * MINUTE) == []
    unreachable = f"{SITE}: the source mis cannot be reached"
    assert desk.subjects(MINUTE) == [unreachable]
    assert [subject for _ in range(23) for subject in desk.subjects(HOUR)] == []
    assert desk.subjects(HOUR) == [unreachable]
    desk.fails(None)
    assert desk.subjects(MINUTE) == [f"Over: {unreachable}"]
    assert desk.subjects(2 * DAY) == []


def test_a_source_that_comes_and_goes_is_told_once_a_day(desk: Desk) -> None:
    subjects = []
    for _ in range(10):
        desk.fails("unreachable")
        subjects += desk.subjects(HOUR)
        desk.fails(None)
        subjects += desk.subjects(MINUTE)
    assert len([subject for subject in subjects if not subject.startswith("Over")]) == 1
    assert len([subject for subject in subjects if subject.startswith("Over")]) == 1


@pytest.mark.parametrize(
    ("failure", "what"),
    [
        ("unreachable", "firewall"),
        ("expired", "expired"),
        ("refused", "expired"),
        ("object_missing", "moved or renamed"),
        ("format", "mis check"),
    ],
)
def test_moved_expired_and_firewall_are_three_different_mails(desk: Desk, failure: str, what: str) -> None:
    desk.fails(failure)
    assert len(desk.subjects(2 * HOUR)) == 1
    with desk.store.read() as connection:
        row = connection.execute(select(tables.mail)).one()
    text = render(row.template, row.params)
    others = {"firewall", "expired", "moved or renamed"} - {what}
    assert what in text.body
    assert not [other for other in others if other in text.body]
    assert "last good cards stay in use" in text.body
    assert row.address == HEAD


def test_a_source_that_stopped_is_told_at_once(desk: Desk) -> None:
    desk.fails("refused")
    desk.job(stopped_why="No.")
    assert desk.subjects(MINUTE) == [f"{SITE}: the source mis no longer accepts our sign-in"]


def test_another_cause_is_another_mail(desk: Desk) -> None:
    desk.fails("unreachable")
    desk.subjects(2 * HOUR)
    desk.fails("expired")
    subjects = desk.subjects(MINUTE)
    assert f"{SITE}: the source mis no longer accepts our sign-in" in subjects
    assert f"Over: {SITE}: the source mis cannot be reached" in subjects


def test_a_held_run_is_told_until_somebody_has_decided(desk: Desk) -> None:
    run = tables.sync_run

    def ended(result: str) -> None:
        with desk.store.write() as connection:
            connection.execute(insert(run).values(source=desk.source, started_ms=desk.at_ms, result=result))

    ended("done")
    assert desk.subjects() == []
    ended("held")
    ended("failed")
    waits = f"{SITE}: changes from mis wait for somebody"
    assert desk.subjects(MINUTE) == [waits]
    ended("held")
    assert desk.subjects(HOUR) == []
    ended("done")
    assert desk.subjects(HOUR) == [f"Over: {waits}"]


def test_a_gateway_is_told_when_a_school_day_has_passed_without_it(desk: Desk) -> None:
    gateway = tables.gateway
    with desk.store.write() as connection:
        row = {"site": SITE, "name": GATEWAY, "state": "lost", "seen_ms": NOON - 5 * HOUR}
        connection.execute(insert(gateway).values(row))
    # From seven in the morning; noon, half past three and four in the afternoon.
    assert desk.subjects() == []
    assert desk.subjects(3 * HOUR) == []
    silent = f"{SITE}: the gateway {GATEWAY} has been silent for a school day"
    assert desk.subjects(HOUR) == [silent]
    with desk.store.write() as connection:
        connection.execute(update(gateway).values(state="ready"))
    assert desk.subjects(HOUR) == [f"Over: {silent}"]


def at(text: str) -> int:
    return to_ms(datetime.fromisoformat(text).replace(tzinfo=LONDON).astimezone(UTC))


@pytest.mark.parametrize(
    ("heard", "now", "holidays", "silent"),
    [
        ("2026-11-25 17:00", "2026-11-26 15:59", [], False),
        ("2026-11-25 17:00", "2026-11-26 16:00", [], True),
        ("2026-11-26 08:00", "2026-11-26 17:00", [], False),
        ("2026-11-26 08:00", "2026-11-27 12:00", [], False),
        ("2026-11-27 17:00", "2026-11-29 20:00", [], False),
        ("2026-11-27 17:00", "2026-11-30 16:30", [], True),
        ("2026-11-27 17:00", "2026-11-30 16:30", [(date(2026, 11, 30), date(2026, 12, 1))], False),
    ],
)
def test_weekends_and_holidays_are_no_school_days(
    heard: str, now: str, holidays: list[tuple[date, date]], silent: bool
) -> None:
    assert was_silent_for_a_school_day(at(heard), at(now), LONDON, holidays) is silent


def test_an_alarm_of_the_hub_goes_to_those_who_look_after_the_hub(desk: Desk) -> None:
    with desk.store.write() as connection:
        connection.execute(insert(tables.hub_claim).values(_claim(NOON)))
    assert desk.subjects(MINUTE) == ["The hub needs somebody"]
    with desk.store.write() as connection:
        assert connection.scalar(select(tables.mail.c.address)) == IT
        connection.execute(delete(tables.hub_claim))
    assert desk.subjects(MINUTE) == ["Over: The hub needs somebody"]


def _claim(at_ms: int) -> dict[str, Any]:
    given: dict[str, Any] = {"alarm": "Another hub is on this broker.", "alarm_ms": at_ms}
    for column in tables.hub_claim.columns:
        if column.name not in given and not column.nullable and column.default is None:
            given[column.name] = 1 if column.type.python_type is int else "x"
    return given


def test_no_text_breaks_out_of_the_head_of_a_mail() -> None:
    params = {"site": "a\r\nBcc: x@y.example", "source": "mis", "since": "now", "why": "x"}
    for template in TEXTS:
        filled = {**params, "subject": "s\nBcc: x@y.example", "until": "now", "gateway": "g\nx"}
        filled |= {"link": "l\nx", "pages": "p\nx", "issuer": "i\nx"}
        message = compose(Mail(1, template, filled, IT, 0, NOON), "tapgate@school.example")
        assert message["Bcc"] is None
        assert "\n" not in message["Subject"]
