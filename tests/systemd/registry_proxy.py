"""Lets machines on a private network reach the package registries, and nothing else, for `apt` and `pip`.

    python registry_proxy.py NETWORK_NAMESPACE PORT

It listens on loopback inside the namespace and connects from outside. Plain HTTP requests and CONNECT are passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

CLONE_NEWNET = 0x40000000
PORTS = {80, 443}


def listen_inside(namespace: str, port: int) -> socket.socket:
    """Make a listening socket inside a network namespace, and come back."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    inside = os.open(Path("/run/netns") / namespace, os.O_RDONLY)
    if libc.setns(inside, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
    server = socket.create_server(("127.0.0.1", port))
    if libc.setns(home, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
    return server


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    with contextlib.suppress(OSError):
        target.close()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    method, address, version = head.split(b"\r\n", 1)[0].decode().split(" ")
    if method == "CONNECT":
        host, _, port = address.rpartition(":")
    else:
        parts = urlsplit(address)
        host, port = parts.hostname or "", str(parts.port or 80)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        lines = [line for line in head.split(b"\r\n")[1:] if not line.lower().startswith((b"proxy-", b"connection"))]
        # One request a connection: the next may be for another host.
        head = b"\r\n".join([f"{method} {path} {version}".encode(), b"Connection: close", *lines])
    if int(port) not in PORTS:
        writer.close()
        return
    try:
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
    except OSError as error:
        writer.write(f"HTTP/1.1 502 {error}\r\nConnection: close\r\n\r\n".encode())
        writer.close()
        return
    if method == "CONNECT":
        writer.write(b"HTTP/1.1 200 connected\r\n\r\n")
    else:
        far_writer.write(head)
    await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def main(namespace: str, port: int) -> None:
    server = await asyncio.start_server(serve, sock=listen_inside(namespace, port), limit=1 << 18)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
