from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cards.encodings import decode
from gateway.cards.identity import CardNumber, card_key
from gateway.cards.uid import Uid
from gateway.cards.wiegand import FORMATS, number_of
from gateway.errors import FatalError, SourceRefused
from gateway.mis.base import Complete, Connector, FeedItem, Notice, Record, Unreadable
from gateway.mis.options import Options, build_connector

SITE_KEY = bytes(range(32))
HEADER = "Student ID,First,Last,Form,Card\n"


def _source(folder: Path, content: str | bytes, **options: object) -> Connector:
    path = folder / "people.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    problems: list[tuple[str, str]] = []
    values = {"path": "people.csv", **options}
    connector = build_connector("csv", Options(values, folder, SITE_KEY, lambda key, why: problems.append((key, why))))
    assert problems == []
    return connector


def _read(folder: Path, content: str | bytes, **options: object) -> list[FeedItem]:
    return list(_source(folder, content, **options).fetch((), {}))


def _records(items: list[FeedItem]) -> list[Record]:
    return [item for item in items if isinstance(item, Record)]


def _faults(items: list[FeedItem]) -> list[tuple[str, str | None]]:
    return [(item.place, item.person_key) for item in items if isinstance(item, Unreadable)]


def test_a_row_becomes_a_record_with_a_card_key_and_no_card_number(tmp_path: Path) -> None:
    items = _read(tmp_path, HEADER + "000123,Zoë,O'Brien,7B,04:a1:b2:c3:d4:e5:f6\n")
    (record,) = _records(items)
    assert (record.person_key, record.fields.given_name, record.fields.family_name) == ("000123", "Zoë", "O'Brien")
    assert record.fields.form == "7B"
    assert record.cards is not None
    expected = card_key(SITE_KEY, CardNumber.of_uid(Uid(bytes.fromhex("04a1b2c3d4e5f6")))).hex()
    assert [(claim.key, claim.tail) for claim in record.cards] == [(expected, "E5F6")]
    assert "04a1b2c3" not in repr(items).lower()
    assert items[-1] == Complete(1)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_by_itself(tmp_path: Path, delimiter: str) -> None:
    text = (HEADER + "1,Ann,Smith,7B,04A1B2C3\n").replace(",", delimiter)
    assert len(_records(_read(tmp_path, text))) == 1


def test_utf8_with_its_mark_and_windows_1252_are_both_read_the_second_with_a_notice(tmp_path: Path) -> None:
    text = HEADER + "1,Zoë,Brontë,7B,\n"
    assert _records(_read(tmp_path, text.encode("utf-8-sig")))[0].fields.given_name == "Zoë"
    items = _read(tmp_path, text.encode("cp1252"))
    assert isinstance(items[0], Notice)
    assert _records(items)[0].fields.family_name == "Brontë"


def test_an_unreadable_row_is_named_by_its_line_and_the_others_are_used(tmp_path: Path) -> None:
    rows = [
        "1,Ann,Smith,7B,04A1B2C3",
        '2,"Bro"ken,Quote,7B,',
        "3,Short",
        ",No,Key,7B,",
        '5,"Never closed,Smith,7B,',
        "6,Six,Smith,7B,",
        '7,"Two\nlines",Smith,7B,',
        "8,Eight,Smith,7B,,,",
    ]
    items = _read(tmp_path, HEADER + "\n".join(rows) + "\n")
    assert [record.person_key for record in _records(items)] == ["1", "6", "7", "8"]
    assert sorted(place for place, _ in _faults(items)) == ["line 3", "line 4", "line 5", "line 6"]
    assert items[-1] == Complete(8)


def test_an_unusable_card_costs_the_card_and_keeps_the_person(tmp_path: Path) -> None:
    items = _read(tmp_path, HEADER + "1,Ann,Smith,7B,4.7E+08\n2,Bob,Smith,7B,08A1B2C3\n3,Cat,Smith,7B,00000000\n")
    assert [record.cards for record in _records(items)] == [None, None, None]
    assert _faults(items) == [("line 2", "1"), ("line 3", "2"), ("line 4", "3")]


def test_an_empty_card_cell_says_no_card_and_a_missing_column_says_nothing(tmp_path: Path) -> None:
    assert _records(_read(tmp_path, HEADER + "1,Ann,Smith,7B,\n"))[0].cards == ()
    assert _records(_read(tmp_path, "Student ID,Last\n1,Smith\n"))[0].cards is None


def test_mapped_columns_are_used_and_a_missing_one_is_refused_by_name(tmp_path: Path) -> None:
    columns = {"person_key": "Nr", "card": "Chip", "family_name": "Wer"}
    items = _read(tmp_path, "Nr;Wer;Chip\n7;Ann;04A1B2C3\n", columns=columns)
    assert _records(items)[0].person_key == "7"
    source = _source(tmp_path, "Nr;Wer\n7;Ann\n", columns=columns)
    with pytest.raises(SourceRefused, match="Chip") as caught:
        list(source.fetch((), {}))
    assert caught.value.failure == "column_missing"
    assert source.check().failure == "column_missing"


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused) as caught:
        _read(tmp_path, "Student ID,Last,Card,card\n1,Smith,04A1B2C3,04A1B2C4\n")
    assert caught.value.failure == "column_twice"


