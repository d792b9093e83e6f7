import pytest

from rlsd.data.overlap import overlap
from rlsd.trajectory import Message, Prompt, VerifierSpec


def prompt(*contents: str, system: str | None = None, images: tuple[str, ...] = ()) -> Prompt:
    turns = [Message(role="user", content=content) for content in contents]
    if system is not None:
        turns.insert(0, Message(role="system", content=system))
    spec = VerifierSpec(kind="exact")
    return Prompt(id="p", messages=tuple(turns), reference="1", verifier=spec, images=images)


@pytest.mark.parametrize(
    "same",
    [
        prompt("What is 2 + 2?"),
        prompt("  what is\n2  + 2? "),
        prompt("What is \uff12 + 2?"),
        prompt("What is 2 + 2?", system="Be brief."),
    ],
)
def test_same_text_in_another_guise_overlaps(same: Prompt) -> None:
    assert overlap([prompt("What is 2 + 2?")], [same]) == 1


@pytest.mark.parametrize(
    "other",
    [
        prompt("What is 2 + 3?"),
        prompt("What is", "2 + 2?"),
        prompt("What is 2 + 2?", images=("a.png",)),
    ],
)
def test_other_text_turns_or_images_do_not_overlap(other: Prompt) -> None:
    assert overlap([prompt("What is 2 + 2?")], [other]) == 0


def test_overlap_counts_held_out_prompts() -> None:
    train = [prompt("a"), prompt("a"), prompt("b")]
    assert overlap(train, [prompt("A"), prompt("c"), prompt("b")]) == 2
    assert overlap([], train) == 0
