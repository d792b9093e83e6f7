"""The teacher on an inference engine asks for each token once and puts the answers together."""

import asyncio
import hashlib
from dataclasses import replace

import numpy as np
import pytest
from builders import make_group, make_prompt, make_trajectory
from hypothesis import given, settings
from hypothesis import strategies as st

from rlsd.config import RunConfig
from rlsd.errors import ConfigError, EngineError, TeacherError
from rlsd.inference.engine import Scores
from rlsd.inference.versions import HeldWeights
from rlsd.policy.loading import load_tokenizer, prompt_ids
from rlsd.privileged.context import policy_messages, teacher_messages
from rlsd.trajectory import GroupPlan, PrivilegedSource, TeacherNeed
from rlsd.weights import FolderStore, Probe
from services.teacher import metrics
from services.teacher.rows import RowMaker
from services.teacher.scorers.choice import likeliest_needed
from services.teacher.scorers.hosted import HostedScorer
from services.teacher.scorers.siblings import score_siblings, shared_beginnings

BASE = "examples/chain/base"
TEMPLATE = "Reference: {privileged} {prompt}"
PROMPT = make_prompt("Question: 2 - 1 = ?", privileged="1", reference="1")
NUM_VOCABULARY = 12
TOKENIZER = load_tokenizer(BASE)
PLAIN = tuple(prompt_ids(TOKENIZER, policy_messages(PROMPT)))
PRIVILEGED = tuple(prompt_ids(TOKENIZER, teacher_messages(PROMPT, "1", template=TEMPLATE)))


def distribution(context, version=-1):
    """[V] nats: any numbers, as long as they are fixed by weights and context."""
    digest = hashlib.sha256(repr((version, tuple(context))).encode()).digest()
    logits = np.random.default_rng(int.from_bytes(digest[:8], "big")).normal(size=NUM_VOCABULARY)
    return (logits - np.log(np.exp(logits).sum())).astype(np.float32)


def table(prefix, completion, version=-1):
    """[T, V] nats."""
    contexts = (tuple(prefix) + tuple(completion[:n]) for n in range(len(completion)))
    return np.stack([distribution(c, version) for c in contexts])


def of_tokens(prefix, completion, version=-1):
    return table(prefix, completion, version)[np.arange(len(completion)), list(completion)]


class Engine:
    """Notes what it is asked; computes `distribution` under the weights it holds."""

    def __init__(self):
        self.version = -1
        self.requests = []
        self.under_way = 0
        self.fails_on = None
        self.takes_s = 0.0

    async def score(self, request):
        self.requests.append(request)
        assert request.num_likeliest <= NUM_VOCABULARY
        version = self.version
        self.under_way += 1
        try:
            await asyncio.sleep(self.takes_s)
            if request.completion_ids == self.fails_on:
                raise EngineError("it failed")
            if self.fails_on is not None:
                await asyncio.Event().wait()
        finally:
            self.under_way -= 1
        assert version == self.version, "the weights changed while it computed"
        whole = table(request.prefix_ids, request.completion_ids, version)
        places = np.arange(len(whole))
        likeliest = np.argsort(-whole, axis=1)[:, : request.num_likeliest].astype(np.int32)
        return Scores(
            logprobs=whole[places, list(request.completion_ids)],
            likeliest_ids=likeliest if request.num_likeliest else None,
            likeliest_logprobs=np.take_along_axis(whole, likeliest, 1)
            if request.num_likeliest
            else None,
            num_computed=len(request.completion_ids),
        )

    async def install(self, folder, version):
        self.version = version
        return 0.0

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None


@pytest.fixture
def engine():
    return Engine()


def scorer(engine, weights=None, *, max_prefix_tokens=40):
    maker = RowMaker(TOKENIZER, template=TEMPLATE, max_prefix_tokens=max_prefix_tokens)
    return HostedScorer(engine, weights, maker, num_vocabulary=NUM_VOCABULARY)


@pytest.fixture
def held(engine, tmp_path):
    """Versions 0 and 10, whose probes are what the engine computes under them."""
    store = FolderStore(tmp_path / "weights", "run")
    for version in (0, 10):
        tokens = (1, 4, 6)
        probe = Probe(
            token_ids=tokens, logprobs=tuple(of_tokens(tokens[:1], tokens[1:], version).tolist())
        )
        store.publish(version, step=version, probe=probe, save=lambda _: None)
    return HeldWeights(engine, store, tolerance=1e-3)


COMPLETIONS = ((3, 4, 5, 2), (3, 4, 6, 2), (3, 4, 5, 2), (9, 1), (3, 4), (3, 4, 6, 7, 2))


