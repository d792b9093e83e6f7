"""A cluster with some of what a release wants and some of what it does not, made on a real server.

`RLSD_TEST_KUBECONFIG=… python -m tests.chart.scenario` writes what that server answers about it to
`tests/golden/cluster`, beside what Helm renders, for the tests that have no server.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

from rlsd.cluster.asking import find_cluster
from rlsd.cluster.chart import render
from rlsd.cluster.facts import Facts, gather
from rlsd.cluster.wanted import Wanted
from tests.chart.cluster import kubectl, until
from tests.chart.rendering import CHART, values_of

GOLDEN = Path(__file__).resolve().parents[1] / "golden/cluster"
RECORDED = ("cpu", "multi-gpu", "external-redis")
SPACE = "training"
NODE = "gpu-node-1"


def objects(space: str) -> list[dict[str, Any]]:
    """Of the scenario: a namespace with bounds, storage, a tainted node with a full half, a CNI."""
    here = {"namespace": space}
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": space,
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        },
        *(
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {
                    "name": f"{space}-{name}",
                    "annotations": {"storageclass.kubernetes.io/is-default-class": is_default},
                },
                "provisioner": provisioner,
                "volumeBindingMode": "WaitForFirstConsumer",
            }
            for name, provisioner, is_default in (
                ("disks", "ebs.csi.aws.com", "true"),
                ("files", "nfs.csi.k8s.io", "false"),
            )
        ),
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{space}-data"},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadOnlyMany"],
                "storageClassName": "by-hand",
                "hostPath": {"path": "/var/empty"},
                "claimRef": {**here, "name": "data"},
            },
        },
        *(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {**here, "name": name},
                "spec": {
                    "accessModes": [mode],
                    "storageClassName": of,
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            }
            for name, mode, of in (
                ("data", "ReadOnlyMany", "by-hand"),
                ("models", "ReadWriteOnce", f"{space}-disks"),
            )
        ),
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {**here, "name": "redis"},
            "stringData": {"url": "redis://:hush@redis.example.com:6379/0"},
        },
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {**here, "name": "devices"},
            "spec": {"hard": {"requests.nvidia.com/gpu": "20", "pods": "100"}},
        },
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {**here, "name": "cores"},
            "spec": {"limits": [{"type": "Container", "max": {"cpu": "16"}}]},
        },
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": "rlsd-learner"},
            "value": 1000,
        },
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "kube-flannel-ds", "namespace": "kube-system"},
            "spec": {
                "selector": {"matchLabels": {"app": "flannel"}},
                "template": {
                    "metadata": {"labels": {"app": "flannel"}},
                    "spec": {
                        "tolerations": [{"operator": "Exists"}],
                        "containers": [
                            {"name": "kube-flannel", "image": "flannel/flannel:v0.26.1"}
                        ],
                    },
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "coredns",
                "namespace": "kube-system",
                "labels": {"k8s-app": "kube-dns"},
            },
            "spec": {
                "containers": [{"name": "coredns", "image": "coredns:1.11"}],
                "nodeName": NODE,
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "busy", "namespace": "default"},
            "spec": {
                "nodeName": NODE,
                "containers": [
                    {
                        "name": "busy",
                        "image": "busy:1",
                        "resources": {
                            "limits": {"nvidia.com/gpu": "6", "cpu": "4"},
                            "requests": {"cpu": "2"},
                        },
                    }
                ],
            },
        },
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "jobsets.jobset.x-k8s.io"},
            "spec": {
                "group": "jobset.x-k8s.io",
                "scope": "Namespaced",
                "names": {"kind": "JobSet", "plural": "jobsets"},
                "versions": [
                    {
                        "name": "v1alpha2",
                        "served": True,
                        "storage": True,
                        "schema": {
                            "openAPIV3Schema": {
                                "type": "object",
                                "x-kubernetes-preserve-unknown-fields": True,
                            }
                        },
                    }
                ],
            },
        },
    ]


@contextlib.contextmanager
def scenario(space: str) -> Iterator[None]:
    """Make it once no release's pod is left to hold a device, and take it away.

    Within it, the Helm beside this interpreter is on PATH.
    """
    beside = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with mock.patch.dict(os.environ, PATH=beside), _made(space):
        yield


@contextlib.contextmanager
def _made(space: str) -> Iterator[None]:
    made = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects(space)})
    taint = ("taint", "node", NODE, "--overwrite")
    of_releases = ("get", "pods", "-A", "-l", "app.kubernetes.io/name=rlsd", "-o=name")
    until(lambda: not kubectl(*of_releases).stdout, timeout_s=90)
    try:
        done = kubectl("create", "-f", "-", given=made)
        assert done.returncode == 0, done.stderr
        assert kubectl(*taint, "nvidia.com/gpu=present:NoSchedule").returncode == 0
        phase = "jsonpath={.status.phase}"
        until(lambda: kubectl("get", "pvc", "data", "-n", space, "-o", phase).stdout == "Bound")
        used = "jsonpath={.status.hard}"
        until(lambda: "gpu" in kubectl("get", "quota", "devices", "-n", space, "-o", used).stdout)
        until(lambda: kubectl("get", "--raw", "/apis/jobset.x-k8s.io/v1alpha2").returncode == 0)
        yield
    finally:
        kubectl(*taint, "nvidia.com/gpu-")
        kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", given=made)


def asked(space: str, value_set: str) -> tuple[Facts, Wanted]:
    """What that server answers for a value set."""
    wanted = Wanted(render(str(CHART), space, [Path(values_of(value_set))], []).objects)
    at = find_cluster(Path(os.environ["RLSD_TEST_KUBECONFIG"]), None)
    return gather(at, space, wanted), wanted


def _plain(node: Any) -> Any:
    """Without the server's own bookkeeping."""
    if isinstance(node, dict):
        return {k: _plain(v) for k, v in node.items() if k != "managedFields"}
    return [_plain(x) for x in node] if isinstance(node, list) else node


def main() -> None:
    """Record."""
    GOLDEN.mkdir(exist_ok=True)
    with scenario(SPACE):
        for value_set in RECORDED:
            facts, wanted = asked(SPACE, value_set)
            recorded = {"facts": _plain(asdict(facts)), "objects": wanted.objects}
            text = json.dumps(recorded, sort_keys=True)
            (GOLDEN / f"{value_set}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
