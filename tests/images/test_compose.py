"""docker-compose.yml against the images' own commands and the rules of the house."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml


class OneOfEach(yaml.SafeLoader):
    """Compose refuses a key that stands twice; YAML's own loader takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.value != "<<"]
        assert len(keys) == len(set(keys)), f"twice in one mapping, of {keys}"
        return super().construct_mapping(node, deep)


ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.load((ROOT / "docker-compose.yml").read_text(), OneOfEach)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
STAGES = ("rollout", "verifier", "teacher", "learner")


def of_profile(name: str | None) -> set[str]:
    return {
        service
        for service, body in SERVICES.items()
        if (name in body.get("profiles", ()) if name else "profiles" not in body)
    }


def test_without_a_profile_there_are_the_four_services_redis_and_its_password():
    assert of_profile(None) == {*STAGES, "redis", "keys"}
    assert of_profile("demo-verifier") == {"records", "checks"}
    assert of_profile("obs") == {"prometheus", "grafana", "jaeger"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_nobody_read_only_and_without_capabilities(name):
    body = SERVICES[name]
    assert body["read_only"] is True
    assert body["cap_drop"] == ["ALL"]
    assert body["security_opt"] == ["no-new-privileges:true"]
    user, _, _ = body["user"].partition(":")
    assert int(user) > 0


@pytest.mark.parametrize("name", SERVICES)
def test_no_port_is_open_beyond_this_machine_and_no_secret_stands_in_the_environment(name):
    body = SERVICES[name]
    assert all(port.startswith("127.0.0.1:") for port in body.get("ports", ()))
    words = ("PASSWORD", "TOKEN", "SECRET", "REDIS_URL")
    in_clear = [
        key
        for key in body.get("environment", {})
        if any(word in key for word in words) and not key.endswith("FILE")
    ]
    assert in_clear == []


def test_what_trains_has_no_way_out():
    assert COMPOSE["networks"]["services"]["internal"] is True
    for stage in STAGES:
        assert SERVICES[stage]["networks"] == ["services"]


@pytest.mark.parametrize("name", STAGES)
def test_a_services_arguments_are_those_that_its_image_takes(name):
    told = subprocess.run(
        [sys.executable, "-m", f"services.{name}", "--help"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    for argument in SERVICES[name]["command"]:
        assert argument.partition("=")[0] in told


def mounted_files() -> list[str]:
    volumes = [v for body in SERVICES.values() for v in body.get("volumes", ())]
    return sorted({v.split(":")[0] for v in volumes if v.startswith("./")})


@pytest.mark.parametrize("path", mounted_files())
def test_what_is_mounted_from_the_checkout_is_there(path):
    assert (ROOT / path).exists()


def test_dashboards_and_rules_are_the_charts_own():
    assert "./deploy/helm/rlsd/rules:/etc/prometheus/rules:ro" in SERVICES["prometheus"]["volumes"]
    dashboards = "./deploy/helm/rlsd/dashboards:/var/lib/grafana/dashboards/rlsd:ro"
    assert dashboards in SERVICES["grafana"]["volumes"]


def test_every_switch_of_the_example_environment_is_one_of_compose():
    lines = (ROOT / ".env.example").read_text().splitlines()
    switches = {line.lstrip("# ").partition("=")[0] for line in lines if "=" in line}
    text = "".join(p.read_text() for p in ROOT.glob("docker-compose*.yml"))
    used = {
        s for s in switches if f"${{{s}" in text or f"    {s}: " in text or f"    {s}:\n" in text
    }
    assert switches - used == {"COMPOSE_PROFILES"}
