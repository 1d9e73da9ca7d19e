"""Each line of the audit log carries a number and a hash that covers the line before it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_LINES = 1_000
_AUDIT = sa.table(
    "audit",
    sa.column("id", sa.BigInteger()),
    sa.column("at_ms", sa.BigInteger()),
    sa.column("actor", sa.Text()),
    sa.column("site", sa.String(63)),
    sa.column("operation", sa.String(31)),
    sa.column("subject", sa.Text()),
    sa.column("detail", sa.JSON()),
    sa.column("run", sa.Integer()),
    sa.column("number", sa.BigInteger()),
    sa.column("hash", sa.String(64)),
)


def upgrade() -> None:
    op.add_column("audit", sa.Column("reason", sa.Text()))
    op.add_column("audit", sa.Column("number", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("audit", sa.Column("hash", sa.String(64), nullable=False, server_default=""))
    op.create_table(
        "audit_head",
        sa.Column("site", sa.String(63), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("site", name=op.f("pk_audit_head")),
    )
    _chain()
    op.drop_index("ix_audit_subject", "audit")
    op.create_index("ix_audit_subject_at_ms", "audit", ["subject", "at_ms"])
    op.create_index("uq_audit_site_number", "audit", ["site", "number"], unique=True)
    of_run = sa.text("run IS NOT NULL")
    op.create_index("ix_audit_run", "audit", ["run"], sqlite_where=of_run, postgresql_where=of_run)


def _chain() -> None:
    connection = op.get_bind()
    heads: dict[str, tuple[int, str]] = {}
    last = 0
    while rows := connection.execute(
        sa.select(_AUDIT).where(_AUDIT.c.id > last).order_by(_AUDIT.c.id).limit(_LINES)
    ).all():
        values = []
        for row in rows:
            number, before = heads.get(row.site, (0, ""))
            digest = _digest(before, number + 1, row)
            heads[row.site] = (number + 1, digest)
            values.append({"of": row.id, "number": number + 1, "hash": digest})
        connection.execute(
            sa.update(_AUDIT)
            .where(_AUDIT.c.id == sa.bindparam("of"))
            .values(number=sa.bindparam("number"), hash=sa.bindparam("hash")),
            values,
        )
        last = rows[-1].id
    for site, (number, digest) in heads.items():
        connection.execute(
            sa.text("INSERT INTO audit_head (site, number, hash) VALUES (:site, :number, :hash)"),
            {"site": site, "number": number, "hash": digest},
        )


def _digest(before: str, number: int, row: Any) -> str:
    # As store.audit made it when this migration was written.
    fields = [number, row.at_ms, row.actor, row.site, row.operation, row.subject, row.detail, row.run, None]
    text = json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{before}\n{text}".encode(errors="surrogatepass")).hexdigest()
