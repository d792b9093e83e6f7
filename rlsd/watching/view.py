"""What a reading means: the figures of `rlsd status` and `rlsd top`. Pure.

None is "not measured", and never 0. A rate or a mean is over the span between two readings; with
one reading, since the processes started.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rlsd.telemetry.activity import Snapshot, State
from rlsd.watching.asking import Answer, Queues
from rlsd.watching.reading import Reading, Told
from rlsd.watching.samples import Between, Samples, Span
from rlsd.wire.v1 import learner_service_pb2

_Status = learner_service_pb2.LearnerServiceGetStatusResponse
_UNJUDGED = ("error", "timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """admitted = trained + rejected + failed + in_flight + residual."""

    admitted: int
    trained: int
    rejected: Mapping[str, int]
    """By reason."""
    failed: Mapping[str, int]
    """By error."""
    in_flight: int
    residual: int
    trained_twice: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceView:
    """One service now, and where its time went."""

    name: str
    activity: Snapshot | None
    silence: str
    unread: str
    version: int | None
    """Of the weights: published, installed, or scored with; None before the first."""
    shares: Mapping[str, float]
    """Share of the span by state, largest first."""
    lacks: bool
    """It runs and says it is not ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageView:
    """What waits at one stage of the queue."""

    stage: str
    entries: int
    oldest_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """What the policy learns: of the last step, and of the last evaluation."""

    reward: float | None
    held_out_accuracy: float | None
    leakage: float | None
    entropy_nats: float | None
    groups: Mapping[str, float]
    """Judged groups of the span: all_pass, mixed, all_fail."""
    nonfinite_steps: int
    """Since the learner started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """What the teacher does to the advantage; all None for a method without one."""

    delta_abs_nats: float | None
    lam: float | None
    clip_low: float | None
    clip_high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Log-probs of the sampled tokens: learner against rollout, of the last step."""

    mean_nats: float | None
    p99_nats: float | None
    max_nats: float | None
    kl_nats: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """Of the span."""

    outcomes: Mapping[str, float]
    error_share: float | None
    open_circuits: Sequence[str]
    """Outside verifiers that are not asked now."""
    disbelieved: Sequence[str]
    """Those that were wrong about a canary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How the queue fared in the span."""

    redeliveries: int | None
    given_up: int | None
    dead_letters: int | None
    """All that Redis holds, at most 1000; of the run and not of the span."""
    memory_share: float | None
    """Of what Redis may use; None without a limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A run at one moment."""

    run_id: str
    method: str
    model: str
    step: int | None
    num_steps: int | None
    step_s: float | None
    """Mean duration of a step."""
    since_step_s: float | None
    """Since the last step ended, or the learner started."""
    account: Account | None
    services: Sequence[ServiceView]
    queue: Sequence[StageView] | None
    """None when Redis was not asked or is silent."""
    queue_silence: str
    learning: Learning
    credit: Credit
    gap: Gap
    staleness: Between | None
    """Where the largest of the span lies, in versions."""
    staleness_limit: float | None
    verdicts: Verdicts
    delivery: Delivery
    sync_s: Mapping[str, float] = field(default_factory=dict)
    """By service: mean time to publish a version, or to fetch, verify and install it."""
    span_s: float | None = None
    """None: since the processes started."""
    rewards: Sequence[float] = ()
    accuracies: Sequence[float] = ()

    @property
    def steps_per_hour(self) -> float | None:
        """At the present pace."""
        return 3600 / self.step_s if self.step_s else None

    @property
    def eta_s(self) -> float | None:
        """Seconds to the last step at the present pace."""
        if self.step is None or self.num_steps is None or self.step_s is None:
            return None
        return max(0, self.num_steps - self.step) * self.step_s


def make_view(now: Reading, before: Reading | None = None) -> View:
    """The figures of a reading; rates are since `before`, if there is one."""
    spans = {name: _span(told, name, before) for name, told in now.services.items()}
    learner = spans.get("learner", Span(Samples()))
    gauges = learner.now
    status = _status(now.services.get("learner"))
    at_s = gauges.value("rlsd_learner_last_step_timestamp_seconds")
    reward = gauges.value("rlsd_learner_reward_mean")
    return View(
        run_id=now.run_id,
        method=gauges.label("rlsd_run_info", "method"),
        model=gauges.label("rlsd_run_info", "model"),
        step=None if status is None else status.step,
        num_steps=None if status is None else status.num_steps,
        step_s=_step_s(learner),
        since_step_s=now.at_s - at_s if at_s else None,
        account=_account(now, gauges),
        services=[_service(told, spans[name]) for name, told in now.services.items()],
        queue=_queue(now),
        queue_silence=now.queues.silence if now.queues else "",
        learning=Learning(
            reward=reward if status is not None and status.step else None,
            held_out_accuracy=_accuracy(status),
            leakage=gauges.value("rlsd_credit_leakage_ratio"),
            entropy_nats=gauges.value("rlsd_learner_entropy_nats"),
            groups=learner.gains("outcome", "rlsd_learner_groups_judged_total"),
            nonfinite_steps=int(gauges.value("rlsd_learner_nonfinite_steps_total") or 0),
        ),
        credit=Credit(
            delta_abs_nats=gauges.value("rlsd_credit_delta_abs_mean_nats"),
            lam=gauges.value("rlsd_credit_mix_lambda"),
            clip_low=gauges.value("rlsd_credit_weight_clip_ratio", side="low"),
            clip_high=gauges.value("rlsd_credit_weight_clip_ratio", side="high"),
        ),
        gap=Gap(
            mean_nats=gauges.value("rlsd_learner_logprob_gap_nats", stat="mean"),
            p99_nats=gauges.value("rlsd_learner_logprob_gap_nats", stat="p99"),
            max_nats=gauges.value("rlsd_learner_logprob_gap_nats", stat="max"),
            kl_nats=gauges.value("rlsd_learner_mismatch_kl_nats"),
        ),
        staleness=learner.largest("rlsd_learner_staleness_versions", part="total"),
        staleness_limit=gauges.value("rlsd_learner_staleness_limit_versions"),
        verdicts=_verdicts(spans.get("verifier", Span(Samples()))),
        delivery=_delivery(spans, now.queues),
        sync_s={name: s for name, span in spans.items() if (s := _sync_s(span)) is not None},
        span_s=now.at_s - before.at_s if before else None,
        rewards=[x["reward_mean"] for x in now.steps],
        accuracies=[x["greedy_accuracy"] for x in now.evaluations],
    )


