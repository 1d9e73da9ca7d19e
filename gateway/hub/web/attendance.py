"""The register of a day: what the movements say, what a person must decide, and the marks to hand to the MIS."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from datetime import date, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection, select

from gateway.errors import RefusedError
from gateway.hub.attendance.codes import ENGLAND
from gateway.hub.attendance.day import MOST_MINUTES, DayMarks, Mark, decide_mark, read_day
from gateway.hub.scope import Reach, Right, Scope
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import now_ms
from gateway.hub.store.times import from_ms
from gateway.hub.web.gate import missing, need, require_site
from gateway.hub.web.office import Office
from gateway.hub.web.queries import site_days
from gateway.webkit.problems import Problem

_Reader = Annotated[Scope, need(Right.SEE_MARKS, Reach.OWN)]
_Sender = Annotated[Scope, need(Right.SEND_MARKS)]
_Site = Annotated[str, Query(max_length=63)]
_Day = Annotated[str, Query(pattern=r"^(\d{4}-\d{2}-\d{2})?$")]
_Session = Annotated[str, Query(max_length=7)]
# What each doubt of derive means, and what helps.
HOLDS = {
    "time_unsure": "the gateway's clock was not set, and another time gives another mark",
    "automatic": "it rests on an automatic sign-out",
    "confirm": "this reason was chosen at a kiosk; confirm that it is so",
    "copied": "it rests on a card that may be a copy",
    "register_not_read": "the pupil left with this reason while the register was open, and may have been marked before",
}
_STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def add_pages(office: Office) -> None:
    """Add the addresses of this part."""
    _add_views(office)
    _add_decisions(office)


def _add_views(office: Office) -> None:
    store = office.store

    @office.app.get("/attendance", include_in_schema=False)
    def attendance(
        request: Request, scope: _Reader, site: _Site = "", day: _Day = "", session: _Session = ""
    ) -> Response:
        with store.read() as connection:
            chosen, on, found = _read(scope, connection, site, day)
            sites = _sites(scope, connection)
        marks = [mark for mark in found.marks if session in {"", mark.session}]
        query = {"site": chosen, "day": on.isoformat()}
        context = {
            "site": chosen,
            "sites": sites,
            "day": on,
            "before": f"/attendance?{urlencode({**query, 'day': (on - timedelta(days=1)).isoformat()})}",
            "after": f"/attendance?{urlencode({**query, 'day': (on + timedelta(days=1)).isoformat()})}",
            "file": f"/attendance.csv?{urlencode({**query, 'session': session})}",
            "session": session,
            "found": found,
            "held": [mark for mark in marks if mark.state == "held"],
            "marks": [mark for mark in marks if mark.state != "held"],
            "holds": HOLDS,
            "codes": list(ENGLAND),
            "most_minutes": MOST_MINUTES,
            "may_decide": chosen in scope.sites(Right.SEND_MARKS),
        }
        return office.site.page(request, "attendance.html", "Register", context)

    @office.app.get("/v1/attendance")
    def attendance_json(scope: _Reader, site: _Site = "", day: _Day = "") -> dict[str, Any]:
        """Return the marks of a day as movements and the office say them; nothing is sent to an MIS."""
        with store.read() as connection:
            chosen, on, found = _read(scope, connection, site, day)
        return {"site": chosen, "day": on.isoformat(), **asdict(found)}

    @office.app.get("/attendance.csv", include_in_schema=False)
    def attendance_file(scope: _Reader, site: _Site = "", day: _Day = "", session: _Session = "") -> Response:
        with store.read() as connection:
            chosen, on, found = _read(scope, connection, site, day)
        body = write_csv([mark for mark in found.marks if session in {"", mark.session}], on)
        name = f"attendance-{chosen}-{on}{f'-{session}' if session else ''}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(body, media_type="text/csv; charset=utf-8", headers=headers)


def _add_decisions(office: Office) -> None:
    store = office.store

    @office.app.post("/attendance/decide", include_in_schema=False)
    def decide_now(
        scope: _Sender,
        person: Annotated[str, Form(max_length=18)],
        day: Annotated[str, Form(pattern=r"^\d{4}-\d{2}-\d{2}$")],
        session: Annotated[str, Form(max_length=7)],
        code: Annotated[str, Form(max_length=8)] = "",
        minutes: Annotated[str, Form(pattern=r"^\d{0,4}$")] = "",
        reason: Annotated[str, Form(max_length=200)] = "",
        withdraw: Annotated[bool, Form()] = False,
    ) -> Response:
        on = _day(day)
        with store.write() as connection:
            table = tables.person.c
            owner = connection.scalar(select(table.site).where(table.ref == person))
            site = require_site(scope, Right.SEND_MARKS, owner, "person")
            audit = Audit(scope.actor, site, now_ms(), reason=reason.strip() or None)
            decision = None if withdraw else (code.strip() or None, int(minutes) if minutes else None)
            decide_mark(connection, site, person, on, session, decision, audit)
            audit.write(connection)
        return RedirectResponse(f"/attendance?{urlencode({'site': site, 'day': on.isoformat()})}", 303)


def write_csv(marks: list[Mark], day: date) -> str:
    """Return the marks that nobody has to decide any more as CSV, for an import into the MIS."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("person_key", "name", "day", "session", "code", "minutes_late", "comment"))
    for mark in marks:
        if mark.state != "held" and mark.code is not None:
            cells = (mark.person_key, mark.name, day.isoformat(), mark.session, mark.code)
            writer.writerow(map(_cell, (*cells, str(mark.minutes_late or ""), mark.comment)))
    return out.getvalue()


def _cell(text: str) -> str:
    # A spreadsheet would run it.
    return f"'{text}" if text.startswith(_STARTS_FORMULA) else text


def _sites(scope: Scope, connection: Connection) -> list[str]:
    sites = scope.sites(Right.SEE_MARKS, Reach.OWN)
    return [name for name in sorted(connection.scalars(select(tables.site.c.id))) if name in sites]


def _read(scope: Scope, connection: Connection, site: str, day: str) -> tuple[str, date, DayMarks]:
    """Return the site and day that are meant, the only or first site and today without a word, and its marks."""
    names = _sites(scope, connection)
    if not names or (site and site not in names):
        raise missing("site")
    chosen = site or names[0]
    at_ms = now_ms()
    on = _day(day) if day else from_ms(at_ms, site_days(connection)[chosen].zone).date()
    person = tables.person.c
    try:
        found = read_day(connection, chosen, on, at_ms, scope.rows(Right.SEE_MARKS, person.site, person.ref))
    except (OverflowError, ValueError):
        raise _NO_DAY from None
    return chosen, on, found


_NO_DAY = Problem(422, "invalid", "Not a day", "Write the day as 2026-11-22.")


def _day(text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise _NO_DAY from None
    if not 2000 <= found.year <= 2100:
        raise RefusedError("The register has days of this century only; write the day as 2026-11-22.")
    return found
