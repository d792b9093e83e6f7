"""The trained model with its optimizer, on this rank's share of the parameters (FSDP2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard

from rlsd.config import LearnerSection
from rlsd.objectives.loss import Loss, objective
from rlsd.objectives.methods import Method
from rlsd.objectives.metrics import effective_share
from rlsd.policy.loading import take_probe
from rlsd.policy.scoring import completion_logits, gather_logprobs
from rlsd.policy.vision import Vision
from rlsd.weights import Probe
from services.learner.batches import (
    StepPlan,
    TrainingRow,
    filler_rows,
    objective_batch,
    pad,
    share,
)


class Policy:
    """Model, optimizer and learning-rate schedule; `update` is one optimizer step."""

    def __init__(
        self,
        model: Any,
        method: Method,
        config: LearnerSection,
        *,
        pad_id: int,
        temperature: float,
        vision: Vision | None = None,
    ) -> None:
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        self.model = _shard(model) if self.world > 1 else model
        self._method = method
        self._config = config
        self._pad_id = pad_id
        self._temperature = temperature
        self._vision = vision
        self.pulse: Callable[[], object] = lambda: None
        """Called before each microbatch."""
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=config.lr,
            betas=config.betas,
            weight_decay=config.weight_decay,
        )

    def update(self, plan: StepPlan, *, step: int, lam: float, seed: int) -> dict[str, float]:
        """One optimizer step on the plan's rows.

        Args:
            step: from 1; sets the learning rate and the draws of the permuted control.

        Returns:
            Loss, gradient norm, learning rate and the objective's metrics, over all ranks.
        """
        lr = self._config.lr * min(1.0, step / max(1, self._config.warmup_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if not plan.rows:  # nothing to learn from: the weights stay as they are
            return {"loss": 0.0, "grad_norm": 0.0, "lr": lr, "num_rows": 0.0}
        self.model.train()
        generator = torch.Generator().manual_seed((seed * 1_000_003 + step) * 64 + self.rank)
        parts = share(
            plan, rank=self.rank, world=self.world, max_tokens=self._config.microbatch_tokens
        )
        losses = [self._accumulate(rows, plan, lam, generator) for rows in parts]
        grad_norm = self._apply()
        self.model.eval()
        metrics = self._over_ranks(Totals.of([x for x in losses if x is not None]))
        if "importance" in metrics:
            importance = metrics.pop("importance"), metrics.pop("importance_squared")
            metrics["importance_ess"] = effective_share(*importance)
        return metrics | {"grad_norm": grad_norm, "lr": lr, "num_rows": float(len(plan.rows))}

    def probe(self, token_ids: Sequence[int]) -> Probe:
        """The probe of the present weights; a collective over all ranks."""
        return take_probe(self.model, list(token_ids))

    def full_state(self) -> dict[str, torch.Tensor]:
        """All parameters on the CPU of rank 0; a collective."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=self.world > 1)
        state: Any = get_model_state_dict(self.model, options=options)
        return dict(state)

    def _accumulate(
        self,
        rows: Sequence[TrainingRow],
        plan: StepPlan,
        lam: float,
        generator: torch.Generator,
    ) -> Loss | None:
        """Add one microbatch's gradient; None for an empty one."""
        self.pulse()
        fillers = filler_rows(rows, plan, world=self.world)
        padded = pad([*rows, *fillers], pad_id=self._pad_id, vision=self._vision)
        logits_BTV = completion_logits(self.model, padded, temperature=self._temperature)
        of_fillers = logits_BTV[len(rows) :].sum() * 0.0 if fillers else None
        if of_fillers is not None:
            if not rows:
                torch.autograd.backward(of_fillers)
                return None
            logits_BTV = logits_BTV[: len(rows)]
        completion_BT = padded.completion_BT[: len(rows)].to(logits_BTV.device)
        policy_logprobs_BT = gather_logprobs(logits_BTV, completion_BT)
        loss = objective(
            self._method,
            objective_batch(rows, policy_logprobs_BT),
            policy_logprobs_BT,
            logits_BTV,
            lam=lam,
            denominators=plan.denominators,
            generator=generator,
        )
        # FSDP averages gradients over ranks; the denominators are global, so undo the average.
        total = loss.total * self.world
        torch.autograd.backward(total if of_fillers is None else total + of_fillers)
        return loss

    def _apply(self) -> float:
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._config.max_grad_norm)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        if torch.isfinite(norm):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def _over_ranks(self, totals: Totals) -> dict[str, float]:
        if self.world == 1:
            return totals.values()
        gathered: list[Any] = [None] * self.world
        dist.all_gather_object(gathered, totals)
        return Totals.merged(gathered).values()


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Metrics of a step while they are added up over microbatches and ranks."""

    loss: float
    sums: dict[str, tuple[float, float]]
    """Sum and weight by name."""
    maxima: dict[str, float]
    counts: dict[str, float]

    @classmethod
    def of(cls, losses: Sequence[Loss]) -> Totals:
        """What one rank's microbatches add up to."""
        return cls.merged(
            [
                cls(
                    loss=float(x.total.detach()),
                    sums={n: (float(v[0]), float(v[1])) for n, v in x.metrics.items()},
                    maxima={n: float(v) for n, v in x.maxima.items()},
                    counts={n: float(v) for n, v in x.counts.items()},
                )
                for x in losses
            ]
        )

    @classmethod
    def merged(cls, parts: Sequence[Totals]) -> Totals:
        """Several parts as one."""
        names = {n for p in parts for n in p.sums}
        tops = {n for p in parts for n in p.maxima}
        counted = {n for p in parts for n in p.counts}
        pairs = {n: [p.sums[n] for p in parts if n in p.sums] for n in names}
        return cls(
            loss=sum(p.loss for p in parts),
            sums={n: (sum(a for a, _ in v), sum(b for _, b in v)) for n, v in pairs.items()},
            maxima={n: max(p.maxima[n] for p in parts if n in p.maxima) for n in tops},
            counts={n: sum(p.counts.get(n, 0.0) for p in parts) for n in counted},
        )

    def values(self) -> dict[str, float]:
        """Means, maxima and counts by name; a mean over nothing is left out."""
        means = {n: total / weight for n, (total, weight) in sorted(self.sums.items()) if weight}
        maxima = {f"{n}_max": value for n, value in sorted(self.maxima.items())}
        return {"loss": self.loss} | means | maxima | dict(sorted(self.counts.items()))


def _shard(model: Any) -> Any:
    """FSDP2: each block that the model does not want split is a unit, the rest another."""
    for module in list(model.modules()):
        if type(module).__name__ in (model._no_split_modules or ()):
            fully_shard(module)
    return fully_shard(model)
