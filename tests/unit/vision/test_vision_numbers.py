"""What a model that reads images computes does not depend on what is computed beside it."""

import numpy as np
import pytest
import torch
from builders import make_prompt
from PIL import Image
from tiny_vision_model import IMAGE_ID
from transformers import AutoProcessor

from rlsd.errors import ConfigError
from rlsd.images.files import ImageFiles
from rlsd.inference.vllm.without_torchvision import allow_missing_torchvision
from rlsd.policy.loading import load_tokenizer, prompt_ids
from rlsd.policy.scoring import completion_logits, gather_logprobs, pad_rows, sequence_logprobs
from rlsd.policy.vision import load_vision
from rlsd.privileged.context import policy_messages, teacher_messages

TEXT_ALONE = "examples/chain/base"


def chat(text, *images):
    return policy_messages(make_prompt(text, images=tuple(images)))


def ids_of(seeing, text, *images):
    return prompt_ids(seeing.tokenizer, chat(text, *images), seeing.vision)


def logprobs(seeing, asked, completions):
    """[T] nats of each completion; `asked` are texts with their images."""
    rows = pad_rows(
        [ids_of(seeing, text, *images) for text, images in asked],
        completions,
        pad_id=0,
        pictures=[seeing.vision.pictures(images) for _, images in asked],
    )
    with torch.inference_mode():
        scores = gather_logprobs(
            completion_logits(seeing.model, rows, temperature=1.0), rows.completion_BT
        )
    return [scores[n, : len(c)].numpy() for n, c in enumerate(completions)]


def test_a_row_alone_is_the_row_in_a_padded_batch(seeing):
    a, b, c, d = seeing.pictures[:4]
    asked = [("What?", [a]), ("Which of them, and why?", [b, c]), ("None.", []), ("<image>?", [d])]
    completions = [[60, 70, 80], [90, 91], [100, 101, 102, 103], [40]]
    together = logprobs(seeing, asked, completions)
    for row, completion, scores in zip(asked, completions, together, strict=True):
        [alone] = logprobs(seeing, [row], [completion])
        np.testing.assert_allclose(scores, alone, atol=1e-5)


def test_without_images_it_computes_what_it_does_as_a_model_of_text(seeing):
    ids = ids_of(seeing, "No picture.")
    [scores] = logprobs(seeing, [("No picture.", [])], [[60, 70, 80]])
    whole = sequence_logprobs(seeing.model, [*ids, 60, 70, 80])
    np.testing.assert_allclose(scores, whole[-3:].numpy(), atol=1e-5)


def test_another_picture_of_the_same_shape_gives_other_log_probs(seeing, tmp_path):
    scores = []
    for name, colour in (("a", (250, 0, 0)), ("b", (0, 0, 250)), ("c", (250, 0, 0))):
        Image.new("RGB", (16, 16), colour).save(tmp_path / f"{name}.png")
        scores += logprobs(seeing, [("What?", [str(tmp_path / f"{name}.png")])], [[60, 70, 80]])
    assert np.abs(scores[0] - scores[1]).max() > 1e-3
    np.testing.assert_array_equal(scores[0], scores[2])


def test_the_order_of_pictures_counts(seeing):
    a, b = seeing.pictures[0], seeing.pictures[3]
    one, other = logprobs(seeing, [("?", [a, b]), ("?", [b, a])], [[60, 70], [60, 70]])
    assert np.abs(one - other).max() > 1e-3


def test_the_ids_hold_a_place_for_each_token_of_each_picture(seeing):
    a, b = seeing.pictures[0], seeing.pictures[2]
    ids = ids_of(seeing, "From <image> to <image>", a, b)
    tokens = [p.num_tokens for p in seeing.vision.pictures([a, b])]
    assert ids.count(IMAGE_ID) == sum(tokens) == sum(tokens[:1]) + tokens[1]
    first = ids.index(IMAGE_ID)
    assert ids[first : first + tokens[0]] == [IMAGE_ID] * tokens[0]
    assert ids[first + tokens[0]] != IMAGE_ID
    text = seeing.tokenizer.decode([i for i in ids if i != IMAGE_ID])
    assert "From <|vision_start|><|vision_end|> to <|vision_start|><|vision_end|>" in text


