"""Every error of the project; an error's type says what the caller should do.

Retry: the same call may work later. Refused: drop this one input and continue. Fatal: stop and report it to a person. A
refused card is a Decision (see access.rules), never an exception.
"""

from __future__ import annotations


class TapgateError(Exception):
    """Base class of every error this project raises; never raised itself.

    The text is one sentence for people: what is wrong, where, what to do. It holds no card number, name or secret.
    """


class RetryError(TapgateError):
    """The same call may work later; wait, then try again."""


class RefusedError(TapgateError):
    """This one input is bad; drop or quarantine it and continue."""


class FatalError(TapgateError):
    """Nothing more can be done until a person acts."""


class ReaderOffline(RetryError):
    """A reader does not answer or its port is gone; close it, back off, open again."""


class GpioFault(RetryError):
    """A pin of the header, or the header as a whole, cannot be used."""


class OutputFailed(RetryError):
    """A strike, LED or buzzer could not be driven."""


class LinkDown(RetryError):
    """The broker cannot be reached or the connection ended."""


class StoreUnavailable(RetryError):
    """The hub's database does not answer; keep messages unacknowledged until it does."""


class SourceUnreachable(RetryError):
    """An MIS source did not answer; the last good data stay in use."""


class JournalFull(RetryError):
    """The disk or the quota is used up; nothing acknowledged is lost, new events cannot be kept."""


class JournalWriteFailed(RetryError):
    """The disk refused a write or a sync; the event is not durable."""


class BadCardNumber(RefusedError):
    """A text or byte string is not a card number in the encoding it claims."""


class BadMessage(RefusedError):
    """A received message is not in the agreed form; quarantine its bytes."""


class BadRecord(RefusedError):
    """One row or record of a source cannot be used."""


class BadRoster(RefusedError):
    """A roster is torn, unsigned, of another site or older than allowed; keep the one in force."""


class SourceRefused(FatalError):
    """An MIS source rejected the request: credentials, approval or a missing object.

    Attributes:
        failure: the fixed code that `mis check` reports, for instance `refused` or `column_missing`.
    """

    def __init__(self, failure: str, message: str) -> None:
        super().__init__(message)
        self.failure = failure


class ConfigError(FatalError):
    """The configuration cannot be used.

    Attributes:
        problems: one `file:line: key: message` each, in file order.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class JournalLocked(FatalError):
    """Another process writes this journal."""


class JournalMisuse(FatalError):
    """A table operation would break the journal's promise, for instance rewriting an event."""


class MissingExtra(FatalError):
    """A driver needs a package that is not installed; the text names the extra."""
