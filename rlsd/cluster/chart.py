"""The chart as Helm renders it with the user's values: the objects that would be installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rlsd.errors import ConfigError

RELEASE = "run"
_HELM_S = 60.0
_CHECKOUT = Path(__file__).resolve().parents[2] / "deploy/helm/rlsd"
_LEAST = "config: {model: {path: MODEL}, data: {train: DATA}}"
"""What the chart has no default for; given where the user gives no values at all."""
_APIS = (
    "jobset.x-k8s.io/v1alpha2",
    "keda.sh/v1alpha1",
    "leaderworkerset.x-k8s.io/v1",
    "monitoring.coreos.com/v1",
    "ray.io/v1",
)
"""What the chart would refuse to render without: whether it is there is a finding of ours."""

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """What Helm says to the values."""

    objects: tuple[Object, ...] = ()
    refusal: str = ""
    """Its words, where it refuses them; there are no objects then."""


def find_chart(given: str | None) -> str:
    """The chart that was named, or the one of this checkout.

    Raises:
        ConfigError: none was named, and this is an installed package.
    """
    if given:
        return given
    if _CHECKOUT.is_dir():
        return str(_CHECKOUT)
    raise ConfigError(
        "--chart: the installed package does not hold the chart; name its folder, archive or "
        "oci:// address"
    )


def render(chart: str, namespace: str, files: Sequence[Path], sets: Sequence[str]) -> Rendering:
    """Have Helm merge the values and render them; nothing is asked of a cluster.

    Raises:
        ConfigError: there is no Helm, or it does not end.
    """
    program = shutil.which("helm")
    if not program:
        raise ConfigError("no `helm` on PATH; install Helm 3 (the chart is installed with it, too)")
    command = [program, "template", RELEASE, chart, f"--namespace={namespace}"]
    command += [x for api in _APIS for x in ("--api-versions", api)]
    has_values = bool(files or sets)
    command += [x for file in files for x in ("--values", str(file))]
    command += [x for one in sets for x in ("--set", one)]
    if not has_values:
        command += ["--values", "-"]
    try:
        done = subprocess.run(
            command,
            input="" if has_values else _LEAST,
            capture_output=True,
            text=True,
            timeout=_HELM_S,
            check=False,
        )
    except subprocess.TimeoutExpired as cause:
        raise ConfigError(
            f"`helm template {chart}` does not end within {_HELM_S:.0f} s; run it by hand"
        ) from cause
    if done.returncode:
        return Rendering(refusal=_one_line(done.stderr))
    return Rendering(objects=tuple(x for x in yaml.safe_load_all(done.stdout) if x))


def _one_line(said: str) -> str:
    """Helm's complaint without the path through the templates that led to it."""
    text = " ".join(line.strip() for line in said.splitlines() if line.strip())
    text = text.rpartition("error calling fail: ")[2]
    return text.removeprefix("Error: ").partition(" Use --debug")[0]
