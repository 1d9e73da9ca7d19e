"""Access tokens by OAuth 2 client credentials: fetched when one is needed, and once more when it is refused midway."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlsplit

from gateway.errors import SourceRefused
from gateway.mis.http import Refused, Transport
from gateway.mis.live import read_secret
from gateway.mis.options import Options

WAYS = ("basic", "basic-raw", "body")
_EARLY_SECONDS = 30.0
_LEAST_SECONDS, _MOST_SECONDS = 60.0, 24 * 3600.0


@dataclass(slots=True)
class ClientCredentials:
    """A client and its newest token.

    Args:
        way: `basic` encodes id and secret as a form does (RFC 6749, 2.3.1), `basic-raw` does not, `body` sends them in
            the form.
    """

    transport: Transport
    client_id: str
    secret: Callable[[], str]
    way: str = "basic"
    scope: str = ""
    clock: Callable[[], float] = time.monotonic
    _token: str = ""
    _until: float = 0.0

    def headers(self) -> Mapping[str, str]:
        """Return the header that carries a token in force.

        Raises:
            SourceUnreachable, SourceRefused: none is to be had.
        """
        if not self._token or self.clock() > self._until:
            self._fetch()
        return {"Authorization": f"Bearer {self._token}"}

    def forget(self) -> None:
        """Forget a token that was refused; the next request fetches another."""
        self._token = ""

    def _fetch(self) -> None:
        form = {"grant_type": "client_credentials"}
        if self.scope:
            form["scope"] = self.scope
        pair = (self.client_id, self.secret())
        headers: dict[str, str] = {}
        if self.way == "body":
            form |= {"client_id": pair[0], "client_secret": pair[1]}
        else:
            encoded = pair if self.way == "basic-raw" else tuple(quote_plus(part) for part in pair)
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(encoded).encode()).decode("ascii")
        self.transport.headers = lambda: headers
        try:
            answer = self.transport.post("", form=form)
        except Refused as error:
            if error.status in {400, 401, 403}:
                text = "does not accept client_id and secret_file; renew them"
                raise Refused("refused", f"{self.transport.name} {text} ({error.code or error.status}).", 401) from None
            raise
        body: Any = answer.body if isinstance(answer.body, dict) else {}
        token, lasts = body.get("access_token"), body.get("expires_in")
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise Refused("shape", f"{self.transport.name} answers without an access token.")
        seconds = float(lasts) if isinstance(lasts, int | float) and not isinstance(lasts, bool) else _LEAST_SECONDS
        self._token = token
        self._until = self.clock() + min(max(seconds, _LEAST_SECONDS), _MOST_SECONDS) - _EARLY_SECONDS


def read_client(
    options: Options, name: str, key: str = "token_url", path: str = "", way: str = WAYS[0]
) -> ClientCredentials:
    """Read client_id, secret_file, client_auth and scope, and the address of tokens.

    Args:
        key: of the setting with that address, and `path` what follows it.
        way: how id and secret are sent where `client_auth` says nothing.
    """
    address = options.text(key)
    parts = urlsplit(address)
    if address and (not parts.hostname or parts.username or parts.scheme not in {"https", "http"}):
        options.problem(key, "must be an address such as https://auth.example/token")
    transport = Transport(f"{address.rstrip('/')}/{path}" if path else address, dict, name)
    return ClientCredentials(
        transport,
        options.text("client_id"),
        read_secret(options, "secret_file"),
        options.text("client_auth", way, WAYS),
        options.text("scope", ""),
    )


def with_one_more_token(client: ClientCredentials, ask: Callable[[], Any]) -> Any:
    """Ask; when the token is refused midway, once more with a new one.

    Raises:
        SourceUnreachable, SourceRefused: as the question, or the second token is refused too.
    """
    try:
        return ask()
    except Refused as error:
        if error.status != 401:
            raise
        client.forget()
        try:
            return ask()
        except Refused as again:
            if again.status != 401:
                raise
            raise SourceRefused(again.failure, str(again)) from None
