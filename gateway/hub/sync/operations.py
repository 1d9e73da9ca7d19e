"""The parts of a plan: typed operations that describe themselves, conflicts, and the hash that identifies each.

An operation carries what it was before and what it becomes, so its hash is the same in every run that wants the same
change. `what` is for a person: names and ids, cards as tails.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.mis.base import HIDDEN, PersonFields


class _Operation(msgspec.Struct, frozen=True):
    """What all operations can say of themselves."""

    @property
    def kind(self) -> str:
        return str(self.__struct_config__.tag)

    @property
    def what(self) -> str:
        raise NotImplementedError


class Create(_Operation, frozen=True, tag="create"):
    """Add a person who is in the source but not in the directory."""

    person_key: str
    fields: PersonFields
    stable_id: str | None

    @property
    def entity(self) -> str:
        return self.fields.role

    @property
    def what(self) -> str:
        return f"Add {self.fields.name} ({self.entity} {self.person_key})"


class Join(_Operation, frozen=True, tag="join"):
    """Recognise somebody whom another source, or this one under other ids, brought already."""

    person: str
    person_key: str
    fields: PersonFields
    stable_id: str | None
    was: str

    @property
    def entity(self) -> str:
        return self.fields.role

    @property
    def what(self) -> str:
        return f"Recognise {self.fields.name} ({self.entity} {self.person_key}) as {self.was}"


class Update(_Operation, frozen=True, tag="update"):
    """Change what a source says about a person; `changes` maps a field to its old and new value."""

    person: str
    person_key: str
    name: str
    changes: dict[str, tuple[Any, Any]]

    @property
    def what(self) -> str:
        changed = ", ".join(
            f"{name.replace('_', ' ')} {_shown(old)} becomes {_shown(new)}" for name, (old, new) in self.changes.items()
        )
        return f"Change {self.name} ({self.person_key}): {changed}"


class Rekey(_Operation, frozen=True, tag="rekey"):
    """Change the id of a person: the old one is retired for good."""

    person: str
    entity: str
    name: str
    old_key: str
    person_key: str
    old_stable_id: str | None
    stable_id: str | None

    @property
    def what(self) -> str:
        if self.old_key == self.person_key:
            return f"Change the lasting id of {self.name} ({self.person_key})"
        return f"Change the id of {self.name} from {self.old_key} to {self.person_key}"


class Remove(_Operation, frozen=True, tag="remove"):
    """Note that a person is no longer in the source: missing at first, and inactive `at_once` where it says so."""

    person: str
    person_key: str
    name: str
    groups: tuple[str, ...]
    at_once: bool = False
    why: str = "absent"

    @property
    def what(self) -> str:
        return f"Remove {self.name} ({self.person_key}): {self.why}"


class Leave(_Operation, frozen=True, tag="leave"):
    """Close a claim that has been missing long enough; taps are denied, history and cards stay."""

    person: str
    person_key: str
    name: str

    @property
    def what(self) -> str:
        return f"Remove {self.name} ({self.person_key}): absent again"


class Exclude(_Operation, frozen=True, tag="exclude"):
    """Leave out a person whom the school does not take from this source; cards and history stay."""

    person: str
    person_key: str
    name: str
    groups: tuple[str, ...]

    @property
    def what(self) -> str:
        return f"Leave out {self.name} ({self.person_key}): not among the lists and years that are taken"


class Return(_Operation, frozen=True, tag="return"):
    """Take up a claim again; `was` is missing, out or gone."""

    person: str
    person_key: str
    name: str
    was: str

    @property
    def what(self) -> str:
        return f"Let {self.name} ({self.person_key}) in again"


class Link(_Operation, frozen=True, tag="link"):
    """Assign a card to a person; the card is new, free, or theirs from before.

    Attributes:
        person: the reference, None for somebody whom the same plan creates; so in all operations on cards.
        second: they have another card in use.
    """

    person: str | None
    entity: str
    person_key: str
    name: str
    card: str
    tail: str
    projection: str
    second: bool = False

    @property
    def what(self) -> str:
        return f"Give {self.name} ({self.person_key}) the card ending {self.tail}"


class Replace(_Operation, frozen=True, tag="replace"):
    """Replace a person's card by a new one, in one step."""

    person: str | None
    entity: str
    person_key: str
    name: str
    old_card: str
    old_tail: str
    card: str
    tail: str
    projection: str

    @property
    def what(self) -> str:
        return f"Replace the card ending {self.old_tail} of {self.name} ({self.person_key}) by {self.tail}"


