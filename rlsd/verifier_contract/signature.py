"""Signed requests: Standard Webhooks, symmetric (`v1`).

    webhook-id          names the message; the same on every try
    webhook-timestamp   seconds since 1970, when this try was sent
    webhook-signature   `v1,BASE64(HMAC-SHA256(key, id.timestamp.body))`, one for each active key

Source: Standard Webhooks specification, "Signature scheme".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
WINDOW_S = 300
"""A timestamp may be this far from the receiver's clock."""
_PREFIX = "whsec_"
_SHORTEST_KEY = 24
_MOST_SIGNATURES = 8


class SignatureRefused(Exception):
    """The request is not from who has a key, or not from now; the message says which."""


def read_key(text: str) -> bytes:
    """The key in a file: `whsec_` and base64, or any text of 24 bytes or more.

    Raises:
        ValueError: it is shorter, or not base64.
    """
    text = text.strip()
    if text.startswith(_PREFIX):
        try:
            key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
        except binascii.Error as cause:
            raise ValueError("what follows whsec_ is not base64") from cause
    else:
        key = text.encode()
    if len(key) < _SHORTEST_KEY:
        raise ValueError(f"a key of {len(key)} bytes; at least {_SHORTEST_KEY} are needed")
    return key


def sign(keys: Sequence[bytes], *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a signed request; none without keys."""
    if not keys:
        return {}
    signatures = [_signature(key, message_id, str(timestamp), body) for key in keys]
    return {ID: message_id, TIMESTAMP: str(timestamp), SIGNATURE: " ".join(signatures)}


def check_signature(
    keys: Sequence[bytes], headers: Mapping[str, str], body: bytes, *, now: float
) -> None:
    """Return when one of the keys signed the request within the window.

    Args:
        headers: with lower-case names.
        now: seconds since 1970.

    Raises:
        SignatureRefused: a header is missing, the time is off, or no signature fits.
    """
    message_id, timestamp = headers.get(ID, ""), headers.get(TIMESTAMP, "")
    if not (message_id and timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16):
        raise SignatureRefused(f"the headers {ID} and {TIMESTAMP} are needed")
    if abs(now - int(timestamp)) > WINDOW_S:
        raise SignatureRefused(f"{TIMESTAMP} is more than {WINDOW_S} s from this clock")
    expected = [_signature(key, message_id, timestamp, body).encode() for key in keys]
    given = headers.get(SIGNATURE, "").encode("utf-8", "replace").split()[:_MOST_SIGNATURES]
    if not any(hmac.compare_digest(e, g) for e in expected for g in given):
        raise SignatureRefused(f"{SIGNATURE} fits no active key")


def _signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode("ascii")
