from __future__ import annotations

import json
import random
import zlib
from dataclasses import replace
from datetime import date, time
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.people import CardEntry, CardState, Copies, KioskAction, PointRules, Rule, Stale, UnsetClock
from gateway.access.schedule import ALWAYS, Calendar, Schedule, Window
from gateway.errors import BadRoster, FatalError
from gateway.roster.file import RosterContent, assemble, build, iter_records, split, what_it_says
from gateway.roster.publication import apply_delta, join_chunks, make_delta, open_chunk, publish, read_manifest
from gateway.roster.signing import Signer, Trust, load_or_create_signer
from gateway.roster.snapshot import Snapshot
from gateway.roster.store import CURRENT, RosterStore

SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))
SITE_KEY = bytes(range(32))
TRUST = Trust(SITE_KEY)
SCHOOL_HOURS = Schedule("school hours", (Window(frozenset(range(5)), time(7, 30), time(18)),))
POINTS = {
    "lane-1": PointRules((Rule("meals", frozenset(), ALWAYS),)),
    "gate": PointRules((Rule("staff", frozenset({"staff"}), ALWAYS), Rule("pupils", frozenset({"7B"}), SCHOOL_HOURS))),
}
CALENDAR = Calendar(((date(2026, 12, 21), date(2027, 1, 4)),))


def _cards(count: int, seed: int = 1) -> dict[bytes, CardEntry]:
    draw = random.Random(seed)
    groups = [frozenset({"pupils", f"{year}{form}"}) for year in range(7, 13) for form in "ABC"]
    return {
        draw.randbytes(16): CardEntry(
            f"p_{draw.randbytes(8).hex()}",
            CardState.ACTIVE,
            groups[number % len(groups)],
            None,
            date(2027, 7, 31),
            True,
        )
        for number in range(count)
    }


def _content(version: int, cards: dict[bytes, CardEntry]) -> RosterContent:
    return RosterContent("st-marys", version, cards, POINTS, CALENDAR, ("uid", "w26"))


@pytest.fixture(scope="module")
def cards() -> dict[bytes, CardEntry]:
    return _cards(500)


@pytest.fixture(scope="module")
def raw(cards: dict[bytes, CardEntry]) -> bytes:
    return build(_content(1, cards), SIGNER, SITE_KEY)


def test_every_card_is_found_as_it_was_written(raw: bytes, cards: dict[bytes, CardEntry]) -> None:
    snapshot = Snapshot(raw, TRUST, "st-marys")
    assert {key: snapshot.find(key) for key in cards} == cards
    assert snapshot.find(bytes(16)) is None
    assert snapshot.find(b"\xff" * 16) is None
    assert snapshot.point("gate") == POINTS["gate"]
    assert snapshot.point("nowhere") is None
    assert snapshot.calendar == CALENDAR
    assert snapshot.projections == ("uid", "w26")


def test_an_empty_roster_knows_nobody_and_is_still_a_roster() -> None:
    snapshot = Snapshot(build(_content(1, {}), SIGNER, SITE_KEY), TRUST, "st-marys")
    assert snapshot.count == 0
    assert snapshot.find(bytes(16)) is None


def test_no_single_flipped_byte_is_accepted(raw: bytes) -> None:
    draw = random.Random(7)
    places = set(range(96)) | {draw.randrange(len(raw)) for _ in range(200)} | set(range(len(raw) - 128, len(raw)))
    for place in places:
        damaged = bytearray(raw)
        damaged[place] ^= 1 << draw.randrange(8)
        with pytest.raises(BadRoster):
            Snapshot(bytes(damaged), TRUST, "st-marys")


def test_no_truncation_is_accepted(raw: bytes) -> None:
    for length in [0, 1, 31, 32, 159, 160, *range(200, len(raw), 97)]:
        with pytest.raises(BadRoster):
            Snapshot(raw[:length], TRUST, "st-marys")


def test_a_signing_key_that_the_site_key_does_not_endorse_is_refused(cards: dict[bytes, CardEntry]) -> None:
    foreign = build(_content(1, cards), SIGNER, bytes(32))
    with pytest.raises(BadRoster, match="not endorsed"):
        Snapshot(foreign, TRUST, "st-marys")


