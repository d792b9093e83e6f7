"""Where the images of a prompt stand in its chat. Pure.

Each `<image>` in a user's turn is the place of the next image. Without such marks all images stand
before the text of the first user's turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlsd.trajectory import Message

MARK = "<image>"

Chat = list[dict[str, Any]]
"""Turns with `role` and `content`: text, or a list of parts where a turn has images."""
Part = dict[str, str]
"""{"type": "image", "image": reference} or {"type": "text", "text": …}, as chat templates read."""


def num_marks(messages: Sequence[Message]) -> int:
    """Places for images in the users' turns."""
    return sum(m.content.count(MARK) for m in messages if m.role == "user")


def placed(messages: Sequence[Message], images: Sequence[str]) -> Chat:
    """The chat with its images in place; without images every content is text, as it was written.

    Args:
        images: as many as there are marks, if there are any.
    """
    if not images:
        return [{"role": m.role, "content": m.content} for m in messages]
    left = iter(images)
    has_marks = num_marks(messages) > 0
    chat: Chat = []
    for message in messages:
        content: str | list[Part] = message.content
        if message.role == "user":
            text = message.content
            content = list(_at_marks(text, left)) if has_marks else _before(text, left)
            if not any(part["type"] == "image" for part in content):
                content = text
        chat.append({"role": message.role, "content": content})
    return chat


def framed(content: str | Sequence[Part], before: str, after: str) -> str | list[Part]:
    """A content with text around it; none of that text is a place for an image."""
    if isinstance(content, str):
        return before + content + after
    parts = [_text(before), *content, _text(after)]
    return [part for part in parts if part["type"] == "image" or part["text"]]


def images_of(chat: Sequence[Mapping[str, Any]]) -> list[str]:
    """The references in a chat, in the order in which they are read."""
    return [
        part["image"]
        for turn in chat
        if not isinstance(turn["content"], str)
        for part in turn["content"]
        if part["type"] == "image"
    ]


def _at_marks(text: str, images: Iterator[str]) -> Iterator[Part]:
    first, *rest = text.split(MARK)
    if first:
        yield _text(first)
    for piece in rest:
        yield {"type": "image", "image": next(images)}
        if piece:
            yield _text(piece)


def _before(text: str, images: Iterator[str]) -> list[Part]:
    return [*({"type": "image", "image": image} for image in images), _text(text)]


def _text(text: str) -> Part:
    return {"type": "text", "text": text}
