"""What an agent at a school sends: its reads, line by line, and why it could not read."""

from __future__ import annotations

import hmac
from typing import Annotated, Any

from fastapi import Body, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from gateway.config import read_site_key
from gateway.errors import RefusedError
from gateway.hub.directory.sites import Source, list_sources
from gateway.hub.scope import Right, Scope
from gateway.hub.store.engine import now_ms
from gateway.hub.sync import uploads
from gateway.hub.web.gate import need, require_site
from gateway.hub.web.office import Office
from gateway.hub.work.jobs import hasten
from gateway.mis.lines import site_key_check
from gateway.webkit.problems import Problem

_Agent = Annotated[Scope, need(Right.UPLOAD)]
_OTHER_KEY = (
    "The agent's site key is not the one of {site}, so no door would know a card that it sends; copy the hub's "
    "key file of that site to the file that agent.toml names as site_key_file."
)
_BASE = "/v1/agent/{site}/{source}"
_Digest = Annotated[str, Body(embed=True, pattern=r"^[0-9a-f]{64}$")]


def add_pages(office: Office) -> None:
    """Add the addresses of this part."""
    _add_uploads(office)
    _add_words(office)


def _add_uploads(office: Office) -> None:
    store = office.store

    @office.app.post(f"{_BASE}/uploads", status_code=201)
    def begin(scope: _Agent, site: str, source: str) -> dict[str, Any]:
        """Begin a new read; one that was under way is dropped."""
        found = _source(office, scope, site, source)
        with store.write() as connection:
            return {"upload": uploads.begin(connection, found.id, now_ms()), "next_line": 0}

    @office.app.get(f"{_BASE}/uploads/{{upload}}")
    def look(scope: _Agent, site: str, source: str, upload: int) -> dict[str, Any]:
        """Return where a read goes on."""
        found = _source(office, scope, site, source)
        try:
            with store.read() as connection:
                return {"next_line": uploads.next_line(connection, found.id, upload)}
        except RefusedError as error:
            raise _problem(error) from None

    @office.app.patch(f"{_BASE}/uploads/{{upload}}")
    async def append(
        request: Request, scope: _Agent, site: str, source: str, upload: int, from_line: Annotated[int, Query(ge=0)]
    ) -> Response:
        """Take in lines; 409 with `next_line` when they are not the next ones, 422 with `line` when one is none."""
        data = await request.body()

        def take() -> int:
            found = _source(office, scope, site, source)
            with store.write() as connection:
                return uploads.append(connection, found.id, upload, from_line, data)

        try:
            return JSONResponse({"next_line": await run_in_threadpool(take)})
        except RefusedError as error:
            raise _problem(error) from None

    @office.app.post(f"{_BASE}/uploads/{{upload}}/complete", status_code=202)
    def finish(
        scope: _Agent, site: str, source: str, upload: int, lines: Annotated[int, Body(ge=0)], sha256: _Digest
    ) -> dict[str, Any]:
        """Put a read that has arrived whole in force; the source is synced soon after."""
        found = _source(office, scope, site, source)
        try:
            with store.write() as connection:
                uploads.complete(connection, found.id, upload, lines, sha256, now_ms())
                hasten(connection, found.id, now_ms())
        except RefusedError as error:
            raise _problem(error) from None
        return {"lines": lines}


def _add_words(office: Office) -> None:
    store = office.store

    @office.app.post(f"{_BASE}/same")
    def same(
        scope: _Agent,
        site: str,
        source: str,
        sha256: _Digest,
        key_check: Annotated[str, Body(pattern=r"^[0-9a-f]{16}$")],
    ) -> dict[str, Any]:
        """Say that the source still reads like the newest whole read; `same` is false when that is another one.

        An agent asks this before it sends, so a wrong site key is met before any card comes under a wrong card key.
        """
        found = _source(office, scope, site, source)
        own = site_key_check(read_site_key(office.gate.access.base / found.key_file))
        if not hmac.compare_digest(own, key_check):
            raise Problem(422, "other-site-key", "Another site key", _OTHER_KEY.format(site=site))
        with store.write() as connection:
            is_same = uploads.still_same(connection, found.id, sha256, now_ms())
            if is_same:
                # Nothing is new, unless the last thing that the agent said was that it could not read.
                hasten(connection, found.id, now_ms(), is_failing=True)
            return {"same": is_same}

    @office.app.post(f"{_BASE}/failure", status_code=202)
    def failure(
        scope: _Agent,
        site: str,
        source: str,
        word: Annotated[str, Body(pattern=r"^[a-z_]{1,31}$")],
        detail: Annotated[str, Body(max_length=500)],
    ) -> dict[str, Any]:
        """Say why the agent cannot read its source; it stands in the list of runs and is mailed as for others."""
        found = _source(office, scope, site, source)
        with store.write() as connection:
            uploads.note_failure(connection, found.id, scope.actor, word, detail, now_ms())
        return {"noted": word}


def _problem(error: RefusedError) -> Problem:
    match error:
        case uploads.WrongLine():
            return Problem(409, "wrong-line", "Not the next line", str(error), next_line=error.next_line)
        case uploads.BadLine():
            return Problem(422, "bad-line", "Not a line of a read", str(error), line=error.line)
        case uploads.TooLarge():
            return Problem(413, "too-large", "Too large", str(error))
        case _:
            return Problem(404, "not-found", "No such read", str(error))


def _source(office: Office, scope: Scope, site: str, name: str) -> Source:
    require_site(scope, Right.UPLOAD, site, "source")
    with office.store.read() as connection:
        found = list_sources(connection, site, name)
    if not found or found[0].kind != "agent":
        raise Problem(
            404, "not-found", "No such source", f"hub.toml has no source {name!r} of kind agent for this site."
        )
    return found[0]