def test_a_pinned_signer_refuses_every_other_one(raw: bytes) -> None:
    Snapshot(raw, Trust(SITE_KEY, SIGNER.public_key.hex()), "st-marys")
    with pytest.raises(BadRoster, match="roster_signer"):
        Snapshot(raw, Trust(SITE_KEY, "00" * 32), "st-marys")


def test_a_roster_of_another_site_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRoster, match="belongs to 'st-johns'"):
        Snapshot(raw, TRUST, "st-johns")


def test_a_delta_gives_the_very_bytes_that_were_signed(raw: bytes, cards: dict[bytes, CardEntry]) -> None:
    changed = dict(cards)
    keys = sorted(changed)
    for key in keys[::50]:
        del changed[key]
    changed[keys[3]] = CardEntry(None, CardState.LOST, frozenset({"lost property"}), None, None, False)
    changed |= _cards(7, seed=9)
    changed[bytes(16)] = CardEntry(None, CardState.PRELINKED, frozenset(), None, None, True)
    changed[b"\xff" * 16] = CardEntry(None, CardState.PRELINKED, frozenset(), None, None, True)
    new = build(_content(2, changed), SIGNER, SITE_KEY, previous=raw)
    publication = publish(new, [raw], SIGNER, SITE_KEY)
    manifest = read_manifest(publication.manifest, TRUST, "st-marys")
    delta = publication.deltas[1, 2]
    assert apply_delta(raw, delta, manifest) == new
    assert len(delta) < len(raw) / 4


_SOME_CARDS = st.dictionaries(
    st.integers(0, 300).map(lambda number: number.to_bytes(2, "big") * 8), st.sampled_from(CardState), max_size=200
)


@settings(max_examples=60, deadline=None)
@given(_SOME_CARDS, _SOME_CARDS)
def test_between_any_two_generations_a_delta_names_what_differs_and_nothing_else(
    before: dict[bytes, CardState], after: dict[bytes, CardState]
) -> None:
    def cards(states: dict[bytes, CardState]) -> dict[bytes, CardEntry]:
        return {key: CardEntry(None, state, frozenset(), None, None, True) for key, state in states.items()}

    old = build(_content(1, cards(before)), SIGNER, SITE_KEY)
    new = build(_content(2, cards(after)), SIGNER, SITE_KEY, previous=old)
    delta = make_delta(old, new)
    assert apply_delta(old, delta) == new
    plain = msgspec.msgpack.decode(zlib.decompress(delta))
    assert len(plain["put"]) == 32 * sum(before.get(key) != state for key, state in after.items())
    assert len(plain["drop"]) == 16 * len(before.keys() - after.keys())


def test_a_file_says_the_same_under_another_number_and_something_else_with_one_card_more(
    raw: bytes, cards: dict[bytes, CardEntry]
) -> None:
    again = build(_content(2, cards), SIGNER, SITE_KEY, previous=raw)
    assert again != raw
    assert what_it_says(again) == what_it_says(raw)
    more = build(_content(2, cards | _cards(1, seed=77)), SIGNER, SITE_KEY, previous=raw)
    assert what_it_says(more) != what_it_says(raw)


def test_a_delta_from_another_generation_is_refused(raw: bytes, cards: dict[bytes, CardEntry]) -> None:
    second = build(_content(2, cards), SIGNER, SITE_KEY, previous=raw)
    third = build(_content(3, cards), SIGNER, SITE_KEY, previous=second)
    publication = publish(third, [second], SIGNER, SITE_KEY)
    with pytest.raises(BadRoster, match="starts from roster 2"):
        apply_delta(raw, publication.deltas[2, 3])


def test_chunks_join_to_the_file_and_a_wrong_one_is_refused() -> None:
    raw = build(_content(4, _cards(4000)), SIGNER, SITE_KEY)
    publication = publish(raw, [], SIGNER, SITE_KEY)
    manifest = read_manifest(publication.manifest, TRUST, "st-marys")
    assert len(manifest.chunks) > 1
    plain = {name: open_chunk(payload, name) for name, payload in publication.chunks.items()}
    assert join_chunks(manifest, plain) == raw
    first, second = manifest.chunks[:2]
    with pytest.raises(BadRoster, match="not the one"):
        open_chunk(publication.chunks[second], first)
    with pytest.raises(BadRoster, match="missing"):
        join_chunks(manifest, {first: plain[first]})


