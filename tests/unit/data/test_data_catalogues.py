import sys
from types import ModuleType

import pytest

from rlsd.data.sources import load_prompts
from rlsd.errors import ConfigError
from rlsd.trajectory import VerifierSpec


def refusal(uri: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_prompts(uri)
    assert uri in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_reasoning_gym_prompts_state_the_form_that_their_verifier_reads() -> None:
    dataset = load_prompts("reasoning_gym:chain_sum?size=3&seed=1")
    assert dataset.num_kept == 3
    first = dataset.prompts[0]
    assert first.id == "chain_sum-1:1"
    assert first.messages[0].content.startswith("State the final answer")
    assert "End with 'Answer:'" in first.messages[0].content
    assert first.verifier == VerifierSpec(kind="exact", params={"after": "Answer:", "last": True})
    assert first.reference.lstrip("-").isdigit()
    assert first.privileged is None  # the reference


def test_reasoning_gym_prompts_are_the_same_every_time_and_differ_by_seed() -> None:
    first = load_prompts("reasoning_gym:chain_sum?size=3")
    assert load_prompts("reasoning_gym:chain_sum?size=3") == first
    other = load_prompts("reasoning_gym:chain_sum?size=3&seed=9")
    assert {p.messages for p in first.prompts}.isdisjoint(p.messages for p in other.prompts)


def test_reasoning_gym_query_is_the_configuration_of_the_task() -> None:
    uri = "reasoning_gym:chain_sum?size=3&min_terms=5&max_terms=5&allow_negation=true"
    texts = [p.messages[0].content for p in load_prompts(uri, limit=2).prompts]
    assert len(texts) == 2
    assert all(sum(text.split("\n")[0].count(sign) for sign in "+-") >= 4 for text in texts)


def test_reasoning_gym_task_with_several_answers_is_scored_by_the_package() -> None:
    uri = "reasoning_gym:countdown?size=1&max_numbers=5"
    prompt = load_prompts(uri).prompts[0]
    assert prompt.verifier.kind == "reasoning_gym"
    params = prompt.verifier.params
    assert params["dataset"] == "countdown"
    assert params["entry"]["answer"] == prompt.reference
    assert params["config"] == {"size": 1, "seed": 0, "max_numbers": 5}
    assert load_prompts(uri, default_verifier="http").prompts[0].verifier.kind == "http"


def test_reasoning_gym_task_with_several_answers_is_not_left_to_exact() -> None:
    with pytest.raises(ConfigError, match=r"set data\.verifier to reasoning_gym"):
        load_prompts("reasoning_gym:countdown?size=1", default_verifier="exact")


def test_reasoning_gym_task_without_an_answer_is_refused() -> None:
    assert "no answer that its own scorer accepts" in refusal("reasoning_gym:rubiks_cube?size=1")


def test_reasoning_gym_task_that_its_seed_does_not_fix_is_refused() -> None:
    assert "write them to a .jsonl file once" in refusal("reasoning_gym:word_ladder?seed=1")


def test_reasoning_gym_exact_named_by_the_user_still_reads_the_marker() -> None:
    dataset = load_prompts("reasoning_gym:gcd?size=1", default_verifier="exact")
    assert dataset.prompts[0].verifier.params["after"] == "Answer:"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("reasoning_gym:chain_sun", "unknown task 'chain_sun'; did you mean 'chain_sum'?"),
        ("reasoning_gym:chain_sum?sise=3", "'sise'); correct the query"),
        ("reasoning_gym:chain_sum?size=many", "reasoning-gym refuses this"),
        ("reasoning_gym:chain_sum?min_terms=0", "min_terms must be positive"),
        ("reasoning_gym:chain_sum?size", "write key=value&key=value"),
        ("reasoning_gym:", "no name; write reasoning_gym:NAME?key=value"),
        ("datasets:gsm8k?splt=train", "unknown key 'splt'; did you mean 'split'?"),
    ],
)
def test_bad_uri_is_refused_with_the_remedy(uri: str, expected: str) -> None:
    assert expected in refusal(uri)


@pytest.mark.parametrize(
    ("package", "uri", "remedy"),
    [
        ("reasoning_gym", "reasoning_gym:gcd", "pip install 'rlsd[reasoning-gym]'"),
        ("datasets", "datasets:gsm8k", "pip install 'rlsd[datasets]'"),
    ],
)
def test_missing_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, package: str, uri: str, remedy: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert remedy in refusal(uri)


def stub_of_datasets(load_dataset: object) -> ModuleType:
    """Stands in for the `datasets` package, which tests do not install."""
    module = ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    return module


def test_datasets_query_names_split_configuration_and_revision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[str, dict[str, str]]] = []

    def load_dataset(path: str, **query: str) -> list[dict[str, str]]:
        calls.append((path, query))
        return [{"question": "1 + 1?", "answer": "Two.\n#### 2"}]

    monkeypatch.setitem(sys.modules, "datasets", stub_of_datasets(load_dataset))
    dataset = load_prompts("datasets:openai/gsm8k?name=main&split=test")
    assert calls == [("openai/gsm8k", {"split": "test", "name": "main"})]
    assert dataset.prompts[0].id == "openai/gsm8k-test:1"
    assert dataset.prompts[0].verifier == VerifierSpec(kind="math")


def test_dataset_that_cannot_be_loaded_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load_dataset(path: str, **query: str) -> None:
        raise ValueError("Unknown split.\nShould be one of ['test']")

    monkeypatch.setitem(sys.modules, "datasets", stub_of_datasets(load_dataset))
    assert "Should be one of ['test']); correct name and split" in refusal("datasets:x")