def test_a_missing_file_and_an_empty_one_fail_in_their_own_words(tmp_path: Path) -> None:
    source = _source(tmp_path, "")
    assert source.check().failure == "empty"
    (tmp_path / "people.csv").unlink()
    assert source.check().failure == "object_missing"


def test_a_file_with_headings_only_is_short_and_never_an_empty_school(tmp_path: Path) -> None:
    assert _source(tmp_path, HEADER).check().failure == "short"


def test_the_check_counts_what_a_sync_would_meet(tmp_path: Path) -> None:
    result = _source(tmp_path, HEADER + "1,Ann,Smith,7B,04A1B2C3\n2,Bob,Smith,7B,xyz\n").check()
    assert result.ok
    assert result.detail == "2 people can be read, 1 with a card; 0 have left; 1 faults."


def test_settings_that_no_csv_source_has_are_named(tmp_path: Path) -> None:
    problems: dict[str, str] = {}
    values = {"path": "x.csv", "colums": {}, "card_encoding": "hex-msbb", "columns": {"cart": "Card"}, "role": "king"}
    build_connector("csv", Options(values, tmp_path, SITE_KEY, problems.__setitem__))
    assert set(problems) == {"colums", "card_encoding", "columns", "role"}


def test_a_kind_that_does_not_exist_is_fatal(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="csv"):
        build_connector("fax", Options({}, tmp_path, SITE_KEY, lambda _key, _why: None))


def _key(number: CardNumber) -> str:
    return card_key(SITE_KEY, number).hex()


@pytest.mark.parametrize(
    ("cell", "options", "number"),
    [
        # Words as the reader at the door sends them.
        ("123-45678", {"card_encoding": "w26"}, number_of(FORMATS["h10301"].word(123, 45678), 26)),
        ("2345-801234", {"card_encoding": "w35"}, number_of(FORMATS["corporate-1000-35"].word(2345, 801234), 35)),
        ("1234/456789", {"card_encoding": "w37"}, number_of(FORMATS["h10304"].word(1234, 456789), 37)),
        ("0801234567", {"card_encoding": "h10302"}, number_of(FORMATS["h10302"].word(0, 801234567), 37)),
        ("1E00A9C3F7", {"card_encoding": "em4100"}, decode("1E00A9C3F7", "em4100")),
        ("E00401501A2B3C4D", {"card_encoding": "iso15693"}, decode("E00401501A2B3C4D", "iso15693")),
        # Fobs whose top byte is that of random or cut UIDs.
        ("0140123456", {"card_encoding": "8h10d"}, decode("0140123456", "8h10d")),
        ("140123456", {"card_encoding": "dec-msb", "card_technology": "125khz"}, decode("0140123456", "8h10d")),
        ("2290000000", {"card_encoding": "8h10d"}, decode("2290000000", "8h10d")),
        ("Card 04711 (DEADBEEF)", {"card_pattern": r".*\(([0-9A-F]+)\)"}, decode("DEADBEEF", "hex-msb")),
    ],
)
def test_a_school_can_import_what_its_readers_read(
    tmp_path: Path, cell: str, options: dict[str, object], number: CardNumber
) -> None:
    (record,) = _records(_read(tmp_path, HEADER + f'1,Ada,Archer,7B,"{cell}"\n', **options))
    assert [claim.key for claim in record.cards or ()] == [_key(number)]


def test_a_random_uid_and_a_cell_of_another_form_are_faults_of_their_row(tmp_path: Path) -> None:
    rows = HEADER + "1,Ada,Archer,7B,08A1B2C3\n2,Ben,Baker,7B,x\n"
    assert _faults(_read(tmp_path, rows)) == [("line 2", "1"), ("line 3", "2")]
    assert _faults(_read(tmp_path, rows, card_pattern="([0-9A-F]{14})")) == [("line 2", "1"), ("line 3", "2")]


def test_settings_of_the_card_column_that_cannot_be_are_named(tmp_path: Path) -> None:
    problems: list[str] = []
    values = {"path": "x", "card_encoding": "w37|hex-msb", "card_technology": "nfc", "card_pattern": "("}
    build_connector("csv", Options(values, tmp_path, SITE_KEY, lambda key, _why: problems.append(key)))
    assert problems == ["card_encoding", "card_technology", "card_pattern"]


def test_a_list_of_cards_needs_no_names(tmp_path: Path) -> None:
    (tmp_path / "cards.csv").write_text("Student ID,Card\n009,04A1B2C3D4E5F6\n010,\n")
    problems: list[str] = []
    options = Options(
        {"path": "cards.csv"}, tmp_path, bytes(32), lambda key, text: problems.append(f"{key}: {text}"), has_names=False
    )
    items = list(build_connector("csv", options).fetch((), {}))
    records = [item for item in items if isinstance(item, Record)]
    assert [(record.person_key, len(record.cards or ())) for record in records] == [("009", 1), ("010", 0)]
    assert not [item for item in items if isinstance(item, Unreadable)]
