"""Field turns for readers on one bus whose antennas are close enough to disturb each other.

Law of this file: at most one member of a group has its field on. Its turn ends with the first look that no card
answers, or after SLICE_SECONDS, so that a card left on one reader does not keep the field from the others. Offline
members are skipped; the only one present keeps the field.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

SLICE_SECONDS = 0.025

Member = TypeVar("Member")


class AntennaTurns(Generic[Member]):
    """The turns of one group.

    Attributes:
        holder: the member whose field is on, None while every field is off.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.holder: Member | None = None
        self._members = tuple(members)
        self._last = len(self._members) - 1
        self._ends = 0.0

    def is_over(self, *, answered: bool, now: float) -> bool:
        """Return whether the holder, which has just looked, should pass the field on."""
        return not answered or now >= self._ends

    def queue(self, present: Sequence[Member]) -> list[Member]:
        """Return the members present in turn order; the last holder comes last."""
        size = len(self._members)
        order = [self._members[(self._last + step) % size] for step in range(1, size + 1)]
        return [member for member in order if member in present]

    def begin(self, member: Member, now: float) -> None:
        """Note that this member's field is on."""
        self.holder = member
        self._last = self._members.index(member)
        self._ends = now + SLICE_SECONDS

    def end(self) -> None:
        """Note that the holder's field is off, or that the holder is away."""
        self.holder = None
