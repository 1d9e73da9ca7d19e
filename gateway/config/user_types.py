"""The part of hub.toml that sorts people into the types that a school speaks of, such as its sixth form."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.config.common import check_texts, one_of
from gateway.settings_file import SettingsFile, Table

TYPED_ROLES = ("student", "staff", "contact", "visitor")
_MOST_CHARS = 60


@dataclass(frozen=True, slots=True)
class UserTypeSettings:
    """One type: whoever has its role and, where they are named, one of its years or departments.

    Attributes:
        name: what rules and actions may name, as they name a group.
    """

    name: str
    role: str
    years: tuple[str, ...] = ()
    departments: tuple[str, ...] = ()


def take_user_types(file: SettingsFile, item: Table) -> tuple[UserTypeSettings, ...]:
    """Read the types of one site, in their order: the first that fits is somebody's type."""
    types: list[UserTypeSettings] = []
    for table in file.tables("site.user_type", item.values, item.place):
        kind = UserTypeSettings(
            name=table.take("name", str, check=_check_name),
            role=table.take("role", str, check=one_of(TYPED_ROLES)),
            years=tuple(table.take("years", list, [], check_texts)),
            departments=tuple(table.take("departments", list, [], check_texts)),
        )
        if any(kind.name.casefold() == other.name.casefold() for other in types):
            table.problem("name", f"the user type {kind.name!r} is there already; choose another name")
        table.finish()
        types.append(kind)
    item.take("user_type", list, [])
    return tuple(types)


def _check_name(text: str) -> str | None:
    if not 0 < len(text.strip()) <= _MOST_CHARS:
        return f"must have 1 to {_MOST_CHARS} characters"
    return f"is a role; choose a name besides {', '.join(TYPED_ROLES)}" if text.casefold() in TYPED_ROLES else None
