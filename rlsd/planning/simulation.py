"""The learner's loop in simulated time, under the rules of the real one.

The same as in `services/learner/gathering.py`, to which `benchmarks/asynchrony.py` holds it:
admission happens only while the learner gathers, up to `credit_limit`; any `groups_per_step` groups
that are back make a batch, lowest indices first, rejected ones included; credits return before the
training; staleness is checked when a group is consumed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import simpy

from rlsd.errors import ConfigError
from rlsd.planning.rates import Rates
from rlsd.planning.replicas import (
    BatchRollout,
    ContinuousRollout,
    Events,
    OnUpdate,
    Rollout,
    Teacher,
    Weights,
)
from rlsd.planning.stage import InFlight, Queue
from rlsd.planning.workload import Workload
from rlsd.staleness import credit_limit, is_stale, staleness

_MOST_REJECTED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a run's configuration says about the loop."""

    steps: int
    groups_per_step: int
    max_staleness: int
    group_size: int
    resamples: bool = False
    """A rejected group gives its place to another one."""
    uses_teacher: bool = True
    is_continuous: bool = True
    """The rollout engine takes sequences in between; else batch by batch."""
    on_update: OnUpdate = "continue"
    max_batch: int = 256
    """Completions of a rollout replica in hand."""
    max_teacher_groups: int = 32
    max_checks: int = 64
    evaluate_every: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Replicas of rollout and teacher, and devices of the learner."""

    rollout: int
    teacher: int
    learner: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step as metrics.jsonl has it."""

    wait_s: float
    step_s: float
    written_tokens: int


@dataclass(slots=True, kw_only=True)
class Account:
    """What happened."""

    steps: list[Step] = field(default_factory=list)
    duration_s: float = 0.0
    """Evaluations included."""
    admitted: int = 0
    trained: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    most_in_flight: int = 0
    max_staleness: int = 0
    """Of trained groups, in versions."""
    rollout_busy: float = 0.0
    """Share of the replicas' time."""
    teacher_busy: float = 0.0


def simulate(rules: Rules, rates: Rates, workload: Workload, split: Split) -> Account:
    """A run from its first step to its last."""
    return _Run(rules, rates, workload, split).account()


