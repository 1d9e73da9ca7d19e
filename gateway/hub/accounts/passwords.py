"""Passwords: argon2id hashes, and what is too easy to be one."""

from __future__ import annotations

import threading
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

LEAST_CHARS, MOST_CHARS = 12, 256
_LEAST_DISTINCT = 6
# OWASP's parameters: 19 MiB, two passes. Each hash takes that much memory, so few run at a time.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_AT_A_TIME = threading.BoundedSemaphore(2)


def hash_password(password: str) -> str:
    """Return the hash of a password, with its salt and parameters."""
    with _AT_A_TIME:
        return _HASHER.hash(password)


def is_password(stored: str | None, password: str) -> bool:
    """Return whether a password is the one that was hashed; without a hash this takes as long and is False."""
    with _AT_A_TIME:
        try:
            # Nobody may learn from the time of an answer that there is no such account.
            _HASHER.verify(stored or _nobodys(), password[:MOST_CHARS])
        except (VerificationError, InvalidHashError):
            return False
    return stored is not None


@cache
def _nobodys() -> str:
    return _HASHER.hash("nobody has this password")


def why_weak(password: str, email: str) -> str | None:
    """Return what is wrong with a new password; None when it may be used."""
    if len(password) < LEAST_CHARS:
        return f"The password needs at least {LEAST_CHARS} characters; three or four words in a row are a good one."
    if len(password) > MOST_CHARS:
        return f"The password may have at most {MOST_CHARS} characters."
    if len(set(password.casefold())) < _LEAST_DISTINCT:
        return "The password repeats too few different characters; take three or four words instead."
    if email.partition("@")[0].casefold() in password.casefold():
        return "The password must not contain your address."
    return None
