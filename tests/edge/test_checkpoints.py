from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.access.checkpoint import make_checkpoint, read_checkpoint
from gateway.edge.checkpoints import EVERY_EVENTS, EVERY_SECONDS, Checkpoints, load_gateway_key
from gateway.edge.clock import Clock
from gateway.errors import BadMessage, FatalError
from gateway.journal.journal import Journal
from gateway.journal.verify import verify
from tests.journal.journals import GATEWAY, fill, small, tap
from tests.journal.test_verify import kinds, rewrite


class Watch:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def make(journal: Journal, folder: Path, watch: Watch) -> Checkpoints:
    return Checkpoints(journal, Clock(), GATEWAY, load_gateway_key(folder / "gateway.key"), watch)


def test_a_checkpoint_is_due_after_many_events_or_after_a_while_and_never_for_itself(tmp_path: Path) -> None:
    journal, watch = small(tmp_path / "journal"), Watch()
    checkpoints = make(journal, tmp_path, watch)
    assert checkpoints.due() is None
    fill(journal, EVERY_EVENTS)
    ticket = checkpoints.due()
    assert ticket is not None
    assert ticket.wait(5) == EVERY_EVENTS + 1
    watch.seconds += 10 * EVERY_SECONDS
    assert checkpoints.due() is None
    fill(journal, 1)
    assert checkpoints.due() is None
    watch.seconds += EVERY_SECONDS
    assert checkpoints.due() is not None
    journal.close()
    report = verify(tmp_path / "journal", Ed25519PublicKey.from_public_bytes(bytes.fromhex(checkpoints.public_key)))
    assert (report.ok, report.checkpoints) == (True, 2)


def test_history_rewritten_with_a_good_chain_is_caught_by_the_signature(tmp_path: Path) -> None:
    journal = small(tmp_path / "journal")
    checkpoints = make(journal, tmp_path, Watch())
    fill(journal, 20)
    checkpoints.write().wait(5)
    fill(journal, 3)
    journal.close()
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(checkpoints.public_key))

    def forge(frames: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        forged: list[tuple[int, bytes]] = []
        for number, stored in frames:
            raw = stored.replace(b'"granted"', b'"denied"') if number == 7 else stored
            if forged:
                prev = hashlib.sha256(forged[-1][1]).digest()[:16].hex().encode()
                raw = raw[: raw.rindex(b'"prev":"') + 8] + prev + b'"}'
            forged.append((number, raw))
        return forged

    rewrite(tmp_path / "journal", 1, forge)
    assert verify(tmp_path / "journal").ok
    assert kinds(verify(tmp_path / "journal", key).findings) == [("checkpoint", 20, 20)]
    other = Ed25519PrivateKey.generate().public_key()
    assert ("checkpoint", 21, 21) in kinds(verify(tmp_path / "journal", other).findings)


def test_the_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    first = load_gateway_key(tmp_path / "gateway.key")
    assert load_gateway_key(tmp_path / "gateway.key").private_bytes_raw() == first.private_bytes_raw()
    assert (tmp_path / "gateway.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "bad.key").write_text("not a key")
    with pytest.raises(FatalError, match=r"bad\.key") as caught:
        load_gateway_key(tmp_path / "bad.key")
    assert "not a key" not in str(caught.value)


@pytest.mark.parametrize(
    "change", [{"seq": "7"}, {"link": None}, {"signature": "zz"}, {"signature": "00" * 64}, {"seq": 8}]
)
def test_a_checkpoint_that_is_not_what_was_signed_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    key = Ed25519PrivateKey.generate()
    event = tap()
    event.kind, event.epoch, event.seq = "system", "5f1c9a02", 9
    event.system = make_checkpoint(key, GATEWAY, event.epoch, 7, "ab" * 16)
    assert read_checkpoint(key.public_key(), event) == (7, "ab" * 16)
    event.system |= change
    with pytest.raises(BadMessage):
        read_checkpoint(key.public_key(), event)
    assert read_checkpoint(key.public_key(), tap()) is None
