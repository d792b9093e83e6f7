import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlsd.policy.loading import load_model
from rlsd.policy.scoring import (
    completion_logits,
    gather_logprobs,
    microbatches,
    pad_rows,
    sequence_logprobs,
)


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return load_model("examples/chain/base", device=torch.device("cpu"))


def logprobs(model, prefixes, completions):
    rows = pad_rows(prefixes, completions, pad_id=0)
    with torch.inference_mode():
        logits = completion_logits(model, rows, temperature=1.0)
        scores = gather_logprobs(logits, rows.completion_BT)
    return [scores[i, : len(c)].numpy() for i, c in enumerate(completions)]


def test_padding_changes_no_number(model):
    prefixes = [[1, 4, 6, 15], [1, 4, 6, 15, 24, 14, 24], [1, 4]]
    completions = [[14, 11, 15], [13], [18, 11, 22, 11, 2]]
    together = logprobs(model, prefixes, completions)
    alone = [logprobs(model, [p], [c])[0] for p, c in zip(prefixes, completions, strict=True)]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_scoring_a_completion_is_scoring_the_end_of_the_sequence(model):
    prefix, completion = [1, 4, 6, 15, 24], [14, 11, 15, 2]
    whole = sequence_logprobs(model, prefix + completion).numpy()
    np.testing.assert_allclose(logprobs(model, [prefix], [completion])[0], whole[-4:], atol=2e-6)


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=30),
    st.integers(20, 300),
)
def test_microbatches_hold_every_row_once_in_order_and_stay_within_the_limit(lengths, limit):
    prefixes, completions = zip(*lengths, strict=True)
    parts = list(microbatches(prefixes, completions, max_tokens=limit))
    assert [row for part in parts for row in part] == list(range(len(lengths)))
    for part in parts:
        width = max(prefixes[r] for r in part) + max(completions[r] for r in part)
        assert len(part) == 1 or width * len(part) <= limit
