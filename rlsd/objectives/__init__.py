"""The mathematics: advantages, token credit, surrogates, divergences, and their composition.

Pure torch functions on plain arguments, without I/O. Tensor names end in their shape: B sequences,
T positions, K support tokens, V vocabulary. Log-probs are in nats.

Another trainer needs one function, `rlsd_token_advantages`; this project's learner needs four:
`method_named`, `group_advantages`, `lambda_at` and `objective`.
"""

from rlsd.objectives.advantages import (
    dapo_keep,
    dr_grpo_advantages,
    grpo_advantages,
    maxrl_advantages,
    overlong_penalty,
    rloo_advantages,
)
from rlsd.objectives.credit import (
    additive_token_advantages,
    opd_token_advantages,
    permute_within_sequence,
    reweighted_advantages,
    rlsd_token_advantages,
    rlsd_weights,
    teacher_delta,
    weight_entropy_ratio,
)
from rlsd.objectives.divergences import (
    full_jsd,
    generalized_jsd,
    sampled_reverse_kl,
    support_jsd,
    support_tail_jsd,
    token_entropy,
    truncated_ratio,
)
from rlsd.objectives.loss import Denominators, Loss, ObjectiveBatch, group_advantages, objective
from rlsd.objectives.methods import (
    PRESETS,
    AdvantageKind,
    CreditKind,
    DivergenceKind,
    Method,
    MismatchKind,
    Reduction,
    StudentSource,
    SurrogateKind,
    ZeroVariance,
    method_named,
)
from rlsd.objectives.metrics import (
    effective_share,
    mean_metrics,
    sequence_metric,
    split_metric,
    token_metric,
)
from rlsd.objectives.mismatch import (
    decoupled_weights,
    geometric_rejection,
    icepop,
    sequence_mis,
    sequence_tis,
    token_tis,
)
from rlsd.objectives.reductions import (
    at_least_float32,
    horizon_mean,
    masked,
    sequence_mean,
    token_mean,
)
from rlsd.objectives.schedules import lambda_at, teacher_version_at
from rlsd.objectives.surrogates import (
    cispo_surrogate,
    clipped_ratio,
    clipped_surrogate,
    dppo_surrogate,
    importance_surrogate,
    probability_ratio,
    sequence_log_ratio,
    sequence_token_log_ratio,
)

__all__ = [
    "PRESETS",
    "AdvantageKind",
    "CreditKind",
    "Denominators",
    "DivergenceKind",
    "Loss",
    "Method",
    "MismatchKind",
    "ObjectiveBatch",
    "Reduction",
    "StudentSource",
    "SurrogateKind",
    "ZeroVariance",
    "additive_token_advantages",
    "at_least_float32",
    "cispo_surrogate",
    "clipped_ratio",
    "clipped_surrogate",
    "dapo_keep",
    "decoupled_weights",
    "dppo_surrogate",
    "dr_grpo_advantages",
    "effective_share",
    "full_jsd",
    "generalized_jsd",
    "geometric_rejection",
    "group_advantages",
    "grpo_advantages",
    "horizon_mean",
    "icepop",
    "importance_surrogate",
    "lambda_at",
    "masked",
    "maxrl_advantages",
    "mean_metrics",
    "method_named",
    "objective",
    "opd_token_advantages",
    "overlong_penalty",
    "permute_within_sequence",
    "probability_ratio",
    "reweighted_advantages",
    "rloo_advantages",
    "rlsd_token_advantages",
    "rlsd_weights",
    "sampled_reverse_kl",
    "sequence_log_ratio",
    "sequence_mean",
    "sequence_metric",
    "sequence_mis",
    "sequence_tis",
    "sequence_token_log_ratio",
    "split_metric",
    "support_jsd",
    "support_tail_jsd",
    "teacher_delta",
    "teacher_version_at",
    "token_entropy",
    "token_mean",
    "token_metric",
    "token_tis",
    "truncated_ratio",
    "weight_entropy_ratio",
]
