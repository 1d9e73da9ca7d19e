"""The one way to an MIS over HTTP: pinned to a host and a path, patient with its limits, bounded in what it takes.

The token goes with every request, so no answer may lead elsewhere: redirects and a foreign "next" are refused. Only GET
is repeated, and only for faults that pass: 429, 502 to 504, a broken connection. What is wrong is one word and one
sentence; neither quotes an answer, which may hold names.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from gateway.errors import MissingExtra, SourceRefused, SourceUnreachable

CONNECT_SECONDS, READ_SECONDS = 5.0, 60.0
MOST_BYTES = 64 << 20
TRIES = 5
PATIENCE_SECONDS = 60.0
_LONGEST_WAIT_SECONDS = 120.0
_AGAIN = frozenset({429, 502, 503, 504})
_WORDS: Mapping[int, tuple[str, str]] = {
    400: ("validation", "does not understand the request; report this, and look at the options of this source"),
    401: ("refused", "does not accept our credentials; renew them and write the new ones to their file"),
    403: ("permission_missing", "does not let us read this; ask the school to grant it in its MIS"),
    404: ("object_missing", "has nothing at this address; compare the address and the school in hub.toml"),
    413: ("too_large", "answers with more than a school can have"),
    422: ("validation", "does not accept a value of the request; look at the options of this source"),
    429: ("too_many", "says that we ask too often; it is tried again later"),
}
_SERVER_FAULT = ("server_fault", "has a fault of its own; it is tried again later")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer that was good: its JSON, its headers in lower case, and the address that was asked."""

    body: Any
    headers: Mapping[str, str]
    url: str


class Refused(SourceRefused):
    """The server answered and said no.

    Attributes:
        status: of its answer, 0 where the answer itself was unusable.
        code: the server's own word for it where it has one of the usual form, else empty.
    """

    def __init__(self, failure: str, message: str, status: int = 0, code: str = "") -> None:
        super().__init__(failure, message)
        self.status, self.code = status, code


@dataclass(slots=True)
class Transport:
    """Asks one server.

    Args:
        base: address that every request and every "next" must begin with; its path ends with a slash.
        headers: returns what is sent with each request: the credentials, read when they are needed.
        name: of the server, for sentences.
        ca_file: whom to trust instead of the public authorities.
        patience_seconds: how long one request is tried altogether.
        sleep, clock: of the machine; others in tests.

    Attributes:
        served: the Date of the newest answer, by the server's clock.
    """

    base: str
    headers: Callable[[], Mapping[str, str]]
    name: str
    ca_file: Path | None = None
    patience_seconds: float = PATIENCE_SECONDS
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    served: str = ""
    _client: Any = None

    def get(self, address: str, query: Mapping[str, str | int] | None = None) -> Answer:
        """Get an address of this server, relative to the base or a whole "next" of it.

        Raises:
            SourceUnreachable: it does not answer.
            Refused: it answers and says no, or something that is no JSON.
        """
        url = self._pinned(address)
        until = self.clock() + self.patience_seconds
        for number in range(1, TRIES + 1):
            try:
                status, headers, body = self._send("GET", url, params=query)
            except SourceUnreachable:
                wait_seconds = float(2 ** (number - 1))
                if number == TRIES or self.clock() + wait_seconds > until:
                    raise
            else:
                if status not in _AGAIN:
                    return self._read(status, headers, body, url)
                wait_seconds = _wait(headers, number)
                if number == TRIES or self.clock() + wait_seconds > until:
                    return self._read(status, headers, body, url)
            self.sleep(wait_seconds)
        raise AssertionError("the last try returns or raises")

    def post(self, address: str, *, form: Mapping[str, str] | None = None, body: Any = None) -> Answer:
        """Post to an address of this server, once.

        Raises:
            SourceUnreachable, Refused: as for `get`.
        """
        url = self._pinned(address)
        sent: dict[str, Any] = {"data": form} if form is not None else {"json": body}
        return self._read(*self._send("POST", url, **sent), url)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _pinned(self, address: str) -> str:
        base = urlsplit(self.base)
        url = urljoin(self.base, address)
        parts = urlsplit(url)
        same = (parts.scheme, parts.hostname, parts.port) == (base.scheme, base.hostname, base.port)
        if not same or not parts.path.startswith(base.path) or parts.username or ".." in parts.path:
            raise Refused(
                "link_foreign", f"{self.name} leads to another address than its own; nothing was sent there. Report it."
            )
        return url

    def _send(self, method: str, url: str, **sent: Any) -> tuple[int, Mapping[str, str], bytes]:
        http = _library()
        client = self._client
        if client is None:
            timeout = http.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
            client = self._client = http.Client(timeout=timeout, follow_redirects=False, verify=_trust(self.ca_file))
        try:
            with client.stream(method, url, headers=dict(self.headers()), **sent) as answer:
                pieces, size = [], 0
                for piece in answer.iter_bytes():
                    size += len(piece)
                    if size > MOST_BYTES:
                        raise Refused("too_large", f"{self.name} answers with more than {MOST_BYTES >> 20} MiB.")
                    pieces.append(piece)
                return answer.status_code, dict(answer.headers), b"".join(pieces)
        except http.TimeoutException:
            raise SourceUnreachable(f"{self.name} did not answer in time; it is tried again later.") from None
        except http.HTTPError as error:
            if "CERTIFICATE" in str(error).upper() or "SSL" in str(error).upper():
                raise Refused(
                    "tls",
                    f"The certificate of {self.name} is not trusted; look at this machine's clock, at the address "
                    "and at ca_file.",
                ) from None
            raise SourceUnreachable(
                f"{self.name} cannot be reached ({type(error).__name__}); look at the network, the firewall and the "
                "address."
            ) from None

    def _read(self, status: int, headers: Mapping[str, str], body: bytes, url: str) -> Answer:
        if 300 <= status < 400:
            raise Refused("link_foreign", f"{self.name} leads to another address; nothing was sent there.", status)
        found = _as_json(body)
        if status >= 400:
            word, text = _WORDS.get(status, _SERVER_FAULT if status >= 500 else _WORDS[400])
            raise Refused(word, f"{self.name} {text} ({status}).", status, _code(found))
        if found is _NO_JSON:
            raise Refused("format", f"{self.name} answers with something else than its data; it may be a sign-in page.")
        lower = {name.lower(): value for name, value in headers.items()}
        self.served = lower.get("date", "")
        return Answer(found, lower, url)


