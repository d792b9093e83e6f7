"""The chart as Helm renders it."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[2] / "deploy/helm/rlsd"
VALUE_SETS = tuple(sorted(path.name.removesuffix("-values.yaml") for path in CHART.glob("ci/*")))
APIS = (
    "jobset.x-k8s.io/v1alpha2",
    "leaderworkerset.x-k8s.io/v1",
    "keda.sh/v1alpha1",
    "monitoring.coreos.com/v1",
    "ray.io/v1",
)
NAMESPACE = "training"

Document = dict[str, Any]


def helm(*arguments: str, limit_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run Helm, which is beside this interpreter or on PATH."""
    beside = Path(sys.executable).with_name("helm")
    program = str(beside) if beside.exists() else shutil.which("helm")
    assert program, "no helm; run `make setup-chart`"
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=limit_s, check=False
    )


def values_of(name: str) -> str:
    """The file of a value set."""
    return str(CHART / f"ci/{name}-values.yaml")


def template(
    *arguments: str, apis: tuple[str, ...] = APIS, release: str = "r"
) -> subprocess.CompletedProcess[str]:
    """`helm template` for a cluster with these APIs."""
    served = [x for api in apis for x in ("--api-versions", api)]
    return helm("template", release, str(CHART), "--namespace", NAMESPACE, *served, *arguments)


@functools.cache
def rendered(name: str, *further: str, version: str = "") -> tuple[Document, ...]:
    """Every document of a value set, with `--set` arguments, for a Kubernetes `version`."""
    sets = [x for one in further for x in ("--set", one)]
    served = ["--kube-version", version] if version else []
    done = template("--values", values_of(name), *sets, *served)
    assert done.returncode == 0, done.stderr
    return tuple(document for document in yaml.safe_load_all(done.stdout) if document)


def refusal(name: str, *further: str, apis: tuple[str, ...] = APIS) -> str:
    """What Helm says when it does not render."""
    sets = [x for one in further for x in ("--set", one)]
    done = template("--values", values_of(name), *sets, apis=apis)
    assert done.returncode != 0, "it rendered"
    return done.stderr


def of_kind(documents: tuple[Document, ...], *kinds: str) -> list[Document]:
    """The documents of these kinds."""
    return [document for document in documents if document["kind"] in kinds]


def named(documents: tuple[Document, ...], kind: str, name: str) -> Document:
    """One document."""
    [found] = [x for x in of_kind(documents, kind) if x["metadata"]["name"] == name]
    return found


def configuration(documents: tuple[Document, ...]) -> Document:
    """The ConfigMap that holds the run's configuration."""
    [found] = [x for x in of_kind(documents, "ConfigMap") if "config.json" in x["data"]]
    return found


def pods(documents: tuple[Document, ...]) -> Iterator[tuple[str, Document]]:
    """Every pod, or template of one, with a name for messages."""
    for document in documents:
        where = f"{document['kind']}/{document['metadata']['name']}"
        if document["kind"] == "Pod":
            yield where, document
        else:
            yield from _templates(document.get("spec"), where)


def containers(pod: Document) -> list[Document]:
    """All containers of a pod, those first that begin first."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def _templates(node: Any, where: str) -> Iterator[tuple[str, Document]]:
    if isinstance(node, list):
        for item in node:
            yield from _templates(item, where)
    elif isinstance(node, dict):
        if isinstance(node.get("spec"), dict) and "containers" in node["spec"]:
            yield where, node
            return
        for item in node.values():
            yield from _templates(item, where)
