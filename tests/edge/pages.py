"""The pages of a running gateway in the test's own process, over its real socket."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from gateway.edge.app import Gateway
from gateway.edge.panel.client import Panel
from gateway.edge.web.face import WebFace


@contextlib.contextmanager
def serve_pages(gateway: Gateway) -> Iterator[WebFace]:
    """Serve the pages of a gateway that was started with `pages="elsewhere"`."""
    assert gateway.desk is not None
    panel = Panel(gateway.desk.server.path)
    face = WebFace(panel, panel.start(10))
    face.start()
    try:
        yield face
    finally:
        face.stop()
        panel.stop()
