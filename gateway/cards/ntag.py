"""NTAG21x and Ultralight EV1: version, pages and the originality signature.

Sources: NXP NTAG213/215/216 data sheet sections 10.1 and 10.7, AN11350 and AN11341 (originality signature).
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import BadRecord

READ, GET_VERSION, READ_SIGNATURE, PASSWORD = 0x30, 0x60, 0x3C, 0x1B
PAGE_BYTES = 4
SIGNATURE_BYTES = 32
_NAMES = {
    (0x04, 0x0F): "ntag213",
    (0x04, 0x11): "ntag215",
    (0x04, 0x13): "ntag216",
    (0x03, 0x0B): "ultralight-ev1",
    (0x03, 0x0E): "ultralight-ev1",
}


@dataclass(frozen=True, slots=True)
class Version:
    """The answer to GET_VERSION.

    Attributes:
        name: of the chip, `unknown` for one that is not in the data sheets named above.
    """

    vendor: int
    product: int
    storage: int
    name: str


def parse_version(answer: bytes) -> Version:
    """Read GET_VERSION: header, vendor, product, subtype, major, minor, storage, protocol.

    Raises:
        BadRecord: not eight bytes or no NXP chip.
    """
    if len(answer) != 8 or answer[0] != 0x00:
        raise BadRecord("The card's version is not of the NTAG form.")
    return Version(answer[1], answer[2], answer[6], _NAMES.get((answer[2], answer[6]), "unknown"))


# secp128r1 (SEC 2 version 1, section 2.8.1): y2 = x3 - 3x + b over p, base point G of order n.
_P = 0xFFFFFFFDFFFFFFFFFFFFFFFFFFFFFFFF
_A = _P - 3
_B = 0xE87579C11079F43DD824993C2CEE5ED3
_G = (0x161FF7528B899B2D0C28607CA52C5B86, 0xCF5AC8395BAFEB13C02DA292DDED7A83)
_N = 0xFFFFFFFE0000000075A30D1B9038A115
# NXP's public keys: NTAG21x (AN11350), Ultralight EV1 (AN11341).
_NTAG_KEY = (0x494E1A386D3D3CFE3DC10E5DE68A499B, 0x1C202DB5B132393E89ED19FE5BE8BC61)
_ULTRALIGHT_KEY = (0x90933BDCD6E99B4E255E3DA55389A827, 0x564E11718E017292FAF23226A96614B8)

_Point = tuple[int, int] | None


def _add(first: _Point, second: _Point) -> _Point:
    if first is None or second is None:
        return first or second
    (x1, y1), (x2, y2) = first, second
    if x1 == x2:
        if (y1 + y2) % _P == 0:
            return None
        slope = (3 * x1 * x1 + _A) * pow(2 * y1, -1, _P)
    else:
        slope = (y2 - y1) * pow(x2 - x1, -1, _P)
    x3 = (slope * slope - x1 - x2) % _P
    return x3, (slope * (x1 - x3) - y1) % _P


def _times(factor: int, point: _Point) -> _Point:
    result: _Point = None
    while factor:
        if factor & 1:
            result = _add(result, point)
        point = _add(point, point)
        factor >>= 1
    return result


def is_genuine(uid: bytes, signature: bytes, *, ultralight: bool = False) -> bool:
    """Return whether NXP signed this UID: ECDSA on secp128r1 over the UID itself.

    A copied card may carry a copied UID with its signature: a wrong one tells of a clone, a right one proves little.
    """
    if len(signature) != SIGNATURE_BYTES:
        return False
    r, s = int.from_bytes(signature[:16], "big"), int.from_bytes(signature[16:], "big")
    if not 0 < r < _N or not 0 < s < _N:
        return False
    inverse = pow(s, -1, _N)
    message = int.from_bytes(uid, "big")
    key = _ULTRALIGHT_KEY if ultralight else _NTAG_KEY
    point = _add(_times(message * inverse % _N, _G), _times(r * inverse % _N, key))
    return point is not None and point[0] % _N == r
