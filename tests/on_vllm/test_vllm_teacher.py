"""The teacher on vLLM gives the scores that the transformers scorer gives."""

import asyncio
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import pytest_asyncio
from builders import make_group, make_prompt, make_trajectory
from published_policy import BASE, Policy
from test_vllm_runs import command, lines, summary
from vllm_helpers import Held, request

from rlsd.batch_log import BatchLog
from rlsd.config import load
from rlsd.inference.vllm.engine import VllmEngine
from rlsd.policy.loading import load_tokenizer, prompt_ids
from rlsd.privileged.context import policy_messages
from rlsd.trajectory import GroupPlan, PrivilegedSource, TeacherNeed
from rlsd.weights import FolderStore
from services.teacher.rows import RowMaker
from services.teacher.scorers.hosted import HostedScorer
from services.teacher.scorers.siblings import score_siblings
from services.teacher.scorers.transformers import TransformersScorer

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("default"),  # vLLM leaves sockets and threads to the interpreter
    pytest.mark.asyncio(loop_scope="session"),
]

CONFIG = "examples/chain/rlsd.toml"
TEMPLATE = "Reference: {privileged} {prompt}"
TOKENIZER = load_tokenizer(BASE)
NUM_VOCABULARY = 26
BLOCK = 32
"""Tokens of one block of the prefix cache; the smallest that vLLM takes on a CPU."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def engine():
    """One whose cache is fine enough for the example's short prompts."""
    arguments = {"block_size": BLOCK, "max_logprobs": NUM_VOCABULARY}
    async with VllmEngine(BASE, dtype="float32", max_batch=64, arguments=arguments) as engine:
        yield engine


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    policy = Policy(FolderStore(tmp_path_factory.mktemp("weights"), "run"))
    for _ in range(4):
        policy.publish()
    return policy


@pytest.fixture(scope="module")
def scorers(engine, policy):
    """The one under test, and the one that it must agree with."""
    maker = RowMaker(TOKENIZER, template=TEMPLATE, max_prefix_tokens=200)
    weights = Held(engine, policy.store).weights
    hosted = HostedScorer(engine, weights, maker, num_vocabulary=NUM_VOCABULARY)
    return hosted, TransformersScorer(BASE, policy.store, maker)


def prompt_of(num_operations, number):
    """As in the example; more operations make it longer."""
    digits = np.random.default_rng(number).integers(0, 10, num_operations + 1)
    question = " - ".join(str(d) for d in digits)
    return make_prompt(f"Question: {question} = ?", privileged="7 2 9 4 1 0 3 3 8 2 6 5")


def plain_ids(prompt):
    return tuple(prompt_ids(TOKENIZER, policy_messages(prompt)))


def group(completions, *, num_operations=12, number=0, need=TeacherNeed.SAMPLED, **plan):
    prompt = prompt_of(num_operations, number)
    made = make_group(
        rewards=tuple(float(n % 2) for n in range(len(completions))),
        index=number,
        prompt=prompt,
        plan=GroupPlan(teacher=need, **plan),
        prompt_token_ids=np.asarray(plain_ids(prompt), dtype=np.int32),
    )
    trajectories = tuple(
        replace(make_trajectory(n, reward=float(n % 2)), token_ids=np.asarray(c, dtype=np.int32))
        for n, c in enumerate(completions)
    )
    return replace(made, trajectories=trajectories)


async def drawn(engine, *, num=8, num_operations=12, number=0, temperature=1.0, after=()):
    """Completions as the policy writes them, all with the same first tokens."""
    prompt = plain_ids(prompt_of(num_operations, number)) + after
    wanted = [
        request(prompt, seed=seed, temperature=temperature, max_tokens=24 - len(after))
        for seed in range(num)
    ]
    samples = await asyncio.gather(*(engine.sample(w) for w in wanted))
    return [after + tuple(s.token_ids.tolist()) for s in samples]


async def siblings(engine, kind, **where):
    """Eight completions of one prompt."""
    if kind == "different":
        return await drawn(engine, **where)
    [likeliest] = await drawn(engine, num=1, temperature=0.0, **where)
    match kind:
        case "identical":
            return [likeliest] * 8
        case "alike at first":
            return await drawn(engine, after=likeliest[:15], **where)
        case "one the beginning of another":
            return [likeliest[:n] for n in (3, 24, 9, 9, 17, 1, 24, 12)]


KINDS = ("different", "alike at first", "identical", "one the beginning of another")


def assert_equal_scores(found, expected, *, relative=0.0):
    """To 1e-5 nats, and as much of the log-prob itself.

    Some of it is needed for tokens that the policy would hardly draw: at -17 nats the two differ
    by float32's rounding of logits that are as large.
    """
    for one, other in zip(found.trajectories, expected.trajectories, strict=True):
        assert one.scores.teacher_version == other.scores.teacher_version
        for field in ("teacher_logprobs", "student_logprobs", "teacher_support_logprobs"):
            a, b = getattr(one.scores, field), getattr(other.scores, field)
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(a, b, atol=1e-5, rtol=relative)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_operations", range(12, 28))
async def test_scores_equal_transformers_wherever_the_prefix_ends_in_its_block(
    engine, scorers, kind, num_operations
):
    """Sixteen lengths, two tokens apart: each end of a prefix within a block, every other one."""
    hosted, reference = scorers
    where = {"num_operations": num_operations, "number": num_operations}
    wanted = group(await siblings(engine, kind, **where), **where)
    [expected] = reference.score_together([wanted])
    assert_equal_scores(await hosted.score(wanted), expected)
    assert_equal_scores(await hosted.score(wanted), expected)  # all of it is cached now


