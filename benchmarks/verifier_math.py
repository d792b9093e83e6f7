"""How many maths checks a second the verifier makes, beside math-verify alone.

python benchmarks/verifier_math.py [--repeats 5] [--prompts 100]

One JSON object on standard output. The mix is made anew from a seed in every repeat: groups of 8
completions a prompt, about half of the prompts with answers that need algebra. The peers answer
the same checks in the same run: math-verify called bare in one process (SIGALRM deadlines, which
work in a main thread only), and the same in a fork of a warm process for each check, two at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rlsd.config import VerifierSection
from rlsd.trajectory import VerifierSpec
from services.verifier.core import Verifier, open_verifier

GROUP_SIZE = 8
CHILDREN = 2
CONCURRENCY = 16
SPEC = VerifierSpec(kind="math")
AT_SIGHT = ("compared as they stand", "no answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One completion whose verdict is known."""

    completion: str
    reference: str
    is_right: bool


Task = tuple[str, list[str], list[str]]
"""A reference, answers that equal it, answers that do not."""


def _whole(r: random.Random) -> Task:
    n = r.randrange(2, 5000)
    return str(n), [str(n), f"{n}.", f"{n:,}", f"{n}.0"], [str(n + 1), str(-n), f"{n}0"]


def _fraction(r: random.Random) -> Task:
    a, b, k = r.randrange(1, 90), r.randrange(91, 200), r.randrange(2, 6)
    right = [rf"\frac{{{a}}}{{{b}}}", f"{a}/{b}", rf"\dfrac{{{a * k}}}{{{b * k}}}"]
    return f"{a}/{b}", right, [rf"\frac{{{b}}}{{{a}}}", f"{a / b:.2f}", f"{a + 1}/{b}"]


def _unit(r: random.Random) -> Task:
    n = r.randrange(2, 900)
    return f"{n} cm", [rf"{n}\text{{ cm}}", str(n)], [rf"{n}\text{{ m}}", rf"{n + 1}\text{{ cm}}"]


def _tuple(r: random.Random) -> Task:
    a, b, c = r.randrange(1, 50), r.randrange(-50, 0), r.randrange(2, 9)
    right = [f"({a}, {b})", rf"\left(\frac{{{a * c}}}{{{c}}}, {b}\right)"]
    return f"({a},{b})", right, [f"({b}, {a})", f"({a}, {-b})"]


def _radical(r: random.Random) -> Task:
    k, m = r.randrange(2, 12), r.choice([2, 3, 5, 6, 7, 10, 11, 13])
    right = [rf"{k}\sqrt{{{m}}}", rf"\sqrt{{{k * k * m}}}", rf"\frac{{{k * m}}}{{\sqrt{{{m}}}}}"]
    return rf"{k}\sqrt{{{m}}}", right, [rf"{m}\sqrt{{{k * k + 1}}}", rf"\sqrt{{{k * m}}}"]


def _quadratic(r: random.Random) -> Task:
    p, q = r.randrange(1, 30), r.randrange(1, 30)
    right = [f"(x+{p})(x+{q})", f"x^2 + {p + q}x + {p * q}", rf"{p * q} + {p + q}\cdot x + x^{{2}}"]
    return f"x^2+{p + q}x+{p * q}", right, [f"(x-{p})(x+{q})", f"x^2 + {p + q}x + {p * q + 1}"]


def _line(r: random.Random) -> Task:
    m, b = r.randrange(2, 40), r.randrange(1, 40)
    right = [f"y = {m}x + {b}", f"y={b}+{m}x", f"{m}x - y + {b} = 0"]
    return f"y={m}x+{b}", right, [f"y={b}x+{m}", f"y = {m}x - {b}"]


def _interval(r: random.Random) -> Task:
    a, b = r.randrange(-40, 0), r.randrange(1, 40)
    return f"[{a},{b})", [f"[{a}, {b})", rf"{a} \le x < {b}"], [f"({a},{b})", f"[{a},{b}]"]


def _multiple_of_pi(r: random.Random) -> Task:
    n, k = r.randrange(2, 90), r.randrange(2, 9)
    return rf"{n}\pi", [rf"{n}\pi", rf"\frac{{{n * k}\pi}}{{{k}}}"], [str(n), rf"{n + 1}\pi"]