class Revoke(_Operation, frozen=True, tag="revoke"):
    """Block a card that the source no longer gives to its person."""

    person: str | None
    entity: str
    person_key: str
    name: str
    card: str
    tail: str

    @property
    def what(self) -> str:
        return f"Block the card ending {self.tail} of {self.name} ({self.person_key})"


class Move(_Operation, frozen=True, tag="move"):
    """Take a card from one person, who no longer claims it, and give it to another."""

    person: str | None
    entity: str
    person_key: str
    name: str
    from_ref: str
    from_name: str
    card: str
    tail: str
    projection: str

    @property
    def what(self) -> str:
        return f"Move the card ending {self.tail} from {self.from_name} to {self.name} ({self.person_key})"


class Await(_Operation, frozen=True, tag="await"):
    """Keep a card for somebody who is not in the directory yet; it opens nothing."""

    entity: str
    person_key: str
    card: str
    tail: str
    projection: str

    @property
    def what(self) -> str:
        return f"Keep the card ending {self.tail} for {self.entity} {self.person_key}, who is not here yet"


Operation = Create | Join | Update | Rekey | Remove | Exclude | Leave | Return | Link | Replace | Revoke | Move | Await


def _shown(value: object) -> str:
    if value is None or value in ((), []):
        return "nothing"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    return str(value)


class Conflict(msgspec.Struct, frozen=True):
    """A conflict that only a person can resolve; nothing of it is applied.

    Attributes:
        kind: `duplicate_key`, `id_reused`, `id_swapped`, `maybe_same`, `card_shared`.
        person: the reference of the person whom it concerns, None for newcomers.
        summary: what the source says now, for the person who decides: names and ids, cards as tails.
        about: digest of what the source says; a solution is for exactly that.
    """

    kind: str
    entity: str
    person_key: str
    place: str
    why: str
    person: str | None = None
    summary: str = ""
    about: str = ""
    is_urgent: bool = False


@dataclass(slots=True)
class Plan:
    """What one read of a source would change, in a fixed order.

    Attributes:
        rekeyed: the sentence that explains a plan whose ids changed all at once, None otherwise.
    """

    operations: list[Operation] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    rekeyed: str | None = None

    def counts(self) -> dict[str, Any]:
        """Count as `mis preview` prints it; a card that moves counts as linked.

        Whoever is absent counts as removed once, at the first complete read without them.
        """

        def of(*kinds: type) -> int:
            return sum(isinstance(operation, kinds) for operation in self.operations)

        changed = {item.person for item in self.operations if isinstance(item, Update | Rekey | Join)}
        changed |= {item.person for item in self.operations if isinstance(item, Return) and item.was in {"gone", "out"}}
        return {
            "create": of(Create),
            "update": len(changed),
            "remove": of(Remove, Exclude),
            "hidden": sum(isinstance(item, Remove) and item.why == HIDDEN for item in self.operations),
            "cards": {"link": of(Link, Move), "replace": of(Replace), "revoke": of(Revoke)},
            "conflicts": len(self.conflicts),
        }


def op_hash(operation: Operation) -> str:
    """Return the hash of one operation; the same change has the same one in every run."""
    return hashlib.sha256(msgspec.json.encode(operation, order="deterministic")).hexdigest()[:16]


def plan_hash(operations: list[Operation]) -> str:
    """Return the hash of a list of operations, whatever their order."""
    return hashlib.sha256("".join(sorted(map(op_hash, operations))).encode()).hexdigest()[:16]
