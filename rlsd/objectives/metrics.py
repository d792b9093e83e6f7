"""What to watch while an objective is minimised, in a form that adds up.

A metric is a tensor [2]: a sum over tokens or sequences and the weight it is to be divided by. Add
the tensors over microbatches and ranks, then divide once (`mean_metrics`): the mean of a whole
batch is not the mean of its parts' means. Names ending in `_positive` and `_negative` hold the same
quantity over trajectories with A > 0 and A < 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rlsd.objectives.reductions import masked


def mean_metrics(totals: Mapping[str, Tensor]) -> dict[str, float]:
    """The means of added-up metrics; one that nothing was counted in is left out."""
    pairs = {name: total.tolist() for name, total in totals.items()}
    return {name: value / weight for name, (value, weight) in pairs.items() if weight > 0}


def token_metric(values_BT: Tensor, where_BT: Tensor) -> Tensor:
    """[2] the sum of the values (numbers or bools) where True, and how many there are."""
    chosen_BT = masked(values_BT.detach(), where_BT)
    return torch.stack([chosen_BT.sum(), where_BT.sum().to(chosen_BT.dtype)])


def sequence_metric(values_B: Tensor, where_B: Tensor) -> Tensor:
    """[2] the sum of the values of the rows that are True, and how many rows there are."""
    chosen_B = masked(values_B.detach(), where_B)
    return torch.stack([chosen_B.sum(), where_B.sum().to(chosen_B.dtype)])


def effective_share(mean: float, mean_square: float) -> float:
    """Of weights with this mean and mean square: `mean^2 / mean_square`, 1 when all are equal.

    As many equal weights as that share of all would estimate as well.
    """
    return mean**2 / mean_square


def split_metric(
    name: str, values_BT: Tensor, where_BT: Tensor, advantages_B: Tensor
) -> dict[str, Tensor]:
    """The metric over all tokens, and over those of each sign of the advantage."""
    sign_B1 = advantages_B.detach().sign()[:, None]
    return {
        name: token_metric(values_BT, where_BT),
        f"{name}_positive": token_metric(values_BT, where_BT & (sign_B1 > 0)),
        f"{name}_negative": token_metric(values_BT, where_BT & (sign_B1 < 0)),
    }
