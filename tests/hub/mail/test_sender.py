from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.hub.mail.outbox import MOST_WAITING, post
from gateway.hub.mail.sender import MailSender
from gateway.hub.mail.smtp import MailNotSent, open_mailbox
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from tests.certificates import Authority
from tests.hub.mail.post_office import (
    DAY,
    HOUR,
    LATER,
    MINUTE,
    NOBODY,
    NOON,
    Clock,
    PostOffice,
    mail_settings,
    server_context,
)
from tests.hub.samples import wait_until

IT = "it@school.example"
HELD = {"site": "st-marys", "source": "mis", "since": "2026-11-26 12:00"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


def write(store: Store, *addresses: str, key: str = "held 1") -> int:
    with store.write() as connection:
        return post(connection, "held", HELD, addresses, key, NOON)


def states(store: Store) -> dict[str, str]:
    table = tables.mail
    with store.read() as connection:
        return {row.address: row.state for row in connection.execute(select(table.c.address, table.c.state))}


def sender_of(store: Store, office: PostOffice, clock: Clock) -> MailSender:
    return MailSender(store, mail_settings(office.port), lambda _site: (IT,), clock=clock)


def test_a_mail_is_delivered_once_and_not_again_after_a_restart(store: Store, office: PostOffice, clock: Clock) -> None:
    assert write(store, IT, IT) == 1
    assert write(store, IT) == 0
    sender_of(store, office, clock).turn()
    ((address, message),) = office.taken
    assert address == message["To"] == IT
    assert message["Subject"] == "st-marys: changes from mis wait for somebody"
    assert message["Message-ID"].endswith("@school.example>")
    assert "MIS syncs" in str(message.get_payload())
    clock.at_ms += DAY
    again = sender_of(store, office, clock)
    again.turn()
    again.turn()
    assert len(office.taken) == 1
    assert states(store) == {IT: "sent"}


def test_a_server_that_is_away_is_tried_less_and_less_often_until_it_is_back(store: Store, clock: Clock) -> None:
    office = PostOffice()
    write(store, IT)
    sender = sender_of(store, office, clock)
    waits = []
    for _ in range(5):
        sender.turn()
        with store.read() as connection:
            row = connection.execute(select(tables.mail)).one()
        waits.append((row.next_ms - clock.at_ms) // MINUTE)
        assert row.error.startswith("The mail server 127.0.0.1 cannot be used")
        clock.at_ms = row.next_ms
    assert waits == [1, 5, 15, 60, 60]
    office.open()
    try:
        sender.turn()
        assert len(office.taken) == 1
    finally:
        office.close()
    assert states(store) == {IT: "sent"}


def test_a_mail_that_cannot_be_sent_for_days_is_given_up(store: Store, clock: Clock) -> None:
    write(store, IT)
    clock.at_ms += 4 * DAY
    sender_of(store, PostOffice(), clock).turn()
    assert states(store) == {IT: "given_up"}


def test_a_refused_address_holds_up_nobody_and_is_in_no_log(
    store: Store, office: PostOffice, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    write(store, NOBODY, IT)
    sender_of(store, office, clock).turn()
    assert [address for address, _ in office.taken] == [IT]
    assert states(store) == {NOBODY: "refused", IT: "sent"}
    assert "550" in caplog.text
    assert NOBODY not in caplog.text


def test_a_full_mailbox_is_tried_again_and_holds_up_nobody(store: Store, office: PostOffice, clock: Clock) -> None:
    write(store, LATER)
    write(store, IT, key="held 2")
    sender = sender_of(store, office, clock)
    sender.turn()
    assert states(store) == {LATER: "waiting", IT: "sent"}
    clock.at_ms += HOUR
    sender.turn()
    with store.read() as connection:
        assert sorted(connection.scalars(select(tables.mail.c.tries))) == [0, 2]


def test_a_server_that_can_encrypt_is_spoken_to_encrypted_and_signed_in_to(
    store: Store, clock: Clock, tmp_path: Path
) -> None:
    context = server_context(*Authority(tmp_path).issue("mail"))
    office = PostOffice(tls_context=context, require_starttls=True, auth_required=True)
    office._options["authenticator"] = office.check
    password = tmp_path / "password"
    settings = mail_settings(office.port, username="hub", password_file=password)
    sender = MailSender(store, settings, lambda _site: (IT,), clock=clock)
    write(store, IT)
    office.open()
    try:
        password.write_text("wrong\n")
        sender.turn()
        assert states(store) == {IT: "waiting"}
        password.write_text("right\n")
        clock.at_ms += HOUR
        sender.turn()
    finally:
        office.close()
    assert office.passwords[-1] == b"right"
    assert office.encrypted == [True]
    assert states(store) == {IT: "sent"}


def test_a_server_elsewhere_that_cannot_encrypt_gets_nothing(
    office: PostOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.hub.mail.smtp.is_loopback", lambda _host: False)
    with pytest.raises(MailNotSent, match="SMTPNotSupportedError"), open_mailbox(mail_settings(office.port)):
        pass


def test_a_missing_password_file_is_told_and_the_mail_waits(
    store: Store, office: PostOffice, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(store, IT)
    settings = mail_settings(office.port, username="hub", password_file=tmp_path / "none")
    MailSender(store, settings, lambda _site: (IT,), clock=clock).turn()
    assert states(store) == {IT: "waiting"}
    assert "FileNotFoundError" in caplog.text


def test_the_outbox_is_bounded(store: Store) -> None:
    addresses = [f"a{number}@school.example" for number in range(MOST_WAITING + 5)]
    assert write(store, *addresses) == MOST_WAITING
    assert write(store, IT, key="held 2") == 0


def test_the_thread_sends_by_itself_and_stops(store: Store, office: PostOffice, clock: Clock) -> None:
    write(store, IT)
    beats: list[int] = []
    sender = MailSender(
        store, mail_settings(office.port), lambda _site: (IT,), clock=clock, beat=lambda: beats.append(1)
    )
    sender.start()
    wait_until(lambda: states(store) == {IT: "sent"}, "nothing was sent")
    sender.stop()
    assert beats
