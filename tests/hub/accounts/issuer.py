"""A little OpenID Connect issuer on loopback, with the faults that a real one may show."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "tapgate", "s3cret"


class FakeIssuer:
    """Signs in whoever `claims` names, and keeps what it was asked.

    Attributes:
        claims: what every token says beside issuer, audience and times.
        spoil: called with the claims of a token before it is signed; a test changes them there.
    """

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "one", "alg": "RS256"})
        self.published = [self.key]
        self.claims: dict[str, Any] = {"sub": "u-1", "email": "zoe@school.example", "email_verified": True}
        self.claims["name"] = "Zoë Müller"
        self.spoil: Any = lambda _claims: None
        self.announced: str | None = None
        self.token_status = 200
        self.codes: dict[str, dict[str, str]] = {}
        handler = type("Handler", (_Handler,), {"issuer": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/tenant"

    def rotate(self) -> None:
        """Sign with a new key from now on, and publish only that one."""
        self.key = RSAKey.generate_key(2048, {"kid": f"key-{time.monotonic_ns()}", "alg": "RS256"})
        self.published = [self.key]

    def agree(self, address: str) -> str:
        """Do what a person does at the issuer's page; return the address that the browser is sent back to."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        code = f"code-{len(self.codes)}"
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def token(self, query: dict[str, str]) -> str:
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": query["nonce"], **self.claims}
        self.spoil(claims)
        return jwt.encode({"alg": "RS256", "kid": self.key.kid}, claims, self.key)

    @contextmanager
    def running(self) -> Iterator[FakeIssuer]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    issuer: FakeIssuer

    def do_GET(self) -> None:
        issuer = self.issuer
        if self.path.endswith("/.well-known/openid-configuration"):
            addresses = {
                name: f"{issuer.url}/{path}"
                for name, path in (
                    ("authorization_endpoint", "authorize"),
                    ("token_endpoint", "token"),
                    ("jwks_uri", "keys"),
                )
            }
            self._answer(200, {"issuer": issuer.announced or issuer.url, **addresses})
        else:
            self._answer(200, {"keys": [key.as_dict(private=False) for key in issuer.published]})

    def do_POST(self) -> None:
        body = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        form = {name: values[0] for name, values in body.items()}
        query = self.issuer.codes.pop(form["code"], None)
        proof = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        is_good = query is not None and query["code_challenge"] == proof and form["client_secret"] == SECRET
        if not is_good or query is None or self.issuer.token_status != 200:
            self._answer(max(400, self.issuer.token_status), {"error": "invalid_grant", "error_description": "zoe"})
        else:
            self._answer(200, {"id_token": self.issuer.token(query), "token_type": "Bearer"})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        del format, args
