"""The words by which people are found, and an index of the tails of cards."""

from __future__ import annotations

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

_BATCH = 1000
# As directory.names made the words when this migration was written.
_PLAIN = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "đ": "d", "ł": "l", "ð": "d", "þ": "th", "\u0131": "i"})
_JOINTS = dict.fromkeys(map(ord, "'`-.\u00b4\u2018\u2019\u02bc\u2010\u2011\u2013"), " ")


def upgrade() -> None:
    op.add_column("person", sa.Column("search_text", sa.Text(), nullable=False, server_default=""))
    op.create_index(op.f("ix_card_tail"), "card", ["tail"])
    connection = op.get_bind()
    query = "SELECT ref, family_name, given_name, person_key, form, year FROM person"
    people = connection.execute(sa.text(query)).all()
    statement = sa.text("UPDATE person SET search_text = :words WHERE ref = :ref")
    for start in range(0, len(people), _BATCH):
        some = people[start : start + _BATCH]
        connection.execute(statement, [{"ref": row.ref, "words": _search_text(*row[1:])} for row in some])


def _search_text(*texts: str | None) -> str:
    words: dict[str, None] = {}
    for piece in (piece for text in texts if text for piece in text.split()):
        folded = _fold(_repaired(piece).translate(_JOINTS))
        found = "".join(" " if unicodedata.category(letter)[0] in "PS" else letter for letter in folded).split()
        words |= dict.fromkeys((*found, "".join(found)))
    words.pop("", None)
    return "".join(f" {word}" for word in words)


def _fold(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text.casefold())
    text = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return text.translate(_PLAIN).casefold()


def _repaired(text: str) -> str:
    for encoding in ("cp1252", "latin-1"):
        try:
            return text.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
    return text