def test_a_manifest_that_was_touched_is_refused(raw: bytes) -> None:
    payload = publish(raw, [], SIGNER, SITE_KEY).manifest
    with pytest.raises(BadRoster):
        read_manifest(payload.replace(b'version\\":1', b'version\\":9'), TRUST, "st-marys")
    for bad in (b"", b"{}", b"null", b"\xff\xfe", payload[:-10]):
        with pytest.raises(BadRoster):
            read_manifest(bad, TRUST, "st-marys")


def _store(directory: Path) -> RosterStore:
    store = RosterStore(directory, TRUST, "st-marys")
    store.load()
    return store


def test_an_installed_roster_is_in_force_at_once_and_after_a_restart(tmp_path: Path, raw: bytes) -> None:
    store = _store(tmp_path)
    assert store.current is None
    store.install(raw)
    assert store.current is not None
    again = _store(tmp_path)
    assert again.current is not None
    assert again.current.version == 1


def test_a_bad_roster_leaves_the_one_in_force(tmp_path: Path, raw: bytes) -> None:
    store = _store(tmp_path)
    store.install(raw)
    for bad in (b"", raw[:-1], raw[:200] + b"\0" + raw[201:], raw):
        with pytest.raises(BadRoster):
            store.install(bad)
    assert store.current is not None
    assert store.current.version == 1
    assert _store(tmp_path).current is not None


def test_a_torn_current_file_falls_back_to_the_generation_before(
    tmp_path: Path, raw: bytes, cards: dict[bytes, CardEntry]
) -> None:
    store = _store(tmp_path)
    store.install(raw)
    store.install(build(_content(2, cards), SIGNER, SITE_KEY, previous=raw))
    with (tmp_path / CURRENT).open("r+b") as file:
        file.truncate(1000)
    again = _store(tmp_path)
    assert again.current is not None
    assert again.current.version == 1
    assert again.fault is not None
    assert again.raw() == raw
    # The next good generation must not push the good previous file out in favour of the torn one.
    again.install(build(_content(3, cards), SIGNER, SITE_KEY, previous=raw))
    (tmp_path / CURRENT).write_bytes(b"")
    last = _store(tmp_path)
    assert last.current is not None
    assert last.current.version == 1


def test_the_signing_key_is_made_once_and_only_readable_by_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "hub.key"
    first = load_or_create_signer(path)
    assert load_or_create_signer(path).public_key == first.public_key
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("not a key", encoding="ascii")
    with pytest.raises(FatalError, match="cannot be used"):
        load_or_create_signer(path)


def _put_in_force(store: RosterStore, version: int, cards: dict[bytes, CardEntry]) -> bytes:
    raw = build(_content(version, cards), SIGNER, SITE_KEY)
    store.install(raw)
    return raw


def test_an_old_file_that_is_put_back_is_not_used(tmp_path: Path, cards: dict[bytes, CardEntry]) -> None:
    store = RosterStore(tmp_path, TRUST, "st-marys")
    store.load()
    old = _put_in_force(store, 1, cards)
    lost = next(iter(cards))
    _put_in_force(store, 2, {**cards, lost: replace(cards[lost], state=CardState.LOST)})
    (tmp_path / CURRENT).write_bytes(old)

    careless = RosterStore(tmp_path, TRUST, "st-marys")
    assert careless.load() is not None, "the harness must be able to put it back"
    assert careless.current is not None
    assert careless.current.find(lost) == cards[lost]

    wary = RosterStore(tmp_path, TRUST, "st-marys")
    assert wary.load(floor=2) is None
    assert wary.was_put_back
    assert "older than 2" in str(wary.fault)
    _put_in_force(wary, 3, cards)
    assert (wary.was_put_back, wary.fault) == (False, None)


def test_a_damaged_file_falls_back_to_the_generation_before_and_says_so(
    tmp_path: Path, cards: dict[bytes, CardEntry]
) -> None:
    store = RosterStore(tmp_path, TRUST, "st-marys")
    store.load()
    _put_in_force(store, 1, cards)
    _put_in_force(store, 2, cards)
    (tmp_path / CURRENT).write_bytes(bytes(100))
    again = RosterStore(tmp_path, TRUST, "st-marys")
    found = again.load(floor=2)
    assert found is not None
    assert found.version == 1
    assert again.fault is not None
    assert not again.was_put_back