def group(completions=COMPLETIONS, *, need=TeacherNeed.SAMPLED, rewards=None, **plan):
    rewards = rewards or [float(n % 2) for n in range(len(completions))]
    made = make_group(
        rewards=tuple(rewards),
        prompt=PROMPT,
        plan=GroupPlan(teacher=need, **plan),
        prompt_token_ids=np.asarray(PLAIN, dtype=np.int32),
    )
    trajectories = tuple(
        make_trajectory(
            n,
            reward=reward,
            token_ids=np.asarray(completion, dtype=np.int32),
            rollout_logprobs=np.full(len(completion), -float(n + 1), dtype=np.float32),
        )
        for n, (completion, reward) in enumerate(zip(completions, rewards, strict=True))
    )
    return replace(made, trajectories=trajectories)


async def test_both_contexts_score_exactly_the_sampled_ids_under_the_named_version(engine, held):
    scored = await scorer(engine, held).score(group(teacher_version=10))
    for completion, trajectory in zip(COMPLETIONS, scored.trajectories, strict=True):
        scores = trajectory.scores
        assert scores.teacher_version == 10
        np.testing.assert_array_equal(
            scores.teacher_logprobs, of_tokens(PRIVILEGED, completion, 10)
        )
        np.testing.assert_array_equal(scores.student_logprobs, of_tokens(PLAIN, completion, 10))


async def test_no_token_of_siblings_is_asked_for_twice_and_no_prefix_covers_one(engine):
    await scorer(engine).score(group())
    asked = {}
    for request in engine.requests:
        for n in range(len(request.completion_ids)):
            context = request.prefix_ids + request.completion_ids[: n + 1]
            assert context not in asked
            asked[context] = request
    wanted = {PRIVILEGED + c[: n + 1] for c in COMPLETIONS for n in range(len(c))}
    assert set(asked) == wanted


async def test_without_privileged_context_one_pass_serves_teacher_and_student(engine, held):
    scored = await scorer(engine, held).score(group(privileged=PrivilegedSource.NONE))
    num_probes = 1
    assert len(engine.requests) - num_probes == len({COMPLETIONS[n] for n in (0, 1, 3, 5)})
    for trajectory in scored.trajectories:
        np.testing.assert_array_equal(
            trajectory.scores.teacher_logprobs, trajectory.scores.student_logprobs
        )


async def test_an_external_teacher_takes_the_samplers_log_probs_for_the_students(engine):
    scored = await scorer(engine).score(group())
    assert all(r.prefix_ids[: len(PRIVILEGED)] == PRIVILEGED for r in engine.requests)
    for n, trajectory in enumerate(scored.trajectories):
        assert trajectory.scores.teacher_version == -1
        assert set(trajectory.scores.student_logprobs.tolist()) == {-float(n + 1)}


async def test_the_teachers_support_holds_its_likeliest_tokens(engine, held):
    wanted = group(need=TeacherNeed.TEACHER_SUPPORT, num_support=4)
    scored = await scorer(engine, held).score(wanted)
    for completion, trajectory in zip(COMPLETIONS, scored.trajectories, strict=True):
        expected = np.sort(table(PRIVILEGED, completion, 0), axis=1)[:, ::-1][:, :4]
        np.testing.assert_array_equal(trajectory.scores.teacher_support_logprobs, expected)
        assert trajectory.scores.support_ids.shape == (len(completion), 4)


async def test_the_students_support_holds_the_teachers_log_probs_of_the_students_tokens(
    engine, held
):
    wanted = group(need=TeacherNeed.STUDENT_SUPPORT, num_support=3)
    scored = await scorer(engine, held).score(wanted)
    for completion, trajectory in zip(COMPLETIONS, scored.trajectories, strict=True):
        ids = np.argsort(-table(PLAIN, completion, 0), axis=1)[:, :3]
        np.testing.assert_array_equal(trajectory.scores.support_ids, ids)
        np.testing.assert_array_equal(
            trajectory.scores.teacher_support_logprobs,
            np.take_along_axis(table(PRIVILEGED, completion, 0), ids, 1),
        )


async def test_an_external_teachers_own_likeliest_tokens_stand_in_for_the_students(engine):
    wanted = group(need=TeacherNeed.STUDENT_SUPPORT, num_support=3)
    scored = await scorer(engine).score(wanted)
    expected = np.sort(table(PRIVILEGED, COMPLETIONS[0]), axis=1)[:, ::-1][:, :3]
    found = scored.trajectories[0].scores.teacher_support_logprobs
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("need", [TeacherNeed.TEACHER_SUPPORT, TeacherNeed.STUDENT_SUPPORT])
async def test_a_support_is_no_larger_than_the_vocabulary(engine, held, need):
    scored = await scorer(engine, held).score(group(need=need, num_support=64))
    scores = scored.trajectories[0].scores
    assert scores.support_ids.shape == (len(COMPLETIONS[0]), NUM_VOCABULARY)
    np.testing.assert_allclose(np.exp(scores.teacher_support_logprobs).sum(-1), 1.0, atol=1e-5)


