"""A real Prometheus beside a test."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from deploy.monitoring.asking import Prometheus
from deploy.monitoring.rules import rules
from rlsd.local.processes import free_ports
from tests.monitoring.tools import tool

CONFIG = Path("deploy/monitoring/prometheus.yml")


def write_targets(file: Path, addresses: Mapping[str, str], **labels: str) -> None:
    """Have these scraped; `addresses` by what becomes the label pod."""
    entries = [
        {"targets": [address], "labels": {"pod": name, **labels}}
        for name, address in addresses.items()
    ]
    file.write_text(json.dumps(entries))


@contextlib.contextmanager
def prometheus(
    folder: Path, *, scale: float = 1.0, scrape: str = "1s", job: str = "local"
) -> Iterator[Prometheus]:
    """One with a job of the repository's configuration that scrapes what is in `folder`/targets."""
    (folder / "targets").mkdir(parents=True, exist_ok=True)
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules(scale)))
    config = yaml.safe_load(CONFIG.read_text())
    config["global"] = {"scrape_interval": scrape, "evaluation_interval": scrape}
    config["rule_files"] = [str(folder / "rules.yaml")]
    [chosen] = [x for x in config["scrape_configs"] if x["job_name"] == job]
    chosen["file_sd_configs"] = [{"files": [f"{folder}/targets/*.json"], "refresh_interval": "1s"}]
    config["scrape_configs"] = [chosen]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    [port] = free_ports(1)
    command = [
        tool("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/-/ready", process, folder / "prometheus.log")
        yield Prometheus(url=url)
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1):
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.2)
    raise AssertionError(f"{url} does not answer: {log.read_text()}")
