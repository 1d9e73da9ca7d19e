"""Checks whether the daemon's user can read a file, and names the command that fixes it."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

DAEMON = "tapgate"


@dataclass(frozen=True, slots=True)
class Account:
    """The user that the daemon runs as, with its groups."""

    name: str
    uid: int
    gids: frozenset[int]

    @property
    def is_daemon(self) -> bool:
        return self.name == DAEMON


def daemon_account() -> Account:
    """Return the installed daemon's user when run as root, else the current user."""
    if os.geteuid() == 0:
        try:
            entry = pwd.getpwnam(DAEMON)
        except KeyError:
            return Account("root", 0, frozenset({0}))
        return Account(DAEMON, entry.pw_uid, frozenset(os.getgrouplist(DAEMON, entry.pw_gid)))
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = str(os.geteuid())
    return Account(name, os.geteuid(), frozenset({os.getegid(), *os.getgroups()}))


def may_read(path: Path, account: Account) -> bool:
    """Return whether the user can open a file, by the modes of the file and of every folder above it.

    Raises:
        OSError: the file is not there.
    """
    real = path.resolve(strict=True)
    if account.uid == os.geteuid():
        return os.access(real, os.R_OK)
    folders = all(_has(parent.stat(), account, 0o1) for parent in real.parents)
    return folders and _has(real.stat(), account, 0o4)


def _has(status: os.stat_result, account: Account, bit: int) -> bool:
    if account.uid == 0:
        return True
    if status.st_uid == account.uid:
        return bool(status.st_mode >> 6 & bit)
    if status.st_gid in account.gids:
        return bool(status.st_mode >> 3 & bit)
    return bool(status.st_mode & bit)


def is_open_to_all(path: Path) -> bool:
    """Return whether the file's own mode lets every user read or write it."""
    return bool(path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH))


def mend(path: Path, account: Account) -> str:
    """Return the command after which the daemon can read the file and other users cannot."""
    name = shlex.quote(str(path))
    group = _group(account)
    if group is None:
        return f"chmod 640 {name}" if account.uid == path.stat().st_uid else f"chown {account.name} {name}"
    folder = path.parent
    closed = f"chgrp {group} {shlex.quote(str(folder))} && chmod 750 {shlex.quote(str(folder))} && "
    way = "" if folder.is_dir() and _has(folder.stat(), account, 0o1) else closed
    return f"{way}chgrp {group} {name} && chmod 640 {name}"


def _group(account: Account) -> str | None:
    if not account.is_daemon:
        return None
    try:
        return grp.getgrnam(DAEMON).gr_name
    except KeyError:
        return None
