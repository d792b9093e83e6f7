"""Getting an image from a URL that a data set names, without reaching into this network.

The one rule is that of `rlsd.verifier_client.addresses`: the address that was checked is the one
that is connected to, at each redirect anew. No proxies, no cookies, no credentials.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urldefrag, urljoin

from rlsd.errors import ConfigError, ServiceError
from rlsd.verifier_client.addresses import (
    Address,
    Endpoint,
    ForbiddenAddress,
    Network,
    check_address,
    parse_endpoint,
)

_REDIRECTS = 3
_REDIRECTED = (301, 302, 303, 307, 308)
_READ_BYTES = 64 * 1024


def fetch(url: str, *, allowed: Sequence[Network], max_bytes: int, timeout_s: float) -> bytes:
    """What a URL answers with.

    Args:
        allowed: networks beyond the public ones that its host may be in; only there is http
            allowed.
        timeout_s: for all of it, redirects included.

    Raises:
        ConfigError: the URL is not usable, its host is not allowed, the answer is too large or
            says that there is no such image.
        ServiceError: it cannot be reached, is out of order, or takes too long.
    """
    deadline = time.monotonic() + timeout_s
    place = url
    for _ in range(_REDIRECTS + 1):
        endpoint = parse_endpoint(place, default_path="/")
        try:
            answer = _ask(endpoint, _address(endpoint, allowed), deadline, max_bytes)
        except ForbiddenAddress as cause:
            raise ConfigError(
                f"image {url}: {endpoint.host} has the address {cause}".replace(
                    "allow_cidrs", "data.image_cidrs"
                )
            ) from cause
        except (OSError, http.client.HTTPException, ValueError) as cause:
            if time.monotonic() >= deadline:
                raise ServiceError(f"image {url}: not complete within {timeout_s:g} s") from cause
            raise ServiceError(f"image {url}: cannot be fetched ({_said(cause)})") from cause
        if isinstance(answer, bytes):
            return answer
        if isinstance(answer, int):
            raise _refused(url, answer, max_bytes)
        place = urldefrag(urljoin(place, answer)).url
    raise ConfigError(f"image {url}: more than {_REDIRECTS} redirects; give the last address")


def _ask(
    endpoint: Endpoint, address: Address, deadline: float, max_bytes: int
) -> bytes | str | int:
    """The body; where to go instead; or the status that says there is neither (413: too large)."""
    connection = _Pinned(endpoint, address, deadline)
    # A server that sends a byte now and then keeps every single read below its limit.
    watchdog = threading.Timer(max(0.0, deadline - time.monotonic()), connection.end)
    watchdog.daemon = True
    watchdog.start()
    try:
        headers = {"Host": endpoint.host_header, "User-Agent": "rlsd", "Accept": "image/*"}
        connection.request("GET", endpoint.target, headers=headers)
        response = connection.getresponse()
        if response.status in _REDIRECTED and (target := response.getheader("Location")):
            return target
        if response.status != http.client.OK:
            return response.status
        body = response.read(max_bytes + 1)
        if len(body) > max_bytes:
            return http.client.REQUEST_ENTITY_TOO_LARGE
        if response.length:
            raise OSError("the answer ends early")
        return body
    finally:
        watchdog.cancel()
        connection.close()


class _Pinned(http.client.HTTPConnection):
    """A connection to one address, whatever its host's name may mean by now."""

    def __init__(self, endpoint: Endpoint, address: Address, deadline: float) -> None:
        super().__init__(endpoint.host, endpoint.port)
        self._endpoint, self._address, self._deadline = endpoint, address, deadline

    def connect(self) -> None:
        """Connect, and speak TLS where the URL says so, under the name in the URL."""
        left_s = max(0.001, self._deadline - time.monotonic())
        plain = socket.create_connection((str(self._address), self._endpoint.port), timeout=left_s)
        self.sock = plain
        if self._endpoint.is_encrypted:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(plain, server_hostname=self._endpoint.host)

    def end(self) -> None:
        """From another thread: what is being read ends now."""
        if (connected := self.sock) is not None:
            try:
                connected.shutdown(socket.SHUT_RDWR)
            except OSError:  # it has ended by itself
                return


def _address(endpoint: Endpoint, allowed: Sequence[Network]) -> Address:
    found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    addresses = [ip_address(entry[4][0]) for entry in found]
    for address in addresses:
        check_address(address, allowed, is_encrypted=endpoint.is_encrypted)
    return addresses[0]


def _refused(url: str, status: int, max_bytes: int) -> ConfigError | ServiceError:
    if status == http.client.REQUEST_ENTITY_TOO_LARGE:
        return ConfigError(f"image {url}: larger than {max_bytes // 2**20} MiB; give a smaller one")
    if status >= http.client.INTERNAL_SERVER_ERROR or status == http.client.TOO_MANY_REQUESTS:
        return ServiceError(f"image {url}: the server answers {status}")
    return ConfigError(f"image {url}: the server answers {status}; correct the URL")


def _said(cause: Exception) -> str:
    return str(getattr(cause, "strerror", None) or cause or type(cause).__name__)[:200]
