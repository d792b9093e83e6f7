"""Versions of the example's model as the learner publishes them."""

from __future__ import annotations

import torch

from rlsd.policy.loading import load_model, save_model, take_probe
from rlsd.weights import FolderStore

BASE = "examples/chain/base"
PROBE = [1, 4, 6, 15, 24, 14, 7, 7, 9, 20, 3, 11]


class Policy:
    """The learner's side: a model that changes, and its published versions."""

    def __init__(self, store: FolderStore) -> None:
        torch.set_num_threads(1)
        self.model = load_model(BASE, device=torch.device("cpu"))
        self.store = store
        self.version = -1
        self._noise = torch.Generator().manual_seed(0)

    def publish(self, *, change: float = 0.02) -> int:
        """Change every parameter a little and publish; the new version."""
        if self.version >= 0:
            with torch.no_grad():
                for parameter in self.model.parameters():
                    noise = torch.randn(parameter.shape, generator=self._noise)
                    parameter.add_(change * noise)
        self.version += 1
        self.store.publish(
            self.version,
            step=self.version,
            probe=take_probe(self.model, PROBE),
            save=lambda folder: save_model(self.model, self.model.state_dict(), folder),
        )
        return self.version
