"""Accounts sign in with a password and a second step; guessing is slowed down, and links work once."""

from __future__ import annotations

import threading
from pathlib import Path

import pyotp
import pytest
from sqlalchemy import select, text

from gateway.errors import RefusedError
from gateway.hub.accounts import attempts, people, sealing, sessions, sign_in, tokens, two_step
from gateway.hub.accounts.passwords import hash_password, is_password, why_weak
from gateway.hub.scope import EVERYWHERE, Grant, Right, Role
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit, verify
from gateway.hub.store.engine import Store, now_ms
from tests.hub.samples import SITE

BOTH_DATABASES = True

PASSWORD = "four words in a row"
EMAIL = "Zoe.Mueller@School.example"
NOW_MS = 1_790_000_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    now = [NOW_MS]
    monkeypatch.setattr(sign_in, "now_ms", lambda: now[0])
    return now


def invite(store: Store, role: Role = Role.OFFICE, email: str = EMAIL, at_ms: int = NOW_MS) -> str:
    with store.write() as connection:
        audit = Audit("person:root", "", at_ms)
        account = people.create_account(connection, email, "Zoë Müller", audit)
        people.add_grant(connection, account.id, Grant(SITE, role), audit)
        audit.write(connection)
        return tokens.make_one_time(connection, "invite", at_ms, account=account.id)


def sign_up(store: Store, role: Role = Role.OFFICE, email: str = EMAIL) -> sign_in.SignedIn:
    return sign_in.welcome(store, invite(store, role, email), PASSWORD, "Firefox")


def session(store: Store, signed: sign_in.SignedIn, at_ms: int = NOW_MS) -> sessions.Session | None:
    with store.read() as connection:
        return sessions.find_session(connection, signed.token, 900_000, at_ms)


def enter(store: Store, password: str = PASSWORD, email: str = EMAIL, address: str | None = None) -> sign_in.SignedIn:
    return sign_in.by_password(store, email, password, "Firefox", address)


def test_an_invitation_sets_the_password_once_and_signs_in(store: Store, clock: list[int]) -> None:
    token = invite(store)
    with pytest.raises(RefusedError, match="wrong"):
        enter(store)
    signed = sign_in.welcome(store, token, PASSWORD, "Firefox")
    assert signed.stage == "full"
    with pytest.raises(RefusedError, match="no more"):
        sign_in.welcome(store, token, "another four words here", "Firefox")
    assert enter(store, email="zoe.mueller@school.EXAMPLE").account.id == signed.account.id


def test_a_link_is_over_after_a_day_and_when_a_newer_one_is_made(store: Store, clock: list[int]) -> None:
    old = invite(store)
    with store.write() as connection:
        new = tokens.make_one_time(connection, "invite", NOW_MS, account=1)
    with pytest.raises(RefusedError, match="no more"):
        sign_in.welcome(store, old, PASSWORD, "Firefox")
    clock[0] += tokens.LINK_MS
    with pytest.raises(RefusedError, match="no more"):
        sign_in.welcome(store, new, PASSWORD, "Firefox")


def test_two_who_open_one_invitation_at_once_do_not_both_get_in(store: Store, clock: list[int]) -> None:
    token = invite(store)
    entered, refused = [], []

    def use(word: str) -> None:
        try:
            entered.append(sign_in.welcome(store, token, f"{word} {PASSWORD}", "Firefox"))
        except RefusedError:
            refused.append(word)

    threads = [threading.Thread(target=use, args=(word,)) for word in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(entered), len(refused)) == (1, 2)


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short", "12 characters"),
        ("x" * 300, "at most"),
        ("abababababababab", "different"),
        ("my zoe.mueller pass", "address"),
    ],
)
def test_a_weak_password_is_refused_with_what_to_do(password: str, why: str) -> None:
    assert why in (why_weak(password, EMAIL) or "")
    assert why_weak(PASSWORD, EMAIL) is None


