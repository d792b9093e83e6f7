"""Questions and answers between two boxes; while one waits for an answer it answers questions."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from typing import Any, Final

from services.verifier.checks.code.boxed.codec import ProtocolBroken

_HEADER: Final = struct.Struct(">I")
FRAME_BYTES: Final = 32 * 1024**2
_REPLIES: Final = ("value", "raised", "missing", "stop")

Frame = dict[str, Any]


class PeerGone(Exception):
    """The other box has ended."""


class Channel:
    """One end of a socket between two boxes."""

    def __init__(self, descriptor: int, serve: Callable[[Frame], Frame]) -> None:
        """`serve` answers what the other side asks; it must not raise."""
        self._descriptor = descriptor
        self._serve = serve

    def ask(self, question: Frame) -> Frame:
        """The answer to a question.

        Raises:
            PeerGone: there is nobody any more.
            ProtocolBroken: what came is no answer.
        """
        self.send(question)
        while True:
            frame = self.receive()
            if any(name in frame for name in _REPLIES):
                return frame
            self.send(self._serve(frame))

    def send(self, frame: Frame) -> None:
        """Send one frame; raises PeerGone, and ValueError over the limit."""
        body = json.dumps(frame).encode()
        if len(body) > FRAME_BYTES:
            raise ValueError("value is too large")
        rest = memoryview(_HEADER.pack(len(body)) + body)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as cause:
            raise PeerGone from cause

    def receive(self) -> Frame:
        """The next frame; raises PeerGone or ProtocolBroken."""
        (length,) = _HEADER.unpack(self._read(_HEADER.size))
        if length > FRAME_BYTES:
            raise ProtocolBroken("frame over the limit")
        try:
            frame = json.loads(self._read(length))
        except (ValueError, RecursionError) as cause:
            raise ProtocolBroken("no JSON") from cause
        if type(frame) is not dict:
            raise ProtocolBroken("no frame")
        return frame

    def _read(self, size: int) -> bytes:
        parts = []
        while size:
            try:
                part = os.read(self._descriptor, min(size, 1 << 20))
            except OSError as cause:
                raise PeerGone from cause
            if not part:
                raise PeerGone
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
