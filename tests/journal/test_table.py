from __future__ import annotations

from pathlib import Path

import pytest
from tinydb import Query, TinyDB
from tinydb.table import Document

from gateway.errors import JournalFull, JournalMisuse
from gateway.journal.face import JournalReader
from gateway.journal.table import JournalDB
from tests.journal.journals import GATEWAY, fill, small, tap, until_full


def test_queries_of_tinydb_find_events(tmp_path: Path) -> None:
    journal = small(tmp_path)
    fill(journal, 300)
    db = journal.tinydb
    assert isinstance(db, TinyDB)
    assert len(db) == 300
    found = db.search(Query().person == f"p_{7:016x}")
    assert [(type(document), document.doc_id) for document in found] == [(Document, 8)]
    assert db.get(doc_id=12)["seq"] == 12
    assert db.get(doc_id=301) is None
    assert db.count(Query().card.tail == "E5F6") == 300
    assert [document.doc_id for document in db.get(doc_ids=[3, 299])] == [3, 299]
    assert db.contains(Query().reason == "ok")
    journal.close()


def test_events_are_never_altered_through_tinydb(tmp_path: Path) -> None:
    journal = small(tmp_path)
    fill(journal, 3)
    before = journal.after(0, 10)
    db = journal.tinydb
    for forbidden in (
        lambda: db.update({"reason": "funds"}, doc_ids=[1]),
        lambda: db.update({"reason": "funds"}),
        lambda: db.remove(doc_ids=[1]),
        db.truncate,
        lambda: db.upsert({"reason": "funds"}, Query().seq == 1),
        lambda: db.drop_table("_default"),
        lambda: db.insert({"hello": 1}),
        lambda: db.insert(Document({"hello": 1}, 7)),
        lambda: db.storage.write({}),
    ):
        with pytest.raises(JournalMisuse):
            forbidden()
    db.drop_tables()
    assert journal.after(0, 10) == before
    journal.close()


def test_an_event_inserted_through_tinydb_is_numbered_and_chained_like_any_other(tmp_path: Path) -> None:
    journal = small(tmp_path)
    fill(journal, 2)
    document = {"gw": GATEWAY, "boot": 1, "at": "2026-11-22T08:00:00.000Z", "clock": "ntp", "up": 1.0, "kind": "tap"}
    assert journal.tinydb.insert(document) == 3
    assert journal.tinydb.insert_multiple([document, document]) == [4, 5]
    assert journal.tinydb.get(doc_id=3)["epoch"] == journal.epoch
    journal.close()


def test_a_named_table_survives_a_restart_and_the_unlinking_of_its_segments(tmp_path: Path) -> None:
    journal = small(tmp_path)
    table = journal.tinydb.table("settings")
    assert table.insert({"name": "volume", "value": 3}) == 1
    assert table.insert_multiple([{"name": "theme"}, {"name": "tone"}]) == [2, 3]
    assert table.update({"value": 5}, Query().name == "volume") == [1]
    assert table.remove(Query().name == "tone") == [3]
    for _ in range(3):
        fill(journal, 500)
        journal.acknowledge(journal.head)
        journal.append(tap()).wait(5)
    expected = [{"name": "volume", "value": 5}, {"name": "theme"}]
    assert table.all() == expected
    journal.close()
    again = small(tmp_path)
    assert again.oldest > 1000
    assert again.tinydb.table("settings").all() == expected
    assert again.tinydb.tables() == {"_default", "settings"}
    again.close()


def test_the_id_of_a_removed_document_is_not_given_to_another(tmp_path: Path) -> None:
    journal = small(tmp_path)
    table = journal.tinydb.table("settings")
    table.insert_multiple([{"n": 1}, {"n": 2}, {"n": 3}])
    table.remove(doc_ids=[3])
    journal.close()
    again = small(tmp_path)
    assert again.tinydb.table("settings").insert({"n": 4}) == 4
    again.close()


def test_an_operation_on_a_named_table_happens_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    journal = small(tmp_path)
    table = journal.tinydb.table("settings")
    table.insert_multiple([{"n": number} for number in range(10)])
    before = table.all()

    def spoil(document: dict[str, object]) -> None:
        if document["n"] == 7:
            raise ZeroDivisionError
        document["n"] = -1

    with pytest.raises(ZeroDivisionError):
        table.update(spoil)
    with pytest.raises(JournalMisuse, match="smaller steps"):
        table.update({"text": "x" * 10_000})
    with pytest.raises(JournalMisuse, match="JSON"):
        table.insert({"n": object()})
    assert table.all() == before
    journal.close()


def test_altering_what_a_query_gave_alters_nothing_stored(tmp_path: Path) -> None:
    journal = small(tmp_path)
    table = journal.tinydb.table("settings")
    table.insert({"list": [1, 2]})
    table.all()[0]["list"].append(3)
    assert table.all() == [{"list": [1, 2]}]
    journal.close()


def test_asking_for_an_existing_table_to_be_kept_when_empty_does_not_wipe_it(tmp_path: Path) -> None:
    journal = small(tmp_path)
    journal.tinydb.table("settings").insert({"n": 1})
    journal.close()
    again = small(tmp_path)
    assert again.tinydb.table("settings", persist_empty=True).all() == [{"n": 1}]
    again.tinydb.table("empty", persist_empty=True)
    again.close()
    assert JournalDB(JournalReader.open(tmp_path)).tables() == {"_default", "settings", "empty"}


def test_a_full_journal_refuses_a_table_change_and_keeps_the_table_as_it_was(tmp_path: Path) -> None:
    journal = small(tmp_path, quota_bytes=256 << 10)
    table = journal.tinydb.table("settings")
    table.insert({"n": 1})
    until_full(journal)
    kept = len(table)
    with pytest.raises(JournalFull):
        table.update({"m": 1})
    assert len(table) == kept
    assert "m" not in table.get(doc_id=1)
    journal.close()


def test_a_reader_of_another_process_sees_tables_and_events_and_changes_nothing(tmp_path: Path) -> None:
    journal = small(tmp_path)
    db = JournalDB(JournalReader.open(tmp_path))
    fill(journal, 5)
    journal.tinydb.table("settings").insert({"n": 1})
    assert len(db) == 5
    assert db.table("settings").all() == [{"n": 1}]
    with pytest.raises(JournalMisuse):
        db.table("settings").insert({"n": 2})
    with pytest.raises(JournalMisuse):
        db.insert(
            {"gw": GATEWAY, "boot": 1, "at": "2026-11-22T08:00:00.000Z", "clock": "ntp", "up": 1.0, "kind": "tap"}
        )
    journal.close()
