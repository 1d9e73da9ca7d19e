"""Which events of one epoch are committed: everything up to a mark, and closed ranges above it.

The hub adds what it committed and sends the result; the gateway takes in what the hub says. Both only ever grow.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

MAX_RANGES = 256


@dataclass(slots=True)
class Coverage:
    """A set of event numbers in its shortest form.

    Attributes:
        upto: every number from 1 up to here is in the set.
        have: closed ranges above `upto`, in order, never touching each other.
    """

    upto: int = 0
    have: list[tuple[int, int]] = field(default_factory=list)

    def add(self, first: int, last: int) -> None:
        """Add a closed range; the mark moves up when a gap closes."""
        if last <= self.upto or last < first:
            return
        if first <= self.upto + 1:
            self.upto = last
        else:
            place = bisect_right(self.have, (first, last))
            if place and self.have[place - 1][1] >= first - 1:
                place -= 1
                first, last = self.have[place][0], max(last, self.have[place][1])
                del self.have[place]
            while place < len(self.have) and self.have[place][0] <= last + 1:
                last = max(last, self.have[place][1])
                del self.have[place]
            self.have.insert(place, (first, last))
        while self.have and self.have[0][0] <= self.upto + 1:
            self.upto = max(self.upto, self.have.pop(0)[1])

    def merge(self, upto: int, have: Iterable[tuple[int, int]]) -> None:
        """Take in another statement about the same epoch; what was known stays known."""
        self.add(1, upto)
        for first, last in have:
            self.add(first, last)

    def covers(self, first: int, last: int) -> bool:
        """Say whether a whole closed range is in the set."""
        first = max(first, self.upto + 1)
        if first > last:
            return True
        place = bisect_right(self.have, first, key=lambda item: item[0])
        return place > 0 and self.have[place - 1][1] >= last

    def next_missing(self, seq: int) -> int:
        """Return the lowest number from `seq` on that is not in the set."""
        seq = max(seq, self.upto + 1)
        place = bisect_right(self.have, seq, key=lambda item: item[0])
        if place and self.have[place - 1][1] >= seq:
            return self.have[place - 1][1] + 1
        return seq

    def next_known(self, seq: int) -> int | None:
        """Return the lowest number from `seq` on that is in the set above the mark, None when there is none."""
        place = bisect_right(self.have, seq, key=lambda item: item[1] + 1)
        return max(seq, self.have[place][0]) if place < len(self.have) else None

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Return the ranges to send: the lowest ones, so that a message stays small."""
        return self.have[:MAX_RANGES]