_NO_JSON = object()


def _as_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return _NO_JSON


def _code(found: Any) -> str:
    # Fixed words of servers, such as invalid_include; a text for people may name somebody.
    for name in ("error", "code", "imsx_codeMinor", "imsx_CodeMinor", "errorCode"):
        value = found.get(name) if isinstance(found, dict) else None
        if isinstance(value, str) and value.replace("_", "").replace("-", "").isalnum() and len(value) <= 60:
            return value
    return ""


def _wait(headers: Mapping[str, str], number: int) -> float:
    lower = {name.lower(): value for name, value in headers.items()}
    after, reset = lower.get("retry-after", ""), lower.get("x-ratelimit-reset", "")
    seconds = float(2 ** (number - 1))
    if after.isdigit():
        seconds = float(after)
    elif after:
        with contextlib.suppress(ValueError):
            seconds = email.utils.parsedate_to_datetime(after).timestamp() - time.time()
    elif reset.isdigit():
        # Seconds from now, or a time; the second is far larger.
        seconds = float(reset) if int(reset) < 10**6 else float(reset) - time.time()
    return min(max(seconds, 0.0), _LONGEST_WAIT_SECONDS)


def _library() -> Any:
    try:
        import httpx2  # noqa: PLC0415  # only sources on the network need it
    except ModuleNotFoundError:
        raise MissingExtra("The package 'httpx2' is missing; install tapgate with the extra 'hub'.") from None
    return httpx2


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError:
            raise Refused("tls", f"ca_file {ca_file} cannot be used; name certificates in PEM form.") from None
    return context


def rows_of(answer: Answer, key: str, name: str) -> list[dict[str, Any]]:
    """Return the list of objects under a key of an answer.

    Raises:
        Refused: `shape`, there is none.
    """
    found = answer.body.get(key) if isinstance(answer.body, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise Refused("shape", f"{name} answers without the list {key!r}; it may have changed its interface.")
    return found


def refuse_short(name: str, found: int, count: int | None) -> None:
    """Refuse a list of changes with fewer rows than the server counts.

    Raises:
        Refused: `short`.
    """
    if count is not None and found < count:
        raise Refused("short", f"{name} sends {found} of {count} changes; it is read again next time.")


def text_of(value: Any) -> str:
    """Return a value of an upstream object as a text: numbers as they are written, anything else as nothing."""
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""
