"""The report of a comparison: `compare.html`, and `compare.png` for a README."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rlsd.report import page
from rlsd.report.arms import (
    TARGET,
    Arm,
    Comparison,
    mean_curve,
    pair_of,
    read_comparison,
    row_of,
)
from rlsd.report.charts import CARD, HERO, LOW, Axis, Chart, Series, Stroke, Unit, line_chart
from rlsd.report.panels import ACCURACY
from rlsd.report.reading import reading
from rlsd.report.records import column
from rlsd.report.statistics import NUM_RESAMPLES

LEAKAGE = Axis(label="held-out completions, %", unit=Unit.SHARE, low=0.0, at_least=0.1)
LENGTH = Axis(label="completion, tokens", low=0.0)
HTML_NAME = "compare.html"
PNG_NAME = "compare.png"
PALETTE = (
    "#0072b2", "#d55e00", "#009e73", "#b0508a", "#c98a00", "#56a7d6", "#6b7785", "#7a5cc0",
)  # fmt: skip
"""Colours of the arms in the PNG; the page's style sheet has the same under c1 … c8."""


def write_compare_report(results_path: Path) -> Path:
    """Write `compare.html` and `compare.png` beside `results_path`; return the page's path.

    Raises:
        ConfigError: the results cannot be read, or hold no arm.
    """
    comparison = read_comparison(results_path)
    rows = [row_of(arm, comparison) for arm in comparison.arms]
    pairs = [pair_of(comparison.subject, arm, comparison) for arm in comparison.arms[1:]]
    seeds = sorted({run.seed for arm in comparison.arms for run in arm.runs})
    content = page.render(
        "compare.html",
        comparison=comparison,
        seeds=seeds,
        rows=rows,
        pairs=pairs,
        target=TARGET,
        num_resamples=NUM_RESAMPLES,
        sentences=reading(comparison, rows, pairs),
        curves=curves_chart(comparison),
        leakage=_side_chart(comparison, "Leakage", "leakage", LEAKAGE),
        length=_side_chart(comparison, "Completion length", "completion_tokens_mean", LENGTH),
        by_arm=[arm_chart(comparison, i) for i in range(len(comparison.arms))],
        colours=[_colour(i) for i in range(len(comparison.arms))],
    )
    page.write(results_path.with_name(PNG_NAME), curves_png(comparison))
    return page.write(results_path.with_name(HTML_NAME), content)


def curves_chart(comparison: Comparison) -> Chart | None:
    """The mean of every arm, with its seeds as thin lines."""
    thin = [s for i, arm in enumerate(comparison.arms) for s in _seed_lines(comparison, arm, i)]
    return line_chart(
        f"Held-out {comparison.metric_words}",
        [*thin, *_mean_lines(comparison, comparison.metric)],
        ACCURACY,
        frame=HERO,
    )


def arm_chart(comparison: Comparison, index: int) -> Chart | None:
    """One arm with its seeds, the subject's mean dashed behind it."""
    arm = comparison.arms[index]
    subject = Series(
        name=f"{comparison.subject.name}, mean",
        data=mean_curve(comparison.subject, comparison.metric),
        colour=_colour(0),
        stroke=Stroke.DASHED,
    )
    own = Series(
        name=f"{arm.name}, mean", data=mean_curve(arm, comparison.metric), colour=_colour(index)
    )
    behind = [] if index == 0 else [subject]
    lines = [*_seed_lines(comparison, arm, index), *behind, own]
    return line_chart(arm.name, lines, ACCURACY, frame=CARD)


def curves_png(comparison: Comparison) -> bytes:
    """The same curves as a light PNG, 1280 × 720 pixels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=160, layout="constrained")
    axes = figure.subplots()
    for i, arm in enumerate(comparison.arms):
        colour = PALETTE[_colour(i) - 1]
        for run in arm.runs:
            data = column(run.evaluations, comparison.metric)
            axes.plot(data.steps, [v * 100 for v in data.values], color=colour, lw=0.7, alpha=0.35)
        mean = mean_curve(arm, comparison.metric)
        style = "--" if arm.control is not None else "-"
        values = [v * 100 for v in mean.values]
        axes.plot(mean.steps, values, color=colour, lw=2.2, ls=style, label=_label(arm))
    axes.set(xlabel="optimizer step", ylabel=f"held-out {comparison.metric_words}, %")
    axes.set_ylim(0, 100)
    axes.set_xlim(left=0)
    axes.grid(axis="y", color="#dfe4ea", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, colors="#556272")
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    title = f"{comparison.task}: mean over seeds (thin: each seed)".lstrip(": ")
    axes.set_title(title, loc="left", fontsize=11)
    target = io.BytesIO()
    figure.savefig(target, format="png")
    return target.getvalue()


def _label(arm: Arm) -> str:
    """Name, with what a control takes away."""
    return arm.name if arm.control is None else f"{arm.name}\n({arm.control.value})"


def _side_chart(comparison: Comparison, title: str, metric: str, axis: Axis) -> Chart | None:
    """What must be seen beside accuracy; its legend is that of the chart beside it."""
    chart = line_chart(title, _mean_lines(comparison, metric), axis, frame=LOW)
    return None if chart is None else replace(chart, legend=())


def _mean_lines(comparison: Comparison, metric: str) -> Sequence[Series]:
    return [
        Series(
            name=arm.name,
            data=mean_curve(arm, metric),
            colour=_colour(i),
            stroke=Stroke.DASHED if arm.control is not None else Stroke.LINE,
        )
        for i, arm in enumerate(comparison.arms)
    ]


def _seed_lines(comparison: Comparison, arm: Arm, index: int) -> Sequence[Series]:
    return [
        Series(
            name=f"seed {run.seed}",
            data=column(run.evaluations, comparison.metric),
            colour=_colour(index),
            stroke=Stroke.FAINT,
            listed=False,
        )
        for run in arm.runs
    ]


def _colour(index: int) -> int:
    """Palette slot of an arm, the subject's first; more than eight arms share."""
    return index % len(PALETTE) + 1
