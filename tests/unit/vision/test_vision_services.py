"""Prompts with images through rollout, teacher and learner, each by its own code, on one model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import make_group, make_prompt
from tiny_vision_model import IMAGE_ID, VIDEO_ID

from rlsd.config import LearnerSection
from rlsd.errors import ConfigError
from rlsd.objectives.methods import method_named
from rlsd.policy.loading import load_model, prompt_ids, save_model, take_probe
from rlsd.policy.scoring import completion_logits, gather_logprobs, pad_rows
from rlsd.policy.vision import barred_ids
from rlsd.privileged.context import policy_messages, teacher_messages
from rlsd.trajectory import GroupOutcome, GroupPlan, SamplingParams, TeacherNeed
from rlsd.weights import FolderStore
from services.learner.batches import filler_rows, plan_step
from services.learner.policy import Policy
from services.rollout.engines.transformers import TransformersEngine
from services.rollout.service import RolloutService
from services.teacher.rows import RowMaker
from services.teacher.scorers.transformers import TransformersScorer

TEMPLATE = "{prompt} It is {privileged}."
PROBE = [60, 70, 80, 90]


def publish(store, version, model):
    store.publish(
        version,
        step=version,
        probe=take_probe(model, PROBE),
        save=lambda folder: save_model(model, model.state_dict(), folder),
    )


@pytest.fixture
def store(tmp_path, seeing):
    store = FolderStore(tmp_path, "run")
    publish(store, 0, seeing.model)
    return store


@pytest.fixture
async def rollout(store, seeing):
    engine = TransformersEngine(str(seeing.folder), store, vision=seeing.vision)
    async with engine:
        yield RolloutService(engine, engine_name="transformers", run_id="run")


@pytest.fixture
def scorer(store, seeing):
    maker = RowMaker(
        seeing.tokenizer, template=TEMPLATE, max_prefix_tokens=500, vision=seeing.vision
    )
    return TransformersScorer(str(seeing.folder), store, maker)


def asked(text, images, *, index=0, version=0, temperature=1.0, num=4):
    return make_group(
        index=index,
        prompt=make_prompt(text, id=f"p{index}", images=tuple(images), privileged="SECRET"),
        sampling=SamplingParams(
            num_completions=num, temperature=temperature, max_tokens=12, seed=3
        ),
        plan=GroupPlan(teacher=TeacherNeed.SAMPLED),
        required_policy_version=version,
        trajectories=(),
    )


def expected(seeing, model, messages, images, completion):
    """[T] nats, of one row alone."""
    rows = pad_rows(
        [prompt_ids(seeing.tokenizer, messages, seeing.vision)],
        [completion],
        pad_id=0,
        pictures=[seeing.vision.pictures(images)],
    )
    with torch.inference_mode():
        logits = completion_logits(model, rows, temperature=1.0)
    return gather_logprobs(logits, rows.completion_BT)[0].numpy()


def judged(group, rewards=(1.0, 0.0, 0.0, 1.0)):
    template = make_group(rewards=rewards).trajectories
    trajectories = tuple(
        replace(t, verdict=like.verdict)
        for t, like in zip(group.trajectories, template, strict=True)
    )
    return replace(group, trajectories=trajectories, outcome=GroupOutcome.TRAINED)


async def generated(service, groups):
    """At once, so that rows of several prompts share a forward pass."""
    import asyncio

    return await asyncio.gather(*(service.generate(g) for g in groups))


async def test_rollout_log_probs_are_those_of_the_learners_forward_pass(rollout, seeing):
    one, two = seeing.pictures[:1], seeing.pictures[1:3]
    groups = await generated(
        rollout,
        [
            asked("What?", one, index=0),
            asked("What?", seeing.pictures[3:4], index=1),
            asked("From <image> to <image>", two, index=2),
            asked("No image.", (), index=3),
        ],
    )
    for group in groups:
        images = group.prompt.images
        assert (group.prompt_token_ids == IMAGE_ID).any() == bool(images)
        for trajectory in group.trajectories:
            numbers = expected(
                seeing, seeing.model, policy_messages(group.prompt), images, trajectory.token_ids
            )
            np.testing.assert_allclose(trajectory.rollout_logprobs, numbers, atol=1e-4)


async def test_prompts_of_one_length_with_and_without_images_share_a_forward_pass(rollout, seeing):
    seen = asked("What?", seeing.pictures[:1], index=0)
    alone = await rollout.generate(seen)
    plain = asked("xxxxxxxxxxx", (), index=1)
    lengths = {len(alone.prompt_token_ids), len((await rollout.generate(plain)).prompt_token_ids)}
    assert len(lengths) == 1
    together, _ = await generated(rollout, [seen, plain])
    for a, b in zip(alone.trajectories, together.trajectories, strict=True):
        np.testing.assert_array_equal(a.token_ids, b.token_ids)
        np.testing.assert_allclose(a.rollout_logprobs, b.rollout_logprobs, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.0])
async def test_what_stands_for_pixels_is_never_sampled(store, seeing, temperature):
    """The model is made to want nothing else."""
    model = load_model(str(seeing.folder), device=torch.device("cpu"))
    with torch.no_grad():
        model.lm_head.weight[[IMAGE_ID, VIDEO_ID], 0] = 50.0
    publish(store, 1, model)
    async with TransformersEngine(str(seeing.folder), store, vision=seeing.vision) as engine:
        service = RolloutService(engine, engine_name="transformers", run_id="run")
        group = await service.generate(
            asked("What?", seeing.pictures[:1], version=1, temperature=temperature)
        )
    drawn = np.concatenate([t.token_ids for t in group.trajectories])
    assert not np.isin(drawn, [IMAGE_ID, VIDEO_ID]).any()
    assert barred_ids(model.config) == (IMAGE_ID, VIDEO_ID)


async def test_an_image_that_is_gone_fails_its_group_alone(rollout, seeing, tmp_path):
    gone = asked("What?", [str(tmp_path / "gone.png")], index=0)
    with pytest.raises(ConfigError, match=r"gone\.png: cannot be read"):
        await rollout.generate(gone)
    assert (await rollout.generate(asked("What?", seeing.pictures[:1]))).trajectories


async def test_the_teacher_sees_the_images_in_both_contexts(rollout, scorer, seeing):
    groups = [
        judged(g)
        for g in await generated(
            rollout,
            [
                asked("What?", seeing.pictures[:1], index=0),
                asked("<image> or <image>", seeing.pictures[1:3], index=1),
                asked("None.", (), index=2),
            ],
        )
    ]
    for group in scorer.score_together(groups):
        images, prompt = group.prompt.images, group.prompt
        for trajectory in group.trajectories:
            for found, messages in (
                (trajectory.scores.student_logprobs, policy_messages(prompt)),
                (
                    trajectory.scores.teacher_logprobs,
                    teacher_messages(prompt, "SECRET", template=TEMPLATE),
                ),
            ):
                numbers = expected(seeing, seeing.model, messages, images, trajectory.token_ids)
                np.testing.assert_allclose(found, numbers, atol=1e-5)
            deltas = trajectory.scores.teacher_logprobs - trajectory.scores.student_logprobs
            assert np.isfinite(deltas).all()
            assert np.abs(deltas).max() > 1e-4


async def test_a_group_whose_image_is_gone_does_not_keep_others_from_their_scores(
    rollout, scorer, seeing, tmp_path
):
    group = judged(await rollout.generate(asked("What?", seeing.pictures[:1])))
    prompt = replace(group.prompt, images=(str(tmp_path / "gone.png"),))
    failed, scored = scorer.score_together([replace(group, prompt=prompt), group])
    assert isinstance(failed, ConfigError)
    assert all(t.scores is not None for t in scored.trajectories)


def learner(seeing, **config):
    model = load_model(str(seeing.folder), device=torch.device("cpu"))
    section = LearnerSection(lr=1e-3, **config)
    return Policy(
        model, method_named("rlsd"), section, pad_id=0, temperature=1.0, vision=seeing.vision
    )


async def steps(rollout, scorer, seeing):
    groups = await generated(
        rollout,
        [
            asked("What?", seeing.pictures[:1], index=0),
            asked("From <image> to <image>", seeing.pictures[1:3], index=1),
            asked("None at all, text.", (), index=2),
        ],
    )
    scored = scorer.score_together([judged(g) for g in groups])
    return plan_step(scored, method_named("rlsd"), horizon_tokens=12)


async def test_microbatches_do_not_change_a_step_with_images(rollout, scorer, seeing):
    plan = await steps(rollout, scorer, seeing)
    found = []
    for made in (learner(seeing), learner(seeing, microbatch_tokens=100)):
        metrics = made.update(plan, step=1, lam=0.5, seed=0)
        gradient_free = torch.cat([p.detach().flatten() for p in made.model.parameters()])
        found.append((metrics, gradient_free))
    (of_whole, whole), (of_cut, cut) = found
    assert of_whole == pytest.approx(of_cut, rel=1e-4, abs=1e-5)
    assert of_whole["rollout_gap_max"] < 1e-4
    # Adam's first step is ±lr = 1e-3, and where the gradient is noise its sign is too.
    assert float(((whole - cut).abs() > 1e-4).float().mean()) < 0.02


async def test_a_step_moves_the_vision_tower_and_its_version_is_installed_everywhere(
    rollout, scorer, store, seeing
):
    plan = await steps(rollout, scorer, seeing)
    made = learner(seeing)
    before = {n: p.detach().clone() for n, p in made.model.named_parameters()}
    made.update(plan, step=1, lam=0.5, seed=0)
    moved = {n for n, p in made.model.named_parameters() if not torch.equal(p, before[n])}
    assert any("visual.blocks" in n for n in moved)
    assert any("language_model" in n for n in moved)
    publish(store, 1, made.model)
    group = await rollout.generate(asked("What?", seeing.pictures[:1], version=1))
    messages, images = policy_messages(group.prompt), group.prompt.images
    for trajectory in group.trajectories:
        numbers = expected(seeing, made.model, messages, images, trajectory.token_ids)
        np.testing.assert_allclose(trajectory.rollout_logprobs, numbers, atol=1e-4)
    reloaded = load_model(str(store.path(1)), device=torch.device("cpu"))
    for name, parameter in made.model.named_parameters():
        assert torch.equal(parameter, reloaded.get_parameter(name)), name


async def test_over_steps_sampler_teacher_and_learner_stay_one_model(rollout, store, seeing):
    made = learner(seeing, microbatch_tokens=200)
    maker = RowMaker(
        seeing.tokenizer, template=TEMPLATE, max_prefix_tokens=500, vision=seeing.vision
    )
    scorer = TransformersScorer(str(seeing.folder), store, maker)
    pictures, gaps = seeing.pictures, []
    for step in (1, 2, 3):
        version = step - 1
        asked_now = [
            asked("What?", pictures[n + step : n + step + 1 + n], index=10 * step + n)
            for n in range(3)
        ]
        plan_of = GroupPlan(teacher=TeacherNeed.SAMPLED, teacher_version=version)
        groups = await generated(
            rollout,
            [replace(g, required_policy_version=version, plan=plan_of) for g in asked_now],
        )
        scored = scorer.score_together([judged(g) for g in groups])
        trajectories = [t for group in scored for t in group.trajectories]
        assert {t.scores.teacher_version for t in trajectories} == {version}
        for trajectory in trajectories:
            student = trajectory.scores.student_logprobs
            np.testing.assert_allclose(student, trajectory.rollout_logprobs, atol=1e-4)
            assert np.isfinite(trajectory.scores.teacher_logprobs - student).all()
        plan = plan_step(scored, method_named("rlsd"), horizon_tokens=12)
        gaps.append(made.update(plan, step=step, lam=0.5, seed=0)["rollout_gap_max"])
        publish(store, step, made.model)
    assert len(gaps) == 3
    assert max(gaps) < 1e-4


async def test_ranks_all_run_the_vision_tower_or_none_does(rollout, scorer, seeing):
    plan = await steps(rollout, scorer, seeing)
    text = [r for r in plan.rows if not r.images]
    seen = [r for r in plan.rows if r.images]
    assert filler_rows(text, plan, world=1) == ()
    assert filler_rows(seen, plan, world=2) == ()
    assert filler_rows(text + seen, plan, world=2) == ()
    assert [r.images for r in filler_rows(text, plan, world=2)] == [seen[0].images]
    assert [r.images for r in filler_rows([], plan, world=2)] == [seen[0].images]
    of_text = replace(plan, rows=tuple(text))
    assert filler_rows(text, of_text, world=2) == ()
    assert filler_rows([], of_text, world=2) == (text[0],)


async def test_rows_of_weight_0_add_nothing_to_a_step(rollout, scorer, seeing):
    plan = await steps(rollout, scorer, seeing)
    alone, beside = learner(seeing, microbatch_tokens=60), learner(seeing, microbatch_tokens=60)
    of_alone = alone.update(plan, step=1, lam=0.5, seed=0)
    beside.world = 2  # of which this is the only one: it takes every other row
    shared = replace(plan, rows=tuple(r for row in plan.rows for r in (row, row)))
    beside._over_ranks = lambda totals: totals.values()
    of_beside = beside.update(shared, step=1, lam=0.5, seed=0)
    assert of_beside["loss"] == pytest.approx(of_alone["loss"], rel=1e-4, abs=1e-6)
    assert of_beside["grad_norm"] / 2 == pytest.approx(of_alone["grad_norm"], rel=1e-4)
