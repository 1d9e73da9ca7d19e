"""Changes one text setting of a TOML file in place; comments, order and line ends stay.

Law of this file: what would be written is read back first, and must be the old file with that one setting changed.
Anything else (inline tables, a section in a multi-line text) is refused and left to a person.
"""

from __future__ import annotations

import copy
import os
import re
import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from gateway.errors import RefusedError
from gateway.settings_file import SettingsFile

_PLAIN = re.compile(r"[A-Za-z0-9|_-]+")


def with_setting(path: Path, place: str, key: str, value: str) -> str:
    """Return the text of a file with `key = "value"` in the section at a place such as `site.0.source.1`.

    Raises:
        RefusedError: this file is written in a way that cannot be edited safely.
        ConfigError: it cannot be read or is not TOML.
    """
    if not _PLAIN.fullmatch(value):
        raise RefusedError(
            f"{key} has characters that cannot be written to {path.name} automatically; edit it by hand."
        )
    file = SettingsFile(path)
    old = path.read_bytes().decode("utf-8")
    lines = old.splitlines(keepends=True)
    edited = copy.deepcopy(file.root)
    section = _section(edited, place)
    if section is None:
        raise RefusedError(f"{path.name} has no section {place}.")
    if key in section:
        at = file.line_of(f"{place}.{key}") - 1
        line = re.compile(rf"""(\s*{re.escape(key)}\s*=\s*)("[^"\\]*"|'[^']*')(.*)""", re.DOTALL)
        found = line.fullmatch(lines[at])
        if found is None:
            raise RefusedError(f"{path.name}:{at + 1}: {key} is not a single string on its own line; edit it by hand.")
        lines[at] = f'{found[1]}"{value}"{found[3]}'
    else:
        at = file.line_of(f"{place}.kind")
        end = "\r\n" if lines[at - 1].endswith("\r\n") else "\n"
        indent = re.match(r"[ \t]*", lines[at - 1])
        lines[at - 1] = lines[at - 1].rstrip("\r\n") + end
        lines.insert(at, f'{indent[0] if indent else ""}{key} = "{value}"{end}')
    section[key] = value
    new = "".join(lines)
    try:
        same = tomllib.loads(new) == edited
    except tomllib.TOMLDecodeError:
        same = False
    if not same:
        raise RefusedError(f"{path.name} is written in a form that cannot be edited automatically; edit it by hand.")
    return new


def _section(root: Any, place: str) -> dict[str, Any] | None:
    found = root
    for part in place.split("."):
        try:
            found = found[int(part)] if isinstance(found, list) else found[part]
        except (KeyError, IndexError, ValueError, TypeError):
            return None
    return found if isinstance(found, dict) else None


def replace_text(path: Path, text: str) -> Path:
    """Replace a file in one step, with its mode; returns where the old one is kept.

    Raises:
        RefusedError: the folder may not be written.
    """
    target = path.resolve()  # a link stays a link
    kept = target.with_name(f"{target.name}.bak")
    scratch = None
    try:
        shutil.copy2(target, kept)
        descriptor, scratch = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(target, scratch)
        owner = target.stat()
        os.chown(scratch, owner.st_uid, owner.st_gid)
        Path(scratch).replace(target)
    except OSError as error:
        if scratch:
            Path(scratch).unlink(missing_ok=True)
        raise RefusedError(f"{path} cannot be replaced ({error.strerror}).") from None
    return kept
