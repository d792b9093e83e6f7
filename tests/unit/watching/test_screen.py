"""What stands in the terminal: every figure, at both widths; plain text where it is none."""

import io
import re

import pytest
from rich.console import Console
from watching_readings import make_reading

from rlsd.cli.sparkline import sparkline
from rlsd.cli.status_screen import screen
from rlsd.watching.health import problems
from rlsd.watching.view import make_view


def shown(width, *, terminal=False, **changes):
    view = make_view(make_reading(**changes))
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=terminal,
        color_system="standard" if terminal else None,
    )
    console.print(screen(view, problems(view), width=width))
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_every_figure_is_there_and_no_line_is_too_long(width):
    text = shown(width)
    assert max(map(len, text.splitlines())) <= width
    for piece in (
        *("r · rlsd · base", "healthy", "step 10 of 110", "1,800 steps/h", "3 min 20 s left"),
        *("0.500", "75.0 %", "mixed 75 %", "|Δ| 0.25 nats", "λ 0.5", "1.0 % low, 4.0 % high"),
        *("0.4 %", "p99 0.02", "zero_variance 30", "residual 0 · trained twice 0"),
        *("60 pass", "no verdict 1.0 %", "busy 75 % · no work 25 %", "verify 1 (10 s)"),
        *("3 redeliveries", "0 dead letters", "memory 10 %", "learner 10", "teacher –"),
        *("rollout 0.3 s", "at most 1 of 1 allowed"),
    ):
        assert piece in " ".join(text.split()), piece


def test_colours_are_for_terminals():
    assert "\x1b" not in shown(80)
    assert re.search("\x1b\\[1;32m *healthy", shown(80, terminal=True))


def test_what_is_wrong_stands_first_and_is_counted():
    lines = shown(80, silent=("rollout",), admitted=101).splitlines()
    assert lines[0].endswith("2 things are wrong")
    assert lines[1].startswith("! groups without an outcome: 1")
    assert lines[2].startswith("! rollout: not reachable")


def test_a_residual_is_red():
    assert "\x1b[1;31m1\x1b[0m" in shown(80, terminal=True, admitted=101)


def test_what_a_model_or_a_user_named_is_no_markup():
    assert "[red]" in shown(80, failed={"[red]": 2})


@pytest.mark.parametrize(
    ("values", "blocks"),
    [
        ([], ""),
        ([0.0, 0.5, 1.0], "▁▅█"),
        ([0.0, 0.0, 1.0, 1.0], "▁█"),
        ([-1.0, 1.0], "▁█"),
        ([float("nan"), 1.0], "█"),
    ],
)
def test_blocks_show_the_means_of_their_shares(values, blocks):
    assert sparkline(values, 2 if len(values) == 4 else 40) == blocks
