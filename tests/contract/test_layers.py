"""What must hold between the rooms of the repository."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from rlsd.config import MethodSection
from rlsd.objectives import PRESETS, method_named


@pytest.mark.parametrize(
    "module", ["rlsd.config", "rlsd.trajectory", "rlsd.cli.app", "services.verifier.core"]
)
def test_a_module_of_a_small_image_brings_no_tensor_library(module):
    code = f"import sys, {module}; print(sorted({{'torch', 'vllm', 'ray'}} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_configuration_knows_exactly_the_methods_there_are():
    assert set(get_args(MethodSection.model_fields["name"].annotation)) == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_every_key_of_the_method_section_is_a_field_of_a_method(name):
    keys = set(MethodSection.model_fields) - {"name", "num_support"}
    for key in keys:
        assert hasattr(method_named(name), key)


READS = {"aclose", "blpop", "connection_pool", "hgetall", "ping", "register_script", "time"}
READS |= {"info", "unlink", "xlen", "xrange", "xrevrange"}
"""What is sent to Redis beside the scripts. A bell that rings once too often (blpop) wakes a worker
for nothing, and deleting a run's keys twice is deleting them once."""


def test_nothing_writes_to_redis_but_the_scripts():
    users = {
        str(path)
        for room in ("rlsd", "services")
        for path in Path(room).rglob("*.py")
        if re.search(r"^\s*(import|from) redis\b", path.read_text(), re.MULTILINE)
    }
    assert users == {"rlsd/streams/redis.py"}
    sent = re.findall(r"\bclient\.(\w+)", Path("rlsd/streams/redis.py").read_text())
    sent += re.findall(r"\b_client\.(\w+)", Path("rlsd/streams/redis.py").read_text())
    assert set(sent) <= READS
