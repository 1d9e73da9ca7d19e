"""Commands from the hub: each is done at most once, in time, and answered.

A number that only rises does not outlive an older image of the card, so what may not be repeated also names the
challenge of this very boot: a command that somebody recorded fits no other.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from tinydb.table import Document, Table

from gateway.errors import BadMessage, TapgateError
from gateway.link import messages
from gateway.link.client import Arrived
from gateway.link.messages import Command, Reply

log = logging.getLogger(__name__)

CommandHandler = Callable[[dict[str, Any]], dict[str, Any] | None]
_LAST_NUMBER = 1


class CommandDesk:
    """Dispatches commands to their handlers; lives on the relay's thread.

    Args:
        memory: the named table that remembers the last number over restarts.
        now: the time as well as it is known, None when it is not; then nothing that expires is done.
        challenge: drawn for this boot and told in the birth.
    """

    def __init__(self, memory: Table, now: Callable[[], datetime | None], challenge: str) -> None:
        self._memory = memory
        self._now = now
        self._challenge = challenge
        self._handlers: dict[str, tuple[CommandHandler, bool]] = {}

    def register(self, name: str, handler: CommandHandler, *, repeatable: bool = False) -> None:
        """Have commands of a name done by `handler`; a repeatable one needs no number."""
        self._handlers[name] = handler, repeatable

    def handle(self, message: Arrived) -> Reply | None:
        """Do one command and return the answer; None for what deserves none."""
        if message.retained:
            # A retained command would be done again at every connection.
            log.warning("a retained command was ignored; remove it from the broker")
            return None
        try:
            command = messages.decode(message.payload, Command)
        except BadMessage as error:
            log.warning("a command was ignored: %s", error)
            return None
        try:
            refusal = self._refusal(command)
            if refusal is None:
                handler, repeatable = self._handlers[command.name]
                if not repeatable:
                    # Remembered before it is done: after a power cut in between it is rather not done than done twice.
                    self._remember(command.number)
                return Reply(command.name, command.number, done=True, result=handler(command.args))
        except TapgateError as error:
            refusal = str(error)
        except Exception:
            log.exception("command %s met a fault", command.name)
            refusal = "The gateway met a fault of its own while it did this; its log names it."
        return Reply(command.name, command.number, done=False, error=refusal)

    def _refusal(self, command: Command) -> str | None:
        if command.name not in self._handlers:
            return f"This gateway knows no command {command.name!r}."
        if command.expires_at is not None:
            try:
                expires_at = datetime.fromisoformat(command.expires_at)
                now = self._now()
                if now is None:
                    return "The command expires and this gateway does not know the time yet."
                if now > expires_at:
                    return "The command came too late."
            except (ValueError, TypeError):
                return "expires_at must be a UTC time such as 2026-11-22T08:31:04Z."
        repeatable = self._handlers[command.name][1]
        if not repeatable and not hmac.compare_digest(command.challenge, self._challenge):
            return "The command was not made for this start of the gateway; send it again with its challenge."
        if not repeatable and command.number <= self.last_number:
            return f"The number of a command must be above {self.last_number}."
        return None

    @property
    def last_number(self) -> int:
        """Return the number of the last command that was begun."""
        document = self._memory.get(doc_id=_LAST_NUMBER)
        return int(document["number"]) if isinstance(document, Document) else 0

    def _remember(self, number: int) -> None:
        self._memory.upsert(Document({"number": number}, _LAST_NUMBER))
