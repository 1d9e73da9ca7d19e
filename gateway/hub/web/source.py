"""One source: tested live, and its fields looked through for card numbers; nothing is written."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Form, Request, Response

from gateway.errors import ConfigError, SourceRefused, SourceUnreachable
from gateway.hub.directory.sites import Source, list_sources
from gateway.hub.scope import Right, Scope
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import now_ms
from gateway.hub.sync.reading import connector_of
from gateway.hub.web.gate import need, require_site
from gateway.hub.web.office import Office
from gateway.mis.base import CheckResult, FieldSeen

_Tester = Annotated[Scope, need(Right.TEST_SOURCES)]
_FIELDS = 200


def add_pages(office: Office) -> None:
    """Add the addresses of this part."""

    @office.app.post("/syncs/test", include_in_schema=False)
    def test_source(request: Request, scope: _Tester, source: Annotated[int, Form()]) -> Response:
        found = _source(office, scope, source)
        result = _check(office, found)
        _note(office, scope, found, result.failure or "ok")
        return _show(office, request, scope, found, result, [])

    @office.app.post("/syncs/discover", include_in_schema=False)
    def discover_fields(request: Request, scope: _Tester, source: Annotated[int, Form()]) -> Response:
        found = _source(office, scope, source)
        result, fields = _discover(office, found)
        return _show(office, request, scope, found, result, fields)

    @office.app.post("/v1/sources/{source}/test")
    def test_json(scope: _Tester, source: int) -> dict[str, Any]:
        """Test a source live; `ok` only after its server answered and the answer could be read."""
        found = _source(office, scope, source)
        result = _check(office, found)
        _note(office, scope, found, result.failure or "ok")
        shown = asdict(result) | {"ok": result.ok}
        if found.site not in scope.sites(Right.PEOPLE):
            del shown["sample"]
        return shown


def _source(office: Office, scope: Scope, number: int) -> Source:
    with office.store.read() as connection:
        found = next((item for item in list_sources(connection) if item.id == number), None)
    require_site(scope, Right.TEST_SOURCES, found.site if found else None, "source")
    assert found is not None
    return found


def _check(office: Office, source: Source) -> CheckResult:
    try:
        return connector_of(office.store, source, office.gate.access.base).check()
    except ConfigError as error:
        return CheckResult("settings", error.problems[0])


def _discover(office: Office, source: Source) -> tuple[CheckResult, list[FieldSeen]]:
    try:
        fields = list(connector_of(office.store, source, office.gate.access.base).discover())
    except SourceRefused as error:
        return CheckResult(error.failure, str(error)), []
    except SourceUnreachable as error:
        return CheckResult("unreachable", str(error)), []
    except ConfigError as error:
        return CheckResult("settings", error.problems[0]), []
    return CheckResult(None, f"{source.label} has {len(fields)} fields."), fields[:_FIELDS]


def _note(office: Office, scope: Scope, source: Source, result: str) -> None:
    with office.store.write() as connection:
        audit = Audit(scope.actor, source.site, now_ms())
        audit.note("source_test", f"source:{source.id}", name=source.name, result=result)
        audit.write(connection)


def _show(
    office: Office, request: Request, scope: Scope, source: Source, result: CheckResult, fields: list[FieldSeen]
) -> Response:
    context = {
        "source": source,
        "result": result,
        "fields": fields,
        "sample": result.sample if source.site in scope.sites(Right.PEOPLE) else (),
    }
    return office.site.page(request, "source.html", f"Test of {source.label}", context)