MAKERS: Sequence[Callable[[random.Random], Task]] = (
    *(_whole, _whole, _whole, _fraction, _unit),
    *(_tuple, _radical, _quadratic, _line, _interval, _multiple_of_pi),
)
FRAMES = (
    "First we set it up. Then we simplify. So the answer is $\\boxed{%s}$.",
    "Let me think step by step.\n\nTherefore, \\[\\boxed{%s}\\]",
    "The answer is $%s$.",
)


def mix(seed: int, prompts: int) -> list[Sample]:
    """Groups in order, as a run sends them."""
    r = random.Random(seed)
    samples = []
    for n in range(prompts):
        reference, right, wrong = MAKERS[n % len(MAKERS)](r)
        for _ in range(GROUP_SIZE):
            is_right = r.random() < 0.5
            text = r.choice(FRAMES).replace("%s", r.choice(right if is_right else wrong))
            samples.append(Sample(completion=text, reference=reference, is_right=is_right))
    return samples


async def ours(verifier: Verifier, samples: Sequence[Sample]) -> dict[str, float]:
    """One repeat through `Verifier.check`."""
    free = asyncio.Semaphore(CONCURRENCY)

    async def one(sample: Sample) -> tuple[bool, str, float]:
        async with free:
            verdict = await verifier.check(SPEC, sample.completion, sample.reference)
        is_agreed = verdict.is_scored and (verdict.reward == 1) is sample.is_right
        return is_agreed, verdict.reason, verdict.duration_s

    started = time.perf_counter()
    found = await asyncio.gather(*(one(sample) for sample in samples))
    elapsed_s = time.perf_counter() - started
    return {
        "checks_per_s": len(samples) / elapsed_s,
        "agreement": sum(agreed for agreed, _, _ in found) / len(found),
        "algebra_share": sum(reason not in AT_SIGHT for _, reason, _ in found) / len(found),
        "p95_ms": 1000 * statistics.quantiles((d for _, _, d in found), n=20)[-1],
    }


def _math_verify(sample: Sample) -> bool:
    from math_verify import parse, verify

    return bool(verify(parse(f"${sample.reference}$"), parse(sample.completion)))


def bare(samples: Sequence[Sample]) -> dict[str, float]:
    """One repeat of math-verify in this process."""
    started = time.perf_counter()
    agreed = sum(_math_verify(sample) is sample.is_right for sample in samples)
    return _figures(len(samples), time.perf_counter() - started, agreed)


def forked(samples: Sequence[Sample]) -> dict[str, float]:
    """One repeat of math-verify with a fork for each check, as many at once as children."""
    started, agreed = time.perf_counter(), 0
    running: dict[int, Sample] = {}
    waiting = list(reversed(samples))
    while waiting or running:
        while waiting and len(running) < CHILDREN:
            sample = waiting.pop()
            pid = os.fork()
            if pid == 0:
                os._exit(int(_math_verify(sample)))
            running[pid] = sample
        pid, status = os.wait()
        agreed += bool(os.waitstatus_to_exitcode(status)) is running.pop(pid).is_right
    return _figures(len(samples), time.perf_counter() - started, agreed)


def _figures(count: int, elapsed_s: float, agreed: int) -> dict[str, float]:
    return {"checks_per_s": count / elapsed_s, "agreement": agreed / count}


def _summary(repeats: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Medians, and the spread of the rate."""
    rates = [repeat["checks_per_s"] for repeat in repeats]
    medians = {k: round(statistics.median(r[k] for r in repeats), 4) for k in repeats[0]}
    return {**medians, "checks_per_s_range": [round(min(rates), 1), round(max(rates), 1)]}


async def main() -> None:
    """Warm everything with one mix, then measure on others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=100)
    arguments = parser.parse_args()
    mixes = [mix(seed, arguments.prompts) for seed in range(arguments.repeats + 1)]
    bare(mixes[0])  # before the verifier, so that forks come from a process without threads
    peers = {"bare": [bare(m) for m in mixes[1:]], "fork": [forked(m) for m in mixes[1:]]}
    section = VerifierSection(kinds=("math",), workers=CHILDREN)
    async with open_verifier(section) as verifier:
        await ours(verifier, mixes[0])
        measured = [await ours(verifier, m) for m in mixes[1:]]
    print(
        json.dumps(
            {
                "checks_per_repeat": arguments.prompts * GROUP_SIZE,
                "repeats": arguments.repeats,
                "children": CHILDREN,
                "concurrency": CONCURRENCY,
                "verifier": _summary(measured),
                "math_verify_bare": _summary(peers["bare"]),
                "math_verify_fork_per_check": _summary(peers["fork"]),
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
