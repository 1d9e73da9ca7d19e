"""Links are mailed: made when the mail leaves, to the address of the account, and to nobody who has none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlalchemy import event, insert, select

from gateway.errors import RefusedError
from gateway.hub.accounts import attempts, links, people, sessions, sign_in, tokens, two_step
from gateway.hub.accounts.sealing import Seal
from gateway.hub.mail.outbox import post
from gateway.hub.mail.sender import MailSender
from gateway.hub.scope import Grant, Role
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store
from tests.hub.mail.post_office import DAY, HOUR, MINUTE, NOON, Clock, PostOffice, mail_settings
from tests.hub.samples import SITE

BOTH_DATABASES = True

PAGES = "https://hub.school.example"
MAILER = links.Mailer(post, PAGES)
EMAIL, PASSWORD, NEW = "Zoe@School.example", "four words in a row", "another four words here"
LINK = re.compile(re.escape(PAGES) + r"/welcome/(\S+)")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (sign_in, links):
        monkeypatch.setattr(module, "now_ms", clock)
    return clock


@pytest.fixture
def sender(store: Store, office: PostOffice, clock: Clock) -> MailSender:
    return MailSender(store, mail_settings(office.port), lambda _site: (), clock=clock)


def add_account(store: Store, email: str = EMAIL, role: Role = Role.OFFICE) -> people.Account:
    with store.write() as connection:
        audit = Audit("person:root", "", NOON)
        account = people.create_account(connection, email, "", audit)
        people.add_grant(connection, account.id, Grant(SITE, role), audit)
        audit.write(connection)
    return account


def sign_up(store: Store, email: str = EMAIL) -> sign_in.SignedIn:
    account = add_account(store, email)
    with store.write() as connection:
        token = tokens.make_one_time(connection, "invite", NOON, account=account.id)
    return sign_in.welcome(store, token, PASSWORD, "Firefox")


def sign_up_at_issuer(store: Store, email: str) -> None:
    account = add_account(store, email)
    with store.write() as connection:
        people.activate(connection, account.id)
        way = {"account": account.id, "kind": "oidc", "issuer": "https://login.example/tenant", "subject": email}
        connection.execute(insert(tables.sign_in_way).values(**way, created_ms=NOON))


def arrived(office: PostOffice) -> list[tuple[str, str]]:
    """Return the addresses and texts of what came since the last call."""
    found = [(address, message.get_payload(decode=True).decode()) for address, message in office.taken]  # type: ignore[union-attr]  # one part
    office.taken.clear()
    return found


def link_in(text: str) -> str:
    found = LINK.search(text)
    assert found is not None, text
    return found[1]


def reset_link(store: Store, office: PostOffice, sender: MailSender, email: str = EMAIL) -> str:
    links.request_reset(store, MAILER, email, None)
    sender.turn()
    ((_, text),) = arrived(office)
    return link_in(text)


def is_open(store: Store, signed: sign_in.SignedIn, at_ms: int = NOON) -> bool:
    with store.read() as connection:
        return sessions.find_session(connection, signed.token, 900_000, at_ms) is not None


def test_an_invitation_is_mailed_to_the_invited_address_and_its_link_works_once(
    store: Store, office: PostOffice, sender: MailSender
) -> None:
    account = add_account(store)
    with store.write() as connection:
        assert links.mail_invitation(connection, MAILER, account, NOON)
        assert links.mail_invitation(connection, MAILER, account, NOON), "a double click is one mail"
    sender.turn()
    ((address, text),) = arrived(office)
    assert address == EMAIL
    assert "24 hours" in text
    assert sign_in.welcome(store, link_in(text), PASSWORD, "Firefox").account.id == account.id
    with pytest.raises(RefusedError, match="no more"):
        sign_in.welcome(store, link_in(text), NEW, "Firefox")


def test_an_invitation_that_waits_for_the_mail_server_has_a_link_of_the_day_it_leaves(
    store: Store, clock: Clock, sender: MailSender, office: PostOffice
) -> None:
    account = add_account(store)
    office.close()
    with store.write() as connection:
        links.mail_invitation(connection, MAILER, account, NOON)
    sender.turn()
    clock.at_ms += 2 * DAY
    office.open()
    sender.turn()
    ((_, text),) = arrived(office)
    assert sign_in.welcome(store, link_in(text), PASSWORD, "Firefox").stage == "full"


def test_an_address_that_is_never_mailed_gets_no_invitation(store: Store) -> None:
    account = add_account(store, "p-1@st-marys.invalid")
    with store.write() as connection:
        assert not links.mail_invitation(connection, MAILER, account, NOON)


def test_an_invitation_that_was_used_or_whose_account_ended_meanwhile_is_not_mailed(
    store: Store, office: PostOffice, sender: MailSender
) -> None:
    account = add_account(store)
    with store.write() as connection:
        links.mail_invitation(connection, MAILER, account, NOON)
        people.end_account(connection, account.id, Audit("person:root", "", NOON))
    sender.turn()
    assert arrived(office) == []
    with store.read() as connection:
        assert connection.scalar(select(tables.mail.c.state)) == "void"
        assert connection.scalar(select(tables.one_time_token.c.kind)) is None


def test_a_reset_link_sets_the_password_once_and_is_over_after_an_hour(
    store: Store, clock: Clock, office: PostOffice, sender: MailSender
) -> None:
    sign_up(store)
    token = reset_link(store, office, sender)
    sign_in.welcome(store, token, NEW, "Firefox")
    sign_in.by_password(store, EMAIL, NEW, "Firefox", None)
    with pytest.raises(RefusedError, match="no more"):
        sign_in.welcome(store, token, "a third row of words", "Firefox")
    clock.at_ms += MINUTE
    late = reset_link(store, office, sender)
    clock.at_ms += HOUR
    with pytest.raises(RefusedError, match="no more"):
        sign_in.welcome(store, late, "a third row of words", "Firefox")
    sign_in.by_password(store, EMAIL, NEW, "Firefox", None)


def test_a_reset_ends_every_session_and_every_other_link_and_stands_in_the_audit(
    store: Store, clock: Clock, office: PostOffice, sender: MailSender
) -> None:
    first = sign_up(store)
    token = reset_link(store, office, sender)
    with store.write() as connection:
        other = tokens.make_one_time(connection, "invite", NOON, account=first.account.id)
    again = sign_in.welcome(store, token, NEW, "Firefox")
    assert not is_open(store, first)
    assert is_open(store, again)
    with pytest.raises(RefusedError, match="no more"):
        sign_in.welcome(store, other, PASSWORD, "Firefox")
    with store.read() as connection:
        audit = tables.audit
        rows = connection.execute(select(audit.c.operation, audit.c.detail).order_by(audit.c.id)).all()
    found = [(row.operation, row.detail) for row in rows]
    assert ("link_mailed", {"kind": "forgot"}) in found
    assert ("password_set", {"by": "forgot link"}) in found
    assert token not in str(found)


def test_a_request_of_anybody_ends_no_link_that_an_administrator_made(
    store: Store, clock: Clock, office: PostOffice, sender: MailSender
) -> None:
    signed = sign_up(store)
    with store.write() as connection:
        made = tokens.make_one_time(connection, "reset", NOON, account=signed.account.id)
    mailed = reset_link(store, office, sender)
    sign_in.welcome(store, made, NEW, "Firefox")
    with pytest.raises(RefusedError, match="no more"):
        sign_in.welcome(store, mailed, PASSWORD, "Firefox")


def test_a_reset_leaves_the_second_step_on(
    store: Store, clock: Clock, office: PostOffice, sender: MailSender, tmp_path: Path
) -> None:
    signed = sign_up(store)
    with store.write() as connection:
        audit = Audit("account:x", "", NOON)
        two_step.set_up(connection, Seal(tmp_path), signed.account.id, two_step.new_secret(), 1, audit)
    assert sign_in.welcome(store, reset_link(store, office, sender), NEW, "Firefox").stage == "code"


def test_a_new_password_of_ones_own_ends_a_link_that_was_mailed(
    store: Store, office: PostOffice, sender: MailSender
) -> None:
    signed = sign_up(store)
    token = reset_link(store, office, sender)
    with store.read() as connection:
        session = sessions.find_session(connection, signed.token, 900_000, NOON)
    assert session is not None
    sign_in.change_password(store, session, PASSWORD, NEW)
    with pytest.raises(RefusedError, match="no more"):
        sign_in.welcome(store, token, PASSWORD, "Firefox")


def test_no_table_holds_a_link_that_works(store: Store, office: PostOffice, sender: MailSender) -> None:
    sign_up(store)
    token = reset_link(store, office, sender)
    with store.read() as connection:
        for table in tables.metadata.sorted_tables:
            assert token not in str(connection.execute(select(table)).all()), table.name


def test_who_gets_what_of_those_who_ask(store: Store, clock: Clock, office: PostOffice, sender: MailSender) -> None:
    sign_up(store)
    sign_up_at_issuer(store, "amir@school.example")
    add_account(store, "invited@school.example")
    ended = sign_up(store, "ended@school.example")
    with store.write() as connection:
        people.end_account(connection, ended.account.id, Audit("person:root", "", NOON))
    sign_up(store, "p-1@st-marys.invalid")
    names = ("zoe@school.example", "amir@school.example", "invited@school.example", "ended@school.example")
    for email in (*names, "nobody@elsewhere.example", "p-1@st-marys.invalid"):
        links.request_reset(store, MAILER, email, None)
    sender.turn()
    texts = dict(arrived(office))
    assert sorted(texts) == [EMAIL, "amir@school.example"], "the address is the account's, however it was typed"
    assert LINK.search(texts[EMAIL])
    assert f"{PAGES}/sign-in" in texts["amir@school.example"]
    assert "login.example" in texts["amir@school.example"]
    assert not LINK.search(texts["amir@school.example"])


def test_an_address_without_an_account_is_the_same_work_and_forgotten_after_a_day(
    store: Store, clock: Clock, office: PostOffice, sender: MailSender
) -> None:
    sign_up(store)
    sign_up_at_issuer(store, "amir@school.example")
    work: dict[str, list[str]] = {}
    for email in (EMAIL, "amir@school.example", "nobody@school.example"):
        statements = work.setdefault(email, [])

        def note(*arguments: object, found: list[str] = statements) -> None:
            found.append(str(arguments[2]))

        event.listen(store.engine, "before_cursor_execute", note)
        links.request_reset(store, MAILER, email, "203.0.113.9")
        event.remove(store.engine, "before_cursor_execute", note)
    first, *others = work.values()
    assert len(first) > 4
    assert others == [first, first], "whoever measures learns nothing of accounts"
    sender.turn()
    clock.at_ms += DAY + MINUTE
    sender.turn()
    with store.read() as connection:
        rows = connection.execute(select(tables.mail.c.address, tables.mail.c.state)).all()
    assert ("nobody@school.example", "void") not in rows
    assert len(rows) == 2


def test_asking_is_limited_by_address_and_by_client_with_or_without_an_account(store: Store, clock: Clock) -> None:
    sign_up(store)
    for email in (EMAIL, "nobody@school.example"):
        for _ in range(attempts.BY_RESET.free):
            links.request_reset(store, MAILER, email, None)
        with pytest.raises(sign_in.TooManyAttempts):
            links.request_reset(store, MAILER, email.upper(), None)
    for number in range(attempts.BY_RESET_ADDRESS.free):
        links.request_reset(store, MAILER, f"{number}@school.example", "203.0.113.9")
    with pytest.raises(sign_in.TooManyAttempts):
        links.request_reset(store, MAILER, "x@school.example", "203.0.113.9")
    links.request_reset(store, MAILER, "x@school.example", "203.0.113.10")


def test_a_flood_of_requests_leaves_the_outbox_to_alarms(store: Store, clock: Clock) -> None:
    for number in range(210):
        links.request_reset(store, MAILER, f"{number}@school.example", None)
    with store.write() as connection:
        assert len(connection.execute(select(tables.mail.c.id)).all()) == 200
        assert post(connection, "hub_alarm", {"why": "x"}, ["it@school.example"], "hub", NOON) == 1
