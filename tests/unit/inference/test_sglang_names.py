"""The names that the SGLang client uses are those of a released server.

That the list is what a release says, `python scripts/sglang_names.py --check WHEEL` tells.
"""

import json
from pathlib import Path

GOLDEN = Path("tests/golden/sglang.json")


def test_every_route_and_field_of_the_client_is_in_the_list():
    """That the client sends no other field is checked by the stand-in, which refuses it."""
    known = json.loads(GOLDEN.read_text())
    source = Path("rlsd/inference/sglang/server.py").read_text()
    assert all(f'"{route}"' in source for route in known["routes"])
    assert "in_place" in known["pause_modes"]
    assert {"sampling_seed", "max_new_tokens", "top_k"} <= set(known["fields"]["SamplingParams"])
    assert {"weight_versions", "input_top_logprobs", "cached_tokens"} <= set(known["answered"])
