"""What our rollout service costs on top of vLLM, and what an update of the weights costs.

python benchmarks/vllm_engine.py [--repeats 5] [--hidden 512]

One JSON object on standard output. Needs vLLM (make setup-vllm).

`overhead`: 64 completions at once, eight groups of eight, through the service's gRPC method in a
process of its own, against the same requests given to vLLM's AsyncLLM directly; the two alternate,
each with an engine of its own that is idle while the other works. `updates`: 50 updates while 16
groups are generated without pause.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from rlsd.inference.versions import HeldWeights
from rlsd.inference.vllm.engine import VllmEngine
from rlsd.local.processes import Child, child_environment, free_ports, service_command
from rlsd.policy.loading import load_model, load_tokenizer, save_model, take_probe
from rlsd.serving.channel import open_channel
from rlsd.trajectory import Group, GroupPlan, Message, Prompt, SamplingParams, VerifierSpec
from rlsd.weights import FolderStore
from rlsd.wire.convert import group_from_proto, group_to_proto
from rlsd.wire.v1 import rollout_service_pb2 as pb
from rlsd.wire.v1 import rollout_service_pb2_grpc as rpc
from services.rollout.engines.engine import GenerationRequest
from services.rollout.engines.hosted import HostedEngine
from services.rollout.engines.updates import Continue

BASE = "examples/chain/base"
GROUPS, SIZE = 8, 8
ROUNDS = 8
"""Batches of 64 in one measurement."""
MAX_TOKENS = 200
UPDATES = 50


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--hidden", type=int, default=0, help="width of a random model; 0: the demo's"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(_measure(Path(folder), arguments))
    figures["machine"] = {
        "cpu": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    json.dump(figures, sys.stdout, indent=1)


async def _measure(folder: Path, arguments: Any) -> dict[str, Any]:
    model_path = _model(folder, arguments.hidden)
    store = FolderStore(folder / "runs" / "bench" / "weights", "bench")
    model = load_model(model_path, device=torch.device("cpu"))
    _publish(store, model, 0)
    async with _service(folder, model_path) as stub:
        ours, raw = [], []
        async with VllmEngine(model_path, dtype="float32", max_batch=64) as engine:
            await engine.install(store.path(0), 0)
            await _through_service(stub)
            await _raw(engine, model_path)
            for _ in range(arguments.repeats):
                ours.append(await _through_service(stub))
                raw.append(await _raw(engine, model_path))
            updates = await _updates(engine, store, model, model_path)
    ratios = [o.tokens_per_s / r.tokens_per_s for o, r in zip(ours, raw, strict=True)]
    return {
        "model": {"parameters": sum(p.numel() for p in model.parameters())},
        "overhead": {
            "service_tokens_per_s": [o.tokens_per_s for o in ours],
            "raw_tokens_per_s": [r.tokens_per_s for r in raw],
            "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
            "tokens": [ours[0].tokens, raw[0].tokens],
        },
        "updates": updates,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Some batches of 64 completions."""

    tokens: int
    seconds: float

    @property
    def tokens_per_s(self) -> float:
        """Completion tokens a second."""
        return self.tokens / self.seconds


def _model(folder: Path, hidden: int) -> str:
    """The demo's base, or a random model of its family and vocabulary."""
    if hidden == 0:
        return BASE
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(BASE)
    config.hidden_size, config.intermediate_size = hidden, 3 * hidden
    config.head_dim, config.num_attention_heads = 64, hidden // 64
    config.num_key_value_heads = hidden // 64
    config.num_hidden_layers = 8
    config.layer_types = ["full_attention"] * 8
    path = folder / "model"
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    AutoTokenizer.from_pretrained(BASE).save_pretrained(path)
    return str(path)


def _publish(store: FolderStore, model: Any, version: int) -> None:
    store.publish(
        version,
        step=version,
        probe=take_probe(model, [1, 4, 6, 15, 24, 14]),
        save=lambda folder: save_model(model, model.state_dict(), folder),
    )


@asynccontextmanager
async def _service(folder: Path, model_path: str) -> AsyncIterator[Any]:
    """The rollout service as its image starts it."""
    (folder / "rlsd.toml").write_text(
        f"""
[run]
id = "bench"
dir = "{folder / "runs"}"
transport = "grpc"
[model]
path = "{model_path}"
[data]
train = "examples/chain/train.jsonl"
[rollout]
engine = "vllm"
max_batch = 64
"""
    )
    port = free_ports(1)[0]
    command = [*service_command("rollout", folder / "rlsd.toml"), "--bind", f"127.0.0.1:{port}"]
    child = Child(
        name="rollout",
        command=command,
        environment=child_environment(1),
        log_path=folder / "rollout.log",
    )
    await child.start()
    channel = open_channel(f"127.0.0.1:{port}")
    try:
        await asyncio.wait_for(channel.channel_ready(), 300)
        yield rpc.RolloutServiceStub(channel)
    finally:
        await channel.close()
        await child.stop()


