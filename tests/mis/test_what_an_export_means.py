"""Exports as schools have them: what their forms, words and columns mean."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from gateway.errors import BadRecord, SourceRefused
from gateway.mis.base import Complete, FeedItem, Gone, Notice, Record, Shape, Unreadable
from gateway.mis.cells import is_day_first, read_date
from gateway.mis.csv_file import CsvFile
from gateway.mis.options import CardReader, Options, build_connector
from gateway.mis.table import MAX_CARDS

SITE_KEY = bytes(range(32))
HEADER = "Admission No,Forename,Surname,Form,Card\n"


def source(folder: Path, content: str | bytes, **options: object) -> CsvFile:
    (folder / "people.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    problems: list[tuple[str, str]] = []
    values = {"path": "people.csv", **options}
    made = build_connector("csv", Options(values, folder, SITE_KEY, lambda key, why: problems.append((key, why))))
    assert problems == []
    assert isinstance(made, CsvFile)
    return made


def read(folder: Path, content: str | bytes, **options: object) -> list[FeedItem]:
    return list(source(folder, content, **options).fetch((), {}))


def people(items: list[FeedItem]) -> list[Record]:
    return [item for item in items if isinstance(item, Record)]


def notices(items: list[FeedItem]) -> list[str]:
    return [item.text for item in items if isinstance(item, Notice)]


def failure(folder: Path, content: str | bytes, **options: object) -> str:
    with pytest.raises(SourceRefused) as caught:
        read(folder, content, **options)
    return caught.value.failure


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "mac_roman"])
def test_every_character_set_that_exports_come_in_is_read(tmp_path: Path, encoding: str) -> None:
    text = HEADER + "1,Zoë,Müller,7B,\n2,José,Núñez,7C,\n"
    items = read(tmp_path, text.encode(encoding))
    assert [record.fields.family_name for record in people(items)] == ["Müller", "Núñez"]
    assert bool(notices(items)) is (encoding not in {"utf-8", "utf-8-sig"})


def test_letters_taken_apart_are_put_together(tmp_path: Path) -> None:
    (record,) = people(read(tmp_path, HEADER + "1,Zoe\u0308,Smith,Anne\u0301e 7,\n"))
    assert (record.fields.given_name, record.fields.form) == ("Zo\u00eb", "Ann\u00e9e 7")


def test_names_damaged_by_an_earlier_program_are_counted(tmp_path: Path) -> None:
    items = read(tmp_path, HEADER + "1,Jos\u00c3\u00a9,Smith,7B,\n2,Bo,Chen,7B,\n")
    assert any("1 names look" in text for text in notices(items))


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\r\nAdmission No;Forename;Surname;Form;Card\r\n1;Ann;Smith;11A;04A1B2C3\r\n",
        "Student cards,,,,\r\nPrinted 02/09/2026 08:14,,,,\r\n,,,,\r\n" + HEADER + "1,Ann,Smith,11A,04A1B2C3\n",
        HEADER + "1,Ann,Smith,11A,04A1B2C3\n(1 rows affected)\n",
        HEADER + "1,Ann,Smith,11A,04A1B2C3\n\nTotal: 1,,,,\n",
    ],
)
def test_what_stands_around_the_table_is_no_person_and_is_told_once(tmp_path: Path, text: str) -> None:
    items = read(tmp_path, text)
    assert [record.person_key for record in people(items)] == ["1"]
    assert items[-1] == Complete(1)
    assert not any(isinstance(item, Unreadable) for item in items)
    assert len(notices(items)) == (0 if text.startswith("sep") else 1)


def test_a_line_of_one_cell_between_people_is_a_fault_and_no_footer(tmp_path: Path) -> None:
    items = read(tmp_path, HEADER + "1,Ann,Smith,11A,\noops\n2,Bo,Chen,7B,\n")
    assert [item.place for item in items if isinstance(item, Unreadable)] == ["line 3"]


def test_rows_that_a_spreadsheet_cut_after_their_last_filled_cell_are_whole(tmp_path: Path) -> None:
    items = read(tmp_path, HEADER + "1,Ann,Smith\n2,Bo,Chen,7B,04A1B2C3\n")
    assert [record.cards == () for record in people(items)] == [True, False]


def test_words_for_nothing_are_empty_cells_in_every_column(tmp_path: Path) -> None:
    items = read(tmp_path, HEADER + "1,Ann,Smith,7A,NULL\n2,Bo,Chen,NULL,n/a\n3,NULL,Jones,7B,-\n")
    assert [record.cards for record in people(items)] == [(), (), ()]
    assert [record.fields.form for record in people(items)] == ["7A", None, "7B"]
    assert people(items)[2].fields.given_name == ""
    assert not any(isinstance(item, Unreadable) for item in items)
    assert people(read(tmp_path, HEADER + "1,Ann,Smith,7A,keine\n", empty_words=["keine"]))[0].cards == ()
    (named,) = people(read(tmp_path, HEADER + "1,Nil,Null,7A,\n"))
    assert (named.fields.given_name, named.fields.family_name) == ("Nil", "Null")


def test_the_guards_of_spreadsheets_are_taken_off(tmp_path: Path) -> None:
    rows = '="000123",Ann,Smith,11A,="0076543210"\n"=""000124""",Bo,Chen,7B,"=""0076543211"""\n'
    rows += "'000125,Cy,Jones,7B,'0076543212\n"
    items = read(tmp_path, HEADER + rows, card_encoding="8h10d")
    assert [record.person_key for record in people(items)] == ["000123", "000124", "000125"]
    assert all(record.cards for record in people(items))


