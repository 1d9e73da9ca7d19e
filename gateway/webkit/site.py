"""A FastAPI application with the shared templates and security rules.

The rules: a strict content security policy (same origin only, nothing inline), no framing, no sniffing, a Host
allow-list against DNS rebinding, and no state changes by requests from other sites' pages.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined, select_autoescape
from jinja2_fragments import render_block
from jinja2_fragments.fastapi import Jinja2Blocks

from gateway import __version__
from gateway.webkit.problems import Problem, problem_response, wants_page
from gateway.webkit.wording import age, size

HERE = Path(__file__).parent
STATIC = HERE / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_CacheOrNot = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class NavigationLink:
    href: str
    text: str


@cache
def asset(name: str) -> str:
    """Return the address of a static file with its hash, so that it may be cached forever."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


class Site:
    """The application, its templates and what every page shows.

    Args:
        name: the text next to the brand, such as the gateway's id.
        templates: folder with the face's own templates.
        hosts: host names that the pages answer to, besides addresses and localhost; from the settings only.

    Attributes:
        personal: returns what a page shows of whoever asks for it, such as their own navigation.
    """

    personal: Callable[[Request], Mapping[str, Any]] = staticmethod(lambda _request: {})

    def __init__(
        self,
        title: str,
        name: str,
        templates: Path,
        navigation: Sequence[NavigationLink] = (),
        hosts: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.navigation = tuple(navigation)
        self._hosts = {host.lower() for host in hosts} | {"localhost"}
        environment = Environment(
            loader=ChoiceLoader([FileSystemLoader(templates), FileSystemLoader(HERE / "templates")]),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals["asset"] = asset
        environment.filters |= {"age": age, "size": size}
        self.templates = Jinja2Blocks(env=environment)
        self.app = FastAPI(title=title, version=__version__, docs_url=None, redoc_url=None)
        self.app.mount("/static", StaticFiles(directory=STATIC), name="static")
        self.app.middleware("http")(self._guard)
        self.app.exception_handler(Problem)(self._on_problem)
        self.app.exception_handler(HTTPException)(self._on_http)
        self.app.exception_handler(404)(self._on_http)
        self.app.exception_handler(405)(self._on_http)
        self.app.exception_handler(RequestValidationError)(self._on_invalid)
        self.app.exception_handler(Exception)(self._on_fault)

    def page(
        self, request: Request, template: str, page_title: str, context: Mapping[str, Any], status: int = 200
    ) -> Response:
        """Render a whole page."""
        full = self._context(request, page_title, context)
        return self.templates.TemplateResponse(request, template, full, status_code=status)

    def fragment(self, template: str, block: str, context: Mapping[str, Any]) -> str:
        """Render one block of a page's template, for a live event."""
        full = {**self._shared(), "current_path": "", "page_title": "", **context}
        return str(render_block(self.templates.env, template, block, **full))

    def _shared(self) -> dict[str, Any]:
        return {
            "site_name": self.name,
            "navigation": self.navigation,
            "software": __version__,
            "live_url": None,
            "signed_in": None,
            "banner": None,
        }

    def _context(self, request: Request, page_title: str, context: Mapping[str, Any]) -> dict[str, Any]:
        shared = {**self._shared(), **self.personal(request)}
        return {**shared, "current_path": request.url.path, "page_title": page_title, **context}

    async def _guard(self, request: Request, call_next: _CacheOrNot) -> Response:
        refusal = self._refusal(request)
        response = problem_response(request, refusal) if refusal else await call_next(request)
        for name, value in _HEADERS.items():
            response.headers[name] = value
        if request.url.scheme == "https":
            response.headers["Strict-Transport-Security"] = "max-age=31536000"
        if request.url.path.startswith("/static/"):
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        else:
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    def _refusal(self, request: Request) -> Problem | None:
        if not self._is_known_host(request.headers.get("host", "")):
            return Problem(
                421, "wrong-host", "Not known by this name", "Open this page by its IP address or as localhost."
            )
        if request.method not in _SAFE_METHODS and not _is_same_origin(request):
            return Problem(
                403,
                "cross-site",
                "Request from another site",
                "Submit this from a page of this server or from a program.",
            )
        return None

    def _is_known_host(self, header: str) -> bool:
        host = header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header
        host = host.strip("[]").lower()
        if host in self._hosts:
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True

    async def _on_problem(self, request: Request, problem: Exception) -> Response:
        assert isinstance(problem, Problem)
        return await self.show_problem(request, problem)

    async def show_problem(self, request: Request, problem: Problem) -> Response:
        """Answer with a page for a browser, with problem details for a program."""
        if wants_page(request):
            context = {"problem": problem}
            full = self._context(request, problem.title, context)
            return self.templates.TemplateResponse(request, "problem.html", full, status_code=problem.status)
        return problem_response(request, problem)

    async def _on_http(self, request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 500)
        words = {404: "There is nothing at this address.", 405: "This address does not support that method."}
        detail = words.get(status, str(getattr(error, "detail", "")))
        return await self._on_problem(request, Problem(status, f"http-{status}", detail.rstrip("."), detail))

    async def _on_fault(self, request: Request, error: Exception) -> Response:
        # The server logs the traceback; the response does not reveal it.
        del error
        detail = "A software error occurred; the service's log has the details."
        return await self._on_problem(request, Problem(500, "fault", "Internal fault", detail))

    async def _on_invalid(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = [{"at": ".".join(map(str, item["loc"])), "message": item["msg"]} for item in error.errors()]
        detail = f"The request cannot be read: {faults[0]['at']}: {faults[0]['message']}."
        return await self._on_problem(request, Problem(422, "invalid", "Not a valid request", detail, errors=faults))


def _is_same_origin(request: Request) -> bool:
    # Browsers send Sec-Fetch-Site, older ones Origin; programs send neither and cannot be abused by a page.
    fetch_site = request.headers.get("sec-fetch-site")
    if fetch_site is not None:
        return fetch_site in {"same-origin", "none"}
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host")
