"""A person is the site's and sources hold claims; ids are unique per role, held changes and conflicts are rows.

Nobody's reference, card or holding changes, and the first read after it plans nothing.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_OPEN = "state IN ('held', 'approved', 'refused')"


def upgrade() -> None:
    _extend_person()
    _make_claims()
    _extend_sources()
    _make_conflicts()


def _extend_person() -> None:
    op.add_column("person", sa.Column("sort_name", sa.Text(), nullable=False, server_default=""))
    for name in ("year", "form", "department", "email"):
        op.add_column("person", sa.Column(name, sa.Text()))
    op.add_column("person", sa.Column("birth_date", sa.Date()))
    op.add_column("person", sa.Column("state", sa.String(15), nullable=False, server_default="active"))
    op.execute("UPDATE person SET state = 'inactive' WHERE NOT active")
    people = op.get_bind().execute(sa.text("SELECT ref, given_name, family_name FROM person")).all()
    if people:
        op.get_bind().execute(
            sa.text("UPDATE person SET sort_name = :sort_name WHERE ref = :ref"),
            [{"ref": row.ref, "sort_name": _sort_name(row.given_name, row.family_name)} for row in people],
        )
    op.drop_column("person", "active")
    op.drop_index("ix_person_site_family_name", "person")
    op.create_index("ix_person_site_sort_name", "person", ["site", "sort_name"])
    op.create_index("ix_person_site_person_key", "person", ["site", "person_key"])
    op.add_column("card", sa.Column("waiting_for", sa.Text()))


def _sort_name(given_name: str, family_name: str) -> str:
    # As directory.names made it when this migration was written.
    letters = unicodedata.normalize("NFKD", f"{family_name} {given_name}".casefold())
    return " ".join("".join(letter for letter in letters if not unicodedata.combining(letter)).split())


def _make_claims() -> None:
    op.create_table(
        "person_claim",
        sa.Column("source", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("person", sa.String(18), nullable=False),
        sa.Column("entity", sa.String(31), nullable=False),
        sa.Column("person_key", sa.Text(), nullable=False),
        sa.Column("stable_id", sa.Text()),
        sa.Column("state", sa.String(15), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("missing_since_ms", sa.BigInteger()),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["source"], ["source.id"], name=op.f("fk_person_claim_source")),
        sa.ForeignKeyConstraint(["person"], ["person.ref"], name=op.f("fk_person_claim_person")),
        sa.PrimaryKeyConstraint("source", "epoch", "person", name=op.f("pk_person_claim")),
    )
    op.create_index("ix_person_claim_person", "person_claim", ["person"])
    op.rename_table("identity", "identity_before")
    if op.get_bind().dialect.name == "postgresql":
        for name in ("pk_identity", "fk_identity_source", "fk_identity_person"):
            op.execute(f"ALTER TABLE identity_before RENAME CONSTRAINT {name} TO {name}_before")
    op.drop_index("ix_identity_person", "identity_before")
    op.create_table(
        "identity",
        sa.Column("source", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("entity", sa.String(31), nullable=False),
        sa.Column("namespace", sa.String(31), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("person", sa.String(18), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("retired_ms", sa.BigInteger()),
        sa.Column("why", sa.Text()),
        sa.ForeignKeyConstraint(["source"], ["source.id"], name=op.f("fk_identity_source")),
        sa.ForeignKeyConstraint(["person"], ["person.ref"], name=op.f("fk_identity_person")),
        sa.PrimaryKeyConstraint("source", "epoch", "entity", "namespace", "value", name=op.f("pk_identity")),
    )
    op.create_index("ix_identity_person", "identity", ["person"])
    op.execute(
        "INSERT INTO identity (source, epoch, entity, namespace, value, person, since_ms, retired_ms) "
        "SELECT i.source, 1, p.role, i.namespace, i.value, i.person, i.since_ms, i.retired_ms "
        "FROM identity_before i JOIN person p ON p.ref = i.person"
    )
    op.drop_table("identity_before")
    op.create_table(
        "field_override",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("person", sa.String(18), nullable=False),
        sa.Column("field", sa.String(31), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("mis_value", sa.Text()),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("closed_ms", sa.BigInteger()),
        sa.Column("closed_why", sa.Text()),
        sa.ForeignKeyConstraint(["person"], ["person.ref"], name=op.f("fk_field_override_person")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_field_override")),
    )
    op.create_index(
        "uq_field_override_open",
        "field_override",
        ["person", "field"],
        unique=True,
        sqlite_where=sa.text("closed_ms IS NULL"),
        postgresql_where=sa.text("closed_ms IS NULL"),
    )
    _fill_claims()


def _fill_claims() -> None:
    connection = op.get_bind()
    stable = {
        (row.source, row.person): row.value
        for row in connection.execute(
            sa.text("SELECT source, person, value FROM identity WHERE namespace = 'stable' AND retired_ms IS NULL")
        )
    }
    rows = connection.execute(
        sa.text(
            "SELECT ref, source, person_key, role, given_name, family_name, groups, state, created_ms, changed_ms "
            "FROM person WHERE source IS NOT NULL"
        ).columns(groups=sa.JSON())
    ).all()
    claims: list[dict[str, Any]] = [
        {
            "source": row.source,
            "epoch": 1,
            "person": row.ref,
            "entity": row.role,
            "person_key": row.person_key,
            "stable_id": stable.get((row.source, row.ref)),
            "state": "gone" if row.state == "inactive" else "present",
            "data": _data(row),
            "created_ms": row.created_ms,
            "changed_ms": row.changed_ms,
        }
        for row in rows
    ]
    if claims:
        names = ", ".join(claims[0])
        marks = ", ".join(f":{name}" for name in claims[0])
        connection.execute(sa.text(f"INSERT INTO person_claim ({names}) VALUES ({marks})"), claims)  # noqa: S608  # fixed names


def _data(row: Any) -> str:
    # As sync.known writes it: in the order of mis.base.PersonFields, those without a value left out.
    fields = {
        "role": row.role,
        "given_name": row.given_name,
        "family_name": row.family_name,
        "groups": list(row.groups),
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _extend_sources() -> None:
    op.add_column("source", sa.Column("epoch", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("source", sa.Column("agreed_ms", sa.BigInteger()))
    op.add_column("source", sa.Column("shape", sa.JSON()))
    # Whoever has people already was let in by the release before.
    op.execute(
        "UPDATE source SET agreed_ms = (SELECT MIN(created_ms) FROM person_claim WHERE person_claim.source = source.id)"
    )
    op.drop_column("source", "state")
    op.create_table(
        "source_cursor",
        sa.Column("source", sa.Integer(), nullable=False),
        sa.Column("list", sa.String(31), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["source"], ["source.id"], name=op.f("fk_source_cursor_source")),
        sa.PrimaryKeyConstraint("source", "list", name=op.f("pk_source_cursor")),
    )
    op.add_column("sync_run", sa.Column("trigger", sa.String(15), nullable=False, server_default="schedule"))
    op.add_column("sync_run", sa.Column("actor", sa.Text()))
    op.add_column("sync_run", sa.Column("step", sa.String(15)))
    op.add_column("sync_run", sa.Column("done", sa.Integer()))
    op.add_column("sync_run", sa.Column("total", sa.Integer()))


def _make_conflicts() -> None:
    # What was held is held again by the next run, each operation by itself.
    op.drop_table("hold")
    op.create_table(
        "hold_op",
        sa.Column("source", sa.Integer(), nullable=False),
        sa.Column("op_hash", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(15), nullable=False),
        sa.Column("operation", sa.JSON(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("state", sa.String(15), nullable=False),
        sa.Column("first_ms", sa.BigInteger(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("by", sa.Text()),
        sa.Column("decided_ms", sa.BigInteger()),
        sa.ForeignKeyConstraint(["source"], ["source.id"], name=op.f("fk_hold_op_source")),
        sa.PrimaryKeyConstraint("source", "op_hash", name=op.f("pk_hold_op")),
    )
    op.create_index(
        "ix_hold_op_open", "hold_op", ["source"], sqlite_where=sa.text(_OPEN), postgresql_where=sa.text(_OPEN)
    )
    op.create_table(
        "conflict",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(31), nullable=False),
        sa.Column("entity", sa.String(31), nullable=False),
        sa.Column("person_key", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("person", sa.String(18)),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("about", sa.String(32), nullable=False),
        sa.Column("state", sa.String(15), nullable=False),
        sa.Column("solution", sa.String(31)),
        sa.Column("by", sa.Text()),
        sa.Column("solved_ms", sa.BigInteger()),
        sa.Column("first_run", sa.Integer(), nullable=False),
        sa.Column("last_run", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["source"], ["source.id"], name=op.f("fk_conflict_source")),
        sa.ForeignKeyConstraint(["person"], ["person.ref"], name=op.f("fk_conflict_person")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conflict")),
    )
    where = sa.text("state = 'open'")
    op.create_index(
        "uq_conflict_open",
        "conflict",
        ["source", "kind", "entity", "person_key"],
        unique=True,
        sqlite_where=where,
        postgresql_where=where,
    )
    op.create_index("ix_conflict_source_state", "conflict", ["source", "state"])
