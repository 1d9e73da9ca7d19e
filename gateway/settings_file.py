"""Reads one TOML file: the line of every key, and every problem as `file:line: key: message`.

A warning has the same form and does not keep the file from being used.

Each key is taken once with its kind and check; what is left over is unknown. A wrong key is noted and replaced, so that
one run names every problem of a file. No message repeats a value.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from gateway.errors import ConfigError
from gateway.toml_help import explain, read_marked_text

_HEADER = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.\-\"]+)\s*\]")
_KEY = re.compile(r"\s*([A-Za-z0-9_\-]+)\s*=")
_REQUIRED = object()


class SettingsFile:
    """One configuration file with the line of every key and the problems found so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._problems: list[tuple[int, str, str]] = []
        self._warnings: list[tuple[int, str]] = []
        try:
            text = read_marked_text(path)
        except OSError as error:
            raise ConfigError([f"{path}:0: file: cannot be read ({error.strerror}); check the path given."]) from None
        except ValueError as error:
            raise ConfigError([f"{path}:0: file: {error}."]) from None
        self._lines = _line_index(text)
        try:
            self.root: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"line (\d+)", str(error))
            line = int(found[1]) if found else max(1, len(text.splitlines()))
            raise ConfigError(
                [f"{path}:{at}: syntax: {what}" for at, what in explain(text, line, str(error))]
            ) from None
        except RecursionError:
            raise ConfigError([f"{path}:1: syntax: lists or tables are nested too deep."]) from None

    def problem(self, place: str, message: str) -> None:
        """Note a problem at a place such as `reader.0.port`."""
        line = self.line_of(place)
        self._problems.append((line, place, f"{self.path}:{line}: {place}: {message}"))

    def warn(self, place: str, message: str) -> None:
        """Note something that works but deserves attention."""
        line = self.line_of(place)
        self._warnings.append((line, f"{self.path}:{line}: {place}: {message}"))

    @property
    def warnings(self) -> list[str]:
        return [text for _, text in sorted(self._warnings)]

    def finish(self, tolerated: Callable[[str], bool] = lambda _place: False) -> None:
        """Raise ConfigError when any problem was noted.

        Args:
            tolerated: returns whether the problem of a place is tolerated; `problems_at` returns those.
        """
        if any(not tolerated(place) for _, place, _ in self._problems):
            raise ConfigError([text for _, _, text in sorted(self._problems)])

    def problems_at(self, place: str) -> list[str]:
        """Return the problems of a section such as `reader.0`, or of a key in it."""
        return [text for _, at, text in sorted(self._problems) if at == place or at.startswith(f"{place}.")]

    def table(self, place: str, *, required: bool = True) -> Table | None:
        found = self.root.get(place)
        if found is None:
            if required:
                self.problem(place, f"is missing; add a [{place}] section")
            return None
        if not isinstance(found, dict):
            is_array = isinstance(found, list)
            how = f"is written as [[{place}]]; there can be only one, so write [{place}]" if is_array else ""
            self.problem(place, how or f"must be a section; write [{place}] on a line of its own and its keys below")
            return None
        return Table(self, place, found)

    def tables(self, place: str, within: Mapping[str, Any] | None = None, at: str = "") -> list[Table]:
        name = place.rpartition(".")[2]
        found = (self.root if within is None else within).get(name, [])
        where = f"{at}.{name}" if at else place
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            how = f"is written as [{place}]; there may be several, so write [[{place}]] for each"
            self.problem(where, how if isinstance(found, dict) else f"must be written as [[{place}]] sections")
            return []
        return [Table(self, f"{where}.{number}", item) for number, item in enumerate(found)]

    def line_of(self, place: str) -> int:
        """Return the line, from 1, of a place such as `site.0.source.1.kind`; of its section when it is not there."""
        while place:
            if place in self._lines:
                return self._lines[place]
            place = place.rpartition(".")[0]
        return 1


class Table:
    """One section while it is read: every key is taken once, what is left over is unknown."""

    def __init__(self, file: SettingsFile, place: str, values: Mapping[str, Any]) -> None:
        self.file, self.place, self.values = file, place, dict(values)
        self._left = dict(values)
        self._known: list[str] = []

    def problem(self, key: str, message: str) -> None:
        self.file.problem(f"{self.place}.{key}", message)

    def take(
        self, key: str, kind: type, default: Any = _REQUIRED, check: Callable[[Any], str | None] | None = None
    ) -> Any:
        """Take one key; a wrong or missing one is noted and replaced by the default or an empty value of the kind."""
        self._known.append(key)
        fallback = _empty(kind) if default is _REQUIRED else default
        if key not in self._left:
            if default is _REQUIRED:
                self.problem(key, "is missing; it has no default")
            return fallback
        value = self._left.pop(key)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            self.problem(key, f"must be {_KIND_WORDS[kind]}")
            return fallback
        message = check(value) if check else None
        if message:
            self.problem(key, message)
            return fallback
        return value

    def rest(self) -> dict[str, Any]:
        """Return the keys not taken; their owner checks them."""
        rest, self._left = self._left, {}
        return rest

    def finish(self) -> None:
        for key in self._left:
            near = difflib.get_close_matches(key, self._known, 1)
            self.problem(
                key, f"is not known here; did you mean {near[0]!r}?" if near else "is not known here; remove it"
            )


_KIND_WORDS: dict[type, str] = {
    str: "a text in quotes",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
    date: "a date such as 2026-12-21, without quotes",
}


def _empty(kind: type) -> Any:
    return date.min if kind is date else kind()


def _line_index(text: str) -> dict[str, int]:
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    prefix = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            prefix = _open_section(header[2].replace('"', ""), header[1] == "[[", counts)
            lines.setdefault(prefix, number)
        elif key := _KEY.match(line):
            lines.setdefault(f"{prefix}.{key[1]}" if prefix else key[1], number)
    return lines


def _open_section(name: str, is_array: bool, counts: dict[str, int]) -> str:
    # `[[site.source]]` below the second `[[site]]` is site.1.source.0, as tomllib nests it.
    parts: list[str] = []
    for depth, part in enumerate(name.split(".")):
        parts.append(part)
        joined = ".".join(parts)
        last = depth == name.count(".")
        if last and is_array:
            counts[joined] = counts.get(joined, -1) + 1
        if joined in counts:
            parts.append(str(counts[joined]))
    return ".".join(parts)
