"""Draw one dashboard.

python -m deploy.monitoring.picture overview --prometheus http://127.0.0.1:9090 --out overview.png

It honours positions, units, thresholds, mappings, stacking and legends well enough to judge a
dashboard by; it is not Grafana. Needs a Chromium on PATH (or in CHROMIUM) for PNG; `.html` without.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from deploy.monitoring.asking import Prometheus
from deploy.monitoring.picture.page import WIDTH, page
from deploy.monitoring.picture.view import View

_BOARDS = Path(__file__).resolve().parents[2] / "helm/rlsd/dashboards"


def photograph(html: str, height: int, out: Path) -> None:
    """Let Chromium draw the page.

    Raises:
        RuntimeError: there is none, or it made no picture.
    """
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chrome")
    if browser is None:
        raise RuntimeError("no chromium on PATH; install it, or write --out FILE.html")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "page.html"
        source.write_text(html)
        done = subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *(f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{height}"),
                *(f"--screenshot={out.resolve()}", source.as_uri()),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    if not out.exists():
        raise RuntimeError(f"{browser} made no picture: {done.stderr[-300:]}")


def main() -> None:
    """Draw one dashboard."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("board", help="the name of a file in deploy/helm/rlsd/dashboards")
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--until", type=float, default=time.time(), help="seconds since 1970")
    parser.add_argument("--window", default="1m")
    parser.add_argument("--run", default=".*")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    board = json.loads((_BOARDS / f"{given.board}.json").read_text())
    view = View(
        Prometheus(url=given.prometheus),
        given.until - 60 * given.minutes,
        given.until,
        given.window,
        {} if given.run == ".*" else {"run": given.run},
    )
    html, height = page(board, view)
    if given.out.suffix == ".html":
        given.out.write_text(html)
    else:
        photograph(html, max(height, 1080 if given.board == "overview" else 0), given.out)


if __name__ == "__main__":
    main()
