from dataclasses import replace

from builders import make_prompt

from rlsd.images.placing import images_of
from rlsd.privileged.context import policy_messages, teacher_messages
from rlsd.trajectory import Message

TEMPLATE = "Before {privileged} {prompt} after {privileged}"


def image(reference):
    return {"type": "image", "image": reference}


def text(content):
    return {"type": "text", "text": content}


def chat(*turns, images=()):
    messages = tuple(Message(role=role, content=content) for role, content in turns)
    return replace(make_prompt(), messages=messages, images=images)


def test_without_images_every_content_is_the_text_as_it_was_written():
    prompt = chat(("system", "Be <image> brief."), ("user", "Where is <image>?"))
    assert policy_messages(prompt) == [
        {"role": "system", "content": "Be <image> brief."},
        {"role": "user", "content": "Where is <image>?"},
    ]
    [_, last] = teacher_messages(prompt, "here", template=TEMPLATE)
    assert last["content"] == "Before here Where is <image>? after here"


def test_marks_are_the_places_of_the_images_in_order_over_all_turns_of_the_user():
    prompt = chat(
        ("system", "No place: <image>"),
        ("user", "<image>Which is larger, <image>"),
        ("assistant", "Neither."),
        ("user", "And <image>?"),
        images=("a.png", "b.png", "c.png"),
    )
    system, first, answer, last = (m["content"] for m in policy_messages(prompt))
    assert (system, answer) == ("No place: <image>", "Neither.")
    assert first == [image("a.png"), text("Which is larger, "), image("b.png")]
    assert last == [text("And "), image("c.png"), text("?")]
    assert images_of(policy_messages(prompt)) == ["a.png", "b.png", "c.png"]


def test_without_marks_all_images_stand_before_the_first_users_text():
    prompt = chat(
        ("system", "Look."), ("user", "Which?"), ("user", "Why?"), images=("a.png", "b.png")
    )
    assert [m["content"] for m in policy_messages(prompt)] == [
        "Look.",
        [image("a.png"), image("b.png"), text("Which?")],
        "Why?",
    ]


def test_the_teacher_reads_the_same_images_and_no_mark_in_the_context_is_a_place():
    prompt = chat(("user", "What is <image>?"), images=("a.png",))
    [turn] = teacher_messages(prompt, "an <image>", template=TEMPLATE)
    assert turn["content"] == [
        text("Before an <image> "),
        text("What is "),
        image("a.png"),
        text("?"),
        text(" after an <image>"),
    ]
    assert "an <image>" not in str(policy_messages(prompt))
