"""The second step: six digits from an authenticator app (TOTP, RFC 6238), and recovery codes for a lost telephone."""

from __future__ import annotations

import base64
import secrets

import pyotp
from sqlalchemy import Connection, delete, insert, select, update

from gateway.hub.accounts.sealing import Seal
from gateway.hub.accounts.tokens import token_hash
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit

ISSUER = "Tapgate"
RECOVERY_CODES = 8
_STEP_SECONDS = 30
# A telephone's clock may be a step off, either way.
_STEPS_OFF = 1


def new_secret() -> str:
    """Return a new secret in base32, as apps take it."""
    return pyotp.random_base32()


def otpauth_link(secret: str, email: str) -> str:
    """Return the address that an app on the same device opens."""
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=ISSUER)


def step_of_code(secret: str, code: str, at_ms: int) -> int | None:
    """Return the time step whose code this is; None when it is none of now."""
    digits = "".join(code.split())
    now = at_ms // 1000 // _STEP_SECONDS
    generator = pyotp.TOTP(secret)
    for step in range(now - _STEPS_OFF, now + _STEPS_OFF + 1):
        if secrets.compare_digest(generator.generate_otp(step).encode(), digits.encode(errors="replace")):
            return step
    return None


def has_second_step(connection: Connection, account: int) -> bool:
    way = tables.sign_in_way
    query = select(way.c.id).where(way.c.account == account, way.c.kind == "totp")
    return connection.execute(query).first() is not None


def set_up(connection: Connection, seal: Seal, account: int, secret: str, step: int, audit: Audit) -> list[str]:
    """Put a second step in force, in place of an older one; return its recovery codes, which are shown once.

    Args:
        step: of the code that proved it; it cannot be used again.
    """
    way = tables.sign_in_way
    remove(connection, account)
    values = {"account": account, "created_ms": audit.at_ms}
    connection.execute(insert(way).values(**values, kind="totp", secret=seal.seal(secret), last_step=step))
    codes = [_new_recovery_code() for _ in range(RECOVERY_CODES)]
    rows = [{**values, "kind": "recovery", "secret": token_hash(_letters(code))} for code in codes]
    connection.execute(insert(way), rows)
    audit.note("two_step_set", f"account:{account}")
    return codes


def remove(connection: Connection, account: int) -> None:
    way = tables.sign_in_way
    connection.execute(delete(way).where(way.c.account == account, way.c.kind.in_(("totp", "recovery"))))


def check(connection: Connection, seal: Seal, account: int, code: str, at_ms: int) -> str | None:
    """Check a code and use it up; return `totp` or `recovery`, None when it is wrong or was used before."""
    way = tables.sign_in_way
    of_account = way.c.account == account
    row = connection.execute(select(way).where(of_account, way.c.kind == "totp")).one_or_none()
    if row is None:
        return None
    step = step_of_code(seal.open(row.secret), code, at_ms)
    if step is not None:
        newer = update(way).where(way.c.id == row.id, way.c.last_step < step).values(last_step=step)
        return "totp" if connection.execute(newer).rowcount == 1 else None
    used = token_hash(_letters(code))
    gone = connection.execute(delete(way).where(of_account, way.c.kind == "recovery", way.c.secret == used))
    return "recovery" if gone.rowcount == 1 else None


def _new_recovery_code() -> str:
    text = base64.b32encode(secrets.token_bytes(10)).decode("ascii").lower()
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def _letters(code: str) -> str:
    return "".join(letter for letter in code.lower() if letter.isalnum())
