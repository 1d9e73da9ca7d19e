"""The private seams of TinyDB 4.9 that table.py stands on; a new TinyDB must pass here before it is let in."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import pytest
from tinydb import Query, TinyDB
from tinydb.storages import MemoryStorage, Storage
from tinydb.table import Document, Table


def test_the_pinned_version_is_installed() -> None:
    assert version("tinydb").startswith("4.9.")


@pytest.mark.parametrize(("method", "parameters"), [
    (Table.__init__, ["self", "storage", "name", "cache_size", "persist_empty"]),
    (Table._read_table, ["self"]),
    (Table._update_table, ["self", "updater"]),
    (Table._get_next_id, ["self"]),
    (Table.insert, ["self", "document"]),
    (Table.insert_multiple, ["self", "documents"]),
    (TinyDB.table, ["self", "name", "kwargs"]),
    (TinyDB.drop_table, ["self", "name"]),
    (TinyDB.drop_tables, ["self"]),
    (Storage.read, ["self"]),
    (Storage.write, ["self", "data"]),
])  # fmt: skip
def test_what_is_overridden_still_has_the_form_it_had(method: Any, parameters: list[str]) -> None:
    assert list(inspect.signature(method).parameters) == parameters


class Lazy(Mapping[str, dict[str, Any]]):
    """A table that can only be looked up by text, counted and walked, as ours."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getitem__(self, key: str) -> dict[str, Any]:
        assert type(key) is str
        self.calls.append("get")
        return {"1": {"n": 1}, "2": {"n": 2}}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(["1", "2"])

    def __len__(self) -> int:
        return 2


class LazyStorage(Storage):
    def __init__(self) -> None:
        self.lazy = Lazy()
        self.writes = 0

    def read(self) -> dict[str, Any]:
        return {"_default": self.lazy}

    def write(self, data: Any) -> None:
        self.writes += 1


def test_every_read_goes_through_read_table_and_is_content_with_a_lazy_mapping() -> None:
    db = TinyDB(storage=LazyStorage)
    assert len(db) == 2
    assert db.get(doc_id=2) == {"n": 2}
    assert db.get(doc_id=3) is None
    assert db.get(doc_ids=[1, 3]) == [{"n": 1}]
    assert db.get(Query().n == 2).doc_id == 2
    assert db.search(Query().n > 0) == db.all() == list(db) == [{"n": 1}, {"n": 2}]
    assert db.count(Query().n == 1) == 1
    assert db.contains(Query().n == 1)
    assert db.tables() == {"_default"}
    assert db.storage.writes == 0


class Watched(Table):
    updates = 0

    def _update_table(self, updater: Any) -> None:
        type(self).updates += 1
        super()._update_table(updater)


@pytest.mark.parametrize("change", [
    lambda t: t.insert_multiple([{"n": 2}]), lambda t: t.update({"n": 3}), lambda t: t.update({"n": 3}, doc_ids=[1]),
    lambda t: t.update_multiple([({"n": 4}, Query().n == 1)]), lambda t: t.upsert(Document({"n": 5}, 1)),
    lambda t: t.remove(doc_ids=[1]), lambda t: t.remove(Query().n == 1), lambda t: t.truncate(),
])  # fmt: skip
def test_every_change_is_one_update_of_the_table_and_so_one_record(change: Any) -> None:
    db = TinyDB(storage=MemoryStorage)
    table = Watched(db.storage, "settings")
    table.insert({"n": 1})
    Watched.updates = 0
    change(table)
    assert Watched.updates == 1


def test_a_query_cache_of_size_0_keeps_nothing() -> None:
    db = TinyDB(storage=MemoryStorage)
    table = db.table("settings", cache_size=0)
    table.insert({"n": 1})
    table.search(Query().n == 1)
    assert len(table._query_cache) == 0
