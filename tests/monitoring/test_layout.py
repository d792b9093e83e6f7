"""Dashboards as Grafana lays them out."""

import itertools
import re
from collections import Counter

import pytest

from deploy.monitoring.boards import BOARDS
from deploy.monitoring.panels import Band, Query, dashboard, number

GRID_PX = 38  # a unit of 30 pixels and a gap of 8
BARS_PX = 130  # Grafana's own: navigation, variables, links, margins

PANELS = {
    f"{name}: {panel['title']}": panel
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
}


def cells(panel):
    """The grid cells that a panel covers."""
    at = panel["gridPos"]
    across, down = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
    return set(itertools.product(across, down))


@pytest.mark.parametrize("name", BOARDS)
def test_panels_neither_overlap_nor_leave_the_grid(name):
    taken: set[tuple[int, int]] = set()
    for panel in BOARDS[name]["panels"]:
        assert not taken & cells(panel), panel["title"]
        taken |= cells(panel)
    assert max(x for x, _ in taken) == 23


@pytest.mark.parametrize("name", BOARDS)
def test_rows_are_filled(name):
    taken = set().union(*map(cells, BOARDS[name]["panels"]))
    bottom = max(y for _, y in taken)
    assert len(taken) == 24 * (bottom + 1)


def test_the_overview_fits_on_one_screen():
    rows = max(y for panel in BOARDS["overview"]["panels"] for _, y in cells(panel)) + 1
    assert rows * GRID_PX + BARS_PX <= 1080


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_says_what_it_shows_what_is_normal_and_in_which_unit(name):
    panel = PANELS[name]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["description"].endswith((".", ")"))
    assert re.search("[Nn]ormal|[Mm]ust be", panel["description"])
    assert [link["title"] for link in panel["links"]] == ["Runbook"]


def test_panels_of_two_dashboards_that_ask_the_same_are_one():
    """All they may differ in is where they are, and how wide."""
    found = {}
    for name, panel in PANELS.items():
        asks = (panel["type"], *(target["expr"] for target in panel["targets"]))
        own = {k: v for k, v in panel.items() if k not in ("gridPos", "id")}
        first, other = found.setdefault(asks, (name, own))
        assert own == other, f"{first} and {name}"
    titles = Counter(panel["title"] for panel in PANELS.values())
    assert titles["Staleness by where it comes from"] == 2


def test_identifiers_are_unique():
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS) == 6
    for board in BOARDS.values():
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        titles = [panel["title"] for panel in board["panels"]]
        assert len(titles) == len(set(titles))


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_works_with_any_prometheus_and_any_run(name):
    board = BOARDS[name]
    variables = {x["name"]: x for x in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    run = variables["run"]
    assert (run["multi"], run["includeAll"], run["allValue"]) == (True, True, ".*")
    assert board["graphTooltip"] == 1
    assert board["refresh"] == "10s"
    assert board["tags"] == ["rlsd"]
    assert board["links"][0]["tags"] == ["rlsd"]
    for panel in board["panels"]:
        for part in (panel, *panel.get("targets", ())):
            if panel["type"] != "row":
                assert part["datasource"]["uid"] == "${datasource}"


def test_a_panel_too_wide_goes_to_the_next_line():
    wide = [
        number("a", Query("up"), unit="none", text="t", page="p.md", columns=14) for _ in range(2)
    ]
    found = dashboard("t", "T", "t", [Band(4, wide)])["panels"]
    assert found[1]["gridPos"]["x"] + found[1]["gridPos"]["w"] > 24  # so test_panels… sees it
