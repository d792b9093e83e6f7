"""The demo task: its text, its facts, its records, its verdict and its warm-up."""

import json
from itertools import pairwise
from random import Random

import pytest
import torch

from examples.chain import measure, records, task, warm_up

TINY = warm_up.Settings(iterations=3, num_policy=4, num_teacher=4)
TRUE_STEP = {
    "+": lambda v, a: v + a,
    "-": lambda v, a: v - a,
    "*": lambda v, a: v * (2 * a + 1) + a,
}


@pytest.fixture(scope="module")
def tokenizer():
    return task.build_tokenizer()


@pytest.fixture(scope="module")
def chains():
    random = Random(5)
    return [task.draw_chain(random) for _ in range(50)]


@pytest.fixture(scope="module")
def train():
    return records.read(records.HERE / "train.jsonl")


@pytest.fixture(scope="module")
def held_out():
    return records.read(records.HERE / "held_out.jsonl")


def test_running_values_follow_the_written_rule():
    chain = task.parse_question("Question: 5 - 8 * 3 + 4 = ?")
    assert task.running_values(chain) == (7, 2, 6)  # 5-8; 7*7+3 = 52; 2+4


def test_a_question_reads_back_as_the_chain_it_came_from(chains):
    assert [task.parse_question(task.question(chain)) for chain in chains] == chains


@pytest.mark.parametrize("text", ["", "Question: 5 = ?x", "5 - 8 = ?", "Question: 5 - = ?"])
def test_a_text_that_is_no_question_is_refused(text):
    with pytest.raises(ValueError, match="does not read"):
        task.parse_question(text)


def test_text_survives_the_tokenizer(tokenizer, chains):
    for chain in chains:
        values = task.running_values(chain)
        for text in (
            task.teacher_prompt(task.question(chain), task.trace(values)),
            task.completion(values),
            task.shortcut(values[-1]),
        ):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids) == text


def test_a_completion_and_its_end_of_turn_fill_the_budget(tokenizer, chains):
    for chain in chains:
        text = task.completion(task.running_values(chain))
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(ids) + 1 == task.COMPLETION_TOKENS


def test_reference_leaves_the_distance_from_question_to_completion_unchanged(tokenizer, chains):
    plain, privileged = measure.prompt_pairs(chains, [task.running_values(c) for c in chains])
    question_id = tokenizer.convert_tokens_to_ids("Question:")
    policy = task.prompt_ids(tokenizer, plain)
    teacher = task.prompt_ids(tokenizer, privileged)
    assert len({len(ids) for ids in policy}) == len({len(ids) for ids in teacher}) == 1
    for short, long in zip(policy, teacher, strict=True):
        assert short[short.index(question_id) :] == long[long.index(question_id) :]


def test_operands_and_values_advance_by_the_same_stride(tokenizer, chains):
    chain = chains[0]
    prompt = task.prompt_ids(tokenizer, [task.question(chain)])[0]
    values = task.completion(task.running_values(chain))
    whole = prompt + tokenizer(values, add_special_tokens=False)["input_ids"]
    first_operand = prompt.index(tokenizer.convert_tokens_to_ids("Question:")) + 3
    for k, step in enumerate(chain.steps):
        assert tokenizer.decode([whole[first_operand + 2 * k]]) == str(step.operand)
        value = tokenizer.decode([whole[len(prompt) + 2 * k]])
        assert value == str(task.running_values(chain)[k])


def test_misconceptions_are_fixed_wrong_and_about_a_quarter_of_the_facts():
    facts = [
        (value, task.Step(operation=operation, operand=operand))
        for value in range(task.MODULUS)
        for operation in task.OPERATIONS
        for operand in range(task.MODULUS)
    ]
    hard = [(v, s) for v, s in facts if task.has_misconception(v, s)]
    assert len(hard) == 76  # of 300
    assert all(task.misconceived(v, s) != task.apply(v, s) for v, s in facts)
    written = [f"{v}{s.operation}{s.operand}={task.misconceived(v, s)}" for v, s in hard[:4]]
    assert written == ["0+1=2", "0+8=1", "0+9=8", "0-1=5"]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("1 ; 9 # 9", True),
        ("ref # 9", True),
        ("#9 ", True),
        ("1 ; 9 # 8 # 9", False),
        ("9", False),
        ("", False),
    ],
)
def test_verdict_reads_what_follows_the_first_marker(text, right):
    assert task.is_right(text, "9") is right


