"""Runs uvicorn on its own thread and event loop, so that no page can hold up a tap."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from gateway.errors import FatalError
from gateway.webkit.events import Broadcaster
from gateway.webkit.limits import BodyLimits, Limits, guarded_protocol

log = logging.getLogger(__name__)
_START_SECONDS = 20.0
_STOP_SECONDS = 5.0


class WebServer:
    """One listening web server; `port` 0 takes a free port, see `address`.

    Args:
        certificate: files of the certificate with its chain and of its key; None for plain HTTP.
    """

    def __init__(
        self,
        app: FastAPI,
        host: str,
        port: int,
        broadcaster: Broadcaster | None = None,
        limits: Limits = Limits(),  # noqa: B008  # a frozen value
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        self._app, self._host, self._port, self._limits = app, host, port, limits
        self._broadcaster, self._certificate = broadcaster, certificate
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """Return the address people can open, such as http://127.0.0.1:8080."""
        port = self._socket.getsockname()[1] if self._socket else self._port
        host = "127.0.0.1" if self._host in {"0.0.0.0", "::"} else self._host  # noqa: S104  # compared, not bound
        scheme = "http" if self._certificate is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def start(self) -> None:
        """Bind, then serve in the background.

        Raises:
            FatalError: the port cannot be bound, or the certificate cannot be used.
        """
        tls = None if self._certificate is None else _load(*self._certificate)
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._host, self._port))
        except OSError as error:
            listener.close()
            raise FatalError(
                f"The web pages cannot listen on {self._host}:{self._port} ({error.strerror}); choose another port."
            ) from None
        self._socket = listener
        config = uvicorn.Config(
            BodyLimits(self._app, self._limits),
            http=guarded_protocol(self._limits),
            h11_max_incomplete_event_size=self._limits.header_bytes,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=2,
            ws="none",
        )
        config.load()
        config.ssl = tls
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="web", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)

    def stop(self) -> None:
        """End the streams, then the server; never raises."""
        if self._broadcaster:
            self._broadcaster.close()
        if self._server:
            self._server.should_exit = True
        if self._thread:
            self._thread.join(_STOP_SECONDS)
            if self._thread.is_alive():
                log.warning("the web thread did not end within %.0f s", _STOP_SECONDS)
        if self._socket:
            self._socket.close()


def _load(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        # The library's own errors are a kind of OSError whose text is for its developers.
        why = type(error).__name__ if isinstance(error, ssl.SSLError) else error.strerror
        raise FatalError(
            f"The web pages cannot use the certificate {certificate} with the key {key} ({why}); name files in PEM "
            "form that belong together and that the service may read."
        ) from None
    return context
