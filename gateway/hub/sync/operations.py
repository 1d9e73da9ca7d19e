"""The parts of a plan: typed operations, conflicts, and the hash that identifies it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import msgspec


class Create(msgspec.Struct, frozen=True, tag="create"):
    """Add a person who is in the source but not in the directory."""

    person_key: str
    role: str
    given_name: str
    family_name: str
    groups: tuple[str, ...]
    stable_id: str | None


class Update(msgspec.Struct, frozen=True, tag="update"):
    """Change a person; `changes` maps a field to its old and new value."""

    person: str
    person_key: str
    changes: dict[str, tuple[Any, Any]]


class Remove(msgspec.Struct, frozen=True, tag="remove"):
    """Mark a person as left: their taps are denied, their history and cards stay."""

    person: str
    person_key: str
    groups: tuple[str, ...]


class Link(msgspec.Struct, frozen=True, tag="link"):
    """Assign a card to a person; the card is new, free, or theirs from before."""

    person_key: str
    card: str
    tail: str
    projection: str


class Replace(msgspec.Struct, frozen=True, tag="replace"):
    """Replace a person's card by a new one, in one step."""

    person_key: str
    old_card: str
    old_tail: str
    card: str
    tail: str
    projection: str


class Revoke(msgspec.Struct, frozen=True, tag="revoke"):
    """Block a card that the source no longer gives to its person."""

    person_key: str
    card: str
    tail: str


class Move(msgspec.Struct, frozen=True, tag="move"):
    """Take a card from one person, who no longer claims it, and give it to another."""

    person_key: str
    from_key: str
    card: str
    tail: str


Operation = Create | Update | Remove | Link | Replace | Revoke | Move


class Conflict(msgspec.Struct, frozen=True):
    """A conflict that only a person can resolve; nothing of it is applied.

    Attributes:
        kind: `duplicate_key`, `id_reused`, `id_swapped`, `card_shared`.
    """

    kind: str
    person_key: str
    place: str
    why: str


@dataclass(slots=True)
class Plan:
    """What one read of a source would change, in a fixed order."""

    operations: list[Operation] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, Any]:
        """Count as `mis preview` prints it; a card that moves counts as linked."""

        def of(*kinds: type) -> int:
            return sum(isinstance(operation, kinds) for operation in self.operations)

        return {
            "create": of(Create),
            "update": of(Update),
            "remove": of(Remove),
            "cards": {"link": of(Link, Move), "replace": of(Replace), "revoke": of(Revoke)},
            "conflicts": len(self.conflicts),
        }


def plan_hash(operations: list[Operation]) -> str:
    """Return the hash of a list of operations; the same changes have the same hash in every run."""
    lines = sorted(msgspec.json.encode(operation, order="deterministic") for operation in operations)
    return hashlib.sha256(b"\n".join(lines)).hexdigest()[:16]
