"""How a generation travels: a signed manifest, content-addressed chunks, deltas.

A gateway that holds an older generation fetches the delta that leads to the new one; every other fetches the chunks.
Both end in the same bytes, and only bytes whose SHA-256 is the manifest's, and whose own seal holds, are put in force.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field

import msgspec

from gateway.cards.identity import CARD_KEY_BYTES
from gateway.errors import BadRoster
from gateway.roster.file import RECORD, assemble, decode_meta, iter_records, merge_records, split
from gateway.roster.signing import Signer, Trust

CHUNK_BYTES = 48 * 1024
MAX_ROSTER_BYTES = 64 << 20
MANIFEST_VERSION = 1
_LONGEST_STRIDE = 4096 * RECORD.size


class Manifest(msgspec.Struct, frozen=True):
    """What the newest generation is and how to get it.

    Attributes:
        sha256: of the whole file, seal included.
        chunks: SHA-256 of each chunk's plain bytes, in file order; the topics carry them zlib-compressed.
        deltas: pairs of versions for which a delta is published.
    """

    v: int
    site: str
    version: int
    created: str
    sha256: str
    size: int
    chunks: list[str]
    deltas: list[tuple[int, int]] = []


class _SignedManifest(msgspec.Struct, frozen=True):
    body: str
    seal: str


class _Delta(msgspec.Struct, frozen=True):
    v: int
    site: str
    old: int
    new: int
    meta: bytes
    put: bytes
    drop: bytes
    seal: bytes


@dataclass(frozen=True, slots=True)
class Publication:
    """The payloads of one generation; chunks and deltas are to be sent before the manifest that names them.

    Attributes:
        names: of all its chunks, in file order, whether they are among `chunks` or the broker has them.
    """

    manifest: bytes
    names: list[str]
    chunks: dict[str, bytes] = field(default_factory=dict)
    deltas: dict[tuple[int, int], bytes] = field(default_factory=dict)


def publish(
    raw: bytes, earlier: list[bytes], signer: Signer, site_key: bytes, sent: Collection[str] = ()
) -> Publication:
    """Make the payloads of a generation.

    Args:
        earlier: files of generations from which a direct delta should be offered.
        sent: names of chunks that the broker has; they are not made again.
    """
    parts = split(raw)
    meta = decode_meta(parts)
    pieces = [raw[at : at + CHUNK_BYTES] for at in range(0, len(raw), CHUNK_BYTES)]
    hashes = chunk_names(raw)
    deltas = {(split(old).version, parts.version): make_delta(old, raw) for old in earlier}
    manifest = Manifest(
        MANIFEST_VERSION,
        meta.site,
        parts.version,
        meta.created,
        hashlib.sha256(raw).hexdigest(),
        len(raw),
        hashes,
        sorted(deltas),
    )
    body = msgspec.json.encode(manifest)
    signed = _SignedManifest(body.decode(), signer.seal(site_key, body).hex())
    named = zip(hashes, pieces, strict=True)
    chunks = {name: zlib.compress(piece, 6) for name, piece in named if name not in sent}
    return Publication(msgspec.json.encode(signed), hashes, chunks, deltas)


def chunk_names(raw: bytes) -> list[str]:
    """Name the chunks of a file, in file order."""
    return [hashlib.sha256(raw[at : at + CHUNK_BYTES]).hexdigest() for at in range(0, len(raw), CHUNK_BYTES)]


def read_manifest(payload: bytes, trust: Trust, site: str) -> Manifest:
    """Verify and read a manifest.

    Raises:
        BadRoster: not a manifest, not signed for this site, or of a later form; keep the roster in force.
    """
    try:
        signed = msgspec.json.decode(payload, type=_SignedManifest)
        body, seal = signed.body.encode(), bytes.fromhex(signed.seal)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRoster(f"This is not a roster manifest: {error}.") from None
    trust.check(body, seal)
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
    except msgspec.MsgspecError as error:
        raise BadRoster(f"This is not a roster manifest: {error}.") from None
    if manifest.v != MANIFEST_VERSION or manifest.site != site:
        raise BadRoster(f"This manifest is for site {manifest.site!r} in form {manifest.v}.")
    if manifest.size > MAX_ROSTER_BYTES:
        raise BadRoster(f"This roster would have {manifest.size} bytes; the limit is {MAX_ROSTER_BYTES}.")
    return manifest


def open_chunk(payload: bytes, sha256_hex: str) -> bytes:
    """Unpack one chunk and check it against its name.

    Raises:
        BadRoster: the bytes are not the ones named; ask again.
    """
    try:
        unpacker = zlib.decompressobj()
        plain = unpacker.decompress(payload, CHUNK_BYTES + 1)
    except zlib.error as error:
        raise BadRoster(f"A roster chunk cannot be unpacked: {error}.") from None
    if hashlib.sha256(plain).hexdigest() != sha256_hex:
        raise BadRoster("A roster chunk is not the one its name says.")
    return plain


def join_chunks(manifest: Manifest, chunks: dict[str, bytes]) -> bytes:
    """Join plain chunks to the file of the manifest.

    Raises:
        BadRoster: a chunk is missing or the whole is not what the manifest names.
    """
    try:
        raw = b"".join(chunks[name] for name in manifest.chunks)
    except KeyError:
        raise BadRoster("A roster chunk is missing.") from None
    return _checked(raw, manifest)


def make_delta(old_raw: bytes, new_raw: bytes) -> bytes:
    """Make the delta that turns one generation into another."""
    old, new = split(old_raw), split(new_raw)
    put, drop = _differences(bytes(old.records), bytes(new.records))
    site = decode_meta(new).site
    delta = _Delta(
        MANIFEST_VERSION,
        site,
        old.version,
        new.version,
        new.meta_raw,
        b"".join(put),
        b"".join(drop),
        new.seal,
    )
    return zlib.compress(msgspec.msgpack.encode(delta), 6)


def _differences(old: bytes, new: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return the records of `new` that `old` lacks or has otherwise and the keys that `new` lacks, in key order."""
    put, drop = [], []
    here = there = 0
    stride = RECORD.size
    while here < len(old) and there < len(new):
        # Generations differ in little: equal runs are compared whole, in strides that grow until they meet a change.
        if old[here : here + stride] == new[there : there + stride]:
            here, there, stride = here + stride, there + stride, min(stride * 2, _LONGEST_STRIDE)
            continue
        if stride > RECORD.size:
            stride = max(RECORD.size, stride // 8)
            continue
        before, after = old[here : here + CARD_KEY_BYTES], new[there : there + CARD_KEY_BYTES]
        if before < after:
            drop.append(before)
        else:
            put.append(new[there : there + RECORD.size])
        here += RECORD.size if before <= after else 0
        there += RECORD.size if after <= before else 0
    put += iter_records(new[there:])
    drop += [record[:CARD_KEY_BYTES] for record in iter_records(old[here:])]
    return put, drop


def apply_delta(old_raw: bytes | memoryview, payload: bytes, manifest: Manifest | None = None) -> bytes:
    """Apply a delta to the file it starts from.

    Args:
        manifest: when the delta leads to the newest generation, so that the result is checked against its hash.

    Raises:
        BadRoster: the delta is torn, starts from another generation, or does not give the bytes that were signed.
    """
    old = split(old_raw)
    try:
        unpacked = zlib.decompressobj().decompress(payload, MAX_ROSTER_BYTES)
        delta = msgspec.msgpack.decode(unpacked, type=_Delta)
    except (zlib.error, msgspec.MsgspecError) as error:
        raise BadRoster(f"A roster delta cannot be read: {error}.") from None
    if delta.old != old.version:
        raise BadRoster(f"This delta starts from roster {delta.old}, here is {old.version}.")
    if len(delta.put) % RECORD.size or len(delta.drop) % CARD_KEY_BYTES:
        raise BadRoster("A roster delta is torn.")
    put = {record[:CARD_KEY_BYTES]: record for record in iter_records(delta.put)}
    drop = {delta.drop[at : at + CARD_KEY_BYTES] for at in range(0, len(delta.drop), CARD_KEY_BYTES)}
    raw = assemble(delta.new, delta.meta, merge_records(old.records, put, drop)) + delta.seal
    return _checked(raw, manifest) if manifest and manifest.version == delta.new else raw


def _checked(raw: bytes, manifest: Manifest) -> bytes:
    if len(raw) != manifest.size or hashlib.sha256(raw).hexdigest() != manifest.sha256:
        raise BadRoster("The roster is not the one that the manifest names.")
    return raw
