"""Paths to a value inside a person's record, as `card_paths` names them; pure.

Steps are divided by dots. A step is a name, `name[*]` for every item of a list, or `name{field~text}` for the items of
that list whose field holds the text, case ignored: `userIds{type~rfid}.identifier`. `students:` or `staff:` before a
path limits it. The first path that finds a value wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_STEP = re.compile(r"([^.\[\]{}]+)(\[\*\]|\{([^~{}]+)~([^{}]*)\})?")
_LISTS = {"students": "student", "staff": "staff", "contacts": "contact"}
MAX_STEPS = 12


@dataclass(frozen=True, slots=True)
class Path:
    """One parsed path; `role` limits it to people of that role, None for all."""

    steps: tuple[tuple[str, str, str], ...]
    role: str | None = None


def parse_path(words: str) -> Path:
    """Read a path.

    Raises:
        ValueError: it is none; the text says why.
    """
    role = None
    head, mark, rest = words.partition(":")
    if mark and head in _LISTS:
        role, words = _LISTS[head], rest
    steps = []
    at = 0
    while at < len(words):
        found = _STEP.match(words, at)
        if not found:
            raise ValueError(f"cannot be read from {words[at : at + 20]!r} on")
        name, many, key, part = found[1].strip(), found[2] or "", found[3] or "", found[4] or ""
        steps.append((name, "*" if many == "[*]" else key, part.casefold()))
        at = found.end()
        if at < len(words):
            if words[at] != ".":
                raise ValueError(f"cannot be read from {words[at : at + 20]!r} on")
            at += 1
    if not 1 <= len(steps) <= MAX_STEPS:
        raise ValueError(f"must have 1 to {MAX_STEPS} steps")
    return Path(tuple(steps), role)


def find_values(record: Mapping[str, Any], paths: Sequence[Path], role: str) -> list[str]:
    """Return the texts at the first path that finds any."""
    for path in paths:
        if path.role in {None, role} and (values := [text for text in _walk(record, path.steps) if text]):
            return values
    return []


def _walk(value: Any, steps: tuple[tuple[str, str, str], ...]) -> Iterator[str]:
    if not steps:
        if isinstance(value, str | int) and not isinstance(value, bool):
            yield str(value).strip()
        return
    (name, key, part), rest = steps[0], steps[1:]
    if not isinstance(value, Mapping) or name not in value:
        return
    below = value[name]
    if not key:
        yield from _walk(below, rest)
    elif isinstance(below, list):
        for item in below:
            if key == "*" or (isinstance(item, Mapping) and part in str(item.get(key, "")).casefold()):
                yield from _walk(item, rest)
