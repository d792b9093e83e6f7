"""Values are a closed language, and the run's configuration is part of it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rlsd.config import load
from scripts.chart_schema import FREE
from tests.chart.rendering import (
    CHART,
    VALUE_SETS,
    configuration,
    named,
    of_kind,
    refusal,
    rendered,
    template,
    values_of,
)

pytestmark = pytest.mark.chart


def keys(node, path=()):
    """Every path to a key that the chart gives a meaning to."""
    if isinstance(node, list):
        for place, item in enumerate(node):
            yield from keys(item, (*path, place))
    elif isinstance(node, dict) and not (path and path[-1] in FREE):
        for key, item in node.items():
            yield (*path, key)
            yield from keys(item, (*path, key))


def misspelt(key):
    """The key with its last letter changed."""
    return key[:-1] + ("x" if key[-1] != "x" else "y")


def changed(values, path):
    """The values with one key misspelt."""
    copy = json.loads(json.dumps(values))
    node = copy
    for step in path[:-1]:
        node = node[step]
    node[misspelt(path[-1])] = node.pop(path[-1])
    return copy


def defaults():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    least = yaml.safe_load((CHART / "ci/default-values.yaml").read_text())
    return values | least | {"config": values["config"] | least["config"]}


NAMES_OF_THE_USERS = {("config", "verifier", "http", "checks")}


def crowded(values, paths):
    """The values with every key's misspelt one beside it."""
    copy = json.loads(json.dumps(values))
    for *above, key in paths:
        node, original = copy, values
        for step in above:
            node, original = node[step], original[step]
        node[misspelt(key)] = original[key]
    return copy


def named_by_helm(message):
    """(object, key) of every key that Helm says it does not know."""
    said = re.findall(r"^- (\S+): Additional property (\S+) is not allowed$", message, re.MULTILINE)
    return {("" if where == "(root)" else where, key) for where, key in said}


@pytest.mark.parametrize("name", [None, *VALUE_SETS])
def test_every_key_with_a_wrong_letter_is_named_and_refused(name, tmp_path):
    values = yaml.safe_load(Path(values_of(name)).read_text()) if name else defaults()
    paths = [p for p in keys(values) if p not in NAMES_OF_THE_USERS and isinstance(p[-1], str)]
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(crowded(values, paths)))
    done = template("--values", str(file))
    assert (bool(paths), done.returncode) == (True, 1)
    named = named_by_helm(done.stderr)
    accepted = [p for p in paths if (".".join(map(str, p[:-1])), misspelt(p[-1])) not in named]
    assert accepted == []


@pytest.mark.parametrize("path", [("tests", "contract"), ("config", "run", "id"), ("runtime",)])
def test_one_key_with_a_wrong_letter_is_enough(path, tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(changed(defaults(), path)))
    done = template("--values", str(file))
    assert (done.returncode, len(named_by_helm(done.stderr))) == (1, 1)


def test_unchanged_values_are_not_refused(tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(defaults()))
    assert template("--values", str(file)).returncode == 0


def _objects(node, path=()):
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield path, node
        for key, item in node.items():
            yield from _objects(item, (*path, key))
    elif isinstance(node, list):
        for item in node:
            yield from _objects(item, path)


def test_only_the_argued_places_are_open():
    schema = json.loads((CHART / "values.schema.json").read_text())
    open_places = {
        path[-1] for path, node in _objects(schema) if node.get("additionalProperties") is not False
    }
    assert open_places == set(FREE)


def test_the_schema_is_up_to_date():
    done = subprocess.run([sys.executable, "scripts/chart_schema.py", "--check"], check=False)
    assert done.returncode == 0


def test_every_value_is_documented_in_the_schema_and_every_key_of_the_schema_has_a_value():
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def missing(node, given, path):
        for key, part in node.items():
            if key not in given:
                yield ".".join((*path, key))
            elif "properties" in part and isinstance(given[key], dict):
                yield from missing(part["properties"], given[key], (*path, key))

    del schema["config"], schema["global"]
    further = {"image.tag", "podLabels"}
    assert [x for x in missing(schema, values, ()) if x not in further] == []


@pytest.mark.parametrize("name", VALUE_SETS)
def test_the_run_is_what_the_values_say(name, tmp_path):
    config = configuration(rendered(name))
    file = tmp_path / "config.json"
    file.write_text(config["data"]["config.json"])
    loaded = load(file).model_dump(mode="json")
    values = yaml.safe_load((CHART / "values.yaml").read_text())["config"]
    given = yaml.safe_load(Path(values_of(name)).read_text())["config"]
    for section, entries in (values | given).items():
        merged = values.get(section, {}) | entries
        for key, value in merged.items():
            assert key == "http" or loaded[section][key] == value, f"{section}.{key}"


def test_a_number_too_large_for_helm_is_refused():
    assert "seed" in refusal("default", "config.run.seed=9007199254740993")


def hashes(*sets):
    documents = rendered("default", *sets)
    config = configuration(documents)
    [job] = of_kind(documents, "Job")
    stages = {
        x["metadata"]["name"]: x["spec"]["template"]["metadata"]["annotations"][
            "rlsd/config-sha256"
        ]
        for x in of_kind(documents, "Deployment")
    }
    return config["metadata"]["name"], job["metadata"]["name"], stages


def test_another_configuration_is_another_map_another_job_and_other_pods():
    before, after = hashes(), hashes("config.run.steps=300")
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert all(before[2][stage] != after[2][stage] for stage in before[2])


@pytest.mark.parametrize(
    "change",
    ["images.tag=1.2.3", "learner.gpus=1", "learner.restartGeneration=1", "learner.retries=1"],
)
def test_another_learner_is_another_job_and_rolls_nobody(change):
    before, after = hashes(), hashes(change)
    assert before[1] != after[1]
    assert (before[0], before[2]) == (after[0], after[2])


def test_what_concerns_the_learner_in_nothing_leaves_its_job_alone():
    assert hashes("rollout.replicas=3", "podDisruptionBudgets.enabled=false")[1] == hashes()[1]


def test_the_job_is_named_after_the_run():
    assert re.fullmatch(r"r-run-[0-9a-f]{8}", hashes()[1])
    [work] = of_kind(rendered("multi-gpu"), "JobSet")
    assert re.fullmatch(r"r-support-sql-[0-9a-f]{8}", work["metadata"]["name"])


def test_a_literal_secret_in_the_environment_is_refused():
    assert "env" in refusal("default", "learner.env[0].name=HF_TOKEN", "learner.env[0].value=x")


def test_no_image_is_latest():
    assert "tag" in refusal("default", "images.tag=latest")


def test_a_release_with_a_long_name_keeps_its_parts_apart():
    done = template("--values", values_of("default"), release="x" * 53)
    documents = tuple(x for x in yaml.safe_load_all(done.stdout) if x)
    assert named(documents, "Service", "x" * 30 + "-rollout")
    assert max(len(x["metadata"]["name"]) for x in documents) <= 52
