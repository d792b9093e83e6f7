"""Scores of sibling completions after one prefix, without scoring anything twice.

A token's log-prob depends on what stands before it and on nothing else, so where siblings begin
alike, the scores of the first serve the others. Each request then names as its prefix all that is
scored already: an engine may take from its prefix cache whatever is in there, since none of it is
asked for. (One whose cache held more than the prefix would have to compute it all again.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import numpy as np

from rlsd.inference.engine import InferenceEngine, Scores, ScoringRequest
from rlsd.policy.vision import Picture

Ids = tuple[int, ...]
_T = TypeVar("_T")


async def score_siblings(
    engine: InferenceEngine,
    prefix: Ids,
    completions: Sequence[Ids],
    *,
    num_likeliest: int = 0,
    pictures: tuple[Picture, ...] = (),
) -> list[Scores]:
    """Each completion's scores, in order.

    Args:
        pictures: those that the prefix has places for.
    """
    beginnings = shared_beginnings(completions)

    async def rest(completion: Ids, num_shared: int) -> Scores | None:
        if num_shared == len(completion):
            return None
        return await engine.score(
            ScoringRequest(
                prefix_ids=prefix + completion[:num_shared],
                completion_ids=completion[num_shared:],
                num_likeliest=num_likeliest,
                pictures=pictures,
            )
        )

    rests = await all_or_none(
        [rest(c, shared) for c, (_, shared) in zip(completions, beginnings, strict=True)]
    )
    whole: list[Scores] = []
    for (sibling, num_shared), own in zip(beginnings, rests, strict=True):
        parts = [_beginning(whole[sibling], num_shared)] if num_shared else []
        parts += [own] if own is not None else []
        whole.append(_joined(parts) if parts else _empty(num_likeliest))
    return whole


def shared_beginnings(completions: Sequence[Ids]) -> list[tuple[int, int]]:
    """For each: the earlier one with which it has the most first tokens in common, and how many."""
    found: list[tuple[int, int]] = []
    for number, completion in enumerate(completions):
        lengths = [_num_common(completion, earlier) for earlier in completions[:number]]
        longest = max(lengths, default=0)
        found.append((lengths.index(longest) if longest else 0, longest))
    return found


async def all_or_none(calls: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """The results in order; when one fails or the caller is cancelled, the others are cancelled."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _num_common(one: Ids, other: Ids) -> int:
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))


def _beginning(scores: Scores, length: int) -> Scores:
    ids, logprobs = scores.likeliest_ids, scores.likeliest_logprobs
    return Scores(
        logprobs=scores.logprobs[:length],
        likeliest_ids=None if ids is None else ids[:length],
        likeliest_logprobs=None if logprobs is None else logprobs[:length],
        num_computed=0,
    )


def _joined(parts: Sequence[Scores]) -> Scores:
    def join(arrays: list[Any]) -> Any:
        return None if arrays[0] is None else np.concatenate(arrays)

    return Scores(
        logprobs=join([p.logprobs for p in parts]),
        likeliest_ids=join([p.likeliest_ids for p in parts]),
        likeliest_logprobs=join([p.likeliest_logprobs for p in parts]),
        num_computed=parts[-1].num_computed,  # of the only one that was asked for
    )


def _empty(num_likeliest: int) -> Scores:
    table = (0, num_likeliest)
    return Scores(
        logprobs=np.zeros(0, dtype=np.float32),
        likeliest_ids=np.zeros(table, dtype=np.int32) if num_likeliest else None,
        likeliest_logprobs=np.zeros(table, dtype=np.float32) if num_likeliest else None,
        num_computed=0,
    )
