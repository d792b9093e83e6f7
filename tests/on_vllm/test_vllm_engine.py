"""vLLM in this process computes what the learner computes, before and after new weights."""

import asyncio
from copy import deepcopy

import numpy as np
import pytest
import torch
from prometheus_client import REGISTRY, generate_latest
from vllm_helpers import Held, ids_of, reference_logprobs, request

from rlsd.errors import ConfigError, UnfitError, WeightsError
from rlsd.inference.engine import SamplingRequest, ScoringRequest
from rlsd.inference.vllm.engine import VllmEngine
from rlsd.policy.loading import load_model, load_tokenizer
from rlsd.trajectory import FinishReason
from services.rollout.engines.hosted import HostedEngine
from services.rollout.engines.updates import POLICIES

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("default"),  # vLLM leaves sockets and threads to the interpreter
    pytest.mark.asyncio(loop_scope="session"),
]

BASE = "examples/chain/base"


@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
async def test_log_probs_are_those_of_the_distribution_that_was_drawn_from(engine, temperature):
    model = load_model(BASE, device=torch.device("cpu"))
    prompt = ids_of("Question: 2 - 1 - 9 = ?")
    samples = await asyncio.gather(
        *(engine.sample(request(prompt, seed=s, temperature=temperature)) for s in range(8))
    )
    for sample in samples:
        expected = reference_logprobs(model, prompt, sample.token_ids, temperature or 1.0)
        np.testing.assert_allclose(sample.logprobs, expected, atol=1e-4)


async def test_a_completion_ends_with_its_end_token_or_at_the_limit(engine):
    end = load_tokenizer(BASE).eos_token_id
    prompt = ids_of("Question: 2 - 1 - 9 = ?")
    samples = await asyncio.gather(
        *(engine.sample(request(prompt, seed=s, max_tokens=20)) for s in range(32))
    )
    assert {s.finish_reason for s in samples} == {FinishReason.STOP, FinishReason.LENGTH}
    for sample in samples:
        stopped = sample.finish_reason is FinishReason.STOP
        assert (sample.token_ids[-1] == end) == stopped
        assert stopped or len(sample.token_ids) == 20
        assert (sample.spans[0].start, sample.spans[-1].end) == (0, len(sample.token_ids))


async def test_a_seed_fixes_a_completion_and_another_seed_changes_it(engine):
    prompt = ids_of("Question: 2 - 1 - 9 = ?")
    first, again, other = [
        (await engine.sample(request(prompt, seed=s))).token_ids.tolist() for s in (5, 5, 6)
    ]
    assert first == again != other


async def test_its_own_metrics_come_out_of_our_metrics_endpoint(engine):
    await engine.sample(request(ids_of("Question: 2 - 1 - 9 = ?"), seed=1))

    def said():
        text = generate_latest(REGISTRY).decode()
        return {line.split("{")[0] for line in text.splitlines() if line.startswith("vllm:")}

    wanted = {
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:generation_tokens_total",
        "vllm:prompt_tokens_total",
        "vllm:prefix_cache_hits_total",
        "vllm:num_preemptions_total",
        "vllm:time_to_first_token_seconds_bucket",
        "vllm:inter_token_latency_seconds_bucket",
        "vllm:e2e_request_latency_seconds_bucket",
    }  # what the recording rules read
    async with asyncio.timeout(30):  # they are noted a moment after the answer
        while wanted - said():  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.1)


async def test_scores_are_exact_with_a_shared_prefix_and_for_equal_completions(engine):
    model = load_model(BASE, device=torch.device("cpu"))
    prefix = ids_of("Reference: 7 2 9 4 " + "Question: 2 - 1 - 9 + 0 - 6 + 1 = ? " * 3)
    completions = [(3, 4, 5, 6, 2), (3, 4, 5, 7, 2), (3, 4, 5, 6, 2), (9,)] * 2
    scores = await asyncio.gather(
        *(engine.score(ScoringRequest(prefix_ids=prefix, completion_ids=c)) for c in completions)
    )
    again = [
        await engine.score(ScoringRequest(prefix_ids=prefix, completion_ids=c)) for c in completions
    ]
    for completion, score, later in zip(completions, scores, again, strict=True):
        expected = reference_logprobs(model, prefix, completion, 1.0)
        np.testing.assert_allclose(score.logprobs, expected, atol=1e-4)
        np.testing.assert_allclose(later.logprobs, expected, atol=1e-4)


