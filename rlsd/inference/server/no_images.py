"""A running server is given ids alone: what it would make of an image is not the learner's."""

from __future__ import annotations

from collections.abc import Sequence

from rlsd.errors import EngineError
from rlsd.policy.vision import Picture


def refuse_pictures(pictures: Sequence[Picture], *, url: str) -> None:
    """Return when there are none.

    Raises:
        EngineError: there are; dropped in silence, they would leave a prompt of empty places.
    """
    if pictures:
        raise EngineError(
            f"{url}: a running server takes no images; use engine = 'vllm' without engine_url, or "
            "'transformers'"
        )
