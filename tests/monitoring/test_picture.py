"""The renderer draws every dashboard; a person judges what it looks like."""

import math
import re
import xml.etree.ElementTree as ET

import pytest

from deploy.monitoring.asking import Series
from deploy.monitoring.boards import BOARDS
from deploy.monitoring.picture.page import page
from deploy.monitoring.picture.values import shown
from deploy.monitoring.picture.view import View


class Prometheus:
    """Has one series for whatever it is asked, with every label that the query groups by."""

    def over(self, expr, start, end, step):
        by = re.findall(r"by \(([^)]*)\)", expr) or ["run"]
        labels = {x.strip(): f"a {x.strip()} <1>" for x in by[0].split(",")}
        if "le" in labels:
            labels["le"] = "+Inf"
        times = [start + step * i for i in range(int((end - start) / step))]
        values = [math.nan if i % 7 == 3 else i / 10 for i, _ in enumerate(times)]
        return [Series(labels, tuple(zip(times, values, strict=True)))]

    def at(self, expr, time):
        return self.over(expr, time - 1, time, 1)


class Empty:
    def over(self, *_):
        return []

    def at(self, *_):
        return []


def drawn(name, prometheus):
    html, _ = page(BOARDS[name], View(prometheus, 1e9, 1e9 + 3600, "1m", {"run": "demo"}))
    return html


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_is_drawn_with_what_there_is(name):
    html = drawn(name, Prometheus())
    titles = [p["title"] for p in BOARDS[name]["panels"] if p["type"] != "row"]
    assert html.count("<section") == len(titles)
    assert "No data" not in html
    assert not re.search(r"\bnan\b", html)
    assert "<1>" not in html, "what a label holds is text"
    for drawing in re.findall("<svg.*?</svg>", html):
        ET.fromstring(drawing)


@pytest.mark.parametrize("name", BOARDS)
def test_a_panel_without_data_says_so(name):
    titles = [p["title"] for p in BOARDS[name]["panels"] if p["type"] != "row"]
    assert drawn(name, Empty()).count("No data") == len(titles)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.1234, "percentunit", "12.3%"),
        (90, "s", "1.5 mins"),
        (0.0021, "s", "2.1 ms"),
        (3 * 1024**2, "bytes", "3 MiB"),
        (12_345, "short", "12.3 K"),
        (0.00012, "sci", "1.2e-04"),
        (math.nan, "none", "–"),
    ],
)
def test_a_value_is_shown_with_its_unit(value, unit, text):
    assert shown(value, unit) == text
