"""Write the chart's values.schema.json, or check that it is up to date.

python scripts/chart_schema.py            # deploy/helm/rlsd/values.schema.json
python scripts/chart_schema.py --check    # exit 1 when it is stale

`config` is the schema of the run's configuration itself. Objects are closed; `FREE` names the few
that are not, and why.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rlsd.config import RunConfig

CHART = Path(__file__).resolve().parent.parent / "deploy/helm/rlsd"
SCHEMA = CHART / "values.schema.json"

FREE = {
    "nodeSelector": "labels of the cluster's own nodes",
    "affinity": "an object of Kubernetes', which its API server checks",
    "podAnnotations": "names that others choose",
    "serviceAccountAnnotations": "names that clouds choose",
    "podLabels": "labels of others' pods",
    "labels": "labels that a Prometheus, or a Grafana, selects objects by",
    "annotations": "of dashboards: what a Grafana's sidecar reads",
    "engine_args": "vLLM's own names, which it checks",
    "parameters": "a tool's JSON schema, which the rollout service checks",
    "params": "of a check that is a tool, which the verifier checks",
}
"""Keys below which any key is taken."""

Json = dict[str, Any]

_LARGEST_EXACT = 2**53
"""Helm reads numbers as doubles: a larger integer would become another one."""


def closed(required: tuple[str, ...] = (), /, **properties: Json) -> Json:
    """An object with these keys alone."""
    found: Json = {"type": "object", "additionalProperties": False, "properties": properties}
    return found | ({"required": list(required)} if required else {})


def texts(**rules: Any) -> Json:
    """A string."""
    return {"type": "string", **rules}


def whole(least: int, most: int | None = None) -> Json:
    """An integer from `least`."""
    return {"type": "integer", "minimum": least} | ({"maximum": most} if most else {})


def many(items: Json) -> Json:
    """A list."""
    return {"type": "array", "items": items}


BOOL: Json = {"type": "boolean"}
STRINGS: Json = {"type": "object", "additionalProperties": {"type": "string"}}
OBJECT: Json = {"type": "object"}
NAME = texts(pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$")
QUANTITY: Json = {
    "anyOf": [texts(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"), {"type": "number"}]
}
SIZE = texts(pattern=r"^[0-9]+(\.[0-9]+)?(Mi|Gi|Ti)$")
DIGEST = texts(pattern=r"^(sha256:[0-9a-f]{64})?$")
TAG = texts(pattern=r"^[\w.-]*$", **{"not": {"const": "latest"}})
CIDR = texts(pattern=r"^[0-9a-fA-F.:]+/[0-9]+$")
PORT = whole(1, 65535)
ADDRESS = texts(pattern=r"^([^\s:]+:[0-9]+)?$")
SECRET_KEY = closed(("name", "key"), name=NAME, key=texts(pattern=r"^[-._a-zA-Z0-9]*$"))
IMAGE = closed(("repository",), repository=texts(minLength=1), digest=DIGEST)
PEER: Json = {
    "oneOf": [
        closed(("cidr", "port"), cidr=CIDR, port=PORT),
        closed(("namespace", "port"), namespace=NAME, podLabels=STRINGS, port=PORT),
    ]
}
ENVIRONMENT = many(
    closed(
        ("name", "value"),
        # No secret by value: it would stand in the release, in the pod and in every dump of both.
        name=texts(
            pattern=r"^[A-Z_][A-Z0-9_]*$",
            **{"not": {"pattern": r"(TOKEN|PASSWORD|SECRET|CREDENTIAL|API_?KEY|ACCESS_KEY)"}},
        ),
        value=texts(),
    )
)
TOLERATION = closed(
    key=texts(),
    operator=texts(enum=["Exists", "Equal"]),
    value=texts(),
    effect=texts(enum=["NoSchedule", "PreferNoSchedule", "NoExecute", ""]),
    tolerationSeconds=whole(0),
)
_AMOUNTS = closed(("cpu", "memory", "ephemeral-storage")) | {
    "properties": {name: QUANTITY for name in ("cpu", "memory", "ephemeral-storage")}
}
RESOURCES = closed(("requests", "limits"), requests=_AMOUNTS, limits=_AMOUNTS)
SERVER = closed(
    enabled=BOOL,
    image=texts(**{"not": {"pattern": "(:latest$|^[^:@]+$)"}}),
    command=many(texts()),
    args=many(texts()),
    readyPath=texts(pattern="^/"),
    port=PORT,
    resources=RESOURCES,
)


def pods(**further: Json) -> Json:
    """The keys that the values of every pod share, and those of one."""
    return closed(
        startupSeconds=whole(10),
        shmSize=SIZE,
        cacheSize=SIZE,
        resources=RESOURCES,
        secrets=many(closed(("name",), name=NAME)),
        env=ENVIRONMENT,
        egress=many(PEER),
        nodeSelector=STRINGS,
        tolerations=many(TOLERATION),
        affinity=OBJECT,
        priorityClassName=NAME,
        runtimeClassName=NAME,
        schedulerName=NAME,
        podAnnotations=STRINGS,
        serviceAccountAnnotations=STRINGS,
        **further,
    )


def scaling(*modes: str, **further: Json) -> Json:
    """How many replicas a stage has."""
    return closed(
        mode=texts(enum=["none", *modes]),
        min=whole(1),
        max=whole(1),
        backlog=whole(1),
        cooldownSeconds=whole(0, 3600),
        **further,
    )


def application(**further: Json) -> Json:
    """One of the applications on Ray Serve."""
    replicas = texts(pattern=r"^[1-9][0-9]*(:[1-9][0-9]*)?$")
    return closed(replicas=replicas, cpus={"type": "number", "minimum": 0}, **further)


def values() -> Json:
    """Everything but `config`."""
    gpus = whole(0)
    return {
        "runtime": texts(enum=["processes", "ray"]),
        "images": closed(
            registry=texts(),
            tag=TAG,
            pullPolicy=texts(enum=["Always", "IfNotPresent", "Never"]),
            pullSecrets=many(NAME),
            requireDigest=BOOL,
            redis=closed(repository=texts(minLength=1), tag=TAG, digest=DIGEST),
            **dict.fromkeys(("rollout", "verifier", "teacher", "learner", "ray"), IMAGE),
        ),
        "storage": closed(
            existingClaim=NAME,
            storageClassName=NAME,
            accessMode=texts(enum=["ReadWriteMany", "ReadWriteOnce"]),
            size=SIZE,
        ),
        "inputs": many(closed(("claim", "mountPath"), claim=NAME, mountPath=texts(pattern="^/."))),
        "hub": closed(enabled=BOOL, tokenSecret=SECRET_KEY),
        "redis": closed(
            urlSecret=SECRET_KEY,
            peers=many(PEER),
            bundled=closed(
                enabled=BOOL,
                aclSecret=SECRET_KEY,
                maxMemory=texts(pattern="^[1-9][0-9]*(mb|gb)$"),
                size=SIZE,
                priorityClassName=NAME,
                resources=RESOURCES,
            ),
        ),
        "gpuResource": texts(pattern=r"^[a-z0-9.-]+/[\w.-]+$"),
        "rollout": pods(replicas=whole(1), nodesPerReplica=whole(1), gpus=gpus, server=SERVER),
        "verifier": pods(replicas=whole(1), requireRuntimeClass=BOOL),
        "teacher": pods(replicas=whole(1), gpus=gpus, server=SERVER),
        "learner": pods(
            nodes=whole(1),
            gpus=gpus,
            retries=whole(0),
            restartGeneration=whole(0),
            indexed=BOOL,
            podFailurePolicy=BOOL,
            doNotEvict=BOOL,
        ),
        "ray": pods(
            version=texts(pattern=r"^[0-9.]+$"),
            workers=whole(1),
            gpus=gpus,
            rollout=application(gpus={"type": "number", "minimum": 0}),
            verifier=application(),
            teacher=application(gpus={"type": "number", "minimum": 0}),
            operatorNamespace=NAME,
        ),
        "autoscaling": closed(
            rollout=scaling("keda"),
            verifier=scaling("keda", "hpa", cpuPercent=whole(1, 100)),
            teacher=scaling("keda"),
            keda=closed(namespace=NAME, redisAddress=ADDRESS, passwordSecret=SECRET_KEY),
        ),
        "networkPolicy": closed(
            enabled=BOOL, dns=closed(namespace=NAME, podLabels=STRINGS, cidrs=many(CIDR))
        ),
        "podDisruptionBudgets": closed(enabled=BOOL),
        "monitoring": closed(
            namespace=NAME,
            podMonitor=closed(enabled=BOOL, interval=texts(pattern="^[0-9]+[sm]$"), labels=STRINGS),
            dashboards=closed(enabled=BOOL, labels=STRINGS, annotations=STRINGS),
            rules=closed(enabled=BOOL, labels=STRINGS, runbookUrl=texts(minLength=1)),
        ),
        "tracing": closed(endpoint=texts(pattern=r"^(https?://[^\s]+)?$"), egress=many(PEER)),
        "kueue": closed(queueName=NAME),
        "tests": closed(step=BOOL, contract=BOOL),
    }


def for_helm(schema: Any) -> Any:
    """Pydantic's schema in the older draft that Helm's validator speaks, without its defaults."""
    if isinstance(schema, list):
        return [for_helm(x) for x in schema]
    if not isinstance(schema, dict):
        return schema
    found = {}
    for key, value in schema.items():
        if key == "properties":  # names, of which one may be `title`
            found[key] = {name: for_helm(x) for name, x in value.items()}
        elif key == "prefixItems":
            found["items"] = for_helm(value)
        elif key not in ("title", "default", "format"):
            found[key] = for_helm(value)
    if found.get("type") == "integer":
        found.setdefault("maximum", _LARGEST_EXACT)
    if "patternProperties" in found:
        found["additionalProperties"] = False
    return found


def schema() -> Json:
    """The whole."""
    config = for_helm(RunConfig.model_json_schema())
    definitions = config.pop("$defs")
    definitions["RunSection"]["properties"]["dir"]["pattern"] = "^/."
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the rlsd chart (generated by scripts/chart_schema.py)",
        # Helm gives every chart `global`; this one has nothing in it.
        **closed(("config",), config=config, **{"global": closed()}, **values()),
        "$defs": definitions,
    }


def main() -> None:
    """Write, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    text = json.dumps(schema(), indent=1) + "\n"
    if not parser.parse_args().check:
        SCHEMA.write_text(text)
    elif not SCHEMA.exists() or SCHEMA.read_text() != text:
        raise SystemExit(f"{SCHEMA.name} is out of date; run `make schema`")


if __name__ == "__main__":
    main()
