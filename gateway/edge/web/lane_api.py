"""The lanes as tills see them: recorded taps as server-sent events, or by polling.

A till receives what the journal holds: a tap is streamed after it is durable, its id is `EPOCH-SEQ` of the journal, and
a till that reconnects with Last-Event-ID gets everything in between. When that id is from another journal or older than
the events kept, a `resync` event says so; nothing is skipped silently.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent, format_sse_event

from gateway import __version__
from gateway.access.event import Event, decode_event
from gateway.webkit.events import Broadcaster, Live, sent
from gateway.webkit.problems import Problem

API_VERSION = "1.0"
SESSION_SECONDS = 60
_REPLAY_PAGE = 500
_LOCAL = {"127.0.0.1", "::1", "localhost"}
TillToken = Callable[[], str | None]


@dataclass(frozen=True, slots=True)
class LaneSource:
    """What the lanes read: the journal's records, and how old the roster is."""

    gateway: str
    epoch: str
    oldest: Callable[[], int]
    after: Callable[[int, int], list[tuple[int, bytes]]]
    roster_age_seconds: Callable[[], float | None]
    clock_quality: Callable[[], str]


class Lanes:
    """The live streams of all lanes, and the till that holds each."""

    def __init__(self, names: list[str], source: LaneSource) -> None:
        self.streams = {name: Broadcaster() for name in names}
        self.source = source
        self._sessions: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def on_record(self, seq: int, raw: bytes, event: Event) -> None:
        """Stream a tap that has become durable; called on the journal's thread."""
        del raw
        stream = self.streams.get(event.point) if isinstance(event.point, str) else None
        if stream is not None and event.kind == "tap":
            stream.publish(self.live(seq, event))

    def live(self, seq: int, event: Event) -> Live:
        return Live("tap", msgspec.json.encode(self.form(seq, event)).decode(), f"{self.source.epoch}-{seq}")

    def form(self, seq: int, event: Event) -> dict[str, Any]:
        """Return a tap as tills read it."""
        card = event.card if isinstance(event.card, msgspec.Struct) else None
        granted = event.decision == "granted"
        return {
            "id": f"{self.source.epoch}-{seq}",
            "seq": seq,
            "lane": event.point,
            "t": event.at,
            "clock_quality": event.clock,
            "reader": event.reader,
            "person": {"ref": event.person} if event.person else None,
            "decision": {
                "result": "allow" if granted else "deny",
                "reasons": [] if granted else [event.reason],
                "source": "roster",
                "roster": event.roster,
            },
            "card": {"uid_tail": card.tail} if card else None,
        }

    def open_session(self, lane: str) -> tuple[str, datetime]:
        """Assign the lane to one till.

        Raises:
            Problem: 409 `lane-busy` while another till holds it.
        """
        now = time.monotonic()
        with self._lock:
            held = self._sessions.get(lane)
            if held and held[1] > now:
                detail = "Another till holds this lane; close it there or wait."
                raise Problem(409, "lane-busy", "Lane busy", detail, retryable=True)
            session = secrets.token_urlsafe(18)
            self._sessions[lane] = (session, now + SESSION_SECONDS)
        return session, datetime.now(UTC) + timedelta(seconds=SESSION_SECONDS)

    def keep_session(self, lane: str, session: str) -> None:
        """Extend a session.

        Raises:
            Problem: 410 when it is over.
        """
        with self._lock:
            held = self._sessions.get(lane)
            if not held or not hmac.compare_digest(held[0], session) or held[1] < time.monotonic():
                raise Problem(410, "session-over", "Session over", "This session has ended; open a new one.")
            self._sessions[lane] = (session, time.monotonic() + SESSION_SECONDS)

    def close_session(self, lane: str, session: str) -> None:
        """Release the lane; ending an expired session is no error."""
        with self._lock:
            held = self._sessions.get(lane)
            if held and hmac.compare_digest(held[0], session):
                del self._sessions[lane]

    def recorded(self, lane: str, after: int, limit: int) -> Iterator[tuple[int, Event]]:
        """Return up to `limit` recorded taps of a lane after a sequence number."""
        found = 0
        while found < limit:
            page = self.source.after(after, _REPLAY_PAGE)
            if not page:
                return
            for seq, raw in page:
                after = seq
                event = decode_event(raw)
                if event.kind == "tap" and event.point == lane:
                    yield seq, event
                    found += 1
                    if found == limit:
                        return

    def page(self, lane: str, after: int) -> list[tuple[int, Event]]:
        """Return the next recorded taps of a lane, empty when there are no more."""
        return list(self.recorded(lane, after, _REPLAY_PAGE))

    def resume(self, last_id: str) -> tuple[int, str | None]:
        """Read a last event id: the sequence number to continue after, and why a resync is needed, if so."""
        epoch, _, seq_text = last_id.rpartition("-")
        if epoch != self.source.epoch or not seq_text.isdigit():
            return self.source.oldest() - 1, "another-journal"
        seq = int(seq_text)
        return (seq, None) if seq >= self.source.oldest() - 1 else (self.source.oldest() - 1, "older-than-kept")

    def close(self) -> None:
        for stream in self.streams.values():
            stream.close()


