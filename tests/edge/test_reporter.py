"""What a gateway says of itself to the hub."""

from __future__ import annotations

import threading

from gateway.edge.health import BAD, GOOD, Verdict
from gateway.edge.reporter import NUMBERS_SECONDS, Reporter
from gateway.link.messages import MAX_TEXT, Reported, decode

ALL_GOOD = Verdict(GOOD, "All good: 2 of 2 readers, hub connected, 0 waiting.", "")


class Wire:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.sent: list[Reported] = []
        self.now = 100.0

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        assert (topic, retain) == ("reported", True)
        self.sent.append(decode(payload, Reported))


def test_roster_and_verdict_stand_in_one_message() -> None:
    wire = Wire()
    reporter = Reporter(wire, "reported", lambda: wire.now)
    reporter.verdict(ALL_GOOD)
    reporter.roster(7, "A chunk was refused.", ["manifest"])
    assert wire.sent[-1] == Reported(7, "A chunk was refused.", ["manifest"], GOOD, ALL_GOOD.sentence)


def test_a_verdict_is_sent_when_it_changes_and_numbers_alone_now_and_then() -> None:
    wire = Wire()
    reporter = Reporter(wire, "reported", lambda: wire.now)
    three = Verdict(GOOD, "All good: 2 of 2 readers, hub connected, 3 waiting.", "")
    for verdict in (ALL_GOOD, ALL_GOOD, three):
        reporter.verdict(verdict)
    assert len(wire.sent) == 1
    reporter.verdict(Verdict(BAD, "A door output does not work.", "Check GPIO 17."))
    assert (wire.sent[-1].level, wire.sent[-1].remedy) == (BAD, "Check GPIO 17.")
    reporter.verdict(ALL_GOOD)
    wire.now += NUMBERS_SECONDS
    reporter.verdict(three)
    assert [report.sentence for report in wire.sent[-2:]] == [ALL_GOOD.sentence, three.sentence]


def test_a_roster_that_comes_while_a_verdict_is_written_is_not_lost() -> None:
    wire = Wire()

    def roster_comes() -> float:
        roster.start()
        # Not held up by a lock, it would be through by then.
        roster.join(0.2)
        return wire.now

    reporter = Reporter(wire, "reported", roster_comes)
    roster = threading.Thread(target=reporter.roster, args=(7, None, []))
    reporter.verdict(ALL_GOOD)
    roster.join()
    assert (wire.sent[-1].roster, wire.sent[-1].level) == (7, GOOD)


def test_a_sentence_of_any_length_can_be_read_by_the_hub() -> None:
    wire = Wire()
    reporter = Reporter(wire, "reported", lambda: wire.now)
    reporter.verdict(Verdict(BAD, "x" * 5000, "y" * 5000))
    reporter.roster(None, "z" * 5000, [])
    last = wire.sent[-1]
    assert [len(text or "") for text in (last.sentence, last.remedy, last.error)] == [MAX_TEXT] * 3
