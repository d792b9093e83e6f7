"""The faults of `alerts.py`: each is caused as it would come about, and undone where it can be.

A fault is a context: it has struck when the context begins and is undone when it ends. What it
yields is when it struck, in seconds since the epoch.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from benchmarks.alert_scenes import CHAIN, Run, Scene
from tests.monitoring.moody_verifier import Mood

EXAMPLE = Path("examples/chain")
FOREVER = 'while True: print("x" * 100000)\nassert candidate'


def _checked_by_http(_: int, record: dict[str, Any]) -> dict[str, Any]:
    return record | {"verifier": {"kind": "http", "params": {"verifier": "chain"}}}


def _half_code(number: int, record: dict[str, Any]) -> dict[str, Any]:
    """Every other record is a task for code whose tests print without end."""
    if number % 2:
        return record
    params = {"tests": {"type": "assert", "code": FOREVER}}
    return record | {"verifier": {"kind": "code", "params": params}}


RUNS = {
    # 8 groups a step: when all of a step fail, the learner ends, and with it what it measures.
    "plain": Run(settings=('method.name="grpo"', "run.groups_per_step=8")),
    "headless": Run(settings=('data.train="FOLDER/prompts.jsonl"',), begins=False),
    "http": Run(
        settings=(
            'method.name="grpo"',
            'verifier.kinds=["http"]',
            'verifier.http.chain.url="http://127.0.0.1:PORT/"',
            'verifier.http.chain.allow_cidrs=["127.0.0.0/8"]',
            'verifier.http.chain.canary_file="FOLDER/canary.jsonl"',
            "verifier.http.chain.canary_every_s=3",
            "verifier.http.chain.try_timeout_s=2",
            "verifier.http.chain.total_timeout_s=6",
            "verifier.http.chain.retries=1",
        ),
        records=_checked_by_http,
    ),
    "leaking": Run(
        settings=(
            'method.name="grpo+opsd"',
            'verifier.kinds=["exact", "code"]',
            'verifier.min_isolation="T3"',
            "learner.lr=2e-3",
            "learner.warmup_steps=0",
            "teacher.sync_every=1",
            "run.max_staleness=0",
        ),
        records=_half_code,
    ),
    "credit": Run(
        settings=(
            "method.eps_w=0.000001",
            "run.max_staleness=0",
            f'teacher.template="Reference: {"{privileged} " * 120}{{prompt}}"',
        ),
        is_broken=True,
    ),
    "rounded": Run(
        settings=(
            'method.name="grpo"',
            "run.max_staleness=2",
            "learner.microbatch_tokens=64",
            "rollout.max_batch=64",
        ),
        is_quantized=True,
    ),
}


Strikes = Callable[[Scene], contextlib.AbstractAsyncContextManager[float]]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One scenario."""

    run: str
    says: str
    """What is done, for the table."""
    fires: Mapping[str, Mapping[str, str]]
    """Alerts that must, with labels that they must have."""
    strikes: Strikes
    can_be_undone: bool = True
    from_start: bool = False
    """It lies in the run's settings, so that others of its kind are there at the same time."""
    within_s: float = 90.0
    """Scaled seconds in which all of them fire."""
    for_s: float = 0.0
    """How long it lasts at least, to see what fires beside them."""


FAULTS: dict[str, Fault] = {}


def fault(run: str, fires: Mapping[str, Mapping[str, str]], **more: Any) -> Any:
    """Register a context as a fault by its name; its docstring is what the table says."""

    def register(strikes: Callable[[Scene], AsyncIterator[float]]) -> Strikes:
        context: Strikes = contextlib.asynccontextmanager(strikes)
        says = (strikes.__doc__ or "").rstrip(".")
        FAULTS[strikes.__name__] = Fault(run=run, says=says, fires=fires, strikes=context, **more)
        return context

    return register


# --- processes ------------------------------------------------------------------------------------


@fault("plain", {"RlsdServiceDown": {"service": "learner"}}, for_s=20.0)
async def learner_stopped(scene: Scene) -> AsyncIterator[float]:
    """Learner SIGSTOPped."""
    scene.signal("learner", signal.SIGSTOP)
    yield time.time()
    scene.signal("learner", signal.SIGCONT)


@fault(
    "plain",
    {"RlsdServiceStalled": {"service": "learner"}, "RlsdLearnerStalled": {}},
)
async def learner_hangs(scene: Scene) -> AsyncIterator[float]:
    """A file that the learner writes each step hangs, as on a dead volume: a pipe, unread."""
    file = scene.config.run_dir / "metrics.jsonl"
    kept, pipe = file.with_suffix(".kept"), file.with_suffix(".pipe")
    os.mkfifo(pipe)
    file.rename(kept)
    pipe.rename(file)
    yield time.time()
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb"):
        await asyncio.sleep(0.5)  # the writer has opened it, so that it goes on
        kept.rename(file)
        await asyncio.sleep(1)


