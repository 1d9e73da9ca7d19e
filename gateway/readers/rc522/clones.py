"""Sends commands that only copied cards answer, after a card has been served.

One question a look, 3 to 8 ms each, and only in looks that found nobody: a decision never waits for them. Every
question wakes the card up and leaves it halted, as a resting card is. A card that leaves ends its check.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from gateway.cards.clones import (
    ACKNOWLEDGE,
    ACKNOWLEDGE_BITS,
    BACKDOOR_OPEN,
    BACKDOOR_WAKE_UP,
    BACKDOOR_WAKE_UP_BITS,
    GEN2_ATS,
    NONCE_BYTES,
    Sign,
    is_classic,
    is_impossible,
)
from gateway.cards.iso14443 import with_crc
from gateway.cards.mifare_classic import AUTH_A
from gateway.protocols import iso_dep
from gateway.protocols.mfrc522 import Answer
from gateway.readers.base import CardSuspicion
from gateway.readers.rc522.chip import Rc522Chip

_ATS_BYTES = 22
_ATS_WAITING_US = 5000
_WAITING = 4  # cards still to be checked; beyond this number the oldest are dropped

_Question = Callable[["_Case"], Sign | None]


class _Case:
    """One presentation under check.

    Attributes:
        questions: those not yet sent.
    """

    __slots__ = ("atqa", "nonce", "questions", "sak", "uid")

    def __init__(self, uid: bytes, atqa: bytes, sak: int, questions: list[_Question]) -> None:
        self.uid, self.atqa, self.sak = uid, atqa, sak
        self.questions = questions
        self.nonce = b""


class CloneCheck:
    """The checks of one reader."""

    def __init__(self, name: str, chip: Rc522Chip, now_ns: Callable[[], int]) -> None:
        self._name, self._chip, self._now_ns = name, chip, now_ns
        self._cases: deque[_Case] = deque(maxlen=_WAITING)

    def suspect(self, uid: bytes, atqa: bytes, sak: int) -> None:
        """Note a card that has just been read.

        Args:
            atqa: of this card alone, empty when several answered.
        """
        questions: list[_Question] = [self._answers] if atqa else []
        if is_classic(sak):
            # The backdoor comes last: it needs the card in HALT, where the question before has left it.
            questions += [self._answer_to_select, self._first_nonce, self._second_nonce, self._backdoor]
        self._cases.append(_Case(uid, atqa, sak, questions))

    def ask(self) -> list[CardSuspicion]:
        """Put the next question to the card that waits longest; returns the sign that it shows, if any.

        Raises:
            ChipFault: the chip did not run a frame; the case is closed.
            ReaderOffline: the bus refuses.
        """
        if not self._cases:
            return []
        case = self._cases.popleft()
        if not case.questions:
            return []
        sign = case.questions.pop(0)(case)
        if sign is None:
            self._cases.appendleft(case)
            return []
        return [CardSuspicion(self._name, sign, self._now_ns(), case.uid[-2:].hex().upper())]

    def _answers(self, case: _Case) -> Sign | None:
        return Sign.IMPOSSIBLE_ANSWER if is_impossible(case.uid, case.atqa, case.sak) else None

    def _select(self, case: _Case) -> bool:
        if self._chip.wake_up() is not None and self._chip.select_known(case.uid):
            return True
        case.questions.clear()
        return False

    def _answer_to_select(self, case: _Case) -> Sign | None:
        if not self._select(case):
            return None
        try:
            answer = self._chip.exchange_frame(iso_dep.RATS, _ATS_BYTES, _ATS_WAITING_US)
            if answer is not None:
                self._chip.exchange_frame(iso_dep.DESELECT, 3, _ATS_WAITING_US)
        finally:
            self._chip.end_session()
        return Sign.GEN2_ATS if answer == GEN2_ATS else None

    def _nonce(self, case: _Case) -> bytes:
        if not self._select(case):
            return b""
        try:
            # An authentication by hand: the card's first challenge comes in clear and without CRC_A.
            answer = self._chip.exchange_bare(with_crc(bytes([AUTH_A, 0])), NONCE_BYTES)
        finally:
            self._chip.end_session()
        return answer.data if answer.clean and len(answer.data) == NONCE_BYTES else b""

    def _first_nonce(self, case: _Case) -> Sign | None:
        case.nonce = self._nonce(case)
        return None

    def _second_nonce(self, case: _Case) -> Sign | None:
        nonce = self._nonce(case)
        return Sign.STATIC_NONCE if nonce and nonce == case.nonce else None

    def _backdoor(self, case: _Case) -> Sign | None:
        if not self._select(case):
            return None
        self._chip.end_session()
        try:
            woken = _is_acknowledge(self._chip.exchange_bare(BACKDOOR_WAKE_UP, 1, BACKDOOR_WAKE_UP_BITS))
            if woken:
                self._chip.exchange_bare(BACKDOOR_OPEN, 1)
        finally:
            self._chip.end_session()
        return Sign.BACKDOOR if woken else None


def _is_acknowledge(answer: Answer) -> bool:
    return answer.clean and answer.last_bits == ACKNOWLEDGE_BITS and answer.data == bytes([ACKNOWLEDGE])
