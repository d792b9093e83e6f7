"""vLLM in this process reads images as the learner does, before and after new weights."""

import asyncio
import json

import numpy as np
import pytest
import pytest_asyncio
import torch
from PIL import Image
from tiny_vision_model import IMAGE_ID, VIDEO_ID, run, write_model, write_pictures, write_run
from vllm_helpers import request

from rlsd.errors import EngineError
from rlsd.images.files import ImageFiles
from rlsd.inference.engine import SamplingRequest, ScoringRequest
from rlsd.inference.vllm.engine import VllmEngine
from rlsd.policy.loading import load_model, load_tokenizer, prompt_ids, save_model
from rlsd.policy.scoring import completion_logits, gather_logprobs, pad_rows
from rlsd.policy.vision import load_vision

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("default"),  # vLLM leaves sockets and threads to the interpreter
]
in_one_loop = pytest.mark.asyncio(loop_scope="module")


class Seen:
    """The model, its pictures, and the numbers of transformers."""

    def __init__(self, folder):
        torch.set_num_threads(1)
        self.folder = write_model(folder / "model")
        self.model = load_model(str(self.folder), device=torch.device("cpu"))
        self.vision = load_vision(str(self.folder), ImageFiles(folder))
        self.tokenizer = load_tokenizer(str(self.folder))
        self.pictures = self.vision.pictures([str(p) for p in write_pictures(folder / "pictures")])
        self.paths = [str(p) for p in sorted((folder / "pictures").iterdir())]

    def asked(self, text, *numbers):
        """Ids and pictures of a prompt."""
        parts = [{"type": "image", "image": self.paths[n]} for n in numbers]
        content = [*parts, {"type": "text", "text": text}] if parts else text
        ids = prompt_ids(self.tokenizer, [{"role": "user", "content": content}], self.vision)
        return tuple(ids), tuple(self.pictures[n] for n in numbers)

    @torch.no_grad()
    def logprobs(self, ids, pictures, completion, *, model=None):
        rows = pad_rows([ids], [completion], pad_id=0, pictures=[pictures])
        logits = completion_logits(model or self.model, rows, temperature=1.0)
        return gather_logprobs(logits, rows.completion_BT)[0].numpy()


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    return Seen(tmp_path_factory.mktemp("seen"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started(seen):
    engine = VllmEngine(
        str(seen.folder), dtype="float32", max_batch=16, arguments={"max_model_len": 512}
    )
    async with engine:
        yield engine


@pytest_asyncio.fixture(loop_scope="module")
async def engine(started, seen):
    await started.install(seen.folder, 0)
    return started


def draw(ids, pictures, seed, max_tokens=12):
    return SamplingRequest(
        prompt_ids=ids,
        seed=seed,
        temperature=1.0,
        top_p=1.0,
        max_tokens=max_tokens,
        pictures=pictures,
    )


PROMPTS = [("What is this?", (0,)), ("Which of them?", (1, 2)), ("Look.", (3,)), ("No image.", ())]


@in_one_loop
async def test_sampled_log_probs_are_those_of_the_learners_forward_pass(engine, seen):
    asked = [seen.asked(text, *numbers) for text, numbers in PROMPTS]
    drawn = [(ids, pictures, seed) for ids, pictures in asked for seed in range(4)]
    samples = await asyncio.gather(*(engine.sample(draw(*d)) for d in drawn))
    for (ids, pictures, _), sample in zip(drawn, samples, strict=True):
        numbers = seen.logprobs(ids, pictures, sample.token_ids)
        np.testing.assert_allclose(sample.logprobs, numbers, atol=1e-4)
        assert not np.isin(sample.token_ids, [IMAGE_ID, VIDEO_ID]).any()


@in_one_loop
async def test_scores_are_those_of_the_image_that_was_given(engine, seen, tmp_path):
    """Two pictures of one shape: the ids are equal, so only the pixels can tell."""
    scores = []
    for name, colour in (("red", (250, 0, 0)), ("blue", (0, 0, 250)), ("again", (250, 0, 0))):
        Image.new("RGB", (16, 16), colour).save(tmp_path / f"{name}.png")
        pictures = seen.vision.pictures([str(tmp_path / f"{name}.png")])
        ids, _ = seen.asked("What is this?", 0)
        given = ScoringRequest(prefix_ids=ids, completion_ids=(60, 70, 80), pictures=pictures)
        scores.append((await engine.score(given)).logprobs)
        np.testing.assert_allclose(
            scores[-1], seen.logprobs(ids, pictures, [60, 70, 80]), atol=1e-4
        )
    assert np.abs(scores[0] - scores[1]).max() > 1e-3
    np.testing.assert_allclose(scores[0], scores[2], atol=1e-5)


@in_one_loop
async def test_new_weights_of_the_vision_tower_are_used_for_pictures_seen_before(
    engine, seen, tmp_path
):
    """vLLM remembers what the tower made of a picture, by the picture's name."""
    ids, pictures = seen.asked("What is this?", 0)
    given = ScoringRequest(prefix_ids=ids, completion_ids=(60, 70, 80), pictures=pictures)
    before = (await engine.score(given)).logprobs
    model = load_model(str(seen.folder), device=torch.device("cpu"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "visual" in name:
                parameter.mul_(1.3)
    save_model(model, model.state_dict(), tmp_path)
    await engine.install(tmp_path, 1)
    after = (await engine.score(given)).logprobs
    np.testing.assert_allclose(
        after, seen.logprobs(ids, pictures, [60, 70, 80], model=model), atol=1e-4
    )
    assert np.abs(after - before).max() > 1e-3


@in_one_loop
async def test_what_stands_for_pixels_is_never_sampled(engine, seen, tmp_path):
    model = load_model(str(seen.folder), device=torch.device("cpu"))
    with torch.no_grad():
        model.lm_head.weight[[IMAGE_ID, VIDEO_ID], 0] = 3.0  # likelier than all others
    save_model(model, model.state_dict(), tmp_path)
    await engine.install(tmp_path, 2)
    ids, pictures = seen.asked("What is this?", 0)
    samples = await asyncio.gather(*(engine.sample(draw(ids, pictures, s)) for s in range(8)))
    drawn = np.concatenate([s.token_ids for s in samples])
    assert not np.isin(drawn, [IMAGE_ID, VIDEO_ID]).any()


@in_one_loop
async def test_places_and_pictures_must_fit(engine, seen):
    ids, pictures = seen.asked("What is this?", 0)
    for wrong in (pictures * 2, seen.pictures[2:3]):
        with pytest.raises(EngineError, match="places"):
            await engine.sample(draw(ids, wrong, 0))
    sample = await engine.sample(draw(ids, pictures, 0))
    assert len(sample.token_ids)
    text = await engine.sample(request(seen.asked("No image.")[0], seed=1))
    assert len(text.token_ids)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_samples_and_scores_images_with_it(tmp_path):
    write_run(tmp_path)
    settings = [f"{s}.engine=vllm" for s in ("rollout", "teacher")]
    settings += [f"{s}.engine_args={{max_model_len=512}}" for s in ("rollout", "teacher")]
    done = run(tmp_path, *settings, "rollout.max_batch=16", timeout_s=550)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "runs" / "seen"
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["steps"], summary["outcomes"]["failed"]) == (3, {})
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert max(step["rollout_gap_max"] for step in steps) < 1e-4
