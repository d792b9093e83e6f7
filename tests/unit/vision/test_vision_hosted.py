"""What an inference engine of others is handed of a prompt's images."""

import numpy as np
import pytest
from builders import make_group, make_prompt
from tiny_vision_model import IMAGE_ID

from rlsd.errors import EngineError
from rlsd.inference.engine import Sample, Scores
from rlsd.inference.vllm.pictures import _starts
from rlsd.privileged.context import policy_messages
from rlsd.trajectory import FinishReason, GroupPlan, TeacherNeed, VersionSpan
from services.rollout.engines.engine import GenerationRequest
from services.rollout.engines.hosted import HostedEngine
from services.rollout.engines.updates import POLICIES
from services.teacher.rows import RowMaker
from services.teacher.scorers.hosted import HostedScorer


class Weights:
    """Version 0 is held and proved; the engine does not matter."""

    version = 0

    async def prove(self, versions):
        assert versions == {0}


class Listening:
    """Notes what it is asked."""

    def __init__(self):
        self.asked = []

    async def sample(self, request):
        self.asked.append(request)
        span = VersionSpan(version=0, start=0, end=1)
        return Sample(
            token_ids=np.asarray([60], dtype=np.int32),
            logprobs=np.zeros(1, dtype=np.float32),
            finish_reason=FinishReason.STOP,
            spans=(span,),
        )

    async def score(self, request):
        self.asked.append(request)
        return Scores(logprobs=np.zeros(len(request.completion_ids), dtype=np.float32))


@pytest.mark.parametrize("num_images", [0, 2])
async def test_every_sibling_is_drawn_with_the_prompts_pictures(seeing, num_images):
    engine, images = Listening(), seeing.pictures[:num_images]
    hosted = HostedEngine(
        engine, Weights(), seeing.tokenizer, updates=POLICIES["continue"](), vision=seeing.vision
    )
    ids = hosted.tokenize(policy_messages(make_prompt("What?", images=images)))
    await hosted.generate(
        GenerationRequest(
            prompt_ids=tuple(ids),
            seeds=(1, 2),
            temperature=1.0,
            top_p=1.0,
            max_tokens=1,
            required_policy_version=0,
            images=images,
        )
    )
    pictures = seeing.vision.pictures(images)
    assert [request.pictures for request in engine.asked] == [pictures] * 2
    assert ids.count(IMAGE_ID) == sum(p.num_tokens for p in pictures)


async def test_both_contexts_are_scored_with_the_prompts_pictures(seeing):
    engine, images = Listening(), seeing.pictures[:2]
    maker = RowMaker(
        seeing.tokenizer,
        template="{privileged} {prompt}",
        max_prefix_tokens=500,
        vision=seeing.vision,
    )
    prompt = make_prompt("What?", images=images, privileged="SECRET")
    ids = seeing.vision.expanded(
        seeing.tokenizer.apply_chat_template(
            policy_messages(prompt), add_generation_prompt=True, return_dict=False
        ),
        images,
    )
    weights = Weights()
    weights.exactly = None
    scorer = HostedScorer(engine, weights, maker, num_vocabulary=300)
    rows = maker.rows(
        make_group(
            prompt=prompt,
            prompt_token_ids=np.asarray(ids, dtype=np.int32),
            plan=GroupPlan(teacher=TeacherNeed.SAMPLED),
        )
    )
    await scorer._score_rows(list(rows.by_member.values()), rows.group.plan)
    pictures = seeing.vision.pictures(images)
    num_tokens = sum(p.num_tokens for p in pictures)
    prefixes = {request.prefix_ids[: len(ids)] for request in engine.asked}
    assert tuple(ids) in prefixes
    assert len(prefixes) == 2
    for request in engine.asked:
        assert request.pictures == pictures
        assert request.prefix_ids.count(IMAGE_ID) == num_tokens


def test_a_pictures_places_are_found_and_must_be_all_there_are(seeing):
    one, two = seeing.vision.pictures(seeing.pictures[:2])
    place = [IMAGE_ID]
    ids = [3, *place * one.num_tokens, 4, 3, *place * two.num_tokens, 4, 60]
    assert _starts(ids, [one, two], IMAGE_ID) == [1, 3 + one.num_tokens]
    for wrong in ([one], [one, two, two], [two, one]):
        with pytest.raises(EngineError, match="places"):
            _starts(ids, wrong, IMAGE_ID)
