"""A training method is one choice over independent parts; a preset is a named choice.

    method = method_named("rlsd", decay_steps=60, student_source="current")

What each part computes stands in the module of its name; `loss.objective` composes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, assert_never, get_type_hints

from rlsd.trajectory import PrivilegedSource, TeacherNeed


class AdvantageKind(StrEnum):
    """How the rewards of a group become one advantage per trajectory (`advantages`)."""

    NONE = "none"
    """0 everywhere: the method reads no verdict."""
    GRPO = "grpo"
    DR_GRPO = "dr_grpo"
    RLOO = "rloo"
    MAXRL = "maxrl"


class CreditKind(StrEnum):
    """How a trajectory's advantage becomes one per token (`credit`)."""

    NONE = "none"
    """Every token gets the trajectory's advantage."""
    RLSD = "rlsd"
    OPD = "opd"
    """The teacher alone; the verdict is not read."""
    ADDITIVE = "additive"


class StudentSource(StrEnum):
    """Whose log-prob of a token the teacher's is compared with."""

    SCORER = "scorer"
    """The teacher service's own, on the plain prompt: same engine and weights as the teacher's."""
    OLD = "old"
    """The learner's, before the first step on the batch: one fixed credit for each trajectory."""
    CURRENT = "current"
    """The learner's now, detached: the credit moves with the policy, as in RLSD's release."""


class SurrogateKind(StrEnum):
    """The policy-gradient loss (`surrogates`)."""

    NONE = "none"
    PPO = "ppo"
    GSPO = "gspo"
    """PPO's on the sequence ratio; takes one advantage per sequence."""
    GSPO_TOKEN = "gspo_token"
    """The same values with each token's own gradient; takes token advantages."""
    CISPO = "cispo"
    IMPORTANCE = "importance"
    """Unclipped, against the rollout log-probs."""
    DPPO = "dppo"
    """Dropped by change of probability, against the rollout log-probs."""


class MismatchKind(StrEnum):
    """The weight against the gap between sampler and learner (`mismatch`)."""

    NONE = "none"
    DECOUPLED = "decoupled"
    TOKEN_TIS = "token_tis"
    SEQUENCE_TIS = "sequence_tis"
    SEQUENCE_MIS = "sequence_mis"
    GEOMETRIC = "geometric"
    ICEPOP = "icepop"


class DivergenceKind(StrEnum):
    """The distillation loss (`divergences`)."""

    NONE = "none"
    JSD = "jsd"
    """Generalised JSD on the teacher's support, renormalised (OPSD)."""
    JSD_TAIL = "jsd_tail"
    """Generalised JSD on the student's support and a tail bucket (SDPO)."""
    SAMPLED = "sampled"
    """Reverse KL on the sampled tokens, through the policy gradient."""


class Reduction(StrEnum):
    """How token losses become one number (`reductions`)."""

    TOKEN_MEAN = "token_mean"
    SEQUENCE_MEAN = "sequence_mean"
    HORIZON_MEAN = "horizon_mean"


