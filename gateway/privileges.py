"""Verbs that root runs on a service's folder work as the service's user.

A file that root leaves in a state folder stops the daemon: it cannot open its database or take its lock file. Working
as the owner also shows what the service itself will see, such as an export that it may not read.
"""

from __future__ import annotations

import contextlib
import getpass
import grp
import os
import pwd
from collections.abc import Iterator
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


@contextlib.contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """Work as the owner of a folder for a while, then as root again; for anybody but root do nothing."""
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def put_file(path: Path, content: bytes, mode: int, owner: str | None = None, group: str | None = None) -> None:
    """Write a file in one step, with its mode; run by root also with its owner and group, where they exist.

    Raises:
        FatalError: the file cannot be written; the one before is as it was.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), _uid(owner), _gid(group))
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise FatalError(f"{path} cannot be written ({error.strerror}).") from None


def _uid(name: str | None) -> int:
    try:
        return pwd.getpwnam(name).pw_uid if name else -1
    except KeyError:
        return -1


def _gid(name: str | None) -> int:
    try:
        return grp.getgrnam(name).gr_gid if name else -1
    except KeyError:
        return -1


def _make(folder: Path, user: str) -> None:
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return
    try:
        folder.mkdir(parents=True, mode=0o700)
        os.chown(folder, account.pw_uid, account.pw_gid)
    except OSError as error:
        raise FatalError(f"The state folder {folder} cannot be created ({error.strerror}).") from None


def user_name() -> str:
    """Return the user who runs this, as the audit names them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A user without a name, as containers have them.
        return f"uid {os.getuid()}"