def _span(told: Told, name: str, before: Reading | None) -> Span:
    past = before.services.get(name) if before else None
    return Span(told.samples, past.samples if past else Samples())


def _status(learner: Told | None) -> _Status | None:
    status: _Status | None = learner.answer.status if learner else None
    return status


def _accuracy(status: _Status | None) -> float | None:
    if status is None or not status.HasField("held_out_accuracy"):
        return None
    return status.held_out_accuracy


def _step_s(learner: Span) -> float | None:
    """Mean duration of a step, its wait and its share of evaluations included."""
    name = "rlsd_learner_step_duration_seconds"
    for span in (learner, Span(learner.now)):  # no step has ended in the span: since the start
        num_steps = span.gain(f"{name}_count", phase="train")
        seconds = span.gain(f"{name}_sum")
        if num_steps and seconds is not None:
            return seconds / num_steps
    return None


def _account(now: Reading, gauges: Samples) -> Account | None:
    status = _status(now.services.get("learner"))
    if status is None:
        return None
    rejected, failed = dict(status.rejected), dict(status.failed)
    settled = status.trained + sum(rejected.values()) + sum(failed.values())
    twice = gauges.value("rlsd_learner_trained_twice_total")
    return Account(
        admitted=status.admitted,
        trained=status.trained,
        rejected=rejected,
        failed=failed,
        in_flight=status.in_flight,
        residual=status.admitted - settled - status.in_flight,
        trained_twice=None if twice is None else int(twice),
    )


def _service(told: Told, span: Span) -> ServiceView:
    answer = told.answer
    ready = span.now.value("rlsd_service_ready")
    state = answer.activity.state if answer.activity else None
    return ServiceView(
        name=answer.service,
        activity=answer.activity,
        silence=answer.silence,
        unread=told.unread,
        version=_version(answer),
        shares=_shares(span.gains("state", "rlsd_service_state_seconds_total")),
        lacks=ready == 0 and state not in (State.STARTING, State.STOPPING),
    )


def _version(answer: Answer) -> int | None:
    match answer:
        case Answer(status=None) | Answer(service="verifier"):
            return None
        case Answer(service="teacher", status=status):
            version = int(status.teacher_version)
        case Answer(status=status):
            version = int(status.policy_version)
    return None if version < 0 else version


def _shares(seconds: Mapping[str, float]) -> dict[str, float]:
    total = sum(seconds.values())
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    return {state: s / total for state, s in ordered} if total else {}


def _queue(now: Reading) -> list[StageView] | None:
    if now.queues is None or not now.queues.backlog:
        return None
    return [
        StageView(stage=b.stage.value, entries=b.entries, oldest_age_s=b.oldest_age_s)
        for b in now.queues.backlog
    ]


def _verdicts(verifier: Span) -> Verdicts:
    outcomes = verifier.gains("outcome", "rlsd_verifier_verdicts_total")
    total = sum(outcomes.values())
    circuits = verifier.now.by("verifier", "rlsd_verifier_http_circuit_state")
    canaries = verifier.now.by("verifier", "rlsd_verifier_http_canary_state")
    return Verdicts(
        outcomes=outcomes,
        error_share=sum(outcomes.get(o, 0.0) for o in _UNJUDGED) / total if total else None,
        open_circuits=[name for name, state in circuits.items() if state == 2],
        disbelieved=[name for name, state in canaries.items() if state == 2],
    )


def _delivery(spans: Mapping[str, Span], queues: Queues | None) -> Delivery:
    gauges = spans["learner"].now if "learner" in spans else Samples()
    used = gauges.value("rlsd_queue_memory_used_bytes")
    limit = gauges.value("rlsd_queue_memory_limit_bytes")
    return Delivery(
        redeliveries=_total(spans, "rlsd_queue_redeliveries_total"),
        given_up=_total(spans, "rlsd_queue_dead_letters_total"),
        dead_letters=len(queues.letters) if queues and queues.backlog else None,
        memory_share=used / limit if used is not None and limit else None,
    )


def _total(spans: Mapping[str, Span], name: str) -> int | None:
    found = [gain for span in spans.values() if (gain := span.gain(name)) is not None]
    return int(sum(found)) if found else None


def _sync_s(span: Span) -> float | None:
    """Mean seconds of one version, its phases one after the other; a pause is part of one."""
    name = "rlsd_weight_sync_duration_seconds"
    for one in (span, Span(span.now)):
        means = [one.mean(name, phase=p) for p in ("publish", "fetch", "verify", "install")]
        if found := [mean for mean in means if mean is not None]:
            return sum(found)
    return None
