"""The journal and its tables against a model of plain dicts, in any order of operations, restarts and power cuts."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tinydb import Query, TinyDB
from tinydb.operations import delete, increment
from tinydb.storages import MemoryStorage
from tinydb.table import Document, Table

from gateway.access.event import decode_event
from gateway.journal.segments import list_segments, segment_path
from gateway.journal.verify import verify
from tests.journal.journals import assert_chained, small, tap

NAMES = st.sampled_from(["settings", "lanes"])
VALUES = st.fixed_dictionaries(
    {"n": st.integers(-5, 5)}, optional={"t": st.text(max_size=8), "l": st.lists(st.integers(), max_size=3)}
)


class StockTable(Table):
    """Stock TinyDB's behaviour, but for ids, which ours never gives twice."""

    taken = 0

    def _get_next_id(self) -> int:
        self.taken += 1
        return self.taken

    def _update_table(self, updater: Any) -> None:
        super()._update_table(updater)
        self.taken = max([self.taken, *map(int, self._read_table())])


class JournalMachine(RuleBasedStateMachine):
    ids = Bundle("ids")

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tapgate-model-"))
        self.journal = small(self.folder / "0")
        self.generation = 0
        self.events: dict[int, int] = {}
        self.acked = 0
        self.stock = TinyDB(storage=MemoryStorage)
        self.stock.table_class = StockTable  # type: ignore[misc]

    def tables(self, name: str) -> tuple[Table, Table]:
        return self.journal.tinydb.table(name), self.stock.table(name)

    def both(self, name: str, operation: Any) -> Any:
        ours, stock = self.tables(name)
        wanted = operation(stock)
        got = operation(ours)
        # Ours gives documents by id, stock TinyDB in the order in which they came.
        assert (sorted(got) if isinstance(got, list) else got) == (
            sorted(wanted) if isinstance(wanted, list) else wanted
        )
        return got

    @rule(count=st.integers(1, 60))
    def append(self, count: int) -> None:
        tickets = [(number, self.journal.append(tap(number, boot=self.journal.boot))) for number in range(count)]
        for number, ticket in tickets:
            self.events[ticket.wait(10)] = number

    @rule(share=st.floats(0, 1))
    def acknowledge(self, share: float) -> None:
        self.acked = max(self.acked, int(share * self.journal.head))
        self.journal.acknowledge(self.acked)

    @rule(target=ids, name=NAMES, value=VALUES)
    def insert(self, name: str, value: dict[str, Any]) -> int:
        return int(self.both(name, lambda table: table.insert(value)))

    @rule(name=NAMES, values=st.lists(VALUES, max_size=4))
    def insert_many(self, name: str, values: list[dict[str, Any]]) -> None:
        self.both(name, lambda table: table.insert_multiple(values))

    @rule(name=NAMES, doc_id=ids, value=VALUES)
    def insert_at_an_id(self, name: str, doc_id: int, value: dict[str, Any]) -> None:
        ours, stock = self.tables(name)
        if stock.contains(doc_id=doc_id):
            with pytest.raises(ValueError, match="already exists"):
                ours.insert(Document(value, doc_id))
        else:
            self.both(name, lambda table: table.insert(Document(value, doc_id)))

    @rule(name=NAMES, n=st.integers(-5, 5), value=VALUES)
    def update_where(self, name: str, n: int, value: dict[str, Any]) -> None:
        self.both(name, lambda table: table.update(value, Query().n == n))

    @rule(name=NAMES, n=st.integers(-5, 5))
    def count_up_and_delete(self, name: str, n: int) -> None:
        pairs = [(increment("n"), Query().n > n), (delete("t"), Query().t.exists())]
        self.both(name, lambda table: table.update_multiple(pairs))

    @rule(name=NAMES, doc_id=ids, value=VALUES)
    def upsert(self, name: str, doc_id: int, value: dict[str, Any]) -> None:
        self.both(name, lambda table: table.upsert(Document(value, doc_id)))

    @rule(name=NAMES, doc_id=ids)
    def remove(self, name: str, doc_id: int) -> None:
        self.both(name, lambda table: table.remove(doc_ids=[doc_id, 10**6]))

    @rule(name=NAMES)
    def truncate(self, name: str) -> None:
        self.both(name, lambda table: table.truncate())

    @rule()
    def restart(self) -> None:
        self.journal.close()
        self.journal = small(self.journal.directory)

    @rule(torn=st.binary(max_size=300))
    def pull_the_plug(self, torn: bytes) -> None:
        self.generation += 1
        self.journal.settle()
        copy = self.folder / str(self.generation)
        shutil.copytree(self.journal.directory, copy)
        self.journal.close()
        path = segment_path(copy, list_segments(copy)[-1])
        data = path.read_bytes()
        end = len(data.rstrip(b"\0"))
        path.write_bytes((data[:end] + torn + data[end + len(torn) :])[: len(data)])
        before = self.journal.head
        self.journal = small(copy)
        # The watermark that did not reach the disk is said again by the hub.
        self.journal.acknowledge(self.acked)
        for lost in range(before + 1, self.journal.head + 1):
            self.events[lost] = -1

    @invariant()
    def every_event_that_the_hub_lacks_is_there(self) -> None:
        stored = self.journal.after(self.acked, 10**6)
        assert [seq for seq, _ in stored] == list(range(self.acked + 1, self.journal.head + 1))
        for seq, raw in stored:
            event = decode_event(raw)
            wanted = None if self.events[seq] < 0 else f"p_{self.events[seq]:016x}"
            assert event.seq == seq
            assert (event.person if wanted else event.kind) == (wanted or "system"), f"event {seq}"
        if stored:
            assert_chained([raw for _, raw in stored], decode_event(stored[0][1]).prev)

    @invariant()
    def tables_are_as_in_stock_tinydb(self) -> None:
        for name in ("settings", "lanes"):
            ours, stock = self.tables(name)
            assert {doc.doc_id: doc for doc in ours.all()} == {doc.doc_id: doc for doc in stock.all()}

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()
            assert {finding.kind for finding in verify(self.journal.directory).findings} <= {"torn", "missing"}
            shutil.rmtree(self.folder)


def test_any_order_of_operations_restarts_and_power_cuts_agrees_with_the_model() -> None:
    examples = int(os.environ.get("TAPGATE_MODEL_RUNS", "200"))
    run_state_machine_as_test(
        JournalMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
