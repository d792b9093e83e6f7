"""The oracle: inputs, and values and gradients worked out independently from the formulas."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

VECTORS = json.loads((Path(__file__).parents[2] / "golden" / "objectives.json").read_text())


@dataclass(frozen=True)
class Fixture:
    """Named float64 inputs as attributes."""

    tensors: dict[str, torch.Tensor]

    def __getattr__(self, name):
        return self.tensors[name]


@dataclass(frozen=True)
class Oracle:
    """The expected entries."""

    entries: dict[str, dict]

    def __call__(self, name, key):
        return torch.tensor(self.entries[name][key], dtype=torch.float64)

    def check(self, name, loss, *, wrt, key="dloss_dcur"):
        """The loss and its gradient are those of the entry."""
        (gradient,) = torch.autograd.grad(loss, wrt)
        torch.testing.assert_close(loss.detach(), self(name, "loss"), rtol=0, atol=1e-6)
        torch.testing.assert_close(gradient, self(name, key), rtol=0, atol=1e-6)


@pytest.fixture(scope="session")
def oracle():
    return Oracle(VECTORS["expected"])


@pytest.fixture
def token():
    """Six trajectories of two prompts, log-probs of their sampled tokens; junk in the padding."""
    raw = VECTORS["inputs"]["token"]
    tensors = {k: torch.tensor(v, dtype=torch.float64) for k, v in raw.items() if k != "uid"}
    tensors["mask"] = tensors["mask"].bool()
    tensors["uid"] = torch.tensor(raw["uid"])
    tensors["valid"] = torch.ones(6, dtype=torch.bool)
    tensors["cur"].requires_grad_()
    return Fixture(tensors)


@pytest.fixture
def vocab():
    """Two trajectories with the logits of five tokens at each position."""
    raw = VECTORS["inputs"]["vocab"]
    tensors = {k: torch.tensor(v, dtype=torch.float64) for k, v in raw.items() if k != "ids"}
    tensors["mask"] = tensors["mask"].bool()
    tensors["ids"] = torch.tensor(raw["ids"])
    tensors["cur_logits"].requires_grad_()
    for name in ("cur", "old", "tea"):
        logprobs = tensors[f"{name}_logits"].log_softmax(-1)
        tensors[f"{name}_all"] = logprobs
        tensors[name] = logprobs.gather(-1, tensors["ids"][..., None]).squeeze(-1)
    return Fixture(tensors)
