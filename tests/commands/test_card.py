"""`tapgate card teach` at an emulated RC522, with the export of the sample school."""

from __future__ import annotations

import argparse
import csv
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from gateway.cards.encodings import encode
from gateway.cards.uid import Uid
from gateway.commands.card import EXIT_FINDINGS, EXIT_GOOD, add_arguments, teach
from gateway.errors import ConfigError
from gateway.simulator.chips import SimulatedTransports
from gateway.simulator.iso14443_cards import State, classic_1k, ntag
from gateway.simulator.school import School, sample_school

PORT = "/dev/spidev0.0"
GATEWAY = f"""\
[gateway]
id = "gw-office"
site = "st-marys"
site_key_file = "site.key"
[[reader]]
id = "office"
driver = "rc522"
port = "{PORT}"
point = "desk"
poll_ms = 0.0
[[point]]
id = "desk"
kind = "lane"
"""
HUB = """\
# the hub of St Mary's
[hub]
state_dir = "hub"
broker = "mqtt://127.0.0.1:1883"

[[site]]
id = "st-marys"
site_key_file = "site.key"

[[site.source]]
name = "staff"
kind = "csv"   # kept by hand
path = "staff.csv"

[[site.source]]
name = "mis"
kind = "csv"
path = "people.csv"
card_encoding = "hex-msb"  # as the supplier said
columns = { card = "Card" }
"""


