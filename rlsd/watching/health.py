"""What is wrong with a run, in words. Pure.

The conditions and bounds are those of the alert rules, as far as one look can tell: an alert also
asks how long it has been so.
"""

from __future__ import annotations

from collections.abc import Iterator

from rlsd.telemetry.activity import State, duration
from rlsd.watching.view import ServiceView, View

NO_STEP_S = 900.0
"""Without a step although the learner does not wait for groups."""
STARVED_S = 1800.0
"""Without a step because no groups arrive."""
SLOW_STEPS = 3.0
"""Both bounds are at least this many steps long: a large run's step may take an hour."""
OLDEST_AGE_S = 1200.0
ERROR_SHARE = 14.4 * 0.005
"""A budget of 0.5 % of verdicts, spent 14.4 times too fast."""
FEWEST_VERDICTS = 50
"""Before their share of errors says anything."""
MISMATCH_KL_NATS = 0.05
LEAKAGE = 0.1
MEMORY_SHARE = 0.8
GIVEN_UP = 20


def problems(view: View) -> list[str]:
    """One line for each thing that is wrong, the gravest first; none when the run is healthy."""
    return [
        *_correctness(view),
        *_silence(view),
        *_progress(view),
        *_verdicts(view),
        *_learning(view),
        *_queue(view),
    ]


def _correctness(view: View) -> Iterator[str]:
    if view.account is None:
        return
    if view.account.residual:
        yield f"groups without an outcome: {view.account.residual}; stop the run and audit it"
    if twice := view.account.trained_twice:
        yield f"groups trained twice: {twice}; stop the run and audit it"


def _silence(view: View) -> Iterator[str]:
    runs = {s.name for s in view.services if s.activity}
    for service in view.services:
        if service.silence:
            yield f"{service.name}: {service.silence}"
        elif service.activity and service.activity.stalled:
            yield f"{service.name} has stalled: {service.activity.stalled}"
        elif service.lacks and not _waits_for_first_weights(service):
            yield f"{service.name} is not ready: {_says(service)}"
        if service.unread and service.name in runs:
            yield f"{service.name}'s metrics cannot be read: {service.unread}"
    if view.queue_silence:
        yield f"redis: {view.queue_silence}"


def _waits_for_first_weights(service: ServiceView) -> bool:
    """A stage that is up before the learner has published anything is as it should be."""
    state = service.activity.state if service.activity else None
    return service.version is None and state is State.WAITING_FOR_WEIGHTS


def _says(service: ServiceView) -> str:
    return service.activity.words() if service.activity else ""


def _progress(view: View) -> Iterator[str]:
    learner = next((s for s in view.services if s.name == "learner"), None)
    if learner is None or learner.activity is None or view.since_step_s is None:
        return
    waits = learner.activity.state in (State.WAITING_FOR_WORK, State.WAITING_FOR_SERVICE)
    bound = max(STARVED_S if waits else NO_STEP_S, SLOW_STEPS * (view.step_s or 0.0))
    if view.since_step_s <= bound:
        return
    since = duration(view.since_step_s)
    if waits:
        yield f"starved: no step for {since}, the learner waits for {learner.activity.detail}"
    else:
        yield f"no step for {since}: the learner is {learner.activity.words()}"


def _verdicts(view: View) -> Iterator[str]:
    found = view.verdicts
    for name in found.disbelieved:
        yield f"verifier {name!r} is not believed: it was wrong about a canary"
    for name in found.open_circuits:
        yield f"verifier {name!r} is not asked: its circuit is open"
    enough = sum(found.outcomes.values()) >= FEWEST_VERDICTS
    if enough and found.error_share is not None and found.error_share > ERROR_SHARE:
        share = f"{found.error_share:.0%}"
        yield f"{share} of verdicts are errors or timeouts (bound {ERROR_SHARE:.1%})"


def _learning(view: View) -> Iterator[str]:
    learning, gap = view.learning, view.gap
    if learning.nonfinite_steps:
        yield f"steps not taken, loss or gradient not finite: {learning.nonfinite_steps}"
    if gap.kl_nats is not None and gap.kl_nats > MISMATCH_KL_NATS:
        yield (
            f"rollout and learner disagree on log-probs: KL {gap.kl_nats:.3f} nats "
            f"(bound {MISMATCH_KL_NATS:g})"
        )
    if learning.leakage is not None and learning.leakage > LEAKAGE:
        yield f"{learning.leakage:.0%} of completions cite what only the teacher has read"
    if (
        view.staleness is not None
        and view.staleness_limit is not None
        and view.staleness.above >= view.staleness_limit
    ):
        yield (
            f"trained on groups more than {view.staleness.above:g} versions old "
            f"(bound {view.staleness_limit:g})"
        )


def _queue(view: View) -> Iterator[str]:
    for stage in view.queue or ():
        if stage.oldest_age_s > OLDEST_AGE_S:
            yield f"a group has been at {stage.stage} for {duration(stage.oldest_age_s)}"
    if (view.delivery.given_up or 0) > GIVEN_UP:
        yield f"groups given up: {view.delivery.given_up}; rlsd why says for what"
    if view.delivery.memory_share is not None and view.delivery.memory_share > MEMORY_SHARE:
        yield f"redis uses {view.delivery.memory_share:.0%} of the memory it may"
