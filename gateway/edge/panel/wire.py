"""Frames on the panel's socket: four bytes of length, high byte first, then the message."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from gateway.errors import BadMessage

_LENGTH = struct.Struct(">I")


def send(connection: socket.socket, payload: bytes) -> None:
    """Send one frame.

    Raises:
        OSError: the other side is gone or does not read.
    """
    connection.sendall(_LENGTH.pack(len(payload)) + payload)


def receive(connection: socket.socket, limit_bytes: int) -> bytes | None:
    """Receive one frame; None when the other side has closed.

    Raises:
        BadMessage: the frame is longer than allowed or torn.
        OSError: the connection failed.
    """
    head = _exactly(connection, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > limit_bytes:
        raise BadMessage(f"A message of {length} bytes is longer than the {limit_bytes} allowed.")
    payload = _exactly(connection, length)
    if payload is None:
        raise BadMessage("The message is torn.")
    return payload


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    parts: list[bytes] = []
    while count:
        part = connection.recv(min(count, 1 << 16))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Yield a name for a socket whose path may be longer than the 107 bytes that the kernel takes."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
