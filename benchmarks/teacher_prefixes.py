"""How many tokens the teacher computes of those it is given, on vLLM.

PYTHONPATH=. python benchmarks/teacher_prefixes.py

One JSON object on standard output. Needs vLLM (make setup-vllm). Eight groups of eight completions
of 24 random tokens after prefixes of 180 to 187, with the cache's blocks of 32 and of 128 tokens.
These are counts: they do not depend on what else the machine does.
"""

from __future__ import annotations

import asyncio
import json
import sys

import numpy as np

from rlsd.inference.vllm.engine import VllmEngine
from services.teacher.scorers.siblings import score_siblings

BASE = "examples/chain/base"
GROUPS, SIZE, COMPLETION = 8, 8, 24
BLOCKS = (32, 128)


def main() -> None:
    """Count and print."""
    figures = {f"blocks of {size}": asyncio.run(_count(size)) for size in BLOCKS}
    json.dump(figures, sys.stdout, indent=1)


async def _count(block_size: int) -> dict[str, float]:
    draw = np.random.default_rng(0)

    def tokens(number: int) -> tuple[int, ...]:
        return tuple(int(token) for token in draw.integers(3, 20, number))

    given = computed = 0
    arguments = {"block_size": block_size}
    async with VllmEngine(BASE, dtype="float32", max_batch=256, arguments=arguments) as engine:
        for group in range(GROUPS):
            prefix = tokens(180 + group)
            completions = [tokens(COMPLETION) for _ in range(SIZE)]
            scores = await score_siblings(engine, prefix, completions)
            given += sum(len(prefix) + len(c) for c in completions)
            computed += sum(score.num_computed for score in scores)
    return {"given": given, "computed": computed, "saved": round(1 - computed / given, 3)}


if __name__ == "__main__":
    main()