@pytest.mark.parametrize("need", [TeacherNeed.TEACHER_SUPPORT, TeacherNeed.STUDENT_SUPPORT])
@pytest.mark.parametrize("num_support", [1, 5, 64])
async def test_supports_equal_transformers(engine, scorers, need, num_support):
    hosted, reference = scorers
    for kind in KINDS:
        wanted = group(await siblings(engine, kind), need=need, num_support=num_support)
        [expected] = reference.score_together([wanted])
        found = await hosted.score(wanted)
        assert_equal_scores(found, expected, relative=2e-6)
        for one, other in zip(found.trajectories, expected.trajectories, strict=True):
            assert one.scores.support_ids.tolist() == other.scores.support_ids.tolist(), kind


async def test_without_privileged_context_teacher_and_student_are_equal(engine, scorers):
    hosted, _ = scorers
    found = await hosted.score(group(await drawn(engine), privileged=PrivilegedSource.NONE))
    for trajectory in found.trajectories:
        np.testing.assert_array_equal(
            trajectory.scores.teacher_logprobs, trajectory.scores.student_logprobs
        )


async def test_right_after_new_weights_nothing_of_the_old_ones_is_used(engine, scorers):
    """The same groups at one version after another, so that all is in the cache of the old."""
    hosted, reference = scorers
    completions = [await drawn(engine, number=n) for n in range(4)]
    for version in (0, 1, 0, 2, 3, 2):
        wanted = [group(c, number=n, teacher_version=version) for n, c in enumerate(completions)]
        expected = reference.score_together(wanted)
        found = await asyncio.gather(*(hosted.score(g) for g in wanted))
        for one, other in zip(found, expected, strict=True):
            assert_equal_scores(one, other, relative=2e-6)


async def test_groups_of_mixed_versions_together_are_scored_under_their_own(engine, scorers):
    hosted, reference = scorers
    wanted = [
        group(await drawn(engine, number=n), number=n, teacher_version=n % 3) for n in range(12)
    ]
    expected = reference.score_together(wanted)
    found = await asyncio.gather(*(hosted.score(g) for g in wanted))
    for one, other in zip(found, expected, strict=True):
        assert_equal_scores(one, other, relative=2e-6)


@pytest.mark.parametrize("num_shared", [0, 20])
async def test_the_prefix_is_computed_once_for_a_group(engine, num_shared):
    """All siblings at once: the first to be scheduled fills the cache for the others."""
    num_prefix, generator = 5 * BLOCK + 7, np.random.default_rng(num_shared)
    prefix = tuple(generator.integers(3, 20, num_prefix).tolist())
    shared = generator.integers(3, 20, num_shared).tolist()
    completions = [
        tuple(shared + generator.integers(3, 20, 24 - num_shared).tolist()) for _ in range(8)
    ]
    scores = await score_siblings(engine, prefix, completions)
    first, *others = [s.num_computed for s in scores]
    assert first == num_prefix + 24
    # Of the others what lies behind the last whole block, and at most that.
    assert all(n <= num_prefix % BLOCK + 24 for n in others)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_example_learns_from_the_evidence_that_transformers_finds(tmp_path):
    """Both engines on vLLM; its batch log is scored once more by transformers."""
    settings = ("run.steps=12", "run.groups_per_step=8", "teacher.engine=vllm")
    done = subprocess.run(command(tmp_path, *settings), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    found = summary(tmp_path)
    assert (found["steps"], found["identity_residual"]) == (12, 0)
    assert found["outcomes"]["failed"] == {}
    [folder] = [p.parent for p in tmp_path.glob("*/summary.json")]
    run_id = folder.name
    config = load(folder / "config.json")
    maker = RowMaker(TOKENIZER, template=config.teacher.template, max_prefix_tokens=200)
    store = FolderStore(folder / "weights", run_id)
    reference = TransformersScorer(BASE, store, maker)
    log = BatchLog(folder / "batches", run_id)
    gaps = [
        np.abs(delta(t) - delta(u)).max()
        for step in log.steps()
        for logged in log.read(step).groups
        if logged.plan.teacher_version in store.versions()
        for scored in reference.score_together([logged])
        for t, u in zip(logged.trajectories, scored.trajectories, strict=True)
        if t.scores is not None
    ]
    assert len(gaps) > 8
    assert max(gaps) < 2e-5
    assert len(lines(tmp_path, "metrics.jsonl")) == 12


def delta(trajectory):
    return trajectory.scores.teacher_logprobs - trajectory.scores.student_logprobs
