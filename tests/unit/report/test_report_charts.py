"""Axes, smoothing and long series."""

import html
import json
import re

import pytest

from rlsd.report.charts import (
    MAX_POINTS,
    Axis,
    Series,
    Unit,
    format_number,
    line_chart,
    smoothed,
    stacked_chart,
    ticks,
)
from rlsd.report.page import count, duration, percent, points
from rlsd.report.records import Column


def series(values, steps=None, **kwargs):
    places = tuple(float(s) for s in (steps or range(len(values))))
    return Series(name="x", data=Column(steps=places, values=tuple(values)), colour=1, **kwargs)


def test_ticks_are_round_and_inside():
    assert ticks(0.0, 1.0) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert ticks(1.0, 200.0, 5) == [50.0, 100.0, 150.0, 200.0]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.223, Unit.SHARE, "22 %"),
        (0.012, Unit.SHARE, "1.2 %"),
        (0.0, Unit.SHARE, "0 %"),
        (3e-4, Unit.PLAIN, "3.0e-04"),
        (12345.0, Unit.PLAIN, "12\u202f345"),
    ],
)
def test_numbers_are_written_for_people(value, unit, text):
    assert format_number(value, unit) == text


def test_durations_counts_and_differences_are_written_for_people():
    assert [duration(s) for s in (0.5, 73.4, 600.0, 9000.0, None)] == [
        "0.5\u00a0s", "73\u00a0s", "10\u00a0min", "2\u00a0h\u00a030\u00a0min", "–",
    ]  # fmt: skip
    assert (count(12345), percent(0.954), points(0.382), points(-0.004)) == (
        "12\u202f345", "95\u00a0%", "+38", "0",
    )  # fmt: skip


def test_the_moving_mean_looks_back_only():
    data = Column(steps=(1, 2, 3, 4), values=(1.0, 3.0, 5.0, 7.0))
    assert smoothed(data, 2).values == (1.0, 2.0, 4.0, 6.0)


def test_a_chart_without_numbers_is_not_drawn():
    assert line_chart("t", [series([])], Axis(label="y")) is None
    assert stacked_chart("t", [series([])], Axis(label="y")) is None


@pytest.mark.parametrize("values", [[0.0], [2.0, 2.0, 2.0], [-1.0, -1.0], [1e-12, 2e-12]])
def test_flat_single_and_tiny_values_can_be_drawn(values):
    chart = line_chart("t", [series(values)], Axis(label="y"))
    assert "NaN" not in chart.svg
    assert "nan" not in chart.svg


def test_a_long_run_is_thinned_to_means_of_neighbours():
    chart = line_chart("t", [series([1.0] * 5000)], Axis(label="y"))
    path = re.search(r'class="series line c1" d="([^"]*)"', chart.svg).group(1)
    assert path.count("L") == MAX_POINTS - 1


def test_the_pointer_reads_every_listed_line_and_no_other():
    lines = [series([0.1, 0.2]), series([0.3, 0.4], listed=False)]
    svg = line_chart("t", lines, Axis(label="y", unit=Unit.SHARE)).svg
    data = json.loads(html.unescape(str(svg)).split('data-hover="')[1].split('">')[0])
    assert [s["text"] for s in data["series"]] == [["10 %", "20 %"]]


def test_stacked_layers_reach_the_sum_of_their_values():
    layers = [series([1.0, 1.0], steps=[1, 2]), series([3.0, 3.0], steps=[1, 2])]
    svg = stacked_chart("t", layers, Axis(label="s")).svg
    tops = [float(y) for y in re.findall(r"V([\d.]+)H", svg)]
    base, one, four = 196.0, tops[0], tops[-1]
    assert (base - four) == pytest.approx(4 * (base - one), abs=0.5)


def test_labels_are_escaped():
    assert "<b>" not in line_chart("<b>", [series([1.0, 2.0])], Axis(label="<b>")).svg