class Office:
    """A folder with both configurations and the school's export, and a hand at the reader."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wires = SimulatedTransports()
        self.school: School = sample_school(300)
        (folder / "site.key").write_text("5a" * 32)
        (folder / "gateway.toml").write_text(GATEWAY)
        (folder / "hub.toml").write_text(HUB)
        (folder / "staff.csv").write_text("id,first\n1,Ada\n")

    def export(self, written: Callable[[Uid], str]) -> None:
        """Write the export with the card column in some form."""
        with (self.folder / "people.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=";")
            writer.writerow(["Student ID", "First", "Last", "Card"])
            for person in self.school.people:
                card = written(person.uid) if person.uid else ""
                writer.writerow([person.person_key, person.given_name, person.family_name, card])

    def owners(self, count: int, length: int = 0) -> list[tuple[str, Uid]]:
        found = [(key, uid) for key, uid in self.school.cards() if not length or len(uid.raw) == length]
        return found[:count]

    def teach(self, cards: Sequence[Uid], *words: str, ask: Callable[[str], str] | None = None) -> int:
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        usual = ["teach", "office", "--config", str(self.folder / "gateway.toml")]
        if "--csv" not in words:
            usual += ["--hub", str(self.folder / "hub.toml"), "--source", "mis"]
        arguments = parser.parse_args([*usual, "--seconds", "1", *words])
        done = threading.Event()
        hand = threading.Thread(target=self._tap, args=(cards, done))
        hand.start()
        try:
            return teach(arguments, self.wires, ask or (lambda _question: ""))
        finally:
            done.set()
            hand.join(20)

    def _tap(self, cards: Sequence[Uid], done: threading.Event) -> None:
        field = self.wires.field(PORT)
        for uid in cards:
            card = classic_1k(uid.raw) if len(uid.raw) == 4 else ntag(uid.raw)
            field.enter(card)
            while card.state is not State.HALT and not done.wait(0.001):
                pass
            field.leave(card)

    def hub_toml(self) -> str:
        return (self.folder / "hub.toml").read_text()


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    bench = Office(tmp_path)
    yield bench
    bench.wires.close()


def test_three_taps_find_the_form_and_write_it_beside_the_comment(
    office: Office, capsys: pytest.CaptureFixture[str]
) -> None:
    office.export(lambda uid: encode(uid, "dec-lsb").zfill(17))
    (office.folder / "hub.toml").chmod(0o640)
    people = office.owners(3)
    words = [word for key, _ in people for word in ("--person", key)]
    assert office.teach([uid for _, uid in people], *words) == EXIT_GOOD
    assert office.hub_toml() == HUB.replace('"hex-msb"  # as', '"dec-lsb"  # as')
    assert (office.folder / "hub.toml.bak").read_text() == HUB
    assert (office.folder / "hub.toml").stat().st_mode & 0o777 == 0o640
    said = capsys.readouterr().out
    assert "last byte first" in said
    assert "zeros to 17 places" in said
    assert "explains 3 of 3 cards and reads 100% of the column" in said


def test_no_card_number_is_shown_whole(office: Office, capsys: pytest.CaptureFixture[str]) -> None:
    office.export(lambda uid: encode(uid, "dec-msb"))
    cards = [uid for _, uid in office.owners(3)]
    office.teach(cards, "--json")
    said = capsys.readouterr().out
    for uid in cards:
        for encoding in ("hex-msb", "hex-lsb", "dec-msb", "dec-lsb"):
            assert encode(uid, encoding) not in said.upper()
    assert json.loads(said.splitlines()[-1])["encoding"] == "dec-msb"


def test_a_source_without_the_setting_gets_a_line_of_its_own(office: Office) -> None:
    office.export(lambda uid: encode(uid, "hex-lsb"))
    text = HUB.replace('card_encoding = "hex-msb"  # as the supplier said\n', "").replace("\n", "\r\n")
    (office.folder / "hub.toml").write_bytes(text.encode())
    assert office.teach([uid for _, uid in office.owners(3)]) == EXIT_GOOD
    written = (office.folder / "hub.toml").read_bytes().decode()
    before, _, after = written.partition('card_encoding = "hex-lsb"\r\n')
    assert before + after == text
    assert before.endswith('name = "mis"\r\nkind = "csv"\r\n')


def test_two_forms_that_hit_different_people_write_nothing(office: Office, capsys: pytest.CaptureFixture[str]) -> None:
    [(_, first), *others] = office.owners(3, length=4)
    victim = office.owners(20, length=4)[-1][1]
    office.export(lambda uid: encode(first, "hex-lsb") if uid == victim else encode(uid, "hex-msb"))
    assert office.teach([first, *[uid for _, uid in others]]) == EXIT_FINDINGS
    assert office.hub_toml() == HUB
    assert "point to different people" in capsys.readouterr().out


def test_knowing_whose_card_it_is_settles_what_taps_alone_leave_open(office: Office) -> None:
    people = office.owners(3, length=4)
    victim = office.owners(20, length=4)[-1][1]
    office.export(lambda uid: encode(people[0][1], "hex-msb") if uid == victim else encode(uid, "hex-lsb"))
    answers = iter(["nobody", *[key for key, _ in people]])
    assert office.teach([uid for _, uid in people], "--ask", ask=lambda _question: next(answers)) == EXIT_GOOD
    assert 'card_encoding = "hex-lsb"  # as' in office.hub_toml()


def test_cards_of_other_people_than_those_named_write_nothing(
    office: Office, capsys: pytest.CaptureFixture[str]
) -> None:
    office.export(lambda uid: encode(uid, "hex-lsb"))
    people = office.owners(6)
    words = [word for key, _ in people[3:] for word in ("--person", key)]
    assert office.teach([uid for _, uid in people[:3]], *words) == EXIT_FINDINGS
    assert office.hub_toml() == HUB
    assert "other people than those named" in capsys.readouterr().out


def test_two_cards_are_not_enough(office: Office, capsys: pytest.CaptureFixture[str]) -> None:
    office.export(lambda uid: encode(uid, "dec-msb"))
    assert office.teach([uid for _, uid in office.owners(2)]) == EXIT_FINDINGS
    assert "3 different ones are needed" in capsys.readouterr().out
    assert office.hub_toml() == HUB


def test_a_lone_export_prints_the_line_and_touches_no_file(office: Office, capsys: pytest.CaptureFixture[str]) -> None:
    office.export(lambda uid: encode(uid, "dec-msb"))
    export = str(office.folder / "people.csv")
    cards = [uid for _, uid in office.owners(3)]
    assert office.teach(cards, "--csv", export, "--column", "card") == EXIT_GOOD
    assert 'card_encoding = "dec-msb"' in capsys.readouterr().out
    assert office.hub_toml() == HUB


@pytest.mark.parametrize(
    "replacement",
    [
        'card_encoding = """hex-msb"""',
        '"card_encoding" = "hex-msb"',
    ],
)
def test_a_file_that_cannot_be_edited_safely_stays_and_the_line_is_printed(
    office: Office, capsys: pytest.CaptureFixture[str], replacement: str
) -> None:
    office.export(lambda uid: encode(uid, "dec-msb"))
    text = HUB.replace('card_encoding = "hex-msb"', replacement)
    (office.folder / "hub.toml").write_text(text)
    assert office.teach([uid for _, uid in office.owners(3)]) == EXIT_FINDINGS
    assert office.hub_toml() == text
    assert not (office.folder / "hub.toml.bak").exists()
    assert 'card_encoding = "dec-msb"' in capsys.readouterr().out


def test_arguments_that_do_not_fit_are_named_before_a_card_is_asked_for(office: Office) -> None:
    office.export(lambda uid: encode(uid, "dec-msb"))
    with pytest.raises(ConfigError, match="--person"):
        office.teach([], "--person", "nobody")
    with pytest.raises(ConfigError, match="st-marys/staff, st-marys/mis"):
        office.teach([], "--source", "other")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    arguments = parser.parse_args(["teach", "office", "--config", str(office.folder / "gateway.toml")])
    with pytest.raises(ConfigError, match="--csv"):
        teach(arguments, office.wires, lambda _question: "")