@fault(
    "plain",
    {"RlsdServiceDown": {"service": "rollout"}, "RlsdLearnerStarved": {}},
)
async def rollout_gone(scene: Scene) -> AsyncIterator[float]:
    """All rollout killed and kept away."""
    async with scene.without("rollout"):
        yield time.time()


@fault("plain", {"RlsdLearnerStarved": {}, "RlsdQueueAge": {"stage": "rollout"}})
async def rollout_hangs(scene: Scene) -> AsyncIterator[float]:
    """Reading a version's manifest hangs rollout, as on a dead volume: a pipe."""
    async with scene.damaged_before_it_is_read("MANIFEST.json") as file:
        content = file.read_bytes()
        pipe = file.with_name("pipe")
        os.mkfifo(pipe)
        pipe.rename(file)
    yield time.time()
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_NONBLOCK), "wb") as writer:
        writer.write(content)
    whole = file.with_name("whole")
    whole.write_bytes(content)
    whole.rename(file)


@fault(
    "plain",
    {"RlsdServiceNotReady": {"service": "rollout"}},
)
async def replica_without_weights(scene: Scene) -> AsyncIterator[float]:
    """A second rollout whose volume has no weights."""
    empty = scene.path.parents[2] / "empty" / scene.config.run.id / "weights"
    empty.mkdir(parents=True, exist_ok=True)
    async with scene.second_rollout(empty):
        yield time.time()


@fault("headless", {"RlsdLearnerMissing": {}}, from_start=True)
async def learner_dies_at_start(scene: Scene) -> AsyncIterator[float]:
    """The learner's prompts are not there, so that it dies before its first scrape, each time."""
    yield time.time()
    shutil.copy(CHAIN, scene.config.data.train)


@fault("plain", {"RlsdWeightSkew": {}}, within_s=150.0)
async def replica_behind(scene: Scene) -> AsyncIterator[float]:
    """A second rollout whose volume stays at one version."""
    stale = scene.path.parents[2] / "stale" / scene.config.run.id / "weights"
    stale.mkdir(parents=True, exist_ok=True)
    while True:
        version = scene.store.latest()
        assert version is not None
        with contextlib.suppress(FileNotFoundError, shutil.Error):  # it is deleted already
            shutil.copytree(scene.store.path(version), stale / scene.store.path(version).name)
            break
    async with scene.second_rollout(stale):
        yield time.time()


# --- Redis ----------------------------------------------------------------------------------------


@fault("plain", {"RlsdQueuesUnreachable": {}}, for_s=25.0)
async def redis_gone(scene: Scene) -> AsyncIterator[float]:
    """Redis killed and kept away."""
    async with scene.without("redis"):
        yield time.time()


@fault("plain", {"RlsdQueuesUnreachable": {}})
async def redis_hangs(scene: Scene) -> AsyncIterator[float]:
    """Redis SIGSTOPped: connected, without an answer."""
    scene.supervisor.signal("redis", signal.SIGSTOP)
    yield time.time()
    scene.supervisor.signal("redis", signal.SIGCONT)


@fault("plain", {"RlsdRedisMemory": {}})
async def redis_nearly_full(scene: Scene) -> AsyncIterator[float]:
    """CONFIG SET maxmemory: 115 % of what is used."""
    client: Any = redis.Redis.from_url(scene.parts.redis_url, socket_timeout=5.0)
    client.config_set("maxmemory", int(1.15 * client.info("memory")["used_memory"]))
    yield time.time()
    client.config_set("maxmemory", 0)


# --- weights --------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _cut_in_half(scene: Scene) -> AsyncIterator[None]:
    async with scene.damaged_before_it_is_read("model.safetensors") as file:
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
    yield
    if file.parent.exists():  # else the learner has mended it, or newer ones were read
        file.write_bytes(whole)


@fault("plain", {"RlsdWeightInstallFailures": {"service": "rollout", "reason": "damaged"}})
async def weights_damaged(scene: Scene) -> AsyncIterator[float]:
    """A published version cut in half on disk."""
    async with _cut_in_half(scene):
        yield time.time()


@fault("leaking", {"RlsdDeadLetters": {"stage": "rollout"}})
async def weights_damaged_on_policy(scene: Scene) -> AsyncIterator[float]:
    """A published version cut in half on disk, with run.max_staleness = 0."""
    async with _cut_in_half(scene):
        yield time.time()


@fault(
    "plain",
    {"RlsdWeightInstallFailures": {"service": "rollout", "reason": "probe"}},
)
async def weights_others(scene: Scene) -> AsyncIterator[float]:
    """A published version whose files are whole and whose weights are others."""
    async with scene.damaged_before_it_is_read("model.safetensors") as file:
        manifest = file.with_name("MANIFEST.json")
        whole, said = file.read_bytes(), manifest.read_text()
        other = (EXAMPLE / "base" / file.name).read_bytes()
        manifest.write_text(
            said.replace(hashlib.sha256(whole).hexdigest(), hashlib.sha256(other).hexdigest())
        )
        file.write_bytes(other)
    yield time.time()
    if file.parent.exists():
        file.write_bytes(whole)
        manifest.write_text(said)