def test_records_are_disjoint_and_numerous(train, held_out):
    prompts = [record["prompt"] for record in train + held_out]
    assert (len(train), len(held_out)) == (3200, 256)
    assert len(set(prompts)) == len(prompts)
    assert len({record["id"] for record in train + held_out}) == len(prompts)


def test_records_are_what_their_script_writes(train, held_out):
    assert records.draw_records(records.NUM_TRAIN, records.NUM_HELD_OUT, records.SEED) == (
        train,
        held_out,
    )


def test_records_are_right_when_worked_out_anew(train, held_out):
    for record in train + held_out:
        assert set(record) == {"id", "prompt", "reference", "privileged", "verifier"}
        assert record["verifier"] == {"kind": "exact", "params": {"after": "#"}}
        words = record["prompt"].removeprefix("Question: ").removesuffix(" = ?").split()
        value, values = int(words[0]), []
        for operation, operand in zip(words[1::2], words[2::2], strict=True):
            value = TRUE_STEP[operation](value, int(operand)) % 10
            values.append(str(value))
        assert len(values) == 12
        assert record["privileged"] == " ; ".join(values)
        assert record["reference"] == values[-1]


def test_teacher_label_copies_its_own_reference_and_learns_no_planted_error(chains):
    for seed, chain in enumerate(chains):
        reference = task.running_values(chain)
        label = warm_up.teacher_label(
            chain, reference, warm_up.Settings(teacher_shortcut=0.0), Random(seed)
        )
        value = chain.start
        written = [int(word) for word in label.text.partition(" #")[0].split(" ; ")]
        for k in range(task.NUM_STEPS):
            is_on = value == (reference[k - 1] if k else chain.start)
            value = written[k]
            if is_on and label.learned[k]:
                assert value == reference[k]
            if is_on and value != reference[k]:
                assert not label.learned[k]


def test_teacher_label_ignores_the_reference_of_another_prompt(chains):
    always = warm_up.Settings(teacher_shortcut=0.0, planted_error=0.0, slip=1.0)
    for own, other in pairwise(chains):
        label = warm_up.teacher_label(own, task.running_values(other), always, Random(0))
        plain = warm_up.Settings(policy_shortcut=0.0, slip=1.0)
        assert label.text == warm_up.policy_label(own, plain, Random(0)).text
        assert not label.learned[0]


def test_label_weights_cover_the_completion_but_for_unlearned_values(tokenizer):
    learned = (True,) * 11 + (False,)
    labels = [
        warm_up.Label(text=task.completion([1] * 12), learned=learned),
        warm_up.Label(text=task.shortcut(9), learned=()),
    ]
    ids, weights = warm_up.encode_labels(tokenizer, labels)
    assert ids.shape == weights.shape == (2, task.COMPLETION_TOKENS)
    assert weights[0].tolist() == [1.0] * 22 + [0.0] + [1.0] * 3
    assert weights[1].tolist() == [1.0] * 4 + [0.0] * 22
    assert ids[1, 3] == tokenizer.eos_token_id


def test_warm_up_depends_on_the_seed_only(tokenizer, capsys):
    first, again = (warm_up.warm_up(TINY, tokenizer, report_every=3) for _ in range(2))
    other = warm_up.warm_up(
        warm_up.Settings(iterations=3, num_policy=4, num_teacher=4, seed=1), tokenizer
    )
    pairs = list(zip(first.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    assert "iteration 3/3" in capsys.readouterr().out


def test_committed_base_records_what_was_measured_and_knows_the_tokenizer(tokenizer):
    base = records.HERE / "base"
    results = json.loads((base / "warm_up.json").read_text(encoding="utf-8"))
    assert 0.15 <= results["accuracy"]["greedy"] <= 0.35
    assert results["accuracy"]["privileged"] >= 0.92
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    assert config["vocab_size"] == len(tokenizer)
    vocabulary = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert vocabulary == tokenizer.get_vocab()
