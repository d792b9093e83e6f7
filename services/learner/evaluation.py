"""Held-out measurement through the rollout and verifier services, as users will meet the model.

No privileged context is in any prompt here, so a completion that cites some has leaked it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rlsd.config import RunConfig
from rlsd.errors import ServiceError
from rlsd.trajectory import Group, GroupPlan, Prompt, SamplingParams
from services.learner.leakage import Leaks
from services.learner.stages import CalledStages

_CALLS_AT_ONCE = 128
_SEED = 20_260_101
"""Of the mean@k draws; the same for every run, so that runs are compared on equal draws."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One line of `evaluations.jsonl`."""

    step: int
    greedy_accuracy: float
    """Mean reward of greedy completions over prompts with a scored verdict, 0 … 1."""
    mean_at_k: float | None
    """Mean reward of k sampled completions; None when k is 0."""
    k: int
    num_prompts: int
    leakage: float
    """Share of all completions that match a leakage pattern."""
    errors: int
    """Verdicts that were an error or a timeout; they are in no mean."""
    completion_tokens_mean: float
    duration_s: float


class Evaluator:
    """Measures the newest published weights on the held-out prompts."""

    def __init__(self, prompts: Sequence[Prompt], config: RunConfig, calls: CalledStages) -> None:
        self._prompts = prompts[: config.evaluation.limit]
        self._config = config
        self._calls = calls
        self._leaks = Leaks(config.evaluation.leakage_patterns)

    async def measure(self, *, step: int, policy_version: int) -> Evaluation:
        """Greedy accuracy and mean@k at `policy_version`.

        Raises:
            ServiceError: not one verdict could be had.
        """
        started = time.monotonic()
        k = self._config.evaluation.samples
        temperature = self._config.rollout.temperature
        async with asyncio.TaskGroup() as tasks:
            of_greedy = tasks.create_task(
                self._groups(policy_version, temperature=0.0, num_completions=1)
            )
            of_sampled = tasks.create_task(
                self._groups(policy_version, temperature=temperature, num_completions=k)
            )
        greedy, sampled = of_greedy.result(), of_sampled.result()
        trajectories = [t for g in (*greedy, *sampled) for t in g.trajectories]
        leaks = sum(self._leaks.any_in(t) for t in trajectories)
        return Evaluation(
            step=step,
            greedy_accuracy=_mean_reward(greedy),
            mean_at_k=_mean_reward(sampled) if k else None,
            k=k,
            num_prompts=len(self._prompts),
            leakage=leaks / len(trajectories),
            errors=sum(r is None for g in (*greedy, *sampled) for r in g.rewards),
            completion_tokens_mean=sum(t.num_sampled for t in trajectories) / len(trajectories),
            duration_s=time.monotonic() - started,
        )

    async def _groups(
        self, policy_version: int, *, temperature: float, num_completions: int
    ) -> list[Group]:
        if num_completions == 0:
            return []
        slots = asyncio.Semaphore(_CALLS_AT_ONCE)

        async def checked(index: int, prompt: Prompt) -> Group:
            group = Group(
                run_id=self._config.run.id,
                group_id=f"e{index:08d}",
                index=index,
                prompt=prompt,
                sampling=SamplingParams(
                    num_completions=num_completions,
                    temperature=temperature,
                    top_p=self._config.rollout.top_p,
                    max_tokens=self._config.rollout.max_tokens,
                    seed=_SEED,
                ),
                plan=GroupPlan(reject_zero_variance=False),
                required_policy_version=policy_version,
            )
            async with slots:
                return await self._calls.verify(await self._calls.generate(group))

        async with asyncio.TaskGroup() as tasks:
            pending = [tasks.create_task(checked(i, p)) for i, p in enumerate(self._prompts)]
        return [task.result() for task in pending]


def _mean_reward(groups: Sequence[Group]) -> float:
    rewards = [r for g in groups for r in g.rewards if r is not None]
    if not rewards:
        reasons = [t.verdict.reason for g in groups for t in g.trajectories if t.verdict]
        raise ServiceError(
            f"evaluation: no verdict could be had ({reasons[:1]}); mend the verifier"
        )
    return sum(rewards) / len(rewards)