def _odd(**changes: object) -> bytes:
    """Build a roster that is signed well and says something that no gateway can use."""
    content = _content(9, _cards(3))
    good = split(build(content, SIGNER, SITE_KEY))
    meta = json.loads(good.meta_raw) | changes
    unsigned = assemble(9, json.dumps(meta).encode(), bytes(good.records))
    return unsigned + SIGNER.seal(SITE_KEY, unsigned)


@pytest.mark.parametrize(
    "changes",
    [
        {"created": "yesterday"},
        {"created": "9999-12-31T23:59:59-14:00"},
        {"created": "0001-01-01T00:00:00+14:00"},
        {"created": ""},
        {"zone": "Europe/Atlantis"},
        {"zone": "../../etc/passwd"},
        {"projections": []},
        {"projections": ["uid"] * 1000},
        {"group_sets": []},
        {"holidays": [["2026-13-01", "2026-13-02"]]},
        {"holidays": [["2026-12-01"]]},
        {"points": {"gate": {}}},
        {"points": {"gate": {"lockdown": False, "rules": [{"name": "x"}]}}},
        {"points": {"gate": {"lockdown": False, "rules": [], "unset_clock": "maybe"}}},
        {"points": {"gate": {"lockdown": False, "rules": [], "stale": ["deny", -1]}}},
        {"points": {"gate": {"lockdown": False, "rules": [], "stale": ["deny", 1e300]}}},
        {"points": {"gate": {"lockdown": False, "rules": [], "stale": "deny"}}},
        {"points": {"gate": {"lockdown": False, "rules": [], "copies": "eat"}}},
        {"points": {"gate": []}},
        {"site": 7},
    ],
)
def test_a_signed_roster_with_odd_words_is_refused_and_the_one_in_force_stays(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    store = RosterStore(tmp_path, TRUST, "st-marys")
    store.load()
    _put_in_force(store, 1, _cards(3))
    with pytest.raises(BadRoster):
        store.install(_odd(**changes))
    again = RosterStore(tmp_path, TRUST, "st-marys")
    assert again.load(floor=1) is not None
    (tmp_path / CURRENT).write_bytes(_odd(**changes))
    bricked = RosterStore(tmp_path, TRUST, "st-marys")
    bricked.load(floor=1)  # whatever lies on the card, this must not raise
    assert bricked.fault is not None or "group_sets" in changes


@pytest.mark.parametrize("place", ["state", "group", "order"])
def test_a_signed_roster_with_an_odd_record_is_refused(tmp_path: Path, place: str) -> None:
    good = split(build(_content(9, _cards(3)), SIGNER, SITE_KEY))
    records = [bytearray(record) for record in iter_records(good.records)]
    if place == "state":
        records[1][26] = 77
    elif place == "group":
        records[1][24:26] = b"\xff\xff"
    else:
        records.reverse()
    unsigned = assemble(9, good.meta_raw, b"".join(records))
    store = RosterStore(tmp_path, TRUST, "st-marys")
    store.load()
    with pytest.raises(BadRoster):
        store.install(unsigned + SIGNER.seal(SITE_KEY, unsigned))


def test_zone_and_policies_read_back_and_are_left_out_where_they_are_the_usual_ones() -> None:
    usual = build(_content(1, {}), SIGNER, SITE_KEY)
    assert not any(word in usual for word in (b"zone", b"unset_clock", b"stale", b"copies", b"actions"))
    rules = PointRules(POINTS["gate"].rules, False, UnsetClock.GRANT, Stale.STAFF, 7200, Copies.DENY)
    action = KioskAction("doctor", "Doctor's appointment", "check", "out", ("gate",), frozenset({"12", "staff"}))
    content = replace(_content(1, {}), points={"gate": rules}, zone="Australia/Perth", actions=(action,))
    snapshot = Snapshot(build(content, SIGNER, SITE_KEY), TRUST, "st-marys")
    assert snapshot.point("gate") == rules
    assert snapshot.actions == (action,)
    assert str(snapshot.zone) == "Australia/Perth"
    assert Snapshot(usual, TRUST, "st-marys").zone is None