async def test_groups_of_several_versions_are_scored_under_their_own(engine, held):
    hosted = scorer(engine, held)
    engine.takes_s = 0.02
    versions = [0, 10, 10, 0, 10, 0]
    scored = await asyncio.gather(*(hosted.score(group(teacher_version=v)) for v in versions))
    for version, result in zip(versions, scored, strict=True):
        for completion, trajectory in zip(COMPLETIONS, result.trajectories, strict=True):
            assert trajectory.scores.teacher_version == version
            np.testing.assert_array_equal(
                trajectory.scores.teacher_logprobs, of_tokens(PRIVILEGED, completion, version)
            )


async def test_a_group_of_another_temperature_is_refused(engine):
    warm = group()
    with pytest.raises(TeacherError, match=r"temperature 0\.7.*'transformers'"):
        await scorer(engine).score(replace(warm, sampling=replace(warm.sampling, temperature=0.7)))


async def test_a_too_long_prefix_is_said_and_nothing_is_asked(engine):
    scored = await scorer(engine, max_prefix_tokens=3).score(group())
    assert scored.teacher_skipped.startswith("prefix of ")
    assert not engine.requests
    assert all(t.scores is None for t in scored.trajectories)


async def test_an_empty_completion_has_empty_scores(engine, held):
    scored = await scorer(engine, held).score(
        group(((), (3, 4)), need=TeacherNeed.TEACHER_SUPPORT, num_support=4)
    )
    scores = scored.trajectories[0].scores
    assert scores.teacher_logprobs.shape == scores.student_logprobs.shape == (0,)
    assert scores.support_ids.shape == scores.teacher_support_logprobs.shape == (0, 4)


async def test_a_failed_request_fails_the_group_and_leaves_nothing_under_way(engine):
    engine.fails_on = (9, 1)
    with pytest.raises(EngineError):
        await asyncio.wait_for(scorer(engine).score(group()), 1)
    await asyncio.sleep(0)
    assert engine.under_way == 0


async def test_a_cancelled_group_leaves_nothing_under_way(engine):
    engine.fails_on = (-1,)  # nothing fails; all of it waits
    scoring = asyncio.ensure_future(scorer(engine).score(group()))
    await asyncio.sleep(0.01)
    assert engine.under_way > 0
    scoring.cancel()
    await asyncio.wait([scoring])
    await asyncio.sleep(0)
    assert engine.under_way == 0


async def test_tokens_are_counted_as_given_and_as_computed(engine):
    def counted(kind):
        return metrics.ENGINE_TOKENS.labels(kind)._value.get()

    before = counted("given"), counted("computed")
    await scorer(engine).score(group())
    num_given = sum(len(PRIVILEGED) + len(c) for c in COMPLETIONS)
    assert counted("given") - before[0] == num_given
    assert counted("computed") - before[1] == sum(len(r.completion_ids) for r in engine.requests)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), max_size=6).map(tuple), min_size=1, max_size=6))
def test_whatever_siblings_have_in_common_each_gets_its_own_scores(completions):
    scores = asyncio.run(score_siblings(Engine(), (5, 6), completions, num_likeliest=2))
    for completion, score in zip(completions, scores, strict=True):
        assert score.likeliest_ids.shape == score.likeliest_logprobs.shape == (len(completion), 2)
        if completion:
            np.testing.assert_array_equal(score.logprobs, of_tokens((5, 6), completion))


def test_the_longest_shared_beginning_is_found_among_the_earlier_ones():
    assert shared_beginnings([(1, 2, 3), (1, 2, 4), (1, 2, 4, 5), (9,), ()]) == [
        (0, 0),
        (0, 2),
        (1, 3),
        (0, 0),
        (0, 0),
    ]


def configured(method, **settings):
    return RunConfig.model_validate(
        {
            "model": {"path": BASE},
            "data": {"train": "t.jsonl"},
            "method": {"name": method, **settings},
            "teacher": {"engine": "vllm"},
        }
    )


@pytest.mark.parametrize(
    ("method", "num_likeliest"), [("rlsd", 0), ("opd", 0), ("opsd", 64), ("sdpo", 300)]
)
def test_an_engine_is_asked_for_as_many_likeliest_tokens_as_the_method_needs(method, num_likeliest):
    assert likeliest_needed(configured(method), 300) == num_likeliest


def test_a_method_that_an_engine_cannot_serve_is_refused_with_the_remedy():
    with pytest.raises(ConfigError, match=r"'sdpo'.*151936.*teacher\.engine = 'transformers'"):
        likeliest_needed(configured("sdpo"), 151936)
