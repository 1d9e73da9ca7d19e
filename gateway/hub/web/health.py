"""Whether the hub is well, for service managers and monitors; open to all but the metrics."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from gateway import __version__
from gateway.errors import StoreUnavailable
from gateway.hub.scope import Right, Scope
from gateway.hub.web.gate import PUBLIC, need
from gateway.hub.web.metrics import render_metrics
from gateway.hub.web.office import Office

_Seen = Annotated[Scope, need(Right.SEE_GATEWAYS)]


def add_pages(office: Office) -> None:
    """Add the addresses of this part."""
    app, store, daemon = office.app, office.store, office.daemon
    # The schema names every address; it is served to those who have signed in, below.
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", "") != app.openapi_url]

    @app.get("/openapi.json", include_in_schema=False)
    def schema(request: Request, scope: Annotated[Scope, need(None)]) -> dict[str, Any]:
        del request, scope
        return app.openapi()

    @app.get("/v1/info", dependencies=[PUBLIC])
    def info() -> dict[str, Any]:
        """Return name and version of the hub."""
        return {"service": "tapgate-hub", "software": __version__, "committed": daemon.counts()}

    @app.get("/health/live", dependencies=[PUBLIC])
    def live() -> Response:
        """Return whether the daemon's loops are running; 503 names those that are not responding."""
        hanging = daemon.hanging()
        return JSONResponse({"live": not hanging, "hanging": hanging}, 503 if hanging else 200)

    @app.get("/health/ready", dependencies=[PUBLIC])
    def ready() -> Response:
        """Return whether events can be committed: the database answers and the broker is connected."""
        broker = daemon.connected()
        try:
            store.ping()
            database = True
        except StoreUnavailable:
            database = False
        body = {"ready": database and broker is not False, "database": database, "broker": broker}
        return JSONResponse(body, 200 if body["ready"] else 503)

    @app.get("/metrics", include_in_schema=False)
    def metrics(scope: _Seen) -> Response:
        with store.read() as connection:
            text = render_metrics(connection, daemon.counts(), scope.sites(Right.SEE_GATEWAYS))
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
