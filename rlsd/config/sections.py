"""The tables of the file, but those about outside verifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, IPvAnyNetwork, model_validator

from rlsd.config.section import Section


class RunSection(Section):
    """The run as a whole."""

    id: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    """Names the folder of the run, its streams and its weights."""
    dir: Path = Path("runs")
    """Where run folders are made; shared by all services (a ReadWriteMany volume on a cluster),
    unless `weights.url` is given."""
    seed: int = 0
    """Fixes prompt order and sampling; two runs with one seed see the same prompts."""
    steps: int = Field(default=200, ge=1)
    """Optimizer steps."""
    groups_per_step: int = Field(default=8, ge=1)
    """Groups (prompts) that one step consumes."""
    max_staleness: int = Field(default=0, ge=0)
    """Versions a trajectory may be behind when it is trained on; 0 is on-policy."""
    transport: Literal["redis", "grpc"] = "redis"
    """redis: stages are stream workers. grpc: the learner calls the stages itself."""
    abandoned_after_s: float = Field(default=30.0, gt=0)
    """Seconds without a heartbeat after which a worker's groups pass to another one."""
    stall_after_s: float = Field(default=120.0, ge=10)
    """Seconds without progress after which a service's `/livez` answers 503. Longer than one
    microbatch, one checkpoint or one installation of weights takes."""
    threads: int = Field(default=1, ge=1)
    """Compute threads of each process. More threads than cores slow everything down."""


