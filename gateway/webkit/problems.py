"""Errors of the web faces as problem details (RFC 9457); browsers get the same text as a page."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse

PROBLEM_MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An error response to a request.

    Attributes:
        kind: last part of `urn:tapgate:KIND`, stable, for programs.
        detail: one sentence for people: what is wrong and what to do.
        extra: members that the kind defines, such as `retryable`.
    """

    def __init__(self, status: int, kind: str, title: str, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.status, self.kind, self.title, self.detail, self.extra = status, kind, title, detail, extra

    def body(self, instance: str) -> dict[str, Any]:
        return {
            "type": f"urn:tapgate:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            **self.extra,
        }


def problem_response(request: Request, problem: Problem) -> JSONResponse:
    headers = {"Retry-After": str(problem.extra["retry_after"])} if "retry_after" in problem.extra else {}
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(problem.body(request.url.path), problem.status, headers, PROBLEM_MEDIA_TYPE)


def wants_page(request: Request) -> bool:
    """Return whether the caller is a browser, which gets a page rather than JSON."""
    return "text/html" in request.headers.get("accept", "")