class _Run:
    """The stages and the learner of one simulated run."""

    def __init__(self, rules: Rules, rates: Rates, workload: Workload, split: Split) -> None:
        self._env = env = simpy.Environment()
        self._rules, self._rates, self._workload, self._split = rules, rates, workload, split
        self._weights = Weights(env)
        self._to_roll, self._to_teach, self._to_train = Queue(env), Queue(env), Queue(env)
        self._checks = simpy.Resource(env, max(1, rules.max_checks // rules.group_size))
        self._rollouts = [self._rollout() for _ in range(split.rollout)]
        self._teachers = [
            self._teacher() for _ in range(split.teacher if rules.uses_teacher else 0)
        ]
        self._limit = credit_limit(rules.groups_per_step, max_staleness=rules.max_staleness)
        self._step = 0
        self._in_flight: set[int] = set()
        self._ready: dict[int, InFlight] = {}
        self._account = Account()

    def account(self) -> Account:
        """Run to the last step."""
        self._env.run(self._env.process(self._learn()))
        found, elapsed_s = self._account, max(self._env.now, 1e-12)
        shares = [
            min(1.0, sum(r.busy_s for r in replicas) / (elapsed_s * max(1, len(replicas))))
            for replicas in (self._rollouts, self._teachers)
        ]
        return replace(
            found,
            duration_s=self._env.now,
            in_flight=len(self._in_flight),
            rollout_busy=shares[0],
            teacher_busy=shares[1],
        )

    # --- the stages ----------------------------------------------------------------------------

    def _rollout(self) -> Rollout:
        rules = self._rules
        kind = ContinuousRollout if rules.is_continuous else BatchRollout
        replica = kind(
            self._to_roll,
            self._weights,
            self._rates,
            max_groups=max(1, rules.max_batch // rules.group_size),
            deliver=lambda group: self._start(self._check(group)),
        )
        if isinstance(replica, ContinuousRollout):
            self._start(replica.run(rules.on_update))
        else:
            self._start(replica.run(rules.max_batch))
        return replica

    def _teacher(self) -> Teacher:
        replica = Teacher(
            self._to_teach,
            self._rates,
            max_groups=self._rules.max_teacher_groups,
            deliver=lambda group: self._start(self._hop(group, self._to_train)),
        )
        self._start(replica.run())
        return replica

    def _check(self, group: InFlight) -> Events:
        yield self._env.timeout(self._rates.hop_s)
        with self._checks.request() as free:
            yield free
            yield self._env.timeout(group.load.verify_s)
        skips_teacher = group.load.is_rejected or not self._teachers
        yield from self._hop(group, self._to_train if skips_teacher else self._to_teach)

    def _hop(self, group: InFlight, queue: Queue) -> Events:
        yield self._env.timeout(self._rates.hop_s)
        queue.put(group)

    def _start(self, events: Events) -> None:
        self._env.process(events)

    # --- the learner ---------------------------------------------------------------------------

    def _learn(self) -> Events:
        while self._step < self._rules.steps:
            started = self._env.now
            yield from self._gather()
            wait_s = self._env.now - started
            batch = self._seal()
            yield self._env.timeout(self._rates.log_s)
            self._in_flight -= {group.index for group in batch}
            yield self._env.timeout(self._train_s(batch))
            self._step += 1
            yield self._env.timeout(self._rates.publish_s)
            self._weights.publish(self._step)
            self._account.steps.append(
                Step(
                    wait_s=wait_s,
                    step_s=self._env.now - started,
                    written_tokens=sum(g.load.written_tokens for g in batch),
                )
            )
            every = self._rules.evaluate_every
            if every and self._step % every == 0:
                yield self._env.timeout(self._rates.evaluate_s)

    def _gather(self) -> Events:
        while True:
            self._admit()
            if len(self._ready) >= self._rules.groups_per_step:
                return
            if not self._to_train.entries:
                yield self._to_train.bell
            for group in self._to_train.claim(len(self._to_train.entries)):
                self._receive(group)

    def _admit(self) -> None:
        account, rules = self._account, self._rules
        free = self._limit - len(self._in_flight)
        if not rules.resamples:
            free = min(free, rules.steps * rules.groups_per_step - account.admitted)
        for index in range(account.admitted, account.admitted + max(0, free)):
            group = InFlight(
                index=index, load=self._workload.load(index), required_version=self._step
            )
            self._in_flight.add(index)
            self._start(self._hop(group, self._to_roll))
        account.admitted += max(0, free)
        account.most_in_flight = max(account.most_in_flight, len(self._in_flight))

    def _receive(self, group: InFlight) -> None:
        if self._rules.resamples and (reason := self._reason(group)):
            account = self._account
            account.rejected[reason] += 1
            self._in_flight.discard(group.index)
            if account.rejected.total() > _MOST_REJECTED * (account.trained + self._limit):
                raise ConfigError(
                    f"plan: over {_MOST_REJECTED} groups are rejected ({reason}) for each that is "
                    f"trained on, and the method draws others instead; lower that share"
                )
        else:
            self._ready[group.index] = group

    def _reason(self, group: InFlight) -> str:
        """Why a group is not trained on; empty when it is."""
        if group.load.is_rejected:
            return "verdicts"
        bound = self._rules.max_staleness
        return "stale" if is_stale(self._step, group.min_version, max_staleness=bound) else ""

    def _seal(self) -> list[InFlight]:
        indices = sorted(self._ready)[: self._rules.groups_per_step]
        return [self._ready.pop(index) for index in indices]

    def _train_s(self, batch: list[InFlight]) -> float:
        """Seconds of the training; the batch's groups have their outcomes from here on."""
        positions = 0
        for group in batch:
            if reason := self._reason(group):
                self._account.rejected[reason] += 1
                continue
            self._account.trained += 1
            age = staleness(self._step, group.min_version)
            self._account.max_staleness = max(self._account.max_staleness, age)
            positions += group.load.read_tokens
        rates = self._rates
        return rates.train_s + rates.train_s_per_token * positions / self._split.learner