@pytest.mark.parametrize(
    ("cell", "count"),
    [
        ('"1,234,567,890"', 1),
        ("1234567891.0", 1),
        ("1\u00a0234\u00a0567\u00a0893", 1),
        ("'1234567895", 1),
        ('"1234567896,1234567897"', 2),
        ('"1234567896 / 1234567897"', 2),
        ('"1234567896\n1234567897"', 2),
        ("1234567896 1234567897", 2),
    ],
)
def test_the_forms_of_card_numbers_and_of_lists_of_them(tmp_path: Path, cell: str, count: int) -> None:
    (record,) = people(read(tmp_path, HEADER + f"1,Ann,Smith,7B,{cell}\n", card_encoding="8h10d"))
    assert len(record.cards or ()) == count


def test_a_rounded_number_is_refused_with_its_cause_and_never_guessed(tmp_path: Path) -> None:
    items = read(tmp_path, HEADER + "4.7E+08,Ann,Smith,7B,\n")
    assert people(items) == []
    assert "rounded" in next(item.why for item in items if isinstance(item, Unreadable))


def test_characters_that_nobody_sees_are_taken_out_of_ids_with_one_notice(tmp_path: Path) -> None:
    items = read(tmp_path, HEADER + "\u200b000771,Ann,Smith,7B,\n000\u00a0772,Bo,Chen,7B,\n")
    assert [record.person_key for record in people(items)] == ["000771", "000772"]
    assert len(notices(items)) == 1


def test_whoever_a_status_or_a_leaving_date_says_has_left_is_gone(tmp_path: Path) -> None:
    text = (
        "Admission No,Forename,Surname,Status,Date of leaving\n"
        "1,Ann,Smith,On roll,\n2,Bo,Chen,Leaver,17/07/2026\n3,Cy,Jones,On roll,17/07/2024\n"
        "4,Di,Day,On roll,31/08/2099\n5,Ed,Fox,Sabbatical,\n"
    )
    items = read(tmp_path, text)
    assert [(item.person_key, item.why) for item in items if isinstance(item, Gone)] == [
        ("2", "status"),
        ("3", "leaving date"),
    ]
    assert people(items)[1].fields.ends_on == date(2099, 8, 31)
    assert any("status that is not known" in text for text in notices(items))


def test_a_leaving_date_that_cannot_be_read_is_counted_once(tmp_path: Path) -> None:
    text = (
        "Admission No,Forename,Surname,Date of leaving\n1,Ann,Smith,soon\n2,Bo,Chen,2099-02-31\n3,Cy,Jones,04/03/2099\n"
    )
    items = read(tmp_path, text)
    assert notices(items) == [
        "2 cells of ends on are no dates and were left out.",
        "1 cells of ends on could be day and month or month and day; they were read with the day first.",
    ]
    assert [record.fields.ends_on for record in people(items)] == [None, None, date(2099, 3, 4)]


