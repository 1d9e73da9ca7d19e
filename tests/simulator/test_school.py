from __future__ import annotations

import unicodedata
from pathlib import Path

from gateway.cards.uid import UidKind
from gateway.mis.base import Complete, Record
from gateway.mis.options import Options, build_connector
from gateway.simulator.school import sample_school

COLUMNS = {"person_key": "Student ID", "card": "Card", "role": "Type", "groups": "Form"}


def test_the_same_seed_gives_the_same_school() -> None:
    assert sample_school(300) == sample_school(300)
    assert sample_school(300, seed=1) != sample_school(300, seed=2)


def test_the_school_has_what_breaks_software() -> None:
    school = sample_school()
    names = [person.given_name + person.family_name for person in school.people]
    assert sum(person.role == "student" for person in school.people) == 2000
    assert any("'" in name for name in names)
    assert any("\u0600" <= letter <= "\u06ff" for name in names for letter in name)
    assert max(map(len, names)) > 60
    assert any(person.uid is None for person in school.people)
    assert len(school.shared_cards()) == 3
    lengths = {len(person.uid.raw) for person in school.people if person.uid}
    assert lengths == {4, 7}
    assert all(person.uid.kind is not UidKind.RANDOM for person in school.people if person.uid)


def test_the_export_is_read_back_whole(tmp_path: Path) -> None:
    school = sample_school()
    school.write_csv(tmp_path / "people.csv")
    options = Options({"path": "people.csv", "columns": COLUMNS}, tmp_path, bytes(32), lambda key, why: None)
    items = list(build_connector("csv", options).fetch((), {}))
    records = {item.person_key: item for item in items if isinstance(item, Record)}
    assert items[-1] == Complete(len(school.people))
    for person in school.people:
        record = records[person.person_key]
        names = (unicodedata.normalize("NFC", name) for name in (person.given_name, person.family_name))
        assert (record.fields.given_name, record.fields.family_name) == tuple(" ".join(name.split()) for name in names)
        assert [claim.tail for claim in record.cards or ()] == ([person.uid.tail] if person.uid else [])
