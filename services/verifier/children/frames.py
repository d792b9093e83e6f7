"""What passes between the service and a child: JSON behind its length, never pickle."""

from __future__ import annotations

import json
import struct
from typing import Any

HEADER = struct.Struct(">I")
FRAME_LIMIT_BYTES = 16 * 1024 * 1024


def pack(message: dict[str, Any]) -> bytes:
    """The frame of a message."""
    body = json.dumps(message).encode("ascii")
    return HEADER.pack(len(body)) + body


def body_length(header: bytes) -> int:
    """Bytes that follow a header; raises ValueError over the limit."""
    (length,) = HEADER.unpack(header)
    if length > FRAME_LIMIT_BYTES:
        raise ValueError(f"frame of {length} bytes, at most {FRAME_LIMIT_BYTES} agreed")
    return int(length)