def mount_lanes(app: FastAPI, lanes: Lanes, till_token: TillToken) -> None:
    """Add the till's addresses to the application.

    Args:
        till_token: SHA-256 of the tills' token in hex, None where none is set, empty where its file cannot be read.
    """

    def check(lane: str, request: Request) -> None:
        _check_till(request, till_token)
        if lane not in lanes.streams:
            raise Problem(404, "no-lane", "No such lane", f"There is no lane {lane!r} on this gateway.")

    guard = [Depends(check)]

    @app.get("/v1/info")
    def info() -> dict[str, Any]:
        """Return the gateway's identity and its lanes."""
        return {
            "gateway_id": lanes.source.gateway,
            "api": API_VERSION,
            "software": __version__,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "clock_quality": lanes.source.clock_quality(),
            "lanes": sorted(lanes.streams),
        }

    @app.post("/v1/lanes/{lane}/session", status_code=201, dependencies=guard)
    def open_session(lane: str) -> dict[str, Any]:
        """Take a lane for one till; renew the session in time to keep it."""
        session, expires = lanes.open_session(lane)
        return {"session": session, "lane": lane, "expires": expires.isoformat(timespec="seconds")}

    @app.put("/v1/lanes/{lane}/session/{session}", status_code=204, dependencies=guard)
    def keep_session(lane: str, session: str) -> None:
        """Keep a lane for another minute."""
        lanes.keep_session(lane, session)

    @app.delete("/v1/lanes/{lane}/session/{session}", status_code=204, dependencies=guard)
    def close_session(lane: str, session: str) -> None:
        """Release a lane."""
        lanes.close_session(lane, session)

    @app.get("/v1/lanes/{lane}/events", response_class=Response, dependencies=guard, responses={200: {"content": {}}})
    def poll(
        lane: str,
        request: Request,
        after: Annotated[str, Query(description="id of the last event seen")] = "",
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Stream a lane's taps (Accept: text/event-stream), or list the recorded ones after an id."""
        if "text/event-stream" in request.headers.get("accept", ""):
            return EventSourceResponse(
                (_encode(event) async for event in _stream(lanes, lane, last_event_id)), media_type="text/event-stream"
            )
        seq, resync = lanes.resume(after) if after else (lanes.source.oldest() - 1, None)
        events = [lanes.form(number, event) for number, event in lanes.recorded(lane, seq, limit)]
        return JSONResponse({"lane": lane, "resync": resync, "events": events, **_freshness(lanes)})


def _encode(event: ServerSentEvent) -> bytes:
    return format_sse_event(data_str=event.raw_data, event=event.event, id=event.id)


async def _stream(lanes: Lanes, lane: str, last_id: str | None) -> AsyncIterator[ServerSentEvent]:
    sent_seq = 0
    async for event in lanes.streams[lane].listen():
        if event.name == "beat" and sent_seq == 0:
            # The first beat comes once the live queue is in place: replay now, so that nothing is missed.
            sent_seq = -1
            if last_id:
                sent_seq, resync = await asyncio.to_thread(lanes.resume, last_id)
                if resync:
                    body = msgspec.json.encode(
                        {"from": f"{lanes.source.epoch}-{sent_seq + 1}", "reason": resync}
                    ).decode()
                    yield ServerSentEvent(event="resync", raw_data=body)
                while page := await asyncio.to_thread(lanes.page, lane, sent_seq):
                    for seq, record in page:
                        sent_seq = seq
                        yield sent(lanes.live(seq, record))
        if event.name == "tap" and event.id is not None:
            seq = int(event.id.rpartition("-")[2])
            if seq <= sent_seq:
                continue
            sent_seq = seq
        yield sent(event)


def _freshness(lanes: Lanes) -> Mapping[str, Any]:
    return {"roster_age_seconds": lanes.source.roster_age_seconds()}


def _check_till(request: Request, till_token: TillToken) -> None:
    digest = till_token()
    if digest is None:
        if request.client is None or request.client.host in _LOCAL:
            return
        detail = "Tills on other machines need [web] till_token_file to be set."
        raise Problem(403, "till-token-needed", "Till token needed", detail)
    if not digest:
        raise Problem(503, "till-token-missing", "Till token missing", "The till token file cannot be read.")
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    found = hashlib.sha256(shown.strip().encode()).hexdigest()
    if scheme.lower() != "bearer" or not hmac.compare_digest(found, digest):
        raise Problem(401, "till-token-wrong", "Till token wrong", "Send the till's token as Authorization: Bearer.")