_indices = itertools.count()


async def _through_service(stub: Any) -> Measurement:
    started, tokens = time.monotonic(), 0
    for _ in range(ROUNDS):
        answers = await asyncio.gather(*(_generate(stub, next(_indices)) for _ in range(GROUPS)))
        tokens += sum(answers)
    return Measurement(tokens=tokens, seconds=time.monotonic() - started)


async def _generate(stub: Any, index: int) -> int:
    group = Group(
        run_id="bench",
        group_id=f"g{index:08d}",
        index=index,
        prompt=Prompt(
            id=f"p{index}",
            messages=(Message(role="user", content=_question(index)),),
            reference="",
            verifier=VerifierSpec(kind="exact"),
        ),
        sampling=SamplingParams(num_completions=SIZE, max_tokens=MAX_TOKENS, seed=index),
        plan=GroupPlan(),
        required_policy_version=0,
    )
    answer = await stub.Generate(pb.GenerateRequest(group=group_to_proto(group)), timeout=300)
    return group_from_proto(answer.group).num_tokens


async def _raw(engine: VllmEngine, model_path: str) -> Measurement:
    """The same prompts, given to AsyncLLM as its documentation does it."""
    from vllm import SamplingParams as VllmSampling

    tokenizer = load_tokenizer(model_path)
    started, tokens = time.monotonic(), 0
    for _ in range(ROUNDS):
        group = [next(_indices) for _ in range(GROUPS)]
        prompts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": _question(i)}],
                add_generation_prompt=True,
                return_dict=False,
            )
            for i in group
        ]

        async def draw(prompt: list[int], seed: int) -> int:
            sampling = VllmSampling(
                temperature=1.0, max_tokens=MAX_TOKENS, seed=seed, logprobs=0, detokenize=True
            )
            request = f"raw-{seed}"
            last: Any = None
            async for answer in engine._vllm.generate(
                {"prompt_token_ids": list(prompt)}, sampling, request
            ):
                last = answer
            return len(last.outputs[0].token_ids)

        seeds = (next(_indices) for _ in itertools.count())
        drawn = [draw(p, next(seeds)) for p in prompts for _ in range(SIZE)]
        tokens += sum(await asyncio.gather(*drawn))
    return Measurement(tokens=tokens, seconds=time.monotonic() - started)


def _question(index: int) -> str:
    """A chain of twelve operations, as the demo asks."""
    draw = random.Random(index)
    steps = "".join(f" {draw.choice('+-')} {draw.randrange(10)}" for _ in range(12))
    return f"Question: {draw.randrange(10)}{steps} = ?"


async def _updates(
    engine: VllmEngine, store: FolderStore, model: Any, model_path: str
) -> dict[str, Any]:
    """Pauses, and what became of the requests under way."""
    installations: list[Any] = []
    weights = HeldWeights(engine, store, tolerance=1e-3, on_installed=installations.append)
    tokenizer = load_tokenizer(model_path)
    hosted = HostedEngine(engine, weights, tokenizer, updates=Continue())
    await hosted.hold(0)
    done = asyncio.Event()
    asked, answered = [], []

    async def load() -> None:
        while not done.is_set():
            seed = next(_indices)
            asked.append(seed)
            ids = hosted.tokenize([{"role": "user", "content": _question(seed)}])
            completions = await hosted.generate(
                GenerationRequest(
                    prompt_ids=tuple(ids),
                    seeds=tuple(range(seed * 8, seed * 8 + 8)),
                    temperature=1.0,
                    top_p=1.0,
                    max_tokens=MAX_TOKENS,
                    required_policy_version=0,
                )
            )
            answered.append((seed, completions))

    workers = [asyncio.ensure_future(load()) for _ in range(16)]
    noise = torch.Generator().manual_seed(0)
    for version in range(1, UPDATES + 1):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.005 * torch.randn(parameter.shape, generator=noise))
        _publish(store, model, version)
        await asyncio.sleep(0.1)
        await hosted.hold(version)
    done.set()
    await asyncio.gather(*workers)
    pauses = sorted(1e3 * i.pause_s for i in installations[1:])
    found = [seed for seed, _ in answered]
    return {
        "updates": len(pauses),
        "pause_ms": {
            "p50": statistics.median(pauses),
            "p95": pauses[int(0.95 * len(pauses))],
            "max": pauses[-1],
        },
        "probe_difference_max_nats": max(i.probe_difference for i in installations),
        "groups_asked": len(asked),
        "groups_lost": len(set(asked) - set(found)),
        "groups_answered_twice": len(found) - len(set(found)),
        "completions_across_an_update": sum(bool(c.spans) for _, cs in answered for c in cs),
    }


if __name__ == "__main__":
    main()
