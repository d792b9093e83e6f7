"""Custom resources against the definitions of their controllers, in the folder RLSD_TEST_CRDS.

These are other projects' files and in no package registry: `make test-crds RLSD_TEST_CRDS=DIR`.
"""

import os
from pathlib import Path

import pytest
import yaml

from tests.chart.rendering import APIS, VALUE_SETS, rendered
from tests.chart.test_chart_objects import OWN

pytestmark = pytest.mark.crds


def _crds() -> dict[str, dict]:
    """The definitions in the folder that RLSD_TEST_CRDS names, by kind and version."""
    found = {}
    for path in Path(os.environ["RLSD_TEST_CRDS"]).glob("*.yaml"):
        for crd in yaml.safe_load_all(path.read_text()):
            for version in crd["spec"]["versions"]:
                key = f"{crd['spec']['group']}/{version['name']}"
                found[crd["spec"]["names"]["kind"], key] = version["schema"]["openAPIV3Schema"]
    return found


def _unknown(value, schema, where):
    """Fields that a definition does not have: a server would drop them without a word."""
    if schema.get("x-kubernetes-preserve-unknown-fields") or schema.get(
        "x-kubernetes-int-or-string"
    ):
        return
    if isinstance(value, dict):
        further = schema.get("additionalProperties")
        for key, item in value.items():
            known = schema.get("properties", {}).get(key, further)
            if known is None:
                yield f"{where}.{key}"
            elif isinstance(known, dict):
                yield from _unknown(item, known, f"{where}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from _unknown(item, schema.get("items", {}), where)


def test_custom_resources_fit_their_definitions():
    import jsonschema

    definitions = _crds()
    assert len(APIS) == len({version for version, _ in OWN.values()})
    for name in VALUE_SETS:
        for document in rendered(name):
            if document["kind"] in OWN:
                schema = definitions[document["kind"], document["apiVersion"]]
                given = {k: v for k, v in document.items() if k not in ("apiVersion", "metadata")}
                jsonschema.Draft7Validator(schema).validate(given)
                unknown = [
                    field
                    for key, item in given.items()
                    if key != "kind"
                    for field in _unknown(item, schema["properties"][key], key)
                ]
                assert unknown == [], f"{name}: {document['kind']}"
