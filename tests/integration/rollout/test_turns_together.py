"""Turns, a tool over HTTP, teacher and learner on a real model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from bigram_policy import write_policy
from builders import make_group, make_prompt
from hostile_http import hostile_server, saying
from talking import KEY_SCHEMA

from rlsd.config import HttpToolSection, LearnerSection, RunConfig, ToolsSection
from rlsd.errors import ConfigError
from rlsd.objectives.methods import method_named
from rlsd.policy.loading import load_model, load_tokenizer, save_model, take_probe
from rlsd.policy.scoring import sequence_logprobs
from rlsd.trajectory import (
    CallOutcome,
    FinishReason,
    GroupOutcome,
    GroupPlan,
    SamplingParams,
    TeacherNeed,
    Verdict,
    VerdictOutcome,
)
from rlsd.weights import FolderStore
from rlsd.wire.convert import decode, encode
from services.learner.batches import plan_step
from services.learner.policy import Policy
from services.rollout.engines.transformers import TransformersEngine
from services.rollout.service import RolloutService
from services.rollout.start import open_service
from services.rollout.tools.chat import ChatTemplate
from services.rollout.tools.choice import open_toolbox
from services.rollout.turns import Conversation
from services.teacher.rows import RowMaker
from services.teacher.scorers.transformers import TransformersScorer

QUESTION = "Question: [ 4 7 1 ] + 5 = ?"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    torch.set_num_threads(1)
    return str(write_policy(tmp_path_factory.mktemp("policy")))


@pytest.fixture
def model(path):
    return load_model(path, device=torch.device("cpu"))


@pytest.fixture
def store(tmp_path, model):
    store = FolderStore(tmp_path, "run")
    store.publish(
        0,
        step=0,
        probe=take_probe(model, [1, 4, 6, 15]),
        save=lambda folder: save_model(model, model.state_dict(), folder),
    )
    return store


@pytest.fixture
async def group(path, store):
    """Forty trajectories, over the wire."""
    async with hostile_server(saying({"answer": "8"})) as server:
        tools = ToolsSection(
            use={
                "lookup": HttpToolSection(
                    kind="http",
                    url=server.url,
                    description="finds",
                    parameters=KEY_SCHEMA,
                    allow_cidrs=("127.0.0.0/8",),
                )
            }
        )
        chat = ChatTemplate(load_tokenizer(path), tools.functions(), max_answer_tokens=16)
        engine = TransformersEngine(path, store)
        async with open_toolbox(tools, verifier="127.0.0.1:9") as toolbox, engine:
            conversation = Conversation(engine, chat, toolbox, max_turns=3)
            service = RolloutService(
                engine, engine_name="t", run_id="run", conversation=conversation
            )
            asked = make_group(
                prompt=make_prompt(QUESTION, privileged="8 ; 3"),
                sampling=SamplingParams(num_completions=40, max_tokens=48, seed=7),
                plan=GroupPlan(teacher=TeacherNeed.SAMPLED),
                trajectories=(),
            )
            made = await service.generate(asked)
    return decode(encode(made))


def judged(group, reward_of):
    verdicts = [
        Verdict(outcome=VerdictOutcome.SCORED, reward=reward_of(t)) for t in group.trajectories
    ]
    judged = [replace(t, verdict=v) for t, v in zip(group.trajectories, verdicts, strict=True)]
    return replace(group, trajectories=tuple(judged), outcome=GroupOutcome.TRAINED)


async def test_what_was_drawn_has_the_models_own_log_probs_in_its_whole_context(group, model):
    assert {t.finish_reason for t in group.trajectories} >= {FinishReason.STOP}
    assert {t.num_turns for t in group.trajectories} == {1, 2, 3}
    outcomes = {c.outcome for t in group.trajectories for c in t.calls}
    assert outcomes >= {CallOutcome.ANSWERED}
    for trajectory in group.trajectories:
        whole = [*group.prompt_token_ids.tolist(), *trajectory.token_ids.tolist()]
        own = sequence_logprobs(model, whole).numpy()[-trajectory.num_tokens :]
        drawn = trajectory.sampled
        np.testing.assert_allclose(trajectory.rollout_logprobs[drawn], own[drawn], atol=1e-5)
        assert not trajectory.rollout_logprobs[~drawn].any()


async def test_a_step_teaches_to_call_and_learns_nothing_from_what_the_tool_said(
    group, path, store
):
    maker = RowMaker(load_tokenizer(path), template="{privileged} {prompt}", max_prefix_tokens=99)
    scorer = TransformersScorer(path, store, maker)
    [scored] = scorer.score_together([judged(group, lambda t: float(t.num_turns > 1))])
    assert all(t.scores is not None for t in scored.trajectories)

    method = method_named("rlsd")
    plan = plan_step([scored], method, horizon_tokens=48)
    assert plan.denominators.num_tokens == sum(t.num_sampled for t in scored.trajectories)
    policy = Policy(
        load_model(path, device=torch.device("cpu")),
        method,
        LearnerSection(lr=1e-2),
        pad_id=0,
        temperature=1.0,
    )
    tokenizer = load_tokenizer(path)
    call = [*group.prompt_token_ids.tolist(), tokenizer.convert_tokens_to_ids("<tool_call>")]
    said = tokenizer.encode("<|im_start|> tool 8", add_special_tokens=False)

    def logprob(ids):
        return sequence_logprobs(policy.model, ids)[-1].item()

    before, before_tool = logprob(call), logprob(said)
    metrics = policy.update(plan, step=1, lam=0.5, seed=0)
    assert metrics["rollout_gap_max"] < 1e-4  # sampler and learner agree where the policy drew
    assert logprob(call) > before + 0.05
    assert logprob(said) <= before_tool  # what stood in rewarded trajectories was not imitated


def configured(path, tmp_path, url: str) -> RunConfig:
    lookup = {
        "kind": "http",
        "url": url,
        "description": "finds",
        "parameters": KEY_SCHEMA,
        "allow_cidrs": ["127.0.0.0/8"],
    }
    return RunConfig.model_validate(
        {
            "run": {"dir": str(tmp_path), "id": "run", "transport": "grpc"},
            "model": {"path": path},
            "data": {"train": "t"},
            "tools": {"use": {"lookup": lookup}},
        }
    )


async def test_the_configured_service_calls_its_tools_and_says_that_its_template_is_silent(
    path, model, tmp_path, caplog
):
    store = FolderStore(tmp_path / "run" / "weights", "run")
    probe = take_probe(model, [1, 4, 6, 15])
    store.publish(0, step=0, probe=probe, save=lambda f: save_model(model, model.state_dict(), f))
    asked = make_group(
        prompt=make_prompt(QUESTION),
        sampling=SamplingParams(num_completions=8, max_tokens=48, seed=7),
        trajectories=(),
    )
    async with hostile_server(saying({"answer": "8"})) as server:
        async with open_service(configured(path, tmp_path, server.url)) as service:
            made = await service.servicer.generate(asked)
        assert len(server.received) == sum(
            c.outcome is CallOutcome.ANSWERED for t in made.trajectories for c in t.calls
        )
        assert server.received
    assert "the chat template does not show tools" in caplog.text


async def test_a_schema_that_is_none_keeps_the_service_from_starting(path, tmp_path):
    config = configured(path, tmp_path, "http://127.0.0.1:9/")
    of_tool = config.tools.use["lookup"].model_copy(update={"parameters": {"type": "strin"}})
    tools = config.tools.model_copy(update={"use": {"lookup": of_tool}})
    with pytest.raises(ConfigError, match=r"tools\.use\.lookup: parameters are no JSON schema"):
        async with open_service(config.model_copy(update={"tools": tools})):
            pass
