"""The inference engines under one interface, each with the example's model."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from published_policy import BASE, Policy
from sglang_stand_in import sglang_stand_in

from rlsd.inference.choice import open_engine
from rlsd.inference.engine import InferenceEngine
from rlsd.local.processes import free_ports
from rlsd.weights import FolderStore

MAX_BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    engine: InferenceEngine
    num_running: Callable[[], Awaitable[int]]
    """Requests in the engine."""
    slow: Callable[[float], None]
    """From now on a step takes so many seconds, where that can be had."""


def opened(engine: str, url: str = "") -> InferenceEngine:
    return open_engine(
        engine,
        BASE,
        dtype="float32",
        max_batch=MAX_BATCH,
        threads=1,
        arguments={},
        url=url,
        timeout_s=60,
    )


@pytest.fixture(
    params=[
        "sglang_stand_in_subject",
        pytest.param("vllm_server_subject", marks=pytest.mark.vllm),
        pytest.param("vllm_in_process_subject", marks=pytest.mark.vllm),
    ]
)
def subject(request: pytest.FixtureRequest) -> Subject:
    found: Subject = request.getfixturevalue(request.param)
    return found


@pytest_asyncio.fixture(loop_scope="session")
async def sglang_stand_in_subject() -> AsyncIterator[Subject]:
    async with sglang_stand_in(BASE) as stand_in, opened("sglang", stand_in.url) as engine:

        async def num_running() -> int:
            return len(stand_in.running)

        def slow(step_s: float) -> None:
            stand_in.step_s = step_s

        yield Subject(engine=engine, num_running=num_running, slow=slow)


@pytest_asyncio.fixture(loop_scope="session")
async def vllm_server_subject(vllm_url: str) -> AsyncIterator[Subject]:
    async def num_running() -> int:
        text = await asyncio.to_thread(_get, f"{vllm_url}/metrics")
        found = re.findall(r"^vllm:num_requests_(?:running|waiting)\{.*\} (\S+)", text, re.M)
        assert found
        return int(sum(map(float, found)))

    async with opened("vllm", vllm_url) as engine:
        yield Subject(engine=engine, num_running=num_running, slow=lambda _: None)


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def vllm_in_process_subject() -> AsyncIterator[Subject]:
    """One start for all tests: it takes longer than most of them."""
    async with opened("vllm") as engine:
        vllm: Any = engine

        async def num_running() -> int:
            return int(vllm._vllm.get_num_unfinished_requests())

        yield Subject(engine=engine, num_running=num_running, slow=lambda _: None)


@pytest.fixture
def policy(tmp_path: Any) -> Policy:
    return Policy(FolderStore(tmp_path / "weights", "run"))


@pytest.fixture(scope="session")
def vllm_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real `vllm serve` with the flags of docs/engines.md; its CPU build lacks the command."""
    [port] = free_ports(1)
    flags = (
        f"--model {BASE} --host 127.0.0.1 --port {port} --dtype float32 --max-num-seqs {MAX_BATCH} "
        "--enable-scale-out --enable-prompt-tokens-details --logprobs-mode processed_logprobs "
        "--worker-extension-cls rlsd.inference.vllm.worker.InPlaceWeights "
        "--enforce-eager --no-enable-chunked-prefill"
    )
    environment = os.environ | {
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "OMP_NUM_THREADS": "1",
    }
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *flags.split()],
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 240
        while True:
            with contextlib.suppress(OSError):
                _get(f"{url}/health")
                break
            assert server.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, "vllm serve does not start"
            time.sleep(0.5)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=60)


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())