def test_a_cell_of_many_cards_gives_the_first_of_them_and_names_the_first_that_is_none(tmp_path: Path) -> None:
    many = [f"04A1B2{number:02X}" for number in range(MAX_CARDS + 5)]
    for row, count in ((many, MAX_CARDS), ([*many, "lost"], MAX_CARDS), ([many[0], many[0].lower()], 1)):
        (record,) = people(read(tmp_path, HEADER + f"1,Ann,Smith,7B,{';'.join(row)}\n"))
        assert len(record.cards or ()) == count
    items = read(tmp_path, HEADER + f"1,Ann,Smith,7B,{many[0]};lost;stolen\n")
    assert [record.cards for record in people(items)] == [None]
    assert [item.why for item in items if isinstance(item, Unreadable)] == [
        f"The card in this row cannot be used: {refusal('lost')}"
    ]


def refusal(number: str) -> str:
    with pytest.raises(BadRecord) as caught:
        CardReader(SITE_KEY, "hex-msb").claim(number)
    return str(caught.value)


def test_oneroster_users_read_as_csv(tmp_path: Path) -> None:
    text = (
        "sourcedId,status,enabledUser,role,userIds,givenName,familyName,email,grades\n"
        "u1,active,true,student,{RFID:04A1B2C3},Ann,Smith,,07\nu2,tobedeleted,false,student,{RFID:04A1B2C4},Bo,Chen,,07\n"
        "u3,active,true,administrator,,Cy,Jones,,\nu4,active,true,aide,,Di,Day,,\nu5,active,true,relative,,Ed,Day,,\n"
        "u6,active,false,student,,Flo,Eck,,07\nu7,active,true,proctor,,Gus,Ahn,,\n"
    )
    items = read(tmp_path, text)
    assert [(one.person_key, one.fields.role) for one in people(items)] == [
        ("u1", "student"),
        ("u3", "staff"),
        ("u4", "staff"),
        ("u5", "contact"),
        ("u7", "staff"),
    ]
    assert [item.person_key for item in items if isinstance(item, Gone)] == ["u2", "u6"]
    assert [claim.tail for claim in people(items)[0].cards or ()] == ["B2C3"]


def test_two_card_columns_are_two_cards(tmp_path: Path) -> None:
    text = "Username,Full Name,Card Number,Card Number 2\nann,Ann Smith,04A1B2C3,04A1B2D3\n"
    columns = {"person_key": "Username", "card": ["Card Number", "Card Number 2"]}
    for chosen in (columns, {}):
        (record,) = people(read(tmp_path, text, columns=chosen))
        assert len(record.cards or ()) == 2
    assert (record.fields.given_name, record.fields.family_name) == ("Ann", "Smith")


STYLES = {
    "SIMS": (
        "Adno,Forename,Surname,Reg,Year Group,UPN,DOB,Mifare Number\n"
        "001234,Ann,Smith,7B,Year 7,A1,01/02/2012,04A1B2C3\n"
    ),
    "Arbor": (
        "Student ID,Legal First Name,Legal Last Name,Registration Form,Year group,UPN,Date of birth,Card Number\n"
        "9,Ann,Smith,7B,7,A1,2012-02-01,04A1B2C3\n"
    ),
    "Bromcom": (
        "AdmissionNumber,PreferredFirstName,PreferredLastName,TutorGroup,YearGroup,UPN,DateOfBirth,CardNo\n"
        "9,Ann,Smith,7B,7,A1,01 Feb 2012,04A1B2C3\n"
    ),
    "Synergetic": ("Community ID;Preferred Name;Surname;Year Level;House;Chip Number\n9;Ann;Smith;7;Red;04A1B2C3\n"),
    "PaperCut": (
        "Username\tFull Name\tEmail\tDepartment\tCard Number\tDisabled\n"
        "ann\tAnn Smith\tann@x.example\tYear 7\t04A1B2C3\tN\n"
    ),
    "iSAMS": ("School ID,Forename,Surname,Form,Year,Date of Birth,RFID\n9,Ann,Smith,7B,7,01/02/2012,04A1B2C3\n"),
    "Compass": (
        "Student Code,First Name,Last Name,Home Group,Year Level,Card UID,Status\n9,Ann,Smith,7B,7,04A1B2C3,Active\n"
    ),
    "Entra": (
        "userPrincipalName,givenName,surname,displayName,department,accountEnabled,card\n"
        "ann@x.example,Ann,Smith,Ann Smith,Year 7,TRUE,04A1B2C3\n"
    ),
    "OneRoster": (
        "sourcedId,status,enabledUser,role,givenName,familyName,grades,userIds\n"
        "9,active,true,student,Ann,Smith,07,{RFID:04A1B2C3}\n"
    ),
    "by hand": ("Student ID,First,Last,Card serial number\n9,Ann,Smith,04A1B2C3\n"),
}


