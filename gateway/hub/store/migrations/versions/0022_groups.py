"""Groups by kind, and who is in them since when; filled from what is known of each person."""

from __future__ import annotations

import json
import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ROWS = 5_000


def upgrade() -> None:
    op.create_table(
        "grouping",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site", sa.String(63), sa.ForeignKey("site.id", name=op.f("fk_grouping_site")), nullable=False),
        sa.Column("kind", sa.String(15), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grouping")),
        sa.UniqueConstraint("site", "kind", "code", name=op.f("uq_grouping_site_kind_code")),
    )
    op.create_table(
        "membership",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column(
            "grouping", sa.Integer(), sa.ForeignKey("grouping.id", name=op.f("fk_membership_grouping")), nullable=False
        ),
        sa.Column(
            "person", sa.String(18), sa.ForeignKey("person.ref", name=op.f("fk_membership_person")), nullable=False
        ),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_membership")),
    )
    is_open = sa.text("until_ms IS NULL")
    op.create_index(
        "uq_membership_open",
        "membership",
        ["grouping", "person"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    op.create_index(op.f("ix_membership_person"), "membership", ["person"])
    op.add_column("account_grant", sa.Column("groups", sa.JSON(), nullable=False, server_default="[]"))
    _fill(op.get_bind())


def _fill(connection: sa.Connection) -> None:
    person = sa.table(
        "person", *map(sa.column, ("ref", "site", "state", "groups", "year", "form", "department", "created_ms"))
    )
    columns = (
        person.c.ref,
        person.c.site,
        person.c.groups,
        person.c.year,
        person.c.form,
        person.c.department,
        person.c.created_ms,
    )
    grouping = sa.table("grouping", *map(sa.column, ("id", "site", "kind", "code", "name")))
    membership = sa.table("membership", *map(sa.column, ("grouping", "person", "since_ms")))
    query = sa.select(*columns).where(person.c.state.in_(("active", "missing")))
    numbers: dict[tuple[str, str, str], int] = {}
    rows: list[dict[str, object]] = []
    for row in connection.execute(query).all():
        groups = json.loads(row.groups) if isinstance(row.groups, str) else row.groups
        # Which of the other names is a house is known again when its source changes the person.
        typed = {_code(name): (kind, name) for kind in ("year", "form", "department") if (name := getattr(row, kind))}
        typed |= {_code(name): ("group", name) for name in groups or [] if _code(name) not in typed}
        for code, (kind, name) in typed.items():
            key = (row.site, kind, code)
            if key not in numbers:
                numbers[key] = len(numbers) + 1
                values = {"id": numbers[key], "site": row.site, "kind": kind, "code": code, "name": name}
                connection.execute(sa.insert(grouping).values(values))
            rows.append({"grouping": numbers[key], "person": row.ref, "since_ms": row.created_ms})
    for start in range(0, len(rows), _ROWS):
        connection.execute(sa.insert(membership), rows[start : start + _ROWS])
    if numbers and connection.dialect.name == "postgresql":
        connection.execute(
            sa.text("SELECT setval(pg_get_serial_sequence('grouping', 'id'), :last)"), {"last": len(numbers)}
        )


def _code(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())
