"""What a gateway believes of the hub's answer to its birth."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from gateway.edge.standing import GOES_ON, PATIENCE_SECONDS, STOPPED, STOPPED_ASK_SECONDS, WAITING, Standing
from gateway.errors import BadMessage
from gateway.journal.journal import Journal
from gateway.link.messages import (
    WATERMARK_PURPOSE,
    WELCOME_PURPOSE,
    Rejected,
    Signed,
    Watermark,
    Welcome,
    decode,
    encode,
    watermark_body,
)
from gateway.roster.signing import Signer, Trust
from tests.journal.journals import small

KEY = bytes(range(32))
SIGNER, STRANGER = (Signer(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)) for number in (1, 2))
EPOCH = "5f1c9a02"


class Bench:
    """A Standing over a journal, with a clock that the test moves."""

    def __init__(self, folder: Path, signer: str | None = SIGNER.public_key.hex()) -> None:
        self.now = 1000.0
        self.journal: Journal = small(folder)
        memory = self.journal.tinydb.table("standing")
        self.standing = Standing(memory, Trust(KEY, signer), "st-marys", "gw", lambda: self.now)

    def answer(
        self, verdict: str, signer: Signer = SIGNER, key: bytes = KEY, *, ours: bool = True, **more: object
    ) -> object:
        fields = {"site": "st-marys", "gateway": "gw", "to": self.standing.witness, "epoch": EPOCH, **more}
        body = encode(Welcome(verdict=verdict, **fields)).decode()  # type: ignore[arg-type]
        signed = Signed(body, signer.seal(key, WELCOME_PURPOSE + body.encode()).hex())
        return self.standing.answered(signed, EPOCH, is_ours=ours)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("verdict", ["fork", "twin"])
def test_an_order_counts_only_with_the_pinned_hub_s_signature(bench: Bench, verdict: str) -> None:
    # The site key alone endorses any signer; a pinned one is the only one that counts.
    assert bench.answer(verdict, STRANGER) is None
    assert bench.answer(verdict, SIGNER, bytes(32)) is None
    assert bench.standing.state == WAITING
    assert bench.answer(verdict, SIGNER, at=7) is not None


def test_where_no_signer_is_pinned_the_site_key_s_endorsement_counts(tmp_path: Path) -> None:
    bench = Bench(tmp_path, None)
    assert bench.answer("fork", STRANGER) is not None
    assert bench.answer("fork", STRANGER, bytes(32)) is None


def test_an_answer_to_another_boot_or_epoch_is_nobody_s(bench: Bench) -> None:
    assert bench.answer("twin", to="00" * 16) is None
    assert bench.answer("fork", epoch="00000000") is None
    assert bench.answer("go_on", gateway="gw-2") is None
    assert bench.standing.state == WAITING
    with pytest.raises(BadMessage):
        bench.standing.answered(Signed("{}", ""), EPOCH, is_ours=True)


def test_nothing_goes_before_the_welcome_and_go_on_is_not_believed_beside_a_foreign_watermark(bench: Bench) -> None:
    bench.standing.connected()
    bench.standing.hub_heard(welcoming=True)
    bench.now += 100
    assert bench.standing.wants_birth()
    assert not bench.standing.may_send
    bench.answer("go_on", ours=False)
    assert not bench.standing.may_send
    bench.answer("go_on")
    assert bench.standing.may_send


def test_a_hub_of_the_release_before_gets_what_it_always_got(bench: Bench) -> None:
    bench.standing.connected()
    bench.standing.hub_heard(welcoming=False)
    assert bench.standing.state == GOES_ON
    assert bench.standing.may_leap


def test_without_any_word_of_a_hub_it_sends_after_a_moment(bench: Bench) -> None:
    bench.standing.connected()
    bench.standing.born()
    assert not bench.standing.wants_birth()
    assert not bench.standing.may_send
    bench.now += PATIENCE_SECONDS + 1
    bench.standing.wants_birth()
    assert bench.standing.may_send


def test_once_its_hub_has_signed_no_unsigned_word_moves_the_numbers_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.answer("go_on", roster=412)
    bench.journal.close()
    again = Bench(tmp_path)
    again.standing.connected()
    again.standing.hub_heard(welcoming=False)
    assert not again.standing.may_leap
    assert again.standing.proof is not None
    again.journal.close()


def test_a_stop_ends_when_the_hub_says_go_on(bench: Bench) -> None:
    bench.answer("twin", others=["a (start 1)", "b (start 2)"])
    assert bench.standing.state == STOPPED
    assert "a (start 1) and b (start 2)" in (bench.standing.notice or "")
    bench.answer("go_on")
    assert bench.standing.state == GOES_ON
    assert bench.standing.notice is None


def test_the_witnesses_of_earlier_boots_are_kept_newest_first(tmp_path: Path) -> None:
    seen: list[str] = []
    for _ in range(70):
        bench = Bench(tmp_path)
        assert bench.standing.before == seen[:64]
        bench.standing.keep()
        seen.insert(0, bench.standing.witness)
        bench.journal.close()


def test_the_hub_s_time_is_known_by_its_signed_word_only(bench: Bench) -> None:
    bench.answer("go_on", STRANGER, at_ms=5_000)
    assert bench.standing.hub_ms() is None
    bench.answer("go_on", at_ms=5_000)
    bench.now += 2
    assert bench.standing.hub_ms() == 7_000


MARK = Watermark(EPOCH, 7, [(9, 12)], [Rejected(3, "It is not JSON.")], "ab" * 16)


def sealed(mark: Watermark, signer: Signer = SIGNER, key: bytes = KEY, gateway: str = "gw") -> Watermark:
    seal = signer.seal_statement(key, WATERMARK_PURPOSE, watermark_body("st-marys", gateway, mark))
    return replace(mark, seal=seal)


def test_once_its_hub_signs_watermarks_no_other_counts(bench: Bench) -> None:
    assert bench.standing.believes(MARK)
    bench.answer("go_on", seals=True)
    assert not bench.standing.believes(MARK)
    assert bench.standing.believes(decode(encode(sealed(MARK)), Watermark))


@pytest.mark.parametrize(
    "forged",
    [
        sealed(MARK, STRANGER),
        sealed(MARK, key=bytes(32)),
        sealed(MARK, gateway="gw-2"),
        replace(sealed(MARK), upto=8),
        replace(sealed(MARK), have=[(9, 13)]),
        replace(sealed(MARK), epoch="00000000"),
        replace(sealed(MARK), link=""),
        replace(sealed(MARK), rejected=[]),
        replace(MARK, seal="ab"),
    ],
    ids=["a stranger's", "no key", "another gateway's", "upto", "have", "epoch", "link", "rejected", "torn"],
)
def test_a_signature_covers_the_whole_watermark_and_whose_it_is(bench: Bench, forged: Watermark) -> None:
    bench.answer("go_on", seals=True)
    assert not bench.standing.believes(forged)


def test_that_watermarks_are_signed_is_known_after_a_restart_and_ends_by_a_signed_word_only(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.answer("go_on", seals=True, roster=4)
    bench.journal.close()
    again = Bench(tmp_path)
    assert not again.standing.believes(MARK)
    again.answer("go_on", STRANGER)
    assert not again.standing.believes(MARK)
    again.answer("go_on", roster=4)
    assert again.standing.believes(MARK)
    again.journal.close()


def test_a_doubted_watermark_is_told_and_the_hub_asked_once_a_minute(bench: Bench) -> None:
    bench.answer("go_on", seals=True)
    bench.standing.born()
    assert not bench.standing.doubt()
    assert "without the hub's signature" in (bench.standing.notice or "")
    bench.now += STOPPED_ASK_SECONDS + 1
    assert bench.standing.doubt()
    bench.standing.born()
    assert not bench.standing.doubt()
