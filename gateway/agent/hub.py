"""The hub as the agent sees it: outgoing requests to one address, with a token."""

from __future__ import annotations

import email.utils
import ssl
import time
from collections.abc import Callable
from typing import Any

from gateway.agent.settings import AgentSettings
from gateway.config import read_site_key
from gateway.errors import FatalError, MissingExtra, RetryError
from gateway.mis.lines import site_key_check

_CONNECT_SECONDS, _ANSWER_SECONDS = 5.0, 60.0
_DETAIL_CHARS = 500


class HubUnreachable(RetryError):
    """The hub does not answer; the read waits on disk."""


class HubUntrusted(HubUnreachable):
    """Something answers at the hub's address, but its certificate is not one to send a token to."""


class HubRefused(FatalError):
    """The hub refused a request.

    Attributes:
        status: of its answer.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Hub:
    """Talks to one hub about one source.

    Args:
        beat: called before each request; feeds the watchdog while a large read is sent.
    """

    def __init__(self, settings: AgentSettings, beat: Callable[[], None] = lambda: None) -> None:
        try:
            import httpx2  # noqa: PLC0415  # gateways and hubs that send nothing need no HTTP client
        except ModuleNotFoundError:
            raise MissingExtra(
                "The agent needs the package 'httpx2'; install tapgate with the extra 'agent'."
            ) from None
        self._http = httpx2
        self._settings, self._beat = settings, beat
        self._base = f"{settings.hub}/v1/agent/{settings.site}/{settings.source}"
        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {settings.token()}"},
            timeout=httpx2.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
            follow_redirects=False,
            verify=_trust(settings),
        )

    def close(self) -> None:
        self._client.close()

    def begin(self) -> int:
        """Begin a new read and return its number."""
        return int(self._ask("POST", "/uploads")["upload"])

    def next_line(self, upload: int) -> int | None:
        """Return where a read goes on, None when the hub knows it no more."""
        try:
            return int(self._ask("GET", f"/uploads/{upload}")["next_line"])
        except HubRefused as error:
            if error.status == 404:
                return None
            raise

    def append(self, upload: int, first_line: int, lines: bytes) -> int:
        """Send some whole lines and return the next one."""
        path = f"/uploads/{upload}?from_line={first_line}"
        return int(self._ask("PATCH", path, content=lines)["next_line"])

    def complete(self, upload: int, lines: int, digest: str) -> None:
        """Say that a read is whole."""
        self._ask("POST", f"/uploads/{upload}/complete", json={"lines": lines, "sha256": digest})

    def is_same(self, digest: str) -> bool:
        """Say that the source reads like this; return whether the hub has exactly that.

        Raises:
            HubRefused: also where hub and school have different site keys.
        """
        body = {"sha256": digest, "key_check": site_key_check(read_site_key(self._settings.site_key_file))}
        return bool(self._ask("POST", "/same", json=body)["same"])

    def tell_failure(self, word: str, detail: str) -> None:
        """Tell the hub why the source cannot be read; a hub that is away is not told."""
        try:
            self._ask("POST", "/failure", json={"word": word, "detail": detail[:_DETAIL_CHARS]})
        except (HubUnreachable, HubRefused):
            return

    def clock_difference_seconds(self) -> float:
        """Return by how much the hub's clock is ahead of this machine's.

        Raises:
            HubUnreachable: it does not answer.
        """
        answer = self._send("GET", f"{self._settings.hub}/v1/info")
        date = answer.headers.get("date")
        return 0.0 if date is None else email.utils.parsedate_to_datetime(date).timestamp() - time.time()

    def _ask(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        answer = self._send(method, self._base + path, **body)
        if answer.status_code >= 500:
            raise HubUnreachable(f"The hub {self._settings.hub} has a fault ({answer.status_code}); it is tried again.")
        if answer.status_code >= 300:
            raise HubRefused(self._why(answer), answer.status_code)
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise HubRefused(f"{self._settings.hub} does not answer as a hub; check the address in agent.toml.", 200)
        return found

    def _send(self, method: str, url: str, **body: Any) -> Any:
        http = self._http
        self._beat()
        try:
            return self._client.request(method, url, **body)
        except http.ConnectError as error:
            if (why := _distrust(str(error))) is not None:
                raise HubUntrusted(f"The certificate of {self._settings.hub} {why}.") from None
            raise HubUnreachable(
                f"{self._settings.hub} cannot be reached; check network, firewall and address."
            ) from None
        except http.HTTPError as error:
            raise HubUnreachable(f"{self._settings.hub} does not answer ({type(error).__name__}).") from None

    def _why(self, answer: Any) -> str:
        settings = self._settings
        match answer.status_code:
            case 401 | 403:
                return (
                    f"The hub does not accept the token in {settings.token_file}; make a new one there with "
                    f"`tapgate accounts token --scopes agent:write --site {settings.site}`."
                )
            case 404:
                return (
                    f"The hub has no source {settings.site}/{settings.source} of kind agent that this token may send "
                    "to; compare site and source with hub.toml."
                )
            case status:
                try:
                    detail = str(answer.json()["detail"])
                except (ValueError, KeyError, TypeError):
                    detail = "it gives no reason"
                return f"The hub refused ({status}): {detail}"


def _distrust(text: str) -> str | None:
    """Return what is wrong with a certificate and what to do; None when the error is about something else."""
    match text.lower():
        case words if "not yet valid" in words:
            day = time.strftime("%d %B %Y", time.gmtime())
            return f"is not valid yet by this machine's clock, which says {day}; set the clock, best by NTP"
        case words if "has expired" in words:
            return "has expired; renew it at the hub, or set this machine's clock if that is ahead"
        case words if "mismatch" in words or "not valid for" in words:
            return "is for another name; write the name that it is for as hub in agent.toml"
        case words if "certificate" in words:
            return "is not trusted; name the authority that signed it as ca_file"
        case words if "ssl" in words:
            return (
                "cannot be seen, because no TLS is spoken there; check the port in agent.toml, and any proxy before it"
            )
        case _:
            return None


def _trust(settings: AgentSettings) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.ca_file is not None:
        try:
            context.load_verify_locations(settings.ca_file)
        except OSError:
            raise FatalError(
                f"ca_file {settings.ca_file} cannot be used; name a file of certificates in PEM form."
            ) from None
    return context