# --- verifiers ------------------------------------------------------------------------------------


def _mood(mood: Mood) -> Callable[[Scene], AsyncIterator[float]]:
    async def strikes(scene: Scene) -> AsyncIterator[float]:
        scene.verifier.mood = mood
        yield time.time()
        scene.verifier.mood = Mood.RIGHT

    return strikes


for name_, mood_, says_, fires_ in (
    (
        "verifier_fails",
        Mood.AT_TIMES,
        "One check in five meets a 500, a hang, 10 MB, broken JSON or NaN",
        {"RlsdVerifierErrorBudgetBurn": {"kind": "http"}},
    ),
    (
        "verifier_hangs",
        Mood.HANGING,
        "The verifier answers nothing",
        {
            "RlsdVerifierCircuitOpen": {"verifier": "chain"},
            "RlsdQueueAge": {"stage": "verify"},
            "RlsdLearnerStarved": {},
        },
    ),
    (
        "verifier_lies",
        Mood.LYING,
        "The verifier gives 1 to everything",
        {"RlsdVerifierCanaryWrong": {"verifier": "chain"}},
    ),
):
    strikes_ = _mood(mood_)
    strikes_.__name__, strikes_.__doc__ = name_, says_
    fault("http", fires_, within_s=150.0)(strikes_)


# --- learning -------------------------------------------------------------------------------------


def _always(run: str, name: str, says: str, fires: Mapping[str, Mapping[str, str]]) -> None:
    async def strikes(scene: Scene) -> AsyncIterator[float]:
        first = scene.config.run_dir / "batches" / "00000001.batch"
        yield first.stat().st_mtime

    strikes.__name__, strikes.__doc__ = name, says
    fault(run, fires, can_be_undone=False, from_start=True, within_s=240.0)(strikes)


_always(
    "leaking",
    "tests_print_without_end",
    "Half of the tasks are code whose tests print without end, so that none passes",
    {"RlsdSandboxKills": {}, "RlsdGroupsUninformative": {"kind": "code"}},
)
_always("leaking", "leaking_method", "GRPO+OPSD on the demo, rate 2e-3", {"RlsdLeakage": {}})
_always(
    "credit",
    "token_weights_clipped",
    "method.eps_w = 1e-6",
    {"RlsdCreditSaturated": {}},
)
_always(
    "credit",
    "long_privileged_context",
    "A template that repeats the reference 120 times",
    {"RlsdTeacherOverhead": {}},
)
_always(
    "rounded",
    "weights_rounded",
    "Rollout samples from weights rounded to nine levels; its probe's tolerance is raised",
    {"RlsdLogprobMismatch": {}},
)
_always(
    "rounded",
    "learner_slow",
    "run.max_staleness = 2 and a learner slowed by tiny microbatches",
    {"RlsdStalenessAtBound": {}},
)


@fault(
    "plain",
    {"RlsdRewardCollapse": {}, "RlsdEntropyCollapse": {}},
    can_be_undone=False,
    within_s=200.0,
)
async def rate_absurd(scene: Scene) -> AsyncIterator[float]:
    """The learner goes on with a learning rate of 1."""
    await scene.steps(40)  # of a policy that is well
    await _restarted(scene, "learner.lr=1.0")
    await scene.steps(1)
    yield time.time()


@fault(
    "rounded",
    {"RlsdNonFiniteStep": {}},
    can_be_undone=False,
    within_s=200.0,
)
async def rate_overflows(scene: Scene) -> AsyncIterator[float]:
    """The learner goes on with a learning rate of 1e35 (from its start, which takes seconds)."""
    await _restarted(scene, "learner.lr=1e35")
    yield time.time()


async def _restarted(scene: Scene, setting: str) -> None:
    """Return once another learner's process has begun."""
    learner = scene.child("learner")
    learner.command = [*learner.command, "--set", setting, "--set", "learner.warmup_steps=0"]
    pid = scene.supervisor.pid("learner")
    scene.signal("learner", signal.SIGKILL)
    await scene.supervisor.restarted("learner", pid)


# --- bugs -----------------------------------------------------------------------------------------


def _bug(name: str, file: str, says: str, alert: str) -> None:
    async def strikes(scene: Scene) -> AsyncIterator[float]:
        (scene.bugs / file).touch()
        yield time.time()
        (scene.bugs / file).unlink()

    strikes.__name__, strikes.__doc__ = name, f"A bug put in: {says}"
    fault("credit", {alert: {}}, can_be_undone=False)(strikes)


_bug(
    "outcomes_forgotten",
    "residual",
    "the ledger forgets outcomes",
    "RlsdIdentityResidual",
)
_bug("trained_again", "twice", "a group is put into two batches", "RlsdTrainedTwice")
_bug(
    "signs_flipped",
    "flips",
    "every other token's sign is turned",
    "RlsdCreditSignFlips",
)
