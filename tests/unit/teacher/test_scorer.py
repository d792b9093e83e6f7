from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import make_group, make_prompt, make_trajectory
from hypothesis import given, settings
from hypothesis import strategies as st
from talking import function, qwen_like

from rlsd.errors import TeacherError
from rlsd.policy.loading import load_model, load_tokenizer, prompt_ids, save_model, take_probe
from rlsd.policy.scoring import sequence_logprobs
from rlsd.privileged.context import policy_messages, teacher_messages
from rlsd.trajectory import GroupPlan, PrivilegedSource, TeacherNeed, ToolTurn
from rlsd.weights import FolderStore
from services.teacher.rows import RowMaker, needs_scores, privileged_contexts
from services.teacher.scorers.transformers import TransformersScorer

BASE = "examples/chain/base"
TEMPLATE = "Reference: {privileged} {prompt}"
PROMPT = make_prompt("Question: 2 - 1 = ?", privileged="1", reference="1")


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    torch.set_num_threads(1)
    store = FolderStore(tmp_path_factory.mktemp("weights"), "run")
    model = load_model(BASE, device=torch.device("cpu"))
    for version in (0, 10):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.001 * version)
        store.publish(
            version,
            step=version,
            probe=take_probe(model, [1, 4, 6, 15]),
            save=lambda folder: save_model(model, model.state_dict(), folder),
        )
    maker = RowMaker(load_tokenizer(BASE), template=TEMPLATE, max_prefix_tokens=40)
    return TransformersScorer(BASE, store, maker)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(BASE)


def group(tokenizer, *, prompt=PROMPT, rewards=(1.0, 0.0, 1.0), need=TeacherNeed.SAMPLED, **plan):
    return make_group(
        rewards=rewards,
        prompt=prompt,
        plan=GroupPlan(teacher=need, **plan),
        prompt_token_ids=np.asarray(prompt_ids(tokenizer, policy_messages(prompt)), dtype=np.int32),
    )


def test_both_contexts_score_exactly_the_sampled_ids(scorer, tokenizer):
    scored = scorer.score_together([group(tokenizer)])[0]
    trajectory = scored.trajectories[0]
    model = load_model(BASE, device=torch.device("cpu"))
    for field, messages in (
        ("student_logprobs", policy_messages(PROMPT)),
        ("teacher_logprobs", teacher_messages(PROMPT, "1", template=TEMPLATE)),
    ):
        ids = [*prompt_ids(tokenizer, messages), *trajectory.token_ids.tolist()]
        expected = sequence_logprobs(model, ids).numpy()[-trajectory.num_tokens :]
        np.testing.assert_allclose(getattr(trajectory.scores, field), expected, atol=1e-5)


def test_without_privileged_context_teacher_and_student_agree_to_rounding(scorer, tokenizer):
    plain = group(tokenizer, privileged=PrivilegedSource.NONE)
    for trajectory in scorer.score_together([plain])[0].trajectories:
        gap = trajectory.scores.teacher_logprobs - trajectory.scores.student_logprobs
        assert np.abs(gap).max() < 1e-5


def test_the_named_version_scores(scorer, tokenizer):
    groups = [group(tokenizer, teacher_version=v) for v in (10, 0, 10)]
    scored = scorer.score_together(groups)
    versions = [g.trajectories[0].scores.teacher_version for g in scored]
    assert versions == [10, 0, 10]
    first, second, third = (g.trajectories[0].scores.teacher_logprobs for g in scored)
    assert np.abs(first - second).max() > 1e-4
    np.testing.assert_array_equal(first, third)


def test_a_version_that_is_gone_fails_its_groups_and_no_other(scorer, tokenizer):
    results = scorer.score_together([group(tokenizer, teacher_version=v) for v in (0, 7)])
    assert results[0].trajectories[0].scores is not None
    assert "no readable manifest" in str(results[1])


def test_a_row_without_verdict_is_not_scored(scorer, tokenizer):
    scored = scorer.score_together([group(tokenizer, rewards=(1.0, None, 0.0))])[0]
    assert [t.scores is not None for t in scored.trajectories] == [True, False, True]