class WeightsSection(Section):
    """Where the learner publishes weights; rollout and teacher fetch them from there."""

    url: str = Field(default="", pattern=r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#]*)?)?$")
    """s3://BUCKET/PREFIX; then only the learner needs the folder of the run. Empty: in that folder,
    which all services see."""
    endpoint_url: str = Field(default="", pattern=r"^(https?://.+)?$")
    """http(s)://host:port of a store that is not Amazon's."""
    region: str = ""
    """Of the bucket; empty: as the environment says."""
    timeout_s: float = Field(default=300.0, gt=0, lt=600)
    """Seconds until a version is published or fetched, an outage of the store included."""

    @model_validator(mode="after")
    def _has_a_bucket(self) -> Self:
        if (self.endpoint_url or self.region) and not self.url:
            raise ValueError("endpoint_url and region are of a store: give its url, s3://BUCKET")
        return self


class ModelSection(Section):
    """The policy."""

    path: str
    """Folder (or hub name) with a transformers causal language model and its tokenizer."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of generation and scoring; the learner keeps float32 master weights."""


class DataSection(Section):
    """Prompts to train on and prompts to measure on."""

    train: str
    """Path (.jsonl, .json, .parquet) or `reasoning_gym:TASK?size=N` or `datasets:NAME?split=S`."""
    held_out: str | None = None
    """The same for evaluation; never trained on."""
    shape: Literal["auto", "rlsd", "gsm8k", "verl", "trl"] = "auto"
    """How the records are written."""
    verifier: str | None = None
    """Verifier kind for records that name none."""
    limit: int | None = Field(default=None, ge=1)
    """Read at most this many training records."""
    image_cidrs: tuple[IPvAnyNetwork, ...] = ()
    """Networks beyond the public ones from which images may be fetched by URL; only there by http.
    """
    curriculum: Literal["none", "pass_rate"] = "none"
    """none: every record once in each epoch. pass_rate: oftener those whose completions sometimes
    pass, once all have been seen (docs/configuration.md)."""


class MethodSection(Section):
    """What is learned from a batch: a named choice over advantages, credit, surrogate, divergence.

    A key left out keeps the method's own default (`docs/objectives.md`).
    """

    name: Literal[
        "grpo", "dr_grpo", "dapo", "gspo", "cispo", "rlsd", "opsd", "grpo+opsd", "sdpo", "opd"
    ] = "rlsd"
    """What it is built from is in `docs/objectives.md`."""
    lam: float | None = Field(default=None, ge=0, le=1)
    """λ at step 0: the share of token-level credit."""
    eps_w: float | None = Field(default=None, ge=0, le=1)
    """Half-width of the clip of the token weight w."""
    decay_steps: int | None = Field(default=None, ge=0)
    """Steps over which λ falls linearly to 0; 0 keeps it constant."""
    student_source: Literal["scorer", "old", "current"] | None = None
    """Whose student log-prob Δ is taken against."""
    negative_only: bool | None = None
    """Reweight only trajectories with a negative advantage."""
    permute: bool | None = None
    """Control: Δ permuted within each sequence (same values, no alignment)."""
    advantage: Literal["grpo", "dr_grpo", "rloo", "maxrl"] | None = None
    """How a group's rewards become advantages."""
    reduction: Literal["token_mean", "sequence_mean", "horizon_mean"] | None = None
    """What the loss is a mean over."""
    mismatch: (
        Literal[
            "none",
            "decoupled",
            "token_tis",
            "sequence_tis",
            "sequence_mis",
            "geometric",
            "icepop",
        ]
        | None
    ) = None
    """Weight against the gap between sampler and learner; token_tis when max_staleness > 0."""
    mismatch_low: float | None = Field(default=None, ge=0)
    """Below it, geometric and icepop weigh 0."""
    mismatch_high: float | None = Field(default=None, gt=0)
    """Cap of the truncated weights; above it the others weigh 0."""
    clip_low: float | None = Field(default=None, gt=0)
    """Half-width of the trust region below ratio 1."""
    clip_high: float | None = Field(default=None, gt=0)
    """Half-width of the trust region above ratio 1."""
    beta: float | None = Field(default=None, ge=0, le=1)
    """Divergence of OPSD: 0 forward KL, 1 reverse KL, between them a generalised JSD."""
    divergence_weight: float | None = Field(default=None, ge=0)
    """Weight of the divergence in the loss."""
    num_support: int = Field(default=64, ge=1)
    """Tokens for each position that a distillation method asks of the teacher."""

    def overrides(self) -> dict[str, Any]:
        """The keys that were set, for `rlsd.objectives.method_named`."""
        return self.model_dump(exclude={"name", "num_support"}, exclude_none=True)


class EngineKeys(Section):
    """Which engine samples or scores; rollout and teacher have one each."""

    engine: Literal["transformers", "vllm", "sglang"] = "transformers"
    """What computes. vllm runs in this process, or at `engine_url`; sglang there only."""
    engine_args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of vLLM's engine in this process, by its own names: tensor_parallel_size,
    max_model_len, …"""
    engine_url: str = ""
    """http(s)://host:port of a running server that no other service uses (docs/engines.md). It
    must see `run.dir` under the same path."""
    engine_key_file: Path | None = None
    """Holds the key that the server asks for."""
    engine_timeout_s: float = Field(default=600.0, gt=0)
    """Seconds until the server's answer to one request is complete; then it is an error."""

    @model_validator(mode="after")
    def _engine_is_where_it_can_be(self) -> Self:
        if self.engine == "sglang" and not self.engine_url:
            raise ValueError("engine 'sglang' is a running server: give its engine_url")
        if self.engine == "transformers" and self.engine_url:
            raise ValueError(
                "engine 'transformers' has no engine_url; use engine = 'vllm' or 'sglang'"
            )
        if self.engine_url and self.engine_args:
            raise ValueError(
                "engine_args are of an engine in this process; give them to the server"
            )
        return self


class RolloutSection(EngineKeys):
    """How completions are drawn."""

    on_update: Literal["continue", "finish", "redo"] = "continue"
    """What becomes of completions under way when new weights arrive (vllm): they go on under
    them, are finished first, or are drawn again."""
    group_size: int = Field(default=8, ge=2)
    """G: completions for each prompt."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature; scoring uses the same."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus share; below 1 the log-probs are those of the full distribution."""
    max_tokens: int = Field(default=512, ge=1)
    """Longest completion; with tools, all turns of a trajectory and the answers between them."""
    max_batch: int = Field(default=256, ge=1)
    """Completions that the engine generates at once."""
    probe_tolerance: float = Field(default=1e-3, gt=0)
    """Largest |Δ log-prob| (nats) allowed between engine and learner after a weight update."""

    @model_validator(mode="after")
    def _has_log_probs_of_what_it_draws_from(self) -> RolloutSection:
        if self.engine != "transformers" and self.top_p < 1:
            raise ValueError(
                f"top_p below 1 cannot be had with engine {self.engine!r}, whose log-probs would "
                f"be those of the truncated distribution; use top_p = 1 or engine = 'transformers'"
            )
        return self


class TeacherSection(EngineKeys):
    """How the teacher reads privileged context."""

    sync_every: int = Field(default=10, ge=1)
    """N: the teacher holds the policy's weights of step floor((s-1)/N)·N; 1 is a live teacher."""
    template: str = (
        "{prompt}\n\nHere is a reference solution:\n{privileged}\n\n"
        "After understanding the reference solution, solve the problem in your own words."
    )
    """The teacher's last user turn; must contain {prompt} and {privileged}."""
    model: str | None = None
    """A fixed external teacher (opd) with the same vocabulary; None: the policy's own weights."""
    reference: Literal["own", "other"] = "own"
    """Control: `other` gives each prompt the privileged context of the next one."""
    max_prefix_tokens: int = Field(default=16384, ge=1)
    """Longer teacher prompts are not scored: the group keeps weight 1 and is counted."""
    max_groups: int = Field(default=32, ge=1)
    """Groups scored together. With 1 no score depends on what else arrived, to the last bit."""

    @model_validator(mode="after")
    def _template_has_both_fields(self) -> TeacherSection:
        for name in ("{prompt}", "{privileged}"):
            if name not in self.template:
                raise ValueError(f"template must contain {name}")
        return self


class LearnerSection(Section):
    """How the policy is updated."""

    ranks: int = Field(default=1, ge=1)
    """Processes that shard the model (FSDP2, torchrun)."""
    lr: float = Field(default=1e-6, gt=0)
    """Learning rate after warm-up."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW, decoupled."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are scaled down to this global norm."""
    microbatch_tokens: int = Field(default=16384, ge=1)
    """Padded tokens of one forward pass; bounds memory, does not change the result."""
    checkpoint_every: int = Field(default=50, ge=1)
    """Steps between checkpoints (the batch log covers the steps between them)."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Older checkpoints are deleted."""
    stage_timeout_s: float = Field(default=600.0, gt=0)
    """When no group comes back for this long, the run ends and says which stage it waits for."""


class EvaluationSection(Section):
    """Held-out measurement, through the same services."""

    every: int = Field(default=20, ge=1)
    """Steps between evaluations; the first is before training, the last after it."""
    samples: int = Field(default=4, ge=0)
    """k of mean@k; 0 measures greedy accuracy alone."""
    limit: int | None = Field(default=256, ge=1)
    """Held-out prompts used."""
    leakage_patterns: tuple[str, ...] = (
        r"reference solution",
        r"the given answer",
        r"as provided",
    )
    """A completion that matches one cites what only the teacher has read."""
