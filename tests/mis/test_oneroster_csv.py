"""A OneRoster CSV package, zip or folder, 1.1 and 1.2."""

from __future__ import annotations

import zipfile
from datetime import date
from pathlib import Path

import pytest

from gateway.errors import SourceRefused
from gateway.mis.base import Complete, Ended, FeedItem, Gone, Record, Unreadable
from gateway.mis.oneroster_csv import OneRosterCsv
from gateway.mis.options import Options, build_connector
from gateway.mis.paths import find_values, parse_path

SITE_KEY = bytes(range(32))
HEAD = (
    "sourcedId,status,dateLastModified,enabledUser,role,userIds,givenName,familyName,identifier,email,grades,"
    "metadata.card"
)
USERS = (
    f"{HEAD}\n"
    "u1,,,true,student,{RFID:04A1B2C3},Ann,Smith,1001,Ann@X.example,07,\n"
    "u2,tobedeleted,,true,student,{RFID:04A1B2C4},Bo,Chen,1002,,07,\n"
    'u3,,,true,teacher,"{LDAP:cy},{Card:04A1B2C5}",Cy,Jones,T3,,,\n'
    "u4,,,false,student,,Di,Day,1004,,08,\n"
    "u5,,,true,visitor from mars,,Ed,Day,1005,,08,\n"
    "u6,,,true,relative,,Flo,Day,,,,04A1B2C6\n"
)
MANIFEST = (
    "propertyName,value\nmanifest.version,1.0\noneroster.version,1.1\nfile.users,{mode}\n"
    "file.classes,bulk\nfile.enrollments,bulk\nfile.demographics,{other}\n"
)
FILES = {
    "manifest.csv": MANIFEST.format(mode="bulk", other="bulk"),
    "users.csv": USERS,
    "classes.csv": "sourcedId,status,title\nc1,,7-Maths-1\nc2,,7-Art\n",
    "enrollments.csv": "sourcedId,status,classSourcedId,userSourcedId\ne1,,c1,u1\ne2,,c2,u1\ne3,tobedeleted,c2,u1\n",
    "demographics.csv": "sourcedId,birthDate\nu1,2012-03-04\n",
}


def write(folder: Path, files: dict[str, str], *, as_zip: bool = True) -> Path:
    path = folder / ("roster.zip" if as_zip else "roster")
    if as_zip:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
            for name, text in files.items():
                package.writestr(name, text)
    else:
        path.mkdir()
        for name, text in files.items():
            (path / name).write_text(text, encoding="utf-8")
    return path


def source(folder: Path, path: Path, **options: object) -> OneRosterCsv:
    problems: list[tuple[str, str]] = []
    values = {"path": str(path), **options}
    made = build_connector(
        "oneroster-csv", Options(values, folder, SITE_KEY, lambda key, why: problems.append((key, why)))
    )
    assert problems == []
    assert isinstance(made, OneRosterCsv)
    return made


def read(folder: Path, files: dict[str, str], *, as_zip: bool = True, **options: object) -> list[FeedItem]:
    return list(source(folder, write(folder, files, as_zip=as_zip), **options).fetch((), {}))


def failure(folder: Path, files: dict[str, str]) -> str | None:
    connector = source(folder, write(folder, files))
    with pytest.raises(SourceRefused) as caught:
        list(connector.fetch((), {}))
    assert connector.check().failure == caught.value.failure
    return caught.value.failure


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_bulk_package_is_a_complete_read_of_people_classes_and_cards(tmp_path: Path, as_zip: bool) -> None:
    items = read(tmp_path, FILES, as_zip=as_zip)
    records = {item.person_key: item for item in items if isinstance(item, Record)}
    assert list(records) == ["1001", "T3", "u6"]
    ann = records["1001"]
    assert (ann.stable_id, ann.fields.year, ann.fields.email) == ("u1", "07", "ann@x.example")
    assert ann.fields.groups == ("7-Art", "7-Maths-1")
    assert ann.fields.birth_date == date(2012, 3, 4)
    assert [claim.tail for claim in ann.cards or ()] == ["B2C3"]
    assert [claim.tail for claim in records["T3"].cards or ()] == ["B2C5"]
    assert (records["T3"].role, records["u6"].role) == ("staff", "contact")
    assert [(item.person_key, item.why) for item in items if isinstance(item, Gone)] == [
        ("1002", "deleted"),
        ("1004", "disabled"),
    ]
    assert items[-1] == Complete(6)
    assert "04A1B2" not in repr(items)