def test_a_row_at_its_groups_mean_is_skipped_when_credit_multiplies_the_advantage(tokenizer):
    mixed = group(tokenizer, rewards=(1.0, 0.5, 0.0))
    assert [needs_scores(mixed, t) for t in mixed.trajectories] == [True, False, True]
    kept = replace(mixed, plan=replace(mixed.plan, reject_zero_variance=False))
    assert all(needs_scores(kept, t) for t in kept.trajectories)


def test_a_too_long_prefix_is_said_and_not_truncated(scorer, tokenizer):
    long = replace(PROMPT, privileged="7 ; " * 30)
    scored = scorer.score_together([group(tokenizer, prompt=long)])[0]
    assert scored.teacher_skipped.startswith("prefix of ")
    assert all(t.scores is None for t in scored.trajectories)


def test_a_group_that_was_not_rolled_out_is_refused(scorer, tokenizer):
    results = scorer.score_together([replace(group(tokenizer), prompt_token_ids=None)])
    assert isinstance(results[0], TeacherError)


def test_the_teachers_support_holds_its_likeliest_tokens(scorer, tokenizer):
    wanted = group(tokenizer, need=TeacherNeed.TEACHER_SUPPORT, num_support=4)
    scores = scorer.score_together([wanted])[0].trajectories[0].scores
    assert scores.support_ids.shape == (3, 4)
    assert (np.diff(scores.teacher_support_logprobs) <= 0).all()


def test_the_whole_vocabulary_is_a_distribution(scorer, tokenizer):
    wanted = group(tokenizer, need=TeacherNeed.STUDENT_SUPPORT, num_support=1000)
    scores = scorer.score_together([wanted])[0].trajectories[0].scores
    np.testing.assert_allclose(np.exp(scores.teacher_support_logprobs).sum(-1), 1.0, atol=1e-5)


def test_a_siblings_solution_is_the_privileged_context_when_the_plan_says_so(tokenizer):
    made = group(tokenizer, rewards=(0.0, 1.0, 0.0), privileged=PrivilegedSource.SIBLING)
    trajectories = tuple(
        make_trajectory(m, text=f"solution {m}", reward=r) for m, r in enumerate((0.0, 1.0, 0.0))
    )
    contexts = privileged_contexts(replace(made, trajectories=trajectories))
    assert contexts == ["solution 1", None, "solution 1"]


@settings(max_examples=50)
@given(st.text(), st.text())
def test_whatever_is_privileged_the_policys_chat_is_the_prompts_own(privileged, reference):
    prompt = replace(PROMPT, privileged=privileged, reference=reference)
    assert policy_messages(prompt) == policy_messages(PROMPT)
    content = teacher_messages(prompt, privileged, template=TEMPLATE)[-1]["content"]
    assert content == f"Reference: {privileged} {PROMPT.messages[-1].content}"


def test_the_teacher_reads_the_same_tools_as_the_policy_in_both_contexts():
    tokenizer = qwen_like()
    tools = [function("lookup")]
    maker = RowMaker(tokenizer, template=TEMPLATE, max_prefix_tokens=4000, tools=tools)
    asked = prompt_ids(tokenizer, policy_messages(PROMPT), tools=tools)
    made = replace(group(tokenizer), prompt_token_ids=np.asarray(asked, dtype=np.int32))
    row = maker.rows(made).by_member[0]
    shown = tokenizer.decode(asked).partition("<|im_start|>user")[0]
    assert "finds a key" in shown
    for ids in (row.prompt_ids, row.prefix_ids):
        assert tokenizer.decode(ids).startswith(shown)
    assert "Reference: 1" in tokenizer.decode(row.prefix_ids)
    privileged = replace(made, plan=replace(made.plan, privileged=PrivilegedSource.NONE))
    assert maker.rows(privileged).by_member[0].prefix_ids == asked


def test_tokens_of_tools_are_scored_too_for_they_are_context(scorer, tokenizer):
    plain = group(tokenizer)
    turns = (ToolTurn(start=1, end=2, calls=()),)
    with_tools = replace(
        plain, trajectories=tuple(replace(t, tool_turns=turns) for t in plain.trajectories)
    )
    found, expected = (scorer.score_together([g])[0] for g in (with_tools, plain))
    assert repr([t.scores for t in found.trajectories]) == repr(
        [t.scores for t in expected.trajectories]
    )
