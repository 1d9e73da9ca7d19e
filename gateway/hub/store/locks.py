"""Locks between processes for work that only one may do: syncing a source, publishing rosters.

On PostgreSQL an advisory lock of a connection, else a lock file next to the SQLite database; both end with the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import text

from gateway.errors import StoreUnavailable
from gateway.hub.store.engine import Store, as_unavailable

_NAMESPACE = 0x7A9A


@contextlib.contextmanager
def exclusive(store: Store, name: str) -> Iterator[Callable[[], bool] | None]:
    """Hold a named lock if nobody else does, without waiting.

    Yields:
        None when another process holds it, else a function that returns whether it is still held.
    """
    if store.is_sqlite:
        with _file_lock(store, name) as held:
            yield (lambda: True) if held else None
        return
    with as_unavailable(), store.engine.connect() as connection:
        number = zlib.crc32(name.encode()) & 0x7FFFFFFF
        got = connection.scalar(text(f"SELECT pg_try_advisory_lock({_NAMESPACE}, {number})"))
        connection.commit()

        def still_held() -> bool:
            try:
                with as_unavailable():
                    connection.execute(text("SELECT 1"))
                    connection.commit()
            except StoreUnavailable:
                return False
            return True

        try:
            yield still_held if got else None
        finally:
            # The lock belongs to the server's session: that must end, not go back into the pool.
            connection.invalidate()


@contextlib.contextmanager
def _file_lock(store: Store, name: str) -> Iterator[bool]:
    database = store.engine.url.database
    assert database
    with Path(f"{database}.{name}.lock").open("w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
