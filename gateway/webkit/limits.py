"""Limits on each client of the pages: connections, time for a request, bytes of a body.

Idle connections, slow headers and endless bodies are cut off before anything is parsed or stored; no request can make
the server write a file.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from gateway.webkit.problems import PROBLEM_MEDIA_TYPE

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one web server; counts are of open connections, streams included."""

    connections: int = 256
    per_address: int = 64
    request_seconds: float = 10.0
    body_bytes: int = 64 << 10
    header_bytes: int = 16 << 10


class GuardedProtocol(H11Protocol):
    """uvicorn's h11 protocol with a count of connections and a deadline for each request; see guarded_protocol."""

    limits = Limits()
    open_connections: ClassVar[Counter[str]] = Counter()
    _address: str | None = None
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        address = self.client[0] if self.client else "local"
        count, limits = self.open_connections, self.limits
        if count.total() >= limits.connections or count[address] >= limits.per_address:
            transport.abort()
            return
        count[address] += 1
        self._address = address
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self._address is not None:
            self.open_connections[self._address] -= 1
            if not self.open_connections[self._address]:
                del self.open_connections[self._address]
            self._address = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._address is None:
            return
        super().data_received(data)
        if self._is_answering():
            self._stop_waiting()
        elif self._deadline is None:
            self._await_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._await_request()

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _await_request(self) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(self.limits.request_seconds, self._cut)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut(self) -> None:
        self._deadline = None
        if not self._is_answering():
            self.transport.abort()


def guarded_protocol(limits: Limits) -> type[GuardedProtocol]:
    """Return the HTTP protocol of one server that keeps to these limits; its counts are its own."""
    return type("GuardedProtocol", (GuardedProtocol,), {"limits": limits, "open_connections": Counter()})


class BodyLimits:
    """ASGI middleware: refuses a body that is too long, too slow or holds files, before it is parsed."""

    def __init__(self, app: _App, limits: Limits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._limits.body_bytes:
            await _refuse(send, 413, "too-large", f"A request body may have at most {self._limits.body_bytes} bytes.")
            return
        if headers.get(b"content-type", b"").lower().startswith(b"multipart/"):
            await _refuse(send, 415, "no-files", "Forms must be application/x-www-form-urlencoded, without files.")
            return
        if b"transfer-encoding" not in headers and not int(length):
            await self._app(scope, receive, send)
            return
        body = await self._read(receive)
        if isinstance(body, str):
            await _refuse(send, *_REFUSALS[body])
            return
        await self._app(scope, _once(body, receive), send)

    async def _read(self, receive: _Receive) -> bytes | str:
        parts: list[bytes] = []
        count = 0
        try:
            async with asyncio.timeout(self._limits.request_seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return "gone"
                    parts.append(message.get("body", b""))
                    count += len(parts[-1])
                    if count > self._limits.body_bytes:
                        return "large"
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            return "slow"


_REFUSALS = {
    "gone": (400, "gone", "The request ended before it was complete."),
    "large": (413, "too-large", "The request is too long."),
    "slow": (408, "too-slow", "The request was not complete in time."),
}


def _once(body: bytes, receive: _Receive) -> _Receive:
    given = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: _Send, status: int, kind: str, detail: str) -> None:
    body = json.dumps({"type": f"urn:tapgate:{kind}", "title": detail, "status": status, "detail": detail}).encode()
    headers = [
        (b"content-type", PROBLEM_MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