def test_a_hash_is_argon2id_with_the_published_parameters_and_nobodys_password_fits_nobody() -> None:
    stored = hash_password(PASSWORD)
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert is_password(stored, PASSWORD)
    assert not is_password(stored, PASSWORD + " ")
    assert not is_password(None, "nobody has this password")
    assert not is_password("not a hash", PASSWORD)


def test_guessing_is_slowed_down_by_account_and_survives_a_restart(store: Store, clock: list[int]) -> None:
    sign_up(store)
    for _ in range(attempts.BY_ACCOUNT.free):
        with pytest.raises(RefusedError, match="wrong"):
            enter(store, "wrong password")
    with pytest.raises(sign_in.TooManyAttempts) as found:
        enter(store)
    assert 0 < found.value.seconds <= 60
    clock[0] += 61_000
    enter(store)
    with pytest.raises(RefusedError, match="wrong"):
        enter(store, "wrong password")


def test_an_unknown_address_is_slowed_down_in_the_same_words(store: Store, clock: list[int]) -> None:
    sign_up(store)
    told = {}
    for email in (EMAIL, "nobody@school.example"):
        for _ in range(attempts.BY_ACCOUNT.free + 1):
            with pytest.raises(RefusedError) as found:
                enter(store, "wrong password", email)
            told.setdefault(email, []).append(str(found.value))
    assert told[EMAIL] == told["nobody@school.example"]


def test_one_address_that_tries_many_accounts_is_slowed_down_and_others_are_not(
    store: Store, clock: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in, "is_password", lambda stored, _password: stored is not None)
    sign_up(store)
    for number in range(attempts.BY_ADDRESS.free):
        with pytest.raises(RefusedError):
            enter(store, "x", f"{number}@school.example", "203.0.113.9")
    with pytest.raises(sign_in.TooManyAttempts):
        enter(store, address="203.0.113.9")
    enter(store, address="203.0.113.10")


def test_attempts_hold_no_address_and_go_after_a_day(store: Store) -> None:
    with store.write() as connection:
        attempts.note_attempt(connection, attempts.BY_ACCOUNT, EMAIL, NOW_MS)
        key = connection.scalar(select(tables.attempt.c.key))
        attempts.note_attempt(connection, attempts.BY_ACCOUNT, "other", NOW_MS + 25 * 3600 * 1000)
        assert connection.scalars(select(tables.attempt.c.key)).all() != [key]
    assert key is not None
    assert "zoe" not in key.lower()


@pytest.mark.parametrize("role", [Role.SUPER_USER, Role.FINANCE, Role.ORG_ADMIN])
def test_powerful_roles_must_set_up_a_second_step_first(
    store: Store, clock: list[int], tmp_path: Path, role: Role
) -> None:
    signed = sign_up(store, role)
    assert signed.stage == "setup"
    found = session(store, signed)
    assert found is not None
    assert found.stage == "setup"


