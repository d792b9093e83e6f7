"""Another server's metrics, passed on: an engine server listens on loopback, where nobody scrapes.

Only `GET /metrics` goes through. The engine's other routes ask for no key, so no port may show
them.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus

_WITHIN_S = 5.0
"""Of each read; below the ten seconds that a scrape may take."""
_MOST_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Relayed:
    """An answer to a scrape."""

    status: HTTPStatus
    content_type: str
    content: bytes


def relay_metrics(engine_url: str, accept: str) -> Relayed:
    """What the engine at `engine_url` says of itself; 502 with the reason where it says nothing."""
    request = urllib.request.Request(
        f"{engine_url.rstrip('/')}/metrics", headers={"Accept": accept or "text/plain"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_WITHIN_S) as answer:
            content = answer.read(_MOST_BYTES + 1)
            content_type = answer.headers.get("Content-Type", "text/plain")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return _nothing(f"engine at {engine_url}: no metrics ({error})")
    if len(content) > _MOST_BYTES:
        return _nothing(f"engine at {engine_url}: more than {_MOST_BYTES >> 20} MiB of metrics")
    return Relayed(HTTPStatus.OK, content_type, content)


def _nothing(words: str) -> Relayed:
    return Relayed(HTTPStatus.BAD_GATEWAY, "text/plain; charset=utf-8", f"{words}\n".encode())
