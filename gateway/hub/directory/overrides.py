"""Corrections by hand of what a source says: one field of one person, until the source's own value changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, insert, select, update

from gateway.errors import RefusedError
from gateway.hub.directory.effective import claims_of, combine, settle, stored
from gateway.hub.directory.revision import in_turn, raise_revision
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit

FIELDS = ("given_name", "family_name", "year", "form", "house", "department", "birth_date", "email")
_NEEDED = ("given_name", "family_name")
_MOST_CHARS = 100


@dataclass(frozen=True, slots=True)
class FieldView:
    """One field of a person: what counts, what the source says, and who corrected it.

    Attributes:
        source: the label of the source that is believed; None when none says anything.
    """

    name: str
    value: str | None
    source: str | None
    source_value: str | None
    corrected_by: str | None
    corrected_ms: int | None


def list_fields(connection: Connection, ref: str) -> list[FieldView]:
    """Return the fields of a person that sources bring, with their corrections."""
    claims = claims_of(connection, [ref]).get(ref, [])
    if not claims:
        return []
    from_sources = combine(claims, {})
    labels = _labels(connection)
    table = tables.field_override
    query = select(table).where(table.c.person == ref, table.c.closed_ms.is_(None))
    corrected = {row.field: row for row in connection.execute(query)}
    fields = []
    for name in FIELDS:
        value = getattr(from_sources, name)
        source = next((item.source for item in claims if getattr(item.fields, name) is not None), None)
        row = corrected.get(name)
        shown = json.loads(row.value) if row else _text(value)
        by, at_ms = (row.by, row.at_ms) if row else (None, None)
        fields.append(FieldView(name, shown, labels.get(source or 0), _text(value), by, at_ms))
    return fields


def _labels(connection: Connection) -> Mapping[int, str]:
    source = tables.source
    return {row.id: row.name for row in connection.execute(select(source.c.id, source.c.name))}


def _text(value: object) -> str | None:
    return value.isoformat() if isinstance(value, date) else str(value) if value else None


def correct(connection: Connection, ref: str, field: str, text: str, audit: Audit) -> None:
    """Correct a field; an empty text takes the source's value away.

    Raises:
        RefusedError: the person or the field cannot be corrected, or the value cannot be one.
    """
    in_turn(connection, audit.site)
    claims = claims_of(connection, [ref]).get(ref, [])
    if field not in FIELDS or not claims:
        raise RefusedError("Only what a source says about a person can be corrected; reload the page.")
    value = _checked(field, text.strip())
    source_value = stored(getattr(combine(claims, {}), field))
    _close(connection, ref, field, audit.at_ms, "corrected again")
    if stored(value) == source_value:
        _apply(connection, ref, audit)
        return
    row = {"person": ref, "field": field, "value": stored(value), "mis_value": source_value, "by": audit.actor}
    connection.execute(insert(tables.field_override).values(**row, at_ms=audit.at_ms))
    audit.note("override", ref, field=field, old=json.loads(source_value), new=_text(value))
    _apply(connection, ref, audit)


def _checked(field: str, text: str) -> str | date | None:
    if len(text) > _MOST_CHARS or not text.isprintable():
        raise RefusedError(f"A value may have at most {_MOST_CHARS} printable characters.")
    if not text and field in _NEEDED:
        raise RefusedError("A person needs a name.")
    if field == "birth_date" and text:
        try:
            return date.fromisoformat(text)
        except ValueError:
            raise RefusedError("Write the date as 2012-09-30.") from None
    if field == "email" and text and not (text.count("@") == 1 and all(text.split("@")) and " " not in text):
        raise RefusedError("This is not a mail address.")
    return text or None


def withdraw(connection: Connection, ref: str, field: str, audit: Audit) -> None:
    """End a correction; the source's value counts again."""
    in_turn(connection, audit.site)
    if _close(connection, ref, field, audit.at_ms, "withdrawn"):
        audit.note("override_end", ref, field=field)
        _apply(connection, ref, audit)


def _close(connection: Connection, ref: str, field: str, at_ms: int, why: str) -> bool:
    table = tables.field_override
    one = (table.c.person == ref, table.c.field == field, table.c.closed_ms.is_(None))
    closed = connection.execute(update(table).where(*one).values(closed_ms=at_ms, closed_why=why))
    return closed.rowcount > 0


def _apply(connection: Connection, ref: str, audit: Audit) -> None:
    settle(connection, [ref], audit.at_ms)
    card = tables.card
    keys = connection.scalars(select(card.c.key).where(card.c.person == ref)).all()
    raise_revision(connection, audit.site, keys)
