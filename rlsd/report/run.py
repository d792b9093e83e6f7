"""The report of one run: `report.html` in its folder, a single file that opens anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsd.batch_log import BatchLog, BatchLogError
from rlsd.config import RunConfig
from rlsd.errors import ServiceError
from rlsd.report import credit, page, panels
from rlsd.report.charts import Chart
from rlsd.report.heatmap import NUM_OPEN, GroupView, Palette, group_view
from rlsd.report.methods import MethodWords, words_of
from rlsd.report.page import TokenTexts
from rlsd.report.records import Row, RunRecord, column, flat_keys, number, read_run
from rlsd.report.statistics import binomial_error

FILE_NAME = "report.html"
DEFAULT_EPS_W = 0.2
"""The published half-width, for a configuration that leaves it to the method."""
GROUPS_EACH = 2
"""Groups shown for each of early, middle and late."""
NUM_TRIES = 4
"""Steps read to find one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heatmaps:
    """The groups that were read, and those that are shown."""

    views: tuple[GroupView, ...] = ()
    position: Chart | None = None
    problem: str = ""
    """Why there is nothing to show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Curves of one part of the page."""

    charts: Sequence[Chart]
    constants: Sequence[str]
    """Metrics that never moved, in words."""

    def __bool__(self) -> bool:
        return bool(self.charts or self.constants)


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The result in one line."""

    start: float | None
    end: float | None
    steps: int
    duration_s: float | None
    num_prompts: int | None
    error: float | None
    """Binomial standard error of the last accuracy."""


def write_run_report(run_dir: Path, *, token_texts: TokenTexts | None = None) -> Path:
    """Write `report.html` into `run_dir` and return its path.

    Args:
        token_texts: token ids → texts; None reads the tokenizer in the model's folder and shows ids
            when there is none.

    Raises:
        ConfigError: there is no such folder.
    """
    record = read_run(run_dir)
    words = words_of(record.method)
    heatmaps = _heatmaps(run_dir / "batches", record, _palette(record, words, token_texts))
    content = page.render(
        "run.html",
        run=record,
        words=words,
        facts=facts_of(record),
        banners=banners_of(record),
        headline=headline_of(record),
        outcomes=record.outcomes,
        reported_residual=number(record.summary, "identity_residual"),
        progress=_progress(record),
        held_out=panels.held_out_chart(record),
        side=panels.side_charts(record),
        training=_section(panels.TRAINING, record.metrics),
        credit=_section(panels.CREDIT if words.weighted else (), record.metrics),
        heatmaps=heatmaps,
        rule=_rule(record.config),
        controls=controls_of(record.config),
        num_open=NUM_OPEN,
        timing=panels.timing_chart(record.metrics),
        phases=panels.phases_of(record),
        step_s=_mean(column(record.metrics, "step_s").values),
        table=metric_table(record.metrics),
    )
    return page.write(run_dir / FILE_NAME, content)


def headline_of(record: RunRecord) -> Headline:
    """Held-out accuracy at both ends: the summary's, or the evaluations' while there is none."""
    greedy = column(record.evaluations, "greedy_accuracy").values
    start = number(record.summary, "held_out_accuracy.start")
    end = number(record.summary, "held_out_accuracy.end")
    if start is None and greedy:
        start = greedy[0]
    if end is None and len(greedy) > 1:
        end = greedy[-1]
    num_prompts = number(record.evaluations[-1], "num_prompts") if record.evaluations else None
    duration = number(record.summary, "duration_s")
    if duration is None and record.metrics:
        duration = sum(column(record.metrics, "step_s").values) or None
    return Headline(
        start=start,
        end=end,
        steps=record.last_step,
        duration_s=duration,
        num_prompts=None if num_prompts is None else int(num_prompts),
        error=binomial_error(end, int(num_prompts)) if end is not None and num_prompts else None,
    )


def facts_of(record: RunRecord) -> list[tuple[str, str]]:
    """What ran, as (name, value) pairs."""
    config = record.config
    if config is None:
        return [("method", record.method)] if record.method else []
    facts = [
        ("method", config.method.name),
        ("model", config.model.path),
        ("training data", config.data.train),
        ("held-out data", config.data.held_out or "none"),
        ("seed", str(config.run.seed)),
        ("batch", f"{config.run.groups_per_step} groups × {config.rollout.group_size} completions"),
        ("learning rate", f"{config.learner.lr:g}"),
        ("temperature", f"{config.rollout.temperature:g}"),
        ("max staleness", str(config.run.max_staleness)),
    ]
    settings = config.method.overrides()
    if settings:
        facts.append(("method settings", ", ".join(f"{k} = {v}" for k, v in settings.items())))
    if words_of(config.method.name).weighted:
        teacher = config.teacher.model or f"own weights, copied every {config.teacher.sync_every}"
        facts.append(("teacher", teacher))
    return facts


def controls_of(config: RunConfig | None) -> list[str]:
    """What this run does differently on purpose, so that nobody takes it for the method."""
    if config is None:
        return []
    controls = []
    if config.method.permute:
        controls.append(
            "Control run: Δ was permuted within each completion before training. The heatmaps show "
            "Δ where the teacher put it, not where it was used."
        )
    if config.teacher.reference == "other":
        controls.append("Control run: the teacher read the privileged context of another prompt.")
    return controls


def banners_of(record: RunRecord) -> list[str]:
    """What a reader must know before the numbers."""
    banners = [*controls_of(record.config)]
    if record.summary is None:
        banners.append(
            f"No summary.json: the run is still going on, or it was killed. This page shows it up "
            f"to step {record.last_step}."
        )
    elif record.summary.get("interrupted") is True:
        banners.append(f"The run was interrupted after step {record.last_step}.")
    return banners + list(record.notes)


def metric_table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """First, last, smallest and largest value of every metric the learner wrote."""
    table = []
    for key in flat_keys(rows):
        values = column(rows, key).values
        table.append(
            {
                "key": key,
                "first": values[0],
                "last": values[-1],
                "low": min(values),
                "high": max(values),
                "num": len(values),
            }
        )
    return table


def _section(chosen: Sequence[panels.Panel], rows: Sequence[Row]) -> Section:
    """Charts for what moves, words for what does not."""
    return Section(
        charts=panels.charts_of(panels.moving(chosen, rows), rows),
        constants=panels.constants(chosen, rows),
    )


def _progress(record: RunRecord) -> dict[str, int]:
    """Groups that the steps so far accounted for, for a run without a final accounting."""
    names = ("trained", "rejected", "failed")
    return {n: int(sum(column(record.metrics, f"groups.{n}").values)) for n in names}


def _rule(config: RunConfig | None) -> credit.CreditRule:
    if config is None:
        return credit.CreditRule(eps_w=DEFAULT_EPS_W)
    eps_w = config.method.eps_w
    return credit.CreditRule(
        eps_w=DEFAULT_EPS_W if eps_w is None else eps_w,
        negative_only=bool(config.method.negative_only),
    )


def _palette(record: RunRecord, words: MethodWords, token_texts: TokenTexts | None) -> Palette:
    texts = token_texts
    if texts is None and record.config is not None:
        texts = page.tokenizer_texts(Path(record.config.model.path))
    return Palette(words=words, rule=_rule(record.config), token_texts=texts or page.id_texts)


def _heatmaps(folder: Path, record: RunRecord, palette: Palette) -> Heatmaps:
    """Groups of an early, a middle and a late step."""
    if not folder.is_dir():
        return Heatmaps(problem="There is no batch log in this folder.")
    log = BatchLog(folder)
    try:
        batches = [_batch_near(log, place) for place in _spread(log.steps())]
    except (BatchLogError, ServiceError) as cause:
        return Heatmaps(problem=f"The batch log cannot be read: {cause}")
    picked = [p for b in batches for p in credit.pick_groups(b, at_most=GROUPS_EACH)]
    lams = dict(zip(*_steps_and_lams(record), strict=True))
    places, sizes = credit.positions([p.group for batch in batches for p in batch])
    return Heatmaps(
        views=tuple(group_view(p, palette, lams.get(float(p.step))) for p in picked),
        position=panels.position_chart(places.tolist(), sizes.tolist()),
        problem="" if picked else "The batch log holds no completions yet.",
    )


def _steps_and_lams(record: RunRecord) -> tuple[tuple[float, ...], tuple[float, ...]]:
    lam = column(record.metrics, "lam")
    return lam.steps, lam.values


def _spread(steps: Sequence[int]) -> list[list[int]]:
    """An early, a middle and a late step, each with those to try when it shows nothing.

    Few are read, so that a large run's report is quick; none is read for two places.
    """
    third = -(-len(steps) // 3)
    parts = [list(steps[i : i + third]) for i in range(0, len(steps), max(third, 1))]
    if len(parts) > 1:
        parts[-1].reverse()
    if len(parts) > 2:
        parts[1] = parts[1][len(parts[1]) // 2 :]
    return [part[:NUM_TRIES] for part in parts]


def _batch_near(log: BatchLog, steps: Sequence[int]) -> list[credit.Picked]:
    """The first of the steps' batches with a telling group; without one, the first batch."""
    first: list[credit.Picked] = []
    for step in steps:
        batch = [credit.Picked(step=step, group=group) for group in log.read(step).groups]
        if any(credit.is_telling(p.group) for p in batch):
            return batch
        first = first or batch
    return first


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