async def test_fifty_updates_under_load_lose_nothing_and_leave_exact_log_probs(engine, policy):
    """Completions of one version only are compared with the model of that version."""
    models = {}

    def publish():
        version = policy.publish()
        models[version] = {k: v.clone() for k, v in policy.model.state_dict().items()}
        return version

    held = Held(engine, policy.store)
    hosted = HostedEngine(
        engine, held.weights, load_tokenizer(BASE), updates=POLICIES["continue"]()
    )
    publish()
    await hosted.hold(0)
    asked, answered = [], []
    done = asyncio.Event()

    async def load(worker):
        number = 0
        while not done.is_set():
            seed = worker * 10_000 + number
            prompt = ids_of(f"Question: {worker % 10} - {number % 10} + 3 = ?")
            asked.append(seed)
            [completion] = await hosted.generate(
                held.generation(prompt, seed, version=policy.version, max_tokens=120)
            )
            answered.append((seed, prompt, completion))
            number += 1

    workers = [asyncio.ensure_future(load(w)) for w in range(16)]
    for _ in range(50):
        await asyncio.sleep(0.1)
        await hosted.hold(publish())
    done.set()
    await asyncio.gather(*workers)

    assert sorted(s for s, _, _ in answered) == sorted(asked)
    assert len(set(asked)) == len(asked)
    assert len(held.installations) == 51
    assert max(i.probe_difference for i in held.installations) < 1e-4
    assert any(c.spans for _, _, c in answered)
    model = load_model(BASE, device=torch.device("cpu"))
    pure = [x for x in answered if not x[2].spans]
    assert len({c.min_policy_version for _, _, c in pure}) >= 20
    for _, prompt, completion in pure:
        model.load_state_dict(models[completion.min_policy_version])
        expected = reference_logprobs(model, prompt, completion.token_ids, 1.0)
        np.testing.assert_allclose(completion.rollout_logprobs, expected, atol=1e-4)


async def test_each_token_of_a_completion_across_an_update_is_of_the_version_its_span_says(
    engine, policy
):
    """Under a small change the cache of the old weights matters little, so the spans show."""
    held = Held(engine, policy.store)
    policy.publish()
    await held.weights.hold(await held.weights.newest(0))
    prompt = ids_of("Question: 2 - 1 - 9 = ?")
    crossing = []
    while not crossing:  # how far completions are when the weights come is the machine's affair
        before = deepcopy(policy.model)
        old_version = policy.version
        drawing = [
            asyncio.ensure_future(engine.sample(request(prompt, seed=s, max_tokens=200)))
            for s in range(64)
        ]
        await asyncio.sleep(0.02)
        await held.weights.hold(await held.weights.newest(policy.publish(change=0.002)))
        crossing = [s for s in await asyncio.gather(*drawing) if len(s.spans) == 2]
    for sample in crossing:
        old, new = sample.spans
        assert (old.version, new.version) == (old_version, old_version + 1)
        assert old.end == new.start
        expected = reference_logprobs(before, prompt, sample.token_ids, 1.0)
        np.testing.assert_allclose(sample.logprobs[: old.end], expected[: old.end], atol=1e-4)


async def test_a_skipped_reload_is_caught_by_the_probe(engine, policy, monkeypatch):
    held = Held(engine, policy.store)
    policy.publish()
    await held.weights.hold(await held.weights.newest(0))
    policy.publish()

    async def skip(method, **named):
        assert method == "install_weights"

    monkeypatch.setattr(engine._vllm, "collective_rpc", skip)
    with pytest.raises(UnfitError, match="log-probs"):
        await held.weights.hold(await held.weights.newest(1))


async def test_weights_that_do_not_fit_are_refused_and_the_engine_goes_on(engine, policy, tmp_path):
    held = Held(engine, policy.store)
    policy.publish()
    await held.weights.hold(await held.weights.newest(0))
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(WeightsError, match="vLLM did not take them"):
        await engine.install(tmp_path, 1)
    sample = await engine.sample(request(ids_of("Question: 1 = ?"), seed=1))
    assert {span.version for span in sample.spans} == {0}


async def test_a_cancelled_completion_gives_its_place_back(engine):
    prompt = ids_of("Question: 1 = ?")
    long = SamplingRequest(prompt_ids=prompt, seed=1, temperature=1.0, top_p=1.0, max_tokens=200)
    drawing = [asyncio.ensure_future(engine.sample(long)) for _ in range(64)]
    await asyncio.sleep(0.2)
    for task in drawing:
        task.cancel()
    await asyncio.wait(drawing)
    await asyncio.sleep(0.1)
    assert engine._vllm.get_num_unfinished_requests() == 0


@pytest.mark.parametrize("name", ["finish", "redo"])
async def test_without_in_flight_updates_every_completion_is_of_one_version(engine, policy, name):
    held = Held(engine, policy.store)
    hosted = HostedEngine(engine, held.weights, load_tokenizer(BASE), updates=POLICIES[name]())
    policy.publish()
    await hosted.hold(0)
    prompt = ids_of("Question: 2 - 1 - 9 = ?")
    generating = [
        asyncio.ensure_future(hosted.generate(held.generation(prompt, seed, max_tokens=200)))
        for seed in range(32)
    ]
    await asyncio.sleep(0.1)
    policy.publish()
    await hosted.hold(1)
    completions = [c for group in await asyncio.gather(*generating) for c in group]
    assert {(c.min_policy_version, c.max_policy_version) for c in completions} <= {(0, 0), (1, 1)}
    assert not any(c.spans for c in completions)


async def test_a_wrong_argument_is_named():
    with pytest.raises(ConfigError, match=r"engine_args: .*'no_such'"):
        async with VllmEngine(BASE, dtype="float32", max_batch=8, arguments={"no_such": 1}):
            pass