class ZeroVariance(StrEnum):
    """What happens to a group whose rewards are all equal."""

    KEEP = "keep"
    """It is trained on: the method's signal is not the advantage."""
    REJECT = "reject"
    """It is not trained on, its numerator being 0, and still counts in the denominators."""
    RESAMPLE = "resample"
    """Another group takes its place; it counts nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A choice for each part. The defaults are GRPO as shipped.

    Raises:
        ValueError: a number out of its range, or two parts that cannot go together.
    """

    advantage: AdvantageKind = AdvantageKind.GRPO
    ddof: int = 1
    """Of the standard deviation in GRPO's advantage: 1 divides by n-1, 0 by n."""

    credit: CreditKind = CreditKind.NONE
    lam: float = 0.5
    """RLSD: the share of token-level credit before any decay."""
    eps_w: float = 0.2
    """RLSD: half-width of the clip on the token weight."""
    decay_steps: int = 50
    """RLSD: steps over which `lam` falls linearly to 0; 0 keeps it."""
    student_source: StudentSource = StudentSource.OLD
    negative_only: bool = False
    """RLSD: reweight only trajectories with a negative advantage."""
    permute: bool = False
    """Control: the teacher's evidence shuffled within each sequence."""
    teacher_weight: float = 1.0
    """OPD and additive credit: what one nat of the teacher's evidence is worth."""

    surrogate: SurrogateKind = SurrogateKind.PPO
    clip_low: float | None = 0.2
    """Half-width of the trust region below ratio 1; None leaves it open."""
    clip_high: float = 0.28
    """Half-width of the trust region above ratio 1."""
    dual_clip: float | None = 3.0
    """PPO and GSPO: ceiling on the ratio of a negative advantage; None for no ceiling."""
    dppo_threshold: float = 0.2
    dppo_kl_weight: float = 1e-3

    mismatch: MismatchKind = MismatchKind.NONE
    mismatch_low: float = 0.5
    """Geometric and IcePop: below it the weight is 0."""
    mismatch_high: float = 2.0
    """Cap of the truncated kinds; above it the weight of the others is 0."""

    divergence: DivergenceKind = DivergenceKind.NONE
    beta: float = 0.5
    """JSD: 0 forward KL, 1 reverse KL."""
    alpha: float = 0.5
    """JSD with a tail: the same."""
    pointwise_clip: float | None = None
    """JSD: upper bound on the summand of each token, nats; None for no bound."""
    ratio_cap: float | None = None
    """Multiplies the divergence by the constant min(policy/old, cap); None by 1."""
    divergence_weight: float = 1.0

    reduction: Reduction = Reduction.TOKEN_MEAN
    zero_variance: ZeroVariance = ZeroVariance.REJECT
    privileged: PrivilegedSource = PrivilegedSource.REFERENCE

    def __post_init__(self) -> None:
        for name in ("lam", "eps_w", "beta", "alpha"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be within [0, 1]")
        for name in ("clip_low", "clip_high", "mismatch_high", "ratio_cap", "pointwise_clip"):
            bound = getattr(self, name)
            if bound is not None and bound <= 0:
                raise ValueError(f"{name} is {bound}; it must be greater than 0")
        for name in ("decay_steps", "divergence_weight", "mismatch_low"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        if self.dual_clip is not None and self.dual_clip <= 1.0:
            raise ValueError(f"dual_clip is {self.dual_clip}; it must be greater than 1")
        if self.ddof not in (0, 1):
            raise ValueError(f"ddof is {self.ddof}; it must be 0 or 1")
        self._check_parts()

    def _check_parts(self) -> None:
        if self.surrogate is SurrogateKind.GSPO and self.credit is not CreditKind.NONE:
            raise ValueError(
                "surrogate 'gspo' takes one advantage per sequence; "
                f"with credit '{self.credit}' use surrogate 'gspo_token'"
            )
        against_rollout = (SurrogateKind.IMPORTANCE, SurrogateKind.DPPO)
        if self.surrogate in against_rollout and self.mismatch is not MismatchKind.NONE:
            raise ValueError(
                f"surrogate '{self.surrogate}' already divides by the rollout probability; "
                f"use mismatch 'none' instead of '{self.mismatch}'"
            )
        if self.surrogate is SurrogateKind.NONE and self.divergence is DivergenceKind.NONE:
            raise ValueError("surrogate and divergence are both 'none': nothing would be learned")

    @property
    def teacher(self) -> TeacherNeed:
        """What the teacher has to send for each trajectory."""
        match self.divergence:
            case DivergenceKind.JSD:
                return TeacherNeed.TEACHER_SUPPORT
            case DivergenceKind.JSD_TAIL:
                return TeacherNeed.STUDENT_SUPPORT
            case DivergenceKind.SAMPLED:
                return TeacherNeed.SAMPLED
            case DivergenceKind.NONE:
                has_credit = self.credit is not CreditKind.NONE
                return TeacherNeed.SAMPLED if has_credit else TeacherNeed.NONE
            case _:
                assert_never(self.divergence)


_GRPO = Method()
_OPSD = Method(
    advantage=AdvantageKind.NONE,
    surrogate=SurrogateKind.NONE,
    divergence=DivergenceKind.JSD,
    zero_variance=ZeroVariance.KEEP,
)

PRESETS: Mapping[str, Method] = MappingProxyType(
    {
        "grpo": _GRPO,
        "dr_grpo": replace(
            _GRPO,
            advantage=AdvantageKind.DR_GRPO,
            clip_high=0.2,
            dual_clip=None,
            reduction=Reduction.HORIZON_MEAN,
        ),
        "dapo": replace(_GRPO, dual_clip=None, zero_variance=ZeroVariance.RESAMPLE),
        "gspo": replace(
            _GRPO,
            surrogate=SurrogateKind.GSPO,
            clip_low=3e-4,
            clip_high=4e-4,
            dual_clip=None,
            reduction=Reduction.SEQUENCE_MEAN,
        ),
        "cispo": replace(_GRPO, surrogate=SurrogateKind.CISPO, clip_low=None, dual_clip=None),
        "rlsd": replace(_GRPO, credit=CreditKind.RLSD),
        "opsd": _OPSD,
        "grpo+opsd": replace(
            _GRPO,
            divergence=DivergenceKind.JSD,
            # The RLSD paper does not publish the coefficient of this baseline.
            divergence_weight=0.1,
            zero_variance=ZeroVariance.KEEP,
        ),
        "sdpo": replace(
            _OPSD,
            divergence=DivergenceKind.JSD_TAIL,
            ratio_cap=2.0,
            mismatch=MismatchKind.TOKEN_TIS,
            privileged=PrivilegedSource.SIBLING,
        ),
        "opd": Method(
            advantage=AdvantageKind.NONE,
            credit=CreditKind.OPD,
            surrogate=SurrogateKind.IMPORTANCE,
            zero_variance=ZeroVariance.KEEP,
            privileged=PrivilegedSource.NONE,
        ),
    }
)
"""Each name's method, with the settings it ships with."""


def method_named(name: str, **overrides: Any) -> Method:
    """A preset with some fields replaced; closed choices may be given as their text.

    Raises:
        ValueError: an unknown preset, field or choice; the message lists the valid ones.
    """
    if name not in PRESETS:
        raise ValueError(f"no method '{name}'; the methods are {', '.join(PRESETS)}")
    names = [field.name for field in fields(Method)]
    for key in overrides:
        if key not in names:
            raise ValueError(
                f"method '{name}' has no field '{key}'; the fields are {', '.join(names)}"
            )
    return replace(PRESETS[name], **{key: _field_value(key, v) for key, v in overrides.items()})


def _field_value(key: str, value: Any) -> Any:
    """The value, as a member of the field's closed set if it has one."""
    kind = get_type_hints(Method)[key]
    if not (isinstance(kind, type) and issubclass(kind, StrEnum)):
        return value
    if value not in list(kind):
        raise ValueError(f"{key} is '{value}'; the choices are {', '.join(kind)}")
    return kind(value)