def test_both_contexts_have_the_images_and_only_the_teachers_the_context(seeing):
    prompt = make_prompt("What?", images=seeing.pictures[:2], privileged="SECRET")
    contexts = (policy_messages(prompt), teacher_messages(prompt, "SECRET", template="{prompt}"))
    student, teacher = (prompt_ids(seeing.tokenizer, c, seeing.vision) for c in contexts)
    assert student == teacher
    told = teacher_messages(prompt, "SECRET", template="{prompt} {privileged}")
    teacher = prompt_ids(seeing.tokenizer, told, seeing.vision)
    assert teacher.count(IMAGE_ID) == student.count(IMAGE_ID) > 0
    texts = [seeing.tokenizer.decode(ids) for ids in (student, teacher)]
    assert ["SECRET" in text for text in texts] == [False, True]


def test_siblings_share_the_processed_picture(seeing):
    [first], [again] = (seeing.vision.pictures(seeing.pictures[:1]) for _ in range(2))
    assert first is again


def test_few_pictures_are_held(seeing, monkeypatch, tmp_path):
    monkeypatch.setattr("rlsd.policy.vision._HELD_BYTES", 30_000)
    vision = load_vision(str(seeing.folder), ImageFiles(tmp_path))
    made = [vision.pictures([p])[0] for p in seeing.pictures]
    assert sum(p.patches_ND.nbytes for p in made) > 30_000
    assert vision.pictures(seeing.pictures[-1:])[0] is made[-1]
    assert vision.pictures(seeing.pictures[:1])[0] is not made[0]
    assert vision.pictures(seeing.pictures[:1])[0].digest == made[0].digest


def test_the_models_own_image_token_in_a_text_is_refused(seeing):
    for images in ((), seeing.pictures[:1]):
        with pytest.raises(ConfigError, match=r"places for them .* its text must not hold"):
            ids_of(seeing, "What is <|image_pad|> here?", *images)


def test_a_template_that_leaves_images_out_is_refused(seeing, monkeypatch):
    monkeypatch.setattr(seeing.tokenizer, "chat_template", "{{ messages[0].content[1].text }}")
    with pytest.raises(ConfigError, match=r"1 images and 0 places"):
        ids_of(seeing, "What?", seeing.pictures[0])


def test_a_model_of_text_refuses_images(seeing):
    assert load_vision(TEXT_ALONE, ImageFiles(seeing.folder)) is None
    with pytest.raises(ConfigError, match=r"1 images and the model reads text alone"):
        prompt_ids(load_tokenizer(TEXT_ALONE), chat("What?", seeing.pictures[0]))


def test_an_image_that_is_no_longer_what_was_sampled_from_is_an_error(seeing):
    ids = ids_of(seeing, "What?", seeing.pictures[0])
    pictures = [seeing.vision.pictures(seeing.pictures[2:3])]
    rows = pad_rows([ids], [[60]], pad_id=0, pictures=pictures)
    with pytest.raises(ConfigError, match=r"places for 4 image tokens and its images now need 8"):
        completion_logits(seeing.model, rows, temperature=1.0)


def test_a_picture_that_the_processor_refuses_is_named(seeing, tmp_path):
    Image.new("RGB", (4000, 8)).save(tmp_path / "strip.png")
    with pytest.raises(ConfigError, match=r"strip\.png: .*aspect ratio"):
        seeing.vision.pictures([str(tmp_path / "strip.png")])


def test_a_model_without_its_processor_is_refused(seeing, tmp_path):
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((seeing.folder / name).read_bytes())
    with pytest.raises(ConfigError, match=r"needs preprocessor_config\.json"):
        load_vision(str(tmp_path), ImageFiles(tmp_path))


def test_ids_and_patches_are_those_of_the_models_own_processor(seeing):
    """Which can be made without torchvision once it is allowed for, as vLLM's processes do."""
    allow_missing_torchvision()
    allow_missing_torchvision()  # a second time changes nothing
    processor = AutoProcessor.from_pretrained(seeing.folder)
    paths = seeing.pictures[1:3]
    parts = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Which?"}]
    text = seeing.tokenizer.apply_chat_template(
        [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False
    )
    images = [Image.open(path).convert("RGB") for path in paths]
    found = processor(text=text, images=images, return_tensors="np")
    assert found["input_ids"][0].tolist() == ids_of(seeing, "Which?", *paths)
    patches = np.concatenate([p.patches_ND for p in seeing.vision.pictures(paths)])
    np.testing.assert_array_equal(found["pixel_values"], patches)
