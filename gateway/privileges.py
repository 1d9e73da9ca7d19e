"""Verbs that root runs on a service's folder work as the service's user.

A file that root leaves in a state folder stops the daemon: it cannot open its database or take its lock file. Working
as the owner also shows what the service itself will see, such as an export that it may not read.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from gateway.errors import FatalError


def act_as_owner(folder: Path, *, service_user: str | None = None) -> None:
    """Switch this process from root to the owner of a state folder, for good; for anybody else do nothing.

    Args:
        service_user: who shall own a missing folder; it is made, with mode 0700, where this user exists.

    Raises:
        FatalError: the folder cannot be made.
    """
    if os.geteuid() != 0:
        return
    if service_user is not None and not folder.exists():
        _make(folder, service_user)
    try:
        owner = folder.stat()
    except OSError:
        return
    if owner.st_uid == 0:
        return
    try:
        os.initgroups(pwd.getpwuid(owner.st_uid).pw_name, owner.st_gid)
    except KeyError:
        os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)


def _make(folder: Path, user: str) -> None:
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return
    try:
        folder.mkdir(parents=True, mode=0o700)
        os.chown(folder, account.pw_uid, account.pw_gid)
    except OSError as error:
        raise FatalError(f"The state folder {folder} cannot be made ({error.strerror}).") from None