def test_a_delta_says_what_changed_and_nothing_about_the_absent(tmp_path: Path) -> None:
    items = read(tmp_path, {**FILES, "manifest.csv": MANIFEST.format(mode="delta", other="absent")})
    assert items[-1] == Ended()
    assert next(item for item in items if isinstance(item, Record)).fields.birth_date is None


def test_the_roles_of_version_1_2_count_and_whoever_works_here_is_staff(tmp_path: Path) -> None:
    users = "sourcedId,status,enabledUser,givenName,familyName,identifier\nu1,,true,Ann,Smith,1\nu2,,true,Bo,Chen,2\n"
    roles = "sourcedId,userSourcedId,roleType,role\nr1,u1,primary,guardian\n"
    roles += "r2,u1,secondary,teacher\nr3,u2,primary,student\n"
    items = read(tmp_path, {"users.csv": users, "roles.csv": roles})
    assert [item.role for item in items if isinstance(item, Record)] == ["staff", "student"]


def test_cards_are_where_the_paths_say(tmp_path: Path) -> None:
    items = read(tmp_path, FILES, card_paths=["metadata.card", "students:userIds{type~rfid}.identifier"])
    found = {item.person_key: len(item.cards or ()) for item in items if isinstance(item, Record)}
    assert found == {"1001": 1, "T3": 0, "u6": 1}


def test_discovery_lists_kinds_of_user_ids_as_paths_that_can_be_used(tmp_path: Path) -> None:
    rows = "".join(f"u{n},,,true,student,{{RFID:04A1B2{n:02X}}},A{n},S,{n},,07,\n" for n in range(20))
    connector = source(tmp_path, write(tmp_path, {**FILES, "users.csv": f"{HEAD}\n{rows}"}))
    found = [item for item in connector.discover() if item.card_like]
    assert [item.path for item in found] == ["userIds{type~RFID}.identifier"]
    assert "04A1B2" not in repr(found)


def test_a_package_that_is_not_whole_is_refused_in_its_own_words(tmp_path: Path) -> None:
    for number, (files, word) in enumerate(
        [
            ({name: text for name, text in FILES.items() if name != "demographics.csv"}, "object_missing"),
            ({"manifest.csv": FILES["manifest.csv"]}, "object_missing"),
            ({**FILES, "users.csv": ""}, "empty"),
            ({**FILES, "users.csv": USERS[:-30]}, "short"),
            ({**FILES, "../evil.csv": "x"}, "format"),
            ({**FILES, "users.csv": "name\nAnn\n"}, "column_missing"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert failure(folder, files) == word


def test_what_is_no_zip_is_told_and_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "roster.zip").write_bytes(b"PK\x03\x04 no")
    assert source(tmp_path, tmp_path / "roster.zip").check().failure == "format"
    monkeypatch.setattr("gateway.mis.oneroster_csv.MAX_PACKAGE_BYTES", 100)
    assert failure(tmp_path, FILES) == "too_large"


def test_a_row_that_cannot_be_used_costs_that_row(tmp_path: Path) -> None:
    users = (
        f"{HEAD}\n,,,true,student,,No,Id,,,,\nu2,,,true,student,,,,2,,,\nu3,,,true,student,{{RFID:zz}},Bo,Chen,3,,,\n"
    )
    items = read(tmp_path, {"users.csv": users})
    assert len([item for item in items if isinstance(item, Unreadable)]) == 3
    assert [item.cards for item in items if isinstance(item, Record)] == [None]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.b", ["x"]),
        ("list[*].n", ["1", "2"]),
        ("list{kind~CARD}.n", ["2"]),
        ("list{kind~none}.n", []),
        ("missing.b", []),
        ("staff:a.b", []),
        ("students:a.b", ["x"]),
    ],
)
def test_a_path_finds_values(path: str, expected: list[str]) -> None:
    record = {"a": {"b": "x"}, "list": [{"kind": "id", "n": 1}, {"kind": "Card no", "n": 2}]}
    assert find_values(record, [parse_path(path)], "student") == expected


@pytest.mark.parametrize("words", ["", "a..b", "a[0]", "a{b}", ".a", "a b]"])
def test_what_is_no_path_is_refused(words: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be read|steps"):
        parse_path(words)
