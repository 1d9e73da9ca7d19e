"""The fields of a nested record as paths, as they can be written into `card_paths`; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.mis.http import text_of

MOST_PATHS, _MOST_DEPTH = 400, 8


def flatten(record: Mapping[str, Any]) -> dict[str, str]:
    """Return every path of a record that holds a text, and the first text there."""
    found: dict[str, str] = {}
    _flatten(record, "", found, 0)
    return found


def _flatten(value: Any, path: str, found: dict[str, str], depth: int) -> None:
    if len(found) >= MOST_PATHS or depth > _MOST_DEPTH:
        return
    if isinstance(value, Mapping):
        for name, below in value.items():
            if isinstance(name, str) and not set(name) & set(".[]{}~"):
                _flatten(below, f"{path}.{name}" if path else name, found, depth + 1)
    elif isinstance(value, list):
        for item in value[:20]:
            _flatten(item, path + _selector(item), found, depth + 1)
    elif text := text_of(value):
        found.setdefault(path, text)


def _selector(item: Any) -> str:
    # What kind of thing an item is tells more than that it is one of many.
    for name in ("type", "name", "key", "label"):
        text = item.get(name) if isinstance(item, Mapping) else None
        if isinstance(text, str) and 0 < len(text) <= 40 and not set(text) & set("{}~") and text.isprintable():
            return f"{{{name}~{text}}}"
    return "[*]"
