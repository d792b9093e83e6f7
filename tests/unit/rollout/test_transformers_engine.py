import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import make_group, make_prompt

from rlsd.errors import EngineError, WeightsError
from rlsd.policy.loading import load_model, save_model, take_probe
from rlsd.policy.scoring import sequence_logprobs
from rlsd.privileged.context import policy_messages
from rlsd.trajectory import SamplingParams
from rlsd.weights import FolderStore
from services.rollout.engines.transformers import TransformersEngine
from services.rollout.seeds import trajectory_seed
from services.rollout.service import RolloutService

BASE = "examples/chain/base"
QUESTION = "Question: 2 - 1 - 9 + 0 - 6 + 1 + 5 - 9 - 6 + 3 - 5 - 6 + 8 = ?"


@pytest.fixture
def store(tmp_path):
    torch.set_num_threads(1)
    return FolderStore(tmp_path, "run")


@pytest.fixture
async def service(store):
    publish(store, 0)
    engine = TransformersEngine(BASE, store)
    async with engine:
        yield RolloutService(engine, engine_name="transformers", run_id="run")


def publish(store, version, *, shift=0.0, probe_of=None):
    model = load_model(BASE, device=torch.device("cpu"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(shift)
    probe = take_probe(probe_of or model, [1, 4, 6, 15, 24, 14])
    store.publish(
        version,
        step=version,
        probe=probe,
        save=lambda folder: save_model(model, model.state_dict(), folder),
    )
    return model


def group(index=0, *, version=0, num=4, temperature=1.0, max_tokens=26, **changes):
    return make_group(
        index=index,
        prompt=make_prompt(QUESTION, id=f"p{index}"),
        sampling=SamplingParams(
            num_completions=num, temperature=temperature, max_tokens=max_tokens, seed=7
        ),
        required_policy_version=version,
        trajectories=(),
        **changes,
    )


def ids(made):
    return [t.token_ids.tolist() for t in made.trajectories]


async def test_a_group_comes_back_with_one_trajectory_for_each_member(service):
    made = await service.generate(group())
    assert [t.member for t in made.trajectories] == [0, 1, 2, 3]
    assert all(len(t.rollout_logprobs) == t.num_tokens for t in made.trajectories)
    assert all(t.text.count("#") == 1 for t in made.trajectories)


async def test_rollout_logprobs_are_the_models_own(service):
    made = await service.generate(group())
    trajectory = made.trajectories[1]
    whole = [*made.prompt_token_ids.tolist(), *trajectory.token_ids.tolist()]
    expected = sequence_logprobs(load_model(BASE, device=torch.device("cpu")), whole).numpy()[
        -trajectory.num_tokens :
    ]
    np.testing.assert_allclose(trajectory.rollout_logprobs, expected, atol=1e-5)


async def test_the_same_seed_gives_the_same_completion_whatever_is_generated_beside_it(service):
    alone = await service.generate(group(3))
    beside = await asyncio.gather(*(service.generate(group(i)) for i in range(6)))
    assert ids(alone) == ids(beside[3])


async def test_members_and_versions_and_epochs_draw_afresh():
    base = group()
    seeds = {
        trajectory_seed(base, 0),
        trajectory_seed(base, 1),
        trajectory_seed(replace(base, required_policy_version=1), 0),
        trajectory_seed(replace(base, index=9), 0),
        trajectory_seed(replace(base, sampling=SamplingParams(seed=8)), 0),
    }
    assert len(seeds) == 5
    assert trajectory_seed(replace(base, run_id="other"), 0) == trajectory_seed(base, 0)


async def test_sampling_follows_the_models_distribution(service):
    """First tokens of 2,000 draws against the probabilities, by a chi-square bound."""
    made = await service.generate(group(num=2000, max_tokens=1))
    drawn = np.bincount([t.token_ids[0] for t in made.trajectories], minlength=26)
    model = load_model(BASE, device=torch.device("cpu"))
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([made.prompt_token_ids.tolist()])).logits[0, -1]
    expected = 2000 * logits.double().softmax(-1).numpy()
    common = expected > 5
    chi_square = ((drawn - expected) ** 2 / np.maximum(expected, 1e-9))[common].sum()
    assert chi_square < 30
    assert drawn[~common].sum() < 40


async def test_greedy_is_the_most_likely_token_and_its_logprob_is_at_temperature_1(service):
    made = await service.generate(group(num=1, temperature=0.0))
    again = await service.generate(group(5, num=1, temperature=0.0))
    assert ids(made) == ids(again)
    assert made.trajectories[0].rollout_logprobs.max() <= 0.0


async def test_newer_weights_are_installed_in_place_when_a_group_needs_them(service, store):
    before = await service.generate(group(version=0))
    publish(store, 2, shift=0.01)
    after = await service.generate(group(version=2))
    assert {t.min_policy_version for t in before.trajectories} == {0}
    assert {t.min_policy_version for t in after.trajectories} == {2}


async def test_a_version_that_nobody_published_is_an_error_of_that_group_alone(service):
    results = await asyncio.gather(
        service.generate(group(0, version=5)), service.generate(group(1)), return_exceptions=True
    )
    assert isinstance(results[0], EngineError)
    assert "policy version 5 is required, newest published: 0" in str(results[0])
    assert len(results[1].trajectories) == 4


async def test_corrupt_weights_are_refused_and_the_old_ones_keep_serving(service, store):
    await service.generate(group())
    publish(store, 1, shift=0.01)
    (store.path(1) / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(WeightsError, match="checksum differs"):
        await service.generate(group(version=1))
    made = await service.generate(group(version=0))
    assert {t.max_policy_version for t in made.trajectories} == {0}


async def test_weights_that_fail_the_probe_are_refused(service, store):
    publish(store, 1, shift=0.05, probe_of=load_model(BASE, device=torch.device("cpu")))
    with pytest.raises(WeightsError, match="on the probe"):
        await service.generate(group(version=1))


async def test_nothing_privileged_is_in_the_policys_prompt(service):
    plain = await service.generate(group())
    changed = make_prompt(QUESTION, id="p0", privileged="7 ; 7 ; 7", reference="9")
    other = await service.generate(replace(group(), prompt=changed))
    assert plain.prompt_token_ids.tolist() == other.prompt_token_ids.tolist()
    assert policy_messages(changed) == [{"role": "user", "content": QUESTION}]


async def test_each_token_is_a_sign_of_life(store):
    publish(store, 0)
    pulses = []
    async with TransformersEngine(BASE, store, pulse=lambda: pulses.append(1)) as engine:
        service = RolloutService(engine, engine_name="transformers", run_id="run")
        done = await service.generate(group(num=1, temperature=0.0))
    assert len(pulses) >= done.trajectories[0].num_tokens


async def test_leaving_the_engine_gives_up_a_generation_that_nobody_waits_for(store):
    publish(store, 0)
    pulses: list[None] = []
    async with TransformersEngine(
        BASE, store, max_batch=1, pulse=lambda: pulses.append(None)
    ) as engine:
        service = RolloutService(engine, engine_name="transformers", run_id="run")
        generating = asyncio.ensure_future(service.generate(group(num=200)))
        while len(pulses) < 30:  # noqa: ASYNC110  the compute thread gives no event
            await asyncio.sleep(0.01)
        generating.cancel()
    assert len(pulses) < 200
