"""The thread that looks for faults and empties the outbox, in one hub process at a time.

A mail is marked as sent after the server took it. If the hub dies in between, the mail goes again with the same id.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import replace

from gateway.config import MailSettings
from gateway.hub.accounts import links
from gateway.hub.mail.alarms import tell
from gateway.hub.mail.faults import find_faults
from gateway.hub.mail.outbox import Mail, due_mails, forget_old, note_failed, note_refused, note_sent, note_void
from gateway.hub.mail.smtp import Mailbox, MailDelayed, MailNotSent, MailRefused, open_mailbox
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.work.standby import LOOK_SECONDS, Standby

log = logging.getLogger(__name__)

LOCK = "mail"
LOOK_MS = 60_000
_AT_ONCE = 20


class MailSender(Standby):
    """Sends what is due and tells new faults once a minute.

    Args:
        recipients: returns the addresses for a site, for an empty name those for the hub.
        clock: in milliseconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        settings: MailSettings,
        recipients: Callable[[str], Collection[str]],
        *,
        beat: Callable[[], None] = lambda: None,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        super().__init__(LOCK, store, beat)
        self._settings, self._recipients, self._clock = settings, recipients, clock
        self._looked_ms: int | None = None

    def _work(self, still_held: Callable[[], bool]) -> None:
        while not self._stopping.is_set() and still_held():
            self._beat()
            self.turn()
            self._stopping.wait(LOOK_SECONDS)

    def turn(self) -> None:
        """Tell what is wrong if a minute has passed, then send what is due.

        Raises:
            StoreUnavailable: the database does not answer; call again later.
        """
        at_ms = self._clock()
        if self._looked_ms is None or at_ms - self._looked_ms >= LOOK_MS:
            self._looked_ms = at_ms
            with self._store.write() as connection:
                tell(connection, find_faults(connection, at_ms), self._recipients, at_ms)
                forget_old(connection, at_ms)
        with self._store.read() as connection:
            due = due_mails(connection, at_ms, _AT_ONCE)
        ready = self._prepare(due, at_ms)
        if ready:
            self._send(ready)

    def _prepare(self, due: list[Mail], at_ms: int) -> list[Mail]:
        """Return what leaves: a mail with a link gets it only now, and one that nobody may have ends here."""
        ready = []
        for mail in due:
            if mail.template not in links.PREPARED:
                ready.append(mail)
                continue
            stored = links.Prepared(mail.template, mail.params, mail.address)
            with self._store.write() as connection:
                found = links.prepare(connection, stored, mail.created_ms, at_ms)
                if found is None:
                    note_void(connection, mail.id)
                    continue
            ready.append(replace(mail, template=found.template, params=found.params, address=found.address))
        return ready

    def _send(self, due: list[Mail]) -> None:
        rest = deque(due)
        try:
            with open_mailbox(self._settings) as mailbox:
                while rest and not self._stopping.is_set():
                    self._beat()
                    self._send_one(mailbox, rest[0])
                    rest.popleft()
        except MailNotSent as error:
            log.warning("%d mails wait: %s", len(rest), error)
            with self._store.write() as connection:
                for mail in rest:
                    note_failed(connection, mail, self._clock(), str(error))

    def _send_one(self, mailbox: Mailbox, mail: Mail) -> None:
        fault: MailRefused | MailDelayed | None = None
        try:
            mailbox.send(mail)
        except (MailRefused, MailDelayed) as error:
            # One mail must not hold up the others.
            fault = error
            log.warning("mail %d (%s): %s", mail.id, mail.template, error)
        with self._store.write() as connection:
            if fault is None:
                note_sent(connection, mail.id, self._clock())
            elif isinstance(fault, MailDelayed):
                note_failed(connection, mail, self._clock(), str(fault))
            else:
                note_refused(connection, mail.id, str(fault))
