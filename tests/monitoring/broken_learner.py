"""`python -m tests.monitoring.broken_learner`: the learner with three bugs, each behind a file.

What these alerts guard cannot break without a bug, so here are some. A bug is active while a file
of its name is in the folder RLSD_TEST_BUGS; everything else is services.learner as it is.

residual    the ledger forgets to count what became of a group
twice       the last group of a batch is put into the next one again
flips       every other token is pushed the other way
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

_BUGS = Path(os.environ["RLSD_TEST_BUGS"])


def _is_active(bug: str) -> bool:
    return (_BUGS / bug).exists()


def _forget_outcomes() -> None:
    from services.learner.ledger import Ledger

    resolve = Ledger.resolve

    def forgetful(self: Ledger, group: Any) -> None:
        trained = self.trained
        resolve(self, group)
        if _is_active("residual"):
            self.trained = trained

    Ledger.resolve = forgetful  # type: ignore[method-assign]


def _train_again() -> None:
    from rlsd.trajectory import GroupOutcome
    from services.learner.gathering import Gathering

    seal, last = Gathering._seal, []

    def repeating(self: Gathering) -> Any:
        groups = seal(self)
        if groups is None:
            return None
        if last and _is_active("twice"):
            groups = [*last, *groups]
        last[:] = [g for g in groups if g.outcome is GroupOutcome.TRAINED][-1:]
        return groups

    Gathering._seal = repeating  # type: ignore[method-assign]


def _flip_signs() -> None:
    from rlsd.objectives import credit

    reweighted = credit.reweighted_advantages

    def flipped(*args: Any, **kwargs: Any) -> Any:
        token_BT = reweighted(*args, **kwargs)
        if _is_active("flips"):
            token_BT = token_BT.clone()
            token_BT[:, ::2] *= -1.0
        return token_BT

    credit.reweighted_advantages = flipped


if __name__ == "__main__":
    _forget_outcomes()
    _train_again()
    _flip_signs()
    from services.learner.__main__ import main

    main()