@pytest.mark.parametrize("style", STYLES)
def test_the_usual_exports_are_read_without_a_column_map(tmp_path: Path, style: str) -> None:
    items = read(tmp_path, STYLES[style])
    (record,) = people(items)
    assert (record.fields.given_name, record.fields.family_name) == ("Ann", "Smith")
    assert [claim.tail for claim in record.cards or ()] == ["B2C3"]
    assert record.person_key in {"9", "001234", "ann", "ann@x.example"}
    assert isinstance(items[0], Shape)
    if style in {"SIMS", "Arbor", "Bromcom", "iSAMS"}:
        assert record.fields.birth_date == date(2012, 2, 1)


def test_the_check_shows_headings_mapping_and_five_people_without_a_card_number(tmp_path: Path) -> None:
    text = HEADER + "".join(f"{number},Ann{number},Smith,7B,04A1B2C{number}\n" for number in range(8))
    result = source(tmp_path, text).check()
    assert result.headings == ("Admission No", "Forename", "Surname", "Form", "Card")
    assert result.mapping["card"] == "Card"
    assert (len(result.sample), result.sample[0]["name"], result.sample[0]["card"]) == (5, "Ann0 Smith", "...B2C0")
    assert "04A1B2C0" not in repr(result)


def test_discovery_finds_the_card_column_and_tells_no_value(tmp_path: Path) -> None:
    text = "Student ID,First,Last,Field 7\n" + "".join(f"{n},Ann{n},Smith,04A1B2{n:02X}\n" for n in range(20))
    found = {field.path: field for field in source(tmp_path, text).discover()}
    assert [path for path, field in found.items() if field.card_like] == ["Field 7"]
    assert (found["Last"].filled, found["Last"].distinct, found["Field 7"].shape) == (20, 1, "hex-8")
    assert "04A1B2" not in repr(found)


def test_a_file_cut_inside_its_last_line_is_short(tmp_path: Path) -> None:
    assert failure(tmp_path, HEADER + "1,Ann,Smith,7B,04A1B2C3\n2,Bo,Ch") == "short"
    # A last line without its end, but whole, from a program that writes none.
    assert len(people(read(tmp_path, HEADER + "1,Ann,Smith,7B,04A1B2C3\n2,Bo,Chen,7B,04A1B2C4"))) == 2


def test_a_file_that_grows_while_it_is_looked_at_is_short(tmp_path: Path) -> None:
    growing = source(tmp_path, HEADER + "1,Ann,Smith,7B,04A1B2C3")

    def write_on(_seconds: float) -> None:
        with (tmp_path / "people.csv").open("a") as file:
            file.write("FF\n")

    object.__setattr__(growing, "pause", write_on)
    with pytest.raises(SourceRefused) as caught:
        list(growing.fetch((), {}))
    assert caught.value.failure == "short"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2012-03-04", date(2012, 3, 4)),
        ("2012-03-04T00:00:00.000Z", date(2012, 3, 4)),
        ("04/03/2012", date(2012, 3, 4)),
        ("4-Mar-12", date(2012, 3, 4)),
        ("04 March 2012", date(2012, 3, 4)),
        ("40972", date(2012, 3, 4)),
        ("20120304", date(2012, 3, 4)),
        ("31/02/2012", None),
        ("soon", None),
    ],
)
def test_dates_are_read_as_exports_print_them(text: str, expected: date | None) -> None:
    assert read_date(text) == expected


def test_a_whole_column_tells_day_from_month() -> None:
    assert is_day_first(["03/04/2012", "13/04/2012"]) is True
    assert is_day_first(["03/04/2012", "04/13/2012"]) is False
    assert is_day_first(["03/04/2012"]) is None
