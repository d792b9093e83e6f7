"""Images in records: where they stand, which file they are, and what is refused at the start."""

import contextlib
import json
from pathlib import Path

import pytest

from rlsd.config import RunConfig
from rlsd.data.converters import Shape, to_record
from rlsd.data.records import RecordError, parse_record
from rlsd.data.sources import load_prompts
from rlsd.errors import ConfigError
from rlsd.images.checking import check_images

RECORD = {"reference": "1", "verifier": {"kind": "exact"}}


def write(folder: Path, *records: dict) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(RECORD | record) + "\n" for record in records))
    return path


def test_paths_are_relative_to_the_file_of_the_record(tmp_path: Path) -> None:
    path = write(
        tmp_path / "data",
        {"prompt": "?", "images": ["pictures/a.png", "https://pictures.test/b.png"]},
        {"prompt": "?", "images": [str(tmp_path / "c.png")]},
        {"prompt": "?"},
    )
    (path.parent / "pictures").mkdir()
    for image in (path.parent / "pictures" / "a.png", tmp_path / "c.png"):
        image.touch()
    assert [p.images for p in load_prompts(path).prompts] == [
        (str(path.parent / "pictures" / "a.png"), "https://pictures.test/b.png"),
        (str(tmp_path / "c.png"),),
        (),
    ]


def test_a_record_whose_image_is_missing_is_refused_like_other_bad_records(tmp_path: Path) -> None:
    path = write(tmp_path, *[{"prompt": "?"}] * 120, {"prompt": "?", "images": ["gone.png"]})
    dataset = load_prompts(path)
    assert dataset.num_kept == 120
    [rejected] = dataset.rejected
    assert rejected.line == 121
    assert rejected.reason == f"image {tmp_path}/gone.png: there is no such file; correct the path"


@pytest.mark.parametrize(
    ("prompt", "num_images", "is_good"),
    [
        ("?", 2, True),
        ("<image> or <image>?", 2, True),
        ("<image>?", 2, False),
        ("<image>?", 0, True),
    ],
)
def test_places_are_as_many_as_images_or_none_at_all(prompt, num_images, is_good) -> None:
    record = RECORD | {"prompt": prompt, "images": ["a.png"] * num_images}
    if is_good:
        prompt_made = parse_record(record, default_id="a", default_verifier=None)
        assert len(prompt_made.images) == num_images
    else:
        with pytest.raises(RecordError, match="2 images and 1 places <image> for them"):
            parse_record(record, default_id="a", default_verifier=None)


def test_content_in_parts_becomes_text_with_marks() -> None:
    parts = [{"type": "image", "text": None}, {"type": "text", "text": "What?"}]
    row = {"prompt": [{"role": "user", "content": parts}], "solution": "1", "images": ["a.png"]}
    assert to_record(row, Shape.TRL) == {
        "messages": [{"role": "user", "content": "<image>What?"}],
        "reference": "1",
        "images": ["a.png"],
    }
    parts[0] = {"type": "video"}
    with pytest.raises(RecordError, match="a part of a message is 'video'"):
        to_record(row, Shape.TRL)


def test_an_image_that_a_table_stores_by_its_path_is_that_path() -> None:
    images = [{"bytes": None, "path": "a.png"}, {"bytes": b"x", "path": "b.png"}]
    row = {"prompt": "?", "solution": "1", "images": images}
    assert to_record(row, Shape.TRL)["images"] == ["a.png", images[1]]


def config(folder: Path, *, vision: bool, **sections) -> RunConfig:
    (folder / "config.json").write_text(json.dumps({"vision_config": {}} if vision else {}))
    return RunConfig.model_validate(
        {"model": {"path": str(folder)}, "data": {"train": "x"}, **sections}
    )


def test_images_by_url_and_an_object_store_for_weights_do_not_go_together(tmp_path: Path) -> None:
    """Services share no folder then, and each would fetch the picture for itself."""
    (tmp_path / "a.png").touch()
    store = {"weights": {"url": "s3://bucket"}}
    for image, is_refused in (("a.png", False), ("https://example.com/a.png", True)):
        prompts = load_prompts(write(tmp_path, {"prompt": "?", "images": [image]})).prompts
        check_images(config(tmp_path, vision=True), prompts)
        refusal = pytest.raises(ConfigError, match="services share no folder")
        with refusal if is_refused else contextlib.nullcontext():
            check_images(config(tmp_path, vision=True, **store), prompts)


def test_images_are_for_a_model_and_engines_that_read_them(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    prompts = load_prompts(write(tmp_path, {"prompt": "?", "images": ["a.png"]})).prompts
    text = load_prompts(write(tmp_path, {"prompt": "?"})).prompts
    check_images(config(tmp_path, vision=True), prompts)
    check_images(config(tmp_path, vision=False), text)
    with pytest.raises(ConfigError, match="reads text alone and prompts have images"):
        check_images(config(tmp_path, vision=False), prompts)
    server = {"engine": "vllm", "engine_url": "http://127.0.0.1:8000"}
    for name in ("rollout", "teacher"):
        with pytest.raises(ConfigError, match=rf"{name}\.engine_url: a running server takes no"):
            check_images(config(tmp_path, vision=True, **{name: server}), prompts)
