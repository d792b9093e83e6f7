"""Published versions of the example's model, and vLLM on them."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_asyncio
from published_policy import BASE, Policy

from rlsd.inference.vllm.engine import VllmEngine
from rlsd.weights import FolderStore


@pytest.fixture
def policy(tmp_path):
    return Policy(FolderStore(tmp_path / "weights", "run"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def started_engine():
    """One start for all tests: it takes longer than most of them."""
    async with VllmEngine(BASE, dtype="float32", max_batch=64) as engine:
        yield engine


@pytest_asyncio.fixture(loop_scope="session")
async def engine(started_engine):
    """It holds the base again, as version 0."""
    await started_engine.install(Path(BASE), 0)
    return started_engine