def test_a_code_lets_in_once_and_a_recovery_code_once(store: Store, clock: list[int], tmp_path: Path) -> None:
    seal = sealing.Seal(tmp_path)
    signed = sign_up(store)
    secret = two_step.new_secret()
    with store.write() as connection:
        step = two_step.step_of_code(secret, pyotp.TOTP(secret).at(NOW_MS // 1000), NOW_MS)
        assert step is not None
        codes = two_step.set_up(connection, seal, signed.account.id, secret, step, Audit("account:x", "", NOW_MS))
    clock[0] += 60_000

    def take(code: str) -> sign_in.SignedIn:
        first = enter(store)
        assert first.stage == "code"
        waiting = session(store, first, clock[0])
        assert waiting is not None
        done = sign_in.by_code(store, seal, waiting, code, "Firefox")
        assert session(store, first, clock[0]) is None, "the token changes with the step"
        return done

    code = pyotp.TOTP(secret).at(clock[0] // 1000)
    assert take(f"{code[:3]} {code[3:]}").stage == "full"
    with pytest.raises(RefusedError, match="used before"):
        take(code)
    with pytest.raises(RefusedError, match="wrong"):
        take("000000")
    assert take(codes[0].upper()).stage == "full"
    with pytest.raises(RefusedError):
        take(codes[0])
    with store.read() as connection:
        rows = [str(row) for row in connection.execute(select(tables.sign_in_way))]
    assert all(secret not in row and codes[1] not in row for row in rows)
    assert oct((tmp_path / sealing.KEY_FILE).stat().st_mode)[-3:] == "600"


def test_codes_are_limited_too(store: Store, clock: list[int], tmp_path: Path) -> None:
    signed = sign_up(store)
    found = session(store, signed)
    assert found is not None
    for _ in range(attempts.BY_CODE.free):
        with pytest.raises(RefusedError, match="code"):
            sign_in.by_code(store, sealing.Seal(tmp_path), found, "123456", "Firefox")
    with pytest.raises(sign_in.TooManyAttempts):
        sign_in.by_code(store, sealing.Seal(tmp_path), found, "123456", "Firefox")


def test_another_key_than_the_one_of_the_set_up_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    sealed = sealing.Seal(tmp_path / "a").seal("secret")
    sealing.Seal(tmp_path / "b").seal("other")
    with pytest.raises(RefusedError, match=r"not the key.*accounts create"):
        sealing.Seal(tmp_path / "b").open(sealed)


def test_a_session_ends_by_idleness_by_age_and_by_a_new_password(store: Store, clock: list[int]) -> None:
    first, second = sign_up(store), enter(store)
    assert session(store, first, NOW_MS + 899_000) is not None
    assert session(store, first, NOW_MS + 900_000) is None
    found = session(store, second)
    assert found is not None
    with store.write() as connection:
        sessions.touch(connection, found, NOW_MS + sessions.ABSOLUTE_MS - 1)
    assert session(store, second, NOW_MS + sessions.ABSOLUTE_MS - 1) is not None
    assert session(store, second, NOW_MS + sessions.ABSOLUTE_MS) is None
    with pytest.raises(RefusedError, match="old password"):
        sign_in.change_password(store, found, "wrong", "a new row of words")
    sign_in.change_password(store, found, PASSWORD, "a new row of words")
    assert session(store, first) is None
    assert session(store, second) is not None
    with pytest.raises(RefusedError):
        enter(store)
    enter(store, "a new row of words")


def test_an_ended_account_is_out_at_once_and_can_be_invited_again(store: Store, clock: list[int]) -> None:
    signed = sign_up(store)
    with store.write() as connection:
        people.end_account(connection, signed.account.id, Audit("person:root", "", NOW_MS))
    assert session(store, signed) is None
    with pytest.raises(RefusedError):
        enter(store)
    again = sign_up(store, Role.READER)
    assert again.account.id == signed.account.id
    with store.read() as connection:
        scope = people.scope_of_account(connection, again.account, NOW_MS)
    assert not scope.may(Right.CARDS)


def test_a_grant_that_is_over_or_of_a_role_no_longer_known_opens_nothing(store: Store, clock: list[int]) -> None:
    signed = sign_up(store, Role.READER)
    with store.write() as connection:
        audit = Audit("person:root", "", NOW_MS)
        people.add_grant(connection, signed.account.id, Grant(SITE, Role.OFFICE), audit, until_ms=NOW_MS + 10)
        assert people.scope_of_account(connection, signed.account, NOW_MS).may(Right.CARDS)
        assert not people.scope_of_account(connection, signed.account, NOW_MS + 10).may(Right.CARDS)
        connection.execute(text("UPDATE account_grant SET role = 'caretaker'"))
        assert not people.scope_of_account(connection, signed.account, NOW_MS).may(Right.LOGBOOK)


def test_the_last_administrator_stays(store: Store) -> None:
    with store.write() as connection:
        audit = Audit("person:root", "", NOW_MS)
        one = people.create_account(connection, "one@school.example", "", audit)
        two = people.create_account(connection, "two@school.example", "", audit)
        for account in (one, two):
            people.add_grant(connection, account.id, Grant(EVERYWHERE, Role.ORG_ADMIN), audit)
        people.end_account(connection, one.id, audit)
        with pytest.raises(RefusedError, match="last administrator"):
            people.end_account(connection, two.id, audit)
        grant = people.list_grants(connection, NOW_MS, [two.id])[0]
        with pytest.raises(RefusedError, match="last administrator"):
            people.remove_grant(connection, grant.id, audit)


@pytest.mark.parametrize("email", ["", "zoe", "zoe@", "@school.example", "zoe@school", "a b@school.example", "x" * 300])
def test_what_is_no_address_gets_no_account(store: Store, email: str) -> None:
    with store.write() as connection, pytest.raises(RefusedError, match="not a mail address"):
        people.create_account(connection, email, "", Audit("x", "", NOW_MS))


def test_one_address_is_one_account_however_it_is_spelt(store: Store) -> None:
    with store.write() as connection:
        audit = Audit("x", "", NOW_MS)
        people.create_account(connection, EMAIL, "", audit)
        with pytest.raises(RefusedError, match="already"):
            people.create_account(connection, EMAIL.upper(), "", audit)


def test_domains_of_a_schools_staff_are_several(store: Store) -> None:
    with store.write() as connection:
        audit = Audit("x", SITE, NOW_MS)
        people.add_domain(connection, SITE, "@School.example", audit)
        people.add_domain(connection, SITE, "trust.example", audit)
        people.add_domain(connection, SITE, "trust.example", audit)
        with pytest.raises(RefusedError, match="not a domain"):
            people.add_domain(connection, SITE, "school", audit)
        assert people.list_domains(connection) == {SITE: ["school.example", "trust.example"]}
        assert people.sites_of_domain(connection, "A@TRUST.example") == [SITE]
        assert people.sites_of_domain(connection, "a@not-trust.example") == []
        people.remove_domain(connection, SITE, "trust.example", audit)
        assert people.sites_of_domain(connection, "a@trust.example") == []


def test_a_programs_token_is_kept_as_a_hash_and_ends(store: Store) -> None:
    with store.write() as connection:
        audit = Audit("person:root", "", NOW_MS)
        token = tokens.make_api_token(connection, "till", ("people:read",), SITE, audit, until_ms=NOW_MS + 10)
        for wrong, why in ((("people:all",), "scope"), ((), "at least one")):
            with pytest.raises(RefusedError, match=why):
                tokens.make_api_token(connection, "x", wrong, SITE, audit)
        with pytest.raises(RefusedError, match="no site"):
            tokens.make_api_token(connection, "x", ("people:read",), "nowhere", audit)
        assert token not in str(connection.execute(select(tables.api_token)).all())
        scope = tokens.scope_of_token(connection, token, NOW_MS)
        assert scope is not None
        assert scope.actor == "token:till"
        assert tokens.scope_of_token(connection, token + "x", NOW_MS) is None
        assert tokens.scope_of_token(connection, token, NOW_MS + 10) is None
        tokens.note_token_seen(connection, token, NOW_MS)
        assert tokens.list_api_tokens(connection, NOW_MS)[0].seen_ms == NOW_MS
        tokens.end_api_token(connection, 1, audit)
        assert tokens.scope_of_token(connection, token, NOW_MS) is None


def test_signing_in_and_every_change_of_an_account_stand_in_the_audit(store: Store, clock: list[int]) -> None:
    sign_up(store)
    with store.read() as connection:
        rows = connection.execute(select(tables.audit.c.operation, tables.audit.c.actor)).all()
        assert [chain.fault for chain in verify(connection)] == [None]
    assert [row.operation for row in rows] == ["account_created", "role_granted", "password_set", "signed_in"]
    assert rows[-1].actor == f"account:{EMAIL}"
    assert now_ms() > 0
