"""The learner's one loop, on rank 0: gather, log, train, publish, measure.

    gather a batch ─▶ write it to the batch log ─▶ train ─▶ publish ─▶ evaluate
         ▲                      │ durable: settle, credits return
         └──────────────────────┘

The batch log is written before the step is trained. A run that was stopped anywhere loads its
newest checkpoint, executes the logged steps after it, and goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import torch

from rlsd.errors import ConfigError, ServiceError, WeightsError
from rlsd.failpoints import failpoint
from rlsd.objectives.methods import ZeroVariance
from rlsd.objectives.schedules import teacher_version_at
from rlsd.telemetry.activity import Activity, Part, State
from rlsd.telemetry.withholding import Withholding
from rlsd.trajectory import (
    Group,
    GroupOutcome,
    RejectReason,
    TeacherNeed,
)
from services.learner import metrics
from services.learner.checkpoint import Meta
from services.learner.evaluation import Evaluator
from services.learner.feeder import Feeder
from services.learner.gathering import Gathering
from services.learner.leakage import Leaks
from services.learner.lease import Lease
from services.learner.ledger import Ledger
from services.learner.progress import Progress
from services.learner.ranks import Command, Rank
from services.learner.records import run_summary, step_line
from services.learner.run_log import RunLog
from services.learner.stages import Stages
from services.learner.traces import Traces
from services.learner.trained import TrainedGroups

log = logging.getLogger(__name__)


class Learner:
    """Drives a run from where it stands to its last step."""

    def __init__(  # noqa: PLR0913  the parts of one learner
        self,
        rank: Rank,
        stages: Stages,
        feeder: Feeder,
        evaluator: Evaluator | None,
        *,
        run_log: RunLog,
        lease: Lease,
        traces: Traces | None = None,
        activity: Activity | None = None,
    ) -> None:
        self._rank = rank
        self._config = rank.config
        self._stages = stages
        self._feeder = feeder
        self._evaluator = evaluator
        self._run_log = run_log
        self.activity = activity or Activity()
        self._lease = lease
        self._traces = traces or Traces(rank.config.run.id)
        self._thread = ThreadPoolExecutor(
            1, "train", initializer=lambda: torch.set_num_threads(rank.config.run.threads)
        )
        self.ledger = Ledger()
        self.progress = Progress(num_steps=rank.config.run.steps)
        self._gathering = Gathering(
            rank.config,
            stages,
            feeder,
            resamples=rank.method.zero_variance is ZeroVariance.RESAMPLE,
            ledger=self.ledger,
            progress=self.progress,
            lease=lease,
            traces=self._traces,
            activity=self.activity,
        )
        self._trained = TrainedGroups()
        has_teacher = rank.method.teacher is not TeacherNeed.NONE
        self._leaks = Leaks(rank.config.evaluation.leakage_patterns if has_teacher else ())
        self._batch_sha256 = ""
        self._before_s = 0.0
        self._started = time.monotonic()
        self._began_step_ns = time.time_ns()

    async def train(self, stopping: asyncio.Event) -> None:
        """Go to the last step, or until `stopping`; both end with a checkpoint and a summary."""
        if not stopping.is_set():  # else there may be nobody to ask, and a call waits for long
            await self._evaluate_if_due()  # also what a crash has cut short
        while self.step < self._config.run.steps and not stopping.is_set():
            self._started_step, self._began_step_ns = time.monotonic(), time.time_ns()
            groups = await self._gathering.batch(stopping, idle=self._idle)
            if groups is None:
                break
            await self._step(groups)
        await self._finish(interrupted=self.step < self._config.run.steps)

    @property
    def step(self) -> int:
        """Steps done, which is also the published policy version."""
        return self.progress.step

    def elapsed_s(self) -> float:
        """Seconds of this run, earlier parts of an interrupted one included."""
        return self._before_s + time.monotonic() - self._started

    # --- restart -------------------------------------------------------------------------------

    async def restore(self) -> None:
        """Bring weights and ledger to the last logged step, and publish; before `train`."""
        metrics.begin(self._config, self._rank.method, self.ledger, limit=self._feeder.limit)
        meta = await self._compute(self._rank.restore)
        if meta is not None:
            self.progress.step, self._before_s = meta.step, meta.elapsed_s
        self._run_log.config(self._config.model_dump(mode="json"))
        self._run_log.rewind(self.step)
        logged = self._rank.paths.batch_log.steps()
        sha256 = ""
        for step in logged:
            batch = self._rank.paths.batch_log.read(step, previous_sha256=sha256)
            sha256 = batch.sha256
            metrics.TRAINED_TWICE.inc(self._trained.note(batch.groups))
            for group in batch.groups:
                self.ledger.resolve(group)
            if step <= self.step:  # the others are executed again below
                self._feeder.note(batch.groups)
            if meta is not None and step == meta.step and meta.batch_sha256 != sha256:
                raise ServiceError(f"batch log: step {step} is not the one checkpoint {step} saw")
        self._batch_sha256 = sha256
        latest = self._rank.paths.weights.latest()
        _check_belongs(latest, last_logged=len(logged))
        if latest is None:
            await self._stages.clear()
            await self._publish(0)
        for step in range(self.step + 1, len(logged) + 1):
            log.info("step re-executed", extra={"step": step})
            metrics.REEXECUTED.inc()
            groups = list(self._rank.paths.batch_log.read(step).groups)
            spans = self._traces.repeated(step, groups)
            with spans.part("train"):
                learned = await self._lead(Command.TRAIN, step)
            self._record(step, learned, {}, groups=groups)
            self.progress.step = step
            if step > (self._rank.paths.weights.latest() or 0):
                with spans.part("publish"):
                    await self._publish(step)
                spans.published()
            else:
                spans.passed()
        if self.step and not self._is_published():
            await self._publish(self.step)
        metrics.POLICY_VERSION.set(self.step)

    def _is_published(self) -> bool:
        """Whether the version of this step is there and whole; a damaged one is written again."""
        weights = self._rank.paths.weights
        try:
            return weights.latest() == self.step == weights.verify(self.step).version
        except WeightsError as damage:
            log.warning("published again", extra={"step": self.step, "reason": str(damage)})
            return False

    # --- one step ------------------------------------------------------------------------------

    async def _step(self, groups: list[Group]) -> None:
        """Log, settle, train, publish and measure one batch."""
        step = self.step + 1
        if (cause := _hopeless(groups)) is not None:
            # Forgotten, not logged: they are made again once the cause is mended.
            await self._gathering.settle(groups)
            raise ServiceError(
                f"no group of this step has a verdict ({cause}); mend it and continue with --resume"
            )
        phases = {"wait": time.monotonic() - self._started_step}
        spans = self._traces.step(step, since_ns=self._began_step_ns)
        spans.gathered(groups)
        self._lease.check()
        failpoint("seal/log")
        self.activity.enter(State.BUSY, f"log, step {step}")
        with _timed(phases, "log"), spans.part("log"):
            self._batch_sha256 = self._rank.paths.batch_log.append(
                step, groups, previous_sha256=self._batch_sha256
            )
            failpoint("log/settle")
            metrics.TRAINED_TWICE.inc(self._trained.note(groups))
            await self._gathering.logged(groups)
        spans.logged()
        failpoint("settle/train")
        with _timed(phases, "train"), spans.part("train"):
            learned = await self._lead(Command.TRAIN, step)
        failpoint("train/publish")
        self.progress.step = step
        self._lease.check()
        with _timed(phases, "publish"), spans.part("publish"):
            await self._publish(step)
        spans.published()
        metrics.observe_batch(groups, learner_version=step - 1, leaks=self._leaks)
        self._record(step, learned, phases, groups=groups, learner_version=step - 1)
        failpoint("publish/checkpoint")
        # After the record: a restart from this checkpoint keeps the lines up to its step.
        if step % self._config.learner.checkpoint_every == 0:
            await self._checkpoint()
        failpoint("checkpoint/retain")
        self._retain()
        await self._evaluate_if_due()

    async def _idle(self) -> None:
        await self._lead(Command.IDLE)

    async def _publish(self, version: int) -> None:
        await self._lead(Command.PUBLISH, version)
        metrics.POLICY_VERSION.set(version)

    async def _checkpoint(self) -> None:
        version = teacher_version_at(self.step + 1, sync_every=self._config.teacher.sync_every)
        meta = Meta(
            run_id=self._config.run.id,
            step=self.step,
            batch_sha256=self._batch_sha256,
            teacher_version=version,
            elapsed_s=self.elapsed_s(),
        )
        with metrics.STEP_DURATION.labels("checkpoint").time():
            await self._lead(Command.CHECKPOINT, self.step, meta=meta)

    def _retain(self) -> None:
        """Keep the versions that a live reader, the teacher or a checkpoint may still name."""
        checkpoints = self._rank.paths.checkpoints
        keep = {checkpoints.meta(s).teacher_version for s in checkpoints.steps()}
        oldest = self.step - self._config.run.max_staleness - 1
        keep |= set(range(oldest, self.step + 1))
        sync = self._config.teacher.sync_every
        steps = range(max(1, oldest), self.step + 2)
        keep |= {teacher_version_at(s, sync_every=sync) for s in steps}
        self._rank.paths.weights.retain(keep)

    async def _evaluate_if_due(self) -> None:
        is_due = self.step % self._config.evaluation.every == 0 or (
            self.step == self._config.run.steps
        )
        if self._evaluator is None or not is_due:
            return
        if self.step not in {e["step"] for e in self._run_log.evaluations()}:
            await self._evaluate(self._evaluator)

    async def _evaluate(self, evaluator: Evaluator) -> None:
        waits_for = f"the evaluation of version {self.step} by rollout and verifier"
        self.activity.enter(State.WAITING_FOR_SERVICE, waits_for)
        async with self.activity.beating(Part.LOOP):  # each of its calls has a deadline
            started = time.monotonic()
            evaluation = await evaluator.measure(step=self.step, policy_version=self.step)
        self.progress.evaluation = evaluation
        self._run_log.evaluation(asdict(evaluation))
        metrics.STEP_DURATION.labels("evaluate").observe(time.monotonic() - started)
        metrics.HELD_OUT_ACCURACY.set(evaluation.greedy_accuracy)
        metrics.LEAKAGE.set(evaluation.leakage)
        log.info(
            "evaluated",
            extra={"step": self.step, "held_out_accuracy": evaluation.greedy_accuracy},
        )

    # --- records -------------------------------------------------------------------------------

    def _record(
        self,
        step: int,
        learned: dict[str, float],
        phases: dict[str, float],
        *,
        groups: list[Group],
        learner_version: int | None = None,
    ) -> None:
        """One line of metrics.jsonl, the gauges, and what the progress display shows."""
        self._feeder.note(groups)
        line = {
            "step": step,
            "time_s": self.elapsed_s(),
            **step_line(groups, phases, learned, learner_version=learner_version),
            **self._feeder.measures(),
        }
        self._run_log.metrics(line)
        self.progress.reward_mean = line["reward_mean"]
        self.progress.staleness_mean = line["staleness_mean"]
        metrics.observe_step(line, self.ledger)

    async def _finish(self, *, interrupted: bool) -> None:
        self._lease.check()
        if self.step and self.step not in self._rank.paths.checkpoints.steps():
            await self._checkpoint()
        await self._lead(Command.STOP)
        self._thread.shutdown(wait=True)
        self._run_log.summary(self._summary(interrupted=interrupted))
        if interrupted:
            log.info("run interrupted", extra={"step": self.step})
        else:
            log.info("run done", extra={"step": self.step})

    def _summary(self, *, interrupted: bool) -> dict[str, Any]:
        batch_log = self._rank.paths.batch_log
        logged = (g for step in batch_log.steps() for g in batch_log.read(step).groups)
        return {
            "run_id": self._config.run.id,
            "method": self._config.method.name,
            "seed": self._config.run.seed,
            "steps": self.step,
            "policy_version": self.step,
            **run_summary(self.ledger, logged, self._run_log.evaluations()),
            "duration_s": self.elapsed_s(),
            "interrupted": interrupted,
        }

    # --- the compute thread --------------------------------------------------------------------

    async def _lead(self, command: Command, step: int = 0, **extra: Any) -> dict[str, float]:
        if command is Command.CHECKPOINT:
            self.activity.enter(State.CHECKPOINTING, f"step {step}")
        elif command is not Command.IDLE:
            self.activity.enter(State.BUSY, f"{command.name.lower()}, step {step}")
        learned: dict[str, float] = await self._compute(
            lambda: self._rank.lead(command, step, **extra)
        )
        return learned

    async def _compute(self, call: Callable[[], Any]) -> Any:
        """Run on the one thread that touches the model; the loop stays responsive."""
        self.activity.tick()
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _check_belongs(latest: int | None, *, last_logged: int) -> None:
    """Refuse weights that cannot be this log's: a step is published after it was logged."""
    if latest is not None and latest > last_logged:
        raise ConfigError(
            f"weights: version {latest} is published and the batch log ends at step {last_logged}: "
            "they are another run's, or this run's folder was lost; choose another run.id, or "
            "delete the published versions"
        )


def _hopeless(groups: list[Group]) -> str | None:
    """Why not one group of a step could be judged, so that it would train on nothing; else None."""
    failed = [g for g in groups if g.outcome is GroupOutcome.FAILED]
    unjudged = [g for g in groups if g.reason == RejectReason.NO_VERDICT.value]
    if len(failed) + len(unjudged) < len(groups):
        return None
    causes = [g.reason for g in failed]
    causes += [t.verdict.reason for g in groups for t in g.trajectories if t.verdict is not None]
    texts = [text for g in groups for text in g.texts]
    return Withholding(texts)(causes[0]) if causes else "no trajectories"


@contextlib.contextmanager
def _timed(phases: dict[str, float], name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    phases[name] = time.monotonic() - started
